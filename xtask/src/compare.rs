//! `cargo xtask compare`: brokers side by side on loopback, one run, one generator, medians over rounds.
//!
//! Processor time of the broker per delivered message is the figure: on a machine where generator and broker share
//! cores, throughput mostly shows what the generator left over. Each run starts its broker afresh, so that no run
//! inherits memory from the one before. Rounds are interleaved, so that a slow minute of the machine hits all alike.

mod outcome;
mod peer;
mod persistence;
mod row;
mod table;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use outcome::{Outcome, Span, measure};
use peer::{Peer, Stable};
use row::{Block, Kind, Over, ROWS, Row};

pub const USAGE: &str = "\
cargo xtask compare [ROW...]                measure brokers side by side; see docs/performance.md
    plain, transports  all rows of one table
    --peers A,B        of breakwater, mosquitto, mosquitto-nodelay, rumqttd, relay (default breakwater,mosquitto,relay)
    --rounds N         rounds of the saturating rows (default 5); --sparse-rounds N (default 15)
    --seconds S        measured per run (default 2); --warmup S (default 1)
    --shards N         of our broker (default 2)
    --set KEY=VALUE    further settings of our broker
    --pair-ids A:B     client ids of the sparse rows
    --broker PATH      our broker (default target/release/breakwater); --bench PATH another generator
    --write            put the tables into docs/performance.md";

const PAGE: &str = "docs/performance.md";
/// Connections of the memory rows, and some room.
const OPEN_FILES: u64 = 15_100;
/// The generator may need this much per QoS 0 message; a dearer one would be measured instead of the broker.
const GENERATOR_US: f64 = 0.4;

/// All outcomes of a row, by peer, in the order of the rounds.
type Outcomes = BTreeMap<(usize, &'static str), Vec<Outcome>>;

struct Order {
    peers: Vec<Peer>,
    rows: Vec<Row>,
    rounds: usize,
    sparse_rounds: usize,
    span: Span,
    pair_ids: Option<String>,
    stable: Stable,
    write: bool,
    command: String,
}

pub fn command(root: &Path, args: &[String]) -> Result<()> {
    if let Some((word, rest)) = args.split_first()
        && word == "persistence"
    {
        return persistence::command(root, rest);
    }
    if args.iter().any(|arg| matches!(arg.as_str(), "--help" | "-h")) {
        println!("{USAGE}\n{}\nrows: {}", persistence::USAGE, ROWS.map(|row| row.name).join(" "));
        return Ok(());
    }
    let order = order(root, args)?;
    check_open_files()?;
    fs::create_dir_all(&order.stable.cache)?;
    for peer in &order.peers {
        order.stable.prepare(*peer)?;
        println!("{:<18}{}", peer.name(), order.stable.version(*peer));
    }
    if order.rows.iter().any(|row| row.over == Over::Tls) {
        order.stable.make_certificate()?;
    }
    prove_headroom(&order)?;
    let outcomes = play(&order)?;
    for block in [Block::Plain, Block::Transports] {
        let Some(page) = table::page(&order, &outcomes, block) else { continue };
        println!("{page}");
        if order.write {
            table::write(&root.join(PAGE), block, &page)?;
            println!("written to {PAGE}");
        }
    }
    Ok(())
}

fn order(root: &Path, args: &[String]) -> Result<Order> {
    let broker = root.join("target/release/breakwater");
    let mut order = Order {
        peers: vec![Peer::Breakwater, Peer::Mosquitto, Peer::Relay],
        rows: Vec::new(),
        rounds: 5,
        sparse_rounds: 15,
        span: Span { warmup_s: 1.0, seconds: 2.0 },
        pair_ids: None,
        stable: Stable {
            bench: vec![broker.display().to_string(), "bench".into()],
            broker,
            shards: 2,
            set: WIDE_OPEN.map(str::to_owned).to_vec(),
            cache: root.join(".cache/peers"),
        },
        write: false,
        command: format!("cargo xtask compare {}", args.join(" ")).trim().to_owned(),
    };
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        if let Some(row) = ROWS.iter().find(|row| row.name == word) {
            order.rows.push(*row);
            continue;
        }
        if let Some(block) = Block::parse(word) {
            order.rows.extend(ROWS.iter().filter(|row| row.block == block));
            continue;
        }
        if word == "--write" {
            order.write = true;
            continue;
        }
        let value = words.next().with_context(|| format!("`{word}` is no row and lacks a value\n{USAGE}"))?;
        order.option(word, value)?;
    }
    if order.rows.is_empty() {
        order.rows = ROWS.to_vec();
    }
    Ok(order)
}

/// Queues and windows that no row fills, as in the peers' settings.
const WIDE_OPEN: [&str; 6] = [
    "mqtt.max_inflight=1000",
    "mqtt.receive_maximum=1000",
    "queue.max_messages=1000000",
    "queue.max_bytes=1GB",
    "limits.out_buffer=64MB",
    "limits.memory=4GB",
];

