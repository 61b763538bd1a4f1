//! What waits for a connection, for quota or for room.

use std::collections::VecDeque;

use breakwater_proto::{Instant, Message, QoS};

use crate::ages::Ages;
use crate::delivery::{Kept, Spill};
use crate::{Delivery, DropReason, Limits, QueueFull};

/// A message that this session still owes to its client, with how it goes out. 32 bytes: an offline session's queue is
/// made of these.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) message: Message,
    more_ids: Option<Box<Box<[u32]>>>,
    /// The subscription identifier while there is one at most, which has 28 bits, 0 for none; below it QoS, RETAIN and `shared`.
    terms: u32,
    /// What the store calls it, for the shard: [`Kept`]; and two flags.
    kept: u32,
}

const QOS: u32 = 3;
const RETAIN: u32 = 1 << 2;
const SHARED: u32 = 1 << 3;
const ID_AT: u32 = 4;

/// It was sent before, on whatever connection.
const SENT: u32 = 1 << 31;
/// The store does not have yet what has to be there before it is sent.
const WAITS: u32 = 1 << 30;

impl Pending {
    #[inline]
    pub(crate) fn new(message: Message, delivery: &Delivery<'_>) -> Pending {
        let (one_id, more_ids) = match delivery.subscription_ids {
            [] => (0, None),
            [one] => (*one, None),
            more => (0, Some(Box::new(more.into()))),
        };
        let flag = |is: bool, bit: u32| if is { bit } else { 0 };
        let how = u32::from(delivery.qos.as_u8()) | flag(delivery.retain, RETAIN) | flag(delivery.shared, SHARED);
        debug_assert!(delivery.kept.0 < WAITS, "there are fewer messages in memory");
        Pending { message, more_ids, terms: one_id << ID_AT | how, kept: delivery.kept.0 }
    }

    #[inline]
    pub(crate) fn qos(&self) -> QoS {
        QoS::from_bits((self.terms & QOS) as u8).unwrap_or_default()
    }

    #[inline]
    pub(crate) fn retain(&self) -> bool {
        self.terms & RETAIN != 0
    }

    #[inline]
    pub(crate) fn shared(&self) -> bool {
        self.terms & SHARED != 0
    }

    #[inline]
    pub(crate) fn kept(&self) -> Kept {
        Kept(self.kept & !(SENT | WAITS))
    }

    pub(crate) fn set_kept(&mut self, kept: Kept) {
        self.kept = self.kept & (SENT | WAITS) | kept.0;
    }

    /// It is in memory only, from here on.
    pub(crate) fn lose(&mut self) {
        self.kept &= SENT;
    }

    #[inline]
    pub(crate) fn was_sent(&self) -> bool {
        self.kept & SENT != 0
    }

    #[inline]
    pub(crate) fn set_sent(&mut self) {
        self.kept |= SENT;
    }

    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.kept & WAITS != 0
    }

    pub(crate) fn set_waits(&mut self, waits: bool) {
        self.kept = if waits { self.kept | WAITS } else { self.kept & !WAITS };
    }

    /// `one`: where a single identifier is put, so that it can be lent.
    #[inline]
    pub(crate) fn subscription_ids<'a>(&'a self, one: &'a mut u32) -> &'a [u32] {
        if let Some(more) = &self.more_ids {
            return more;
        }
        *one = self.terms >> ID_AT;
        if *one == 0 { &[] } else { std::slice::from_ref(one) }
    }

    /// Bytes that this record keeps alive. A message that several sessions hold counts in each of them.
    #[inline]
    pub(crate) fn bytes(&self) -> usize {
        let ids = self.more_ids.as_ref().map_or(0, |ids| size_of::<Box<[u32]>>() + size_of_val(&***ids));
        size_of::<Pending>() + self.message.byte_len() + ids
    }
}

/// What became of a message that was to join a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    Taken,
    /// It is in the store alone.
    Behind,
    Refused,
}

