//! `cargo xtask compare persistence`: brokers that keep messages for clients that are away, and what the disk would take.
//!
//! Each run starts its broker on an empty data directory of the same file system. Rounds are interleaved. The generator is
//! `xtask/benches/persistence`, a release build.

mod keeper;
mod page;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use keeper::{Keeper, Stable};

pub(super) const USAGE: &str = "\
cargo xtask compare persistence [ROW...]    brokers that keep messages; see docs/performance.md
    rows: queue acks bytes restart restart-10m sessions (default: all but restart-10m; the last three with fsync and mosquitto)
    --peers A,B        of fsync, os, mosquitto, mosquitto-1s (default: all)
    --rounds N         rounds of queue and acks (default 3)
    --messages N       of the row queue (default 200000); --held N of the row restart (default 1000000)
    --sessions N       of the row sessions (default 100000)
    --seconds S        measured per run of acks and bytes (default 3)
    --broker PATH      our broker (default target/release/breakwater)
    --write            put the table into docs/performance.md";

const PAGE: &str = "docs/performance.md";
const ROWS: [&str; 6] = ["queue", "acks", "bytes", "restart", "restart-10m", "sessions"];
/// Publishers and window of the row acks.
const LOADS: [(u64, u64); 6] = [(1, 1), (1, 20), (100, 1), (100, 20), (1000, 1), (1000, 20)];
const PAYLOAD: u64 = 64;

/// Figures by row, name of the figure and peer, in the order of the rounds.
type Figures = BTreeMap<(String, &'static str), Vec<f64>>;

struct Order {
    stable: Stable,
    generator: PathBuf,
    peers: Vec<Keeper>,
    rows: Vec<&'static str>,
    rounds: usize,
    messages: u64,
    held: u64,
    sessions: u64,
    seconds: f64,
    write: bool,
    command: String,
}

pub(super) fn command(root: &Path, args: &[String]) -> Result<()> {
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) {
        println!("{USAGE}");
        return Ok(());
    }
    let mut order = order(root, args)?;
    order.generator = build_generator(root)?;
    order.stable.prepare(&order.peers)?;
    let mut figures = Figures::new();
    for round in 0..order.rounds {
        for row in order.rows.clone() {
            // Long, and they hardly vary.
            if round > 0 && !matches!(row, "queue" | "acks") {
                continue;
            }
            for turn in 0..order.peers.len() {
                let peer = order.peers[(turn + round) % order.peers.len()];
                // Where the other setting shows nothing new.
                if !matches!(row, "queue" | "acks" | "bytes") && !matches!(peer, Keeper::Fsync | Keeper::Mosquitto) {
                    continue;
                }
                if let Err(error) = order.play(row, peer, &mut figures) {
                    println!("{row} {}: failed: {error:#}", peer.name());
                }
            }
        }
    }
    let page = page::page(&order, &figures);
    println!("{page}");
    if order.write {
        page::write(&root.join(PAGE), &page)?;
        println!("written to {PAGE}");
    }
    Ok(())
}

fn order(root: &Path, args: &[String]) -> Result<Order> {
    let mut order = Order {
        stable: Stable { broker: root.join("target/release/breakwater"), cache: root.join(".cache/peers") },
        generator: PathBuf::new(),
        peers: Keeper::ALL.to_vec(),
        rows: Vec::new(),
        rounds: 3,
        messages: 200_000,
        held: 1_000_000,
        sessions: 100_000,
        seconds: 3.0,
        write: false,
        command: format!("cargo xtask compare persistence {}", args.join(" ")).trim().to_owned(),
    };
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if let Some(row) = ROWS.iter().find(|row| **row == word) {
            order.rows.push(row);
            continue;
        }
        if word == "--write" {
            order.write = true;
            continue;
        }
        let value = words.next().with_context(|| format!("`{word}` is no row and lacks a value\n{USAGE}"))?;
        let bad = || format!("{word} {value}");
        match word {
            "--peers" => order.peers = value.split(',').map(Keeper::parse).collect::<Result<_>>()?,
            "--rounds" => order.rounds = value.parse().with_context(bad)?,
            "--messages" => order.messages = value.parse().with_context(bad)?,
            "--held" => order.held = value.parse().with_context(bad)?,
            "--sessions" => order.sessions = value.parse().with_context(bad)?,
            "--seconds" => order.seconds = value.parse().with_context(bad)?,
            "--broker" => order.stable.broker = value.into(),
            other => bail!("`{other}` is neither a row nor an option\n{USAGE}"),
        }
    }
    if order.rows.is_empty() {
        order.rows = ROWS.into_iter().filter(|row| *row != "restart-10m").collect();
    }
    Ok(order)
}

fn build_generator(root: &Path) -> Result<PathBuf> {
    let mut command = Command::new("cargo");
    command.current_dir(root).args([
        "bench",
        "--no-run",
        "--locked",
        "--quiet",
        "-p",
        "xtask",
        "--bench",
        "persistence",
    ]);
    let output = command.arg("--message-format=json").stderr(std::process::Stdio::inherit()).output()?;
    let text = String::from_utf8(output.stdout)?;
    text.lines().find_map(crate::counts::artifact).map(|(_, path)| path).context("the generator does not build")
}

