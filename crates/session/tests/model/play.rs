//! One game: bytes decide what happens to a session, a model says what has to be true afterwards.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use breakwater_proto::{
    Ack, Connect, ForwardProperties, Instant, MessageView, Packet, Publish, QoS, ReasonCode, Split, Version, decode,
    split,
};
use breakwater_session::{
    AckTicket, Acked, Delivered, Delivery, Env, Limits, Link, QueueFull, Received, Report, Session, Shared, Spill,
    Terms,
};

const BIG: usize = 100;
const SMALL_MAXIMUM: u32 = 60;
const TOPICS: [&str; 4] = ["a", "b/topic", "c/longer/topic", "d/another/topic"];

/// Plays the moves that `bytes` describe; panics where a promise is broken.
pub(crate) fn play(bytes: &[u8]) {
    let mut moves = Moves { bytes: bytes.iter() };
    let mut game = Game::new(&mut moves);
    while let Some(kind) = moves.next() {
        let detail = moves.next().unwrap_or(0);
        game.step(kind, detail);
        game.check();
    }
    game.finish();
}

struct Moves<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl Moves<'_> {
    fn next(&mut self) -> Option<u8> {
        self.bytes.next().copied()
    }
}

struct Game {
    session: Session,
    limits: Limits,
    link: Option<Link>,
    out: Vec<u8>,
    report: Report,
    spill: Spill,
    now: Instant,
    version: Version,
    receive_maximum: u16,
    small: bool,
    ever_small: bool,
    /// Bytes of `out` that the model has looked at.
    tapped: usize,
    published: u32,
    /// Drops that `deliver` reported for the message at hand; the others hit messages taken before.
    dropped_at_once: u64,
    owed: Owed,
    client: Client,
    publisher: Publisher,
}

/// What the broker has taken, by sequence number; true: QoS 0 and written, so that nobody owes it any more.
#[derive(Default)]
struct Owed {
    taken: BTreeMap<u32, bool>,
    /// Deliveries begun and not finished: packet id to sequence number.
    begun: BTreeMap<u16, Begun>,
}

struct Begun {
    seq: u32,
    qos: QoS,
    big: bool,
    released: bool,
    on_this_link: bool,
    /// Too large for a connection that came later: the session may have given it up.
    maybe_gone: bool,
}

/// The subscriber: what it saw, what it has to answer.
#[derive(Default)]
struct Client {
    answers: VecDeque<(Answer, u16)>,
    aliases: BTreeMap<u16, String>,
    /// QoS 2 ids received and not released.
    held: BTreeSet<u16>,
    seen: BTreeSet<u32>,
    last_of_qos: [Option<u32>; 3],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Answer {
    Acknowledged,
    Received,
    Complete,
}

/// The same client as a publisher, seen from the broker.
#[derive(Default)]
struct Publisher {
    held: BTreeSet<u16>,
    waiting: VecDeque<Waiting>,
    /// Tickets whose time is over.
    stale: Vec<AckTicket>,
    /// Answers that have to come out in this move.
    expected: VecDeque<(Answer, u16)>,
}

struct Waiting {
    ticket: Option<AckTicket>,
    qos: QoS,
    id: u16,
    ready: bool,
    refused: bool,
    wanted: bool,
}

impl Game {
    fn new(moves: &mut Moves<'_>) -> Game {
        let mut pick = || moves.next().unwrap_or(0);
        let mut limits = Limits::default();
        let settings = pick();
        limits.inflight_max = [1, 3, 32, 1000][usize::from(settings & 3)];
        limits.queue_messages_max = [2, 20, 1000, 1_000_000][usize::from(settings >> 2 & 3)];
        limits.queue_bytes_max = [500, 5000, 8 << 20, 8 << 20][usize::from(settings >> 4 & 3)];
        limits.queue_qos0 = settings & 0x40 != 0;
        limits.queue_full = if settings & 0x80 != 0 { QueueFull::DropNewest } else { QueueFull::DropOldest };
        let more = pick();
        if more & 4 != 0 {
            limits.queue_full = QueueFull::Refuse;
        }
        limits.receive_maximum = [1, 5, 100, 65535][usize::from(more & 3)];
        limits.awaiting_release_max = limits.receive_maximum;
        let mut game = Game {
            session: Session::new("client", 60),
            limits,
            link: None,
            out: Vec::new(),
            report: Report::default(),
            spill: Spill::default(),
            now: Instant(1_000_000),
            version: Version::ALL[usize::from(pick() % 3)],
            receive_maximum: u16::MAX,
            small: false,
            ever_small: false,
            tapped: 0,
            published: 0,
            dropped_at_once: 0,
            owed: Owed::default(),
            client: Client::default(),
            publisher: Publisher::default(),
        };
        game.connect(0);
        game
    }

