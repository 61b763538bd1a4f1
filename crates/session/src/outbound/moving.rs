//! A session that was in memory alone comes to be one of the store.

use breakwater_proto::{Message, QoS};

use crate::delivery::Kept;
use crate::inflight::Entry;
use crate::queue::Pending;
use crate::{Delivery, Session};

impl Session {
    /// From here on the store has the messages with QoS 1 and 2 that are in memory: `keep` is called for each of them, oldest first, with the
    /// terms on which it goes out and the packet identifier of a QoS 2 delivery that has begun, and answers what the store calls it.
    /// Answers the packet identifiers of QoS 2 deliveries whose PUBREC came.
    pub fn keep_all(&mut self, mut keep: impl FnMut(&Message, &Delivery<'_>, Option<u16>) -> Kept) -> Vec<u16> {
        let mut received = Vec::new();
        let Some(outbound) = self.outbound.as_deref_mut() else { return received };
        for (id, entry) in outbound.inflight.entries_mut() {
            match entry {
                Entry::Published(pending) => keep_one(pending, Some(id), &mut keep),
                Entry::Released { kept, .. } => {
                    *kept = true;
                    received.push(id);
                }
                Entry::Hole | Entry::Missing => {}
            }
        }
        outbound.queue.iter_mut().for_each(|pending| keep_one(pending, None, &mut keep));
        received
    }
}

fn keep_one(
    pending: &mut Pending,
    id: Option<u16>,
    keep: &mut impl FnMut(&Message, &Delivery<'_>, Option<u16>) -> Kept,
) {
    let qos = pending.qos();
    if qos == QoS::AtMostOnce || pending.kept() != Kept::default() {
        return;
    }
    let (retain, shared, flight) = (pending.retain(), pending.shared(), id.filter(|_| qos == QoS::ExactlyOnce));
    let mut one = 0;
    let subscription_ids = pending.subscription_ids(&mut one);
    let delivery = Delivery { qos, retain, shared, subscription_ids, ..Delivery::default() };
    let kept = keep(&pending.message, &delivery, flight);
    pending.set_kept(kept);
}
