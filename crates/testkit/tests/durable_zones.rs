//! Zones that promise different things, over a simulated disk: what is there after a power cut, after a kill, and what never touches the disk.

use std::time::Duration;

use breakwater_proto::{
    Ack, Packet, PacketKind, QoS, ReasonCode, SubscribeOptions, Version, encode_pubrec, encode_pubrel,
};
use breakwater_shard::{Durability, Profile, ShardId};
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};
use breakwater_testkit::{Broker, Client, out_publish};

const FSYNC: u16 = 1;
const OS: u16 = 2;
const MEMORY: u16 = 3;
const ZONES: [(u16, &str, Durability); 3] =
    [(FSYNC, "fsync", Durability::Fsync), (OS, "os", Durability::Os), (MEMORY, "memory", Durability::Memory)];

const ACKNOWLEDGED: [QoS; 2] = [QoS::AtLeastOnce, QoS::ExactlyOnce];
const SECOND: Duration = Duration::from_secs(1);
/// The other party on the same shard, and on another one.
const HOMES: [ShardId; 2] = [0, 1];

fn on(disk: &SimulatedDisk) -> Broker {
    let zoned = |broker: Broker, (listener, zone, durability): (u16, &str, Durability)| {
        broker.profile(listener, |profile| (profile.zone, profile.durability) = (zone.into(), durability))
    };
    let broker = ZONES.into_iter().fold(Broker::new().shards(2), zoned).on_disk(disk);
    // What the start itself writes goes by itself.
    broker.advance(SECOND);
    broker
}

fn after(disk: &SimulatedDisk, crash: Crash) -> Broker {
    on(&disk.after(crash))
}

fn fill(disk: &SimulatedDisk) {
    disk.set_faults(vec![Fault { first: disk.steps(), steps: u64::MAX / 2, kind: FaultKind::NoRoom }]);
}

fn acknowledgement(qos: QoS) -> PacketKind {
    if qos == QoS::AtLeastOnce { PacketKind::PubAck } else { PacketKind::PubRec }
}

fn lasting(broker: &Broker, id: &str, zone: u16, filters: &[&str]) -> Client {
    let mut client = broker.client(id).persistent().on(zone).connect();
    for filter in filters {
        client.subscribe(filter, QoS::ExactlyOnce);
    }
    client
}

/// A client that comes back through a zone, and whether its session was there.
fn back(broker: &Broker, id: &str, zone: u16) -> (Client, bool) {
    let (client, connack) = broker.client(id).persistent().resume().on(zone).attempt();
    (client, connack.expect("CONNACK").connack().session_present)
}

/// What a client finds that comes back: none without its session.
fn found(broker: &Broker, id: &str) -> Option<Vec<Vec<u8>>> {
    let (mut client, present) = back(broker, id, FSYNC);
    present.then(|| client.payloads())
}

fn has(messages: &[&[u8]]) -> Option<Vec<Vec<u8>>> {
    Some(messages.iter().map(|message| message.to_vec()).collect())
}

#[test]
fn a_power_cut_takes_what_the_disk_was_not_asked_for_and_a_kill_what_nobody_was_told() {
    for (qos, home) in ACKNOWLEDGED.into_iter().flat_map(|qos| HOMES.map(|home| (qos, home))) {
        for (zone, name, durability) in ZONES {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            let id = broker.id_at(home, "listener");
            lasting(&broker, &id, zone, &["t"]).disconnect();
            let mut publisher = broker.client(&broker.id_at(0, "publisher")).connect();
            publisher.publish("t", qos, b"m");
            broker.advance(SECOND);
            let (cut, killed) = (after(&disk, Crash::Nothing), after(&disk, Crash::Process));
            let there = |is: bool| if is { has(&[b"m"]) } else { None };
            assert_eq!(found(&cut, &id), there(durability == Durability::Fsync), "{name} {qos:?} {home}");
            assert_eq!(found(&killed, &id), there(durability > Durability::Memory), "{name} {qos:?} {home}");
            assert_eq!(found(&broker, &id), has(&[b"m"]), "the process has it");
        }
    }
}