    fn step(&mut self, kind: u8, detail: u8) {
        match kind % 16 {
            0..=3 => self.deliver(detail),
            4..=6 => self.read_and_answer(detail),
            7 => self.pump(room_of(detail)),
            8 => self.now = self.now.plus_ms(u64::from(detail) * 100),
            9 => self.detach(),
            10 => self.reconnect(detail),
            11 => self.answer_wrongly(detail),
            12 | 13 => self.publish(detail),
            14 => self.release(u16::from(detail % 16) + 1),
            _ => self.make_durable(detail),
        }
        self.tap();
    }

    fn deliver(&mut self, detail: u8) {
        self.published += 1;
        let seq = self.published;
        let mut payload = seq.to_be_bytes().to_vec();
        payload.push(detail >> 2 & 3);
        payload.resize(if detail & 0x80 != 0 { BIG } else { 8 }, 0);
        let qos = QoS::from_bits(detail % 3).expect("below three");
        let ids = [1, 2, 3];
        let view = MessageView {
            topic: TOPICS[usize::from(detail >> 2 & 3)],
            payload: &payload,
            qos,
            retain: false,
            properties: ForwardProperties::EMPTY,
            expires_at: (detail & 0x30 == 0x30).then(|| self.now.plus_ms(u64::from(detail & 0xF) * 200)),
            origin: 0,
        };
        let subscription_ids = &ids[..usize::from(detail >> 4 & 3)];
        let delivery = Delivery { qos, retain: false, subscription_ids, spill: self.spill, ..Delivery::default() };
        let before = self.report.drops.total();
        let (mut scratch, mut encoded) = (Vec::new(), Vec::new());
        let mut env = Env {
            now: self.now,
            limits: &self.limits,
            out: &mut self.out,
            room: room_of(detail.wrapping_mul(37)),
            report: &mut self.report,
            scratch: &mut scratch,
        };
        let mut shared = Shared::borrowed(view, &mut encoded);
        match self.session.deliver(self.link.as_mut(), &mut shared, &delivery, &mut env) {
            Delivered::Sent => {
                assert!(self.link.is_some(), "sent without a connection");
                self.owed.taken.insert(seq, false);
            }
            Delivered::Behind => panic!("the store has none of it"),
            Delivered::Queued => {
                self.owed.taken.insert(seq, false);
            }
            Delivered::Dropped(_) => {
                assert!(self.report.drops.total() > before, "a drop that is not counted");
                self.dropped_at_once += 1;
            }
        }
    }

    fn pump(&mut self, room: usize) {
        let Some(link) = self.link.as_mut() else { return };
        let before = self.out.len();
        let mut env = Env {
            now: self.now,
            limits: &self.limits,
            out: &mut self.out,
            room,
            report: &mut self.report,
            scratch: &mut Vec::new(),
        };
        let pumped = self.session.pump(link, &mut env);
        let written = self.out.len() - before;
        assert!(written <= room || before == 0, "{written} bytes into room for {room}");
        if pumped.more {
            assert!(self.session.has_backlog());
        } else if self.session.has_backlog() {
            assert!(self.session.inflight_len() > 0, "stopped although nothing is under way");
        }
    }