/// First in, first out; bounded by count and by bytes. The front of it is in memory; what the store has need not be.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    pending: VecDeque<Pending>,
    bytes: usize,
    /// Behind what is in memory: messages that are in the store alone, and their bytes.
    behind: u32,
    behind_bytes: u64,
    /// There may be some: what comes lines up behind them.
    is_cut: bool,
    /// Of those that were behind so many, the oldest, have given way, and the store is not told yet.
    excess: u32,
    /// QoS 0 entries: while there are some, later QoS 0 has to line up behind them.
    qos0: u32,
    /// Messages and bytes that the node's account has.
    counted: (u64, u64),
    /// Since when those in memory wait, if that was ever asked since it was empty.
    ages: Option<Box<Ages>>,
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

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.pending.iter_mut()
    }

    #[inline]
    pub(crate) fn front(&self) -> Option<&Pending> {
        self.pending.front()
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Pending> {
        let first = self.pending.pop_front()?;
        self.bytes -= first.bytes();
        self.qos0 -= u32::from(first.qos() == QoS::AtMostOnce);
        if let Some(ages) = &mut self.ages {
            ages.pop();
            if self.pending.is_empty() {
                self.ages = None;
            }
        }
        if self.pending.is_empty() && self.pending.capacity() > KEPT_CAPACITY {
            self.pending = VecDeque::new();
        }
        Some(first)
    }

    /// Takes it in if the bounds allow, dropping older ones where the policy says so: `displaced` is called for each.
    pub(crate) fn push(
        &mut self,
        pending: Pending,
        limits: &Limits,
        (spill, now): (Spill, Instant),
        mut displaced: impl FnMut(Option<Pending>),
    ) -> Pushed {
        let bytes = pending.bytes();
        if limits.queue_full == QueueFull::Refuse {
            if self.is_full(limits, false) {
                return Pushed::Refused;
            }
        } else if bytes > limits.queue_bytes_max as usize || limits.queue_messages_max == 0 {
            return Pushed::Refused;
        }
        while limits.queue_full != QueueFull::Refuse && !self.fits(bytes, limits) {
            if limits.queue_full == QueueFull::DropNewest {
                return Pushed::Refused;
            }
            displaced(self.pop_oldest());
        }
        let is_kept = pending.kept() != Kept::default();
        let many = self.pending.len() >= limits.queue_memory_messages as usize
            || self.bytes >= limits.queue_memory_bytes as usize
            || self.is_cut;
        if is_kept && (spill == Spill::Always || (many && spill != Spill::Never)) {
            self.add_behind(1, bytes as u64);
            return Pushed::Behind;
        }
        self.append(pending, seconds(now), limits);
        Pushed::Taken
    }

    /// Takes in one that was in the store alone, and has waited for so long.
    pub(crate) fn take_back(&mut self, pending: Pending, age_s: u32, now: Instant, limits: &Limits) {
        self.leave_behind(1, pending.bytes() as u64);
        self.append(pending, seconds(now).saturating_sub_unsigned(age_s), limits);
    }

    /// Why the front comes to nothing, if it does.
    #[inline]
    pub(crate) fn front_is_over(&self, now: Instant, limits: &Limits) -> Option<DropReason> {
        if self.front()?.message.expires_at().is_some_and(|at| at <= now) {
            return Some(DropReason::Expired); // [MQTT-3.3.2-5]
        }
        let came_s = self.ages.as_ref().filter(|_| limits.queue_age_max_s > 0)?.first()?;
        let is_over = i64::from(seconds(now)) - i64::from(came_s) > i64::from(limits.queue_age_max_s);
        is_over.then_some(DropReason::TooOld)
    }

    /// So many of those that are in the store alone are there no longer.
    pub(crate) fn leave_behind(&mut self, messages: u32, bytes: u64) {
        self.behind = self.behind.saturating_sub(messages);
        self.behind_bytes = if self.behind == 0 { 0 } else { self.behind_bytes.saturating_sub(bytes) };
    }

    /// So many more are in the store alone.
    pub(crate) fn add_behind(&mut self, messages: u32, bytes: u64) {
        self.is_cut = true;
        self.behind = self.behind.saturating_add(messages);
        self.behind_bytes = self.behind_bytes.saturating_add(bytes);
    }

    /// Whether some may be in the store alone.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// None is in the store alone any more.
    pub(crate) fn join(&mut self) {
        (self.is_cut, self.behind, self.behind_bytes) = (false, 0, 0);
    }

    /// Those that have given way and that the store is to forget.
    pub(crate) fn take_excess(&mut self) -> u32 {
        core::mem::take(&mut self.excess)
    }

    pub(crate) fn add_excess(&mut self, messages: u32) {
        self.excess = self.excess.saturating_add(messages);
    }

    pub(crate) fn excess(&self) -> u32 {
        self.excess
    }

    fn append(&mut self, pending: Pending, came_s: i32, limits: &Limits) {
        if limits.queue_age_max_s > 0 && self.ages.is_none() {
            self.ages = Some(Box::new(Ages::begin(self.pending.len(), came_s)));
        }
        if let Some(ages) = &mut self.ages {
            ages.push(came_s);
        }
        self.bytes += pending.bytes();
        self.qos0 += u32::from(pending.qos() == QoS::AtMostOnce);
        self.pending.push_back(pending);
    }

    /// The oldest one gives way; `None`: it is in the store alone.
    fn pop_oldest(&mut self) -> Option<Pending> {
        let oldest = self.pop();
        if oldest.is_none() && self.behind > 0 {
            self.excess = self.excess.saturating_add(1);
            self.leave_behind(1, self.behind_bytes / u64::from(self.behind));
        }
        oldest
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pending> {
        self.pending.iter()
    }

    /// Takes everything out, in order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Pending> + use<> {
        core::mem::take(self).pending.into_iter()
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let records = self.pending.capacity() * size_of::<Pending>();
        let ages = self.ages.as_ref().map_or(0, |ages| ages.heap_bytes());
        records + self.bytes - self.pending.len() * size_of::<Pending>() + ages
    }

    /// Messages, and bytes of them, wherever they are.
    #[inline]
    pub(crate) fn tally(&self) -> (u64, u64) {
        (self.pending.len() as u64 + u64::from(self.behind), self.bytes as u64 + self.behind_bytes)
    }

    /// Whether a bound is reached, so that nothing more is taken where the rest is refused. Once it `was` it is until there is some room,
    /// or it would be so by turns with each message.
    pub(crate) fn is_full(&self, limits: &Limits, was: bool) -> bool {
        let reached = |is: u64, most: u32| {
            let most = u64::from(most.max(1));
            is >= most - if was { most / SLACK } else { 0 }
        };
        let (messages, bytes) = self.tally();
        messages > 0 && (reached(messages, limits.queue_messages_max) || reached(bytes, limits.queue_bytes_max))
    }

    /// What has come and gone since this was asked before.
    pub(crate) fn recount(&mut self) -> (i64, i64) {
        let (messages, bytes) = self.tally();
        let before = std::mem::replace(&mut self.counted, (messages, bytes));
        (messages.wrapping_sub(before.0) as i64, bytes.wrapping_sub(before.1) as i64)
    }

    /// What [`Queue::recount`] has found last.
    pub(crate) fn counted(&self) -> (u64, u64) {
        self.counted
    }

    pub(crate) fn take_counted(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.counted)
    }

    fn fits(&self, bytes: usize, limits: &Limits) -> bool {
        self.pending.len() + (self.behind as usize) < limits.queue_messages_max as usize
            && self.bytes as u64 + self.behind_bytes + bytes as u64 <= u64::from(limits.queue_bytes_max)
    }
}