#[test]
fn nothing_of_a_zone_that_promises_memory_touches_the_disk() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    // The start itself is written, and folded.
    broker.advance(SECOND * 60);
    let (written, steps) = (disk.written(), disk.steps());
    for home in HOMES {
        let id = broker.id_at(home, "listener");
        let mut listener = lasting(&broker, &id, MEMORY, &["#", "$share/g/t", "gone"]);
        listener.unsubscribe("gone");
        let publisher = broker.client("publisher").persistent().on(MEMORY);
        let mut publisher = publisher.will("will", b"w", QoS::AtLeastOnce, true).connect();
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.publish_retained("t", qos, b"m");
            publisher.publish("$delayed/2/later", qos, b"d");
        }
        publisher.publish_retained("t", QoS::AtLeastOnce, b"");
        let mut expiring = out_publish("expires", QoS::AtLeastOnce, true, 77, b"e");
        expiring.expiry = Some(1);
        publisher.send_out(&expiring);
        publisher.next_of(PacketKind::PubAck);
        listener.payloads();
        listener.disconnect();
        publisher.publish("t", QoS::AtLeastOnce, b"away");
        publisher.disconnect_with(ReasonCode::DisconnectWithWill);
        broker.advance(SECOND * 120);
        let (mut listener, present) = back(&broker, &id, MEMORY);
        assert!(present && !listener.payloads().is_empty());
        listener.disconnect();
        broker.client(&id).clean().on(MEMORY).connect().disconnect();
    }
    broker.advance(SECOND * 60);
    assert_eq!((disk.written(), disk.steps()), (written, steps));
}

#[test]
fn an_acknowledgement_waits_for_what_the_zone_of_the_subscriber_promises() {
    for (qos, home) in ACKNOWLEDGED.into_iter().flat_map(|qos| HOMES.map(|home| (qos, home))) {
        for (from, to, waits) in [(MEMORY, FSYNC, true), (MEMORY, OS, true), (MEMORY, MEMORY, false)] {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            lasting(&broker, &broker.id_at(home, "listener"), to, &["t"]).disconnect();
            let mut publisher = lasting(&broker, &broker.id_at(0, "publisher"), from, &[]);
            broker.halt_store(true);
            publisher.send_publish("t", qos, false, b"m");
            if waits {
                publisher.expect_nothing();
            }
            broker.halt_store(false);
            publisher.next_of(acknowledgement(qos));
        }
    }
}

#[test]
fn what_a_publisher_owes_by_itself_goes_by_its_own_zone() {
    for home in HOMES {
        for (zone, lasts) in [(FSYNC, [true, true]), (OS, [false, true]), (MEMORY, [false, false])] {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            let mut listener = lasting(&broker, &broker.id_at(home, "listener"), MEMORY, &["t"]);
            let mut publisher = lasting(&broker, "publisher", zone, &[]);
            broker.halt_store(true);
            publisher.send_out(&out_publish("t", QoS::ExactlyOnce, true, 5, b"m"));
            if zone == MEMORY {
                publisher.next_of(PacketKind::PubRec);
            } else {
                publisher.expect_nothing();
            }
            broker.halt_store(false);
            assert_eq!(listener.payloads(), [b"m"]);
            for (crash, lasts) in [Crash::Nothing, Crash::Process].into_iter().zip(lasts) {
                let again = after(&disk, crash);
                assert_eq!(again.router().counts().retained, u64::from(lasts));
                let mut other = lasting(&again, "other", FSYNC, &["t"]);
                assert_eq!(other.payloads().len(), usize::from(lasts), "what is retained");
                // The publish is known, so that it is not a new one; without its session it is.
                let (mut publisher, present) = back(&again, "publisher", zone);
                assert_eq!(present, lasts);
                let mut again = out_publish("t", QoS::ExactlyOnce, true, 5, b"m");
                again.dup = true;
                publisher.send_out(&again);
                publisher.next_of(PacketKind::PubRec);
                assert_eq!(other.payloads().len(), usize::from(!lasts));
            }
        }
    }
}