impl Order {
    fn play(&self, row: &str, peer: Keeper, figures: &mut Figures) -> Result<()> {
        match row {
            "queue" => self.queue(peer, figures),
            "acks" => LOADS.iter().try_for_each(|load| self.acks(peer, *load, figures)),
            "bytes" => self.bytes(peer, figures),
            "restart" => self.restart(peer, self.held, self.held, figures),
            "restart-10m" => self.restart(peer, 0, 10 * self.held, figures),
            _ => self.sessions(peer, figures),
        }
    }

    /// What a client that is away is kept, and how soon it has all of it.
    fn queue(&self, peer: Keeper, figures: &mut Figures) -> Result<()> {
        let mut broker = self.stable.start_empty(peer)?;
        self.generate("sessions", broker.port, &[("id", "keeper"), ("filter", "keep/#")])?;
        let before = broker.resident()?;
        let total = self.messages.to_string();
        let publishers = [("publishers", "10"), ("window", "100"), ("total", total.as_str())];
        let published = self.generate("publish", broker.port, &publishers)?;
        let held = broker.resident()? - before;
        broker.lay_down();
        let on_disk = broker.on_disk();
        let drained = self.generate("drain", broker.port, &[("expect", total.as_str())])?;
        let each = |bytes: f64| bytes / self.messages as f64;
        self.note(
            figures,
            "queue",
            peer,
            &[
                ("enqueued per second", number(&published, "per_second")),
                ("drained per second", number(&drained, "per_second")),
                ("resident bytes per queued message", each(held)),
                ("bytes on disk per queued message", each(on_disk)),
            ],
        );
        Ok(())
    }

    /// How soon publishers have their acknowledgements, for a client that is away.
    fn acks(&self, peer: Keeper, (publishers, window): (u64, u64), figures: &mut Figures) -> Result<()> {
        let broker = self.stable.start_empty(peer)?;
        self.generate("sessions", broker.port, &[("id", "keeper"), ("filter", "keep/#")])?;
        let (before, written) = (broker.syncs(), broker.written()?);
        let (publishers, window, seconds) = (publishers.to_string(), window.to_string(), self.seconds.to_string());
        let load = [("publishers", publishers.as_str()), ("window", window.as_str()), ("seconds", seconds.as_str())];
        let seen = self.generate("publish", broker.port, &load)?;
        let row = format!("acks {publishers} x {window}");
        let all = number(&seen, "all");
        let per_message = (broker.written()? - written) / all;
        let mut found = vec![
            ("per second", number(&seen, "per_second")),
            ("p50 µs", number(&seen, "p50_us")),
            ("p99 µs", number(&seen, "p99_us")),
            ("bytes written per message", per_message),
        ];
        let after = broker.syncs();
        drop(broker);
        if let (Keeper::Fsync, Some(before), Some(after)) = (peer, before, after) {
            // The same bytes, in as many syncs, with nothing else to do.
            let (syncs, bytes) = (after.0 - before.0, after.1 - before.1);
            let raw = self.raw((bytes / syncs).max(1.0), 0.0, self.seconds)?;
            let raw_rate = number(&raw, "per_second") * all / syncs;
            found.extend([
                ("messages per sync", all / syncs),
                ("log bytes per message", bytes / all),
                ("raw messages per second", raw_rate),
                ("raw sync p50 µs", number(&raw, "p50_us")),
                ("part of raw", number(&seen, "per_second") / raw_rate),
            ]);
        }
        self.note(figures, &row, peer, &found);
        Ok(())
    }

    /// What the disk is given for messages that come one by one.
    fn bytes(&self, peer: Keeper, figures: &mut Figures) -> Result<()> {
        let mut broker = self.stable.start_empty(peer)?;
        self.generate("sessions", broker.port, &[("id", "keeper"), ("filter", "keep/#")])?;
        let before = broker.written()?;
        let seconds = (2.0 * self.seconds).to_string();
        let load = [("rate", "100"), ("warmup", "0"), ("seconds", seconds.as_str())];
        let seen = self.generate("publish", broker.port, &load)?;
        broker.lay_down();
        let each = (broker.written()? - before) / number(&seen, "all");
        drop(broker);
        let mut found = vec![("bytes written per message at 100/s", each), ("p50 µs", number(&seen, "p50_us"))];
        if peer == Keeper::Fsync {
            let raw = self.raw(PAYLOAD as f64, 100.0, 2.0 * self.seconds)?;
            let raw = number(&raw, "written") / number(&raw, "syncs");
            found.extend([("raw loop at 100/s", raw), ("times the raw loop", each / raw)]);
        }
        self.note(figures, "bytes", peer, &found);
        Ok(())
    }

