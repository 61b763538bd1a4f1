//! The scenarios of a comparison, and what we ask of each.

/// One line of the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    /// Words behind `breakwater bench`.
    pub(super) bench: &'static [&'static str],
    pub(super) kind: Kind,
    /// Words behind a second `breakwater bench` that runs meanwhile; none for no second one.
    pub(super) beside: &'static [&'static str],
    /// The relay can play it: QoS 0 and no acknowledgements.
    pub(super) relay: bool,
    /// Mosquitto's processor time divided by ours must reach this.
    pub(super) required: Option<f64>,
    pub(super) goal: &'static str,
}

/// What is measured and how often.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// As many messages as the broker takes.
    Saturating,
    /// A steady rate, one message per write. Latency counts, so there are more rounds.
    Sparse,
    /// Processor time per connection.
    Connect,
    /// Processor time, rate and memory per filter.
    Filters,
    /// Growth of resident memory per connection.
    Memory,
    /// Resident memory after many rounds of connecting and leaving.
    Churn,
}

pub(super) const ROWS: [Row; 18] = [
    saturating("pair-0", "1:1, QoS 0", &["pair"], true, 20.0, "30"),
    saturating("pair-1", "1:1, QoS 1", &["pair", "-q", "1"], false, 8.0, "12"),
    saturating("pair-2", "1:1, QoS 2", &["pair", "-q", "2"], false, 8.0, "12"),
    saturating("many-0", "100:100, QoS 0", &["pair", "-n", "100"], true, 12.0, "18"),
    saturating("many-1", "100:100, QoS 1", &["pair", "-n", "100", "-q", "1"], false, 10.0, "15"),
    saturating("fan-out", "fan-out 1:1000, QoS 0", &["fan-out", "-n", "1000"], true, 30.0, "0.7 of the relay"),
    saturating("fan-in", "fan-in 1000:1, QoS 0", &["fan-in", "-n", "1000"], true, 10.0, "15"),
    saturating("big-pair", "1:1, QoS 0, 1 KiB", &["pair", "-s", "1024"], true, 8.0, "0.7 of the relay"),
    saturating(
        "big-fan-out",
        "fan-out 1:1000, QoS 0, 1 KiB",
        &["fan-out", "-n", "1000", "-s", "1024"],
        true,
        15.0,
        "0.7 of the relay",
    ),
    Row {
        name: CHURNED,
        title: "1:1, QoS 0, while 1,000 filters/s come and go",
        bench: &["pair"],
        kind: Kind::Saturating,
        beside: &["filters", "--churn", "--clients", "1", "--rate", "1000", "--duration", "3600", "--quiet"],
        relay: false,
        required: None,
        goal: "0.9 of the rate without",
    },
    Row {
        name: "sparse-0",
        title: "sparse 5,000/s, QoS 0",
        bench: &["pair", "--rate", "5000"],
        kind: Kind::Sparse,
        beside: &[],
        relay: true,
        required: None, // by shard: see `SAME_SHARD` and `ACROSS_SHARDS`
        goal: "relay",
    },
    Row {
        name: "sparse-1",
        title: "sparse 5,000/s, QoS 1",
        bench: &["pair", "--rate", "5000", "-q", "1"],
        kind: Kind::Sparse,
        beside: &[],
        relay: false,
        required: None,
        goal: "relay",
    },
    Row {
        name: "connect",
        title: "connect and CONNACK",
        bench: &["conn", "-n", "10000", "--sources", "4"],
        kind: Kind::Connect,
        beside: &[],
        relay: true,
        required: Some(1.15),
        goal: "1.3",
    },
    Row {
        name: "filters",
        title: "subscribe to 1,000,000 filters",
        bench: &["filters", "--filters", "1000000", "--clients", "1000"],
        kind: Kind::Filters,
        beside: &[],
        relay: false,
        required: Some(2.0),
        goal: "",
    },
    Row {
        name: "memory",
        title: "memory per idle connection",
        bench: &["conn", "-n", "15000", "--marks", "5000", "--sources", "4"],
        kind: Kind::Memory,
        beside: &[],
        relay: true,
        required: Some(1.0),
        goal: "",
    },
    Row {
        name: "memory-sub",
        title: "memory per idle connection with one subscription",
        bench: &["conn", "-n", "15000", "--marks", "5000", "--sources", "4", "--subscribe", "c/%i"],
        kind: Kind::Memory,
        beside: &[],
        relay: false,
        required: Some(1.0),
        goal: "",
    },
    churn(
        "churn",
        "memory after 10 rounds of 15,000 connections",
        &["conn", "-n", "15000", "--cycles", "10", "--sources", "4"],
    ),
    churn(
        "churn-sub",
        "the same with one subscription each",
        &["conn", "-n", "15000", "--cycles", "10", "--sources", "4", "--subscribe", "c/%i"],
    ),
];

/// Publishing while filters come and go is compared with the row without.
pub(super) const CHURNED: &str = "pair-0-churn";
pub(super) const UNCHURNED: &str = "pair-0";

/// Sparse rows: our time may not exceed Mosquitto's where publisher and subscriber share a shard, ...
pub(super) const SAME_SHARD: f64 = 1.0;
/// ... and may be this much dearer where a message has to wake a second thread.
pub(super) const ACROSS_SHARDS: f64 = 0.55;
/// Bounds on our latency in the sparse rows, as parts of Mosquitto's.
pub(super) const SPARSE_P50: f64 = 1.05;
pub(super) const SPARSE_P99: f64 = 1.25;
/// No row may need more memory than this.
pub(super) const PEAK_BYTES: f64 = 256e6;

const fn saturating(
    name: &'static str,
    title: &'static str,
    bench: &'static [&'static str],
    relay: bool,
    required: f64,
    goal: &'static str,
) -> Row {
    Row { name, title, bench, kind: Kind::Saturating, beside: &[], relay, required: Some(required), goal }
}

const fn churn(name: &'static str, title: &'static str, bench: &'static [&'static str]) -> Row {
    Row {
        name,
        title,
        bench,
        kind: Kind::Churn,
        beside: &[],
        relay: false,
        required: None,
        goal: "no growth after round 2",
    }
}
