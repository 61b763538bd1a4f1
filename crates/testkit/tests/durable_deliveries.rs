//! Messages over power cuts at any moment: publishers and subscribers that outlast them, as the specification has them behave. What
//! was acknowledged comes to everybody who wants it: once or more with QoS 1, once with QoS 2, in order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use breakwater_proto::{
    Ack, Packet, PacketKind, QoS, ReasonCode, Version, encode_pubcomp, encode_pubrec, encode_pubrel,
};
use breakwater_session::QueueFull;
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};
use breakwater_testkit::{Broker, Chance, Client, Received, out_publish};

/// Publishes of one client that are under way to the broker.
struct Publisher {
    id: String,
    /// Keeps its session, and so the identifiers of what it has under way.
    lasting: bool,
    version: Version,
    client: Option<Client>,
    /// Packet identifier, QoS, number, and whether PUBREC has come.
    under_way: VecDeque<(u16, QoS, u64, bool)>,
    next_number: u64,
    next_id: u16,
    /// What the broker has taken over, by QoS.
    acknowledged: [BTreeSet<u64>; 3],
    /// What it may have, although it said no.
    uncertain: BTreeSet<u64>,
    /// Under way when a broker ended: it may have one without those before it.
    cut_off: BTreeSet<u64>,
}

impl Publisher {
    fn topic(&self, qos: QoS) -> String {
        format!("{}/{}", self.id, qos.as_u8())
    }

    fn payload(number: u64) -> Vec<u8> {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(8 + (number % 300) as usize, b'.');
        payload
    }

    fn connect(&mut self, broker: &Broker) {
        let connecting = broker.client(&self.id).version(self.version);
        let connecting = if self.lasting { connecting.persistent() } else { connecting };
        let (client, connack) = connecting.attempt();
        let Some(connack) = connack.filter(|connack| !connack.connack().reason.is_error()) else { return };
        let mut client = client;
        if self.lasting && connack.connack().session_present {
            // Again, in the old order [MQTT-4.4.0-1].
            for (id, qos, number, received) in &self.under_way {
                if *received {
                    client.send(&pubrel(self.version, *id));
                } else {
                    let (topic, payload) = (self.topic(*qos), Self::payload(*number));
                    let mut publish = out_publish(&topic, *qos, false, *id, &payload);
                    publish.dup = true;
                    client.send_out(&publish);
                }
            }
        } else {
            // Nobody knows what became of them: they are published anew.
            for (id, qos, number, received) in &mut self.under_way {
                assert!(!self.lasting || !*received, "{}: a session with something under way is gone", self.id);
                let topic = format!("{}/{}", self.id, qos.as_u8());
                let payload = Self::payload(*number);
                client.send_out(&out_publish(&topic, *qos, false, *id, &payload));
                *received = false;
                self.uncertain.insert(*number);
            }
        }
        self.client = Some(client);
    }

    fn send(&mut self, chance: &mut Chance) {
        if self.under_way.len() >= 12 {
            return;
        }
        let qos = if chance.below(2) == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let topic = self.topic(qos);
        let Some(client) = &mut self.client else { return };
        let (id, number) = (self.next_id, self.next_number);
        self.next_id = if id >= 40 { 1 } else { id + 1 };
        if self.under_way.iter().any(|(other, ..)| *other == id) {
            return;
        }
        self.next_number += 1;
        client.send_out(&out_publish(&topic, qos, false, id, &Self::payload(number)));
        self.under_way.push_back((id, qos, number, false));
    }

    /// `unsure`: it may have been told that something was not stored, and not have heard it.
    fn leave(&mut self, unsure: bool) {
        if unsure {
            self.uncertain.extend(self.under_way.iter().map(|(_, _, number, _)| *number));
        }
        self.client = None;
    }

    fn take(&mut self) {
        while let Some(packet) = self.client.as_mut().and_then(Client::try_next) {
            let kind = packet.kind();
            if kind == PacketKind::Disconnect {
                self.leave(true);
                return;
            }
            let Ack { packet_id, reason, .. } = packet.ack();
            let place = self.under_way.iter().position(|(id, ..)| *id == packet_id);
            let Some(place) = place else { panic!("{}: {kind:?} for {packet_id}, which is not under way", self.id) };
            let (_, qos, number, received) = self.under_way[place];
            match kind {
                PacketKind::PubAck | PacketKind::PubRec if reason.is_error() => {
                    self.uncertain.insert(number);
                    self.under_way.remove(place);
                }
                PacketKind::PubAck => {
                    self.acknowledged[1].insert(number);
                    self.under_way.remove(place);
                }
                PacketKind::PubRec => {
                    assert_eq!(qos, QoS::ExactlyOnce);
                    self.under_way[place].3 = true;
                    self.acknowledged[2].insert(number);
                    let bytes = pubrel(self.version, packet_id);
                    self.client.as_mut().expect("it speaks").send(&bytes);
                }
                PacketKind::PubComp => {
                    assert!(received, "PUBCOMP before PUBREC");
                    self.under_way.remove(place);
                }
                other => panic!("{other:?}"),
            }
        }
        if self.client.as_ref().is_some_and(Client::is_closed) {
            // That is how a 3.x client is told that something was not stored.
            self.leave(true);
        }
    }
}