#[test]
fn a_batch_is_as_durable_as_the_strongest_in_it() {
    for (qos, home) in ACKNOWLEDGED.into_iter().flat_map(|qos| HOMES.map(|home| (qos, home))) {
        for lasts in [false, true] {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            let ids = [("strong", FSYNC), ("weak", OS)].map(|(name, zone)| {
                let id = broker.id_at(home, name);
                lasting(&broker, &id, zone, &["t"]).disconnect();
                id
            });
            let id = broker.id_at(0, "publisher");
            let publisher = broker.client(&id).on(OS);
            let mut publisher = if lasts { publisher.persistent() } else { publisher }.connect();
            publisher.publish("t", qos, b"m");
            let again = after(&disk, Crash::Nothing);
            ids.iter().for_each(|id| assert_eq!(found(&again, id), has(&[b"m"]), "{qos:?} {home} {lasts}"));
        }
    }
}

#[test]
fn a_session_that_moves_to_memory_leaves_the_store_once_nothing_waits_for_it() {
    for qos in ACKNOWLEDGED {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        lasting(&broker, "idle", FSYNC, &["other"]).disconnect();
        lasting(&broker, "owed", FSYNC, &["t"]).disconnect();
        let mut publisher = broker.client("publisher").connect();
        publisher.publish("t", qos, b"1");

        let (mut idle, present) = back(&broker, "idle", MEMORY);
        assert!(present);
        let (mut owed, present) = back(&broker, "owed", MEMORY);
        assert!(present);
        publisher.publish("t", qos, b"2");
        broker.advance(SECOND);
        let killed = after(&disk, Crash::Process);
        assert_eq!((found(&killed, "idle"), found(&killed, "owed")), (None, has(&[b"1", b"2"])));
        assert_eq!(found(&after(&disk, Crash::Nothing), "owed").map(|got| got[0].clone()), Some(b"1".to_vec()));

        assert_eq!(owed.payloads(), [b"1", b"2"]);
        owed.disconnect();
        broker.advance(SECOND);
        assert_eq!(found(&after(&disk, Crash::Process), "owed"), None);

        // Both go on where they were, in memory.
        let written = disk.written();
        publisher.publish("t", qos, b"3");
        publisher.publish("other", qos, b"4");
        broker.advance(SECOND);
        assert_eq!(disk.written(), written);
        assert_eq!(idle.payloads(), [b"4"]);
        let (mut owed, present) = back(&broker, "owed", MEMORY);
        assert!(present);
        assert_eq!(owed.payloads(), [b"3"]);
    }
}

/// A session in memory with a bit of everything: subscriptions of three kinds, a publish that awaits PUBREL, and to the client one
/// delivery with PUBREC, one without, and three that wait.
fn full_of_business(broker: &Broker) {
    let exact = SubscribeOptions::new(QoS::ExactlyOnce);
    let mut client = broker.client("mover").persistent().receive_maximum(2).on(MEMORY).connect();
    client.subscribe_with(&[("t", exact)], Some(7));
    client.subscribe_with(&[("$share/g/work", exact)], None);
    client.send_out(&out_publish("in", QoS::ExactlyOnce, false, 9, b"x"));
    client.next_of(PacketKind::PubRec);
    let mut publisher = broker.client("publisher").connect();
    for payload in [b"1", b"2", b"3", b"4", b"5"] {
        publisher.publish("t", QoS::ExactlyOnce, payload);
    }
    for (payload, answered) in [(b"1", true), (b"2", false)] {
        let delivery = client.next_of(PacketKind::Publish);
        assert_eq!(delivery.publish().payload, payload);
        if answered {
            let mut pubrec = Vec::new();
            encode_pubrec(Version::V5, delivery.publish().packet_id, ReasonCode::Success, &mut pubrec);
            client.send(&pubrec);
        }
    }
    client.next_of(PacketKind::PubRel);
    client.reset();
    broker.step();
}

