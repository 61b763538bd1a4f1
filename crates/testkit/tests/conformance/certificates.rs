//! Names that a listener takes from a client certificate, in place of those in CONNECT; and what a CONNECT costs that
//! waits for its verdict.

use breakwater_contract::{AuthStep, Certificate, Completion, Identity, Principal};
use breakwater_proto::{Auth, Packet, QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, Client, Logged};

use crate::script::{self, Script};

fn certificate() -> Certificate {
    Certificate { common_name: "pump-7".into(), ..Certificate::default() }
}

fn identity(username: Option<&str>, client_id: Option<&str>) -> Identity {
    Identity { certificate: certificate(), username: username.map(Into::into), client_id: client_id.map(Into::into) }
}

#[test]
fn names_from_a_certificate_count_for_more_than_those_in_connect() {
    for version in Version::ALL {
        let script = Script::of([]);
        let broker = Broker::new().authenticator(script.clone());
        let connecting = broker.client("claimed").version(version).shows(identity(Some("pump-7"), Some("id-7")));
        let client = connecting.set(|connect| connect.username = Some("boss")).connect();
        let asked = script.last();
        assert_eq!((asked.client_id.as_str(), asked.username.as_deref()), ("id-7", Some("pump-7")));
        assert_eq!((asked.certificate, asked.username_certified), (Some(certificate()), true));
        let told = client.connack.as_ref().expect("CONNACK").connack().assigned_client_id.map(str::to_owned);
        assert_eq!(told.as_deref(), version.is_v5().then_some("id-7"), "a 5.0 client is told that it has another name");
        let connected = |event: &Logged| matches!(event, Logged::Connected { client, .. } if client == "id-7");
        assert!(broker.events().iter().any(connected));
    }
}

#[test]
fn certificate_alone_is_shown_and_changes_no_name() {
    let script = Script::of([]);
    let broker = Broker::new().authenticator(script.clone());
    let connecting = broker.client("c").shows(identity(None, None));
    let client = connecting.set(|connect| connect.username = Some("boss")).connect();
    let asked = script.last();
    assert_eq!((asked.client_id.as_str(), asked.username.as_deref()), ("c", Some("boss")));
    assert_eq!((asked.certificate, asked.username_certified), (Some(certificate()), false));
    assert_eq!(client.connack.as_ref().expect("CONNACK").connack().assigned_client_id, None);
    drop(broker.client("d").connect());
    assert_eq!((script.last().certificate, script.last().username_certified), (None, false));
}

#[test]
fn client_that_already_has_the_name_of_its_certificate_is_not_told_it() {
    let broker = Broker::new();
    let client = broker.client("id-7").shows(identity(None, Some("id-7"))).connect();
    assert_eq!(client.connack.as_ref().expect("CONNACK").connack().assigned_client_id, None);
}

/// On every pair of shards: the identifier decides where the session lives, not the one that CONNECT claims.
#[test]
fn session_lives_where_the_identifier_of_the_certificate_belongs() {
    let broker = Broker::new().shards(3);
    for home in 0..3 {
        let id = broker.id_at(home, "certified-");
        for claimed in 0..3 {
            for accepted in 0..3 {
                let claimed = broker.id_at(claimed, "claimed-");
                let with = || broker.client(&claimed).at(accepted).persistent().shows(identity(None, Some(&id)));
                let mut client = with().connect();
                client.subscribe("t", QoS::AtMostOnce);
                let again = with().connect();
                assert!(again.connack.as_ref().expect("CONNACK").connack().session_present);
                client.expect_disconnect(ReasonCode::SessionTakenOver);
            }
        }
        let plain = broker.client(&id).resume().connect();
        assert!(plain.connack.as_ref().expect("CONNACK").connack().session_present);
    }
    assert_eq!(broker.sessions(), 3);
}

