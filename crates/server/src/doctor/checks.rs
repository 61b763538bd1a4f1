//! The checks, each a function from facts to findings.

use breakwater_transport::tls::EXPIRY_WARNING_DAYS;

use super::{CertificateFacts, Exposure, Facts, Finding, ListenerFacts, OrderedFacts, Severity};

type Check = fn(&Facts) -> Vec<Finding>;

/// All of them, in the order in which they are reported.
pub(super) const ALL: &[Check] = &[
    unwell_store,
    anybody_may_connect,
    guessed_passwords,
    plain_ports,
    open_secrets,
    failed_orders,
    expiring_certificates,
    weak_tls,
    self_made_certificates,
    reverse_proxies,
    missing_limits,
    missing_access_rules,
    nobody_named,
    unused_ports,
];

const DAY_S: i64 = 24 * 3600;

/// Days before its end from which on a certificate is complained about, unless it doesn't live long: then a part of its life.
const EXPIRY_DAYS: i64 = EXPIRY_WARNING_DAYS;
const EXPIRY_PART: i64 = 4;
/// The same, when it gets urgent.
const URGENT_DAYS: i64 = 7;
const URGENT_PART: i64 = 12;

/// A port that nobody came to for that long is worth a word.
const UNUSED_S: u64 = 24 * 3600;

fn exposed(listener: &ListenerFacts) -> bool {
    listener.exposure.is_some_and(|exposure| exposure > Exposure::Loopback)
}

fn from_where(listener: &ListenerFacts) -> &'static str {
    match listener.exposure {
        Some(Exposure::Public) => "every network that leads here",
        Some(Exposure::Private) => "the local network",
        Some(Exposure::Loopback) | None => "this machine",
    }
}

/// Worse when the whole world is invited, and no rule says who of it may come.
fn by_exposure(listener: &ListenerFacts, private: Severity, public: Severity) -> Severity {
    let everybody = listener.exposure == Some(Exposure::Public) && !listener.has_address_rules;
    if everybody { public } else { private }
}

fn of_listeners(
    facts: &Facts,
    concerns: impl Fn(&ListenerFacts) -> bool,
    finding: impl Fn(&ListenerFacts) -> Finding,
) -> Vec<Finding> {
    facts.listeners.iter().filter(|listener| concerns(listener)).map(finding).collect()
}

fn unwell_store(facts: &Facts) -> Vec<Finding> {
    let store = &facts.store;
    let folder = store.folder.display();
    let finding = |severity, what: String, mend: Vec<String>| Finding {
        check: "store",
        severity,
        subject: folder.to_string(),
        what,
        mend,
    };
    let mut findings = Vec::new();
    if store.full || store.failing {
        let state = if store.full { "the disk of the store is full" } else { "the disk of the store fails" };
        let fault = store.fault.as_deref().unwrap_or("see the log");
        let what = format!("{state}, and what would have to be kept is refused: {fault}");
        findings.push(finding(Severity::Serious, what, vec![format!("df -h '{folder}'; dmesg | tail")]));
    }
    if store.damages > 0 {
        let what =
            format!("{} things in the store were lost or set aside since the start; the log says which", store.damages);
        let mend = format!("look at the disk, keep what ends in .bad-* in '{folder}', restore a backup if it matters");
        findings.push(finding(Severity::Warning, what, vec![mend]));
    }
    findings
}

fn anybody_may_connect(facts: &Facts) -> Vec<Finding> {
    of_listeners(
        facts,
        |listener| exposed(listener) && !listener.authentication,
        |listener| Finding {
            check: "anonymous",
            severity: by_exposure(listener, Severity::Serious, Severity::Critical),
            subject: listener.name.clone(),
            what: format!("anybody may connect from {}: the listener asks nobody who they are", from_where(listener)),
            mend: vec![
                format!("breakwater listeners set {} authentication true", listener.name),
                format!("breakwater listeners set {} bind 127.0.0.1:{}", listener.name, listener.port),
            ],
        },
    )
}

fn guessed_passwords(facts: &Facts) -> Vec<Finding> {
    let users = facts.users.iter().flatten().filter(|user| user.guessed);
    let finding = |name: &str| Finding {
        check: "weak-password",
        severity: Severity::Critical,
        subject: format!("user {name}"),
        what: "the password is one of those that everybody tries first".into(),
        mend: vec![format!("breakwater users passwd {name} --generate")],
    };
    users.map(|user| finding(&user.name)).collect()
}

