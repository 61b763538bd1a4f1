//! `$replay/SECONDS/FILTER`: what was published to the topics of a filter in the last so many seconds, and then what comes.
//!
//! - A rule of the operator's says what is kept. In the router it is a shared group that no client can name, with one member that is
//!   never there: so each shard keeps for a rule what is published at it, as it does for a [`pool`](crate::pool), in a queue of
//!   the store of its own. Each of these has one writer, and is in the order in which that shard took the messages.
//! - Who subscribes **follows** the queues of its rule ([`follow`]): a bounded part of each is read, sent as far as the client has room,
//!   and thrown away. Not before nothing is left is it subscribed in the router.
//! - Where the two meet is [`seam`]: each shard says which of its messages are in the queue and not sent live.
//! - Once a second the front of each queue is looked at, and goes if it is too old or too much ([`trim`]).

pub(crate) mod follow;
pub(crate) mod seam;
pub(crate) mod seek;
pub(crate) mod trim;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use breakwater_contract::Metric;
use breakwater_contract::store::{Change, Durability, SessionNumber, SessionRow, StoredSession, Terms, Wanted};
use breakwater_proto::{MessageView, QoS, ReasonCode};
use breakwater_router::{Grant, Router, Subscriber};

use crate::conn::NONE;
use crate::driver::ShardId;
use crate::durable::NOTE_BYTES;
use crate::pool::Pool;
use crate::shard::Shard;

const PREFIX: &str = "$replay/";
/// Greater numbers are a moment in Unix time, as in `$delayed/`.
const SECONDS_MAX: u64 = 4_294_967;
/// Slots that no session has, for rules.
const FIRST_SLOT: u32 = 0xFFFF_0000;
const LAST_SLOT: u32 = 0xFFFF_FF00;
/// No client can give a group this name.
const GROUP: &str = "+";
/// What the row of a queue says, so that a start knows it.
const ATTRIBUTES: &[u8] = b"replay";

/// What is kept, for how long and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayRule {
    /// Messages to the topics that this filter matches.
    pub filter: Box<str>,
    /// In seconds.
    pub max_age_s: u32,
    /// Messages, all told.
    pub max_messages: u64,
    /// Bytes of them, all told.
    pub max_bytes: u64,
}

/// What all shards know of rules and of what is kept for them.
#[derive(Debug, Default)]
pub(crate) struct Replays {
    rules: RwLock<Vec<Arc<Rule>>>,
    /// Queues that a start has found, until it is known which rules there are.
    found: Mutex<Vec<StoredSession>>,
    /// Those that no rule is for; each goes at its shard.
    gone: Mutex<Vec<Arc<Queue>>>,
    next: AtomicU32,
}

/// One rule, and the queues that have its messages: one of each shard, and those of earlier lives.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) filter: Box<str>,
    slot: u32,
    max_age_s: AtomicU32,
    max_messages: AtomicU64,
    max_bytes: AtomicU64,
    queues: RwLock<Vec<Arc<Queue>>>,
}

/// Messages that one shard has kept for a rule.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) pool: Arc<Pool>,
    /// Who writes it and trims it.
    pub(crate) shard: ShardId,
    /// It was found at a start; nothing is added.
    pub(crate) is_old: bool,
    /// As of the last look.
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    /// When its first message came; [`u64::MAX`] if that is not known.
    pub(crate) oldest_ms: AtomicU64,
}

/// What one shard has to do with them.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// Queues that it writes, by the slot of their rules.
    queues: BTreeMap<u32, Arc<Queue>>,
    trimmer: trim::Trimmer,
    pub(crate) followers: follow::Followers,
}

/// What a filter asks for that begins as these do: since when, in milliseconds of Unix time, and the filter. None: it is another one.
pub(crate) fn asked(filter: &str, unix_ms: u64) -> Option<Result<(u64, &str), ReasonCode>> {
    let (number, filter) = match filter.strip_prefix(PREFIX)?.split_once('/') {
        Some((number, filter)) if !filter.is_empty() && (1..=11).contains(&number.len()) => (number, filter),
        _ => return Some(Err(ReasonCode::TopicFilterInvalid)),
    };
    let digits = number.bytes().all(|byte| byte.is_ascii_digit());
    let Some(number) = number.parse::<u64>().ok().filter(|_| digits) else {
        return Some(Err(ReasonCode::TopicFilterInvalid));
    };
    // What is published from now on is wanted in any case.
    let since = if number <= SECONDS_MAX { unix_ms.saturating_sub(number * 1000) } else { unix_ms.min(number * 1000) };
    Some(Ok((since, filter)))
}

