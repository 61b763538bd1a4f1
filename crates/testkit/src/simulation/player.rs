//! A client that keeps to the protocol, on a network that does not help it.

mod receiving;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use breakwater_proto::{
    Connect, Disconnect, Filters, ForwardProperties, OutPublish, Packet, PacketKind, QoS, ReasonCode, Subscribe,
    SubscribeOptions, Unsubscribe, UnsubscribeFilters, Version, Will,
};

use super::ledger::Sent;
use super::wills::{Attempt, Will as WillTerms};
use super::{LISTENERS, Scene};
use crate::chance::Chance;

/// Session expiry of 3.1.1 clients, as the broker's limits have it.
const V3_EXPIRY_S: u32 = 7200;
const TOPICS: [&str; 6] = ["t/0", "t/1", "t/2", "t/0/deep", "s/x", "s/y"];
const FILTERS: [&str; 8] = ["t/0", "t/1", "t/+", "t/#", "+/0", "t/2", "t/0/#", "$share/g/s/+"];

/// What kind of client it is.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) version: Version,
    /// Its session outlives its connections.
    pub(crate) durable: bool,
    expiry_s: u32,
    keep_alive_s: u16,
    will: Option<WillTerms>,
    receive_maximum: Option<u16>,
    alias_maximum: u16,
    /// Never subscribes or publishes by itself, and never loses its session.
    watches: bool,
    /// From here on its session ends with its connection.
    pub(crate) ends: bool,
}

impl Role {
    /// Sees all wills and retained topics, and keeps its session.
    pub(crate) fn watcher() -> Self {
        Self { durable: true, expiry_s: 7 * 24 * 3600, watches: true, ..Self::auditor() }
    }

    /// Comes at the end to look at what is retained.
    pub(crate) fn auditor() -> Self {
        Self {
            version: Version::V5,
            durable: false,
            expiry_s: 0,
            keep_alive_s: 0,
            will: None,
            receive_maximum: None,
            alias_maximum: 0,
            watches: true,
            ends: false,
        }
    }

    pub(crate) fn any(chance: &mut Chance, _index: usize) -> Self {
        let version = if chance.one_in(2) { Version::V5 } else { Version::V311 };
        let durable = !chance.one_in(3);
        let expiry_s = match (durable, version) {
            (false, _) => 0,
            (true, Version::V5) => *chance.pick(&[10, 600, 24 * 3600]),
            (true, _) => V3_EXPIRY_S,
        };
        let delay_s = if version.is_v5() { *chance.pick(&[0, 0, 8, 60]) } else { 0 };
        let will = WillTerms { delay_s, qos: *chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]) };
        Self {
            version,
            durable,
            expiry_s,
            keep_alive_s: *chance.pick(&[0, 0, 20, 100]),
            will: (!chance.one_in(3)).then_some(will),
            receive_maximum: if version.is_v5() { *chance.pick(&[None, Some(1), Some(3)]) } else { None },
            alias_maximum: if version.is_v5() { *chance.pick(&[0, 2, 10]) } else { 0 },
            watches: false,
            ends: false,
        }
    }
}

/// A subscription, as far as its player knows.
#[derive(Debug)]
pub(crate) struct Held {
    /// Always asked for with this QoS.
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    /// Logical time of the SUBACK, while the session has lived on since.
    pub(crate) since: Option<u64>,
}

/// A message that was received.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Times that the application got it.
    pub(crate) times: u32,
    /// Copies without DUP.
    fresh: u32,
}

pub(crate) struct Outgoing {
    id: u16,
    number: u32,
    qos: QoS,
    /// PUBREC is here.
    released: bool,
    packet: Packetized,
}

/// What is needed to send it again.
struct Packetized {
    topic: String,
    payload: Vec<u8>,
    retain: bool,
}

