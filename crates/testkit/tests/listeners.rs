//! The clients of each listener get that listener's terms, and an operator can end them.

use std::sync::Arc;
use std::time::Duration;

use breakwater_contract::auth::Subject;
use breakwater_contract::{Action, AuthRequest, AuthStep, Authenticator, Authorizer, Kicked, Metric, Token, Verdict};
use breakwater_proto::{QoS, ReasonCode, Version};
use breakwater_session::{Limits, Versions};
use breakwater_shard::Profile;
use breakwater_testkit::{Broker, Client};

const OTHER: u16 = 4;

fn limited(change: impl FnOnce(&mut Limits)) -> Profile {
    let mut limits = Limits::default();
    change(&mut limits);
    Profile { limits: Arc::new(limits), ..Profile::default() }
}

fn receive_maximum(client: &Client) -> Option<u16> {
    client.connack.as_ref().and_then(|connack| connack.connack().receive_maximum)
}

#[test]
fn clients_of_two_listeners_live_by_their_own_limits() {
    let limits = |profile: &mut Profile| Arc::make_mut(&mut profile.limits).receive_maximum = 7;
    let broker = Broker::new().shards(3).profile(OTHER, limits);
    for index in 0..6 {
        let plain = broker.client(&format!("plain{index}")).connect();
        let other = broker.client(&format!("other{index}")).on(OTHER).connect();
        assert_eq!((receive_maximum(&plain), receive_maximum(&other)), (Some(1024), Some(7)));
    }
}

#[test]
fn packets_are_bounded_by_the_limit_of_the_own_listener() {
    let limits = |profile: &mut Profile| Arc::make_mut(&mut profile.limits).packet_bytes_max = 100;
    let broker = Broker::new().profile(OTHER, limits);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let mut plain = broker.client("plain").connect();
        plain.publish("t", qos, &[0; 200]);
        plain.ping();
        let mut other = broker.client("other").on(OTHER).connect();
        other.send_publish("t", qos, false, &[0; 200]);
        other.expect_disconnect(ReasonCode::PacketTooLarge);
    }
}

#[test]
fn a_listener_admits_its_own_versions() {
    let only_5 = |profile: &mut Profile| {
        Arc::make_mut(&mut profile.limits).versions = Versions::NONE.with(Version::V5);
    };
    let broker = Broker::new().profile(OTHER, only_5);
    for version in [Version::V31, Version::V311] {
        let _in = broker.client("old").version(version).connect();
        let (client, answer) = broker.client("old").version(version).on(OTHER).attempt();
        assert_eq!(answer.expect("CONNACK").connack().reason, ReasonCode::UnsupportedProtocolVersion);
        assert!(client.is_closed());
    }
    let _in = broker.client("new").on(OTHER).connect();
}

#[test]
fn what_a_stranger_may_do_is_up_to_its_listener_and_changes_with_it() {
    let strangers = |seconds: u32, bytes| {
        limited(|limits| (limits.connect_timeout_ms, limits.connect_bytes_max) = (seconds * 1000, bytes))
    };
    let broker = Broker::new();
    // CONNECT with a length of 100 bytes, of which none come.
    let promises = |listener| {
        let mut client = broker.connect_through(listener, None);
        client.send(&[0x10, 100]);
        client
    };
    broker.set_profile(OTHER, strangers(2, 100));
    assert!(promises(OTHER).is_closed());
    let (plain, other) = (promises(0), broker.connect_through(OTHER, None));
    broker.advance(Duration::from_secs(3));
    assert!(other.is_closed() && !plain.is_closed());
    broker.set_profile(OTHER, strangers(20, 102));
    let other = promises(OTHER);
    broker.advance(Duration::from_secs(15));
    assert!(plain.is_closed() && !other.is_closed());
    broker.advance(Duration::from_secs(6));
    assert!(other.is_closed());
    assert_eq!(broker.counter(Metric::ConnectTimeouts), 3);
}