/// Whether a filter, in the client's words, asks for what was.
pub(crate) fn is_replay(filter: &str) -> bool {
    filter.starts_with(PREFIX)
}

/// What stands in the store for a filter that is kept.
pub(crate) fn attributes(filter: &str) -> Option<Box<[u8]>> {
    is_replay(filter).then(|| ATTRIBUTES.into())
}

/// Whether a row of the store is that of a queue of a rule.
pub(crate) fn is_queue(row: &SessionRow) -> bool {
    row.client_id.is_empty() && *row.attributes == *ATTRIBUTES
}

/// Whether a member of a group is a rule.
pub(crate) fn is_rule(who: Subscriber) -> bool {
    (FIRST_SLOT..=LAST_SLOT).contains(&who.slot)
}

/// Whether every topic that `filter` matches is matched by `rule`.
fn covers(rule: &str, filter: &str) -> bool {
    if filter.starts_with('$') && rule.starts_with(['+', '#']) {
        return false;
    }
    // All topics have a first level.
    let rule = if rule == "+/#" { "#" } else { rule };
    let mut names = filter.split('/');
    for level in rule.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            None | Some("#") => return false,
            Some(name) if level != "+" && name != level => return false,
            Some(_) => {}
        }
    }
    names.next().is_none()
}

impl Replays {
    /// A start has found a queue.
    pub(crate) fn find(&self, session: StoredSession) {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).push(session);
    }

    /// These are the rules from here on. What was kept for others goes.
    pub(crate) fn set(&self, wanted: &[ReplayRule], router: &Router, shards: u16) {
        let mut rules = self.rules.write().unwrap_or_else(PoisonError::into_inner);
        let mut gone = Vec::new();
        rules.retain(|rule| {
            let stays = wanted.iter().any(|wanted| wanted.filter == rule.filter);
            if !stays {
                router.unsubscribe_shared(GROUP, &rule.filter, rule.who());
                gone.append(&mut rule.queues.write().unwrap_or_else(PoisonError::into_inner));
            }
            stays
        });
        let mut sorted = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let rule = match rules.iter().find(|rule| rule.filter == wanted.filter) {
                Some(rule) => Arc::clone(rule),
                None => self.add(wanted, &rules, router),
            };
            rule.max_age_s.store(wanted.max_age_s, Ordering::Relaxed);
            rule.max_messages.store(wanted.max_messages, Ordering::Relaxed);
            rule.max_bytes.store(wanted.max_bytes, Ordering::Relaxed);
            sorted.push(rule);
        }
        *rules = sorted;
        let found = std::mem::take(&mut *self.found.lock().unwrap_or_else(PoisonError::into_inner));
        for (shard, session) in (0..shards.max(1)).cycle().zip(found) {
            let Some((text, ..)) = session.subscriptions.first() else { continue };
            let queue = Arc::new(Queue::new(session.row.number, text, shard, true));
            queue.messages.store(session.tally.messages, Ordering::Relaxed);
            queue.bytes.store(session.tally.bytes, Ordering::Relaxed);
            match rules.iter().find(|rule| text.strip_prefix(PREFIX) == Some(&rule.filter)) {
                Some(rule) => rule.add(queue),
                None => gone.push(queue),
            }
        }
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).append(&mut gone);
    }

    fn add(&self, wanted: &ReplayRule, rules: &[Arc<Rule>], router: &Router) -> Arc<Rule> {
        let next = || FIRST_SLOT + self.next.fetch_add(1, Ordering::Relaxed) % (LAST_SLOT - FIRST_SLOT);
        let mut slot = next();
        while rules.iter().any(|rule| rule.slot == slot) {
            slot = next();
        }
        let rule = Rule {
            filter: wanted.filter.clone(),
            slot,
            max_age_s: AtomicU32::default(),
            max_messages: AtomicU64::default(),
            max_bytes: AtomicU64::default(),
            queues: RwLock::default(),
        };
        let (qos, no_local, retain_as_published) = (QoS::ExactlyOnce, false, true);
        let grant = Grant { qos, no_local, retain_as_published, durable: true, subscription_id: 0 };
        let subscribed = router.subscribe_shared(GROUP, &rule.filter, rule.who(), grant);
        router.set_online(subscribed.id, rule.who(), false);
        Arc::new(rule)
    }

    /// The first rule that keeps all that a filter matches.
    pub(crate) fn covering(&self, filter: &str) -> Option<Arc<Rule>> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.iter().find(|rule| covers(&rule.filter, filter)).cloned()
    }

    /// One queue more, of a rule that is there. A rule that is taken away meanwhile takes it along.
    fn new_queue(&self, slot: u32, number: SessionNumber, shard: ShardId) -> Option<Arc<Queue>> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        let rule = rules.iter().find(|rule| rule.slot == slot)?;
        let queue = Arc::new(Queue::new(number, &format!("{PREFIX}{}", rule.filter), shard, false));
        rule.add(Arc::clone(&queue));
        Some(queue)
    }

    fn all(&self) -> Vec<Arc<Rule>> {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What goes at a shard.
    fn take_gone(&self, shard: ShardId) -> Vec<Arc<Queue>> {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        gone.extract_if(.., |queue| queue.shard == shard).collect()
    }

    /// Rules, each of which the router counts as a subscription of a group.
    pub(crate) fn len(&self) -> usize {
        self.rules.read().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Rule {
    fn who(&self) -> Subscriber {
        Subscriber { shard: 0, slot: self.slot, generation: 0 }
    }

    fn add(&self, queue: Arc<Queue>) {
        self.queues.write().unwrap_or_else(PoisonError::into_inner).push(queue);
    }

    fn remove(&self, number: SessionNumber) {
        let mut queues = self.queues.write().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.pool.number != number);
    }

    pub(crate) fn queues(&self) -> Vec<Arc<Queue>> {
        self.queues.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Messages that came before this are not for anybody any more.
    pub(crate) fn oldest_ms(&self, unix_ms: u64) -> u64 {
        unix_ms.saturating_sub(u64::from(self.max_age_s.load(Ordering::Relaxed)) * 1000)
    }
}

impl Queue {
    fn new(number: SessionNumber, text: &str, shard: ShardId, is_old: bool) -> Self {
        Self {
            pool: Arc::new(Pool::new(number, text, 0)),
            shard,
            is_old,
            messages: AtomicU64::default(),
            bytes: AtomicU64::default(),
            oldest_ms: AtomicU64::new(u64::MAX),
        }
    }
}

impl<T: Send> Shard<T> {
    /// A message is kept for a rule, in the queue that this shard has for it.
    pub(crate) fn replay_pool(
        &mut self,
        view: &MessageView<'_>,
        who: Subscriber,
    ) -> Option<(Arc<Pool>, Wanted, Durability)> {
        let pool = match self.replay.queues.get(&who.slot) {
            Some(queue) => Arc::clone(&queue.pool),
            None => {
                let number = self.durable.store()?.new_session();
                let queue = self.returning.replays.new_queue(who.slot, number, self.id)?;
                let pool = Arc::clone(&queue.pool);
                self.replay.queues.insert(who.slot, queue);
                pool
            }
        };
        self.counters.bump(Metric::ReplayTaken);
        let wanted = Wanted { session: pool.number, terms: Terms { qos: view.qos, ..Terms::default() } };
        // The rule is the operator's, PUBACK the publisher's.
        let publisher = Subscriber::from_u64(view.origin);
        let here = publisher.shard == self.id && self.sessions.get_of(publisher.slot, publisher.generation).is_some();
        let promised = here.then(|| self.zone_durability(publisher.slot));
        Some((pool, wanted, self.durable.durability.max(promised.unwrap_or(Durability::Os))))
    }

    /// Queues of rules that are no more go.
    fn forget_gone(&mut self) {
        for queue in self.returning.replays.take_gone(self.id) {
            let number = queue.pool.number;
            self.replay.queues.retain(|_, own| own.pool.number != number);
            self.durable.pools_written.remove(&number);
            self.record(Change::RemoveSession(number), NOTE_BYTES, false, self.durable.durability);
        }
    }
}

// Behind them lie those that tokens of followers and of the trimmer have.
const _: () = assert!(LAST_SLOT < NONE - 2);

#[cfg(test)]
mod tests {
    use breakwater_proto::{FilterKind, matches, parse_filter};
    use breakwater_router::{Matches, RouterOptions};

    use super::*;

    #[test]
    fn a_filter_says_since_when() {
        let now = 1_700_000_000_000;
        for (filter, wanted) in [
            ("t", None),
            ("$replays/5/t", None),
            ("$replay/0/t", Some(Ok((now, "t")))),
            ("$replay/60/a/+/#", Some(Ok((now - 60_000, "a/+/#")))),
            ("$replay/4294967/t", Some(Ok((now - 4_294_967_000, "t")))),
            ("$replay/1699999999/t", Some(Ok((now - 1000, "t")))),
            ("$replay/99999999999/t", Some(Ok((now, "t")))),
            ("$replay/5", Some(Err(ReasonCode::TopicFilterInvalid))),
            ("$replay/5/", Some(Err(ReasonCode::TopicFilterInvalid))),
            ("$replay//t", Some(Err(ReasonCode::TopicFilterInvalid))),
            ("$replay/+/t", Some(Err(ReasonCode::TopicFilterInvalid))),
            ("$replay/+5/t", Some(Err(ReasonCode::TopicFilterInvalid))),
            ("$replay/-5/t", Some(Err(ReasonCode::TopicFilterInvalid))),
            ("$replay/123456789012/t", Some(Err(ReasonCode::TopicFilterInvalid))),
            ("$replay/", Some(Err(ReasonCode::TopicFilterInvalid))),
        ] {
            assert_eq!(asked(filter, now), wanted, "{filter}");
        }
    }

    #[test]
    fn a_rule_covers_a_filter_if_it_matches_all_that_this_matches() {
        let levels = ["a", "b", "+", "#", "$x", ""];
        let mut filters = Vec::new();
        for one in levels {
            filters.push(one.to_owned());
            for two in levels {
                filters.push(format!("{one}/{two}"));
                filters.extend(levels.iter().map(|three| format!("{one}/{two}/{three}")));
            }
        }
        filters.retain(|filter| matches!(parse_filter(filter), Ok(FilterKind::Plain(_))));
        // Names that no filter has, too, so that a level which happens to match is not taken for a wildcard.
        let names = ["a", "b", "$x", "", "z"];
        let mut topics = Vec::new();
        for one in names {
            topics.push(one.to_owned());
            for two in names {
                topics.push(format!("{one}/{two}"));
                for three in names {
                    topics.push(format!("{one}/{two}/{three}"));
                    topics.extend(names.iter().map(|four| format!("{one}/{two}/{three}/{four}")));
                }
            }
        }
        for rule in &filters {
            for filter in &filters {
                let all = topics.iter().filter(|topic| matches(filter, topic)).all(|topic| matches(rule, topic));
                assert_eq!(covers(rule, filter), all, "{rule} {filter}");
            }
        }
    }

    #[test]
    fn rules_come_and_go_with_what_was_kept_for_them() {
        let router = Router::new(RouterOptions::default());
        let replays = Replays::default();
        let rule =
            |filter: &str, max_age_s| ReplayRule { filter: filter.into(), max_age_s, max_messages: 1, max_bytes: 1 };
        let found = |number, filter: &str| StoredSession {
            row: SessionRow { number: SessionNumber(number), ..SessionRow::default() },
            subscriptions: vec![(format!("$replay/{filter}").into(), 0, 0)],
            ..StoredSession::default()
        };
        replays.find(found(1, "a/#"));
        replays.find(found(2, "gone"));
        replays.set(&[rule("a/#", 5), rule("b", 5)], &router, 2);
        let groups = |topic: &str| {
            let mut matches = Matches::new();
            router.matches(0, topic, &mut matches);
            matches.groups.len()
        };
        assert_eq!((groups("a/1"), groups("b"), groups("c")), (1, 1, 0));
        let kept = replays.covering("a/+").expect("a rule");
        assert_eq!((kept.queues().len(), kept.oldest_ms(7000)), (1, 2000));
        assert!(replays.covering("#").is_none());
        assert_eq!((replays.take_gone(0).len(), replays.take_gone(1).len(), replays.take_gone(1).len()), (0, 1, 0));
        replays.set(&[rule("b", 5), rule("a/#", 6)], &router, 2);
        assert!(Arc::ptr_eq(&kept, &replays.covering("a/1").expect("the same rule")));
        assert_eq!(kept.oldest_ms(7000), 1000);
        replays.set(&[], &router, 2);
        assert_eq!((groups("a/1"), groups("b"), replays.take_gone(0).len()), (0, 0, 1));
    }
}
