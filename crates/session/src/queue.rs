//! What waits for a connection, for quota or for room.

use std::collections::VecDeque;

use breakwater_proto::{Message, QoS};

use crate::{Delivery, Limits, QueueFull};

/// A message that this session still owes to its client, with how it goes out. 32 bytes: an offline session's queue is
/// made of these.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) message: Message,
    more_ids: Option<Box<Box<[u32]>>>,
    /// The subscription identifier while there is one at most; 0 for none.
    one_id: u32,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) shared: bool,
}

impl Pending {
    #[inline]
    pub(crate) fn new(message: Message, delivery: &Delivery<'_>) -> Pending {
        let (one_id, more_ids) = match delivery.subscription_ids {
            [] => (0, None),
            [one] => (*one, None),
            more => (0, Some(Box::new(more.into()))),
        };
        let Delivery { qos, retain, shared, .. } = *delivery;
        Pending { message, more_ids, one_id, qos, retain, shared }
    }

    #[inline]
    pub(crate) fn subscription_ids(&self) -> &[u32] {
        match &self.more_ids {
            Some(more) => more,
            None if self.one_id != 0 => core::slice::from_ref(&self.one_id),
            None => &[],
        }
    }

    /// Bytes that this record keeps alive. A message that several sessions hold counts in each of them.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        let ids = self.more_ids.as_ref().map_or(0, |ids| size_of::<Box<[u32]>>() + size_of_val(&***ids));
        size_of::<Pending>() + self.message.byte_len() + ids
    }
}

/// First in, first out; bounded by count and by bytes.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pending: VecDeque<Pending>,
    bytes: usize,
    /// QoS 0 entries: while there are some, later QoS 0 has to line up behind them.
    qos0: u32,
}

impl Queue {
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.pending.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    #[inline]
    pub(crate) fn holds_qos0(&self) -> bool {
        self.qos0 > 0
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&Pending> {
        self.pending.front()
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Pending> {
        let first = self.pending.pop_front()?;
        self.bytes -= first.bytes();
        self.qos0 -= u32::from(first.qos == QoS::AtMostOnce);
        if self.pending.is_empty() && self.pending.capacity() > KEPT_CAPACITY {
            self.pending = VecDeque::new();
        }
        Some(first)
    }

    /// Takes it in if the bounds allow, dropping older ones where the policy says so. Returns whether it was taken and how
    /// many older ones gave way.
    pub(crate) fn push(&mut self, pending: Pending, limits: &Limits) -> (bool, u32) {
        let bytes = pending.bytes();
        if bytes > limits.queue_bytes_max as usize || limits.queue_messages_max == 0 {
            return (false, 0);
        }
        let mut displaced = 0;
        while !self.fits(bytes, limits) {
            if limits.queue_full == QueueFull::DropNewest {
                return (false, displaced);
            }
            self.pop();
            displaced += 1;
        }
        self.bytes += bytes;
        self.qos0 += u32::from(pending.qos == QoS::AtMostOnce);
        self.pending.push_back(pending);
        (true, displaced)
    }

    /// Takes everything out, in order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Pending> + use<> {
        core::mem::take(self).pending.into_iter()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let records = self.pending.capacity() * size_of::<Pending>();
        records + self.bytes - self.pending.len() * size_of::<Pending>()
    }

    fn fits(&self, bytes: usize, limits: &Limits) -> bool {
        self.pending.len() < limits.queue_messages_max as usize && self.bytes + bytes <= limits.queue_bytes_max as usize
    }
}

/// An empty queue keeps room for this many records (4 KiB) while its connection lasts, so that a subscriber which is a
/// little slower than its publisher doesn't allocate again and again; more goes back at once.
const KEPT_CAPACITY: usize = 128;