fn plain_ports(facts: &Facts) -> Vec<Finding> {
    of_listeners(
        facts,
        |listener| listener.plain && exposed(listener),
        |listener| Finding {
            check: "plain-port",
            severity: by_exposure(listener, Severity::Warning, Severity::Serious),
            subject: listener.name.clone(),
            what: format!(
                "nothing is encrypted on this port, and it can be reached from {}: passwords and messages can be read on \
                 the way",
                from_where(listener)
            ),
            mend: vec![
                format!("breakwater listeners set {} bind 127.0.0.1:{}", listener.name, listener.port),
                format!("breakwater listeners close {} (clients use the tls listener instead)", listener.name),
            ],
        },
    )
}

fn open_secrets(facts: &Facts) -> Vec<Finding> {
    /// Anything for others, or writing for the group.
    const TOO_MUCH: u32 = 0o027;
    let open = facts.secrets.iter().filter(|file| file.mode & TOO_MUCH != 0);
    let finding = |file: &super::FileFacts| Finding {
        check: "file-permissions",
        severity: if file.mode & 0o006 == 0 { Severity::Warning } else { Severity::Serious },
        subject: file.path.display().to_string(),
        what: format!(
            "{} has the permissions {:03o}: other users of this machine can get at it",
            file.purpose,
            file.mode & 0o777
        ),
        mend: vec![format!("chmod 600 '{}'", file.path.display())],
    };
    open.map(finding).collect()
}

fn failed_orders(facts: &Facts) -> Vec<Finding> {
    let finding = |ordered: &OrderedFacts| {
        let fault = ordered.fault.as_ref()?;
        let (severity, state) = match ordered.not_after.map(|end| (end - facts.now_unix_s).div_euclid(DAY_S)) {
            None => (Severity::Serious, "listeners show the self-made one meanwhile".to_owned()),
            Some(..0) => (Severity::Serious, "the one in use has expired".to_owned()),
            Some(days @ 0..URGENT_DAYS) => (Severity::Serious, format!("the one in use expires in {days} days")),
            Some(days) => (Severity::Warning, format!("the one in use is good for {days} days")),
        };
        let (name, failures) = (&ordered.name, ordered.failures);
        Some(Finding {
            check: "failed-order",
            severity,
            subject: format!("acme.{name}"),
            what: format!("the certificate could not be ordered ({failures} failures in a row), {state}: {fault}"),
            mend: vec![format!("do what this says, then: breakwater acme renew {name}")],
        })
    };
    facts.ordered.iter().filter_map(finding).collect()
}

/// The section that a certificate was ordered by.
fn ordered_by<'a>(facts: &'a Facts, certificate: &CertificateFacts) -> Option<&'a OrderedFacts> {
    let is = |ordered: &&OrderedFacts| {
        let named = ordered.domains.iter().all(|domain| certificate.names.contains(domain));
        named && ordered.not_after == Some(certificate.not_after)
    };
    facts.ordered.iter().find(is)
}

fn expiring_certificates(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listener in &facts.listeners {
        for certificate in &listener.certificates {
            let days = (certificate.not_after - facts.now_unix_s).div_euclid(DAY_S);
            let life = (certificate.not_after - certificate.not_before).div_euclid(DAY_S);
            let (urgent, early) = (URGENT_DAYS.min(life / URGENT_PART), EXPIRY_DAYS.min(life / EXPIRY_PART));
            let (severity, what) = match days {
                ..0 => (Severity::Serious, "has expired: clients that check it can't connect".to_owned()),
                days if days < urgent => (Severity::Serious, format!("expires in {days} days")),
                days if days <= early => (Severity::Warning, format!("expires in {days} days")),
                _ => continue,
            };
            let mend = if certificate.self_made {
                "breakwater reload (a self-made certificate is renewed by the same authority)".to_owned()
            } else if let Some(ordered) = ordered_by(facts, certificate) {
                format!("breakwater acme renew {}", ordered.name)
            } else {
                "renew it where it came from, put the files in place, then: breakwater reload".to_owned()
            };
            findings.push(Finding {
                check: "certificate-expiry",
                severity,
                subject: listener.name.clone(),
                what: format!("the certificate of {} {what}", certificate.subject),
                mend: vec![mend],
            });
        }
    }
    findings
}

