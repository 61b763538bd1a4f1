//! `bench filters`: subscribes to many distinct filters, or makes filters come and go at a steady rate.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Fault;
use super::clock::Clock;
use super::link::{self, ANSWER_BYTES, Fill, Hello, Link};
use super::options::Filters;
use super::plan::{Client, check_open_files};
use super::progress::{Progress, short};
use super::report::{BrokerUse, Figures, FilterReport};
use super::usage;
use super::wire::{self, Level};

/// Clients whose acknowledgements are awaited while the next ones already send: the broker never runs dry.
const AHEAD: usize = 8;
/// A broker that sends nothing for so long does not answer any more.
const SILENCE: Duration = Duration::from_secs(15);
/// How often `--churn` sends what has become due.
const TICK: Duration = Duration::from_millis(1);

pub(super) fn run(options: &Filters) -> Result<FilterReport, Fault> {
    let address = options.target.address()?;
    check_open_files(count(options.clients))?;
    if let Some(pid) = options.target.broker_pid {
        usage::cpu_ns(pid).ok_or_else(|| Fault::new(format!("there is no process {pid}")))?;
        usage::forget_peak(pid);
    }
    let mut run = Run { options, clock: Clock::new(), clients: Vec::new(), refused: 0 };
    run.connect(address)?;
    let rss_start = options.target.broker_pid.and_then(usage::resident_bytes);
    let cpu_start = options.target.broker_pid.and_then(usage::cpu_ns);
    let own_start = usage::cpu_ns(std::process::id()).unwrap_or(0);
    let start_ns = run.clock.now_ns();
    let made = if options.churn { run.churn()? } else { run.fill()? };
    let seconds = (run.clock.now_ns() - start_ns) as f64 / 1e9;
    let cpu_end = options.target.broker_pid.and_then(usage::cpu_ns);
    let figures = Figures { seconds, published: 0, delivered: made };
    let broker = options.target.broker_pid.map(|pid| BrokerUse::new(pid, &figures, cpu_start, cpu_end, rss_start));
    let text: usize = (0..made.min(10_000)).map(|i| filter(i, options.wildcards).len()).sum();
    Ok(FilterReport {
        scenario: "filters",
        version: options.target.level().name(),
        clients: options.clients,
        filters: made,
        churn: options.churn,
        seconds,
        per_second: made as f64 / seconds.max(1e-9),
        text_bytes: text as f64 / made.clamp(1, 10_000) as f64,
        bytes_per_filter: broker.as_ref().filter(|_| !options.churn).map(|broker| broker.growth() / made.max(1) as f64),
        refused: run.refused,
        generator_cpu_us: figures.per_message(usage::cpu_ns(std::process::id()).unwrap_or(0).saturating_sub(own_start)),
        broker,
        load_average: usage::load_average(),
    })
}

/// Filter `i`: all are distinct, `wildcards` in a hundred hold one.
fn filter(i: u64, wildcards: u8) -> String {
    let (area, device) = (i / 100, i % 100);
    match i % 100 {
        // 7 and 100 share no factor: wildcards are spread evenly over each hundred.
        n if (n * 7) % 100 >= u64::from(wildcards) => format!("area/{area}/device/{device}/state"),
        n if n % 2 == 0 => format!("area/{area}/+/{device}"),
        _ => format!("area/{area}/device/{device}/#"),
    }
}

struct Run<'a> {
    options: &'a Filters,
    clock: Clock,
    clients: Vec<Peer>,
    refused: u64,
}

struct Peer {
    link: Link<TcpStream>,
    awaited: usize,
}

