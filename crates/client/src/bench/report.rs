//! Results, as a table for people and as JSON for programs.

use std::fmt::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::progress::short;
use super::usage;

/// What was counted within the measured time.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) seconds: f64,
    pub(super) published: u64,
    pub(super) delivered: u64,
}

impl Figures {
    /// Microseconds per delivered message; per published one where nothing is delivered to us.
    pub(super) fn per_message(&self, ns: u64) -> f64 {
        let messages = if self.delivered > 0 { self.delivered } else { self.published };
        ns as f64 / 1e3 / messages.max(1) as f64
    }

    fn per_second(&self, count: u64) -> f64 {
        count as f64 / self.seconds.max(1e-9)
    }
}

/// Time from when a message was due to when it arrived, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    samples: u64,
    min_us: f64,
    mean_us: f64,
    p50_us: f64,
    p90_us: f64,
    p99_us: f64,
    p999_us: f64,
    max_us: f64,
}

impl Latency {
    pub(super) fn of(histogram: &Histogram<u64>) -> Latency {
        let at = |percent: f64| histogram.value_at_percentile(percent) as f64 / 1e3;
        Latency {
            samples: histogram.len(),
            min_us: if histogram.is_empty() { 0.0 } else { histogram.min() as f64 / 1e3 },
            mean_us: histogram.mean() / 1e3,
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p999_us: at(99.9),
            max_us: histogram.max() as f64 / 1e3,
        }
    }
}

/// What the broker's process used within the measured time.
#[derive(Clone, Debug, Serialize)]
pub(super) struct BrokerUse {
    pid: u32,
    cpu_s: f64,
    /// User and system time per delivered message (or connection).
    cpu_us: f64,
    rss_start_bytes: u64,
    rss_end_bytes: u64,
    rss_peak_bytes: u64,
    threads: Vec<ThreadUse>,
}

#[derive(Clone, Debug, Serialize)]
struct ThreadUse {
    name: String,
    cpu_us: f64,
}

impl BrokerUse {
    pub(super) fn new(
        pid: u32,
        figures: &Figures,
        begin: Option<u64>,
        end: Option<u64>,
        rss: Option<u64>,
    ) -> BrokerUse {
        let ns = end.unwrap_or(0).saturating_sub(begin.unwrap_or(0));
        BrokerUse {
            pid,
            cpu_s: ns as f64 / 1e9,
            cpu_us: figures.per_message(ns),
            rss_start_bytes: rss.unwrap_or(0),
            rss_end_bytes: usage::resident_bytes(pid).unwrap_or(0),
            rss_peak_bytes: usage::peak_bytes(pid).unwrap_or(0),
            threads: Vec::new(),
        }
    }

    /// Growth of resident memory in bytes.
    pub(super) fn growth(&self) -> f64 {
        self.rss_end_bytes as f64 - self.rss_start_bytes as f64
    }

    /// Adds how the time was spread over threads: it shows whether one shard or several did the work.
    pub(super) fn by_thread(mut self, figures: &Figures, threads: &[(String, u64)]) -> BrokerUse {
        let used = |(name, ns): &(String, u64)| ThreadUse { name: name.clone(), cpu_us: figures.per_message(*ns) };
        self.threads = threads.iter().map(used).collect();
        self
    }
}

#[derive(Debug, Serialize)]
pub(super) struct TrafficReport {
    pub(super) scenario: &'static str,
    pub(super) version: &'static str,
    pub(super) qos: u8,
    pub(super) size: usize,
    pub(super) publishers: usize,
    pub(super) subscribers: usize,
    pub(super) rate: Option<u32>,
    pub(super) outstanding: u64,
    pub(super) inflight: u16,
    #[serde(flatten)]
    pub(super) figures: Figures,
    pub(super) latency: Latency,
    pub(super) total_published: u64,
    pub(super) total_delivered: u64,
    /// A later message of the same publisher has come: proven loss.
    pub(super) lost: u64,
    /// Had not come when the run gave up waiting.
    pub(super) under_way: u64,
    pub(super) duplicates: u64,
    pub(super) out_of_order: u64,
    pub(super) strange: u64,
    pub(super) refused: u64,
    /// QoS 1 and 2 messages whose flow had not ended.
    pub(super) unacknowledged: u64,
    /// Deliveries that a stalled run went on without.
    pub(super) stalled_deliveries: u64,
    pub(super) broken: Vec<String>,
    /// The generator's own delay behind an open-loop schedule at worst.
    pub(super) behind_us_max: f64,
    pub(super) generator_cpu_us: f64,
    pub(super) broker: Option<BrokerUse>,
    pub(super) load_average: [f64; 3],
}

