//! Section 4.12: enhanced authentication, and authentication as such.

use std::sync::Arc;
use std::time::Duration;

use breakwater_contract::auth::AuthStage;
use breakwater_contract::{AuthStep, Completion, Verdict};
use breakwater_proto::{Auth, Disconnect, Packet, PacketKind, QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, Client, Connecting, Received};

use crate::script::{self, Rules, Script};

const METHOD: &str = "SCRIPT";

fn auth<'a>(reason: ReasonCode, data: &'a [u8]) -> Packet<'a> {
    Packet::Auth(Auth { reason, method: Some(METHOD), data: Some(data), ..Auth::default() })
}

fn answer(data: &[u8]) -> Packet<'_> {
    auth(ReasonCode::ContinueAuthentication, data)
}

/// A CONNECT with the method.
fn with_method(broker: &Broker) -> Connecting<'static> {
    broker.client("c").set(|connect| {
        connect.auth_method = Some(METHOD);
        connect.auth_data = Some(b"hello");
    })
}

fn expect_auth(client: &mut Client, reason: ReasonCode, data: Option<&[u8]>) {
    client.expect(&Packet::Auth(Auth { reason, method: Some(METHOD), data, ..Auth::default() }));
}

fn scripted(steps: impl IntoIterator<Item = AuthStep>) -> (Broker, Arc<Script>) {
    let script = Script::of(steps);
    (Broker::new().authenticator(script.clone()), script)
}

/// [MQTT-4.12.0-1]
#[test]
fn method_that_is_not_offered_is_refused() {
    let (broker, script) = scripted([]);
    for method in ["", "script", "SCRAM-SHA-1"] {
        let (client, refused) = broker.client("c").set(|connect| connect.auth_method = Some(method)).attempt();
        assert_eq!(refused.expect("CONNACK").connack().reason, ReasonCode::BadAuthenticationMethod);
        assert!(client.is_closed());
    }
    assert!(script.asked().is_empty());
}

/// [MQTT-4.12.0-2] [MQTT-4.12.0-5]
#[test]
fn challenges_go_back_and_forth_until_connack() {
    let steps = [script::challenge(b"one?"), script::challenge(b"two?"), script::accept_with(Some(b"welcome"))];
    let (broker, script) = scripted(steps);
    let mut client = with_method(&broker).start();
    expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"one?"));
    client.send_packet(&answer(b"one!"));
    expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"two?"));
    assert_eq!(broker.sessions(), 0);
    client.send_packet(&answer(b"two!"));
    let connack = client.next_packet();
    assert_eq!(connack.connack().reason, ReasonCode::Success);
    assert_eq!(connack.connack().auth_method, Some(METHOD));
    assert_eq!(connack.connack().auth_data, Some(&b"welcome"[..]));
    let asked: Vec<_> = script.asked().into_iter().map(|asked| (asked.stage, asked.data.expect("data"))).collect();
    let expect = [
        (AuthStage::Connect, b"hello".to_vec()),
        (AuthStage::Continue, b"one!".to_vec()),
        (AuthStage::Continue, b"two!".to_vec()),
    ];
    assert_eq!(asked, expect);
    assert!(script.asked().iter().all(|asked| asked.method.as_deref() == Some(METHOD) && asked.client_id == "c"));
    client.ping();
}

/// [MQTT-4.12.0-2]
#[test]
fn slow_authenticator_answers_later_at_every_step() {
    let (broker, script) = scripted([AuthStep::Later, AuthStep::Later]);
    let mut client = with_method(&broker).start();
    client.expect_nothing();
    let token = script.last().token;
    broker.complete(Completion::Auth { token, step: script::challenge(b"?") });
    expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"?"));
    client.send_packet(&answer(b"!"));
    client.expect_nothing();
    broker.complete(Completion::Auth { token: script.last().token, step: script::accept() });
    assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
    client.ping();
    // An answer that comes twice meets nobody.
    broker.complete(Completion::Auth { token, step: script::refuse(ReasonCode::Banned) });
    client.ping();
}