fn pubrel(version: Version, id: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_pubrel(version, id, ReasonCode::Success, &mut bytes);
    bytes
}

/// A client that keeps its session, and what it knows of QoS 2.
struct Subscriber {
    id: String,
    qos: QoS,
    version: Version,
    client: Option<Client>,
    subscribed: bool,
    /// Identifiers whose PUBREL has not come.
    received: BTreeSet<u16>,
    /// What it got, by topic.
    got: BTreeMap<String, Vec<u64>>,
    /// Of QoS 1 it has not acknowledged yet.
    owed: VecDeque<u16>,
    /// Answers at once.
    prompt: bool,
}

impl Subscriber {
    fn connect(&mut self, broker: &Broker, seed: u64) {
        let (client, connack) = broker.client(&self.id).version(self.version).persistent().attempt();
        let Some(connack) = connack.filter(|connack| !connack.connack().reason.is_error()) else { return };
        let mut client = client;
        if self.version != Version::V31 {
            let present = connack.connack().session_present;
            assert!(present || !self.subscribed, "seed {seed}: {} has no session", self.id);
            if !present {
                self.received.clear();
            }
        }
        self.owed.clear();
        if !self.subscribed {
            let filter = if self.id.ends_with('0') { "$share/group/#" } else { "#" };
            let options = breakwater_proto::SubscribeOptions::new(self.qos);
            client.send_subscribe(&[(filter, options)], None);
            // What comes in front of SUBACK is of an earlier life.
            while let Some(packet) = client.try_next() {
                if packet.kind() == PacketKind::SubAck {
                    self.subscribed = true;
                    break;
                }
                self.on_packet(&mut client, &packet);
            }
        }
        self.client = Some(client);
    }

    fn take(&mut self, chance: &mut Chance) {
        let Some(mut client) = self.client.take() else { return };
        while let Some(packet) = client.try_next() {
            if packet.kind() == PacketKind::Disconnect {
                return;
            }
            self.on_packet(&mut client, &packet);
            if self.prompt || chance.below(3) > 0 {
                self.acknowledge(&mut client);
            }
        }
        if !client.is_closed() {
            self.client = Some(client);
        }
    }

    fn acknowledge(&mut self, client: &mut Client) {
        for id in self.owed.drain(..) {
            client.send_packet(&Packet::PubAck(Ack::new(id, ReasonCode::Success)));
        }
    }

    fn on_packet(&mut self, client: &mut Client, packet: &Received) {
        match packet.kind() {
            PacketKind::Publish => {
                let publish = packet.publish();
                let number = u64::from_be_bytes(*publish.payload.first_chunk().expect("a number"));
                if publish.qos == QoS::ExactlyOnce {
                    if self.received.insert(publish.packet_id) {
                        self.got.entry(publish.topic.to_owned()).or_default().push(number);
                    }
                    let mut bytes = Vec::new();
                    encode_pubrec(self.version, publish.packet_id, ReasonCode::Success, &mut bytes);
                    client.send(&bytes);
                } else {
                    self.got.entry(publish.topic.to_owned()).or_default().push(number);
                    self.owed.push_back(publish.packet_id);
                }
            }
            PacketKind::PubRel => {
                let id = packet.ack().packet_id;
                self.received.remove(&id);
                let mut bytes = Vec::new();
                encode_pubcomp(self.version, id, ReasonCode::Success, &mut bytes);
                client.send(&bytes);
            }
            other => panic!("{}: {other:?}", self.id),
        }
    }
}

struct Game {
    seed: u64,
    chance: Chance,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    /// Publishes that were begun when nobody had subscribed yet.
    begun: bool,
    /// The disk refuses at times, and goes on then.
    disk_fails: bool,
}