    fn detach(&mut self) {
        self.link = None;
        self.out.clear();
        self.tapped = 0;
        self.session.on_detach();
        self.client.answers.clear();
        self.client.aliases.clear();
        for begun in self.owed.begun.values_mut() {
            begun.maybe_gone |= begun.big && self.small && !begun.on_this_link && !begun.released;
            begun.on_this_link = false;
        }
        self.publisher.expected.clear();
        for waiting in &mut self.publisher.waiting {
            waiting.wanted = false;
            waiting.ready |= waiting.qos == QoS::AtLeastOnce;
        }
        self.let_answers_out();
    }

    fn reconnect(&mut self, detail: u8) {
        self.detach();
        self.connect(detail);
    }

    fn connect(&mut self, detail: u8) {
        self.small = detail & 0x30 == 0x30 && self.version.is_v5();
        let mut connect = Connect::new(self.version, "client");
        self.ever_small |= self.small;
        self.receive_maximum = [u16::MAX, 1, 2, 10][usize::from(detail & 3)];
        if self.version.is_v5() {
            connect.receive_maximum = Some(self.receive_maximum);
            connect.maximum_packet_size = self.small.then_some(SMALL_MAXIMUM);
            connect.topic_alias_maximum = u16::from(detail >> 2 & 3);
        } else {
            self.receive_maximum = u16::MAX;
        }
        self.receive_maximum = self.receive_maximum.min(self.limits.inflight_max);
        let terms = Terms::agree(&connect, &self.limits).expect("a plain CONNECT");
        self.link = Some(Link::new(&terms, &self.limits));
        let link = self.link.as_mut().expect("just made");
        let mut env = Env {
            now: self.now,
            limits: &self.limits,
            out: &mut self.out,
            room: room_of(detail),
            report: &mut self.report,
            scratch: &mut Vec::new(),
        };
        self.session.resume(link, &mut env);
    }

    /// Reads what was written and answers some of what waits for an answer, perhaps out of order.
    fn read_and_answer(&mut self, detail: u8) {
        self.read([usize::MAX, 0, 1, 5][usize::from(detail >> 6)]);
        for _ in 0..detail % 8 {
            if self.client.answers.is_empty() || self.link.is_none() {
                break;
            }
            let at = usize::from(detail >> 3) % self.client.answers.len();
            let (answer, id) = self.client.answers.remove(at).expect("within bounds");
            self.answer(answer, id);
        }
        self.pump(room_of(detail));
    }

    fn answer(&mut self, answer: Answer, id: u16) {
        let acked = self.acknowledge(answer, id, ReasonCode::Success);
        match answer {
            Answer::Acknowledged | Answer::Complete => {
                self.owed.begun.remove(&id);
                assert_eq!(acked, Acked::Finished, "{answer:?} {id}");
            }
            Answer::Received => assert_eq!(acked, Acked::Released, "{answer:?} {id}"),
        }
        self.tap();
    }

    /// An acknowledgement that may fit nothing.
    fn answer_wrongly(&mut self, detail: u8) {
        if self.link.is_none() {
            return;
        }
        let id = [1, 2, 3, 60_000][usize::from(detail & 3)];
        let answer = [Answer::Acknowledged, Answer::Received, Answer::Complete][usize::from(detail >> 2) % 3];
        let known = self.owed.begun.get(&id).map(|begun| (begun.qos, begun.released));
        match (answer, known) {
            (Answer::Acknowledged, Some((QoS::AtLeastOnce, _))) | (Answer::Complete, Some((_, true))) => {}
            (Answer::Received, Some((QoS::ExactlyOnce, _))) => {}
            // Answered with a PUBREL that 3.x can't tell from a good one.
            (Answer::Received, _) if !self.version.is_v5() => {}
            _ => assert_eq!(self.acknowledge(answer, id, ReasonCode::Success), Acked::Unknown),
        }
    }