#[test]
fn a_session_that_moves_out_of_memory_is_stored_with_all_that_it_has() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    full_of_business(&broker);
    assert_eq!(found(&after(&disk, Crash::Process), "mover"), None);
    broker.halt_store(true);
    let mut client = broker.client("mover").persistent().resume().receive_maximum(2).on(FSYNC).start();
    client.expect_nothing();
    broker.halt_store(false);
    assert!(client.next_of(PacketKind::ConnAck).connack().session_present);

    let again = after(&disk, Crash::Nothing);
    assert_eq!(again.router().counts().subscriptions + again.router().counts().shared_subscriptions, 2);
    let mut listener = again.client("listener").connect();
    listener.subscribe("in", QoS::ExactlyOnce);
    let (mut client, present) = back(&again, "mover", FSYNC);
    assert!(present);
    let released = client.next_of(PacketKind::PubRel);
    assert_eq!(released.ack().packet_id, 1);
    client.send_packet(&Packet::PubComp(Ack::new(1, ReasonCode::Success)));
    let mut under_way = client.next_of(PacketKind::Publish);
    assert_eq!(
        (under_way.publish().packet_id, under_way.publish().dup, under_way.publish().payload),
        (2, true, &b"2"[..])
    );
    let mut rest = Vec::new();
    for _ in 0..4 {
        let publish = under_way.publish();
        assert!(under_way.bytes().windows(2).any(|bytes| bytes == [0x0B, 7]), "its identifier");
        rest.push(publish.payload.to_vec());
        let mut pubrec = Vec::new();
        encode_pubrec(Version::V5, publish.packet_id, ReasonCode::Success, &mut pubrec);
        client.send(&pubrec);
        client.next_of(PacketKind::PubRel);
        client.send_packet(&Packet::PubComp(Ack::new(under_way.publish().packet_id, ReasonCode::Success)));
        if rest.len() < 4 {
            under_way = client.next_of(PacketKind::Publish);
        }
    }
    assert_eq!(rest, [b"2", b"3", b"4", b"5"]);
    // What it had published is known: not taken twice.
    let mut repeated = out_publish("in", QoS::ExactlyOnce, false, 9, b"x");
    repeated.dup = true;
    client.send_out(&repeated);
    client.next_of(PacketKind::PubRec);
    listener.expect_nothing();
    let mut pubrel = Vec::new();
    encode_pubrel(Version::V5, 9, ReasonCode::Success, &mut pubrel);
    client.send(&pubrel);
    client.next_of(PacketKind::PubComp);
    // All of it was forgotten by the store as by the client.
    client.disconnect();
    again.advance(SECOND);
    assert_eq!(found(&again, "mover"), has(&[]));
}

#[test]
fn a_session_that_can_not_be_stored_is_refused_and_stays_in_memory() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    lasting(&broker, "mover", MEMORY, &["t"]).disconnect();
    broker.client("publisher").connect().publish("t", QoS::AtLeastOnce, b"1");
    fill(&disk);
    let (_, connack) = broker.client("mover").persistent().resume().on(FSYNC).attempt();
    assert_eq!(connack.expect("CONNACK").connack().reason, ReasonCode::QuotaExceeded);
    let (mut client, present) = back(&broker, "mover", MEMORY);
    assert!(present);
    assert_eq!(client.payloads(), [b"1"]);
    client.disconnect();
    disk.set_faults(Vec::new());
    broker.advance(SECOND * 2);
    let (_, present) = back(&broker, "mover", FSYNC);
    assert!(present);
    assert!(back(&after(&disk, Crash::Nothing), "mover", FSYNC).1);
}

#[test]
fn a_session_that_a_start_finds_goes_by_its_zone() {
    for (zone, lasts) in [(FSYNC, true), (OS, false)] {
        let disk = SimulatedDisk::new();
        lasting(&on(&disk), "listener", zone, &["t"]).disconnect();
        let disk = disk.after(Crash::Process);
        let broker = on(&disk);
        broker.client("publisher").on(MEMORY).connect().publish("t", QoS::AtLeastOnce, b"m");
        let expected = if lasts { has(&[b"m"]) } else { has(&[]) };
        assert_eq!(found(&after(&disk, Crash::Nothing), "listener"), expected);
        assert_eq!(found(&after(&disk, Crash::Process), "listener"), has(&[b"m"]));
    }
}

