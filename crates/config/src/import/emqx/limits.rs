//! Limits of clients and sessions: `mqtt.*` and `zone.*`.

use super::super::draft::{Amount, Draft};
use super::super::place::Entry;
use super::super::written::{self, Reader};
use Rule::{Flag, Left, Own, Setting, ToDo};

/// Whom a limit concerns.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Scope<'a> {
    /// Every client.
    All,
    /// The clients of a zone.
    Zone(&'a str),
}

impl<'a> Scope<'a> {
    fn zone(self) -> Option<&'a str> {
        match self {
            Scope::All => None,
            Scope::Zone(name) => Some(name),
        }
    }
}

enum Rule {
    /// Our setting, and how the value is read.
    Setting(&'static str, Reader),
    /// Our setting, on or off.
    Flag(&'static str),
    /// It has no counterpart.
    Left(&'static str),
    /// Somebody has to do something.
    ToDo(&'static str),
    /// Its own way.
    Own(fn(&mut Draft, &Entry, Option<&str>)),
}

const ACL: &str = "there is no access control list yet: who has been let in may publish and subscribe to everything";

const RULES: &[(&str, Rule)] = &[
    ("idle_timeout", Setting("mqtt.connect_timeout", written::millis)),
    ("max_packet_size", Setting("mqtt.max_packet_size", written::size)),
    ("max_clientid_len", Setting("mqtt.max_clientid_len", written::count)),
    ("max_topic_levels", Setting("mqtt.max_topic_levels", written::count_or_zero)),
    ("max_qos_allowed", Setting("mqtt.max_qos", written::count)),
    ("max_topic_alias", Setting("mqtt.max_topic_alias", written::count)),
    ("retain_available", Flag("mqtt.retain_available")),
    ("wildcard_subscription", Flag("mqtt.wildcard_subscription")),
    ("shared_subscription", Flag("mqtt.shared_subscription")),
    ("shared_subscription_strategy", Own(strategy)),
    ("shared_subscription_initial_sticky_pick", Left("a sticky group picks its first member at random")),
    ("exclusive_subscription", Flag("mqtt.exclusive_subscription")),
    ("subscription_message_filter", Left("filters on user properties don't exist")),
    ("ignore_loop_deliver", Own(no_local)),
    ("strict_mode", Own(strict)),
    ("response_information", Own(response)),
    ("server_keepalive", Own(keepalive)),
    ("keepalive_backoff", Own(backoff)),
    ("keepalive_multiplier", Own(multiplier)),
    ("keepalive_check_interval", Left("every client's time is watched by itself")),
    ("retry_interval", Left("messages are sent again when a client comes back, never in between: MQTT 5.0 forbids it")),
    ("session_expiry_interval", Setting("session.expiry_default", written::seconds)),
    ("max_session_expiry_interval", Setting("session.expiry_max", written::seconds)),
    ("message_expiry_interval", Setting("mqtt.max_message_expiry", written::seconds)),
    ("max_awaiting_rel", Setting("mqtt.max_awaiting_rel", written::count_or_zero)),
    ("await_rel_timeout", Left("a QoS 2 message waits for its PUBREL as long as its session lives")),
    ("subscription_max_qos_rules", Left("the QoS of subscriptions is bounded by mqtt.max_qos alone")),
    ("max_mqueue_len", Setting("queue.max_messages", written::count_or_zero)),
    ("mqueue_store_qos0", Flag("queue.store_qos0")),
    ("mqueue_priorities", Own(priorities)),
    ("mqueue_default_priority", Left("queues have no priorities: messages leave in the order in which they came")),
    ("max_inflight", Setting("mqtt.max_inflight", written::count_or_zero)),
    ("max_subscriptions", Setting("mqtt.max_subscriptions", written::count_or_zero)),
    ("upgrade_qos", Own(upgrade)),
    ("use_username_as_clientid", Own(user_as_client)),
    ("client_attrs_init", ToDo("clients have no attributes yet")),
    (
        "clientid_override",
        ToDo("a client identifier can come from a certificate (client_id_from of a listener), not from an expression"),
    ),
    ("namespace_as_mountpoint", ToDo("there are no namespaces; a listener can have a mountpoint")),
    ("enable_acl", Left(ACL)),
    ("acl_nomatch", Left(ACL)),
    ("acl_deny_action", Left(ACL)),
    ("enable_ban", Left("there is no list of banned clients yet")),
    ("enable_stats", Left("connections are always counted")),
    (
        "enable_flapping_detect",
        ToDo(
            "clients that come and go are not banned yet; a listener's accept_rate and max_connections_per_address slow them down",
        ),
    ),
    (
        "flapping_detect_policy",
        Left(
            "clients that come and go are not banned yet; a listener's accept_rate and max_connections_per_address slow them down",
        ),
    ),
    (
        "quota.conn_messages_routing",
        ToDo(
            "deliveries have no quota; a listener's messages_rate_in bounds what a client sends, messages_rate_out what it is sent",
        ),
    ),
    (
        "quota.overall_messages_routing",
        ToDo(
            "there is no bound for all clients together; turn.deliveries bounds how long one client keeps others waiting",
        ),
    ),
    ("force_gc_policy", Left("there is no garbage collector")),
    ("force_shutdown_policy", Own(shutdown)),
    (
        "conn_congestion.alarm",
        Left("there are no alarms yet; a client that takes nothing is ended after limits.write_stall"),
    ),
    (
        "conn_congestion.min_alarm_sustain_duration",
        Left("there are no alarms yet; a client that takes nothing is ended after limits.write_stall"),
    ),
    ("latency_samples", Left("latency is not sampled")),
    ("tcp_keepalive", ToDo("say keep_alive on each listener, such as keep_alive = \"60s,10s,5\"")),
];

/// The name of a key and, if there is one, the setting that it becomes.
#[cfg(test)]
pub(in super::super) fn known() -> impl Iterator<Item = (&'static str, Option<&'static str>)> {
    RULES.iter().map(|(name, rule)| match rule {
        Setting(key, _) | Flag(key) => (*name, Some(*key)),
        _ => (*name, None),
    })
}

/// Reads one limit. False if there is none of that name.
pub(in super::super) fn limit(draft: &mut Draft, scope: Scope<'_>, entry: &Entry) -> bool {
    let Some((_, rule)) = RULES.iter().find(|(name, _)| *name == entry.name) else { return false };
    let zone = scope.zone();
    match rule {
        Setting(key, reader) => match reader(&entry.text()) {
            Some(amount) => set(draft, entry, zone, key, &amount),
            None => draft.unreadable(entry.at, &entry.key, "a number, a size or a time"),
        },
        Flag(key) => match entry.flag() {
            Some(on) => set(draft, entry, zone, key, &Amount::Number(u64::from(on))),
            None => draft.unreadable(entry.at, &entry.key, "true or false"),
        },
        Left(reason) => draft.not_mapped(entry.at, &entry.key, *reason),
        ToDo(what) => draft.action(entry.at, &entry.key, *what),
        Own(own) => own(draft, entry, zone),
    }
    true
}

fn set(draft: &mut Draft, entry: &Entry, zone: Option<&str>, key: &str, amount: &Amount) {
    draft.setting(entry.at, &entry.key, zone, key, amount);
}

fn strategy(draft: &mut Draft, entry: &Entry, zone: Option<&str>) {
    let text = entry.text();
    // The old name of one that has two today.
    let word = if text == "hash" { "hash_clientid".to_owned() } else { text };
    set(draft, entry, zone, "shared.strategy", &Amount::Word(word));
}

/// Says nothing of a value that is how it is here, and the given text of any other.
fn unless(draft: &mut Draft, entry: &Entry, same: bool, text: &str) {
    match entry.flag() {
        Some(on) if on == same => draft.mapped(entry.at),
        Some(_) => draft.action(entry.at, &entry.key, text),
        None => draft.unreadable(entry.at, &entry.key, "true or false"),
    }
}

fn no_local(draft: &mut Draft, entry: &Entry, _: Option<&str>) {
    unless(draft, entry, false, "clients get their own messages back unless they ask otherwise (No Local of MQTT 5.0)");
}

fn strict(draft: &mut Draft, entry: &Entry, _: Option<&str>) {
    unless(
        draft,
        entry,
        true,
        "packets are always read strictly: a client that breaks the specification is disconnected, with the reason in the log",
    );
}

fn upgrade(draft: &mut Draft, entry: &Entry, _: Option<&str>) {
    unless(draft, entry, false, "a message is never delivered with a higher QoS than it was published with");
}

fn user_as_client(draft: &mut Draft, entry: &Entry, _: Option<&str>) {
    unless(
        draft,
        entry,
        false,
        "a user name can't stand in for a client identifier; a field of the certificate can (client_id_from of a listener)",
    );
}

fn response(draft: &mut Draft, entry: &Entry, zone: Option<&str>) {
    if entry.text().is_empty() {
        return draft.mapped(entry.at);
    }
    set(draft, entry, zone, "mqtt.response_information", &Amount::Word(entry.text()));
}

fn keepalive(draft: &mut Draft, entry: &Entry, zone: Option<&str>) {
    match entry.text().as_str() {
        "" | "disabled" | "0" => draft.mapped(entry.at),
        text => match written::seconds(text) {
            Some(amount) => set(draft, entry, zone, "mqtt.server_keepalive", &amount),
            None => draft.unreadable(entry.at, &entry.key, "a time in seconds"),
        },
    }
}

fn hundredths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
    let fraction = format!("{:0<2}", fraction.get(..fraction.len().min(2))?);
    written::digits(whole)?.checked_mul(100)?.checked_add(written::digits(&fraction)?)
}

fn factor(draft: &mut Draft, entry: &Entry, zone: Option<&str>, times: u64) {
    match hundredths(&entry.text()).and_then(|number| number.checked_mul(times)) {
        Some(number) => set(draft, entry, zone, "mqtt.keepalive_multiplier", &Amount::Number(number)),
        None => draft.unreadable(entry.at, &entry.key, "a number such as 1.5"),
    }
}

fn multiplier(draft: &mut Draft, entry: &Entry, zone: Option<&str>) {
    factor(draft, entry, zone, 1);
}

/// The old way to say it: two periods of the keep alive times the backoff have to pass.
fn backoff(draft: &mut Draft, entry: &Entry, zone: Option<&str>) {
    factor(draft, entry, zone, 2);
}

fn priorities(draft: &mut Draft, entry: &Entry, _: Option<&str>) {
    match entry.text().as_str() {
        "none" | "disabled" => draft.mapped(entry.at),
        _ => draft.action(
            entry.at,
            &entry.key,
            "queues have no priorities: messages leave in the order in which they came",
        ),
    }
}

fn shutdown(draft: &mut Draft, entry: &Entry, _: Option<&str>) {
    let text = "a client's memory is bounded by queue.max_bytes and limits.out_buffer, and messages beyond are dropped; the client is not ended for it";
    draft.not_mapped(entry.at, &entry.key, text);
}