    fn acknowledge(&mut self, answer: Answer, id: u16, reason: ReasonCode) -> Acked {
        let link = self.link.as_mut().expect("checked by the caller");
        let mut env = Env {
            now: self.now,
            limits: &self.limits,
            out: &mut self.out,
            room: 0,
            report: &mut self.report,
            scratch: &mut Vec::new(),
        };
        let ack = Ack::new(id, reason);
        match answer {
            Answer::Acknowledged => self.session.on_puback(link, &ack, &mut env),
            Answer::Received => self.session.on_pubrec(link, &ack, &mut env),
            Answer::Complete => self.session.on_pubcomp(link, &ack, &mut env),
        }
    }
}

/// What the broker writes, looked at before the client reads it, because it may never get there.
impl Game {
    fn tap(&mut self) {
        let written = self.out[self.tapped..].to_vec();
        self.tapped = self.out.len();
        for_each_packet(self.version, &written, |packet, len| match packet {
            Packet::Publish(publish) => self.tap_publish(&publish, len),
            Packet::PubRel(ack) if ack.reason == ReasonCode::Success => {
                // In 3.x an unknown PUBREC is answered without a reason.
                if let Some(begun) = self.owed.begun.get_mut(&ack.packet_id) {
                    assert_eq!(begun.qos, QoS::ExactlyOnce);
                    begun.released = true;
                    begun.on_this_link = true;
                }
            }
            Packet::PubAck(ack) => self.tap_answer(Answer::Acknowledged, ack.packet_id),
            Packet::PubRec(ack) => self.tap_answer(Answer::Received, ack.packet_id),
            _ => {}
        });
        assert!(self.publisher.expected.is_empty(), "answers that did not come: {:?}", self.publisher.expected);
    }

    fn tap_publish(&mut self, publish: &Publish<'_>, len: usize) {
        assert!(!self.small || len <= SMALL_MAXIMUM as usize, "packet of {len} bytes");
        let seq = seq_of(publish.payload);
        if publish.qos == QoS::AtMostOnce {
            assert!(!publish.dup);
            self.owed.taken.insert(seq, true);
            return;
        }
        let id = publish.packet_id;
        if publish.dup {
            let begun = self.owed.begun.get_mut(&id).expect("DUP on something that was begun");
            assert_eq!((begun.seq, begun.qos), (seq, publish.qos));
            assert!(!begun.released, "PUBLISH after PUBREL");
            assert!(!begun.on_this_link, "sent twice on one connection");
            begun.on_this_link = true;
            begun.maybe_gone = false;
        } else {
            let old = self.owed.begun.get(&id);
            assert!(old.is_none_or(|old| old.maybe_gone || self.given_up(old)), "id {id} is in use");
            let (qos, big) = (publish.qos, publish.payload.len() >= BIG);
            let begun = Begun { seq, qos, big, released: false, on_this_link: true, maybe_gone: false };
            self.owed.begun.insert(id, begun);
        }
        let under_way = self.owed.begun.values().filter(|begun| begun.on_this_link).count();
        let quota = usize::from(self.receive_maximum);
        assert!(under_way <= quota, "{under_way} under way, the client takes {quota}");
    }

    fn given_up(&self, begun: &Begun) -> bool {
        self.small && begun.big && !begun.on_this_link && !begun.released
    }

    fn tap_answer(&mut self, answer: Answer, id: u16) {
        assert_eq!(self.publisher.expected.pop_front(), Some((answer, id)));
    }

    fn check(&self) {
        let sure = self.owed.begun.values().filter(|begun| !begun.maybe_gone && !self.given_up(begun)).count();
        let inflight = self.session.inflight_len();
        assert!(
            (sure..=self.owed.begun.len()).contains(&inflight),
            "{sure} <= {inflight} <= {}",
            self.owed.begun.len()
        );
        assert!(self.session.queue_len() <= self.limits.queue_messages_max as usize);
        // Where others are refused, the last one that is taken may go beyond.
        let last = if self.limits.queue_full == QueueFull::Refuse { BIG + 200 } else { 0 };
        assert!(self.session.queue_bytes() <= self.limits.queue_bytes_max as usize + last);
        assert_eq!(self.session.queue_bytes() == 0, self.session.queue_len() == 0);
        assert_eq!(self.session.awaiting_release_len(), self.publisher.held.len());
        assert_eq!(self.session.waiting_acks_len(), self.publisher.waiting.len());
    }
}

/// The client as a subscriber.
impl Game {
    fn read(&mut self, packets_max: usize) {
        let mut left = packets_max;
        let mut used = 0;
        for_each_packet(self.version, &self.out, |packet, len| {
            if left == 0 {
                return;
            }
            left -= 1;
            used += len;
            match packet {
                Packet::Publish(publish) => self.client.on_publish(&publish),
                Packet::PubRel(ack) if ack.reason == ReasonCode::Success => {
                    self.client.held.remove(&ack.packet_id);
                    self.client.answers.push_back((Answer::Complete, ack.packet_id));
                }
                _ => {}
            }
        });
        self.out.drain(..used);
        self.tapped -= used;
    }