impl Game {
    fn new(seed: u64) -> Self {
        let mut chance = Chance::starting_at(seed);
        let version = |chance: &mut Chance| [Version::V5, Version::V311][chance.below(2) as usize];
        let publishers = (0..3)
            .map(|number| Publisher {
                id: format!("publisher-{number}"),
                lasting: number > 0,
                version: version(&mut chance),
                client: None,
                under_way: VecDeque::new(),
                next_number: 0,
                next_id: 1,
                acknowledged: Default::default(),
                uncertain: BTreeSet::new(),
                cut_off: BTreeSet::new(),
            })
            .collect();
        let subscribers = (0..4)
            .map(|number| Subscriber {
                id: format!("subscriber-{number}"),
                qos: if number == 1 { QoS::AtLeastOnce } else { QoS::ExactlyOnce },
                version: version(&mut chance),
                client: None,
                subscribed: false,
                received: BTreeSet::new(),
                got: BTreeMap::new(),
                owed: VecDeque::new(),
                prompt: chance.below(2) == 0,
            })
            .collect();
        Self { seed, chance, publishers, subscribers, begun: false, disk_fails: false }
    }

    fn broker(&mut self, disk: &SimulatedDisk) -> Broker {
        let seed = self.seed;
        let broker = Broker::with(|options, _| {
            options.limits.queue_messages_max = 100_000;
            options.limits.queue_bytes_max = 1 << 30;
            options.limits.queue_full = QueueFull::DropNewest;
            options.limits.queue_memory_messages = [1, 3, 20, 128][(seed / 3 % 4) as usize];
            options.limits.inflight_max = 1 + (seed % 20) as u16;
        });
        broker.seed(self.seed).shards(1 + self.chance.below(3) as u16).on_disk(disk)
    }

    fn live(&mut self, broker: &Broker, disk: &SimulatedDisk) {
        for subscriber in &mut self.subscribers {
            if !subscriber.subscribed {
                subscriber.connect(broker, self.seed);
            }
        }
        self.begun |= self.subscribers.iter().all(|subscriber| subscriber.subscribed);
        let kind =
            [FaultKind::Power, FaultKind::Power, FaultKind::Sync, FaultKind::Write][self.chance.below(4) as usize];
        self.disk_fails = kind != FaultKind::Power;
        let steps = if kind == FaultKind::Power { u64::MAX / 2 } else { 3 };
        let first = disk.steps() + self.chance.below(150);
        disk.set_faults(vec![Fault { first, steps, kind }]);
        let mut is_off = false;
        for _ in 0..60 + self.chance.below(120) {
            self.act(broker);
            is_off = kind == FaultKind::Power && disk.steps() >= first;
            if is_off {
                // What it would say from here on nobody hears.
                break;
            }
        }
        disk.set_faults(Vec::new());
        // In their hands when the power went, nobody takes it any more.
        for publisher in &mut self.publishers {
            if !is_off && self.chance.below(2) == 0 {
                publisher.take();
            }
            publisher.cut_off.extend(publisher.under_way.iter().map(|(_, _, number, _)| *number));
            if self.disk_fails {
                // Deliveries that were begun one after the other may have been stored one before the other.
                publisher.cut_off.extend(0..publisher.next_number);
            }
            publisher.leave(self.disk_fails);
        }
        for subscriber in &mut self.subscribers {
            if !is_off && self.chance.below(2) == 0 {
                subscriber.take(&mut self.chance);
            }
            subscriber.client = None;
        }
    }

    fn act(&mut self, broker: &Broker) {
        let publisher = self.chance.below(3) as usize;
        let subscriber = self.chance.below(4) as usize;
        match self.chance.below(24) {
            0..11 if self.begun => {
                if self.publishers[publisher].client.is_none() {
                    self.publishers[publisher].connect(broker);
                }
                for _ in 0..=self.chance.below(4) {
                    self.publishers[publisher].send(&mut self.chance);
                }
            }
            11..14 => self.publishers[publisher].take(),
            14..18 => {
                if self.subscribers[subscriber].client.is_none() {
                    self.subscribers[subscriber].connect(broker, self.seed);
                }
                let Self { subscribers, chance, .. } = self;
                subscribers[subscriber].take(chance);
            }
            18 => {
                self.subscribers[subscriber].client = None;
                broker.step();
            }
            19 => {
                if self.chance.below(3) == 0 {
                    self.publishers[publisher].leave(self.disk_fails);
                }
            }
            20 | 21 => broker.halt_store(self.chance.below(2) == 0),
            _ => broker.advance(std::time::Duration::from_millis(self.chance.below(1500))),
        }
    }

