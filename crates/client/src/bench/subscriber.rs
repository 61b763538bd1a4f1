//! The receiving side of one client: counts deliveries and acknowledges them.

use super::tally::{Arrival, Flow, Tally};
use super::wire::{self, Level, Stamp};

/// Publishers heard at most where the run does not know them beforehand.
const FLOWS_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) struct Subscriber {
    level: Level,
    first: u32,
    /// Number of the run's first publisher.
    base: u32,
    flows: Vec<Option<Flow>>,
    /// The publishers are known: a message of any other is strange.
    closed: bool,
}

impl Subscriber {
    /// Hears publishers from number `first` on; `count` of them, or any (`None`).
    pub(super) fn new(level: Level, base: u32, (first, count): (u32, Option<usize>)) -> Subscriber {
        let flows = (0..count.unwrap_or(0)).map(|_| Some(Flow::default())).collect();
        Subscriber { level, first, base, flows, closed: count.is_some() }
    }

    /// Takes all whole packets of `bytes`; returns how many bytes they were. Acknowledgements are appended to `acks`;
    /// `returned[i]` counts what came of publisher `i`, or will not come any more.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        now_ns: u64,
        acks: &mut Vec<u8>,
        tally: &mut Tally,
        returned: &mut [u64],
    ) -> Result<usize, String> {
        let mut at = 0;
        while let Some((first, body, len)) = wire::first_packet(&bytes[at..]).map_err(|e| e.to_string())? {
            match first >> 4 {
                wire::PUBLISH => {
                    let (id, payload) = wire::delivery(self.level, first, body).map_err(|e| e.to_string())?;
                    match first >> 1 & 3 {
                        1 => acks.extend_from_slice(&wire::ack(wire::PUBACK, id)),
                        2 => acks.extend_from_slice(&wire::ack(wire::PUBREC, id)),
                        _ => {}
                    }
                    match Stamp::read(payload) {
                        Some(stamp) => self.count(stamp, now_ns, tally, returned),
                        None => tally.strange += 1,
                    }
                }
                wire::PUBREL => {
                    let id = wire::packet_id(body).map_err(|e| e.to_string())?;
                    acks.extend_from_slice(&wire::ack(wire::PUBCOMP, id));
                }
                wire::DISCONNECT => return Err(wire::disconnected(body)),
                _ => {}
            }
            at += len;
        }
        Ok(at)
    }

    #[inline]
    fn count(&mut self, stamp: Stamp, now_ns: u64, tally: &mut Tally, returned: &mut [u64]) {
        let index = stamp.publisher.wrapping_sub(self.first) as usize;
        if index >= self.flows.len() && !self.make_room(index) {
            tally.strange += 1;
            return;
        }
        let flow = self.flows[index].get_or_insert_with(|| Flow::starting_at(stamp.sequence));
        let mut back = 1;
        match flow.arrive(stamp.sequence) {
            Arrival::Next => {}
            Arrival::After(missing) => {
                tally.gaps += u64::from(missing);
                back += u64::from(missing);
            }
            Arrival::Late => {
                tally.gaps = tally.gaps.saturating_sub(1);
                tally.late += 1;
                back = 0; // was given back when the gap was seen
            }
            Arrival::Duplicate => {
                tally.duplicates += 1;
                return;
            }
        }
        tally.unique += 1;
        // A run that only subscribes has no publishers of its own.
        if let Some(count) = returned.get_mut(stamp.publisher.wrapping_sub(self.base) as usize) {
            *count += back;
        }
        tally.latency_of(stamp.due_ns, now_ns);
    }

    #[cold]
    fn make_room(&mut self, index: usize) -> bool {
        if self.closed || index >= FLOWS_MAX {
            return false;
        }
        self.flows.resize_with(index + 1, || None);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::Template;
    use super::*;

    fn deliveries(qos: u8, sequences: &[u32]) -> Vec<u8> {
        let template = Template::new(Level::V311, "t", qos, 16);
        let mut bytes = Vec::new();
        for (id, sequence) in (1..).zip(sequences) {
            template.append(id, &Stamp { due_ns: 1, publisher: 7, sequence: *sequence }, &mut bytes);
        }
        bytes
    }

    #[test]
    fn loss_and_duplicates_are_counted_and_everything_is_acknowledged() {
        let mut subscriber = Subscriber::new(Level::V311, 7, (7, Some(1)));
        let (mut acks, mut tally, mut returned) = (Vec::new(), Tally::new(), [0]);
        let bytes = deliveries(1, &[0, 1, 1, 4]);
        let used = subscriber.take(&bytes[..bytes.len() - 1], 5, &mut acks, &mut tally, &mut returned).unwrap();
        assert_eq!(used, bytes.len() / 4 * 3);
        subscriber.take(&bytes[used..], 6, &mut acks, &mut tally, &mut returned).unwrap();
        assert_eq!((tally.unique, tally.duplicates, tally.gaps, returned[0]), (3, 1, 2, 5));
        assert_eq!(acks, [0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3, 0x40, 2, 0, 4]);
    }

    #[test]
    fn a_message_of_another_pair_is_strange() {
        let mut subscriber = Subscriber::new(Level::V311, 0, (3, Some(1)));
        let mut tally = Tally::new();
        subscriber.take(&deliveries(0, &[0]), 5, &mut Vec::new(), &mut tally, &mut [0; 8]).unwrap();
        assert_eq!((tally.unique, tally.strange), (0, 1));
    }

    #[test]
    fn a_subscriber_of_unknown_publishers_starts_where_it_joins() {
        let mut subscriber = Subscriber::new(Level::V311, 0, (0, None));
        let mut tally = Tally::new();
        subscriber.take(&deliveries(2, &[90, 91]), 5, &mut Vec::new(), &mut tally, &mut []).unwrap();
        assert_eq!((tally.unique, tally.gaps), (2, 0));
    }
}
