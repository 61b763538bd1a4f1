//! What the disk takes without a broker: append, `fdatasync`, again.

use std::io::Write as _;
use std::time::{Duration, Instant};

use crate::{Words, quantiles};

pub(crate) fn run(words: &Words) {
    let path = words.text("file").expect("--file FILE");
    let (batch, span, rate) =
        (words.number("batch", 64_usize), words.seconds("seconds", 2.0), words.number("rate", 0.0));
    let mut file = std::fs::File::create(path).unwrap();
    let bytes = vec![b'x'; batch];
    let (began, mut times) = (Instant::now(), Vec::new());
    while began.elapsed() < span {
        if rate > 0.0 {
            let due = began + Duration::from_secs_f64(times.len() as f64 / rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        let start = Instant::now();
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        times.push(start.elapsed().as_micros() as u32);
    }
    let (seconds, syncs) = (began.elapsed().as_secs_f64(), times.len());
    let _ = std::fs::remove_file(path);
    let (p50, p99) = quantiles(times);
    let written = written();
    println!(
        "{{\"syncs\":{syncs},\"seconds\":{seconds},\"per_second\":{},\"p50_us\":{p50},\"p99_us\":{p99},\"written\":{written}}}",
        syncs as f64 / seconds
    );
}

/// What the kernel counts as written by this process.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}