fn weak_tls(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    for listener in &facts.listeners {
        for weakness in &listener.weak_tls {
            findings.push(Finding {
                check: "weak-tls",
                severity: Severity::Warning,
                subject: listener.name.clone(),
                what: weakness.clone(),
                mend: vec![
                    format!("breakwater listeners set {} tls.versions '[\"1.2\", \"1.3\"]'", listener.name),
                    format!("breakwater config unset listeners.{}.tls.ciphers", listener.name),
                ],
            });
        }
    }
    findings
}

fn self_made_certificates(facts: &Facts) -> Vec<Finding> {
    of_listeners(
        facts,
        |listener| exposed(listener) && listener.certificates.iter().any(|certificate| certificate.self_made),
        |listener| {
            Finding {
            check: "self-made-certificate",
            severity: Severity::Note,
            subject: listener.name.clone(),
            what: "the certificate is self-made: clients have to be given tls/ca.pem of the data directory, and who skips \
                   the check can be eavesdropped on"
                .into(),
            mend: vec![format!(
                "breakwater listeners set {0} tls.certificate /path/to/fullchain.pem && breakwater listeners set {0} tls.key \
                 /path/to/privkey.pem",
                listener.name
            ), format!(
                "write a section [acme.NAME] for one that the broker orders by itself, and: breakwater listeners set {} tls.acme NAME",
                listener.name
            )],
        }
        },
    )
}

fn reverse_proxies(facts: &Facts) -> Vec<Finding> {
    if !facts.loopback_anonymous || facts.listeners.iter().all(|listener| listener.behind_proxy) {
        return Vec::new();
    }
    let finding = |program: &String| {
        Finding {
        check: "reverse-proxy",
        severity: Severity::Warning,
        subject: program.clone(),
        what: format!(
            "{program} runs on this machine: if it passes connections on to a listener without saying for whom, all of them \
             look like this machine's own and need no name"
        ),
        mend: vec![
            "let it send PROXY protocol, and: breakwater listeners set NAME proxy_protocol true && breakwater listeners set \
             NAME trusted_proxies '[\"127.0.0.1\", \"::1\"]'"
                .into(),
            "breakwater config set authentication.allow_anonymous_loopback false".into(),
        ],
    }
    };
    facts.reverse_proxies.iter().map(finding).collect()
}

fn missing_limits(facts: &Facts) -> Vec<Finding> {
    of_listeners(
        facts,
        |listener| exposed(listener) && !listener.has_limits,
        |listener| Finding {
            check: "no-limits",
            severity: by_exposure(listener, Severity::Note, Severity::Warning),
            subject: listener.name.clone(),
            what: format!(
                "one address of {} may take every connection that there is: no bound on connections, on those of one address, \
                 or on their rate",
                from_where(listener)
            ),
            mend: vec![
                format!("breakwater listeners set {} max_connections_per_address 100", listener.name),
                format!("breakwater listeners set {} accept_rate 1000", listener.name),
            ],
        },
    )
}

fn missing_access_rules(facts: &Facts) -> Vec<Finding> {
    let named = facts.users.as_ref().map_or(0, Vec::len);
    if facts.has_access_rules || named < 2 || !facts.listeners.iter().any(exposed) {
        return Vec::new();
    }
    vec![Finding {
        check: "no-access-rules",
        severity: Severity::Note,
        subject: "node".into(),
        what: format!("each of the {named} users may publish and subscribe to every topic"),
        mend: vec!["give devices that don't trust each other listeners with a mountpoint each".into()],
    }]
}

fn nobody_named(facts: &Facts) -> Vec<Finding> {
    let nobody = facts.users.as_ref().is_some_and(Vec::is_empty);
    let waiting = facts.listeners.iter().any(|listener| exposed(listener) && listener.authentication);
    if !nobody || !waiting {
        return Vec::new();
    }
    vec![Finding {
        check: "no-users",
        severity: Severity::Note,
        subject: "node".into(),
        what: "no user is named, so nobody but this machine can connect".into(),
        mend: vec!["breakwater users add NAME".into()],
    }]
}

fn unused_ports(facts: &Facts) -> Vec<Finding> {
    of_listeners(
        facts,
        |listener| exposed(listener) && listener.accepted == Some(0) && listener.open_for_s >= UNUSED_S,
        |listener| Finding {
            check: "unused-port",
            severity: Severity::Note,
            subject: listener.name.clone(),
            what: format!("no client has come in {} hours: an open port that nobody needs", listener.open_for_s / 3600),
            mend: vec![format!("breakwater listeners set {} enabled false", listener.name)],
        },
    )
}
