//! What of EMQX 5 and 6 has no counterpart here, by the beginning of its keys.

use super::super::Severity;
use Severity::{Action, NotMapped};

const USERS: &str = "users are those of `breakwater users`; other sources of them are not there yet";
const ACL: &str = "there is no access control list yet: who has been let in may publish and subscribe to everything";
const LINKS: &str = "rules, connectors and hooks to other systems are not there yet";
const LOG: &str = "the log goes to the terminal or the journal; its level and form are chosen by `serve --log`";
const ERLANG: &str = "this tunes the Erlang runtime, which is not there";
const CLUSTER: &str = "a node works alone; clusters are not there yet";
const MEMORY: &str = "a client's memory is bounded by queue.max_bytes and limits.out_buffer, that of a shard by limits.memory; clients beyond are refused, not ended";
const LASTING: &str =
    "sessions and subscriptions outlast the process without a setting; messages that wait for them don't yet";
const SCHEMAS: &str = "messages are not checked or changed on their way";
const BANS: &str =
    "clients are not banned yet; a listener's access, accept_rate and max_connections_per_address keep them away";

const FAMILIES: &[(&str, Severity, &str)] = &[
    ("authentication", Action, USERS),
    ("authorization", Action, ACL),
    ("dashboard", NotMapped, "there is no dashboard yet, nor a password of one to guess"),
    (
        "api_key",
        NotMapped,
        "there is no HTTP interface yet; `breakwater listeners` and `breakwater users` talk to the running node",
    ),
    ("node", NotMapped, ERLANG),
    ("cluster", NotMapped, CLUSTER),
    ("rpc", NotMapped, CLUSTER),
    ("log", NotMapped, LOG),
    ("license", NotMapped, "no licence is needed"),
    ("broker.shared_subscription_group", Action, "one strategy counts for all shared groups: shared.strategy"),
    ("broker", NotMapped, "this tunes tables that are not there"),
    ("sys_topics.sys_heartbeat_interval", NotMapped, "$SYS has one interval for all: sys.interval"),
    ("sys_topics.sys_event_messages", Action, "$SYS tells no events of clients yet"),
    ("sys_topics", NotMapped, "$SYS has one interval for all: sys.interval"),
    (
        "retainer.backend.storage_type",
        Action,
        "retained messages are kept on the disk too; store.durability = \"memory\" keeps nothing there",
    ),
    ("retainer.msg_clear_interval", NotMapped, "what has expired is never sent, and its memory comes back by itself"),
    (
        "retainer.stop_publish_clear_msg",
        NotMapped,
        "an empty retained message clears the topic and is published too, as the specification has it",
    ),
    (
        "retainer.delivery_rate",
        NotMapped,
        "retained messages go out in portions of retained.per_turn, so that others get their turn",
    ),
    (
        "retainer",
        NotMapped,
        "retained messages go out in portions of retained.per_turn; their number and size are bounded by retained.*",
    ),
    ("force_shutdown", NotMapped, MEMORY),
    ("overload_protection", NotMapped, MEMORY),
    ("force_gc", NotMapped, "there is no garbage collector"),
    (
        "conn_congestion",
        NotMapped,
        "there are no alarms yet; a client that takes nothing is ended after limits.write_stall",
    ),
    ("flapping_detect", NotMapped, BANS),
    ("banned", NotMapped, BANS),
    ("stats", NotMapped, "connections are always counted"),
    ("sysmon", NotMapped, ERLANG),
    ("alarm", NotMapped, "there are no alarms yet"),
    ("durable_sessions", Action, LASTING),
    ("durable_storage", NotMapped, LASTING),
    ("session_persistence", Action, LASTING),
    ("durable_timers", NotMapped, LASTING),
    ("trace", NotMapped, "there are no traces of single clients yet; `serve --log debug` says more of all"),
    ("crl_cache", NotMapped, "revocation lists are read from files when they change"),
    ("config_backup_interval", NotMapped, "the last 20 versions of a changed configuration are kept"),
    (
        "limiter",
        Action,
        "limits of this old form are not read: say them as messages_rate_in, bytes_rate_in and accept_rate of listeners",
    ),
    ("delayed", Action, "of messages that are published later only the number can be bounded: delayed.max_messages"),
    ("rewrite", Action, "rules for topics are not understood in this form; write them as [[rewrite.rules]] by hand"),
    (
        "auto_subscribe",
        Action,
        "topics for all clients are not understood in this form; write them as [[auto_subscribe.topics]] by hand",
    ),
    ("topic_metrics", NotMapped, "topics are not measured one by one yet"),
    ("slow_subs", NotMapped, "slow subscribers are not listed yet"),
    ("telemetry", NotMapped, "nothing is sent home, so nothing can be turned off"),
    ("prometheus", NotMapped, "measurements are not exported yet"),
    ("opentelemetry", NotMapped, "measurements are not exported yet"),
    ("dynatrace", NotMapped, "measurements are not exported yet"),
    ("psk_authentication", Action, "keys shared beforehand (PSK) are not spoken by the TLS library; use certificates"),
    ("rule_engine", Action, LINKS),
    ("bridges", Action, LINKS),
    ("connectors", Action, LINKS),
    ("actions", Action, LINKS),
    ("sources", Action, LINKS),
    ("exhook", Action, LINKS),
    ("plugins", NotMapped, "plugins of EMQX can't be loaded"),
    ("gateway", Action, "only MQTT is spoken, no other protocols"),
    ("schema_registry", Action, SCHEMAS),
    ("schema_validation", Action, SCHEMAS),
    ("message_transformation", Action, SCHEMAS),
    ("file_transfer", Action, "files are not taken in: a topic that starts with $file/ is an ordinary one"),
    ("multi_tenancy", Action, "there are no namespaces; a listener can have a mountpoint"),
    ("namespaces", Action, "there are no namespaces; a listener can have a mountpoint"),
    ("mq", Action, "queues that outlive their clients are not there yet"),
    ("queues", Action, "queues that outlive their clients are not there yet"),
    ("streams", Action, "streams are not there yet"),
    ("ai", Action, LINKS),
    ("a2a_registry", NotMapped, LINKS),
    ("gcp_devices", Action, USERS),
    ("gcp_device", Action, USERS),
];

/// What is said of a path that has no counterpart; nothing if the family is not known.
pub(super) fn of(path: &str) -> Option<(Severity, &'static str)> {
    let inside = |start: &str| path.strip_prefix(start).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    FAMILIES.iter().find(|(start, ..)| inside(start)).map(|(_, severity, reason)| (*severity, *reason))
}

/// The families, for tests.
#[cfg(test)]
pub(in super::super) fn all() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(start, ..)| *start)
}
