//! What one run of the generator measured, and medians over runs.

use std::path::Path;
use std::process::{Child, Output, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::peer::{Peer, Running, Stable};
use super::row::{Kind, Over, Row};

/// How long each run measures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) warmup_s: f64,
    pub(super) seconds: f64,
}

/// One run of one row against one peer.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// Microseconds per delivered message or connection; bytes in memory rows.
    pub(super) cost: f64,
    pub(super) rate: f64,
    /// Filter rows: resident memory per filter, its text included.
    pub(super) bytes: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) lost: f64,
    /// Deliveries that arrived twice, late or not at all, refusals, broken connections.
    pub(super) faults: f64,
    pub(super) peak_bytes: f64,
    pub(super) generator_us: f64,
    pub(super) load: f64,
    /// Connect rows: TLS sessions that were taken up again.
    pub(super) resumed: f64,
    /// Sparse rows: two threads of the broker had to work for each message.
    pub(super) across: bool,
    /// Churn rows: resident memory after each round.
    pub(super) after_round: Vec<f64>,
}

pub(super) fn measure(stable: &Stable, peer: Peer, row: &Row, span: Span, pair_ids: Option<&str>) -> Result<Outcome> {
    let running = stable.start(peer, row.over)?;
    let mut beside = beside(stable, &running, row)?;
    let output = play(stable, &running, row, span, pair_ids)?;
    if let Some(child) = &mut beside {
        let gone = child.try_wait()?.is_some();
        let _ = child.kill();
        let _ = child.wait();
        if gone {
            bail!("{} against {}: the second generator ended early", row.name, peer.name());
        }
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let Ok(json) = serde_json::from_str::<Value>(text.trim()) else {
        bail!("{} against {}: {}", row.name, peer.name(), String::from_utf8_lossy(&output.stderr).trim());
    };
    Ok(read(&json, row))
}

/// The second generator of a row that has one.
fn beside(stable: &Stable, running: &Running, row: &Row) -> Result<Option<Child>> {
    if row.beside.is_empty() {
        return Ok(None);
    }
    let mut command = stable.bench_command();
    command.args(row.beside).args(["--port", &running.port.to_string(), "--id-prefix", "beside"]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Some(command.spawn()?))
}

fn play(stable: &Stable, running: &Running, row: &Row, span: Span, pair_ids: Option<&str>) -> Result<Output> {
    let mut command = stable.bench_command();
    command.args(row.bench).args(["--json", "--over", row.over.word()]);
    if row.over == Over::Tls {
        command.arg("--cafile").arg(stable.authority());
    }
    command.args(["--port", &running.port.to_string(), "--broker-pid", &running.pid().to_string()]);
    if matches!(row.kind, Kind::Saturating | Kind::Sparse) {
        command.args(["--duration", &span.seconds.to_string(), "--warmup", &span.warmup_s.to_string()]);
        if let Some(ids) = pair_ids {
            command.args(["--pair-ids", ids]);
        }
    }
    command.stdin(Stdio::null()).output().with_context(|| format!("running {}", Path::new(&stable.bench[0]).display()))
}

fn read(json: &Value, row: &Row) -> Outcome {
    let number = |path: &str| json.pointer(path).and_then(Value::as_f64).unwrap_or(0.0);
    let list = |path: &str| json.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
    // A run so slow that nothing sent within the measured time arrived has no latency at all.
    let latency = |path: &str| if number("/latency/samples") > 0.0 { number(path) } else { f64::NAN };
    let broken = list("/broken").len() as f64;
    let mut outcome = Outcome {
        cost: number("/broker/cpu_us"),
        rate: number("/delivered") / number("/seconds").max(1e-9),
        p50_us: latency("/latency/p50_us"),
        p99_us: latency("/latency/p99_us"),
        lost: number("/lost") + number("/under_way"),
        peak_bytes: number("/broker/rss_peak_bytes"),
        generator_us: number("/generator_cpu_us"),
        load: number("/load_average/0"),
        ..Outcome::default()
    };
    let wrong = ["/duplicates", "/out_of_order", "/strange", "/refused", "/unacknowledged"].map(number);
    outcome.faults = outcome.lost + wrong.iter().sum::<f64>() + broken;
    match row.kind {
        Kind::Saturating => {}
        Kind::Sparse => {
            let busy = |thread: &&Value| {
                let used = thread.get("cpu_us").and_then(Value::as_f64).unwrap_or(0.0);
                used > outcome.cost * BUSY
            };
            outcome.across = list("/broker/threads").iter().filter(busy).count() > 1;
        }
        Kind::Connect => {
            outcome.rate = number("/per_second");
            outcome.resumed = number("/resumed");
        }
        Kind::Filters => {
            outcome.rate = number("/per_second");
            outcome.bytes = number("/bytes_per_filter");
        }
        Kind::Memory => {
            outcome.cost = number("/bytes_per_connection");
            outcome.rate = number("/per_second");
        }
        Kind::Churn => {
            let left =
                |mark: &Value| (mark.get("connections")? == 0).then(|| mark.get("rss_bytes")?.as_f64()).flatten();
            outcome.after_round = list("/memory").iter().filter_map(left).collect();
            outcome.cost = outcome.after_round.last().copied().unwrap_or(0.0);
            outcome.rate = number("/per_second");
        }
    }
    outcome
}

/// A thread with more than this part of the broker's time takes part in every message.
const BUSY: f64 = 0.15;

/// Median of what `pick` sees in the outcomes; NaN where there are none.
pub(super) fn median<'a>(outcomes: impl IntoIterator<Item = &'a Outcome>, pick: impl Fn(&Outcome) -> f64) -> f64 {
    let mut values: Vec<f64> = outcomes.into_iter().map(pick).filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::ROWS;
    use super::*;

    fn costs(values: &[f64]) -> Vec<Outcome> {
        values.iter().map(|cost| Outcome { cost: *cost, ..Outcome::default() }).collect()
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_two() {
        assert_eq!(median(&costs(&[3.0, 1.0, 2.0]), |o| o.cost), 2.0);
        assert_eq!(median(&costs(&[4.0, 1.0, 2.0, 3.0]), |o| o.cost), 2.5);
        assert!(median(&[], |o| o.cost).is_nan());
    }

    #[test]
    fn a_sparse_run_is_across_shards_when_two_threads_worked() {
        let row = ROWS.iter().find(|row| row.name == "sparse-0").expect("a row");
        let run = |other: f64| {
            let text = format!(
                r#"{{"broker":{{"cpu_us":10.0,"threads":[{{"name":"a","cpu_us":{}}},{{"name":"b","cpu_us":{other}}}]}}}}"#,
                10.0 - other
            );
            read(&serde_json::from_str(&text).expect("JSON"), row).across
        };
        assert!(run(4.0));
        assert!(!run(0.1));
    }

    #[test]
    fn whatever_is_not_delivered_once_is_a_fault() {
        let text = r#"{"lost":1,"under_way":2,"duplicates":4,"broken":["x"],"seconds":2.0,"delivered":10}"#;
        let outcome = read(&serde_json::from_str(text).expect("JSON"), &ROWS[0]);
        assert_eq!((outcome.lost, outcome.faults, outcome.rate), (3.0, 8.0, 5.0));
    }
}
