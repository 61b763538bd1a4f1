//! What of EMQX 4 has no counterpart here, by the beginning of its keys.

use super::super::Severity;
use Severity::{Action, NotMapped};

const USERS: &str = "users are those of `breakwater users`; other sources of them are not there yet";
const LOG: &str = "the log goes to the terminal or the journal; its level and form are chosen by `serve --log`";
const GATEWAY: &str = "this protocol is not spoken";
const ACL: &str = "there is no access control list yet: who has been let in may publish and subscribe to everything";
const DASHBOARD: &str = "there is no dashboard yet, nor a password of one to guess";
const CLUSTER: &str = "a node works alone; clusters are not there yet";
const ERLANG: &str = "this tunes the Erlang runtime, which is not there";
const RULES: &str = "rules, bridges and hooks to other systems are not there yet";

const FAMILIES: &[(&str, Severity, &str)] = &[
    ("auth.", Action, USERS),
    ("auth_order", NotMapped, USERS),
    ("acl_order", NotMapped, ACL),
    ("alias_enrichment_module", NotMapped, USERS),
    ("special_auth_module", NotMapped, USERS),
    ("acl_nomatch", Action, ACL),
    ("acl_file", Action, ACL),
    ("acl_deny_action", NotMapped, ACL),
    ("acl_cache_ttl", NotMapped, ACL),
    ("acl_cache_max_size", NotMapped, ACL),
    ("enable_acl_cache", NotMapped, ACL),
    ("psk.", Action, "keys shared beforehand (PSK) are not spoken by the TLS library; use certificates"),
    ("dashboard.", NotMapped, DASHBOARD),
    (
        "management.",
        NotMapped,
        "there is no HTTP interface yet; `breakwater listeners` and `breakwater users` talk to the running node",
    ),
    ("broker.sys_heartbeat", NotMapped, "$SYS has one interval for all: sys.interval"),
    ("broker.enable_session_registry", NotMapped, "sessions are always known to the whole node"),
    ("broker.session_locking_strategy", NotMapped, "a session lives on one shard; nothing has to be locked"),
    (
        "broker.shared_dispatch_ack_enabled",
        NotMapped,
        "what a member of a shared group does not acknowledge goes to another one when it leaves",
    ),
    ("broker.route_batch_clean", NotMapped, CLUSTER),
    ("broker.perf.", NotMapped, "this tunes tables that are not there"),
    (
        "broker.client_disconnect",
        NotMapped,
        "a take-over is told to the old client, and no message is published about it",
    ),
    ("broker.", Action, "one strategy counts for all shared groups: shared.strategy"),
    (
        "retainer.storage_type",
        Action,
        "retained messages are kept on the disk too; store.durability = \"memory\" keeps nothing there",
    ),
    (
        "retainer.stop_publish_clear_msg",
        NotMapped,
        "an empty retained message clears the topic and is published too, as the specification has it",
    ),
    ("node.", NotMapped, ERLANG),
    ("cluster.", NotMapped, CLUSTER),
    ("rpc.", NotMapped, CLUSTER),
    ("log.", NotMapped, LOG),
    ("plugins.", NotMapped, "plugins of EMQX can't be loaded"),
    ("modules.", NotMapped, "modules of EMQX can't be loaded"),
    (
        "module.subscription.",
        Action,
        "topics for all clients are not understood in this form; write them as [[auto_subscribe.topics]] by hand",
    ),
    (
        "module.rewrite.",
        Action,
        "rules for topics are not understood in this form; write them as [[rewrite.rules]] by hand",
    ),
    ("module.", NotMapped, "modules of EMQX can't be loaded"),
    (
        "delayed.",
        NotMapped,
        "of messages that are published later only the number can be bounded: delayed.max_messages",
    ),
    ("sysmon.", NotMapped, ERLANG),
    ("os_mon.", NotMapped, "alarms about the machine belong to what watches it"),
    ("vm_mon.", NotMapped, ERLANG),
    ("alarm.", NotMapped, "there are no alarms yet"),
    ("telemetry.", NotMapped, "nothing is sent home, so nothing can be turned off"),
    ("crl_cache_", NotMapped, "revocation lists are read from files when they change"),
    ("bridge.", Action, RULES),
    ("rule_engine.", Action, RULES),
    ("web.hook.", Action, RULES),
    ("exhook.", Action, RULES),
    ("lua_hook.", Action, RULES),
    ("prometheus.", NotMapped, "measurements are not pushed yet"),
    ("recon.", NotMapped, ERLANG),
    ("sasl", Action, "enhanced authentication is not there yet"),
    ("mqtt.sn.", Action, GATEWAY),
    ("coap.", Action, GATEWAY),
    ("lwm2m.", Action, GATEWAY),
    ("stomp.", Action, GATEWAY),
    ("exproto.", Action, GATEWAY),
    ("license.", NotMapped, "no licence is needed"),
];

/// What is said of a key that has no counterpart; nothing if the family is not known.
pub(super) fn of(key: &str) -> Option<(Severity, &'static str)> {
    FAMILIES.iter().find(|(start, ..)| key.starts_with(start)).map(|(_, severity, reason)| (*severity, *reason))
}

/// The families, for tests.
#[cfg(test)]
pub(in super::super) fn all() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(start, ..)| *start)
}