    /// Everything is read and answered; then what was taken has arrived, but for what the counters say was dropped.
    fn finish(&mut self) {
        self.limits.inflight_max = 1000;
        self.reconnect(0);
        self.tap();
        for _ in 0..2 * self.published + 10 {
            self.read(usize::MAX);
            while let Some((answer, id)) = self.client.answers.pop_front() {
                self.answer(answer, id);
            }
            self.pump(usize::MAX);
            self.tap();
            self.check();
        }
        assert!(!self.session.has_backlog() && self.session.inflight_len() == 0, "it never ends");
        assert_eq!(self.session.queue_bytes(), 0);
        let missing = |(seq, written): (&u32, &bool)| !written && !self.client.seen.contains(seq);
        let lost = self.owed.taken.iter().filter(|taken| missing(*taken)).count() as u64;
        let counted = self.report.drops.total() - self.dropped_at_once;
        assert!(lost <= counted, "{lost} lost, {counted} counted");
        // What a small connection made the session give up may have arrived before.
        assert!(lost == counted || self.ever_small, "{lost} lost, {counted} counted");
    }
}

impl Client {
    fn on_publish(&mut self, publish: &Publish<'_>) {
        let seq = seq_of(publish.payload);
        let topic = match publish.topic_alias {
            None => publish.topic.to_owned(),
            Some(alias) if publish.topic.is_empty() => self.aliases[&alias].clone(),
            Some(alias) => {
                self.aliases.insert(alias, publish.topic.to_owned());
                publish.topic.to_owned()
            }
        };
        assert_eq!(topic, TOPICS[usize::from(publish.payload[4])]);
        match publish.qos {
            QoS::AtMostOnce => self.on_first(publish.qos, seq),
            QoS::AtLeastOnce => {
                if !self.seen.contains(&seq) {
                    self.on_first(publish.qos, seq);
                }
                self.answers.push_back((Answer::Acknowledged, publish.packet_id));
            }
            QoS::ExactlyOnce => {
                if self.held.insert(publish.packet_id) {
                    self.on_first(publish.qos, seq);
                }
                self.answers.push_back((Answer::Received, publish.packet_id));
            }
        }
    }

    fn on_first(&mut self, qos: QoS, seq: u32) {
        assert!(self.seen.insert(seq), "{seq} came twice");
        let last = &mut self.last_of_qos[usize::from(qos.as_u8())];
        assert!(last.is_none_or(|last| last < seq), "{seq} after {last:?}");
        *last = Some(seq);
    }
}

/// The client as a publisher.
impl Game {
    fn publish(&mut self, detail: u8) {
        let Some(link) = self.link.as_mut() else { return };
        let qos = if detail & 0x40 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let id = u16::from(detail % 16) + 1;
        let publish = Publish {
            dup: false,
            qos,
            retain: false,
            topic: "t",
            packet_id: id,
            topic_alias: None,
            expiry: None,
            subscription_ids: false,
            properties: ForwardProperties::EMPTY,
            payload: b"",
        };
        let received = self.session.on_publish(link, &publish, &self.limits, &mut self.out);
        assert_eq!(received.ok(), self.publisher.expect(qos, id, self.limits.receive_maximum.into()));
        if received != Ok(Received::Route) {
            return;
        }
        let later = detail & 0x80 != 0;
        let ticket = if later {
            Some(self.session.acknowledge_later(qos, id, 1))
        } else {
            let link = self.link.as_mut().expect("checked above");
            self.session.acknowledge(link, qos, id, ReasonCode::Success, &mut self.out);
            None
        };
        self.publisher.waiting.push_back(Waiting { ticket, qos, id, ready: !later, refused: false, wanted: true });
        self.let_answers_out();
    }

