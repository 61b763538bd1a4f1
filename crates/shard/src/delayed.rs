//! Messages that wait: `$delayed/SECONDS/TOPIC` is held, and published to `TOPIC` when the time has come.
//!
//! - A message waits at the shard of its publisher, in an ordered map by the Unix time at which it is due, then by when it came:
//!   what is due at one time leaves in its order. Count and bytes are bounded for the whole node, in two shared counters.
//! - Where something outlasts the process, it is a row of the store's table `delayed` under the same key, and its acknowledgement
//!   waits for that as one of a retained message does. A start deals the rows out to the shards, whatever shard they were at.
//! - Time is the wall clock's, because that goes on while nobody runs. A turn looks at the first key only.
//! - The row goes after the message has been published, with the unhurried batch: a crash in between publishes it again. At least
//!   once, as QoS 1 promises, rather than perhaps never.
//! - Its expiry is kept as an interval and counts from when it is published. Its publisher was asked about `TOPIC` when it came.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use breakwater_contract::Metric;
use breakwater_contract::store::{Change, Durability};
use breakwater_proto::{Instant, Message, MessageView, Publish, QoS, ReasonCode};

use crate::conn::NONE;
use crate::driver::Driver;
use crate::shard::{Shard, later};

/// What was published stays in the store for so many milliseconds.
const PUBLISHED_MS: u64 = 1000;
const PREFIX: &str = "$delayed/";
/// Longest time to wait, in seconds: what EMQX has. Greater numbers are a moment in Unix time.
const SECONDS_MAX: u64 = 4_294_967;
/// Published in one turn.
const PER_TURN: usize = 256;
/// Bytes of a place in the map and of a row in the store, beside the message.
const OVERHEAD: usize = 128;
/// Table of the store.
pub(crate) const TABLE: &str = "delayed";
/// First byte of a row: its form. Then the expiry interval (4, all ones for none), then the message.
const FORM: u8 = 1;

/// When a message is due, in milliseconds of Unix time, and its place among those of the same moment.
type Key = (u64, u64);

/// One message that waits.
#[derive(Debug)]
pub struct Delayed {
    key: Key,
    message: Message,
    expiry_s: Option<u32>,
    /// To its publisher. With `Memory` the store does not have it. None: by an earlier life.
    promised: Option<Durability>,
}

/// Those of one shard.
#[derive(Debug)]
pub(crate) struct Waiting {
    messages: BTreeMap<Key, Delayed>,
    /// When the first one is due; [`u64::MAX`] while there is none. What a turn looks at.
    pub(crate) due_unix_ms: u64,
    /// Given to the last one.
    number: u64,
    /// Keys of those that were published, and when: the store has them still.
    published: VecDeque<(Instant, Box<[u8]>)>,
}

/// How many there are at all shards, and their bytes.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    count: AtomicU64,
    bytes: AtomicU64,
}

/// What a topic asks for that begins as one of these does: when it is due, and the topic. None: it makes no sense.
fn asked(topic: &str, unix_ms: u64) -> Option<(u64, &str)> {
    let (number, topic) = topic.strip_prefix(PREFIX)?.split_once('/')?;
    let digits = (1..=11).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || topic.is_empty() || is_delayed(topic) {
        return None;
    }
    let number: u64 = number.parse().ok()?;
    let due = if number <= SECONDS_MAX { unix_ms + number * 1000 } else { number * 1000 };
    (unix_ms..=unix_ms + SECONDS_MAX * 1000).contains(&due).then_some((due, topic))
}

/// Whether a name, in the client's words, is that of a message to be held.
pub(crate) fn is_delayed(name: &str) -> bool {
    name.starts_with(PREFIX)
}

