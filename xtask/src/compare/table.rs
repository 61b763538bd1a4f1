//! The outcome of a comparison as Markdown.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::outcome::{Outcome, median};
use super::peer::Peer;
use super::row::{
    ACROSS_SHARDS, Block, CHURNED, Kind, PEAK_BYTES, Row, SAME_SHARD, SPARSE_P50, SPARSE_P99, UNCHURNED,
    WEBSOCKET_BYTES, WEBSOCKET_MEMORY, WEBSOCKET_PAIR, WEBSOCKET_US,
};
use super::{Order, Outcomes};

/// Replaces what stands between the marks.
pub(super) fn write(path: &Path, block: Block, page: &str) -> Result<()> {
    let (begin, end) = block.marks();
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (head, rest) = text.split_once(begin).with_context(|| format!("{} lacks `{begin}`", path.display()))?;
    let (_, tail) = rest.split_once(end).with_context(|| format!("{} lacks `{end}`", path.display()))?;
    fs::write(path, format!("{head}{begin}\n\n{page}\n{end}{tail}"))?;
    Ok(())
}

/// None if no row of this block was played.
pub(super) fn page(order: &Order, outcomes: &Outcomes, block: Block) -> Option<String> {
    let tables = Tables { order, outcomes, block };
    order.rows.iter().find(|row| row.block == block)?;
    let mut page = tables.circumstances();
    page += &tables.costs();
    page += &tables.figures();
    page += &tables.memory();
    page += &tables.websocket();
    Some(page)
}

struct Tables<'a> {
    order: &'a Order,
    outcomes: &'a Outcomes,
    block: Block,
}