#[test]
fn who_is_connected_keeps_the_limits_of_its_connack() {
    let broker = Broker::new();
    let mut old = broker.client("old").connect();
    broker.set_profile(0, limited(|limits| limits.packet_bytes_max = 100));
    let mut new = broker.client("new").connect();
    old.publish("t", QoS::AtLeastOnce, &[0; 200]);
    old.ping();
    new.send_publish("t", QoS::AtLeastOnce, false, &[0; 200]);
    new.expect_disconnect(ReasonCode::PacketTooLarge);
    old.disconnect();
    let mut old = broker.client("old").connect();
    old.send_publish("t", QoS::AtLeastOnce, false, &[0; 200]);
    old.expect_disconnect(ReasonCode::PacketTooLarge);
}

#[test]
fn a_session_that_is_away_lives_by_the_limits_of_its_last_connection() {
    let limits = |profile: &mut Profile| Arc::make_mut(&mut profile.limits).queue_messages_max = 2;
    let broker = Broker::new().profile(OTHER, limits);
    for (listener, kept) in [(0, 5), (OTHER, 2), (0, 5)] {
        let mut sleeper = broker.client("sleeper").persistent().on(listener).connect();
        sleeper.subscribe("t", QoS::AtLeastOnce);
        sleeper.disconnect();
        // Its terms stay, whatever becomes of the listener.
        broker.set_profile(OTHER, limited(|limits| limits.queue_messages_max = 2));
        let mut publisher = broker.client("publisher").connect();
        (0..5).for_each(|_| _ = publisher.publish("t", QoS::AtLeastOnce, b"m"));
        let mut sleeper = broker.client("sleeper").persistent().on(listener).connect();
        assert_eq!(sleeper.payloads().len(), kept);
        sleeper.disconnect();
    }
}

#[test]
fn sessions_outlive_the_profile_of_a_closed_listener() {
    let limits = |profile: &mut Profile| Arc::make_mut(&mut profile.limits).queue_messages_max = 2;
    let broker = Broker::new().profile(OTHER, limits);
    let mut sleeper = broker.client("sleeper").persistent().on(OTHER).connect();
    sleeper.subscribe("t", QoS::AtLeastOnce);
    sleeper.disconnect();
    broker.forget_profile(OTHER);
    let mut publisher = broker.client("publisher").on(OTHER).connect();
    assert_eq!(receive_maximum(&publisher), Some(1024));
    (0..5).for_each(|_| _ = publisher.publish("t", QoS::AtLeastOnce, b"m"));
    let mut sleeper = broker.client("sleeper").persistent().connect();
    assert_eq!(sleeper.payloads().len(), 2);
}

/// Refuses everybody who is asked about, and lets nobody but "known" publish.
struct Strict;

impl Authenticator for Strict {
    fn authenticate(&self, _request: &AuthRequest<'_>) -> AuthStep {
        AuthStep::Refuse { reason: ReasonCode::NotAuthorized, text: None }
    }

    fn abandon(&self, _token: Token) {}

    fn offers(&self, _method: &str) -> bool {
        true
    }
}

impl Authorizer for Strict {
    fn allows_everything(&self) -> bool {
        false
    }

    fn check(&self, subject: &Subject<'_>, _action: Action<'_>) -> Verdict {
        if &*subject.principal.name == "known" { Verdict::Allow } else { Verdict::Deny(ReasonCode::NotAuthorized) }
    }
}

