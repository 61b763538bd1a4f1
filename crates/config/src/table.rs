//! The table itself. One row per setting, in the order of the reference page.

use std::time::Duration;

use breakwater_proto::QoS;
use breakwater_router::Strategy;
use breakwater_session::{Limits, QueueFull};
use breakwater_shard::Durability;

use crate::listener::{VERSION_WORDS, versions};
use crate::rules;
use crate::setting::Store;
use crate::{Applies, Kind, OnRebind, Resolved, Setting, Value, WhenUnavailable};
use Applies::{Live, NewConnections, Restart};

const STRATEGIES: [(&str, Strategy); 7] = [
    ("random", Strategy::Random),
    ("round_robin", Strategy::RoundRobin),
    ("round_robin_per_group", Strategy::RoundRobinPerGroup),
    ("sticky", Strategy::Sticky),
    ("local", Strategy::Local),
    ("hash_topic", Strategy::HashTopic),
    ("hash_clientid", Strategy::HashClientId),
];

/// Largest packet that the wire format allows: 4 length bytes of 7 bits, and the first bytes.
const PACKET_MAX: u64 = 268_435_455 + 5;

/// Session expiry that never comes, as MQTT 5.0 writes it.
const NEVER: u64 = u32::MAX as u64;

const fn words<T, const N: usize>(table: &[(&'static str, T); N]) -> [&'static str; N] {
    let mut words = [""; N];
    let mut at = 0;
    while at < N {
        words[at] = table[at].0;
        at += 1;
    }
    words
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count { min, max }
}

const fn bytes(min: u64, max: u64) -> Kind {
    Kind::Bytes { min, max }
}

/// Bounds in seconds.
const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Duration { min_ms: min * 1000, max_ms: max * 1000 }
}

/// The whole seconds of a duration.
fn secs(value: &Value) -> u64 {
    value.number().div_ceil(1000)
}

fn millis32(value: &Value) -> u32 {
    u32::try_from(value.number()).unwrap_or(u32::MAX)
}

macro_rules! table {
    ($($key:literal, $kind:expr, $(word $word:literal = $special:expr,)? $default:literal, $applies:expr, $meaning:literal,
       $place:ident |$to:ident, $value:ident| $store:expr;)*) => {
        /// Every setting.
        pub const TABLE: &[Setting] = &[$(Setting {
            key: $key,
            kind: $kind,
            word: table!(@word $($word, $special)?),
            default: $default,
            applies: $applies,
            meaning: $meaning,
            store: table!(@store $place, $to, $value, $store),
        }),*];
    };
    (@store limits, $to:ident, $value:ident, $store:expr) => { Store::Limits(|$to: &mut Limits, $value: &Value| $store) };
    (@store durability, $to:ident, $value:ident, $store:expr) => {
        Store::Durability(|$to: &mut Durability, $value: &Value| $store)
    };
    (@store node, $to:ident, $value:ident, $store:expr) => {
        Store::Node(|$to: &mut Resolved, $value: &Value| { $store; Ok(()) })
    };
    (@word) => { None };
    (@word $word:literal, $special:expr) => { Some(($word, $special)) };
}

table! {
"mqtt.max_packet_size", bytes(256, PACKET_MAX), "1MB", NewConnections,
    "Largest packet that a client may send. A 5.0 client is told.",
    limits |limits, value| limits.packet_bytes_max = value.number() as u32;
"mqtt.max_packet_size_connect", bytes(256, PACKET_MAX), "64KB", NewConnections,
    "Largest packet before the client is let in. Never above `mqtt.max_packet_size`.",
    limits |limits, value| limits.connect_bytes_max = value.number() as u32;
"mqtt.connect_timeout", seconds(1, 3600), "10s", NewConnections,
    "A connection that has not become a client by then is closed.",
    limits |limits, value| limits.connect_timeout_ms = millis32(value);
"mqtt.versions", Kind::Several(&VERSION_WORDS), "3.1,3.1.1,5.0", NewConnections,
    "Protocol versions that may connect.",
    limits |limits, value| limits.versions = versions(value);
"mqtt.max_clientid_len", count(1, 65_535), "256", NewConnections,
    "Longest client identifier, in bytes.",
    limits |limits, value| limits.client_id_bytes_max = value.number() as u16;
"mqtt.max_clientid_len_v31", count(1, 65_535), "23", NewConnections,
    "The same for MQTT 3.1, whose text allows 23 bytes; many of its clients send more.",
    limits |limits, value| limits.v31_client_id_bytes_max = value.number() as u16;
"mqtt.allow_empty_clientid", Kind::Flag, "true", NewConnections,
    "Give a name to clients that bring none (3.1.1 with clean session, and 5.0).",
    limits |limits, value| limits.allow_empty_client_id = value.number() != 0;
"mqtt.max_topic_levels", count(1, 32_768), "128", NewConnections,
    "Most levels in a topic or filter.",
    limits |limits, value| limits.topic.levels_max = value.number() as u16;
"mqtt.max_topic_length", bytes(1, 65_535), "4KB", NewConnections,
    "Longest topic or filter.",
    limits |limits, value| limits.topic.bytes_max = value.number() as u16;
"mqtt.max_topic_alias", count(0, 65_535), "16", NewConnections,
    "Topic aliases that a 5.0 client may register with the broker; 0 for none.",
    limits |limits, value| limits.topic_alias_in_max = value.number() as u16;
"mqtt.max_topic_alias_out", count(0, 65_535), "16", NewConnections,
    "Topic aliases that the broker registers with one 5.0 client, if the client allows as many.",
    limits |limits, value| limits.topic_alias_out_max = value.number() as u16;
"mqtt.receive_maximum", count(1, 65_535), "1024", NewConnections,
    "QoS 1 and 2 messages that a 5.0 client may have under way to the broker. The client is told.",
    limits |limits, value| limits.receive_maximum = value.number() as u16;
"mqtt.max_awaiting_rel", count(1, 65_535), "4096", NewConnections,
    "The same for 3.x clients, which can't be told: one that goes beyond is disconnected.",
    limits |limits, value| limits.awaiting_release_max = value.number() as u16;
"mqtt.max_inflight", count(1, 65_535), "32", NewConnections,
    "QoS 1 and 2 messages under way to one client. A 5.0 client may ask for fewer.",
    limits |limits, value| limits.inflight_max = value.number() as u16;
"mqtt.max_inflight_bytes", bytes(1, u32::MAX as u64), "4MB", NewConnections,
    "Bytes of QoS 1 and 2 messages under way to one client: above it the next one waits. One message may always go.",
    limits |limits, value| limits.inflight_bytes_max = value.number() as u32;
"mqtt.max_subscriptions", count(1, NEVER), "1000", NewConnections,
    "Subscriptions of one client.",
    limits |limits, value| limits.subscriptions_max = value.number() as u32;
"mqtt.max_filters_per_subscribe", count(1, 65_535), "100", NewConnections,
    "Filters in one SUBSCRIBE or UNSUBSCRIBE.",
    limits |limits, value| limits.filters_per_subscribe_max = value.number() as u16;
"mqtt.max_user_properties", count(0, 65_535), "128", NewConnections,
    "User properties in one packet.",
    limits |limits, value| limits.user_properties_max = value.number() as u16;
"mqtt.max_qos", count(0, 2), "2", NewConnections,
    "Highest QoS of a publish. Subscriptions are granted no more.",
    limits |limits, value| limits.maximum_qos = QoS::from_bits(value.number() as u8).unwrap_or(QoS::ExactlyOnce);
"mqtt.retain_available", Kind::Flag, "true", NewConnections,
    "Accept retained messages.",
    limits |limits, value| limits.retain_available = value.number() != 0;
"mqtt.wildcard_subscription", Kind::Flag, "true", NewConnections,
    "Accept filters with `+` or `#`.",
    limits |limits, value| limits.wildcard_available = value.number() != 0;
"mqtt.shared_subscription", Kind::Flag, "true", NewConnections,
    "Accept `$share/group/filter`.",
    limits |limits, value| limits.shared_available = value.number() != 0;
"mqtt.exclusive_subscription", Kind::Flag, "false", NewConnections,
    "Accept `$exclusive/filter`: one session of the broker at a time may have it, others are refused.",
    limits |limits, value| limits.exclusive_available = value.number() != 0;
"mqtt.subscription_identifiers", Kind::Flag, "true", NewConnections,
    "Accept subscription identifiers.",
    limits |limits, value| limits.subscription_ids_available = value.number() != 0;
"mqtt.server_keepalive", seconds(1, 65_535), word "client" = 0, "client", NewConnections,
    "Keep alive that 5.0 clients must use instead of their own.",
    limits |limits, value| limits.server_keep_alive_s = Some(secs(value) as u16).filter(|seconds| *seconds > 0);
"mqtt.max_keepalive", seconds(1, 65_535), "65535s", NewConnections,
    "A 5.0 client that asks for a longer keep alive is given this one; at the default, none is.",
    limits |limits, value| limits.keep_alive_max_s = secs(value) as u16;
"mqtt.keepalive_multiplier", Kind::Factor { min: 100, max: 1000 }, "1.5", NewConnections,
    "Silence after which a client is gone, as a multiple of its keep alive.",
    limits |limits, value| limits.keep_alive_percent = value.number() as u16;
"mqtt.max_message_expiry", seconds(1, NEVER), word "none" = 0, "none", NewConnections,
    "Longest life of a message; also given to messages that name none.",
    limits |limits, value| limits.message_expiry_max_s = Some(secs(value) as u32).filter(|seconds| *seconds > 0);
"mqtt.response_information", Kind::Text { bytes_max: 4096 }, "", NewConnections,
    "Base of response topics, told to 5.0 clients that ask for it.",
    limits |limits, value| limits.response_information = (!value.text().is_empty()).then(|| value.text().into());

"session.expiry_default", seconds(0, NEVER), word "never" = NEVER * 1000, "2h", NewConnections,
    "How long the session of a 3.x client with clean session 0 outlives its connection.",
    limits |limits, value| limits.session_expiry_default_s = secs(value) as u32;
"session.expiry_max", seconds(0, NEVER), word "never" = NEVER * 1000, "7d", NewConnections,
    "Longest session expiry that a 5.0 client may ask for; it is told when it gets less.",
    limits |limits, value| limits.session_expiry_max_s = secs(value) as u32;

"queue.max_messages", count(0, NEVER), "10000", NewConnections,
    "Messages that wait for one slow or offline client.",
    limits |limits, value| limits.queue_messages_max = value.number() as u32;
"queue.max_bytes", bytes(0, NEVER), "8MB", NewConnections,
    "Bytes that wait for one slow or offline client.",
    limits |limits, value| limits.queue_bytes_max = value.number() as u32;
"queue.max_age", seconds(1, NEVER), word "none" = 0, "none", NewConnections,
    "A message that has waited for a client for longer is dropped when its turn comes.",
    limits |limits, value| limits.queue_age_max_s = secs(value) as u32;
"queue.store_qos0", Kind::Flag, "false", NewConnections,
    "Keep QoS 0 messages for offline clients too.",
    limits |limits, value| limits.queue_qos0 = value.number() != 0;
"queue.when_full", Kind::Choice(&["drop_oldest", "drop_newest", "refuse"]), "drop_oldest", NewConnections,
    "Which message goes when a queue is full. With `refuse` a QoS 1 or 2 message of a 5.0 client is refused with Quota exceeded, and nobody \
     gets it, if a session that outlives its connection wants it and has a full queue; [Limits](limits.md#when-a-queue-is-full) has more.",
    limits |limits, value| {
        limits.queue_full = [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Refuse][(value.number() as usize).min(2)];
    };

"retained.max_messages", count(0, NEVER), "1000000", Restart,
    "Retained messages, all told. New topics beyond it are not retained.",
    node |to, value| to.router.retained.count_max = value.number();
"retained.max_bytes", bytes(0, 1 << 50), "512MB", Restart,
    "Bytes of retained messages, all told.",
    node |to, value| to.router.retained.bytes_max = value.number();
"retained.max_payload", bytes(0, PACKET_MAX), "1MB", Restart,
    "Largest payload that is retained.",
    node |to, value| to.router.retained.payload_max = value.number() as u32;
"retained.expiry", seconds(1, NEVER), word "none" = 0, "none", Live,
    "Life of retained messages that name none and that no rule of `retained.expiry_rules` is for. Counts for what is retained from \
     then on.",
    node |to, value| to.retained.default_s = Some(secs(value) as u32).filter(|seconds| *seconds > 0);
"retained.expiry_rules", Kind::Tables(&["filter", "expiry"]), "", Live,
    "Longest life of retained messages by their topics, as sections `[[retained.expiry_rules]]`: the first one whose `filter` matches \
     counts, and no message of its topics is retained for longer than `expiry`. At most 256.",
    node |to, value| to.retained.rules = rules::expiries(value)?;
"retained.per_turn", count(1, 1_000_000), "256", Restart,
    "Retained messages sent to one new subscriber before others get their turn.",
    node |to, value| to.shard.retained_per_turn = value.number() as u32;

"delayed.max_messages", count(0, NEVER), "100000", Restart,
    "Messages to `$delayed/SECONDS/TOPIC` that wait to be published, all told; beyond it they are refused. 0: such topics are \
     ordinary ones.",
    node |to, value| to.shard.delayed_max = value.number();
"delayed.max_bytes", bytes(0, 1 << 50), "128MB", Restart,
    "Bytes of them, all told.",
    node |to, value| to.shard.delayed_bytes_max = value.number();

"replay.rules", Kind::Tables(&["filter", "max_age", "max_messages", "max_bytes"]), "", Live,
    "What is kept for clients that subscribe to `$replay/SECONDS/FILTER`, as sections `[[replay.rules]]`: messages to the topics that \
     `filter` matches, those of the last `max_age` (1h), of these the last `max_messages` (100000), in at most `max_bytes` (256MB). At most 64. \
     What was kept for a rule that is taken away is gone. See [topics.md](topics.md#what-was-published-before).",
    node |to, value| to.replay = rules::replays(value)?;

"store.durability", Kind::Choice(&["fsync", "os", "memory"]), "fsync", NewConnections,
    "What is true of a message, a session or a subscription before it is acknowledged: the disk has it, or the operating system has it (a power \
     cut may take the last seconds). With `memory` nothing of it outlasts the process. A zone may have its own: [Store](store.md#zones) says whose \
     counts. If nothing outlasted the process so far, a change takes a restart.",
    durability |durability, value| *durability = [Durability::Fsync, Durability::Os, Durability::Memory][(value.number() as usize).min(2)];
"store.commit_delay", Kind::Duration { min_ms: 0, max_ms: 1000 }, "0ms", Restart,
    "How long the first change waits for others, so that one write and one sync do for more of them. What comes while the disk \
     syncs goes together anyway.",
    node |to, value| to.store.commit_delay_ms = value.number();
"store.segment_size", bytes(1 << 20, 1 << 30), "64MB", Restart,
    "Length from which a file of the log takes nothing more.",
    node |to, value| to.store.segment_bytes = value.number();
"store.memory", bytes(1 << 20, 16 << 30), "32MB", Restart,
    "Memory for changes that are in the log and not in the index yet. At twice that nothing more is taken.",
    node |to, value| to.store.memory_bytes = value.number();
"store.cache", bytes(1 << 20, 64 << 30), "32MB", Restart,
    "Memory for what the index has read.",
    node |to, value| to.store.cache_bytes = value.number();
"store.max_waiting", bytes(1 << 20, 16 << 30), "64MB", Restart,
    "Bytes that may wait to be written. What comes on top of that is refused.",
    node |to, value| to.store.waiting_bytes = value.number();

"rewrite.rules", Kind::Tables(&["action", "source", "expression", "destination"]), "", Live,
    "Rules that rewrite topics, as sections `[[rewrite.rules]]`: `action` is `publish`, `subscribe` or `all` (the default), `source` a \
     filter of the topics that it is for, `expression` a regular expression that takes them apart, and `destination` what they \
     become: with `$1` for what the first group has matched, `%c` for the client identifier, `%u` for the user name and `%h` for the \
     address. At most 256; [Topics](topics.md) has more.",
    node |to, value| to.terms.rewrite = rules::rewrite(value)?;

"auto_subscribe.topics", Kind::Tables(&["topic", "qos", "no_local", "retain_as_published", "retain_handling"]), "", NewConnections,
    "What every client is subscribed to when it connects, as sections `[[auto_subscribe.topics]]`: `topic` is a filter, with `%c` for the \
     client identifier, `%u` for the user name and `%h` for the address; `qos`, `no_local`, `retain_as_published` and `retain_handling` \
     are as in SUBSCRIBE, 0 and false unless they are given. At most 64; [Topics](topics.md) has more.",
    node |to, value| to.terms.auto_subscribe = rules::auto_subscribe(value)?;

"shared.strategy", Kind::Choice(&words(&STRATEGIES)), "round_robin", Restart,
    "Which member of a shared subscription gets a message. `round_robin` is exact among the publishers of one shard, \
     `round_robin_per_group` among all at the price of a shared counter; `local` prefers members on the publisher's shard.",
    node |to, value| to.router.strategy = STRATEGIES.get(value.number() as usize).map_or(Strategy::RoundRobin, |row| row.1);

"authentication.allow_anonymous_loopback", Kind::Flag, "true", Restart,
    "Let clients in that connect straight from this machine and give no user name. Not what comes through a proxy.",
    node |to, value| to.authentication.allow_anonymous_loopback = value.number() != 0;
"authentication.hashing_threads", count(1, 64), word "auto" = 0, "auto", Restart,
    "Threads that check passwords, each with 19 MiB while it has work; `auto` is a quarter of the cores, at least 1 and at \
     most 4.",
    node |to, value| to.authentication.hashing_threads = Some(value.number() as u16).filter(|count| *count > 0);
"authentication.remembered_passwords", count(0, 10_000_000), "100000", Restart,
    "Users whose password was right once and is known again without hashing it; about 100 bytes each, 0 for none.",
    node |to, value| to.authentication.remembered_max = value.number() as u32;

"will.on_shutdown", Kind::Flag, "true", Restart,
    "Publish the wills of connected clients when the broker is told to stop.",
    node |to, value| to.shard.wills_on_shutdown = value.number() != 0;

"sys.interval", seconds(1, 86_400), word "never" = 0, "60s", Restart,
    "Time between two publications of `$SYS`.",
    node |to, value| to.shard.sys_interval_s = secs(value) as u32;
"sys.for_all", Kind::Flag, "false", Restart,
    "Let clients that don't come from this machine read `$SYS`.",
    node |to, value| to.shard.sys_for_all = value.number() != 0;
"sys.node", Kind::Text { bytes_max: 128 }, "breakwater", Restart,
    "Name of this node in `$SYS`.",
    node |to, value| to.shard.node = value.text().into();

"limits.connections", count(1, NEVER), "1000000", Restart,
    "Connections, all told. The limit of open files of the process sets a lower one.",
    node |to, value| to.net.connections_max = value.number() as usize;
"limits.memory", bytes(1 << 20, 1 << 50), "1GB", Restart,
    "Bytes of queues and buffers in one shard: above it senders are slowed, further above it new clients are refused.",
    node |to, value| to.shard.memory_bytes = value.number();
"limits.queued_messages", count(1, NEVER), word "none" = 0, "none", Restart,
    "Messages that wait in the queues of all clients together. When as many wait, `queue.when_full` says which of a client's goes, or who is refused.",
    node |to, value| to.shard.queue_totals.messages_max = value.number();
"limits.queued_bytes", bytes(1, 1 << 50), word "none" = 0, "none", Restart,
    "Bytes of them.",
    node |to, value| to.shard.queue_totals.bytes_max = value.number();
"limits.queued_messages_per_user", count(1, NEVER), word "none" = 0, "none", Restart,
    "The same for the queues of all clients of one user name. Clients without one have no such bound.",
    node |to, value| to.shard.queue_totals.user_messages_max = value.number();
"limits.queued_bytes_per_user", bytes(1, 1 << 50), word "none" = 0, "none", Restart,
    "Bytes of them.",
    node |to, value| to.shard.queue_totals.user_bytes_max = value.number();
"limits.out_buffer", bytes(4096, 1 << 30), "1MB", Restart,
    "Unsent bytes to one client above which its QoS 0 is dropped and its QoS 1 and 2 waits in the queue.",
    node |to, value| to.shard.out_buffer_bytes = value.number() as u32;
"limits.write_stall", seconds(1, 3600), "10s", NewConnections,
    "A client that takes no byte for so long while bytes wait is disconnected.",
    node |to, value| to.shard.write_stall_ms = millis32(value);
"limits.mailbox", bytes(64 << 10, 1 << 30), "4MB", Restart,
    "Bytes on their way from one shard to another above which the clients that send them are slowed.",
    node |to, value| to.shard.mailbox_bytes = value.number() as u32;
"limits.drain", seconds(0, 3600), "5s", Live,
    "Time that a stop may take to bring out what is buffered.",
    node |to, value| to.drain = Duration::from_millis(value.number());

"net.backlog", count(1, 65_535), "4096", Restart,
    "Connections that the kernel holds until they are accepted (Linux: see also `net.core.somaxconn`).",
    node |to, value| to.net.backlog = value.number() as i32;
"net.nodelay", Kind::Flag, "true", Restart,
    "Send small packets at once (TCP_NODELAY).",
    node |to, value| to.net.nodelay = value.number() != 0;
"net.accepts_per_turn", count(1, 65_536), "64", Restart,
    "Connections that a shard accepts before it turns to its clients again.",
    node |to, value| to.net.accepts_per_turn = value.number() as u32;

"turn.read_bytes", bytes(1024, 1 << 30), "64KB", NewConnections,
    "Bytes read from one client before others get their turn.",
    node |to, value| to.shard.turn.read_bytes = value.number() as u32;
"turn.deliveries", count(1, NEVER), "16384", Restart,
    "Deliveries that one client may cause before others get their turn.",
    node |to, value| to.shard.turn.deliveries = value.number() as u32;
"turn.appended_bytes", bytes(4096, 1 << 30), "4MB", Restart,
    "Bytes that one client's messages may put into buffers before others get their turn.",
    node |to, value| to.shard.turn.appended_bytes = value.number() as u32;
"turn.mail_bytes", bytes(4096, 1 << 30), "1MB", Restart,
    "Bytes taken from one neighbour shard before others get their turn.",
    node |to, value| to.shard.turn.mail_bytes = value.number() as u32;
"turn.timers", count(1, NEVER), "4096", Restart,
    "Timers fired in one turn.",
    node |to, value| to.shard.turn.timers = value.number() as u32;

"listeners.defaults", Kind::Flag, "true", Live,
    "The listeners `tcp.default`, `tls.default`, `ws.default`, `wss.default` and `quic.default` exist without being written down.",
    node |to, value| to.defaults = value.number() != 0;
"listeners.when_unavailable", Kind::Choice(&["stop", "skip"]), "stop", Restart,
    "Whether a start goes on without a listener whose port is taken or whose certificate can't be read.",
    node |to, value| to.when_unavailable = if value.number() == 0 { WhenUnavailable::Stop } else { WhenUnavailable::Skip };

"reload.watch", Kind::Flag, "false", Live,
    "Read the file again when it changes, and apply what it says. Otherwise on SIGHUP.",
    node |to, value| to.reload.watch = value.number() != 0;
"reload.on_rebind", Kind::Choice(&["keep", "drain", "cut"]), "keep", Live,
    "What becomes of the connections of a listener that is removed or gets other sockets: they stay, end over \
     `reload.drain_over`, or end at once.",
    node |to, value| to.reload.on_rebind = [OnRebind::Keep, OnRebind::Drain, OnRebind::Cut][(value.number() as usize).min(2)];
"reload.drain_over", seconds(1, 86_400), "60s", Live,
    "Time over which connections that are drained end bit by bit, so that their clients don't all come back at once.",
    node |to, value| to.reload.drain_over_ms = value.number();
}
