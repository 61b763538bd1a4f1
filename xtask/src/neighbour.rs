//! `cargo xtask neighbour`: what a well-behaved pair of clients notices of bad ones at the same broker.
//!
//! Every attack runs twice: against the neighbour's broker, and against a second broker beside it. On a machine where
//! attacker, broker and neighbour share the cores, the second figure shows what the neighbour notices of the load on the
//! machine alone. Loopback only; nothing here is asserted.

mod attack;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use attack::{ATTACKS, Attack, Attacker};

const USAGE: &str = "\
cargo xtask neighbour                       latency of a pair of clients beside bad ones; see docs/performance.md
    --rounds N         rounds, interleaved (default 3)
    --seconds S        measured per run (default 4)
    --rate N           messages per second of the neighbour (default 500)
    --shards N         of the broker (default 2)
    --only NAME        one attack, and the quiet run
    --tls              the neighbour's clients come over TLS
    --broker PATH      the broker (default target/release/breakwater)
    --write            put the table into docs/performance.md";

const PAGE: &str = "docs/performance.md";
const BEGIN: &str = "<!-- neighbour: begin; written by `cargo xtask neighbour --write` -->";
const END: &str = "<!-- neighbour: end -->";

struct Order {
    rounds: usize,
    seconds: f64,
    rate: u32,
    shards: u16,
    broker: PathBuf,
    /// Place for data directories.
    cache: PathBuf,
    only: Option<String>,
    tls: bool,
    write: bool,
}

/// What the neighbour saw in one run.
#[derive(Clone, Copy, Debug)]
struct Seen {
    p50_us: f64,
    p99_us: f64,
    lost: f64,
    /// 99 of 100 turns of the neighbour's broker took at most so long.
    turn_p99_us: f64,
}

/// Runs by attack, and by whether it was aimed at the neighbour's broker.
type Runs = BTreeMap<(usize, bool), Vec<Seen>>;

pub fn command(root: &Path, args: &[String]) -> Result<()> {
    let mut order = Order {
        rounds: 3,
        seconds: 4.0,
        rate: 500,
        shards: 2,
        broker: root.join("target/release/breakwater"),
        cache: root.join(".cache"),
        only: None,
        tls: false,
        write: false,
    };
    let mut words = args.iter().map(String::as_str);
    while let Some(word) = words.next() {
        match word {
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--write" => order.write = true,
            "--tls" => order.tls = true,
            _ => {
                let value = words.next().with_context(|| format!("{word} lacks a value\n{USAGE}"))?;
                order.option(word, value)?;
            }
        }
    }
    if !order.broker.is_file() {
        bail!("{} is not there: run `cargo build --release` first", order.broker.display());
    }
    let mut runs = Runs::new();
    for round in 0..order.rounds {
        for (index, attack) in ATTACKS.iter().enumerate() {
            for aimed in [true, false] {
                let wanted = order.only.as_ref().is_none_or(|only| attack.is_quiet() || attack.name == only);
                if !wanted || (attack.is_quiet() && !aimed) {
                    continue;
                }
                let seen = run(&order, attack, aimed).with_context(|| attack.name)?;
                let place = if aimed { "here" } else { "beside" };
                println!(
                    "{:>2} {:<28}{place:<8}p50 {:>8.0} µs  p99 {:>8.0} µs  turns p99 {:>6.0} µs  lost {}",
                    round + 1,
                    attack.name,
                    seen.p50_us,
                    seen.p99_us,
                    seen.turn_p99_us,
                    seen.lost
                );
                runs.entry((index, aimed)).or_default().push(seen);
            }
        }
    }
    let page = page(&order, &runs);
    println!("{page}");
    if order.write { write(&root.join(PAGE), &page) } else { Ok(()) }
}

impl Order {
    fn option(&mut self, word: &str, value: &str) -> Result<()> {
        let bad = || format!("{word} {value}");
        match word {
            "--rounds" => self.rounds = value.parse().with_context(bad)?,
            "--seconds" => self.seconds = value.parse().with_context(bad)?,
            "--rate" => self.rate = value.parse().with_context(bad)?,
            "--shards" => self.shards = value.parse().with_context(bad)?,
            "--broker" => self.broker = value.into(),
            "--only" => self.only = Some(value.into()),
            other => bail!("there is no option `{other}`\n{USAGE}"),
        }
        Ok(())
    }
}

fn run(order: &Order, attack: &Attack, aimed: bool) -> Result<Seen> {
    let (here, beside) = (Broker::start(order, "here")?, Broker::start(order, "beside")?);
    let target = if aimed { &here } else { &beside };
    let attacker = Attacker::start(attack, &order.broker, target)?;
    let seen = measure(order, &here);
    attacker.stop();
    seen
}