/// A 3.1.1 client may have no identifier and keep its session, if its certificate gives it one.
#[test]
fn certificate_names_a_client_that_does_not_name_itself() {
    let broker = Broker::new().shards(2);
    let connecting = || broker.client("").v311().resume();
    let (_, refused) = connecting().attempt();
    assert_eq!(refused.expect("CONNACK").connack().reason, ReasonCode::ClientIdentifierNotValid);
    drop(connecting().shows(identity(None, Some("id-7"))).connect());
    let again = connecting().shows(identity(None, Some("id-7"))).connect();
    assert!(again.connack.as_ref().expect("CONNACK").connack().session_present);
}

#[test]
fn names_hold_through_verdicts_that_come_later_and_challenges() {
    for version in Version::ALL {
        let script = Script::of([AuthStep::Later]);
        let broker = Broker::new().authenticator(script.clone());
        let mut client = broker.client("").version(version).resume().shows(identity(Some("u"), Some("id-7"))).start();
        client.expect_nothing();
        let principal = Principal { name: "u".into(), superuser: false };
        let token = script.last().token;
        broker.complete(Completion::Auth { token, step: AuthStep::Accept { principal, data: None } });
        assert_eq!(client.next_packet().connack().reason, ReasonCode::Success, "{version:?}");
        let connected = |event: &Logged| matches!(event, Logged::Connected { client, .. } if client == "id-7");
        assert!(broker.events().iter().any(connected));
    }
    let script = Script::of([script::challenge(b"?")]);
    let broker = Broker::new().authenticator(script.clone());
    let connecting = broker.client("c").shows(identity(Some("u"), Some("id-7")));
    let mut client = connecting.set(|connect| connect.auth_method = Some("SCRIPT")).start();
    assert!(client.try_next().is_some());
    let reason = ReasonCode::ContinueAuthentication;
    client.send_packet(&Packet::Auth(Auth { reason, method: Some("SCRIPT"), ..Auth::default() }));
    assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
    let asked = script.last();
    assert_eq!(
        (asked.client_id.as_str(), asked.username.as_deref(), asked.username_certified),
        ("id-7", Some("u"), true)
    );
}

#[test]
fn names_that_would_deceive_are_refused() {
    let long = "n".repeat(1025);
    for name in ["", "a\nb", "a\u{1b}[2J", "a\u{0}b", "\u{fdd0}", &long] {
        for (identity, reason) in [
            (identity(Some(name), None), ReasonCode::NotAuthorized),
            (identity(None, Some(name)), ReasonCode::ClientIdentifierNotValid),
        ] {
            let script = Script::of([]);
            let broker = Broker::new().authenticator(script.clone());
            let (client, refused) = broker.client("c").shows(identity).attempt();
            assert_eq!(refused.expect("CONNACK").connack().reason, reason, "{name:?}");
            assert!(client.is_closed());
            assert!(script.asked().is_empty());
        }
    }
}

#[test]
fn connects_that_wait_for_a_verdict_are_in_the_account_and_too_many_are_refused() {
    let script = Script::of(std::iter::repeat_n(AuthStep::Later, 1000));
    let broker = Broker::with(|options, _| options.memory_bytes = 8 << 20).authenticator(script.clone());
    let password = vec![b'p'; 60_000];
    let mut waiting: Vec<(Client, u32)> = Vec::new();
    let mut refused = 0;
    for number in 0..100 {
        let mut client = broker.client("").set(|connect| connect.password = Some(&password)).start();
        if client.is_closed() {
            assert_eq!(client.next_packet().connack().reason, ReasonCode::ServerBusy);
            refused += 1;
        } else {
            waiting.push((client, number));
        }
        assert!(broker.held_bytes() <= (1 << 20) + 70_000, "{} bytes", broker.held_bytes());
    }
    assert!((15..=20).contains(&waiting.len()), "{} wait and {refused} were refused", waiting.len());
    assert!(broker.held_bytes() >= 60_000 * waiting.len() as u64);
    let asked = script.asked();
    for (client, number) in &mut waiting {
        let token = asked[*number as usize].token;
        broker.complete(Completion::Auth { token, step: script::accept() });
        assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
    }
    assert_eq!(broker.held_bytes(), 0, "they are clients: nothing waits any longer");
    let (_, answer) = broker.client("").set(|connect| connect.password = Some(&password)).attempt();
    assert!(answer.is_none(), "there is room for the next one");
}