pub(crate) struct Conn {
    link: u32,
    /// Bytes on their way to the broker.
    outward: VecDeque<u8>,
    /// Bytes received and not yet cut.
    inward: Vec<u8>,
    ready: bool,
    /// Nothing gets through to the broker.
    mute: bool,
    /// DISCONNECT is under way; then the connection is closed.
    closing: bool,
    finished: bool,
    /// Deliveries of QoS 1 and 2 without a last acknowledgement.
    open: BTreeSet<u16>,
    /// Acknowledgements owed, in order.
    owed: VecDeque<(PacketKind, u16)>,
    aliases_in: BTreeMap<u16, String>,
    aliases_out: BTreeMap<String, u16>,
    /// SUBSCRIBE and UNSUBSCRIBE without an answer.
    requests: BTreeMap<u16, Vec<String>>,
    quota: usize,
    aliases_taken: u16,
    /// The session outlives this connection.
    durable: bool,
}

pub(crate) struct Player {
    pub(crate) index: usize,
    pub(crate) id: String,
    pub(crate) role: Role,
    pub(crate) conn: Option<Conn>,
    /// Connections that it has lost interest in, and that the broker may still hold.
    forsaken: Vec<u32>,
    pub(crate) incarnation: u32,
    /// It has asked for a clean start and doesn't know whether it got one: until then it must go on asking.
    starting_over: bool,
    pub(crate) subscriptions: BTreeMap<String, Held>,
    /// It has unsubscribed from the shared group.
    pub(crate) left_group: bool,
    pub(crate) outgoing: VecDeque<Outgoing>,
    /// QoS 2 deliveries that were received and are not released, with their message.
    incoming: BTreeMap<u16, Option<u32>>,
    next_id: u16,
    seqs: BTreeMap<(String, QoS), u32>,
    pub(crate) seen: BTreeMap<u32, Seen>,
    /// Highest position per publisher, topic, published and delivered QoS.
    order: BTreeMap<(usize, String, QoS, QoS), u32>,
    pub(crate) wills_seen: BTreeMap<(usize, u32), u32>,
    /// Last live message of each topic under `keep/`; none: it was cleared.
    pub(crate) last_kept: BTreeMap<String, Option<u32>>,
    /// Retained messages that came with a subscription.
    pub(crate) retained: BTreeMap<String, Option<u32>>,
}

impl Player {
    pub(crate) fn new(index: usize, role: Role) -> Self {
        Self {
            index,
            id: format!("player{index}"),
            role,
            conn: None,
            forsaken: Vec::new(),
            incarnation: 0,
            starting_over: false,
            subscriptions: BTreeMap::new(),
            left_group: false,
            outgoing: VecDeque::new(),
            incoming: BTreeMap::new(),
            next_id: 0,
            seqs: BTreeMap::new(),
            seen: BTreeMap::new(),
            order: BTreeMap::new(),
            wills_seen: BTreeMap::new(),
            last_kept: BTreeMap::new(),
            retained: BTreeMap::new(),
        }
    }

    // The connection.

