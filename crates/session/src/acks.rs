//! Acknowledgements that wait, so that they leave in the order of the publishes. [MQTT-4.6.0-2] [MQTT-4.6.0-3]
//! [MQTT3-4.6.0-2] [MQTT3-4.6.0-3]

use std::collections::VecDeque;

use breakwater_proto::{QoS, ReasonCode, Version, encode_puback, encode_pubrec};

/// The place of one acknowledgement whose message is on its way to durability. Means nothing to another session: a
/// completion has to name the session that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AckTicket(pub u32);

#[derive(Debug, Default)]
pub(crate) struct Acks {
    waiting: VecDeque<Waiting>,
    /// Ticket of the front entry.
    first: u32,
    /// Entries whose publish holds no id among those that await release: QoS 1, and QoS 2 that is refused.
    loose: usize,
}

#[derive(Debug)]
struct Waiting {
    packet_id: u16,
    exactly_once: bool,
    loose: bool,
    /// The client waits for it on the connection of the moment. An acknowledgement of an earlier connection is not sent:
    /// the client publishes again.
    wanted: bool,
    /// Parts of the promise that are not kept yet.
    parts: u16,
    /// The worst so far.
    reason: ReasonCode,
}

impl Acks {
    /// Tickets go on where an earlier ring of the session ended, or the completion of an old publish would let out the
    /// answer to a new one.
    pub(crate) fn starting_at(first: AckTicket) -> Acks {
        Acks { first: first.0, ..Acks::default() }
    }

    pub(crate) fn next_ticket(&self) -> AckTicket {
        AckTicket(self.first.wrapping_add(self.waiting.len() as u32))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(crate) fn loose_len(&self) -> usize {
        self.loose
    }

    /// `parts`: how much has to be durable before it leaves.
    pub(crate) fn push(&mut self, qos: QoS, packet_id: u16, reason: ReasonCode, parts: u16) -> AckTicket {
        let exactly_once = qos == QoS::ExactlyOnce;
        let loose = !exactly_once || reason.is_error();
        let ticket = self.next_ticket();
        self.loose += usize::from(loose);
        self.waiting.push_back(Waiting { packet_id, exactly_once, loose, wanted: true, parts, reason });
        ticket
    }

    pub(crate) fn awaits(&self, ticket: AckTicket) -> bool {
        let waiting = self.waiting.get(ticket.0.wrapping_sub(self.first) as usize);
        waiting.is_some_and(|waiting| waiting.parts > 0)
    }

    /// One part more is done with. `None`: others are not, or the ticket is not of this ring, or was used before. Otherwise what
    /// it stands for, and with which reason.
    pub(crate) fn set_ready(&mut self, ticket: AckTicket, reason: ReasonCode) -> Option<(QoS, u16, ReasonCode)> {
        let waiting = self.waiting.get_mut(ticket.0.wrapping_sub(self.first) as usize)?;
        waiting.parts = waiting.parts.checked_sub(1)?;
        if !waiting.reason.is_error() {
            waiting.reason = reason;
        }
        if waiting.parts > 0 {
            return None;
        }
        if waiting.reason.is_error() && !waiting.loose {
            waiting.loose = true;
            self.loose += 1;
        }
        let qos = if waiting.exactly_once { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        Some((qos, waiting.packet_id, waiting.reason))
    }

    /// A repeated QoS 2 publish: true if its PUBREC is not decided yet, and will now be sent when it is.
    pub(crate) fn want_again(&mut self, packet_id: u16) -> bool {
        let same = |waiting: &&mut Waiting| waiting.exactly_once && waiting.parts > 0 && waiting.packet_id == packet_id;
        match self.waiting.iter_mut().find(same) {
            Some(waiting) => {
                waiting.wanted = true;
                true
            }
            None => false,
        }
    }

    /// Writes everything that is ready up to the first that is not. `None`: there is no connection, nothing is written.
    pub(crate) fn release(&mut self, mut to: Option<(Version, &mut Vec<u8>)>) {
        while let Some(first) = self.waiting.front() {
            if first.parts > 0 {
                return;
            }
            if let (true, Some((version, out))) = (first.wanted, &mut to) {
                write(first.exactly_once, *version, first.packet_id, first.reason, out);
            }
            self.pop();
        }
    }

    /// The connection is gone. QoS 1 publishes come again as new ones; for QoS 2 the place is kept, because the same
    /// publish may come again before its message is durable.
    pub(crate) fn on_detach(&mut self) {
        for waiting in &mut self.waiting {
            waiting.wanted = false;
            if !waiting.exactly_once {
                waiting.parts = 0;
            }
        }
        self.release(None);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.waiting.capacity() * size_of::<Waiting>()
    }

    fn pop(&mut self) {
        if let Some(first) = self.waiting.pop_front() {
            self.first = self.first.wrapping_add(1);
            self.loose -= usize::from(first.loose);
        }
    }
}

/// PUBACK or PUBREC. [MQTT-3.3.4-1] [MQTT3-3.3.4-1] [MQTT-2.2.1-5]
///
/// Without Reason String [MQTT-3.4.2-2] [MQTT-3.5.2-2] or User Property [MQTT-3.4.2-3] [MQTT-3.5.2-3], so that there is
/// nothing to leave out for a client that takes small packets only.
#[inline]
pub(crate) fn write(exactly_once: bool, version: Version, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
    if exactly_once {
        encode_pubrec(version, packet_id, reason, out); // [MQTT-4.3.3-8]
    } else {
        encode_puback(version, packet_id, reason, out); // [MQTT-4.3.2-4] [MQTT3-4.3.2-2]
    }
}
