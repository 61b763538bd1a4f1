//! Porch, home and takeover, with several shards.

use std::time::Duration;

use breakwater_contract::Metric;
use breakwater_proto::{Connect, Filters, Packet, PacketKind, QoS, ReasonCode, Subscribe, SubscribeOptions, Version};
use breakwater_testkit::{Broker, Client, Logged};

const SHARDS: u16 = 4;

fn broker() -> Broker {
    Broker::new().shards(SHARDS)
}

/// A client on every shard, accepted by every shard.
fn everywhere(broker: &Broker) -> Vec<Client> {
    (0..SHARDS)
        .flat_map(|home| (0..SHARDS).map(move |porch| (home, porch)))
        .map(|(home, porch)| broker.client(&broker.id_at(home, &format!("c{porch}-"))).at(porch).connect())
        .collect()
}

#[test]
fn a_client_is_served_at_home_whichever_shard_accepted_it() {
    let broker = broker();
    let mut clients = everywhere(&broker);
    for client in &mut clients {
        client.subscribe("news", QoS::AtLeastOnce);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.publish("news", QoS::AtLeastOnce, &[index as u8]), ReasonCode::Success);
    }
    let all: Vec<Vec<u8>> = (0..clients.len() as u8).map(|index| vec![index]).collect();
    for client in &mut clients {
        let mut payloads = client.payloads();
        payloads.sort();
        assert_eq!(payloads, all);
    }
    assert_eq!(broker.connections(), clients.len());
}

#[test]
fn what_stands_behind_connect_is_handled_at_home() {
    let broker = broker();
    for porch in 0..SHARDS {
        let id = broker.id_at((porch + 1) % SHARDS, "tail");
        let mut client = broker.connect_at(porch);
        let mut bytes = Vec::new();
        Packet::Connect(Connect::new(Version::V5, &id)).encode(Version::V5, &mut bytes);
        let mut raw = Vec::new();
        Filters::write("echo", SubscribeOptions::new(QoS::AtMostOnce), &mut raw);
        let subscribe = Subscribe::new(7, Filters::from_encoded(&raw));
        Packet::Subscribe(subscribe).encode(Version::V5, &mut bytes);
        breakwater_testkit::out_publish("echo", QoS::AtMostOnce, false, 0, b"me").encode(Version::V5, &mut bytes);
        Packet::PingReq.encode(Version::V5, &mut bytes);
        bytes.extend_from_slice(&[0xC0]); // the beginning of one more
        client.send(&bytes);
        let kinds: Vec<PacketKind> = std::iter::from_fn(|| client.try_next()).map(|packet| packet.kind()).collect();
        assert_eq!(kinds, [PacketKind::ConnAck, PacketKind::SubAck, PacketKind::Publish, PacketKind::PingResp]);
        client.send(&[0]);
        client.expect(&Packet::PingResp);
    }
}

#[test]
fn bytes_that_arrive_while_a_connection_moves_are_read_at_home() {
    let broker = broker();
    let id = broker.id_at(1, "mover");
    let mut client = broker.client(&id).at(0).start();
    broker.turn(0); // the connection has left the porch and is not at home yet
    client.send_packet(&Packet::PingReq);
    assert_eq!(client.next_packet().kind(), PacketKind::ConnAck);
    client.expect(&Packet::PingResp);
}

#[test]
fn a_peer_that_closes_while_its_connection_moves_leaves_nothing_behind() {
    let broker = broker();
    for leave in [Client::half_close, Client::reset] {
        let id = broker.id_at(1, "mover");
        let mut client = broker.client(&id).at(0).start();
        broker.turn(0);
        leave(&mut client);
        assert!(client.is_closed());
        assert_eq!((broker.connections(), broker.sessions(), broker.wires()), (0, 0, 0));
    }
}

#[test]
fn a_split_connect_waits_on_the_porch_for_its_rest() {
    let broker = broker();
    let id = broker.id_at(2, "slow");
    let mut bytes = Vec::new();
    Packet::Connect(Connect::new(Version::V311, &id)).encode(Version::V311, &mut bytes);
    let mut client = broker.connect_at(0);
    client.version = Version::V311;
    for byte in &bytes[..bytes.len() - 1] {
        client.send(&[*byte]);
        client.expect_nothing();
    }
    client.send(&bytes[bytes.len() - 1..]);
    assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
}

