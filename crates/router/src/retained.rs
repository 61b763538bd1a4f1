//! Retained messages: one per topic, found by topic or by filter.

mod cursor;
mod life;
mod tree;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, RwLock};

use breakwater_proto::{Instant, Message};
use hashbrown::HashTable;

use crate::keyed_hash::HashKey;
use crate::locks::{Padded, read, write};
use crate::options::RetainedLimits;
use crate::slab::Slab;
use crate::split_table::{self, Tagged};
use tree::TopicTree;

pub use cursor::{Progress, RetainedCursor};
pub use life::RetainedLife;

/// Why a retained message was not kept. Its predecessor is gone all the same: keeping the older value would be worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    TooMany,
    TooManyBytes,
    PayloadTooLarge,
}

/// What became of a retained message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetainOutcome {
    /// Orders competing writes to one topic: grows with every write, also across removal.
    pub revision: u64,
    /// There was a message on this topic; it is gone.
    pub replaced: bool,
    /// The one that is gone was to outlast the process.
    pub lasting: bool,
    pub refused: Option<Refusal>,
}

impl RetainOutcome {
    fn nothing_gone(revision: u64) -> Self {
        Self { revision, replaced: false, lasting: false, refused: None }
    }
}

/// The retained messages of the node. Exact topics in stripes, like the filters; a tree of topics for subscribers that
/// come with a wildcard. Only a topic that comes or goes locks the tree; the order of locks is tree, then stripe.
pub(crate) struct Retained {
    stripes: Box<[Padded<RwLock<Stripe>>]>,
    tree: RwLock<TopicTree>,
    limits: RetainedLimits,
    life: life::Life,
    revision: AtomicU64,
    count: AtomicU64,
    bytes: AtomicU64,
    /// Messages that expire: without any a sweep ends at once.
    expiring: AtomicU64,
    /// Where the next sweep goes on: stripe in the upper half, place in the lower.
    swept: AtomicU64,
}

#[derive(Default)]
struct Stripe {
    table: HashTable<Tagged>,
    kept: Slab<Option<Kept>>,
}

/// A retained message. Its topic is in the message, and not stored again.
struct Kept {
    message: Message,
    revision: u64,
    /// Its node in the tree.
    node: u32,
    /// It is to outlast the process.
    lasting: bool,
}

const STRIPE_BITS: u32 = 7;
const STRIPES: usize = 1 << STRIPE_BITS;