/// One publisher and one subscriber, QoS 1, at a fixed rate; a message's latency counts from when it should have left.
fn measure(order: &Order, broker: &Broker) -> Result<Seen> {
    let mut command = Command::new(&order.broker);
    command.args(["bench", "pair", "--qos", "1", "--json", "--warmup", "2", "--id-prefix", "neighbour"]);
    let port = if order.tls { broker.tls_port } else { broker.port };
    command.args(["--topic", "neighbour", "--port", &port.to_string(), "--rate", &order.rate.to_string()]);
    if order.tls {
        command.args(["--over", "tls", "--cafile"]).arg(broker.authority());
    }
    command.args(["--duration", &order.seconds.to_string()]);
    let before = broker.turns(order)?;
    let output = command.stdin(Stdio::null()).output()?;
    let turns = broker.turns(order)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Ok(json) = serde_json::from_str::<Value>(text.trim()) else {
        bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
    };
    let number = |path: &str| json.pointer(path).and_then(Value::as_f64).unwrap_or(f64::NAN);
    Ok(Seen {
        p50_us: number("/latency/p50_us"),
        p99_us: number("/latency/p99_us"),
        lost: number("/lost"),
        turn_p99_us: quantile(&before, &turns, 0.99),
    })
}

/// A broker that runs until this is dropped.
struct Broker {
    child: Child,
    port: u16,
    tls_port: u16,
    data: PathBuf,
}

impl Broker {
    fn start(order: &Order, name: &str) -> Result<Self> {
        let free = || anyhow::Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port());
        let (port, tls_port) = (free()?, free()?);
        let data = order.cache.join(format!("neighbour-{name}"));
        fs::create_dir_all(&data)?;
        let mut command = Command::new(&order.broker);
        command.args(["serve", "--listen", &format!("tcp://127.0.0.1:{port}"), "--log", "error"]);
        command.args(["--listen", &format!("tls://127.0.0.1:{tls_port}")]);
        command.args(["--shards", &order.shards.to_string(), "--data"]).arg(&data);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let broker = Self { child: command.spawn()?, port, tls_port, data };
        let until = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > until {
                bail!("the broker does not accept connections on port {port}");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(broker)
    }

    fn authority(&self) -> PathBuf {
        self.data.join("tls/ca.pem")
    }

    /// Turns of all shards so far: how many took at most so many seconds, by bound.
    fn turns(&self, order: &Order) -> Result<Vec<(f64, f64)>> {
        let output = Command::new(&order.broker).arg("metrics").arg("--data").arg(&self.data).output()?;
        let mut turns = BTreeMap::<u64, (f64, f64)>::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let Some(rest) = line.strip_prefix("breakwater_shard_turn_seconds_bucket{") else { continue };
            let Some((labels, count)) = rest.split_once("\"} ") else { continue };
            let bound = labels.rsplit('"').next().unwrap_or_default();
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse()? };
            let row = turns.entry(bound.to_bits()).or_insert((bound, 0.0));
            row.1 += count.parse::<f64>()?;
        }
        Ok(turns.into_values().collect())
    }
}

/// The bound, in microseconds, below which this part of the turns between two readings lies.
fn quantile(before: &[(f64, f64)], after: &[(f64, f64)], part: f64) -> f64 {
    let counts: Vec<(f64, f64)> = after.iter().zip(before).map(|(now, then)| (now.0, now.1 - then.1)).collect();
    let all = counts.last().map_or(f64::NAN, |last| last.1);
    counts.iter().find(|(_, count)| *count >= all * part).map_or(f64::NAN, |(bound, _)| bound * 1e6)
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn page(order: &Order, runs: &Runs) -> String {
    let mut page = format!(
        "A pair of clients, QoS 1, {} messages per second, {} shards, `cargo xtask neighbour`; medians of {} rounds of {} s.\n\
         *Beside*: the same attack on a second broker of the same machine. *Turns*: 99 of 100 turns of the shards took at most so long.\n\n\
         | the others | p50 µs | p99 µs | p50 beside | p99 beside | turns p99 µs | lost |\n|---|--:|--:|--:|--:|--:|--:|\n",
        order.rate, order.shards, order.rounds, order.seconds
    );
    for (index, attack) in ATTACKS.iter().enumerate() {
        let cell = |aimed: bool, pick: fn(&Seen) -> f64| match runs.get(&(index, aimed)) {
            Some(seen) => format!("{:.0}", median(seen.iter().map(pick).collect())),
            None => "–".to_owned(),
        };
        let lost: f64 = runs.get(&(index, true)).map_or(0.0, |seen| seen.iter().map(|seen| seen.lost).sum());
        page += &format!(
            "| {} | {} | {} | {} | {} | ≤ {} | {lost} |\n",
            attack.text,
            cell(true, |seen| seen.p50_us),
            cell(true, |seen| seen.p99_us),
            cell(false, |seen| seen.p50_us),
            cell(false, |seen| seen.p99_us),
            cell(true, |seen| seen.turn_p99_us),
        );
    }
    page
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn write(path: &Path, page: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let (head, rest) = text.split_once(BEGIN).with_context(|| format!("{} lacks `{BEGIN}`", path.display()))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("{} lacks `{END}`", path.display()))?;
    fs::write(path, format!("{head}{BEGIN}\n\n{page}\n{END}{tail}"))?;
    println!("written to {PAGE}");
    Ok(())
}