impl Totals {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn reserve(&self, bytes: u64, count_max: u64, bytes_max: u64) -> bool {
        let add = |counter: &AtomicU64, more: u64, most: u64| {
            let fits = |old: u64| old.checked_add(more).filter(|new| *new <= most);
            counter.try_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
        };
        if !add(&self.count, 1, count_max) {
            return false;
        }
        if !add(&self.bytes, bytes, bytes_max) {
            self.count.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// What was held already counts whatever the bounds are.
    fn add(&self, bytes: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn release(&self, bytes: u64) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Delayed {
    fn bytes(&self) -> usize {
        self.message.byte_len() + OVERHEAD
    }

    fn row_key(&self) -> Box<[u8]> {
        [self.key.0.to_be_bytes(), self.key.1.to_be_bytes()].concat().into()
    }

    fn row(&self) -> Box<[u8]> {
        let mut row = vec![FORM];
        row.extend(self.expiry_s.unwrap_or(u32::MAX).to_be_bytes());
        row.extend(self.message.as_bytes());
        row.into()
    }

    /// From a row of the store. None: it is not one of ours, or not as it was written.
    pub(crate) fn from_row(key: &[u8], row: &[u8], building: &mut Vec<u8>) -> Option<Self> {
        let (due, place) = key.split_first_chunk()?;
        let key = (u64::from_be_bytes(*due), u64::from_be_bytes(place.try_into().ok()?));
        let (expiry_s, message) = row.strip_prefix(&[FORM])?.split_first_chunk()?;
        let expiry_s = Some(u32::from_be_bytes(*expiry_s)).filter(|seconds| *seconds != u32::MAX);
        // Its publisher's name among the sessions is one of another life.
        let view = Message::from_bytes(message)?;
        let message = Message::new(&MessageView { origin: u64::MAX, expires_at: None, ..view.view() }, building);
        Some(Self { key, message, expiry_s, promised: None })
    }
}

impl Default for Waiting {
    fn default() -> Self {
        Self { messages: BTreeMap::new(), due_unix_ms: u64::MAX, number: 0, published: VecDeque::new() }
    }
}

impl Waiting {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    fn insert(&mut self, delayed: Delayed) {
        self.due_unix_ms = self.due_unix_ms.min(delayed.key.0);
        self.messages.insert(delayed.key, delayed);
    }

    /// The first one, if it is due.
    fn take_due(&mut self, unix_ms: u64) -> Option<Delayed> {
        let first = self.messages.first_entry().filter(|first| first.key().0 <= unix_ms);
        let taken = first.map(|first| first.remove());
        self.due_unix_ms = self.messages.first_key_value().map_or(u64::MAX, |((due, _), _)| *due);
        taken
    }

    /// A place behind all that came before. The time is in it, so that no start gives one that another start has given.
    fn place(&mut self, due: u64, unix_ms: u64, shard: u16) -> Key {
        const BITS: u32 = 22;
        let first = unix_ms << BITS | u64::from(shard) << 14;
        self.number = if self.number >= first && self.number < first + (1 << 14) { self.number + 1 } else { first };
        while self.messages.contains_key(&(due, self.number)) {
            self.number += 1;
        }
        (due, self.number)
    }
}

impl<T: Send> Shard<T> {
    /// What a client asks for with a topic below `$delayed/`, in its own words: when, and the topic then. `None`: it is an
    /// ordinary topic.
    pub(crate) fn delayed<'a>(&self, name: &'a str) -> Option<Result<(u64, &'a str), ReasonCode>> {
        if !is_delayed(name) || self.options.delayed_max == 0 {
            return None;
        }
        Some(asked(name, self.unix_ms).ok_or(ReasonCode::TopicNameInvalid))
    }

    /// Holds a message until it is due; answers what the acknowledgement says, and whether it waits for the store.
    pub(crate) fn hold_back(
        &mut self,
        (session, profile): (u32, u16),
        topic: &str,
        publish: &Publish<'_>,
        due: u64,
    ) -> (ReasonCode, bool) {
        let view = MessageView {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            expires_at: None,
            origin: self.subscriber_of(session).as_u64(),
        };
        let message = Message::new(&view, &mut self.building);
        let expiry_s = self.bounded_expiry(publish.expiry, profile);
        let promised = self.profiles.durability(profile);
        let mut delayed = Delayed { key: (due, 0), message, expiry_s, promised: Some(promised) };
        let (most, bytes_max) = (self.options.delayed_max, self.options.delayed_bytes_max);
        if !self.pages.delayed.reserve(delayed.bytes() as u64, most, bytes_max) {
            self.counters.bump(Metric::DelayedRefused);
            return (ReasonCode::QuotaExceeded, false);
        }
        self.counters.bump(Metric::DelayedTaken);
        delayed.key = self.waiting.place(due, self.unix_ms, self.id);
        let durable = self.durable.is_on() && promised > Durability::Memory;
        if durable {
            let (key, value) = (delayed.row_key(), Some(delayed.row()));
            let change = Change::Value { table: TABLE.into(), key, value };
            self.record(change, delayed.bytes(), publish.qos != QoS::AtMostOnce, promised);
        }
        self.waiting.insert(delayed);
        (ReasonCode::Success, durable)
    }

    /// Takes in what a start has found.
    pub(crate) fn take_delayed(&mut self, delayed: Delayed) {
        self.pages.delayed.add(delayed.bytes() as u64);
        self.waiting.insert(delayed);
    }

    /// Publishes what is due, some per turn. Answers whether any of it is left.
    pub(crate) fn publish_delayed<D: Driver<Transport = T>>(&mut self, driver: &mut D) -> bool {
        for _ in 0..PER_TURN {
            let Some(delayed) = self.waiting.take_due(self.unix_ms) else { return false };
            self.pages.delayed.release(delayed.bytes() as u64);
            let mut view = delayed.message.view();
            view.expires_at = delayed.expiry_s.map(|seconds| later(self.now, u64::from(seconds) * 1000));
            let promised = delayed.promised.unwrap_or(self.durable.durability);
            self.publish_own(driver, &view, NONE, promised);
            if self.durable.is_on() && promised > Durability::Memory {
                self.waiting.published.push_back((self.now, delayed.row_key()));
            }
        }
        self.waiting.due_unix_ms <= self.unix_ms
    }

    /// Takes what was published out of the store; once a second. Not at once: other shards may not have stored yet what it left
    /// with them. `all`: the broker stops.
    pub(crate) fn forget_published(&mut self, all: bool) {
        let before = Instant(self.now.0.saturating_sub(PUBLISHED_MS));
        while let Some((_, key)) = self.waiting.published.pop_front_if(|(at, _)| all || *at <= before) {
            self.record(
                Change::Value { table: TABLE.into(), key, value: None },
                OVERHEAD,
                false,
                self.durable.durability,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use breakwater_proto::ForwardProperties;

    use super::*;

    #[test]
    fn a_topic_names_a_delay_or_a_moment() {
        let now = 1_700_000_000_000;
        for (topic, wanted) in [
            ("$delayed/0/t", Some((now, "t"))),
            ("$delayed/5/t/u", Some((now + 5000, "t/u"))),
            ("$delayed/05//", Some((now + 5000, "/"))),
            ("$delayed/4294967/t", Some((now + 4_294_967_000, "t"))),
            ("$delayed/1700000007/t", Some((now + 7000, "t"))),
            ("$delayed/1699999999/t", None),
            ("$delayed/4294968/t", None),
            ("$delayed/1704294968/t", None),
            ("$delayed/99999999999999999999/t", None),
            ("$delayed/-1/t", None),
            ("$delayed/+1/t", None),
            ("$delayed/1.5/t", None),
            ("$delayed//t", None),
            ("$delayed/5", None),
            ("$delayed/5/", None),
            ("$delayed/5/$delayed/5/t", None),
            ("$delayed/", None),
        ] {
            assert_eq!(asked(topic, now), wanted, "{topic}");
        }
    }

    #[test]
    fn a_row_comes_back_as_it_was_and_others_do_not() {
        let mut building = Vec::new();
        let view = MessageView {
            topic: "t",
            payload: b"m",
            qos: QoS::ExactlyOnce,
            retain: true,
            properties: ForwardProperties::EMPTY,
            expires_at: None,
            origin: 1,
        };
        for expiry_s in [None, Some(0), Some(7)] {
            let message = Message::new(&view, &mut building);
            let delayed = Delayed { key: (8, 9), message, expiry_s, promised: None };
            let back = Delayed::from_row(&delayed.row_key(), &delayed.row(), &mut building).expect("a row");
            assert_eq!((back.key, back.expiry_s), (delayed.key, expiry_s));
            let seen = back.message.view();
            assert_eq!((seen.topic, seen.payload, seen.qos, seen.retain), ("t", &b"m"[..], QoS::ExactlyOnce, true));
            for length in 0..delayed.row().len() {
                let cut = Delayed::from_row(&delayed.row_key(), &delayed.row()[..length], &mut building);
                assert!(cut.is_none() || length > 5, "{length}");
            }
            assert!(Delayed::from_row(&[0; 15], &delayed.row(), &mut building).is_none());
            assert!(Delayed::from_row(&[0; 17], &delayed.row(), &mut building).is_none());
        }
    }

    #[test]
    fn places_are_in_the_order_of_arrival() {
        let mut waiting = Waiting::default();
        let keys: Vec<Key> = [(9, 1), (9, 1), (9, 2), (9, 2), (9, 5)]
            .into_iter()
            .map(|(due, unix_ms)| waiting.place(due, unix_ms, 3))
            .collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
        assert_ne!(Waiting::default().place(9, 1, 4), keys[0], "another shard");
    }

    #[test]
    fn totals_have_bounds() {
        let totals = Totals::default();
        assert!(totals.reserve(10, 2, 15) && !totals.reserve(10, 2, 15) && totals.reserve(5, 2, 15));
        assert!(!totals.reserve(0, 2, 15));
        totals.release(10);
        assert!(totals.reserve(10, 2, 15));
        assert_eq!(totals.count(), 2);
    }
}