impl TrafficReport {
    /// Everything arrived, once, in order, where it belongs, and nobody was cut off.
    pub(super) fn is_clean(&self) -> bool {
        self.faults().iter().all(|(count, _)| *count == 0) && self.broken.is_empty()
    }

    fn faults(&self) -> [(u64, &'static str); 7] {
        [
            (self.lost, "lost"),
            (self.under_way, "not arrived"),
            (self.duplicates, "duplicates"),
            (self.out_of_order, "out of order"),
            (self.strange, "strange"),
            (self.refused, "refused"),
            (self.unacknowledged, "not acknowledged"),
        ]
    }

    pub(super) fn render(&self, json: bool, colour: bool) -> String {
        if json { to_json(self) } else { self.table(colour) }
    }

    fn table(&self, colour: bool) -> String {
        let mut text = String::new();
        let mode = self.rate.map_or("saturating".to_string(), |rate| format!("{rate}/s"));
        let _ = writeln!(
            text,
            "{} {}:{}  MQTT {}  QoS {}  {} B  {mode}  {:.1} s",
            self.scenario, self.publishers, self.subscribers, self.version, self.qos, self.size, self.figures.seconds
        );
        let published = self.figures.per_second(self.figures.published);
        let delivered = self.figures.per_second(self.figures.delivered);
        row(&mut text, "published", &format!("{:>12}  {}/s", self.figures.published, short(published)));
        row(&mut text, "delivered", &format!("{:>12}  {}/s", self.figures.delivered, short(delivered)));
        if self.latency.samples > 0 {
            let l = &self.latency;
            let line = format!(
                "p50 {}  p90 {}  p99 {}  p99.9 {}  max {}",
                time(l.p50_us),
                time(l.p90_us),
                time(l.p99_us),
                time(l.p999_us),
                time(l.max_us)
            );
            row(&mut text, "latency", &line);
        }
        if let Some(broker) = &self.broker {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let line = format!(
                "{:.3} µs CPU per message  {:.2} s CPU  memory {:.1} MiB, at most {:.1} MiB",
                broker.cpu_us,
                broker.cpu_s,
                mib(broker.rss_end_bytes),
                mib(broker.rss_peak_bytes)
            );
            row(&mut text, "broker", &line);
        }
        row(&mut text, "generator", &format!("{:.3} µs CPU per message", self.generator_cpu_us));
        row(&mut text, "verdict", &self.verdict(colour));
        text
    }

    fn verdict(&self, colour: bool) -> String {
        let (green, red, plain) = if colour { ("\x1b[32m", "\x1b[31m", "\x1b[0m") } else { ("", "", "") };
        if self.is_clean() {
            return format!("{green}nothing lost, nothing twice{plain}");
        }
        let mut parts: Vec<String> = self
            .faults()
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        if let Some(first) = self.broken.first() {
            parts.push(format!("{} connections ended ({first})", self.broken.len()));
        }
        format!("{red}{}{plain}", parts.join(", "))
    }
}

/// Resident memory of the broker at a number of connections.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct MemoryMark {
    pub(super) cycle: u32,
    pub(super) connections: u32,
    pub(super) rss_bytes: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct ConnReport {
    pub(super) scenario: &'static str,
    pub(super) version: &'static str,
    pub(super) connections: u32,
    pub(super) cycles: u32,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    /// From when the connection was due to its CONNACK (SUBACK where it subscribes).
    pub(super) latency: Latency,
    pub(super) refused: u64,
    /// TLS sessions that the broker took up again.
    pub(super) resumed: u64,
    pub(super) broken: Vec<String>,
    pub(super) memory: Vec<MemoryMark>,
    /// Growth of resident memory from the first to the last mark of the first cycle, per connection.
    pub(super) bytes_per_connection: Option<f64>,
    pub(super) generator_cpu_us: f64,
    pub(super) broker: Option<BrokerUse>,
    pub(super) load_average: [f64; 3],
}

impl ConnReport {
    pub(super) fn is_clean(&self) -> bool {
        self.refused == 0 && self.broken.is_empty()
    }

