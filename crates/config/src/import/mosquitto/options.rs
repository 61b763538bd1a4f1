//! Every option of Mosquitto 2.0 and 2.1.

use super::super::draft::{Amount, Draft};
use super::super::place::{Entry, Rule};
use super::super::written::{self, Reader};
use super::listener;
use Take::{Bridge, Flag, Listener, None as Nothing, Opens, Own, Port, Security, Setting, ToDo};

pub(super) enum Take {
    /// Our setting, and how the value is read.
    Setting(&'static str, Reader),
    /// Our setting, on or off.
    Flag(&'static str),
    /// It has no counterpart.
    None(&'static str),
    /// Somebody has to do something.
    ToDo(&'static str),
    /// Its own way.
    Own(fn(&mut Draft, &Entry)),
    /// Starts a listener.
    Opens,
    /// The port of the listener that needs no start.
    Port,
    /// Said of the listener before it.
    Listener(Rule),
    /// Said of the listener before it, or of all.
    Security,
    /// Said of a bridge.
    Bridge,
}

pub(super) const BRIDGES: &str = "bridges to other brokers are not there yet";
const ACL: &str = "there is no access control list yet: who has been let in may publish and subscribe to everything";
const PLUGINS: &str = "plugins of Mosquitto can't be loaded; users are those of `breakwater users`";
const LASTING: &str = "retained messages, sessions and subscriptions outlast the process, in store/ of the data directory; queues don't yet";
const LOG: &str = "the log goes to the terminal or the journal; its level and form are chosen by `serve --log`";
const PSK: &str = "keys shared beforehand (PSK) are not spoken by the TLS library; use certificates";
const ENGINE: &str = "keys are read from files; engines and hardware modules are not used";

const OPTIONS: &[(&str, Take)] = &[
    ("listener", Opens),
    ("port", Port),
    ("include_dir", Nothing("only the main file may include others")),
    ("per_listener_settings", Own(settled)),
    // Who may come in.
    ("allow_anonymous", Security),
    ("listener_allow_anonymous", Listener(Rule::By(listener::anonymous))),
    ("password_file", Security),
    ("acl_file", Security),
    ("psk_file", Security),
    ("plugin", Security),
    ("plugin_load", ToDo(PLUGINS)),
    ("plugin_use", ToDo(PLUGINS)),
    ("global_plugin", ToDo(PLUGINS)),
    ("auth_plugin", Security),
    ("auth_plugin_deny_special_chars", Nothing(PLUGINS)),
    ("allow_zero_length_clientid", Own(empty_client_id)),
    ("auto_id_prefix", Nothing("clients that bring no identifier are given one that is not chosen by a prefix")),
    (
        "listener_auto_id_prefix",
        Nothing("clients that bring no identifier are given one that is not chosen by a prefix"),
    ),
    ("clientid_prefixes", ToDo("client identifiers are not checked; who a client is, its name and password say")),
    ("check_retain_source", Nothing(ACL)),
    // What clients may do.
    ("allow_duplicate_messages", Own(duplicates)),
    ("max_inflight_bytes", Own(inflight_bytes)),
    ("max_inflight_messages", Setting("mqtt.max_inflight", written::count_or_zero)),
    ("max_keepalive", Own(keepalive)),
    ("max_packet_size", Setting("mqtt.max_packet_size", written::size)),
    ("message_size_limit", Own(message_size)),
    ("max_queued_bytes", Own(queued_bytes)),
    ("max_queued_messages", Setting("queue.max_messages", written::count_or_zero)),
    ("queue_qos0_messages", Flag("queue.store_qos0")),
    ("persistent_client_expiration", Own(expiration)),
    ("retain_available", Flag("mqtt.retain_available")),
    (
        "retain_expiry_interval",
        ToDo("what has expired goes by itself; retained.expiry gives a life to retained messages that name none"),
    ),
    ("upgrade_outgoing_qos", Own(upgrade)),
    ("retry_interval", Nothing("messages are sent again when a client comes back, never in between")),
    // The node.
    (
        "memory_limit",
        ToDo(
            "limits.memory bounds the queues and buffers of one shard, of which there is one per core: set it to your limit divided by the cores",
        ),
    ),
    ("global_max_connections", Own(connections)),
    (
        "global_max_clients",
        ToDo(
            "sessions are not counted against a bound; limits.connections bounds connections, limits.memory what sessions hold",
        ),
    ),
    ("packet_buffer_size", Nothing("buffers are shared; there is nothing to set")),
    ("set_tcp_nodelay", Flag("net.nodelay")),
    ("sys_interval", Own(sys)),
    (
        "enable_control_api",
        Nothing("`breakwater listeners` and `breakwater users` talk to the running node, by a local socket"),
    ),
    ("user", Nothing("the process never changes its user: start it as the one it has to be (systemd: User=)")),
    ("pid_file", Nothing("no such file is written; systemd knows the process, others take the shell's $!")),
    ("connection_messages", Nothing(LOG)),
    ("log_dest", Nothing(LOG)),
    ("log_facility", Nothing(LOG)),
    ("log_timestamp", Nothing(LOG)),
    ("log_timestamp_format", Nothing(LOG)),
    ("log_type", Nothing(LOG)),
    ("websockets_log_level", Nothing(LOG)),
    ("persistence", Own(persistence)),
    ("persistence_file", Nothing(LASTING)),
    ("persistence_location", Nothing(LASTING)),
    ("retained_persistence", Own(retained_persistence)),
    ("autosave_interval", Nothing(LASTING)),
    ("autosave_on_changes", Nothing(LASTING)),
    // Listeners.
    ("bind_address", Listener(Rule::Elsewhere)),
    ("bind_interface", Listener(Rule::Elsewhere)),
    ("socket_domain", Listener(Rule::Elsewhere)),
    ("protocol", Listener(Rule::Elsewhere)),
    ("http_dir", Listener(Rule::ToDo("files are not served; let a web server do that"))),
    ("max_connections", Listener(Rule::By(listener::connections))),
    ("max_qos", Listener(Rule::By(listener::max_qos))),
    ("maximum_qos", Listener(Rule::By(listener::max_qos))),
    ("max_topic_alias", Listener(Rule::By(listener::aliases_in))),
    ("max_topic_alias_broker", Listener(Rule::By(listener::aliases_out))),
    ("mount_point", Listener(Rule::Text("mountpoint"))),
    (
        "use_username_as_clientid",
        Listener(Rule::Always(
            &["false"],
            "a user name can't stand in for a client identifier; a field of the certificate can (tls.client_id_from)",
        )),
    ),
    ("accept_protocol_versions", Listener(Rule::By(listener::versions))),
    ("websockets_headers_size", Listener(Rule::None("the head of a request has a fixed bound"))),
    ("websockets_origin", Listener(Rule::By(listener::origin))),
    ("enable_proxy_protocol", Listener(Rule::By(listener::proxy))),
    (
        "proxy_protocol_v2_require_tls",
        Listener(Rule::ToDo("what a proxy says about TLS is not read; let the proxy itself insist on TLS")),
    ),
    // TLS of listeners.
    ("cafile", Listener(Rule::Elsewhere)),
    (
        "capath",
        Listener(Rule::ToDo(
            "folders of authorities are not read: name their files in client_authorities of [listener] (.tls)",
        )),
    ),
    ("certfile", Listener(Rule::Text("tls.certificate"))),
    ("keyfile", Listener(Rule::Text("tls.key"))),
    ("ciphers", Listener(Rule::Elsewhere)),
    ("ciphers_tls1.3", Listener(Rule::Elsewhere)),
    ("crlfile", Listener(Rule::By(listener::revocation))),
    ("dhparamfile", Listener(Rule::None("keys are agreed on by elliptic curves; no parameters are needed"))),
    ("require_certificate", Listener(Rule::By(listener::require))),
    ("tls_version", Listener(Rule::By(listener::tls_version))),
    ("use_identity_as_username", Listener(Rule::By(listener::identity))),
    ("use_subject_as_username", Listener(Rule::By(listener::subject))),
    (
        "disable_client_cert_date_checks",
        Listener(Rule::Always(&["false"], "a client certificate that has run out is never let in: renew it")),
    ),
    ("psk_hint", Listener(Rule::ToDo(PSK))),
    ("tls_engine", Listener(Rule::ToDo(ENGINE))),
    ("tls_engine_kpass_sha1", Listener(Rule::ToDo(ENGINE))),
    ("tls_keyform", Listener(Rule::Always(&["pem"], ENGINE))),
    // Bridges.
    ("connection", Bridge),
    ("address", Bridge),
    ("addresses", Bridge),
    ("bridge_alpn", Bridge),
    ("bridge_attempt_unsubscribe", Bridge),
    ("bridge_bind_address", Bridge),
    ("bridge_cafile", Bridge),
    ("bridge_capath", Bridge),
    ("bridge_certfile", Bridge),
    ("bridge_ciphers", Bridge),
    ("bridge_ciphers_tls1.3", Bridge),
    ("bridge_identity", Bridge),
    ("bridge_insecure", Bridge),
    ("bridge_keyfile", Bridge),
    ("bridge_max_packet_size", Bridge),
    ("bridge_max_topic_alias", Bridge),
    ("bridge_outgoing_retain", Bridge),
    ("bridge_protocol_version", Bridge),
    ("bridge_psk", Bridge),
    ("bridge_receive_maximum", Bridge),
    ("bridge_reload_type", Bridge),
    ("bridge_require_ocsp", Bridge),
    ("bridge_session_expiry_interval", Bridge),
    ("bridge_tcp_keepalive", Bridge),
    ("bridge_tcp_user_timeout", Bridge),
    ("bridge_tls_use_os_certs", Bridge),
    ("bridge_tls_version", Bridge),
    ("cleansession", Bridge),
    ("clientid", Bridge),
    ("idle_timeout", Bridge),
    ("keepalive_interval", Bridge),
    ("local_cleansession", Bridge),
    ("local_clientid", Bridge),
    ("local_password", Bridge),
    ("local_username", Bridge),
    ("notification_topic", Bridge),
    ("notifications", Bridge),
    ("notifications_local_only", Bridge),
    ("password", Bridge),
    ("remote_clientid", Bridge),
    ("remote_password", Bridge),
    ("remote_username", Bridge),
    ("restart_timeout", Bridge),
    ("round_robin", Bridge),
    ("start_type", Bridge),
    ("threshold", Bridge),
    ("topic", Bridge),
    ("try_private", Bridge),
    ("username", Bridge),
];

/// Options that may stand more than once.
pub(super) const OFTEN: [&str; 9] = [
    "websockets_origin",
    "log_dest",
    "log_type",
    "plugin",
    "plugin_load",
    "plugin_use",
    "global_plugin",
    "auth_plugin",
    "include_dir",
];

/// Options of plugins have names of their own behind these.
const PLUGIN_OPTIONS: [&str; 2] = ["plugin_opt_", "auth_opt_"];
const OF_PLUGIN: Take = ToDo(PLUGINS);

pub(super) fn find(name: &str) -> Option<&'static Take> {
    if PLUGIN_OPTIONS.iter().any(|start| name.starts_with(start)) {
        return Some(&OF_PLUGIN);
    }
    OPTIONS.iter().find(|(known, _)| *known == name).map(|(_, take)| take)
}

/// The names of all options.
#[cfg(test)]
pub(in super::super) fn all() -> impl Iterator<Item = &'static str> {
    OPTIONS.iter().map(|(name, _)| *name)
}

/// Takes an option of the whole node.
pub(super) fn apply(draft: &mut Draft, take: &Take, entry: &Entry) {
    match take {
        Setting(key, reader) => match reader(&entry.text()) {
            Some(amount) => draft.setting(entry.at, &entry.key, None, key, &amount),
            None => draft.unreadable(entry.at, &entry.key, "a number"),
        },
        Flag(key) => match entry.flag() {
            Some(on) => draft.setting(entry.at, &entry.key, None, key, &Amount::Number(u64::from(on))),
            None => draft.unreadable(entry.at, &entry.key, "true or false"),
        },
        Nothing(reason) => draft.not_mapped(entry.at, &entry.key, *reason),
        ToDo(what) => draft.action(entry.at, &entry.key, *what),
        Own(own) => own(draft, entry),
        Opens | Port | Listener(_) | Security | Bridge => {}
    }
}

fn number(draft: &mut Draft, entry: &Entry) -> Option<u64> {
    let number = written::digits(&entry.text());
    if number.is_none() {
        draft.unreadable(entry.at, &entry.key, "a number");
    }
    number
}

fn settled(draft: &mut Draft, entry: &Entry) {
    match entry.flag() {
        Some(_) => draft.mapped(entry.at),
        None => draft.unreadable(entry.at, &entry.key, "true or false"),
    }
}

fn empty_client_id(draft: &mut Draft, entry: &Entry) {
    apply(draft, &Flag("mqtt.allow_empty_clientid"), entry);
}

fn duplicates(draft: &mut Draft, entry: &Entry) {
    match entry.flag() {
        Some(false) => draft.mapped(entry.at),
        _ => draft.not_mapped(
            entry.at,
            &entry.key,
            "a message that fits several subscriptions of one client reaches it once, with the highest QoS",
        ),
    }
}

fn upgrade(draft: &mut Draft, entry: &Entry) {
    match entry.flag() {
        Some(false) => draft.mapped(entry.at),
        _ => draft.action(
            entry.at,
            &entry.key,
            "a message is never delivered with a higher QoS than it was published with",
        ),
    }
}

fn inflight_bytes(draft: &mut Draft, entry: &Entry) {
    apply(draft, &Setting("mqtt.max_inflight_bytes", written::count_or_zero), entry);
}

/// A queue without a bound would let one client fill a shard.
fn queued_bytes(draft: &mut Draft, entry: &Entry) {
    match number(draft, entry) {
        Some(0) => draft.changed(
            entry.at,
            &entry.key,
            "a queue always has a bound in bytes: queue.max_bytes stays at its default",
        ),
        Some(bytes) => {
            draft.setting(entry.at, &entry.key, None, "queue.max_bytes", &Amount::Number(bytes.min(1 << 30)))
        }
        None => {}
    }
}

fn message_size(draft: &mut Draft, entry: &Entry) {
    match number(draft, entry) {
        Some(0) => draft.mapped(entry.at),
        Some(bytes) => {
            // The packet is longer than its payload: the topic and the properties come on top.
            draft.setting(
                entry.at,
                &entry.key,
                None,
                "mqtt.max_packet_size",
                &Amount::Number(bytes.saturating_add(64 << 10)),
            );
            draft.changed(
                entry.at,
                &entry.key,
                "mqtt.max_packet_size bounds the whole packet, so 64 KB are added to the bound of the payload",
            );
        }
        None => {}
    }
}

fn keepalive(draft: &mut Draft, entry: &Entry) {
    match number(draft, entry) {
        Some(0) => draft.changed(
            entry.at,
            &entry.key,
            "a keep alive of 0 is every client's right; mqtt.max_keepalive stays at its default",
        ),
        Some(seconds) => draft.setting(
            entry.at,
            &entry.key,
            None,
            "mqtt.max_keepalive",
            &Amount::Number(seconds.saturating_mul(1000)),
        ),
        None => {}
    }
}

/// `14d`, `2m`: hours, days, weeks, months and years.
fn expiration(draft: &mut Draft, entry: &Entry) {
    let text = entry.text();
    let (count, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let hours = match unit {
        "h" => 1,
        "d" => 24,
        "w" => 24 * 7,
        "m" => 24 * 30,
        "y" => 24 * 365,
        _ => 0,
    };
    let Some(count) = written::digits(count).filter(|_| hours > 0) else {
        return draft.unreadable(entry.at, &entry.key, "a number with h, d, w, m or y behind it, such as 14d");
    };
    let amount = Amount::Number(count.saturating_mul(hours).saturating_mul(3_600_000));
    for key in ["session.expiry_default", "session.expiry_max"] {
        draft.setting(entry.at, &entry.key, None, key, &amount);
    }
}

fn sys(draft: &mut Draft, entry: &Entry) {
    let amount = match number(draft, entry) {
        Some(0) => Amount::Word("never".into()),
        Some(seconds) => Amount::Number(seconds.saturating_mul(1000)),
        None => return,
    };
    draft.setting(entry.at, &entry.key, None, "sys.interval", &amount);
}

fn connections(draft: &mut Draft, entry: &Entry) {
    if entry.text().starts_with('-') {
        return draft.mapped(entry.at);
    }
    apply(draft, &Setting("limits.connections", written::count), entry);
}

fn persistence(draft: &mut Draft, entry: &Entry) {
    match entry.flag() {
        Some(false) => draft.mapped(entry.at),
        _ => draft.action(entry.at, &entry.key, LASTING),
    }
}

fn retained_persistence(draft: &mut Draft, entry: &Entry) {
    match entry.flag() {
        Some(true) => draft.mapped(entry.at),
        _ => draft.action(entry.at, &entry.key, LASTING),
    }
}
