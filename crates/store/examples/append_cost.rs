//! What one durable batch costs in redb and in a bare file: `cargo run --release -p breakwater-store --example append_cost`.
//!
//! One writer, records of 120 bytes, a commit or an fdatasync per batch. Prints a table: records per second (of the disk as
//! loaded as it is), CPU per record, bytes handed to write(2) and bytes sent to the disk per record (both of /proc/self/io).
#![expect(clippy::print_stdout, reason = "it talks to the terminal")]

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use redb::{Database, Durability, TableDefinition};

const RECORD: usize = 120;
const BATCHES: [usize; 4] = [1, 16, 128, 1024];
const EACH: Duration = Duration::from_secs(3);
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");

fn main() {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from).join("append_cost");
    fs::create_dir_all(&folder).expect("a folder to write in");
    println!(
        "{:<6} {:>6} {:>10} {:>10} {:>14} {:>14}",
        "what", "batch", "records/s", "CPU us/rec", "written/rec", "disk/rec"
    );
    for batch in BATCHES {
        print("raw", batch, &raw(&folder.join("raw"), batch));
    }
    for batch in BATCHES {
        print("redb", batch, &redb(&folder.join("redb"), batch));
    }
    fs::remove_dir_all(&folder).expect("it was made above");
}

struct Cost {
    records: u64,
    seconds: f64,
    cpu_us: f64,
    written: u64,
    disk: u64,
}

#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn print(what: &str, batch: usize, cost: &Cost) {
    let records = cost.records as f64;
    let (rate, cpu) = (records / cost.seconds, cost.cpu_us / records);
    let (written, disk) = (cost.written as f64 / records, cost.disk as f64 / records);
    println!("{what:<6} {batch:>6} {rate:>10.0} {cpu:>10.2} {written:>14.0} {disk:>14.0}");
}

fn raw(path: &Path, batch: usize) -> Cost {
    let mut file = File::create(path).expect("a new file");
    let bytes = vec![7; RECORD * batch];
    run(batch, |_| {
        file.write_all(&bytes).expect("room");
        file.sync_data().expect("a disk");
    })
}

fn redb(path: &Path, batch: usize) -> Cost {
    let _ = fs::remove_file(path);
    let database = Database::create(path).expect("a new file");
    run(batch, |first| {
        let mut transaction = database.begin_write().expect("one writer");
        transaction.set_durability(Durability::Immediate).expect("before anything is written");
        transaction.set_quick_repair(true);
        {
            let mut table = transaction.open_table(LOG).expect("of this shape");
            for at in first..first + batch as u64 {
                table.insert(at, [7; RECORD].as_slice()).expect("room");
            }
        }
        transaction.commit().expect("a disk");
    })
}

fn run(batch: usize, mut append: impl FnMut(u64)) -> Cost {
    // The first commits make the file; they are not what is measured.
    let mut records = 0;
    for _ in 0..10 {
        append(records);
        records += batch as u64;
    }
    let (before, cpu, started, from) = (io(), cpu_us(), Instant::now(), records);
    while started.elapsed() < EACH {
        append(records);
        records += batch as u64;
    }
    let after = io();
    Cost {
        records: records - from,
        seconds: started.elapsed().as_secs_f64(),
        cpu_us: cpu_us() - cpu,
        written: after.0 - before.0,
        disk: after.1 - before.1,
    }
}

/// Bytes handed to write(2), bytes sent to the disk.
fn io() -> (u64, u64) {
    let text = fs::read_to_string("/proc/self/io").expect("Linux");
    let number = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.trim().parse().ok()).expect("a line of it")
    };
    (number("wchar:"), number("write_bytes:"))
}

/// Time on a core, user and system, in ticks of a hundredth of a second.
fn cpu_us() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = text.rsplit_once(')').expect("the name in brackets").1;
    let ticks: f64 =
        after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number")).sum();
    ticks * 10_000.0
}