    pub(crate) fn connect(&mut self, scene: &mut Scene) {
        self.abandon();
        self.incarnation += 1;
        let shard = scene.chance.below(u64::from(scene.world.plan.shards)) as u16;
        // Players change between the listeners; those who watch must not miss anything for want of tokens.
        let listener = (self.index as u32 + self.incarnation) as u16 % LISTENERS;
        let link = scene.world.connect(Some(shard), if self.role.watches { 0 } else { listener });
        if scene.world.fabric.network.is_closed(link) {
            scene.note(format_args!("{} finds no room", self.id));
            scene.world.fabric.network.forget(link);
            return;
        }
        let role = &self.role;
        let clean = !role.durable || role.ends || self.starting_over || (!role.watches && scene.chance.one_in(12));
        // A clean session of 3.x ends with its connection.
        let expiry_s = if role.ends || (clean && !role.version.is_v5()) { 0 } else { role.expiry_s };
        let will = role.will.filter(|_| !role.ends);
        let attempt = Attempt { player: self.index, incarnation: self.incarnation, will, expiry_s, clean };
        scene.wills.attempt(scene.world.port, attempt);
        let port = scene.world.port;
        scene.note(format_args!("{} connects, port {port} {attempt:?}", self.id));
        let will_topic = format!("will/{}", self.id);
        let will_payload = will_payload(self.index, self.incarnation);
        let connect = Connect {
            clean_start: clean,
            keep_alive_s: role.keep_alive_s,
            session_expiry: (role.version.is_v5() && expiry_s > 0).then_some(expiry_s),
            receive_maximum: role.receive_maximum,
            topic_alias_maximum: role.alias_maximum,
            will: will.map(|terms| Will {
                qos: terms.qos,
                retain: false,
                topic: &will_topic,
                payload: &will_payload,
                delay_s: terms.delay_s,
                expiry: None,
                properties: ForwardProperties::EMPTY,
            }),
            ..Connect::new(role.version, &self.id)
        };
        let mut bytes = Vec::new();
        connect.encode(role.version, &mut bytes);
        if scene.chance.one_in(3) {
            Packet::PingReq.encode(role.version, &mut bytes);
        }
        self.starting_over = clean;
        self.conn = Some(Conn {
            link,
            outward: bytes.into(),
            inward: Vec::new(),
            ready: false,
            mute: false,
            closing: false,
            finished: false,
            open: BTreeSet::new(),
            owed: VecDeque::new(),
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
            requests: BTreeMap::new(),
            quota: 0,
            aliases_taken: 0,
            durable: expiry_s > 0,
        });
    }

