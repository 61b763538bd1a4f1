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
    /// What MQTT is carried by.
    pub(super) over: Over,
    pub(super) block: Block,
    /// Mosquitto's processor time divided by ours must reach this.
    pub(super) required: Option<f64>,
    /// The relay's time (or memory) divided by ours must reach this.
    pub(super) of_relay: Option<f64>,
    pub(super) goal: &'static str,
}

/// Which of the page's tables a row stands in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Block {
    Plain,
    /// TLS and WebSocket, and what they are compared with.
    Transports,
}

impl Block {
    /// As it is named on the command line.
    pub(super) fn parse(word: &str) -> Option<Block> {
        match word {
            "plain" => Some(Block::Plain),
            "transports" => Some(Block::Transports),
            _ => None,
        }
    }

    /// What stands before and behind its table in the page.
    pub(super) fn marks(self) -> (&'static str, &'static str) {
        match self {
            Block::Plain => {
                ("<!-- compare: begin; written by `cargo xtask compare --write` -->", "<!-- compare: end -->")
            }
            Block::Transports => (
                "<!-- transports: begin; written by `cargo xtask compare transports --write` -->",
                "<!-- transports: end -->",
            ),
        }
    }
}

/// What MQTT is carried by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Over {
    Tcp,
    Tls,
    Ws,
}

impl Over {
    /// As `breakwater bench --over` and URLs of listeners have it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Over::Tcp => "tcp",
            Over::Tls => "tls",
            Over::Ws => "ws",
        }
    }
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

pub(super) const ROWS: [Row; 33] = [
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
        over: Over::Tcp,
        block: Block::Plain,
        of_relay: None,
        required: None,
        goal: "0.9 of the rate without",
    },
    sparse("sparse-0", "sparse 5,000/s, QoS 0", &["pair", "--rate", "5000"]),
    Row { relay: false, ..sparse("sparse-1", "sparse 5,000/s, QoS 1", &["pair", "--rate", "5000", "-q", "1"]) },
    Row {
        required: Some(1.15),
        goal: "1.3",
        ..connect("connect", "connect and CONNACK", &["conn", "-n", "10000", "--sources", "4"])
    },
    Row {
        name: "filters",
        title: "subscribe to 1,000,000 filters",
        bench: &["filters", "--filters", "1000000", "--clients", "1000"],
        kind: Kind::Filters,
        beside: &[],
        relay: false,
        over: Over::Tcp,
        block: Block::Plain,
        of_relay: None,
        required: Some(2.0),
        goal: "",
    },
    memory("memory", "memory per idle connection", &["conn", "-n", "15000", "--marks", "5000", "--sources", "4"]),
    Row {
        relay: false,
        ..memory(
            "memory-sub",
            "memory per idle connection with one subscription",
            &["conn", "-n", "15000", "--marks", "5000", "--sources", "4", "--subscribe", "c/%i"],
        )
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
    tls(saturating("tls-pair", "TLS 1:1, QoS 0", &["pair"], true, 4.0, "")),
    tls(saturating("tls-pair-1", "TLS 1:1, QoS 1", &["pair", "-q", "1"], false, 4.0, "")),
    tls(saturating("tls-big-pair", "TLS 1:1, QoS 0, 1 KiB", &["pair", "-s", "1024"], true, 4.0, "")),
    tls(saturating("tls-fan-out", "TLS fan-out 1:1000, QoS 0", &["fan-out", "-n", "1000"], true, 4.0, "")),
    tls(saturating("tls-fan-in", "TLS fan-in 1000:1, QoS 0", &["fan-in", "-n", "1000"], true, 4.0, "")),
    tls(sparse("tls-sparse", "TLS sparse 5,000/s, QoS 0", &["pair", "--rate", "5000"])),
    tls(sparse("tls-big-sparse", "TLS sparse 5,000/s, QoS 0, 1 KiB", &["pair", "--rate", "5000", "-s", "1024"])),
    Row { of_relay: Some(0.8), ..tls(connect("tls-connect", "TLS connect, full handshake", &["conn", "-n", "3000"])) },
    Row {
        of_relay: Some(0.8),
        ..tls(connect("tls-resume", "TLS connect, resumed", &["conn", "-n", "1500", "--cycles", "4", "--resume"]))
    },
    Row {
        of_relay: Some(1.0 / 1.2),
        ..tls(memory("tls-memory", "memory per idle TLS connection", &["conn", "-n", "6000", "--marks", "2000"]))
    },
    ws(Row {
        relay: false,
        required: None,
        ..saturating("ws-pair", "WebSocket 1:1, QoS 0", &["pair"], false, 0.0, "")
    }),
    Row {
        block: Block::Transports,
        ..saturating("tcp-pair", "plain 1:1, QoS 0, beside it", &["pair"], true, 20.0, "")
    },
    ws(Row { relay: false, ..sparse("ws-sparse", "WebSocket sparse 5,000/s, QoS 0", &["pair", "--rate", "5000"]) }),
    ws(Row {
        relay: false,
        ..memory(
            "ws-memory",
            "memory per idle WebSocket connection",
            &["conn", "-n", "15000", "--marks", "5000", "--sources", "4"],
        )
    }),
    Row {
        block: Block::Transports,
        ..memory(
            "tcp-memory",
            "memory per idle plain connection, beside it",
            &["conn", "-n", "15000", "--marks", "5000", "--sources", "4"],
        )
    },
];

/// What a WebSocket may add to plain TCP: microseconds per pipelined message, and bytes per idle connection.
pub(super) const WEBSOCKET_US: f64 = 0.1;
pub(super) const WEBSOCKET_BYTES: f64 = 200.0;
/// The rows that those are compared with.
pub(super) const WEBSOCKET_PAIR: (&str, &str) = ("ws-pair", "tcp-pair");
pub(super) const WEBSOCKET_MEMORY: (&str, &str) = ("ws-memory", "tcp-memory");

/// The same row over TLS. Pipelined and sparse, our time may exceed that of a relay through bare rustls by this much.
const fn tls(row: Row) -> Row {
    Row { over: Over::Tls, block: Block::Transports, of_relay: if row.relay { Some(0.7) } else { None }, ..row }
}

/// The same row over WebSocket, which no peer here speaks.
const fn ws(row: Row) -> Row {
    Row { over: Over::Ws, block: Block::Transports, ..row }
}

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
    let required = Some(required);
    Row {
        name,
        title,
        bench,
        kind: Kind::Saturating,
        beside: &[],
        relay,
        over: Over::Tcp,
        block: Block::Plain,
        required,
        of_relay: None,
        goal,
    }
}

const fn sparse(name: &'static str, title: &'static str, bench: &'static [&'static str]) -> Row {
    // Our own bounds are by shard: see `SAME_SHARD` and `ACROSS_SHARDS`.
    Row { kind: Kind::Sparse, required: None, goal: "", ..saturating(name, title, bench, true, 0.0, "") }
}

const fn connect(name: &'static str, title: &'static str, bench: &'static [&'static str]) -> Row {
    Row { kind: Kind::Connect, required: Some(1.0), ..saturating(name, title, bench, true, 0.0, "") }
}

const fn memory(name: &'static str, title: &'static str, bench: &'static [&'static str]) -> Row {
    Row { kind: Kind::Memory, required: Some(1.0), ..saturating(name, title, bench, true, 0.0, "") }
}

const fn churn(name: &'static str, title: &'static str, bench: &'static [&'static str]) -> Row {
    let goal = "no growth after round 2";
    Row { kind: Kind::Churn, required: None, goal, ..saturating(name, title, bench, false, 0.0, "") }
}
