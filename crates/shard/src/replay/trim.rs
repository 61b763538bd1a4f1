//! What is kept for rules stays within their bounds: once a second each shard looks at its queues, one after the other.
//!
//! How much a queue holds the store says, and so does when its first message came; nothing is counted here that a failed batch could
//! make wrong. What goes leaves the queue by one change for all of it, unhurried, and its bytes with the segments of the log.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use breakwater_contract::Token;
use breakwater_contract::store::{Answer, Change, Position, Question, Submitted};

use super::seek::Seek;
use super::{Queue, Rule};
use crate::conn::NONE;
use crate::durable::NOTE_BYTES;
use crate::shard::Shard;

/// In a token: it is the trimmer that asked.
pub(crate) const TRIMMER: u32 = NONE - 2;
/// Names of messages that are read at once.
const ENTRIES: u64 = 4096;
/// Of a rule with several queues, so many messages of one are given up at least before the others are looked at.
const AT_LEAST: u64 = 16;

/// One question at a time is under way.
#[derive(Debug, Default)]
pub(crate) struct Trimmer {
    queues: VecDeque<(Arc<Rule>, Arc<Queue>)>,
    at: Option<(Arc<Rule>, Arc<Queue>)>,
    step: Step,
}

#[derive(Debug, Default)]
enum Step {
    #[default]
    Rest,
    /// How much is in it?
    Tally,
    /// When did the first one behind this come?
    Oldest(Position),
    /// What is too old?
    Age(Seek),
    /// So many are to go at most; behind the position.
    Excess { left: u64, after: Position },
}

impl<T: Send> Shard<T> {
    /// Once a second.
    pub(crate) fn trim_replays(&mut self) {
        if !self.durable.is_on() {
            return;
        }
        self.forget_gone();
        if !matches!(self.replay.trimmer.step, Step::Rest) {
            return;
        }
        let (mut messages, mut bytes) = (0, 0);
        for rule in self.returning.replays.all() {
            for queue in rule.queues().into_iter().filter(|queue| queue.shard == self.id) {
                messages += queue.messages.load(Ordering::Relaxed);
                bytes += queue.bytes.load(Ordering::Relaxed);
                self.replay.trimmer.queues.push_back((Arc::clone(&rule), queue));
            }
        }
        self.pages.count_replay(self.id, messages, bytes);
        self.trim_next();
    }

    fn trim_next(&mut self) {
        self.replay.trimmer.at = self.replay.trimmer.queues.pop_front();
        if self.replay.trimmer.at.is_some() {
            self.trim_ask(Step::Tally);
        } else {
            self.replay.trimmer.step = Step::Rest;
        }
    }

    fn trim_ask(&mut self, step: Step) {
        let (Some((_, queue)), Some(store)) = (&self.replay.trimmer.at, self.durable.store()) else { return };
        let session = queue.pool.number;
        let question = match &step {
            Step::Rest => return,
            Step::Tally => Question::Session(session),
            Step::Oldest(after) => Question::Queue { session, after: *after, messages_max: 1, bytes_max: 1 },
            Step::Age(seek) => seek.question(session),
            Step::Excess { left, after } => {
                Question::Entries { session, after: *after, entries_max: (*left).min(ENTRIES) as usize }
            }
        };
        self.replay.trimmer.step = step;
        let token = Token { shard: self.id, slot: TRIMMER, generation: 0, sequence: 0 };
        if store.ask(token, question) == Submitted::Refused {
            self.trim_rest();
        }
    }

    /// It begins again within a second.
    fn trim_rest(&mut self) {
        self.replay.trimmer = Trimmer::default();
    }