impl Tables<'_> {
    fn of(&self, row: usize, peer: Peer) -> &[Outcome] {
        self.outcomes.get(&(row, peer.name())).map_or(&[], Vec::as_slice)
    }

    fn rows(&self, wanted: impl Fn(Kind) -> bool) -> impl Iterator<Item = (usize, &Row)> {
        self.order.rows.iter().enumerate().filter(move |(_, row)| row.block == self.block && wanted(row.kind))
    }

    fn circumstances(&self) -> String {
        let mut text = format!("`{}`, {}.\n\n", self.order.command, machine());
        let loads: Vec<f64> = self.outcomes.values().flatten().map(|outcome| outcome.load).collect();
        let low = loads.iter().copied().fold(f64::INFINITY, f64::min);
        let high = loads.iter().copied().fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "Medians of {} rounds ({} in sparse rows) of {} s. Load average (1 minute) while measuring: {low:.1} to {high:.1}.\n",
            self.order.rounds, self.order.sparse_rounds, self.order.span.seconds
        );
        let _ = writeln!(text, "| | version | settings |\n|---|---|---|");
        for peer in &self.order.peers {
            let (version, settings) = (self.order.stable.version(*peer), self.order.stable.settings(*peer));
            let _ = writeln!(text, "| {} | {version} | {settings} |", peer.name());
        }
        text + "\n"
    }

    /// The main table: processor time per message and the ratios.
    fn costs(&self) -> String {
        if self.rows(is_timed).next().is_none() {
            return String::new();
        }
        let mut text =
            String::from("Broker's CPU (user and system), µs per delivered message or connection:\n\n| scenario |");
        for peer in &self.order.peers {
            let _ = write!(text, " {} |", peer.name());
        }
        text += " Mosquitto / ours | required | relay / ours | required | goal | reached |\n|---|";
        text += &"---:|".repeat(self.order.peers.len() + 6);
        text += "\n";
        for (index, row) in self.rows(is_timed) {
            if row.kind == Kind::Sparse {
                let (across, same): (Vec<_>, Vec<_>) =
                    self.of(index, Peer::Breakwater).iter().cloned().partition(|outcome| outcome.across);
                self.cost_line(&mut text, index, row, &format!("{}, same shard", row.title), &same, Some(SAME_SHARD));
                self.cost_line(
                    &mut text,
                    index,
                    row,
                    &format!("{}, across shards", row.title),
                    &across,
                    Some(ACROSS_SHARDS),
                );
            } else {
                let ours = self.of(index, Peer::Breakwater).to_vec();
                self.cost_line(&mut text, index, row, row.title, &ours, row.required);
            }
        }
        text + "\n"
    }

    fn cost_line(
        &self,
        text: &mut String,
        index: usize,
        row: &Row,
        title: &str,
        ours: &[Outcome],
        required: Option<f64>,
    ) {
        let theirs = self.of(index, Peer::Mosquitto);
        let _ = write!(text, "| {title} |");
        for peer in &self.order.peers {
            let outcomes = if *peer == Peer::Breakwater { ours } else { self.of(index, *peer) };
            let _ = write!(text, " {} |", cell(median(outcomes, |o| o.cost), 3));
        }
        let ratio = median(theirs, |o| o.cost) / median(ours, |o| o.cost);
        let of_relay = median(self.of(index, Peer::Relay), |o| o.cost) / median(ours, |o| o.cost);
        let mut missing = Vec::new();
        if let Some(required) = required.filter(|_| ratio.is_finite()) {
            missing = shortfalls(row, ratio, required, ours, theirs);
        }
        if let Some(required) = row.of_relay.filter(|required| of_relay < *required) {
            missing.push(format!("{of_relay:.2} of the relay < {required}"));
        }
        let judged = required.is_some() && ratio.is_finite() || row.of_relay.is_some() && of_relay.is_finite();
        let bound = |bound: Option<f64>| bound.map_or(String::new(), |bound| ((bound * 1e3).round() / 1e3).to_string());
        let _ = writeln!(
            text,
            " {} | {} | {} | {} | {} | {} |",
            cell(ratio, 2),
            bound(required),
            cell(of_relay, 2),
            bound(row.of_relay),
            row.goal,
            if judged { verdict(&missing) } else { String::new() },
        );
    }

    /// Rates, latency, loss and memory behind the main table.
    fn figures(&self) -> String {
        if self.rows(is_timed).next().is_none() {
            return String::new();
        }
        let mut text = String::from(
            "Deliveries (connections) per second, latency from when a message was due, losses and other faults over all rounds, \
             peak memory, the generator's own CPU per message:\n\n\
             | scenario | broker | per second | p50 | p99 | faults | peak MB | generator µs |\n|---|---|---:|---:|---:|---:|---:|---:|\n",
        );
        for (index, row) in self.rows(is_timed) {
            for peer in &self.order.peers {
                let runs = self.of(index, *peer);
                if runs.is_empty() {
                    continue;
                }
                let _ = writeln!(
                    text,
                    "| {} | {} | {:.0} | {} | {} | {} | {:.1} | {} |",
                    row.title,
                    peer.name(),
                    median(runs, |o| o.rate),
                    time(median(runs, |o| o.p50_us)),
                    time(median(runs, |o| o.p99_us)),
                    runs.iter().map(|o| o.faults).sum::<f64>(),
                    runs.iter().map(|o| o.peak_bytes).fold(0.0, f64::max) / 1e6,
                    cell(median(runs, |o| o.generator_us), 3),
                );
            }
        }
        text + &self.churned() + "\n"
    }

    /// What coming and going filters cost the publishers beside them.
    fn churned(&self) -> String {
        let find = |name: &str| self.order.rows.iter().position(|row| row.name == name);
        let (Some(with), Some(without)) = (find(CHURNED), find(UNCHURNED)) else { return String::new() };
        let part = |peer| median(self.of(with, peer), |o| o.rate) / median(self.of(without, peer), |o| o.rate);
        let mut text =
            String::from("\nRate while 1,000 filters per second come and go, as a part of the rate without:");
        for peer in self.order.peers.iter().filter(|peer| **peer != Peer::Relay) {
            let _ = write!(text, " {} {},", peer.name(), cell(part(*peer), 2));
        }
        text.trim_end_matches(',').to_owned() + ".\n"
    }

    fn memory(&self) -> String {
        let mut text = String::new();
        if self.rows(|kind| kind == Kind::Memory).next().is_some() {
            text += "Resident memory, bytes per connection (growth from 5,000 to 15,000 connections):\n\n";
            self.memory_table(&mut text, Kind::Memory, "Mosquitto / ours", |runs| median(runs, |o| o.cost), 0);
        }
        if self.rows(|kind| kind == Kind::Filters).next().is_some() {
            text += "\nResident memory, bytes per filter, its text included:\n\n";
            self.memory_table(&mut text, Kind::Filters, "Mosquitto / ours", |runs| median(runs, |o| o.bytes), 0);
        }
        if self.rows(|kind| kind == Kind::Churn).next().is_some() {
            text += "\nResident memory after all have left, last round against round 2 (1.00: nothing kept):\n\n";
            let growth =
                |runs: &[Outcome]| median(runs, |o| o.cost / o.after_round.get(1).copied().unwrap_or(f64::NAN));
            self.memory_table(&mut text, Kind::Churn, "", growth, 3);
        }
        text
    }

    /// What WebSocket adds to plain TCP.
    fn websocket(&self) -> String {
        let cost = |name: &str| {
            let row = self.order.rows.iter().position(|row| row.name == name);
            row.map_or(f64::NAN, |row| median(self.of(row, Peer::Breakwater), |o| o.cost))
        };
        let mut text = String::new();
        for ((with, without), what, digits, bound) in [
            (WEBSOCKET_PAIR, "µs of CPU per pipelined message", 3, WEBSOCKET_US),
            (WEBSOCKET_MEMORY, "bytes per idle connection", 0, WEBSOCKET_BYTES),
        ] {
            let more = cost(with) - cost(without);
            if self.block == Block::Transports && more.is_finite() {
                let reached = if more <= bound { "reached" } else { "not reached" };
                let _ = writeln!(
                    text,
                    "\nWebSocket adds {more:.digits$} {what} to plain TCP; at most {bound} required: {reached}."
                );
            }
        }
        text
    }

    fn memory_table(
        &self,
        text: &mut String,
        kind: Kind,
        last: &str,
        figure: impl Fn(&[Outcome]) -> f64,
        digits: usize,
    ) {
        let names: Vec<&str> = self.order.peers.iter().map(|peer| peer.name()).collect();
        let _ =
            writeln!(text, "| scenario | {} | {last} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len() + 1));
        for (index, row) in self.rows(|other| other == kind) {
            let _ = write!(text, "| {} |", row.title);
            for peer in &self.order.peers {
                let _ = write!(text, " {} |", cell(figure(self.of(index, *peer)), digits));
            }
            let ratio = figure(self.of(index, Peer::Mosquitto)) / figure(self.of(index, Peer::Breakwater));
            let _ = writeln!(text, " {} |", if last.is_empty() { String::new() } else { cell(ratio, 2) });
        }
    }
}

