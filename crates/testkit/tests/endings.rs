//! How connections end: in time, by their peer, by a bug of ours, by a shutdown.

use std::sync::Arc;
use std::time::Duration;

use breakwater_contract::auth::Subject;
use breakwater_contract::{Action, Authorizer, Metric, Verdict};
use breakwater_proto::{Packet, QoS, ReasonCode};
use breakwater_testkit::Broker;

#[test]
fn silence_longer_than_keep_alive_ends_the_connection() {
    let broker = Broker::new().shards(2);
    let mut silent = broker.client("silent").keep_alive(10).connect();
    let mut alive = broker.client("alive").keep_alive(10).connect();
    for _ in 0..2 {
        broker.advance(Duration::from_millis(7_400));
        alive.ping();
    }
    assert!(!silent.is_closed());
    broker.advance(Duration::from_millis(300));
    silent.expect_disconnect(ReasonCode::KeepAliveTimeout);
    alive.ping();
    assert_eq!(broker.counter(Metric::KeepAliveTimeouts), 1);
}

#[test]
fn keep_alive_0_never_ends_a_connection() {
    let broker = Broker::new();
    let mut client = broker.client("patient").keep_alive(0).connect();
    broker.advance(Duration::from_secs(7 * 24 * 3600));
    client.ping();
}

#[test]
fn a_connection_without_connect_ends_in_time() {
    let broker = Broker::new();
    let mut nothing = broker.connect();
    let mut beginning = broker.connect();
    beginning.send(&[0x10, 0x20, 0]);
    broker.advance(Duration::from_millis(9_900));
    assert!(!nothing.is_closed() && !beginning.is_closed());
    broker.advance(Duration::from_millis(300));
    assert!(nothing.is_closed() && beginning.is_closed());
    assert!(nothing.receive().is_empty() && beginning.receive().is_empty());
    assert_eq!((broker.counter(Metric::ConnectTimeouts), broker.wires()), (2, 0));
}

#[test]
fn dripping_a_connect_byte_by_byte_does_not_stretch_its_time() {
    let broker = Broker::new().shards(2);
    let mut client = broker.connect();
    client.send(&[0x10, 0x7F, 0, 4]);
    for byte in b"MQTT\x05\x02\x00\x00\x00" {
        broker.advance(Duration::from_secs(2));
        client.send(&[*byte]);
    }
    assert!(client.is_closed());
}

/// Has a bug that one topic brings out.
struct Trap;

impl Authorizer for Trap {
    fn allows_everything(&self) -> bool {
        false
    }

    fn check(&self, _subject: &Subject<'_>, action: Action<'_>) -> Verdict {
        if let Action::Publish { topic: "trap", .. } = action {
            panic!("a bug of ours");
        }
        Verdict::Allow
    }
}

#[test]
fn a_panic_costs_the_connection_that_caused_it_and_no_other() {
    let quiet = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let broker = Broker::new().shards(2).authorizer(Arc::new(Trap));
    let mut other = broker.client("other").connect();
    other.subscribe("#", QoS::AtLeastOnce);
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut client = broker.client("unlucky").persistent().connect();
        client.subscribe("trap", QoS::AtMostOnce);
        client.send_publish("fine", QoS::AtMostOnce, false, b"before");
        client.send_publish("trap", qos, false, b"boom");
        client.send_publish("fine", QoS::AtMostOnce, false, b"after");
        assert!(client.is_closed());
        assert_eq!(other.payloads(), [b"before"], "what came before is delivered, nothing after");
        other.ping();
        let again = broker.client("unlucky").persistent().connect();
        assert!(!again.connack.as_ref().expect("connected").connack().session_present, "its session can't be trusted");
    }
    std::panic::set_hook(quiet);
    assert_eq!(broker.counter(Metric::Panics), 3);
    assert_eq!(broker.publish_check(), ReasonCode::Success);
}

/// What every test of a damaged broker ends with.
trait StillWorks {
    fn publish_check(&self) -> ReasonCode;
}

impl StillWorks for Broker {
    fn publish_check(&self) -> ReasonCode {
        let mut reader = self.client("check-reader").connect();
        reader.subscribe("check", QoS::ExactlyOnce);
        let mut writer = self.client("check-writer").connect();
        let reason = writer.publish("check", QoS::ExactlyOnce, b"1");
        assert_eq!(reader.payloads(), [b"1"]);
        reason
    }
}

#[test]
fn shutdown_tells_everybody_publishes_wills_and_leaves_nothing() {
    let broker = Broker::new().shards(3);
    let mut clients: Vec<_> = (0..9)
        .map(|number| {
            let id = broker.id_at(number % 3, &format!("c{number}-"));
            broker.client(&id).persistent().will("wills", id.as_bytes(), QoS::AtLeastOnce, true).connect()
        })
        .collect();
    let mut old = broker.client("old").v311().connect();
    let mut porch = broker.connect();
    broker.shutdown();
    for client in &mut clients {
        client.expect_disconnect(ReasonCode::ServerShuttingDown);
    }
    assert!(old.is_closed() && old.receive().is_empty());
    assert!(porch.is_closed() && porch.receive().is_empty());
    assert_eq!((broker.connections(), broker.wires()), (0, 0));
    assert_eq!(broker.counter(Metric::WillsPublished), 9);
    assert!(broker.connect().is_closed(), "nobody is let in any more");
}

#[test]
fn a_connection_that_moves_while_the_broker_stops_is_told_so() {
    let broker = Broker::new().shards(2);
    let id = broker.id_at(1, "late");
    let mut client = broker.client(&id).at(0).start();
    broker.turn(0);
    broker.shutdown();
    assert!(client.is_closed());
    assert_eq!(client.next_packet().connack().reason, ReasonCode::ServerUnavailable);
    assert_eq!((broker.connections(), broker.wires()), (0, 0));
}

#[test]
fn wills_can_be_withheld_at_shutdown() {
    let broker = Broker::with(|options, _| options.wills_on_shutdown = false);
    let _mortal = broker.client("mortal").will("wills", b"x", QoS::AtMostOnce, true).connect();
    broker.shutdown();
    assert_eq!(broker.counter(Metric::WillsPublished), 0);
}

#[test]
fn a_session_ends_when_its_time_is_over() {
    let broker = Broker::new().shards(2);
    for (id, seconds) in [("short", 5), ("long", 50)] {
        let mut client = broker.client(id).resume().expiry(seconds).connect();
        client.subscribe("t", QoS::AtLeastOnce);
        client.reset();
    }
    broker.advance(Duration::from_millis(4_900));
    assert_eq!(broker.sessions(), 2);
    broker.advance(Duration::from_millis(300));
    assert_eq!(broker.sessions(), 1);
    assert_eq!(broker.router().counts().subscriptions, 1);
    broker.advance(Duration::from_secs(50));
    assert_eq!((broker.sessions(), broker.router().counts().subscriptions), (0, 0));
    assert_eq!(broker.counter(Metric::SessionsExpired), 2);
}

#[test]
fn garbage_ends_the_connection_that_sent_it() {
    let broker = Broker::new().shards(2);
    let mut other = broker.client("other").connect();
    let mut client = broker.client("garbled").connect();
    client.send(&[0xF7, 0x00, 0xFF]);
    assert!(client.is_closed());
    other.send_packet(&Packet::PingReq);
    other.expect(&Packet::PingResp);
    assert_eq!(broker.counter(Metric::Violations), 1);
}
