use super::report::{Form, report};
use super::{
    CertificateFacts, Exposure, Facts, FileFacts, ListenerFacts, OrderedFacts, Severity, StoreFacts, UserFacts, examine,
};

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 24 * 3600;

/// A listener that nothing can be said against.
fn safe() -> ListenerFacts {
    ListenerFacts {
        name: "tls.default".into(),
        exposure: Some(Exposure::Public),
        port: 8883,
        certificates: vec![CertificateFacts {
            subject: "CN=x".into(),
            not_after: NOW + 90 * DAY,
            ..CertificateFacts::default()
        }],
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
    let certificates = vec![CertificateFacts {
        subject: "CN=x".into(),
        not_after: NOW + days * DAY + 1,
        ..CertificateFacts::default()
    }];
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
        certificates: vec![CertificateFacts { self_made: true, not_after: NOW - 1, ..CertificateFacts::default() }],
        exposure: Some(Exposure::Loopback),
        ..safe()
    };
    assert_eq!(found(&facts(listener)), [("certificate-expiry", Severity::Serious)]);
}

#[test]
fn a_certificate_of_a_few_days_is_complained_about_near_its_end_only() {
    for (left, severity) in [(4, None), (2, None), (1, Some(Severity::Warning)), (-1, Some(Severity::Serious))] {
        let not_after = NOW + left * DAY + 1;
        let certificate =
            CertificateFacts { not_before: not_after - 6 * DAY, not_after, ..CertificateFacts::default() };
        let expected: Vec<_> = severity.map(|severity| ("certificate-expiry", severity)).into_iter().collect();
        assert_eq!(found(&facts(ListenerFacts { certificates: vec![certificate], ..safe() })), expected, "{left}");
    }
}

#[test]
fn an_order_that_failed_is_the_worse_the_less_is_left_of_the_certificate() {
    let order = |days: Option<i64>| OrderedFacts {
        name: "office".into(),
        domains: vec!["a.example".into()],
        not_after: days.map(|days| NOW + days * DAY + 1),
        failures: 2,
        fault: Some("port 80 is closed".into()),
    };
    for (days, severity) in [
        (None, Severity::Serious),
        (Some(-1), Severity::Serious),
        (Some(6), Severity::Serious),
        (Some(20), Severity::Warning),
    ] {
        let facts = Facts { ordered: vec![order(days)], ..facts(safe()) };
        assert_eq!(found(&facts), [("failed-order", severity)], "{days:?}");
        let finding = examine(&facts).remove(0);
        assert!(
            finding.what.ends_with("port 80 is closed") && finding.mend[0].ends_with("breakwater acme renew office")
        );
    }
    let fine = Facts { ordered: vec![OrderedFacts { fault: None, ..order(Some(20)) }], ..facts(safe()) };
    assert_eq!(found(&fine), []);
    // The advice for its end is another than for a file of somebody else's.
    let mut ending = Facts { ordered: vec![OrderedFacts { fault: None, ..order(Some(5)) }], ..facts(expiring(5)) };
    ending.listeners[0].certificates[0].names = vec!["a.example".into()];
    assert_eq!(examine(&ending)[0].mend, ["breakwater acme renew office"]);
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

#[test]
fn a_store_that_is_full_fails_or_has_lost_something_is_found_with_what_it_says() {
    let fault = || Some("no space left".to_owned());
    for (store, severities) in [
        (StoreFacts::default(), &[][..]),
        (StoreFacts { full: true, fault: fault(), ..StoreFacts::default() }, &[Severity::Serious]),
        (StoreFacts { failing: true, fault: fault(), ..StoreFacts::default() }, &[Severity::Serious]),
        (StoreFacts { damages: 2, ..StoreFacts::default() }, &[Severity::Warning]),
        (StoreFacts { full: true, damages: 1, ..StoreFacts::default() }, &[Severity::Serious, Severity::Warning]),
    ] {
        let told = store.fault.is_some();
        let findings = examine(&Facts { store, ..facts(safe()) });
        assert_eq!(findings.iter().map(|finding| finding.severity).collect::<Vec<_>>(), severities);
        assert!(findings.iter().all(|finding| finding.check == "store" && !finding.mend.is_empty()));
        assert_eq!(findings.iter().any(|finding| finding.what.contains("no space left")), told);
    }
}
