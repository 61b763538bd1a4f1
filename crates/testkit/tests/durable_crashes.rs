//! Power cuts at any moment: what was acknowledged is there afterwards, and nothing is that nobody sent.

use std::collections::{BTreeMap, BTreeSet};

use breakwater_proto::{PacketKind, QoS, ReasonCode, SubscribeOptions, Version};
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};
use breakwater_testkit::{Broker, Chance, Client, out_publish};

const PUBLISHERS: usize = 3;
const TOPICS: u64 = 5;
const METERS: u64 = 6;

/// What clients know of the broker, over all its lives.
#[derive(Default)]
struct Known {
    /// Values that a topic may have: the last one that was acknowledged, and what was sent after it; none for "cleared".
    values: BTreeMap<String, Vec<Option<Vec<u8>>>>,
    /// Sessions of which CONNACK has come.
    sessions: BTreeSet<String>,
    /// Filters of which SUBACK has come, by session.
    filters: BTreeMap<String, BTreeSet<String>>,
}

struct Publisher {
    client: Client,
    /// Not acknowledged yet: packet identifier, topic, place among its values.
    under_way: Vec<(u16, String)>,
}

impl Publisher {
    fn send(&mut self, number: usize, known: &mut Known, chance: &mut Chance, count: u64) {
        let topic = format!("{number}/{}", chance.below(TOPICS));
        let value = (chance.below(4) > 0).then(|| count.to_string().into_bytes());
        let qos = if chance.below(2) == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let id = self.client.next_id();
        self.client.send_out(&out_publish(&topic, qos, true, id, value.as_deref().unwrap_or_default()));
        known.values.entry(topic.clone()).or_insert_with(|| vec![None]).push(value);
        self.under_way.push((id, topic));
    }

    /// Takes acknowledgements: what is older than the acknowledged value can't come back.
    fn take(&mut self, known: &mut Known) {
        while let Some(packet) = self.client.try_next() {
            let (kind, ack) = (packet.kind(), packet.ack());
            if kind == PacketKind::PubComp {
                continue;
            }
            let (id, reason) = (ack.packet_id, ack.reason);
            if kind == PacketKind::PubRec && !reason.is_error() {
                let mut bytes = Vec::new();
                breakwater_proto::encode_pubrel(Version::V5, id, ReasonCode::Success, &mut bytes);
                self.client.send(&bytes);
            }
            let (first, topic) = self.under_way.remove(0);
            assert_eq!(first, id, "acknowledgements keep their order");
            let later = self.under_way.iter().filter(|(_, other)| *other == topic).count();
            let values = known.values.get_mut(&topic).expect("it was sent");
            if !reason.is_error() {
                // The acknowledged one, and those behind it.
                values.drain(..values.len() - later - 1);
            }
        }
    }
}

fn live(broker: &Broker, disk: &SimulatedDisk, known: &mut Known, chance: &mut Chance, count: &mut u64) {
    let publisher = |number: usize| {
        let client = broker.client(["first", "second", "third"][number]).connect();
        Publisher { client, under_way: Vec::new() }
    };
    let mut publishers: Vec<Publisher> = (0..PUBLISHERS).map(publisher).collect();
    // From some moment on the power is off, or the disk refuses.
    let kind = [FaultKind::Power, FaultKind::Power, FaultKind::Sync, FaultKind::Write][chance.below(4) as usize];
    let (first, steps) = (disk.steps() + chance.below(120), if kind == FaultKind::Power { u64::MAX / 2 } else { 3 });
    disk.set_faults(vec![Fault { first, steps, kind }]);
    for _ in 0..30 + chance.below(60) {
        *count += 1;
        let number = chance.below(PUBLISHERS as u64) as usize;
        match chance.below(10) {
            0..5 => publishers[number].send(number, known, chance, *count),
            5..7 => publishers[number].take(known),
            7 => broker.halt_store(chance.below(2) == 0),
            8 => {
                let id = format!("meter {}", chance.below(METERS));
                let mut meter = broker.client(&id).persistent().start();
                let let_in = meter
                    .try_next()
                    .is_some_and(|packet| packet.kind() == PacketKind::ConnAck && !packet.connack().reason.is_error());
                if !let_in {
                    continue;
                }
                known.sessions.insert(id.clone());
                let filter = format!("{id}/{}", chance.below(3));
                meter.send_subscribe(&[(&filter, SubscribeOptions::new(QoS::AtLeastOnce))], None);
                if meter.try_next().is_some_and(|packet| packet.kind() == PacketKind::SubAck) {
                    known.filters.entry(id).or_default().insert(filter);
                }
            }
            _ => broker.advance(std::time::Duration::from_millis(chance.below(700))),
        }
    }
    publishers.iter_mut().for_each(|publisher| publisher.take(known));
    disk.set_faults(Vec::new());
}

fn check(broker: &Broker, known: &mut Known, seed: u64) {
    for (topic, values) in &mut known.values {
        let kept = broker.router().retained(topic, broker.now()).map(|message| message.payload().to_vec());
        assert!(values.contains(&kept), "seed {seed}: {topic}: {kept:?} is none of {values:?}");
        *values = vec![kept];
    }
    for id in &known.sessions {
        let (mut meter, connack) = broker.client(id).persistent().attempt();
        assert!(connack.expect("CONNACK").connack().session_present, "seed {seed}: {id}");
        // What it was sent in earlier lives, and never acknowledged.
        meter.payloads();
        let mut other = broker.client("other").connect();
        for filter in known.filters.get(id).into_iter().flatten() {
            other.publish(filter, QoS::AtLeastOnce, b"x");
            assert_eq!(meter.payloads(), [b"x"], "seed {seed}: {filter}");
        }
    }
}

#[test]
fn what_is_acknowledged_is_there_after_a_power_cut_at_any_moment() {
    let (mut acknowledged, mut subscribed) = (0, 0);
    for seed in 0..150 {
        let mut chance = Chance::starting_at(seed);
        let (mut known, mut count) = (Known::default(), 0);
        let mut disk = SimulatedDisk::new();
        for _ in 0..4 {
            let broker = Broker::new().seed(seed).shards(1 + chance.below(3) as u16).on_disk(&disk);
            check(&broker, &mut known, seed);
            live(&broker, &disk, &mut known, &mut chance, &mut count);
            let crash = match chance.below(4) {
                0 => Crash::Process,
                1 => Crash::Nothing,
                2 => Crash::Torn(chance.below(u64::MAX)),
                _ => Crash::Scattered(chance.below(u64::MAX)),
            };
            disk = disk.after(crash);
        }
        check(&Broker::new().on_disk(&disk), &mut known, seed);
        acknowledged += known.values.values().filter(|values| values[0].is_some()).count();
        subscribed += known.filters.values().map(BTreeSet::len).sum::<usize>();
    }
    assert!(acknowledged > 500 && subscribed > 300, "{acknowledged}, {subscribed}");
}