#[test]
fn an_assigned_identifier_lives_where_it_was_accepted_and_can_be_used_again() {
    let broker = broker();
    for porch in 0..SHARDS {
        let client = broker.client("").expiry(60).at(porch).connect();
        let assigned = client.connack.as_ref().expect("connected").connack().assigned_client_id.expect("one was given");
        assert_eq!(broker.shard_of(assigned), porch);
        let again = broker.client(assigned).resume().connect();
        assert!(again.connack.as_ref().expect("connected").connack().session_present);
    }
}

#[test]
fn the_last_of_two_connections_with_one_identifier_wins_wherever_they_came_from() {
    let broker = broker();
    for (first, second) in [(0, 0), (0, 3), (3, 0), (1, 2)] {
        let id = broker.id_at(0, "one");
        let mut old = broker.client(&id).at(first).connect();
        let mut new = broker.client(&id).at(second).connect();
        old.expect_disconnect(ReasonCode::SessionTakenOver);
        new.ping();
        new.disconnect();
    }
    assert_eq!(broker.counter(Metric::SessionsTakenOver), 4);
    assert_eq!(broker.sessions(), 0);
}

#[test]
fn a_takeover_keeps_a_durable_session_and_its_unacknowledged_messages() {
    let broker = broker();
    let id = broker.id_at(2, "durable");
    let mut old = broker.client(&id).persistent().at(0).connect();
    old.subscribe("t", QoS::ExactlyOnce);
    let mut publisher = broker.client("publisher").connect();
    publisher.publish("t", QoS::AtLeastOnce, b"1");
    let first = old.next_packet();
    let packet_id = first.publish().packet_id;
    let mut new = broker.client(&id).persistent().at(1).connect();
    assert!(new.connack.as_ref().expect("connected").connack().session_present);
    let again = new.message();
    assert!(again.publish().dup);
    assert_eq!((again.publish().packet_id, again.publish().payload), (packet_id, &b"1"[..]));
    old.expect_disconnect(ReasonCode::SessionTakenOver);
}

#[test]
fn a_takeover_publishes_the_will_of_the_old_connection() {
    let broker = broker();
    let mut watcher = broker.client("watcher").connect();
    watcher.subscribe("wills", QoS::AtLeastOnce);
    let id = broker.id_at(3, "mortal");
    let _old = broker.client(&id).will("wills", b"gone", QoS::AtLeastOnce, false).connect();
    let _new = broker.client(&id).connect();
    assert_eq!(watcher.payloads(), [b"gone"]);
}

#[test]
fn a_delayed_will_is_not_published_if_the_session_is_taken_up_again_in_time() {
    let broker = broker();
    let mut watcher = broker.client("watcher").connect();
    watcher.subscribe("wills", QoS::AtLeastOnce);
    let id = broker.id_at(3, "mortal");
    let mortal =
        |payload| broker.client(&id).persistent().will("wills", payload, QoS::AtLeastOnce, false).will_delay(10);
    let mut client = mortal(b"first").connect();
    client.reset();
    broker.advance(Duration::from_secs(9));
    let mut client = mortal(b"second").connect();
    broker.advance(Duration::from_secs(30));
    assert!(watcher.payloads().is_empty());
    client.reset();
    broker.advance(Duration::from_secs(9));
    assert!(watcher.payloads().is_empty());
    broker.advance(Duration::from_secs(2));
    assert_eq!(watcher.payloads(), [b"second"]);
}

#[test]
fn many_connects_of_one_identifier_in_one_moment_leave_one_connection() {
    let broker = broker();
    let id = broker.id_at(1, "race");
    let mut clients: Vec<Client> = (0..32).map(|index| broker.client(&id).at(index % SHARDS).start()).collect();
    broker.step();
    let open = clients.iter().filter(|client| !client.is_closed()).count();
    assert_eq!((open, broker.connections(), broker.sessions()), (1, 1, 1));
    for client in &mut clients {
        assert_eq!(client.next_packet().connack().reason, ReasonCode::Success);
    }
}

#[test]
fn connecting_and_leaving_is_logged_once_each() {
    let broker = broker();
    let mut client = broker.client("logged").v311().at(0).connect();
    client.disconnect();
    let events = broker.events();
    assert!(
        matches!(
            &events[..],
            [
                Logged::Connected { client, version: "3.1.1", clean_start: true, session_present: false, .. },
                Logged::Disconnected { client: gone, code: 0, .. },
            ] if client == "logged" && gone == "logged"
        ),
        "{events:?}"
    );
}