/// [MQTT-4.12.0-3] [MQTT-3.1.2-30]
#[test]
fn client_that_answers_a_challenge_with_anything_else_is_refused() {
    let other_method = Auth { reason: ReasonCode::ContinueAuthentication, method: Some("OTHER"), ..Auth::default() };
    let packets = [
        auth(ReasonCode::ReAuthenticate, b""),
        auth(ReasonCode::Success, b""),
        Packet::Auth(other_method),
        Packet::PingReq,
        Packet::Connect(breakwater_proto::Connect::new(Version::V5, "c")),
    ];
    for packet in packets {
        let (broker, script) = scripted([script::challenge(b"?")]);
        let mut client = with_method(&broker).start();
        expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"?"));
        client.send_packet(&packet);
        assert!(client.is_closed());
        assert_eq!(client.next_packet().connack().reason, ReasonCode::ProtocolError);
        assert_eq!(broker.sessions(), 0);
        assert_eq!(script.abandoned(), [script.last().token]);
    }
}

#[test]
fn client_may_disconnect_instead_of_answering_a_challenge() {
    let (broker, script) = scripted([script::challenge(b"?")]);
    let mut client = with_method(&broker).start();
    expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"?"));
    client.send_packet(&Packet::Disconnect(Disconnect::default()));
    assert!(client.is_closed());
    assert!(client.receive().is_empty());
    assert_eq!(script.abandoned().len(), 1);
}

/// [MQTT-4.12.0-4]
#[test]
fn refusal_at_any_step_is_told_and_ends_the_connection() {
    let refusal = || script::refuse(ReasonCode::NotAuthorized);
    for (steps, rounds) in [(vec![refusal()], 0), (vec![script::challenge(b"?"), refusal()], 1)] {
        let (broker, _) = scripted(steps);
        let mut client = with_method(&broker).start();
        for _ in 0..rounds {
            expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"?"));
            client.send_packet(&answer(b"!"));
        }
        let connack = client.next_packet();
        assert_eq!(connack.connack().reason, ReasonCode::NotAuthorized);
        assert_eq!(connack.connack().reason_string, Some("not today"));
        assert!(client.is_closed());
        assert!(client.receive().is_empty());
    }
}

/// [MQTT-4.12.0-6]
#[test]
fn client_without_a_method_gets_neither_auth_nor_a_method() {
    for version in Version::ALL {
        let (broker, _) = scripted([]);
        let (_client, connack) = broker.client("c").version(version).attempt();
        let connack = connack.expect("CONNACK");
        assert_eq!((connack.connack().auth_method, connack.connack().auth_data), (None, None));
        // An authenticator that forgets itself gets its client refused.
        let (broker, _) = scripted([script::challenge(b"?"), script::challenge(b"?")]);
        let (mut client, refused) = broker.client("c").version(version).attempt();
        assert!(client.is_closed());
        assert!(client.receive().is_empty());
        assert!(refused.is_none_or(|refused| refused.connack().reason.is_error()));
        let (broker, script) = scripted([AuthStep::Later]);
        let mut client = broker.client("c").version(version).start();
        client.expect_nothing();
        broker.complete(Completion::Auth { token: script.last().token, step: script::challenge(b"?") });
        assert!(client.is_closed());
        while let Some(packet) = client.try_next() {
            assert_eq!(packet.kind(), PacketKind::ConnAck);
        }
    }
}

/// [MQTT-4.12.0-7]
#[test]
fn auth_from_a_client_without_a_method_ends_the_connection() {
    for reason in [ReasonCode::ContinueAuthentication, ReasonCode::ReAuthenticate] {
        let (broker, _) = scripted([]);
        let mut client = broker.client("c").connect();
        client.send_packet(&auth(reason, b""));
        client.expect_disconnect(ReasonCode::ProtocolError);
    }
}

/// [MQTT-4.12.0-5] [MQTT-4.12.1-1]
#[test]
fn reauthentication_goes_back_and_forth_on_a_live_connection() {
    let steps = [script::accept(), script::challenge(b"?"), script::accept_with(Some(b"done"))];
    let (broker, script) = scripted(steps);
    let mut client = with_method(&broker).connect();
    client.send_packet(&auth(ReasonCode::ReAuthenticate, b"again"));
    expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"?"));
    client.ping(); // everything else goes on
    client.send_packet(&answer(b"!"));
    expect_auth(&mut client, ReasonCode::Success, Some(b"done"));
    let stages: Vec<_> = script.asked().iter().map(|asked| asked.stage).collect();
    assert_eq!(stages, [AuthStage::Connect, AuthStage::Reauthenticate, AuthStage::ReauthenticateContinue]);
    client.send_packet(&auth(ReasonCode::ReAuthenticate, b"and again"));
    expect_auth(&mut client, ReasonCode::Success, None);
}