    /// Everybody comes and stays until nothing is left to say.
    fn drain(&mut self, broker: &Broker) {
        broker.halt_store(false);
        let mut quiet = 0;
        for _ in 0..400 {
            for publisher in &mut self.publishers {
                if publisher.client.is_none() {
                    publisher.connect(broker);
                }
                publisher.take();
            }
            for subscriber in &mut self.subscribers {
                subscriber.prompt = true;
                if subscriber.client.is_none() {
                    subscriber.connect(broker, self.seed);
                }
                if let Some(mut client) = subscriber.client.take() {
                    subscriber.acknowledge(&mut client);
                    subscriber.client = Some(client);
                }
                subscriber.take(&mut self.chance);
            }
            broker.advance(std::time::Duration::from_millis(600));
            let nothing = |client: &Option<Client>| client.as_ref().is_some_and(|client| client.waiting() == 0);
            if self.publishers.iter().all(|publisher| publisher.under_way.is_empty() && nothing(&publisher.client))
                && self.subscribers.iter().all(|subscriber| nothing(&subscriber.client))
                && broker.held_bytes() == 0
            {
                // What waits for the group in the store alone is looked for once a second.
                quiet += 1;
                if quiet == 6 {
                    return;
                }
            } else {
                quiet = 0;
            }
        }
        let under_way: Vec<_> = self.publishers.iter().map(|publisher| publisher.under_way.clone()).collect();
        panic!("seed {}: it never ends: {under_way:?}", self.seed);
    }

    /// Answers how many messages were acknowledged.
    fn check(&self) -> usize {
        let seed = self.seed;
        let mut count = 0;
        for publisher in &self.publishers {
            for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let topic = publisher.topic(qos);
                let acknowledged = &publisher.acknowledged[usize::from(qos.as_u8())];
                count += acknowledged.len();
                for subscriber in self.subscribers.iter().skip(1) {
                    let id = &subscriber.id;
                    let got = subscriber.got.get(&topic).map_or(&[][..], Vec::as_slice);
                    let set: BTreeSet<u64> = got.iter().copied().collect();
                    let lost: Vec<_> = acknowledged.difference(&set).collect();
                    assert!(lost.is_empty(), "seed {seed}: {id} never got {lost:?} of {topic}");
                    let unordered = publisher.uncertain.union(&publisher.cut_off).copied().collect();
                    let firsts = firsts(got, publisher.lasting, &unordered);
                    assert!(firsts.is_sorted(), "seed {seed}: {id} got {topic} out of order: {got:?}");
                    if subscriber.qos == QoS::ExactlyOnce && qos == QoS::ExactlyOnce && publisher.lasting {
                        let certain: Vec<_> =
                            got.iter().filter(|number| !publisher.uncertain.contains(number)).collect();
                        let once: BTreeSet<_> = certain.iter().collect();
                        assert_eq!(
                            once.len(),
                            certain.len(),
                            "seed {seed}: {id} got something of {topic} twice: {got:?}"
                        );
                    }
                }
                // The one that is a group gets all of it as well.
                let group = self.subscribers[0].got.get(&topic).map_or(&[][..], Vec::as_slice);
                let set: BTreeSet<u64> = group.iter().copied().collect();
                let lost: Vec<_> = acknowledged.difference(&set).collect();
                assert!(lost.is_empty(), "seed {seed}: the group never got {lost:?} of {topic}");
            }
        }
        count
    }
}

/// The numbers as they came first, without those that may come again later.
fn firsts(got: &[u64], lasting: bool, unordered: &BTreeSet<u64>) -> Vec<u64> {
    let mut seen = BTreeSet::new();
    let first = got.iter().filter(|number| seen.insert(**number)).copied();
    first.filter(|number| lasting && !unordered.contains(number)).collect()
}

fn play(seed: u64) -> usize {
    let mut game = Game::new(seed);
    let mut disk = SimulatedDisk::new();
    for _ in 0..5 {
        let broker = game.broker(&disk);
        game.live(&broker, &disk);
        let crash = match game.chance.below(4) {
            0 => Crash::Process,
            1 => Crash::Nothing,
            2 => Crash::Torn(game.chance.below(u64::MAX)),
            _ => Crash::Scattered(game.chance.below(u64::MAX)),
        };
        disk = disk.after(crash);
    }
    let broker = game.broker(&disk);
    // What only another start would bring to light is not delivered.
    game.disk_fails = false;
    for _ in 0..300 {
        game.act(&broker);
    }
    game.drain(&broker);
    game.check()
}

#[test]
fn what_is_acknowledged_is_delivered_over_power_cuts_at_any_moment() {
    let range = std::env::var("BREAKWATER_DELIVERY_SEEDS").unwrap_or_else(|_| "0..60".to_owned());
    let (from, to) = range.split_once("..").expect("FROM..TO");
    let seeds = from.parse().expect("a number")..to.parse::<u64>().expect("a number");
    let count = seeds.clone().count();
    let acknowledged: usize = seeds.map(play).sum();
    println!("{count} seeds, {acknowledged} acknowledged");
    assert!(acknowledged > count * 20, "{acknowledged}");
}
