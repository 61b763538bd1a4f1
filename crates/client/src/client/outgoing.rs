//! What this client has published with QoS 1 and 2 and the server has not finished with: the sending half of a session.

use std::collections::VecDeque;

use breakwater_proto::{OutPublish, QoS, ReasonCode, Version, encode_pubrel};

/// Publishes in the order in which they were asked for, which is the order of their packet identifiers too.
#[derive(Default)]
pub(super) struct Outgoing {
    slots: VecDeque<Slot>,
    /// How many slots from the front have been sent on this connection.
    sent: usize,
    in_flight: u16,
    open: usize,
    last_id: u16,
    /// SUBSCRIBE and UNSUBSCRIBE without an answer.
    requests: Vec<u16>,
    /// Over, but not yet told.
    settled: VecDeque<(u16, ReasonCode)>,
}

struct Slot {
    id: u16,
    stage: Stage,
    /// The encoded PUBLISH, empty once it is not needed any more.
    packet: Vec<u8>,
    /// The PUBLISH as it goes out the first time, when that differs (it sets a topic alias, which no later connection
    /// knows).
    first_packet: Option<Vec<u8>>,
    /// Whether the server may have seen the PUBLISH.
    dup: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    AwaitPubAck,
    AwaitPubRec,
    AwaitPubComp,
    /// Kept until everything before it is over, so that positions follow from identifiers.
    Done,
}

const DUP: u8 = 0x08;

impl Outgoing {
    pub(super) fn unacknowledged(&self) -> usize {
        self.open
    }

    pub(super) fn take_settled(&mut self) -> Option<(u16, ReasonCode)> {
        self.settled.pop_front()
    }

    /// Keeps the message until it is acknowledged. `None`: all packet identifiers are in use.
    pub(super) fn accept(&mut self, publish: &OutPublish<'_>, version: Version) -> Option<u16> {
        let id = self.next_id()?;
        let publish = OutPublish { dup: false, packet_id: id, ..*publish };
        let encode = |publish: &OutPublish<'_>| {
            let mut packet = Vec::with_capacity(publish.encoded_len(version));
            publish.encode(version, &mut packet);
            packet
        };
        let first_packet = (publish.topic_alias > 0).then(|| encode(&publish));
        let packet = encode(&OutPublish { topic_alias: 0, ..publish });
        let stage = if publish.qos == QoS::AtLeastOnce { Stage::AwaitPubAck } else { Stage::AwaitPubRec };
        self.slots.push_back(Slot { id, stage, packet, first_packet, dup: false });
        self.open += 1;
        Some(id)
    }

    pub(super) fn begin_request(&mut self) -> Option<u16> {
        let id = self.next_id()?;
        self.requests.push(id);
        Some(id)
    }

    pub(super) fn finish_request(&mut self, id: u16) {
        self.requests.retain(|request| *request != id);
    }

    /// Sends, in order, as many as `quota` lets be in flight [MQTT-4.9.0-2].
    pub(super) fn send_waiting(&mut self, version: Version, quota: u16, out: &mut Vec<u8>) {
        while self.in_flight < quota
            && let Some(slot) = self.slots.get_mut(self.sent)
        {
            self.sent += 1;
            match slot.stage {
                Stage::Done => continue,
                Stage::AwaitPubComp => encode_pubrel(version, slot.id, ReasonCode::Success, out), // [MQTT-4.4.0-1]
                Stage::AwaitPubAck | Stage::AwaitPubRec => slot.send(out),
            }
            self.in_flight += 1;
        }
    }

    pub(super) fn on_puback(&mut self, id: u16, reason: ReasonCode) {
        self.finish(id, Stage::AwaitPubAck, reason);
    }

    pub(super) fn on_pubrec(&mut self, id: u16, reason: ReasonCode, version: Version, out: &mut Vec<u8>) {
        if version.is_v5() && reason.is_error() {
            self.finish(id, Stage::AwaitPubRec, reason);
            return;
        }
        let slot = self.find(id).and_then(|at| self.slots.get_mut(at));
        let answer = match slot {
            Some(slot) if matches!(slot.stage, Stage::AwaitPubRec | Stage::AwaitPubComp) => {
                // The server has the message: it must not be sent again [MQTT-4.3.3-6].
                slot.stage = Stage::AwaitPubComp;
                slot.packet = Vec::new();
                slot.first_packet = None;
                ReasonCode::Success
            }
            _ => ReasonCode::PacketIdentifierNotFound,
        };
        encode_pubrel(version, id, answer, out);
    }

    pub(super) fn on_pubcomp(&mut self, id: u16, reason: ReasonCode) {
        self.finish(id, Stage::AwaitPubComp, reason);
    }

    pub(super) fn on_closed(&mut self) {
        self.sent = 0;
        self.in_flight = 0;
        self.requests.clear();
    }

    /// `kept`: the server still has the session. If not, what it may have seen starts over as a new message
    /// [MQTT-3.2.2-5], and what it has taken over is finished.
    pub(super) fn on_connected(&mut self, kept: bool) {
        if kept {
            return;
        }
        for slot in &mut self.slots {
            slot.dup = false;
            if slot.stage == Stage::AwaitPubComp {
                slot.stage = Stage::Done;
                self.open -= 1;
                self.settled.push_back((slot.id, ReasonCode::Success));
            }
        }
        self.drop_finished();
    }

    /// An acknowledgement that fits nothing is ignored: the exchange was over.
    fn finish(&mut self, id: u16, stage: Stage, reason: ReasonCode) {
        let Some(at) = self.find(id) else {
            return;
        };
        let slot = &mut self.slots[at];
        if slot.stage != stage || at >= self.sent {
            return;
        }
        slot.stage = Stage::Done;
        slot.packet = Vec::new();
        slot.first_packet = None;
        self.open -= 1;
        self.in_flight = self.in_flight.saturating_sub(1);
        self.settled.push_back((id, reason));
        self.drop_finished();
    }

    fn drop_finished(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.stage == Stage::Done) {
            self.slots.pop_front();
            self.sent = self.sent.saturating_sub(1);
        }
    }

    /// The next identifier that nothing uses; identifiers go round from 1 to 65,535.
    fn next_id(&mut self) -> Option<u16> {
        for _ in 0..=u16::MAX {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if self.slots.front().is_some_and(|slot| slot.id == self.last_id) {
                // Once round: the oldest publish still holds its identifier.
                self.last_id = self.last_id.checked_sub(1).filter(|id| *id > 0).unwrap_or(u16::MAX);
                return None;
            }
            if !self.requests.contains(&self.last_id) {
                return Some(self.last_id);
            }
        }
        None
    }

    /// Identifiers grow from the front on (modulo 65,535), so the distance to the front's one is sorted.
    fn find(&self, id: u16) -> Option<usize> {
        let base = self.slots.front()?.id;
        let distance = |id: u16| if id >= base { id - base } else { id.wrapping_sub(base).wrapping_sub(1) };
        // Without gaps the distance is the position.
        let guess = usize::from(distance(id));
        if self.slots.get(guess).is_some_and(|slot| slot.id == id) {
            return Some(guess);
        }
        self.slots.binary_search_by_key(&distance(id), |slot| distance(slot.id)).ok()
    }
}

impl Slot {
    fn send(&mut self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(self.first_packet.as_ref().unwrap_or(&self.packet));
        self.first_packet = None;
        if self.dup {
            out[start] |= DUP; // [MQTT-3.3.1-1]
        }
        self.dup = true;
    }
}