fn seconds(now: Instant) -> i32 {
    i32::try_from(now.0 / 1000).unwrap_or(i32::MAX)
}

/// An empty queue keeps room for this many records (4 KiB) while its connection lasts, so that a subscriber which is a
/// little slower than its publisher doesn't allocate again and again; more goes back at once.
const KEPT_CAPACITY: usize = 128;

/// A full queue takes messages again when a 16th of its bound is free.
const SLACK: u64 = 16;

#[cfg(test)]
mod tests {
    use breakwater_proto::{ForwardProperties, MessageView};

    use super::*;

    fn pending(size: usize, ids: usize, qos: QoS) -> Pending {
        let payload = vec![0; size];
        let view = MessageView {
            topic: "t",
            payload: &payload,
            qos,
            retain: false,
            properties: ForwardProperties::EMPTY,
            expires_at: None,
            origin: 0,
        };
        let subscription_ids: Vec<u32> = (1..=ids as u32).collect();
        let delivery = Delivery { qos, subscription_ids: &subscription_ids, ..Delivery::default() };
        Pending::new(Message::new(&view, &mut Vec::new()), &delivery)
    }

    #[test]
    fn a_record_knows_its_identifiers_and_its_bytes() {
        let ids = |pending: &Pending| pending.subscription_ids(&mut 0).to_vec();
        let plain = pending(10, 0, QoS::AtLeastOnce);
        assert_eq!((ids(&plain), plain.bytes()), (vec![], 32 + plain.message.byte_len()));
        let one = pending(10, 1, QoS::AtLeastOnce);
        assert_eq!((ids(&one), one.bytes()), (vec![1], plain.bytes()));
        let three = pending(10, 3, QoS::AtLeastOnce);
        assert_eq!((ids(&three), three.bytes()), (vec![1, 2, 3], plain.bytes() + 16 + 12));
        let delivery = Delivery {
            qos: QoS::ExactlyOnce,
            retain: true,
            subscription_ids: &[268_435_455],
            shared: true,
            kept: Kept(WAITS - 1),
            spill: Spill::default(),
        };
        let mut full = Pending::new(plain.message, &delivery);
        full.set_waits(true);
        full.set_sent();
        assert_eq!(
            (ids(&full), full.qos(), full.retain(), full.shared()),
            (vec![268_435_455], QoS::ExactlyOnce, true, true)
        );
        assert_eq!((full.kept(), full.waits(), full.was_sent()), (Kept(WAITS - 1), true, true));
        full.lose();
        assert_eq!((full.kept(), full.waits(), full.was_sent()), (Kept(0), false, true));
    }