#[test]
fn a_zone_that_promises_less_from_here_on_does_so_to_who_connects_from_here_on() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let kept = lasting(&broker, "kept", FSYNC, &["kept"]);
    lasting(&broker, "fresh", FSYNC, &["fresh"]).disconnect();
    let profile = |durability| Profile { zone: "fsync".into(), durability, ..Profile::default() };
    broker.set_profile(FSYNC, profile(Durability::Os));
    let (fresh, _) = back(&broker, "fresh", FSYNC);
    let mut publisher = broker.client("publisher").connect();
    publisher.publish("kept", QoS::AtLeastOnce, b"1");
    publisher.publish("fresh", QoS::AtLeastOnce, b"2");
    let cut = after(&disk, Crash::Nothing);
    assert_eq!((found(&cut, "kept"), found(&cut, "fresh")), (has(&[b"1"]), has(&[])));
    drop((kept, fresh));
}

#[test]
fn what_is_retained_from_memory_does_not_let_an_older_one_come_back() {
    for crash in [Crash::Process, Crash::Nothing] {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let mut strong = broker.client("strong").on(FSYNC).connect();
        let mut weak = broker.client("weak").on(MEMORY).connect();
        for topic in ["replaced", "cleared", "stays"] {
            strong.publish_retained(topic, QoS::AtLeastOnce, b"stored");
        }
        weak.publish_retained("replaced", QoS::AtLeastOnce, b"in memory");
        weak.publish_retained("cleared", QoS::AtLeastOnce, b"");
        broker.advance(SECOND);
        let written = disk.written();
        weak.publish_retained("replaced", QoS::AtLeastOnce, b"in memory again");
        broker.advance(SECOND);
        assert_eq!(disk.written(), written, "the store has none of it any more");
        strong.publish_retained("last", QoS::AtLeastOnce, b"synced with all before it");
        let again = after(&disk, crash);
        let mut topics: Vec<String> = Vec::new();
        let mut reader = again.client("reader").connect();
        reader.subscribe("#", QoS::AtMostOnce);
        while let Some(packet) = reader.try_next() {
            topics.push(packet.publish().topic.into());
        }
        topics.sort();
        assert_eq!(topics, ["last", "stays"], "{crash:?}");
    }
}

#[test]
fn a_message_for_later_lasts_as_its_publishers_zone_says() {
    for (zone, lasts) in [(FSYNC, true), (MEMORY, false)] {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        lasting(&broker, "listener", FSYNC, &["t"]).disconnect();
        broker.client("publisher").on(zone).connect().publish("$delayed/5/t", QoS::AtLeastOnce, b"m");
        let again = after(&disk, Crash::Nothing);
        again.advance(SECOND * 6);
        assert_eq!(found(&again, "listener"), if lasts { has(&[b"m"]) } else { has(&[]) });
        broker.advance(SECOND * 6);
        assert_eq!(found(&broker, "listener"), has(&[b"m"]), "for one that is stored it is stored then");
    }
}

#[test]
fn a_message_for_a_group_goes_by_the_member_that_it_is_for() {
    for (zone, lasts) in [(FSYNC, true), (OS, false), (MEMORY, false)] {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        lasting(&broker, "member", zone, &["$share/g/t"]).disconnect();
        broker.client("publisher").connect().publish("t", QoS::AtLeastOnce, b"m");
        let again = after(&disk, Crash::Nothing);
        let (mut member, present) = back(&again, "member", zone);
        again.advance(SECOND * 2);
        assert_eq!((present, member.payloads().len()), (lasts, usize::from(lasts)));
        let (mut member, present) = back(&broker, "member", zone);
        broker.advance(SECOND * 2);
        assert!(present);
        assert_eq!(member.payloads(), [b"m"]);
    }
}
