//! Filters without wildcards: a flat table in stripes, one lock each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{RwLock, RwLockReadGuard};

use hashbrown::HashTable;

use crate::keyed_hash::HashKey;
use crate::locks::{Padded, read, write};
use crate::members::Members;
use crate::slab::Slab;
use crate::split_table::{self, Tagged};
use crate::subscriber::{Subscriber, Target};
use crate::text::Text;

/// All filters that are plain topics. Nine subscriptions of ten are of this kind, and cost one probe.
pub(crate) struct ExactFilters {
    stripes: Box<[Padded<RwLock<Stripe>>]>,
    /// Counts the changes of each stripe, so that an answer can be remembered without a lock. Apart from the locks:
    /// readers look here for every message, and writers come rarely.
    versions: Box<[AtomicU64]>,
}

/// One of the parts; at 1,000,000 filters it holds 4,000, so that growing takes some ten microseconds.
#[derive(Default)]
pub(crate) struct Stripe {
    table: HashTable<Tagged>,
    filters: Slab<ExactFilter>,
}

/// 64 bytes with texts of up to 38 inline, which most topics are.
#[derive(Default)]
struct ExactFilter {
    text: Text<38>,
    members: Members,
}

const STRIPE_BITS: u32 = 8;
const STRIPES: usize = 1 << STRIPE_BITS;
/// Two bits of a filter id say its kind; what stripe and kind leave is the place in the stripe.
const PLACE_BITS: u32 = 30 - STRIPE_BITS;

/// The answer to [`ExactFilters::insert`].
pub(crate) struct Inserted {
    pub(crate) id: u32,
    pub(crate) new_filter: bool,
    pub(crate) new_member: bool,
}

/// The answer to [`ExactFilters::remove`].
pub(crate) struct Removed {
    pub(crate) id: u32,
    pub(crate) filter_gone: bool,
}

impl ExactFilters {
    pub(crate) fn new() -> Self {
        Self {
            stripes: (0..STRIPES).map(|_| Padded(RwLock::default())).collect(),
            versions: (0..STRIPES).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The bits above those that [`Tagged`] keeps.
    #[inline]
    fn stripe(hash: u64) -> usize {
        (hash >> 32) as usize % STRIPES
    }

    #[inline]
    pub(crate) fn version(&self, hash: u64) -> u64 {
        self.versions[Self::stripe(hash)].load(Ordering::Acquire)
    }

    fn changed(&self, stripe: usize) {
        self.versions[stripe].fetch_add(1, Ordering::Release);
    }

    pub(crate) fn read(&self, hash: u64) -> RwLockReadGuard<'_, Stripe> {
        read(&self.stripes[Self::stripe(hash)].0)
    }

    pub(crate) fn insert(&self, key: &HashKey, hash: u64, filter: &str, target: Target) -> Inserted {
        let number = Self::stripe(hash);
        let mut guard = write(&self.stripes[number].0);
        let stripe = &mut *guard;
        let found = stripe.find(hash, filter);
        let place = found.unwrap_or_else(|| {
            let place = stripe.filters.insert(ExactFilter { text: Text::new(filter), members: Members::None });
            assert!(place >> PLACE_BITS == 0, "a stripe holds at most 2^22 filters");
            stripe.table.insert_unique(Tagged::filed_under(hash), Tagged::new(hash, place), Tagged::hash);
            place
        });
        let entry = stripe.filters.get_mut(place).expect("found in the table or just inserted");
        let new_member = entry.members.insert(key, target);
        self.changed(number);
        Inserted { id: (place << STRIPE_BITS) | number as u32, new_filter: found.is_none(), new_member }
    }

    pub(crate) fn remove_by_text(&self, key: &HashKey, hash: u64, filter: &str, who: Subscriber) -> Option<Removed> {
        let number = Self::stripe(hash);
        let mut stripe = write(&self.stripes[number].0);
        let place = stripe.find(hash, filter)?;
        let filter_gone = stripe.remove(key, place, who)?;
        self.changed(number);
        Some(Removed { id: (place << STRIPE_BITS) | number as u32, filter_gone })
    }

    pub(crate) fn remove(&self, key: &HashKey, id: u32, who: Subscriber) -> Option<Removed> {
        let number = id as usize % STRIPES;
        let mut stripe = write(&self.stripes[number].0);
        let filter_gone = stripe.remove(key, id >> STRIPE_BITS, who)?;
        self.changed(number);
        Some(Removed { id, filter_gone })
    }

    pub(crate) fn get(&self, key: &HashKey, id: u32, who: Subscriber) -> Option<Target> {
        let stripe = read(&self.stripes[id as usize % STRIPES].0);
        stripe.filters.get(id >> STRIPE_BITS)?.members.get(key, who)
    }

    pub(crate) fn text(&self, id: u32, out: &mut String) -> bool {
        let stripe = read(&self.stripes[id as usize % STRIPES].0);
        let Some(entry) = stripe.filters.get(id >> STRIPE_BITS) else { return false };
        out.push_str(entry.text.as_str());
        true
    }
}

impl Stripe {
    #[inline]
    fn find(&self, hash: u64, text: &str) -> Option<u32> {
        let tag = hash as u32;
        let is =
            |entry: &Tagged| entry.tag == tag && self.filters.get(entry.id).is_some_and(|filter| filter.text.is(text));
        self.table.find(Tagged::filed_under(hash), is).map(|entry| entry.id)
    }

    #[inline]
    pub(crate) fn members(&self, hash: u64, topic: &str) -> Option<&Members> {
        let place = self.find(hash, topic)?;
        self.filters.get(place).map(|filter| &filter.members)
    }

    /// `None`: `who` was no member; else whether the filter went with its last one.
    fn remove(&mut self, key: &HashKey, place: u32, who: Subscriber) -> Option<bool> {
        let entry = self.filters.get_mut(place)?;
        if !entry.members.remove(key, who) {
            return None;
        }
        if !entry.members.is_empty() {
            return Some(false);
        }
        let filed = Tagged::filed_under(key.text(entry.text.as_str()));
        split_table::remove(&mut self.table, filed, |entry| entry.id == place, Tagged::hash);
        self.filters.remove(place);
        Some(true)
    }
}