impl Order {
    fn option(&mut self, word: &str, value: &str) -> Result<()> {
        let bad = || format!("{word} {value}");
        match word {
            "--peers" => self.peers = value.split(',').map(Peer::parse).collect::<Result<_>>()?,
            "--rounds" => self.rounds = value.parse().with_context(bad)?,
            "--sparse-rounds" => self.sparse_rounds = value.parse().with_context(bad)?,
            "--seconds" => self.span.seconds = value.parse().with_context(bad)?,
            "--warmup" => self.span.warmup_s = value.parse().with_context(bad)?,
            "--shards" => self.stable.shards = value.parse().with_context(bad)?,
            "--set" => self.stable.set.push(value.into()),
            "--pair-ids" => self.pair_ids = Some(value.into()),
            "--broker" => {
                self.stable.broker = value.into();
                self.stable.bench = vec![value.into(), "bench".into()];
            }
            "--bench" => self.stable.bench = vec![value.into()],
            other => bail!("`{other}` is neither a row nor an option\n{USAGE}"),
        }
        Ok(())
    }

    fn rounds_of(&self, row: &Row) -> usize {
        match row.kind {
            Kind::Sparse => self.sparse_rounds,
            Kind::Saturating | Kind::Connect | Kind::Filters => self.rounds,
            // Slopes hardly vary, and these runs are long.
            Kind::Memory => self.rounds.min(3),
            Kind::Churn => 1,
        }
    }
}

fn check_open_files() -> Result<()> {
    let text = fs::read_to_string("/proc/self/limits").context("comparing needs Linux")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap_or_default();
    let max: u64 = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(u64::MAX);
    if max < OPEN_FILES {
        bail!("the limit of open files is {max}, {OPEN_FILES} are needed: raise it with `ulimit -n {OPEN_FILES}`");
    }
    Ok(())
}

/// Runs the generator against the relay before anything else: it must be much cheaper than what it measures.
fn prove_headroom(order: &Order) -> Result<()> {
    let outcome = measure(&order.stable, Peer::Relay, &ROWS[0], order.span, None)?;
    println!(
        "generator         {:.3} µs of CPU per message at {:.2} million messages per second",
        outcome.generator_us,
        outcome.rate / 1e6
    );
    if outcome.generator_us > GENERATOR_US {
        bail!("the generator is too dear to measure with: is it a release build?");
    }
    Ok(())
}

fn play(order: &Order) -> Result<Outcomes> {
    let mut outcomes = Outcomes::new();
    let rounds = order.rows.iter().map(|row| order.rounds_of(row)).max().unwrap_or(0);
    for round in 0..rounds {
        for (index, row) in order.rows.iter().enumerate().filter(|(_, row)| round < order.rounds_of(row)) {
            for turn in 0..order.peers.len() {
                // Another peer goes first in every round.
                let peer = order.peers[(turn + round) % order.peers.len()];
                if !plays(peer, row) {
                    continue;
                }
                let ids = order.pair_ids.as_deref().filter(|_| row.kind == Kind::Sparse);
                match measure(&order.stable, peer, row, order.span, ids) {
                    Ok(outcome) => {
                        say(round, row, peer, &outcome);
                        outcomes.entry((index, peer.name())).or_default().push(outcome);
                    }
                    // One peer that can't play a row doesn't end the comparison: its cell stays empty.
                    Err(error) => println!("{:>2} {:<13}{:<18}failed: {error:#}", round + 1, row.name, peer.name()),
                }
            }
        }
    }
    Ok(outcomes)
}

fn plays(peer: Peer, row: &Row) -> bool {
    match peer {
        Peer::Breakwater => true,
        // Of these, only ours speaks WebSocket wherever it runs: Debian's Mosquitto is built without it.
        _ if row.over == Over::Ws => false,
        Peer::Rumqttd if row.over == Over::Tls => false,
        Peer::Relay => row.relay,
        // It accepts a few hundred connections per second by design.
        Peer::Rumqttd => !matches!(row.kind, Kind::Connect | Kind::Filters | Kind::Memory | Kind::Churn),
        _ => true,
    }
}

fn say(round: usize, row: &Row, peer: Peer, outcome: &Outcome) {
    println!(
        "{:>2} {:<13}{:<18}{:>9.3}  {:>9.0}/s  p50 {:>9}  p99 {:>9}  faults {:>4}  peak {:>4.0} MB  load {:.1}{}{}",
        round + 1,
        row.name,
        peer.name(),
        outcome.cost,
        outcome.rate,
        table::time(outcome.p50_us),
        table::time(outcome.p99_us),
        outcome.faults,
        outcome.peak_bytes / 1e6,
        outcome.load,
        if outcome.across { "  across shards" } else { "" },
        if outcome.resumed > 0.0 { format!("  {} resumed", outcome.resumed) } else { String::new() },
    );
}
