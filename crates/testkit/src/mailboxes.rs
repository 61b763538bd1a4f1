//! Mail between shards: a ring of few places per ordered pair, an overflow behind it, and a way home for empty batches.

use std::cell::Cell;
use std::collections::VecDeque;

use breakwater_shard::{Batch, Mail, ShardId};

use crate::network::Wire;

/// Batches on their way home, at most, per pair.
const RETURNS: usize = 16;

/// All pairs of one node.
pub(crate) struct Mailboxes {
    pairs: Vec<Pair>,
    shards: usize,
    places: usize,
    call_above: usize,
}

#[derive(Default)]
struct Pair {
    ring: VecDeque<Mail<Wire>>,
    overflow: VecDeque<Mail<Wire>>,
    bytes: usize,
    /// Most bytes under way at once.
    bytes_most: usize,
    returns: VecDeque<Box<Batch>>,
    /// The sender wants to be woken when the ring is empty.
    call: Cell<bool>,
    /// It has been called.
    called: bool,
}

impl Mailboxes {
    pub(crate) fn new(shards: u16, places: usize, call_above: usize) -> Self {
        let shards = usize::from(shards);
        Self { pairs: (0..shards * shards).map(|_| Pair::default()).collect(), shards, places, call_above }
    }

    fn pair(&mut self, from: ShardId, to: ShardId) -> &mut Pair {
        &mut self.pairs[usize::from(from) * self.shards + usize::from(to)]
    }

    pub(crate) fn send(&mut self, from: ShardId, to: ShardId, mail: Mail<Wire>) {
        let places = self.places;
        let pair = self.pair(from, to);
        pair.bytes += mail.bytes();
        pair.bytes_most = pair.bytes_most.max(pair.bytes);
        if pair.overflow.is_empty() && pair.ring.len() < places {
            pair.ring.push_back(mail);
        } else {
            pair.overflow.push_back(mail);
            pair.call.set(true);
        }
    }

    pub(crate) fn receive(&mut self, from: ShardId, to: ShardId) -> Option<Mail<Wire>> {
        let pair = self.pair(from, to);
        let Some(mail) = pair.ring.pop_front() else {
            pair.called |= pair.call.take();
            return None;
        };
        pair.bytes -= mail.bytes();
        Some(mail)
    }

    pub(crate) fn give_back(&mut self, from: ShardId, to: ShardId, batch: Box<Batch>) {
        let pair = self.pair(from, to);
        if pair.returns.len() < RETURNS {
            pair.returns.push_back(batch);
        }
    }

    pub(crate) fn backlog_bytes(&self, from: ShardId, to: ShardId) -> usize {
        let pair = &self.pairs[usize::from(from) * self.shards + usize::from(to)];
        if pair.bytes > self.call_above {
            pair.call.set(true);
        }
        pair.bytes
    }

    /// Start of a turn of `shard`: what was left over goes out, batches that came home are handed out.
    pub(crate) fn start_turn(&mut self, shard: ShardId, mut spare: impl FnMut(Box<Batch>)) {
        let places = self.places;
        for other in 0..self.shards as ShardId {
            let pair = self.pair(shard, other);
            pair.called = false;
            while pair.ring.len() < places
                && let Some(mail) = pair.overflow.pop_front()
            {
                pair.ring.push_back(mail);
            }
            if !pair.overflow.is_empty() {
                pair.call.set(true);
            }
            // Given back by `other` to us.
            let pair = self.pair(other, shard);
            while let Some(batch) = pair.returns.pop_front() {
                spare(batch);
            }
        }
    }

    /// Whether mail waits for `shard`, or a neighbour calls it.
    pub(crate) fn has_news(&self, shard: ShardId) -> bool {
        let shard = usize::from(shard);
        (0..self.shards).any(|other| {
            let (out, inbox) = (&self.pairs[shard * self.shards + other], &self.pairs[other * self.shards + shard]);
            !inbox.ring.is_empty()
                || inbox.call.get()
                || out.called
                || (!out.overflow.is_empty() && out.ring.len() < self.places)
        })
    }

    /// Bytes under way between all shards.
    pub(crate) fn bytes(&self) -> usize {
        self.pairs.iter().map(|pair| pair.bytes).sum()
    }

    /// Most bytes that were ever under way between one pair.
    pub(crate) fn bytes_most(&self) -> usize {
        self.pairs.iter().map(|pair| pair.bytes_most).max().unwrap_or(0)
    }
}