impl Retained {
    pub(crate) fn new(limits: RetainedLimits) -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Padded(RwLock::default())).collect(),
            tree: RwLock::new(TopicTree::new()),
            limits,
            life: life::Life::default(),
            revision: AtomicU64::new(0),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            expiring: AtomicU64::new(0),
            swept: AtomicU64::new(0),
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_life(&self, life: Arc<RetainedLife>) {
        self.life.set(life);
    }

    pub(crate) fn end(&self, topic: &str, own: Option<Instant>, now: Instant) -> Option<Instant> {
        self.life.end(topic, own, now)
    }

    fn stripe(&self, hash: u64) -> (u32, &RwLock<Stripe>) {
        let number = (hash >> 32) as usize % STRIPES;
        (number as u32, &self.stripes[number].0)
    }

    pub(crate) fn start_revisions_at(&self, revision: u64) {
        self.revision.fetch_max(revision, Ordering::Relaxed);
    }

    fn next_revision(&self) -> u64 {
        self.revision.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Keeps `message` as its topic's retained one [MQTT-3.3.1-5] [MQTT3-3.3.1-5]; an empty payload removes it
    /// [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT3-3.3.1-10] [MQTT3-3.3.1-11].
    pub(crate) fn retain(&self, key: &HashKey, message: Message, lasting: bool) -> RetainOutcome {
        let payload = message.payload().len();
        if payload == 0 {
            return self.remove(key, message.topic(), None);
        }
        if payload > self.limits.payload_max as usize {
            return self.refuse(key, &message, Refusal::PayloadTooLarge);
        }
        match self.replace(key, message, lasting) {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(message)) => self.refuse(key, &message, Refusal::TooManyBytes),
            Err(message) => self.keep_new(key, message, lasting),
        }
    }

    /// The common case: the topic has a message already. The outer error hands the message of a new topic back, the inner
    /// one a message that doesn't fit.
    fn replace(
        &self,
        key: &HashKey,
        message: Message,
        lasting: bool,
    ) -> Result<Result<RetainOutcome, Message>, Message> {
        let hash = key.text(message.topic());
        let mut stripe = write(self.stripe(hash).1);
        match stripe.find(hash, message.topic()) {
            Some(place) => Ok(self.replace_at(&mut stripe, place, message, lasting)),
            None => Err(message),
        }
    }

    fn replace_at(
        &self,
        stripe: &mut Stripe,
        place: u32,
        message: Message,
        lasting: bool,
    ) -> Result<RetainOutcome, Message> {
        let kept = stripe.kept.get_mut(place).and_then(Option::as_mut).expect("the table names taken places only");
        let (old, new) = (kept.message.byte_len() as u64, message.byte_len() as u64);
        if new > old && !reserve(&self.bytes, new - old, self.limits.bytes_max) {
            return Err(message);
        }
        self.bytes.fetch_sub(old.saturating_sub(new), Ordering::Relaxed);
        self.count_expiring(&message, true);
        self.count_expiring(&kept.message, false);
        kept.message = message; // whatever the QoS of either [MQTT3-3.3.1-7]
        kept.revision = self.next_revision();
        let lasting = std::mem::replace(&mut kept.lasting, lasting);
        Ok(RetainOutcome { revision: kept.revision, replaced: true, lasting, refused: None })
    }

    fn keep_new(&self, key: &HashKey, message: Message, lasting: bool) -> RetainOutcome {
        let hash = key.text(message.topic());
        let mut tree = write(&self.tree);
        let (number, stripe) = self.stripe(hash);
        let mut stripe = write(stripe);
        // Another shard may have been here in the meantime.
        let refusal = if let Some(place) = stripe.find(hash, message.topic()) {
            match self.replace_at(&mut stripe, place, message, lasting) {
                Ok(outcome) => return outcome,
                Err(message) => {
                    drop((stripe, tree));
                    return self.refuse(key, &message, Refusal::TooManyBytes);
                }
            }
        } else if !reserve(&self.count, 1, self.limits.count_max) {
            Refusal::TooMany
        } else if !reserve(&self.bytes, message.byte_len() as u64, self.limits.bytes_max) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            Refusal::TooManyBytes
        } else {
            let revision = self.next_revision();
            self.count_expiring(&message, true);
            let place = stripe.kept.insert(None);
            let node = tree.insert(key, message.topic(), (place << STRIPE_BITS) | number);
            *stripe.kept.get_mut(place).expect("just inserted") = Some(Kept { message, revision, node, lasting });
            stripe.table.insert_unique(Tagged::filed_under(hash), Tagged::new(hash, place), Tagged::hash);
            return RetainOutcome::nothing_gone(revision);
        };
        RetainOutcome { refused: Some(refusal), ..RetainOutcome::nothing_gone(self.next_revision()) }
    }

    fn refuse(&self, key: &HashKey, message: &Message, refusal: Refusal) -> RetainOutcome {
        RetainOutcome { refused: Some(refusal), ..self.remove(key, message.topic(), None) }
    }

    /// Removes a topic's message, if it is older than this call and, where a revision is given, still that one.
    pub(crate) fn remove(&self, key: &HashKey, topic: &str, only: Option<u64>) -> RetainOutcome {
        let hash = key.text(topic);
        let (_, lock) = self.stripe(hash);
        let revision = {
            let stripe = read(lock);
            let revision = self.next_revision();
            if stripe.find(hash, topic).is_none() {
                return RetainOutcome::nothing_gone(revision);
            }
            revision
        };
        let mut tree = write(&self.tree);
        let mut stripe = write(lock);
        let lasting = stripe.take(hash, topic, only, revision).map(|kept| {
            tree.remove(key, kept.node);
            self.count.fetch_sub(1, Ordering::Relaxed);
            self.bytes.fetch_sub(kept.message.byte_len() as u64, Ordering::Relaxed);
            self.count_expiring(&kept.message, false);
            kept.lasting
        });
        let (replaced, lasting) = (lasting.is_some(), lasting.unwrap_or(false));
        RetainOutcome { revision, replaced, lasting, refused: None }
    }

    fn count_expiring(&self, message: &Message, comes: bool) {
        if message.view().expires_at.is_some() {
            if comes {
                self.expiring.fetch_add(1, Ordering::Relaxed);
            } else {
                self.expiring.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    pub(crate) fn get(&self, key: &HashKey, topic: &str, now: Instant) -> Option<(Message, u64)> {
        let hash = key.text(topic);
        let stripe = read(self.stripe(hash).1);
        stripe.live(stripe.find(hash, topic)?, now)
    }

    /// The message with this number in the tree, unless it has expired.
    fn get_by_id(&self, id: u32, now: Instant) -> Option<(Message, u64)> {
        let stripe = read(&self.stripes[id as usize % STRIPES].0);
        stripe.live(id >> STRIPE_BITS, now)
    }

    /// Removes expired messages, looking at `budget` or at all messages, whichever is less. `gone` is told topic and revision
    /// of each removal of one that was to outlast the process.
    pub(crate) fn sweep(&self, key: &HashKey, now: Instant, budget: usize, mut gone: impl FnMut(&str, u64)) -> usize {
        if self.expiring.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let swept = self.swept.load(Ordering::Relaxed);
        let (mut number, mut place) = ((swept >> 32) as usize % STRIPES, swept as u32);
        let mut expired = Vec::new();
        let (mut looks, mut ends) = (0, 0);
        while looks < budget && ends <= STRIPES {
            let stripe = read(&self.stripes[number].0);
            while looks < budget {
                let Some(next) = stripe.kept.next_taken(place) else { break };
                looks += 1;
                place = next + 1;
                if let Some(kept) = stripe.kept.get(next).and_then(Option::as_ref)
                    && has_expired(&kept.message, now)
                {
                    expired.push((kept.message.clone(), kept.revision));
                }
            }
            if looks < budget {
                (number, place, ends) = ((number + 1) % STRIPES, 0, ends + 1);
            }
        }
        self.swept.store(((number as u64) << 32) | u64::from(place), Ordering::Relaxed);
        let mut count = 0;
        for (message, revision) in expired {
            let outcome = self.remove(key, message.topic(), Some(revision));
            if outcome.replaced {
                count += 1;
            }
            if outcome.lasting {
                gone(message.topic(), outcome.revision);
            }
        }
        count
    }
}

impl Stripe {
    fn find(&self, hash: u64, topic: &str) -> Option<u32> {
        let tag = hash as u32;
        let is = |entry: &Tagged| {
            let kept = self.kept.get(entry.id).and_then(Option::as_ref);
            entry.tag == tag && kept.is_some_and(|kept| kept.message.topic() == topic)
        };
        self.table.find(Tagged::filed_under(hash), is).map(|entry| entry.id)
    }

    fn live(&self, place: u32, now: Instant) -> Option<(Message, u64)> {
        let kept = self.kept.get(place)?.as_ref()?;
        (!has_expired(&kept.message, now)).then(|| (kept.message.clone(), kept.revision))
    }

    fn take(&mut self, hash: u64, topic: &str, only: Option<u64>, before: u64) -> Option<Kept> {
        let place = self.find(hash, topic)?;
        let found = self.kept.get(place)?.as_ref()?.revision;
        if found > before || only.is_some_and(|only| only != found) {
            return None;
        }
        let is = |entry: &Tagged| entry.id == place;
        split_table::remove(&mut self.table, Tagged::filed_under(hash), is, Tagged::hash);
        self.kept.remove(place)?
    }
}

fn has_expired(message: &Message, now: Instant) -> bool {
    message.view().expires_at.is_some_and(|at| at <= now)
}

/// Adds to a counter that has a limit.
fn reserve(counter: &AtomicU64, add: u64, max: u64) -> bool {
    let fits = |old: u64| old.checked_add(add).filter(|new| *new <= max);
    counter.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
}
