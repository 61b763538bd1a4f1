use super::report::{Form, report};
use super::{CertificateFacts, Exposure, Facts, FileFacts, ListenerFacts, Severity, UserFacts, examine};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

/// A listener that nothing can be said against.
fn safe() -> ListenerFacts {
    ListenerFacts {
        name: "tls.default".into(),
        exposure: Some(Exposure::Public),
        port: 8883,
        certificates: vec![CertificateFacts { subject: "CN=x".into(), self_made: false, not_after: NOW + 90 * DAY }],
        authentication: true,
        has_limits: true,
        accepted: Some(3),
        ..ListenerFacts::default()
    }
}

fn facts(listener: ListenerFacts) -> Facts {
    let user = UserFacts { name: "ann".into(), guessed: false };
    Facts { listeners: vec![listener], users: Some(vec![user]), now_unix_s: NOW, ..Facts::default() }
}

fn found(facts: &Facts) -> Vec<(&'static str, Severity)> {
    examine(facts).iter().map(|finding| (finding.check, finding.severity)).collect()
}

#[test]
fn nothing_is_said_against_a_safe_node() {
    assert_eq!(found(&facts(safe())), []);
}

#[test]
fn each_risk_is_found_and_graded() {
    let public = Exposure::Public;
    let cases: [(&str, ListenerFacts, Severity); 9] = [
        ("anonymous", ListenerFacts { authentication: false, ..safe() }, Severity::Critical),
        (
            "anonymous",
            ListenerFacts { authentication: false, exposure: Some(Exposure::Private), ..safe() },
            Severity::Serious,
        ),
        ("plain-port", ListenerFacts { plain: true, ..safe() }, Severity::Serious),
        ("plain-port", ListenerFacts { plain: true, exposure: Some(Exposure::Private), ..safe() }, Severity::Warning),
        ("no-limits", ListenerFacts { has_limits: false, ..safe() }, Severity::Warning),
        ("weak-tls", ListenerFacts { weak_tls: vec!["only TLS 1.2 is offered".into()], ..safe() }, Severity::Warning),
        ("unused-port", ListenerFacts { accepted: Some(0), open_for_s: 90_000, ..safe() }, Severity::Note),
        ("certificate-expiry", expiring(5), Severity::Serious),
        ("certificate-expiry", expiring(29), Severity::Warning),
    ];
    for (check, listener, severity) in cases {
        assert!(listener.exposure.is_some_and(|exposure| exposure <= public));
        assert_eq!(found(&facts(listener)), [(check, severity)]);
    }
}

fn expiring(days: i64) -> ListenerFacts {
    let certificates =
        vec![CertificateFacts { subject: "CN=x".into(), self_made: false, not_after: NOW + days * DAY + 1 }];
    ListenerFacts { certificates, ..safe() }
}

#[test]
fn what_only_this_machine_reaches_is_left_alone() {
    let listener = ListenerFacts {
        exposure: Some(Exposure::Loopback),
        plain: true,
        authentication: false,
        has_limits: false,
        accepted: Some(0),
        open_for_s: 1_000_000,
        ..safe()
    };
    assert_eq!(found(&facts(listener)), []);
}

#[test]
fn an_expired_certificate_is_serious() {
    let listener = ListenerFacts {
        certificates: vec![CertificateFacts { subject: "CN=x".into(), self_made: true, not_after: NOW - 1 }],
        exposure: Some(Exposure::Loopback),
        ..safe()
    };
    assert_eq!(found(&facts(listener)), [("certificate-expiry", Severity::Serious)]);
}

#[test]
fn secrets_that_others_can_read_are_found() {
    for (mode, severity) in
        [(0o600, None), (0o640, None), (0o644, Some(Severity::Serious)), (0o660, Some(Severity::Warning))]
    {
        let mut facts = facts(safe());
        facts.secrets.push(FileFacts { path: "/x/server.key".into(), purpose: "a private key", mode });
        let expected: Vec<_> = severity.map(|severity| ("file-permissions", severity)).into_iter().collect();
        assert_eq!(found(&facts), expected, "{mode:o}");
    }
}

#[test]
fn a_password_that_everybody_tries_is_critical() {
    let mut facts = facts(safe());
    facts.users = Some(vec![UserFacts { name: "ann".into(), guessed: true }]);
    assert_eq!(found(&facts), [("weak-password", Severity::Critical)]);
}

#[test]
fn a_reverse_proxy_matters_while_loopback_needs_no_name() {
    let mut facts = facts(safe());
    facts.reverse_proxies.push("nginx".into());
    assert_eq!(found(&facts), []);
    facts.loopback_anonymous = true;
    assert_eq!(found(&facts), [("reverse-proxy", Severity::Warning)]);
    facts.listeners[0].behind_proxy = true;
    assert_eq!(found(&facts), []);
}

#[test]
fn the_worst_comes_first_and_every_finding_says_how_to_mend_it() {
    let listener = ListenerFacts { plain: true, authentication: false, has_limits: false, ..safe() };
    let facts = Facts { users: Some(Vec::new()), ..facts(listener) };
    let findings = examine(&facts);
    assert!(findings.is_sorted_by_key(|finding| std::cmp::Reverse(finding.severity)));
    assert!(findings.iter().all(|finding| !finding.mend.is_empty() && !finding.what.contains('\n')));
    let text = report(&facts, &findings, Form::Text);
    assert!(text.starts_with("critical  tls.default: anybody may connect"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&report(&facts, &findings, Form::Json)).expect("it is JSON");
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(findings.len()));
    assert_eq!(json["findings"][0]["severity"], "critical");
}