#[test]
fn a_listener_without_authentication_takes_the_given_name_for_the_true_one() {
    let broker = Broker::new().authenticator(Arc::new(Strict)).authorizer(Arc::new(Strict));
    let broker = broker.profile(OTHER, |profile| profile.authenticate = false);
    let (_, refused) = broker.client("c").set(|connect| connect.username = Some("known")).attempt();
    assert_eq!(refused.expect("CONNACK").connack().reason, ReasonCode::NotAuthorized);
    let known = broker.client("c").on(OTHER).set(|connect| connect.username = Some("known"));
    assert_eq!(known.connect().publish("t", QoS::AtLeastOnce, b""), ReasonCode::NoMatchingSubscribers);
    let nobody = broker.client("c").on(OTHER);
    assert_eq!(nobody.connect().publish("t", QoS::AtLeastOnce, b""), ReasonCode::NotAuthorized);
    let (_, refused) = broker.client("c").on(OTHER).set(|connect| connect.auth_method = Some("M")).attempt();
    assert_eq!(refused.expect("CONNACK").connack().reason, ReasonCode::BadAuthenticationMethod);
}

#[test]
fn draining_ends_the_clients_of_one_listener_bit_by_bit() {
    let broker = Broker::new().shards(2);
    let mut stays: Vec<_> = (0..6).map(|index| broker.client(&format!("stays{index}")).connect()).collect();
    let mut goes: Vec<_> = (0..20).map(|index| broker.client(&format!("goes{index}")).on(OTHER).connect()).collect();
    let _on_the_porch = broker.connect_through(OTHER, None);
    assert_eq!((broker.connections_of(0), broker.connections_of(OTHER)), (6, 21));
    let mut left = 21;
    while left > 0 {
        let now = broker.drain(Some(OTHER), 3);
        assert!(now < left && left - now <= 6, "{now} of {left} are left");
        left = now;
    }
    goes.iter_mut().for_each(|client| client.expect_disconnect(ReasonCode::AdministrativeAction));
    stays.iter_mut().for_each(Client::ping);
    assert_eq!((broker.connections_of(0), broker.connections_of(OTHER)), (6, 0));
    assert_eq!(broker.counter(Metric::ConnectionsDrained), 21);
    assert_eq!(broker.drain(Some(OTHER), 3), 0);
    assert_eq!(broker.drain(None, 100), 0);
    assert_eq!((broker.connections(), broker.wires()), (0, 0));
}

#[test]
fn a_drained_client_leaves_its_will_and_its_session() {
    let broker = Broker::new();
    let mut watcher = broker.client("watcher").connect();
    watcher.subscribe("will", QoS::AtMostOnce);
    let goes = broker.client("goes").persistent().on(OTHER).will("will", b"gone", QoS::AtMostOnce, false);
    let mut goes = goes.connect();
    broker.drain(Some(OTHER), 1);
    goes.expect_disconnect(ReasonCode::AdministrativeAction);
    assert_eq!(watcher.payloads(), [b"gone"]);
    let back = broker.client("goes").persistent().connect();
    assert!(back.connack.as_ref().is_some_and(|connack| connack.connack().session_present));
}

#[test]
fn a_kicked_client_is_told_and_its_session_ends_if_asked() {
    let broker = Broker::new().shards(3);
    for discard in [false, true] {
        let mut client = broker.client("client").persistent().connect();
        assert_eq!(broker.kick("nobody", ReasonCode::AdministrativeAction, discard), Kicked::Unknown);
        assert_eq!(broker.kick("client", ReasonCode::AdministrativeAction, discard), Kicked::Client);
        client.expect_disconnect(ReasonCode::AdministrativeAction);
        assert_eq!(broker.sessions(), usize::from(!discard));
    }
    assert_eq!(broker.counter(Metric::ClientsKicked), 2);
    // One that is away, and one whose session lasts no longer than its connection.
    broker.client("client").persistent().connect().disconnect();
    assert_eq!(broker.kick("client", ReasonCode::AdministrativeAction, true), Kicked::Away);
    let mut short = broker.client("short").connect();
    assert_eq!(broker.kick("short", ReasonCode::NotAuthorized, true), Kicked::Client);
    short.expect_disconnect(ReasonCode::NotAuthorized);
    assert_eq!(broker.sessions(), 0);
    broker.advance(Duration::from_secs(1));
}