impl Run<'_> {
    fn level(&self) -> Level {
        self.options.target.level()
    }

    fn connect(&mut self, address: SocketAddr) -> Result<(), Fault> {
        let covers = self.options.target.covers()?;
        for index in 0..count(self.options.clients) {
            let target = &self.options.target;
            let client = Client { id: format!("{}-f-{index:05}", target.id_prefix), topic: String::new() };
            let hello = Hello {
                level: target.level(),
                client: &client,
                keep_alive_s: target.keep_alive,
                inflight: 1000,
                subscribe: None,
            };
            let (link, _) = link::greet(address, target.source(address, index), covers.make()?, &hello)?;
            link.stream.set_read_timeout(Some(SILENCE)).map_err(|e| Fault::io("socket", &e))?;
            self.clients.push(Peer { link, awaited: 0 });
        }
        Ok(())
    }

    /// Subscribes to all filters, client by client, a few clients ahead of their acknowledgements.
    fn fill(&mut self) -> Result<u64, Fault> {
        let mut progress = Progress::new(self.options.target.quiet || self.options.target.json);
        let clients = self.clients.len();
        let total = self.options.filters;
        let each = total.div_ceil(clients as u64);
        for step in 0..clients + AHEAD {
            if step < clients {
                let from = step as u64 * each;
                self.subscribe(step, from..(from + each).min(total))?;
            }
            if let Some(behind) = step.checked_sub(AHEAD) {
                self.refused += self.clients[behind].await_all()?;
            }
            if progress.is_due() {
                let done = (step as f64 / clients as f64).min(1.0);
                progress.draw(done, &format!("{} filters", short(done * total as f64)));
            }
        }
        Ok(total)
    }

    fn subscribe(&mut self, client: usize, range: std::ops::Range<u64>) -> Result<(), Fault> {
        let mut out = Vec::new();
        let (level, qos, wildcards) = (self.level(), self.options.qos, self.options.wildcards);
        let numbers: Vec<u64> = range.collect();
        for (id, chunk) in (1..=u16::MAX).cycle().zip(numbers.chunks(count(self.options.batch))) {
            let filters: Vec<String> = chunk.iter().map(|i| filter(*i, wildcards)).collect();
            out.extend(wire::subscribe(level, id, &filters, qos));
            self.clients[client].awaited += 1;
        }
        self.clients[client].send(&out)
    }

    /// Filters come and go at `--rate`, on one client: each goes about a millisecond after it came.
    fn churn(&mut self) -> Result<u64, Fault> {
        let start_ns = self.clock.now_ns();
        let total = (self.options.duration * f64::from(self.options.rate)) as u64;
        let (mut made, mut gone) = (0, 0);
        while gone < total {
            let passed_ns = self.clock.now_ns() - start_ns;
            let due = ((passed_ns as f64 / 1e9 * f64::from(self.options.rate)) as u64).min(total);
            self.exchange(made..due, gone..made)?;
            (made, gone) = (due, made);
            std::thread::sleep(TICK);
        }
        Ok(total)
    }

    fn exchange(&mut self, come: std::ops::Range<u64>, go: std::ops::Range<u64>) -> Result<(), Fault> {
        let (level, qos, wildcards) = (self.level(), self.options.qos, self.options.wildcards);
        let peer = &mut self.clients[0];
        let mut out = Vec::new();
        for i in go {
            out.extend(wire::unsubscribe(level, 2, &filter(i, wildcards)));
            peer.awaited += 1;
        }
        for i in come {
            out.extend(wire::subscribe(level, 1, &[filter(i, wildcards)], qos));
            peer.awaited += 1;
        }
        peer.send(&out)?;
        self.refused += peer.await_all()?;
        Ok(())
    }
}

impl Peer {
    fn send(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let fault = |e| Fault::io("the broker does not read", &e);
        self.link.send(bytes).map_err(fault)?;
        while !self.link.is_clear() {
            self.link.flush().map_err(fault)?;
        }
        Ok(())
    }

    /// Reads until everything is acknowledged; returns how many filters were refused.
    fn await_all(&mut self) -> Result<u64, Fault> {
        let mut refused = 0;
        let mut buf = vec![0; ANSWER_BYTES];
        while self.awaited > 0 {
            let filled = match self.link.fill(&mut buf) {
                Ok(Fill::Bytes { filled, .. }) => filled,
                Ok(Fill::Blocked) => return Err(Fault::io("no acknowledgement", &ErrorKind::TimedOut.into())),
                Ok(Fill::Closed) => return Err(Fault::new("the broker closed the connection")),
                Err(e) => return Err(Fault::io("no acknowledgement", &e)),
            };
            let mut at = 0;
            while let Some((first, body, len)) =
                wire::first_packet(&buf[at..filled]).map_err(|e| Fault::new(e.to_string()))?
            {
                match first >> 4 {
                    wire::SUBACK => {
                        self.awaited = self.awaited.saturating_sub(1);
                        refused += body.iter().skip(2).filter(|code| **code >= 0x80).count() as u64;
                    }
                    wire::UNSUBACK => self.awaited = self.awaited.saturating_sub(1),
                    wire::DISCONNECT => return Err(Fault::new(wire::disconnected(body))),
                    _ => {}
                }
                at += len;
            }
            self.link.keep_tail(&buf[at..filled]);
        }
        Ok(refused)
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).expect("32 bits fit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn filters_are_distinct_and_hold_as_many_wildcards_as_asked() {
        let all: HashSet<String> = (0..10_000).map(|i| filter(i, 20)).collect();
        assert_eq!(all.len(), 10_000);
        assert_eq!(all.iter().filter(|text| text.contains(['+', '#'])).count(), 2_000);
        assert!((0..1000).all(|i| !filter(i, 0).contains(['+', '#'])));
    }
}