    /// From the start of the process to the first CONNACK.
    fn restart(&self, peer: Keeper, retained: u64, queued: u64, figures: &mut Figures) -> Result<()> {
        let mut broker = self.stable.start_empty(peer)?;
        let before = broker.resident()?;
        let (mut found, mut row) = (Vec::new(), format!("restart with {queued} queued"));
        if retained > 0 {
            row += &format!(" and {retained} retained");
            let total = retained.to_string();
            let load = [("publishers", "10"), ("window", "100"), ("total", total.as_str()), ("retain", "1")];
            self.generate("publish", broker.port, &[&load[..], &[("topic", "held/%n")]].concat())?;
            found.push(("resident bytes per retained message", (broker.resident()? - before) / retained as f64));
            broker.lay_down();
            found.push(("bytes on disk per retained message", broker.on_disk() / retained as f64));
        }
        // A queue for each of ten clients.
        self.generate("sessions", broker.port, &[("id", "keeper-%i"), ("filter", "keep/%i"), ("count", "10")])?;
        let (total, rest) = ((queued / 10).to_string(), [("publishers", "10"), ("window", "100")]);
        for number in 0..10 {
            let topic = format!("keep/{number}");
            self.generate("publish", broker.port, &[&rest[..], &[("total", &total), ("topic", &topic)]].concat())?;
        }
        for (end, text) in [(true, "s after a kill"), (false, "s after a stop")] {
            let folder = broker.folder().to_owned();
            if end && !matches!(peer, Keeper::Fsync | Keeper::Os) {
                // It would have forgotten all of it.
                continue;
            }
            if end {
                broker.kill()
            } else {
                broker.stop(Duration::from_secs(300))?
            }
            let (started, took) = self.stable.start_again(peer, &folder)?;
            found.push((text, took.as_secs_f64()));
            broker = started;
        }
        found.push(("resident MB then", broker.resident()? / 1e6));
        let load = [("id", "keeper-3"), ("expect", total.as_str())];
        found.push(("drained per second then", number(&self.generate("drain", broker.port, &load)?, "per_second")));
        self.note(figures, &row, peer, &found);
        Ok(())
    }

    /// Memory of sessions whose clients are away.
    fn sessions(&self, peer: Keeper, figures: &mut Figures) -> Result<()> {
        let broker = self.stable.start_empty(peer)?;
        let make = |from: u64, count: u64| {
            let (from, count) = (from.to_string(), count.to_string());
            let words = [("id", "away-%i"), ("filter", "to/%i"), ("from", &from), ("count", &count)];
            self.generate("sessions", broker.port, &words)
        };
        let (empty, first) = (broker.resident()?, self.sessions / 5);
        make(0, first)?;
        let before = broker.resident()?;
        let made = make(first, self.sessions - first)?;
        let each = (broker.resident()? - before) / (self.sessions - first) as f64;
        let folder = broker.folder().to_owned();
        let mut broker = broker;
        broker.stop(Duration::from_secs(60))?;
        let (broker, took) = self.stable.start_again(peer, &folder)?;
        let restored = (broker.resident()? - empty) / self.sessions as f64;
        self.note(
            figures,
            "sessions",
            peer,
            &[
                ("resident bytes per session, just made", each),
                ("made per second", number(&made, "per_second")),
                ("s to start again", took.as_secs_f64()),
                ("resident bytes per session, after a start", restored),
            ],
        );
        Ok(())
    }

    fn raw(&self, batch: f64, rate: f64, seconds: f64) -> Result<Value> {
        let file = self.stable.cache.join("raw");
        let (file, batch) = (file.display().to_string(), batch.round().to_string());
        let words = [("file", file), ("batch", batch), ("rate", rate.to_string()), ("seconds", seconds.to_string())];
        self.run("raw", words.iter().flat_map(|(name, value)| [format!("--{name}"), value.clone()]))
    }

    fn generate(&self, mode: &str, port: u16, words: &[(&str, &str)]) -> Result<Value> {
        let words = words.iter().flat_map(|(name, value)| [format!("--{name}"), (*value).to_owned()]);
        self.run(mode, ["--port".to_owned(), port.to_string()].into_iter().chain(words))
    }

    fn run(&self, mode: &str, words: impl Iterator<Item = String>) -> Result<Value> {
        let output = Command::new(&self.generator).arg(mode).args(words).env("RUST_BACKTRACE", "0").output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(text.trim())
            .with_context(|| format!("{mode}: {}", String::from_utf8_lossy(&output.stderr).trim()))
    }

    fn note(&self, figures: &mut Figures, row: &str, peer: Keeper, found: &[(&str, f64)]) {
        let mut text = format!("{row:<28}{:<14}", peer.name());
        for (name, value) in found {
            text += &format!("  {name} {}", page::figure(*value));
            figures.entry((format!("{row}: {name}"), peer.name())).or_default().push(*value);
        }
        println!("{text}");
    }
}

fn number(json: &Value, name: &str) -> f64 {
    json.get(name).and_then(Value::as_f64).unwrap_or(f64::NAN)
}