    #[test]
    fn the_account_is_the_sum_of_what_is_held() {
        for queue_full in [QueueFull::DropOldest, QueueFull::DropNewest, QueueFull::Refuse] {
            let limits = Limits { queue_messages_max: 20, queue_bytes_max: 3000, queue_full, ..Limits::default() };
            let mut queue = Queue::default();
            // Where others are refused the last one may go beyond the bytes.
            let bytes_max = 3000 + if queue_full == QueueFull::Refuse { 32 + 300 + 32 } else { 0 };
            let (mut state, mut counted) = (3_u64, (0, 0));
            for _ in 0..20_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let [kind, size, ids, qos] = ((state >> 32) as u32).to_be_bytes();
                if kind % 5 < 3 {
                    let qos = QoS::from_bits(qos % 3).unwrap();
                    let before = queue.len();
                    let mut displaced = 0;
                    let pending = pending(size.into(), usize::from(ids % 4), qos);
                    let pushed = queue.push(pending, &limits, (Spill::Always, Instant(0)), |_| displaced += 1);
                    assert_eq!(queue.len(), before + usize::from(pushed == Pushed::Taken) - displaced);
                } else {
                    queue.pop();
                }
                assert_eq!(queue.bytes, queue.pending.iter().map(Pending::bytes).sum::<usize>());
                let qos0 = queue.pending.iter().filter(|pending| pending.qos() == QoS::AtMostOnce).count();
                assert_eq!(queue.qos0 as usize, qos0);
                assert!(queue.bytes <= bytes_max && queue.len() <= 20, "{} {}", queue.bytes, queue.len());
                let (messages, bytes) = queue.recount();
                counted = (counted.0 + messages, counted.1 + bytes);
                assert_eq!(counted, (queue.len() as i64, queue.bytes as i64));
            }
        }
    }
}
