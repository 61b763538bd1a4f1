//! The sending side of one client: what may leave now, and what has been acknowledged.

use std::collections::VecDeque;

use super::wire::{self, Level, Stamp, Template};

#[derive(Debug)]
pub(super) struct Publisher {
    number: u32,
    qos: u8,
    template: Template,
    pub(super) published: u64,
    /// Refused by the broker with a reason code.
    pub(super) refused: u64,
    /// Unacknowledged QoS 1 and 2 messages.
    pub(super) inflight: u64,
    window: u64,
    next_id: u16,
    /// When the messages that are due but have not left were due (open loop).
    backlog: VecDeque<u64>,
    /// Deliveries given up because nothing moved any more.
    forgiven: u64,
}

/// Bounds of a saturating publisher.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) fan_out: u64,
    pub(super) outstanding: Option<u64>,
    /// Messages per write.
    pub(super) batch: u64,
    /// Messages still to publish.
    pub(super) left: u64,
}

impl Publisher {
    pub(super) fn new(level: Level, number: u32, topic: &str, qos: u8, size: usize, window: u16) -> Publisher {
        Publisher {
            number,
            qos,
            template: Template::new(level, topic, qos, size),
            published: 0,
            refused: 0,
            inflight: 0,
            window: u64::from(window),
            next_id: 0,
            backlog: VecDeque::new(),
            forgiven: 0,
        }
    }

    /// How many messages to write at once in a saturating run; 0 until a worthwhile part of the bounds is free, so
    /// that publishers keep writing many messages at a time.
    #[inline]
    pub(super) fn room(&self, bounds: &Bounds, returned: u64) -> u64 {
        let mut room = bounds.batch.min(bounds.left);
        let mut least = 1;
        if let Some(outstanding) = bounds.outstanding {
            let most = (outstanding / bounds.fan_out).max(1);
            let under_way = self.under_way(bounds.fan_out, returned).div_ceil(bounds.fan_out);
            room = room.min(most.saturating_sub(under_way));
            least = least.max(most / 4);
        }
        if self.qos > 0 {
            room = room.min(self.window.saturating_sub(self.inflight));
            least = least.max(self.window / 4);
        }
        if room < least.min(bounds.batch).min(bounds.left) { 0 } else { room }
    }

    /// Deliveries of this publisher's messages that have not come.
    pub(super) fn under_way(&self, fan_out: u64, returned: u64) -> u64 {
        (self.published * fan_out).saturating_sub(returned + self.forgiven)
    }

    pub(super) fn forgive(&mut self, fan_out: u64, returned: u64) {
        self.forgiven = (self.published * fan_out).saturating_sub(returned);
    }

    pub(super) fn is_settled(&self) -> bool {
        self.inflight == 0 && self.backlog.is_empty()
    }

    pub(super) fn packet_len(&self) -> usize {
        self.template.packet_len()
    }

    /// Appends `count` messages due now.
    #[inline]
    pub(super) fn append(&mut self, count: u64, due_ns: u64, out: &mut Vec<u8>) {
        for _ in 0..count {
            self.append_one(due_ns, out);
        }
    }

    /// A message has become due; it leaves with the next `append_due`.
    pub(super) fn owe(&mut self, due_ns: u64) {
        self.backlog.push_back(due_ns);
    }

    /// Appends what is due as far as the in-flight window allows; returns whether anything still waits.
    pub(super) fn append_due(&mut self, out: &mut Vec<u8>) -> bool {
        while self.qos == 0 || self.inflight < self.window {
            let Some(due_ns) = self.backlog.pop_front() else { return false };
            self.append_one(due_ns, out);
        }
        !self.backlog.is_empty()
    }

    #[inline]
    fn append_one(&mut self, due_ns: u64, out: &mut Vec<u8>) {
        if self.qos > 0 {
            self.next_id = if self.next_id == u16::MAX { 1 } else { self.next_id + 1 };
            self.inflight += 1;
        }
        // Sequence numbers wrap: subscribers compare them by distance.
        let sequence = (self.published & u64::from(u32::MAX)) as u32;
        let stamp = Stamp { due_ns, publisher: self.number, sequence };
        self.template.append(self.next_id, &stamp, out);
        self.published += 1;
    }

    /// Takes acknowledgements; appends PUBREL where QoS 2 asks for it. Returns how many bytes were whole packets.
    pub(super) fn take(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, String> {
        let mut at = 0;
        while let Some((first, body, len)) = wire::first_packet(&bytes[at..]).map_err(|e| e.to_string())? {
            let refused = body.get(2).is_some_and(|reason| *reason >= 0x80);
            match first >> 4 {
                wire::PUBREC if !refused => {
                    let id = wire::packet_id(body).map_err(|e| e.to_string())?;
                    out.extend_from_slice(&wire::ack(wire::PUBREL, id));
                }
                wire::PUBACK | wire::PUBCOMP | wire::PUBREC => {
                    self.refused += u64::from(refused);
                    self.inflight = self.inflight.saturating_sub(1);
                }
                wire::DISCONNECT => return Err(wire::disconnected(body)),
                _ => {}
            }
            at += len;
        }
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(outstanding: u64, fan_out: u64) -> Bounds {
        Bounds { fan_out, outstanding: Some(outstanding), batch: 500, left: u64::MAX }
    }

    #[test]
    fn a_saturating_publisher_waits_until_a_quarter_of_its_bound_is_free() {
        let mut publisher = Publisher::new(Level::V311, 0, "t", 0, 16, 10);
        let bounds = bounds(1000, 10);
        assert_eq!(publisher.room(&bounds, 0), 100);
        publisher.append(100, 1, &mut Vec::new());
        assert_eq!(publisher.room(&bounds, 0), 0);
        assert_eq!(publisher.room(&bounds, 240), 0);
        assert_eq!(publisher.room(&bounds, 250), 25);
        publisher.forgive(10, 0);
        assert_eq!(publisher.room(&bounds, 0), 100);
    }

    #[test]
    fn the_window_bounds_what_is_unacknowledged() {
        let mut publisher = Publisher::new(Level::V311, 0, "t", 2, 16, 2);
        for due in 1..=3 {
            publisher.owe(due);
        }
        let mut out = Vec::new();
        assert!(publisher.append_due(&mut out));
        assert_eq!(publisher.published, 2);
        out.clear();
        assert_eq!(publisher.take(&wire::ack(wire::PUBREC, 1), &mut out), Ok(4));
        assert_eq!(out, wire::ack(wire::PUBREL, 1));
        assert!(publisher.append_due(&mut out));
        publisher.take(&wire::ack(wire::PUBCOMP, 1), &mut out).unwrap();
        assert!(!publisher.append_due(&mut out));
        assert!(!publisher.is_settled());
    }
}
