//! Sessions that move between zones, and power cuts and kills at any moment: what was acknowledged comes as the zone of the moment has
//! promised it.

use std::collections::BTreeSet;

use breakwater_proto::{PacketKind, QoS};
use breakwater_shard::Durability;
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};
use breakwater_testkit::{Broker, Chance, Client};

const PROMISES: [Durability; 3] = [Durability::Memory, Durability::Os, Durability::Fsync];

/// By listener, from 1.
fn on(disk: &SimulatedDisk) -> Broker {
    let zoned = |broker: Broker, (listener, durability): (u16, Durability)| {
        broker.profile(listener, |profile| {
            (profile.zone, profile.durability) = (format!("{durability:?}").into(), durability);
        })
    };
    (1..).zip(PROMISES).fold(Broker::new().shards(2), zoned).on_disk(disk)
}

/// A message that was acknowledged, and how durable it is.
struct Owed {
    number: u64,
    promised: Durability,
}

/// One client with a session that lasts, which comes and goes through changing zones and takes what it is sent now and then.
struct Subscriber {
    id: String,
    client: Option<Client>,
    zone: Durability,
    /// CONNACK and SUBACK of a session have come, and it has not been lost since.
    has_session: bool,
    owed: Vec<Owed>,
    /// What it may get besides: without an acknowledgement, or once more.
    possible: BTreeSet<u64>,
}

impl Subscriber {
    fn new(number: u64) -> Self {
        let (owed, possible) = (Vec::new(), BTreeSet::new());
        Self {
            id: format!("mover-{number}"),
            client: None,
            zone: Durability::Memory,
            has_session: false,
            owed,
            possible,
        }
    }

    fn connect(&mut self, broker: &Broker, chance: &mut Chance) {
        let zone = chance.below(3) as usize;
        let (client, connack) = broker.client(&self.id).persistent().resume().on(zone as u16 + 1).attempt();
        // The power may be off.
        let Some(connack) = connack.filter(|connack| !connack.connack().reason.is_error()) else { return };
        self.client = Some(client);
        self.zone = PROMISES[zone];
        if connack.connack().session_present {
            // Of what was stored nothing is lost by a move, and what was in memory is stored with CONNACK.
            self.owed.iter_mut().for_each(|owed| owed.promised = owed.promised.max(self.zone));
            self.has_session = true;
            return;
        }
        assert!(!self.has_session, "{}: a session that was promised is gone", self.id);
        assert!(self.owed.is_empty(), "{}: messages without a session", self.id);
        self.possible.clear();
        let client = self.client.as_mut().expect("it was let in");
        client.send_subscribe(&[("t", breakwater_proto::SubscribeOptions::new(QoS::AtLeastOnce))], None);
        self.has_session = client.try_next().is_some();
        if !self.has_session {
            self.client = None;
        }
    }

    fn leave(&mut self) {
        if let Some(mut client) = self.client.take() {
            client.disconnect();
        }
    }

    /// Takes all that is there: in order, nothing that it can't have, and nothing twice on one connection.
    fn take(&mut self) {
        let Some(client) = &mut self.client else { return };
        for payload in client.payloads() {
            let number = u64::from_be_bytes(payload.try_into().expect("eight bytes"));
            match self.owed.iter().position(|owed| owed.number == number) {
                Some(0) => drop(self.owed.remove(0)),
                Some(_) => panic!("{}: {number} overtook {}", self.id, self.owed[0].number),
                None => assert!(self.possible.contains(&number), "{}: {number} was not for it", self.id),
            }
            self.possible.insert(number);
        }
    }

    /// The broker ends, and what is less durable than this is gone.
    fn end(&mut self, survives: Durability) {
        self.client = None;
        let owed = std::mem::take(&mut self.owed);
        let (kept, lost): (Vec<Owed>, Vec<Owed>) = owed.into_iter().partition(|owed| owed.promised >= survives);
        self.possible.extend(lost.iter().map(|owed| owed.number));
        self.owed = kept;
        // One that moved to memory stays in the store as long as something waits for it there.
        self.has_session &= self.zone >= survives || !self.owed.is_empty();
    }
}

fn play(seed: u64) {
    let mut chance = Chance::starting_at(seed);
    let mut disk = SimulatedDisk::new();
    let mut subscribers: Vec<Subscriber> = (0..4).map(Subscriber::new).collect();
    let mut number = 0;
    for _ in 0..6 {
        let broker = on(&disk);
        broker.step();
        subscribers.iter_mut().for_each(|one| one.connect(&broker, &mut chance));
        subscribers.iter_mut().for_each(Subscriber::take);
        for one in &subscribers {
            // Who is there has got all that it was owed.
            assert!(one.owed.is_empty() || one.client.is_none(), "{}: something is missing, seed {seed}", one.id);
        }
        if chance.below(2) == 0 {
            let first = disk.steps() + chance.below(200);
            disk.set_faults(vec![Fault { first, steps: u64::MAX / 2, kind: FaultKind::Power }]);
        }
        let mut publisher = broker.client("publisher").on(1 + chance.below(3) as u16).connect();
        for _ in 0..40 + chance.below(40) {
            let nth = chance.below(4) as usize;
            match chance.below(6) {
                0 => subscribers[nth].leave(),
                1 if subscribers[nth].client.is_none() => subscribers[nth].connect(&broker, &mut chance),
                1 | 2 => subscribers[nth].take(),
                3 => broker.advance(std::time::Duration::from_millis(chance.below(900))),
                _ => {
                    number += 1;
                    let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][chance.below(2) as usize];
                    publisher.send_publish("t", qos, false, &u64::to_be_bytes(number));
                    let answer = publisher.try_next();
                    let acknowledged = answer.as_ref().is_some_and(|answer| {
                        assert!(matches!(answer.kind(), PacketKind::PubAck | PacketKind::PubRec), "{answer:?}");
                        !answer.ack().reason.is_error()
                    });
                    for one in subscribers.iter_mut().filter(|one| one.has_session) {
                        if acknowledged {
                            one.owed.push(Owed { number, promised: one.zone });
                        } else {
                            one.possible.insert(number);
                        }
                    }
                    if !acknowledged {
                        break;
                    }
                }
            }
        }
        let (crash, survives) = match chance.below(4) {
            0 => (Crash::Process, Durability::Os),
            1 => (Crash::Nothing, Durability::Fsync),
            2 => (Crash::Torn(seed), Durability::Fsync),
            _ => (Crash::Scattered(seed), Durability::Fsync),
        };
        subscribers.iter_mut().for_each(|one| one.end(survives));
        disk = disk.after(crash);
    }
}

#[test]
fn sessions_that_move_between_zones_keep_what_was_promised_at_any_moment() {
    (0..150).for_each(play);
}