    fn release(&mut self, id: u16) {
        let Some(link) = self.link.as_mut() else { return };
        self.publisher.held.remove(&id);
        self.session.on_pubrel(link, id, &mut self.out);
    }

    fn make_durable(&mut self, detail: u8) {
        let reason = if detail & 0x80 == 0 { ReasonCode::Success } else { ReasonCode::QuotaExceeded };
        let told = self.link.is_none() || self.version.is_v5();
        let open: Vec<usize> =
            (0..self.publisher.waiting.len()).filter(|at| !self.publisher.waiting[*at].ready).collect();
        let ticket = if detail & 0x40 != 0 && !self.publisher.stale.is_empty() {
            self.publisher.stale[usize::from(detail) % self.publisher.stale.len()]
        } else if open.is_empty() {
            return;
        } else {
            let waiting = &mut self.publisher.waiting[open[usize::from(detail & 0x3F) % open.len()]];
            waiting.ready = true;
            waiting.refused = reason.is_error();
            if waiting.qos == QoS::ExactlyOnce && reason.is_error() && told {
                self.publisher.held.remove(&waiting.id);
            }
            waiting.ticket.expect("what is not ready has a ticket")
        };
        let connection = self.link.as_mut().map(|link| (link, &mut self.out));
        let _ = self.session.acknowledge_ready(ticket, reason, connection);
        self.let_answers_out();
    }

    fn let_answers_out(&mut self) {
        while let Some(first) = self.publisher.waiting.pop_front_if(|first| first.ready) {
            self.publisher.stale.extend(first.ticket);
            if first.wanted && self.link.is_some() {
                let answer = if first.qos == QoS::ExactlyOnce { Answer::Received } else { Answer::Acknowledged };
                self.publisher.expected.push_back((answer, first.id));
            }
        }
    }
}

impl Publisher {
    fn expect(&mut self, qos: QoS, id: u16, max: usize) -> Option<Received> {
        if qos == QoS::ExactlyOnce && self.held.contains(&id) {
            let undecided = |waiting: &&mut Waiting| waiting.qos == qos && waiting.id == id && !waiting.ready;
            if self.waiting.is_empty() {
                self.expected.push_back((Answer::Received, id));
            } else if let Some(undecided) = self.waiting.iter_mut().find(undecided) {
                undecided.wanted = true;
            } else if self.waiting.len() >= max {
                return None;
            } else {
                let again = Waiting { ticket: None, qos, id, ready: true, refused: false, wanted: true };
                self.waiting.push_back(again);
            }
            return Some(Received::Repeat);
        }
        let loose = self.waiting.iter().filter(|waiting| waiting.qos != QoS::ExactlyOnce || waiting.refused).count();
        if (self.held.len() + loose).max(self.waiting.len()) >= max {
            return None;
        }
        if qos == QoS::ExactlyOnce {
            self.held.insert(id);
        }
        Some(Received::Route)
    }
}

fn for_each_packet(version: Version, mut bytes: &[u8], mut look: impl FnMut(Packet<'_>, usize)) {
    while !bytes.is_empty() {
        let Ok(Split::Packet(frame)) = split(bytes, u32::MAX) else { panic!("not a packet: {bytes:02x?}") };
        let packet = decode(version, &frame).expect("the session writes good packets");
        look(packet, frame.len);
        bytes = &bytes[frame.len..];
    }
}

fn seq_of(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().expect("four bytes"))
}

fn room_of(detail: u8) -> usize {
    [usize::MAX, 0, 50, 150, 1000, usize::MAX, usize::MAX, usize::MAX][usize::from(detail >> 5)]
}