    pub(super) fn render(&self, json: bool, colour: bool) -> String {
        if json { to_json(self) } else { self.table(colour) }
    }

    fn table(&self, colour: bool) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "conn {} x {}  MQTT {}", self.connections, self.cycles, self.version);
        row(&mut text, "connected", &format!("{}/s over {:.2} s", short(self.per_second), self.seconds));
        let l = &self.latency;
        let line = format!("p50 {}  p99 {}  max {}", time(l.p50_us), time(l.p99_us), time(l.max_us));
        row(&mut text, "latency", &line);
        if let Some(broker) = &self.broker {
            row(&mut text, "broker", &format!("{:.2} µs CPU per connection", broker.cpu_us));
        }
        row(&mut text, "generator", &format!("{:.2} µs CPU per connection", self.generator_cpu_us));
        for mark in &self.memory {
            let mib = mark.rss_bytes as f64 / f64::from(1 << 20);
            row(
                &mut text,
                "memory",
                &format!("{mib:.2} MiB at {} connections, cycle {}", mark.connections, mark.cycle),
            );
        }
        if let Some(bytes) = self.bytes_per_connection {
            row(&mut text, "", &format!("{bytes:.0} bytes per connection"));
        }
        let (green, red, plain) = if colour { ("\x1b[32m", "\x1b[31m", "\x1b[0m") } else { ("", "", "") };
        let verdict = match self.broken.first() {
            _ if self.is_clean() => format!("{green}all connected{plain}"),
            Some(first) => format!("{red}{} connections ended ({first}){plain}", self.broken.len()),
            None => format!("{red}{} refused{plain}", self.refused),
        };
        row(&mut text, "verdict", &verdict);
        text
    }
}

#[derive(Debug, Serialize)]
pub(super) struct FilterReport {
    pub(super) scenario: &'static str,
    pub(super) version: &'static str,
    pub(super) clients: u32,
    pub(super) filters: u64,
    pub(super) churn: bool,
    pub(super) seconds: f64,
    pub(super) per_second: f64,
    /// Mean length of a filter's own text.
    pub(super) text_bytes: f64,
    /// Growth of resident memory, the filter's text included.
    pub(super) bytes_per_filter: Option<f64>,
    pub(super) refused: u64,
    pub(super) generator_cpu_us: f64,
    pub(super) broker: Option<BrokerUse>,
    pub(super) load_average: [f64; 3],
}

impl FilterReport {
    pub(super) fn is_clean(&self) -> bool {
        self.refused == 0
    }

    pub(super) fn render(&self, json: bool, colour: bool) -> String {
        if json {
            return to_json(self);
        }
        let what = if self.churn { "come and gone" } else { "subscribed" };
        let mut text = format!("filters {} on {} clients  MQTT {}\n", self.filters, self.clients, self.version);
        row(&mut text, what, &format!("{}/s over {:.2} s", short(self.per_second), self.seconds));
        if let Some(broker) = &self.broker {
            row(&mut text, "broker", &format!("{:.3} µs CPU per filter", broker.cpu_us));
        }
        if let Some(bytes) = self.bytes_per_filter {
            let line = format!("{bytes:.0} bytes per filter, {:.0} of them its text", self.text_bytes);
            row(&mut text, "memory", &line);
        }
        row(&mut text, "generator", &format!("{:.3} µs CPU per filter", self.generator_cpu_us));
        let (green, red, plain) = if colour { ("\x1b[32m", "\x1b[31m", "\x1b[0m") } else { ("", "", "") };
        let verdict = match self.refused {
            0 => format!("{green}all granted{plain}"),
            refused => format!("{red}{refused} refused{plain}"),
        };
        row(&mut text, "verdict", &verdict);
        text
    }
}

fn to_json(value: &impl Serialize) -> String {
    let mut text = serde_json::to_string(value).expect("plain structs have a JSON form");
    text.push('\n');
    text
}

fn row(text: &mut String, name: &str, value: &str) {
    let _ = writeln!(text, "  {name:<14}{value}");
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e4 => format!("{:.1} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}