/// [MQTT-4.12.1-1] [MQTT-4.12.0-5]
#[test]
fn reauthentication_out_of_turn_or_by_another_method_ends_the_connection() {
    let other = Auth { reason: ReasonCode::ReAuthenticate, method: Some("OTHER"), ..Auth::default() };
    for packet in [Packet::Auth(other), answer(b""), auth(ReasonCode::Success, b"")] {
        let (broker, _) = scripted([]);
        let mut client = with_method(&broker).connect();
        client.send_packet(&packet);
        client.expect_disconnect(ReasonCode::ProtocolError);
    }
    let (broker, _) = scripted([script::accept(), script::challenge(b"?")]);
    let mut client = with_method(&broker).connect();
    client.send_packet(&auth(ReasonCode::ReAuthenticate, b""));
    expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"?"));
    client.send_packet(&auth(ReasonCode::ReAuthenticate, b""));
    client.expect_disconnect(ReasonCode::ProtocolError);
}

/// [MQTT-4.12.1-2]
#[test]
fn failed_reauthentication_ends_the_connection_and_publishes_the_will() {
    for later in [false, true] {
        let refusal = script::refuse(ReasonCode::NotAuthorized);
        let step = if later { AuthStep::Later } else { refusal.clone() };
        let (broker, script) = scripted([script::accept(), script::accept(), step]);
        let mut watcher = broker.client("w").connect();
        watcher.subscribe("gone", QoS::AtMostOnce);
        let mut client = with_method(&broker).will("gone", b"c", QoS::AtMostOnce, false).connect();
        client.send_packet(&auth(ReasonCode::ReAuthenticate, b""));
        broker.step();
        if later {
            broker.complete(Completion::Auth { token: script.last().token, step: refusal });
        }
        client.expect_disconnect(ReasonCode::NotAuthorized);
        assert_eq!(watcher.payloads(), [b"c"]);
    }
}

/// [MQTT-4.12.1-2]
#[test]
fn reauthentication_that_nobody_answers_ends_the_connection() {
    let (broker, script) = scripted([script::accept(), AuthStep::Later]);
    let mut client = with_method(&broker).connect();
    client.send_packet(&auth(ReasonCode::ReAuthenticate, b""));
    broker.advance(Duration::from_secs(60));
    client.expect_disconnect(ReasonCode::NotAuthorized);
    assert_eq!(script.abandoned(), [script.last().token]);
}

#[test]
fn authentication_that_nobody_answers_ends_the_connection() {
    for version in Version::ALL {
        let (broker, script) = scripted([AuthStep::Later]);
        let mut client = broker.client("c").version(version).start();
        client.expect_nothing();
        broker.advance(Duration::from_secs(60));
        assert!(client.is_closed());
        assert_eq!(script.abandoned().len(), 1);
        assert_eq!(broker.sessions(), 0);
    }
}

#[test]
fn user_name_and_password_reach_the_authenticator_as_sent() {
    for version in Version::ALL {
        let (broker, script) = scripted([]);
        let connecting = broker.client("c").version(version).set(|connect| {
            connect.username = Some("user");
            connect.password = Some(b"\x00\xFFbytes");
        });
        drop(connecting.connect());
        assert_eq!(script.last().username.as_deref(), Some("user"));
        assert_eq!(script.last().password.as_deref(), Some(&b"\x00\xFFbytes"[..]));
        drop(broker.client("d").version(version).connect());
        assert_eq!((script.last().username, script.last().password), (None, None));
    }
}

#[test]
fn assigned_identifier_reaches_the_authenticator() {
    let (broker, script) = scripted([]);
    let client = broker.client("").connect();
    let connack = client.connack.as_ref().expect("CONNACK");
    assert_eq!(connack.connack().assigned_client_id, Some(&script.last().client_id[..]));
}

#[test]
fn slow_authenticator_lets_in_and_turns_away_in_every_version() {
    for version in Version::ALL {
        for refused in [false, true] {
            let (broker, script) = scripted([AuthStep::Later]);
            let mut client = broker.client("c").version(version).start();
            client.expect_nothing();
            let step = if refused { script::refuse(ReasonCode::NotAuthorized) } else { script::accept() };
            broker.complete(Completion::Auth { token: script.last().token, step });
            let expect = if refused { ReasonCode::NotAuthorized } else { ReasonCode::Success };
            assert_eq!(client.next_packet().connack().reason, expect);
            assert_eq!(client.is_closed(), refused);
        }
    }
}

fn ruled() -> (Broker, Arc<Rules>) {
    let rules = Arc::new(Rules::default());
    (Broker::new().authorizer(rules.clone()), rules)
}