fn is_timed(kind: Kind) -> bool {
    matches!(kind, Kind::Saturating | Kind::Sparse | Kind::Connect | Kind::Filters)
}

/// "yes", or what is missing.
fn verdict(missing: &[String]) -> String {
    if missing.is_empty() { "yes".into() } else { format!("no: {}", missing.join(", ")) }
}

/// What is missing beside Mosquitto.
fn shortfalls(row: &Row, ratio: f64, required: f64, ours: &[Outcome], theirs: &[Outcome]) -> Vec<String> {
    let mut missing = Vec::new();
    if ratio < required {
        missing.push(format!("ratio {ratio:.2} < {required}"));
    }
    let (p50, p99) = match row.kind {
        Kind::Sparse => (SPARSE_P50, SPARSE_P99),
        _ => (f64::INFINITY, 1.0),
    };
    for (name, bound, pick) in
        [("p50", p50, (|o| o.p50_us) as fn(&Outcome) -> f64), ("p99", p99, (|o| o.p99_us) as fn(&Outcome) -> f64)]
    {
        let part = median(ours, pick) / median(theirs, pick);
        if part > bound && !matches!(row.kind, Kind::Connect | Kind::Filters) {
            missing.push(format!("{name} {part:.2} x Mosquitto's"));
        }
    }
    let rate = median(ours, |o| o.rate) / median(theirs, |o| o.rate);
    if row.kind == Kind::Filters && rate < required {
        missing.push(format!("rate {rate:.2} x Mosquitto's"));
    }
    let faults: f64 = ours.iter().map(|o| o.faults).sum();
    if faults > 0.0 {
        missing.push(format!("{faults} faults"));
    }
    // A million filters may take more: their memory has a figure of its own.
    if row.kind != Kind::Filters && ours.iter().any(|o| o.peak_bytes > PEAK_BYTES) {
        missing.push("peak memory".into());
    }
    missing
}

fn cell(value: f64, digits: usize) -> String {
    if value.is_finite() { format!("{value:.digits$}") } else { "–".into() }
}

pub(super) fn time(us: f64) -> String {
    match us {
        us if us.is_nan() => "–".into(),
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e4 => format!("{:.1} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

/// Cores, system and day of the run.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let days = std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() / 86_400);
    let (year, month, day) = date(days);
    format!("{year}-{month:02}-{day:02}, {cores} cores, Linux {}", kernel.trim())
}

/// Year, month and day of a number of days since 1970, counted in eras of 400 years that begin in March.
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, in_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (in_era - in_era / 1460 + in_era / 36_524 - in_era / 146_096) / 365;
    let day_of_year = in_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::super::row::ROWS;
    use super::*;

    fn run(cost: f64, p99_us: f64) -> Outcome {
        Outcome { cost, p99_us, p50_us: 1.0, ..Outcome::default() }
    }

    #[test]
    fn dates_are_counted_right() {
        assert_eq!([date(0), date(20_779), date(11_016)], [(1970, 1, 1), (2026, 11, 22), (2000, 2, 29)]);
    }

    #[test]
    fn a_row_is_reached_only_without_loss_and_with_a_good_tail() {
        let theirs = [run(6.0, 100.0)];
        let judge = |ratio, ours: Outcome| verdict(&shortfalls(&ROWS[0], ratio, 20.0, &[ours], &theirs));
        assert_eq!(judge(20.0, run(0.3, 100.0)), "yes");
        assert!(judge(19.0, run(0.3, 100.0)).contains("ratio"));
        assert!(judge(20.0, run(0.3, 101.0)).contains("p99"));
        let lossy = Outcome { faults: 3.0, ..run(0.3, 1.0) };
        assert!(judge(20.0, lossy).contains("3 faults"));
    }

    #[test]
    fn only_what_stands_between_the_marks_is_replaced() {
        let path = std::env::temp_dir().join(format!("compare-{}.md", std::process::id()));
        let (begin, end) = Block::Plain.marks();
        fs::write(&path, format!("head\n{begin}\nold\n{end}\ntail\n")).unwrap();
        write(&path, Block::Plain, "new").unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(text, format!("head\n{begin}\n\nnew\n{end}\ntail\n"));
    }
}