    /// Loses interest in its connection, which stays open as far as the broker knows.
    fn abandon(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.forsaken.push(conn.link);
            self.on_connection_lost(&conn);
        }
    }

    fn on_connection_lost(&mut self, conn: &Conn) {
        if !conn.durable {
            self.forget_session();
        }
    }

    pub(crate) fn forget_session(&mut self) {
        self.subscriptions.values_mut().for_each(|held| held.since = None);
        self.outgoing.clear();
        self.incoming.clear();
    }

    /// Breaks the connection.
    pub(crate) fn break_off(&mut self, scene: &mut Scene) {
        if let Some(conn) = self.conn.take() {
            scene.note(format_args!("{} is cut off", self.id));
            scene.world.fabric.network.reset(conn.link);
            scene.world.fabric.network.forget(conn.link);
            self.on_connection_lost(&conn);
        }
    }

    pub(crate) fn say_goodbye(&mut self, scene: &mut Scene) {
        if let Some(conn) = &mut self.conn {
            scene.note(format_args!("{} says good-bye", self.id));
            let mut bytes = Vec::new();
            Disconnect::new(ReasonCode::Success).encode(self.role.version, &mut bytes);
            conn.outward.extend(bytes);
            conn.closing = true;
        }
    }

    /// The network is good again, and what was forsaken is found to be gone.
    pub(crate) fn recover(&mut self, scene: &mut Scene) {
        for link in self.forsaken.drain(..) {
            scene.world.fabric.network.reset(link);
            scene.world.fabric.network.forget(link);
        }
        if let Some(conn) = &mut self.conn {
            conn.mute = false;
            scene.world.fabric.network.set_window(conn.link, usize::MAX);
        }
    }

    pub(crate) fn flush_all(&mut self, scene: &mut Scene) {
        self.flush(scene, usize::MAX);
    }

    /// A slice of what is under way arrives.
    pub(crate) fn flush_some(&mut self, scene: &mut Scene) {
        let most = match scene.chance.below(4) {
            0 => 1 + scene.chance.below(3) as usize,
            1 => 1 + scene.chance.below(40) as usize,
            _ => usize::MAX,
        };
        self.flush(scene, most);
    }

    fn flush(&mut self, scene: &mut Scene, most: usize) {
        let Some(conn) = &mut self.conn else { return };
        if conn.mute {
            return;
        }
        let count = conn.outward.len().min(most);
        let bytes: Vec<u8> = conn.outward.drain(..count).collect();
        scene.world.fabric.network.arrive(conn.link, &bytes);
        if conn.closing && conn.outward.is_empty() && !conn.finished {
            conn.finished = true;
            scene.world.fabric.network.finish(conn.link);
        }
    }

    /// Something goes wrong with the network.
    pub(crate) fn suffer(&mut self, scene: &mut Scene) {
        let Some(conn) = &mut self.conn else { return };
        match scene.chance.below(6) {
            0 => self.break_off(scene),
            1 => {
                scene.note(format_args!("{} half-closes", self.id));
                scene.world.fabric.network.finish(conn.link);
                conn.closing = true;
                conn.finished = true;
                conn.outward.clear();
            }
            2 => {
                scene.note(format_args!("{} is mute", self.id));
                conn.mute = true;
            }
            3 => {
                let bytes = scene.chance.below(200) as usize;
                scene.note(format_args!("{} reads {bytes} bytes more", self.id));
                scene.world.fabric.network.set_window(conn.link, bytes);
            }
            4 => scene.world.fabric.network.nudge(conn.link),
            _ => self.recover(scene),
        }
    }

    // What it does of its own.

    pub(crate) fn act(&mut self, scene: &mut Scene) {
        let Some(conn) = &self.conn else {
            self.connect(scene);
            return;
        };
        if !conn.ready || conn.closing {
            if scene.chance.one_in(60) {
                self.connect(scene);
            }
            return;
        }
        match scene.chance.below(100) {
            0..2 => self.connect(scene), // takes itself over
            2..5 => self.say_goodbye(scene),
            5..10 => self.put(|version, out| Packet::PingReq.encode(version, out)),
            _ if self.role.watches => {}
            10..22 => {
                let filter = *scene.chance.pick(&FILTERS);
                self.subscribe(scene, filter);
            }
            22..25 => self.unsubscribe(scene),
            25..33 => self.publish_kept(scene),
            _ => {
                let topic = *scene.chance.pick(&TOPICS);
                let qos = *scene.chance.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
                let burst = if scene.chance.one_in(8) { 1 + scene.chance.below(12) } else { 1 };
                (0..burst).for_each(|_| self.publish(scene, topic, qos, false, false));
            }
        }
    }

    fn put(&mut self, write: impl FnOnce(Version, &mut Vec<u8>)) {
        if let Some(conn) = &mut self.conn {
            let mut bytes = Vec::new();
            write(self.role.version, &mut bytes);
            conn.outward.extend(bytes);
        }
    }

    fn free_id(&mut self) -> u16 {
        loop {
            self.next_id = if self.next_id >= 500 { 1 } else { self.next_id + 1 };
            let id = self.next_id;
            let requested = self.conn.as_ref().is_some_and(|conn| conn.requests.contains_key(&id));
            if !requested && self.outgoing.iter().all(|outgoing| outgoing.id != id) {
                return id;
            }
        }
    }

    pub(crate) fn subscribe(&mut self, scene: &mut Scene, filter: &str) {
        let id = self.free_id();
        // Fixed per player and filter, so that nobody has to guess which request came last.
        let mark = filter.len() + self.index;
        let shared = filter.starts_with('$');
        let qos = if shared || self.role.watches {
            QoS::ExactlyOnce
        } else {
            [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][mark % 3]
        };
        let no_local = !shared && self.role.version.is_v5() && mark % 4 == 1;
        self.subscriptions.entry(filter.into()).or_insert(Held { qos, no_local, since: None });
        let options = SubscribeOptions { no_local, ..SubscribeOptions::new(qos) };
        let mut raw = Vec::new();
        Filters::write(filter, options, &mut raw);
        let number = self.role.version.is_v5() && mark % 5 == 2;
        let subscription_id = number.then_some(1 + mark as u32);
        self.put(|version, out| {
            Subscribe { subscription_id, ..Subscribe::new(id, Filters::from_encoded(&raw)) }.encode(version, out);
        });
        scene.note(format_args!("{} subscribes to {filter} ({id})", self.id));
        if let Some(conn) = &mut self.conn {
            conn.requests.insert(id, vec![filter.into()]);
        }
    }

    fn unsubscribe(&mut self, scene: &mut Scene) {
        let filters: Vec<String> = self.subscriptions.keys().cloned().collect();
        if filters.is_empty() {
            return;
        }
        let filter = scene.chance.pick(&filters).clone();
        if filter.starts_with('$') && !scene.chance.one_in(10) {
            return; // or there would be few runs in which the group is owed anything
        }
        let id = self.free_id();
        scene.note(format_args!("{} unsubscribes from {filter} ({id})", self.id));
        if let Some(held) = self.subscriptions.get_mut(&filter) {
            held.since = None;
        }
        if filter.starts_with('$') {
            self.left_group = true;
        }
        let mut raw = Vec::new();
        UnsubscribeFilters::write(&filter, &mut raw);
        self.put(|version, out| Unsubscribe::new(id, UnsubscribeFilters::from_encoded(&raw)).encode(version, out));
        if let Some(conn) = &mut self.conn {
            conn.requests.insert(id, Vec::new());
            // A SUBSCRIBE still under way would come before this in effect, whatever its answer says.
            conn.requests.values_mut().for_each(|filters| filters.retain(|asked| *asked != filter));
        }
    }

    /// A retained message to this player's own topic, always with the same QoS; sometimes an empty one that clears it.
    fn publish_kept(&mut self, scene: &mut Scene) {
        let topic = format!("keep/{}", self.index);
        let qos = if self.index.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let clear = scene.chance.one_in(4);
        self.publish(scene, &topic, qos, true, clear);
    }

    fn publish(&mut self, scene: &mut Scene, topic: &str, qos: QoS, retain: bool, empty: bool) {
        let Some(conn) = &self.conn else { return };
        if qos != QoS::AtMostOnce && self.outgoing.len() >= conn.quota {
            return;
        }
        let number = scene.ledger.messages.len() as u32;
        let seq = self.seqs.entry((topic.into(), qos)).or_insert(0);
        *seq += 1;
        scene.ledger.messages.push(Sent {
            publisher: self.index,
            topic: topic.into(),
            qos,
            seq: *seq,
            at: scene.tick,
            // An empty one can't be told from others: nobody is asked about it.
            acknowledged: false,
            transmissions: 1,
        });
        let mut payload = Vec::new();
        if !empty {
            payload.push(b'm');
            payload.extend_from_slice(&number.to_be_bytes());
            let size = if scene.chance.one_in(30) { 6000 } else { 100 };
            payload.resize(5 + scene.chance.below(size) as usize, b'.');
        }
        let id = if qos == QoS::AtMostOnce { 0 } else { self.free_id() };
        scene.note(format_args!("{} publishes {number} to {topic} {qos:?} ({id})", self.id));
        let (sent_topic, alias) = self.aliased(scene, topic);
        self.put(|version, out| {
            let packet = crate::client::out_publish(&sent_topic, qos, retain, id, &payload);
            OutPublish { topic_alias: alias, ..packet }.encode(version, out);
        });
        if qos != QoS::AtMostOnce {
            let packet = Packetized { topic: topic.into(), payload, retain };
            self.outgoing.push_back(Outgoing { id, number, qos, released: false, packet });
        }
    }

    /// The topic as it goes out: by name, by name with an alias to remember, or by alias.
    fn aliased(&mut self, scene: &mut Scene, topic: &str) -> (String, u16) {
        let Some(conn) = &mut self.conn else { return (topic.into(), 0) };
        if conn.aliases_taken == 0 || scene.chance.one_in(2) {
            return (topic.into(), 0);
        }
        if let Some(alias) = conn.aliases_out.get(topic) {
            return (String::new(), *alias);
        }
        let alias = 1 + scene.chance.below(u64::from(conn.aliases_taken)) as u16;
        conn.aliases_out.retain(|_, taken| *taken != alias);
        conn.aliases_out.insert(topic.into(), alias);
        (topic.into(), alias)
    }
}

fn will_payload(index: usize, incarnation: u32) -> Vec<u8> {
    let mut payload = vec![b'w', index as u8];
    payload.extend_from_slice(&incarnation.to_be_bytes());
    payload
}