fn codes(received: &Received) -> Vec<u8> {
    received.suback().codes.to_vec()
}

#[test]
fn denied_publish_and_subscribe_are_told_where_the_version_can() {
    for version in Version::ALL {
        let (broker, _) = ruled();
        let mut reader = broker.client("r").connect();
        reader.subscribe("#", QoS::ExactlyOnce);
        let mut client = broker.client("c").version(version).connect();
        let expect = if version.is_v5() { ReasonCode::NotAuthorized } else { ReasonCode::Success };
        client.publish("denied", QoS::AtMostOnce, b"x");
        assert_eq!(client.publish("denied", QoS::AtLeastOnce, b"x"), expect);
        assert_eq!(client.publish("denied", QoS::ExactlyOnce, b"x"), expect);
        let code = match version {
            Version::V5 => 0x87,
            Version::V311 => 0x80,
            Version::V31 => {
                // 3.1 has no failure code; what its SUBACK says is shown with SUBSCRIBE.
                reader.expect_nothing();
                continue;
            }
        };
        assert_eq!(codes(&client.subscribe("denied/#", QoS::AtLeastOnce)), [code]);
        reader.expect_nothing();
    }
}

#[test]
fn publish_waits_for_a_verdict_and_keeps_its_place() {
    for (verdict, delivered) in [(Verdict::Allow, true), (Verdict::Deny(ReasonCode::NotAuthorized), false)] {
        let (broker, rules) = ruled();
        let mut client = broker.client("c").connect();
        client.subscribe("#", QoS::AtMostOnce);
        client.send_publish("asked", QoS::AtMostOnce, false, b"first");
        client.send_publish("fine", QoS::AtMostOnce, false, b"second");
        client.expect_nothing();
        for token in rules.questions() {
            broker.complete(Completion::Authorized { token, verdict });
        }
        let expect: &[&[u8]] = if delivered { &[b"first", b"second"] } else { &[b"second"] };
        assert_eq!(client.payloads(), expect);
    }
}

#[test]
fn subscribe_waits_for_the_verdicts_of_all_its_filters() {
    let (broker, rules) = ruled();
    let mut client = broker.client("c").connect();
    let options = breakwater_proto::SubscribeOptions::new(QoS::AtLeastOnce);
    client.send_subscribe(&[("asked/1", options), ("denied", options), ("asked/2", options), ("fine", options)], None);
    client.expect_nothing();
    let tokens = rules.questions();
    assert_eq!(tokens.len(), 2);
    broker.complete(Completion::Authorized { token: tokens[1], verdict: Verdict::Allow });
    client.expect_nothing();
    broker.complete(Completion::Authorized { token: tokens[0], verdict: Verdict::Deny(ReasonCode::NotAuthorized) });
    assert_eq!(codes(&client.next_packet()), [0x87, 0x87, 1, 1]);
}

#[test]
fn refusal_comes_behind_a_challenge_that_was_answered_before_it_was_sent() {
    let (broker, _) = scripted([script::challenge(b"?"), script::refuse(ReasonCode::NotAuthorized)]);
    let mut client = with_method(&broker).start();
    client.send_packet(&answer(b"!"));
    expect_auth(&mut client, ReasonCode::ContinueAuthentication, Some(b"?"));
    assert_eq!(client.next_packet().connack().reason, ReasonCode::NotAuthorized);
    assert!(client.is_closed());
}

#[test]
fn permission_that_comes_too_late_is_not_taken_for_one_to_a_later_packet() {
    let rules = Arc::new(Rules::default());
    let broker = Broker::new().authorizer(rules.clone());
    let mut client = broker.client("c").connect();
    let publish = |client: &mut Client, topic| client.send_publish(topic, QoS::AtLeastOnce, false, b"m");
    publish(&mut client, "asked/first");
    client.expect_nothing();
    let first = rules.questions();
    broker.advance(Duration::from_secs(11));
    assert_eq!(client.next_of(PacketKind::PubAck).ack().reason, ReasonCode::NotAuthorized);
    publish(&mut client, "asked/second");
    client.expect_nothing();
    let second = rules.questions();
    broker.complete(Completion::Authorized { token: first[0], verdict: Verdict::Allow });
    client.expect_nothing();
    broker.complete(Completion::Authorized { token: second[0], verdict: Verdict::Deny(ReasonCode::NotAuthorized) });
    assert_eq!(client.next_of(PacketKind::PubAck).ack().reason, ReasonCode::NotAuthorized);
}