    pub(crate) fn on_trim_read(&mut self, answer: &Answer) {
        let Some((rule, queue)) = self.replay.trimmer.at.clone() else { return };
        match (std::mem::take(&mut self.replay.trimmer.step), answer) {
            (Step::Tally, Answer::Session(session)) => {
                let tally = session.as_ref().map(|session| session.tally).unwrap_or_default();
                queue.messages.store(tally.messages, Ordering::Relaxed);
                queue.bytes.store(tally.bytes, Ordering::Relaxed);
                if tally.messages > 0 {
                    return self.trim_ask(Step::Oldest(Position(0)));
                }
                queue.oldest_ms.store(u64::MAX, Ordering::Relaxed);
                if queue.is_old {
                    rule.remove(queue.pool.number);
                    self.record(Change::RemoveSession(queue.pool.number), NOTE_BYTES, false, self.durable.durability);
                }
                self.trim_next();
            }
            (Step::Oldest(after), Answer::Queue { messages, .. }) => {
                let Some(first) = messages.first() else { return self.trim_next() };
                queue.oldest_ms.store(first.unix_ms, Ordering::Relaxed);
                let limit_ms = rule.oldest_ms(self.unix_ms);
                if first.unix_ms < limit_ms {
                    return self.trim_ask(Step::Age(Seek::new(self.durable.last, limit_ms)));
                }
                match rule.excess_of(&queue) {
                    0 => self.trim_next(),
                    left => self.trim_ask(Step::Excess { left, after }),
                }
            }
            (Step::Age(mut seek), answer) => match seek.on_answer(answer) {
                Ok(None) => self.trim_ask(Step::Age(seek)),
                Ok(Some(last)) => {
                    if last > Position(0) {
                        let session = queue.pool.number;
                        self.record(
                            Change::ForgetThrough { session, last },
                            NOTE_BYTES,
                            false,
                            self.durable.durability,
                        );
                    }
                    self.trim_next();
                }
                Err(()) => self.trim_rest(),
            },
            (Step::Excess { left, .. }, Answer::Entries { entries, more }) => {
                let (mut left, mut last) = (left, None);
                for (position, bytes) in entries {
                    if left == 0 || rule.excess().0 == 0 {
                        break;
                    }
                    queue.leave(u64::from(*bytes));
                    last = Some(*position);
                    left -= 1;
                }
                let Some(after) = last else { return self.trim_next() };
                let session = queue.pool.number;
                self.record(Change::ForgetThrough { session, last: after }, NOTE_BYTES, false, self.durable.durability);
                match rule.excess().0 > 0 && *more {
                    true if left > 0 => self.trim_ask(Step::Excess { left, after }),
                    // The oldest may be another's by now.
                    true => self.trim_ask(Step::Oldest(after)),
                    false => self.trim_next(),
                }
            }
            _ => self.trim_rest(),
        }
    }
}

impl Rule {
    /// How many messages are too many, about, and in how many queues there are some.
    fn excess(&self) -> (u64, u64) {
        let (mut messages, mut bytes, mut queues) = (0_u64, 0_u64, 0);
        for queue in self.queues() {
            messages += queue.count();
            bytes += queue.bytes.load(Ordering::Relaxed);
            queues += u64::from(queue.count() > 0);
        }
        let over = messages.saturating_sub(self.max_messages.load(Ordering::Relaxed));
        let over_bytes = bytes.saturating_sub(self.max_bytes.load(Ordering::Relaxed));
        (over.max(over_bytes.div_ceil((bytes / messages.max(1)).max(1))), queues)
    }

    /// How many messages of a queue may go at once because there is too much: none, unless it has the oldest ones.
    fn excess_of(&self, queue: &Queue) -> u64 {
        let (excess, queues) = self.excess();
        let oldest_ms = |queue: &Queue| queue.oldest_ms.load(Ordering::Relaxed);
        let is_younger = |other: &Arc<Queue>| other.count() == 0 || oldest_ms(other) >= oldest_ms(queue);
        match excess {
            0 => 0,
            excess if queues < 2 => excess,
            excess if self.queues().iter().all(is_younger) => (excess / queues).max(AT_LEAST),
            _ => 0,
        }
    }
}

impl Queue {
    fn count(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    /// One message goes. Only its shard counts.
    fn leave(&self, bytes: u64) {
        let less = |counter: &AtomicU64, by: u64| {
            counter.store(counter.load(Ordering::Relaxed).saturating_sub(by), Ordering::Relaxed);
        };
        less(&self.messages, 1);
        less(&self.bytes, bytes);
    }
}
