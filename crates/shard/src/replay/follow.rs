//! Who follows what was kept: a part of each queue is read, sent as far as there is room, and thrown away.
//!
//! Few read at a time, in turns, and nothing is held between two turns but how far each has come: so it takes the same memory however
//! many follow, and however much was kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use breakwater_contract::store::{Answer, Position, Question, Queued, Submitted};
use breakwater_contract::{Metric, Token};
use breakwater_proto::{Instant, ReasonCode, matches};
use breakwater_router::{Grant, PackedGrant, Subscriber};
use breakwater_session::{Delivery, Shared};

use super::seam::Seam;
use super::seek::Seek;
use super::{Queue, Rule};
use crate::conn::NONE;
use crate::driver::Driver;
use crate::retained::Room;
use crate::shard::{SEAM, Shard, later};

/// In a token: it is a follower that asked.
pub(crate) const FOLLOWER: u32 = NONE - 1;
/// Of a shard, so many read at a time.
const READING: usize = 8;
/// What each of them reads at once, of all queues together.
const MESSAGES: usize = 128;
const BYTES: usize = 128 * 1024;
/// So many are between their queues and the live messages at a time: what waits for each takes memory. The others follow on.
const SEAMS: usize = 16;
/// Asked again after so many milliseconds where it is not its turn yet.
const TURN_MS: u64 = 20;
/// Looked at in one turn for one that has room.
const LOOKS: usize = 64;
/// Messages that a session may have queued and be sent more.
const QUEUED: usize = 32;
/// Asked again after so many milliseconds where the store could not read.
const PAUSE_MS: u64 = 1000;
/// Queues in one round, by the bits that a token has for them.
const LANE_BITS: u32 = 12;

/// Those of one shard.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    pub(super) by_id: BTreeMap<u32, Follower>,
    by_session: BTreeMap<u32, Vec<u32>>,
    waiting: VecDeque<u32>,
    reading: usize,
    seams: usize,
    next: u32,
    /// What is being delivered is theirs.
    pub(crate) passing: bool,
}

#[derive(Debug)]
pub(crate) struct Follower {
    pub(super) who: Subscriber,
    /// Whole, as the router has it.
    pub(super) filter: Box<str>,
    pub(super) grant: Grant,
    rule: Arc<Rule>,
    since_ms: u64,
    lanes: Vec<Lane>,
    /// SUBACK is written: the messages may follow.
    ready: bool,
    /// Answers to come, and of which round.
    open: u32,
    round: u32,
    not_before: Instant,
    /// The last part of it.
    pub(super) seam: Option<Seam>,
}

/// How far one queue was read.
#[derive(Debug)]
struct Lane {
    queue: Arc<Queue>,
    cursor: Position,
    /// It is not known yet where to begin.
    seek: Option<Seek>,
    found: Found,
}

#[derive(Debug, Default)]
enum Found {
    #[default]
    Nothing,
    /// The store could not say.
    Failed,
    Messages {
        messages: VecDeque<Queued>,
        more: bool,
    },
}

impl Followers {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(crate) fn of(&self, session: u32) -> &[u32] {
        self.by_session.get(&session).map_or(&[], |ids| ids)
    }

    fn add(&mut self, follower: Follower) {
        self.next = self.next.wrapping_add(1);
        self.by_session.entry(follower.who.slot).or_default().push(self.next);
        self.by_id.insert(self.next, follower);
        self.waiting.push_back(self.next);
    }

    pub(super) fn remove(&mut self, id: u32) -> Option<Follower> {
        let follower = self.by_id.remove(&id)?;
        self.reading -= usize::from(follower.open > 0);
        self.seams -= usize::from(follower.seam.is_some());
        // Who subscribes and unsubscribes all the time leaves nothing behind.
        if self.waiting.len() > 2 * self.by_id.len() + LOOKS {
            self.waiting.retain(|id| self.by_id.contains_key(id));
        }
        if let Some(ids) = self.by_session.get_mut(&follower.who.slot) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.by_session.remove(&follower.who.slot);
            }
        }
        Some(follower)
    }

    /// A session is no more.
    pub(crate) fn forget(&mut self, session: u32) {
        for id in self.of(session).to_vec() {
            self.remove(id);
        }
    }

    /// It may go on when it is its turn.
    pub(super) fn line_up(&mut self, id: u32) {
        self.waiting.push_back(id);
    }
}

impl<T: Send> Shard<T> {
    /// A session subscribes to what was published since, and to what comes: answers the granted QoS. `Err`: no rule keeps that.
    pub(crate) fn follow(
        &mut self,
        session: u32,
        whole: &str,
        since_ms: u64,
        grant: Grant,
        most: u32,
    ) -> Result<u8, ReasonCode> {
        let who = self.subscriber_of(session);
        let rule = self.returning.replays.covering(whole).ok_or(ReasonCode::TopicFilterInvalid)?;
        if self.mount_of(session).len() >= usize::from(SEAM) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        // It is replaced, and begins anew.
        self.unfollow(session, whole);
        self.forgive_retained(who, whole);
        let ended = self.router.unsubscribe(whole, who);
        let following = self.replay.followers.of(session).len();
        let Some(resident) = self.sessions.get_mut(session) else { return Err(ReasonCode::UnspecifiedError) };
        let subscriptions = &mut resident.session.subscriptions;
        if let Some(ended) = ended {
            subscriptions.remove(ended.as_u32());
        } else if subscriptions.len() + following >= most as usize {
            return Err(ReasonCode::QuotaExceeded);
        }
        self.counters.bump(Metric::Subscribes);
        self.counters.bump(Metric::Replays);
        let name = self.name_of(session, None, whole);
        self.record_subscription(session, &name, grant);
        self.replay.followers.add(Follower {
            who,
            filter: whole.into(),
            grant,
            since_ms: since_ms.max(rule.oldest_ms(self.unix_ms)),
            rule,
            lanes: Vec::new(),
            ready: false,
            open: 0,
            round: 0,
            not_before: self.now,
            seam: None,
        });
        Ok(grant.qos.as_u8()) // [MQTT-3.8.4-7]
    }

    /// SUBACK is written: what was asked for may follow.
    pub(crate) fn release_replays(&mut self, session: u32) {
        for id in self.replay.followers.of(session).to_vec() {
            if let Some(follower) = self.replay.followers.by_id.get_mut(&id) {
                follower.ready = true;
            }
        }
    }

    /// A session has a subscription no longer, or another one. Answers whether it was following.
    pub(crate) fn unfollow(&mut self, session: u32, whole: &str) -> bool {
        let ids = self.replay.followers.of(session).iter();
        let of_filter = |id: &&u32| self.replay.followers.by_id.get(id).is_some_and(|one| *one.filter == *whole);
        let Some(id) = ids.copied().find(|id| of_filter(&id)) else { return false };
        let Some(follower) = self.replay.followers.remove(id) else { return false };
        self.drop_held_back(follower.who, follower.seam);
        self.settle_picky(session);
        true
    }

    /// The connection of a session ends: what it has not been sent yet of what was, it is not sent. It goes on live.
    pub(crate) fn stop_following(&mut self, session: u32) {
        for id in self.replay.followers.of(session).to_vec() {
            let Some(follower) = self.replay.followers.remove(id) else { continue };
            self.go_live(follower);
        }
    }

    /// Goes on with those that have room. Answers whether some wait.
    pub(crate) fn work_followers<D: Driver<Transport = T>>(&mut self, driver: &mut D) -> bool {
        for _ in 0..self.replay.followers.waiting.len().min(LOOKS) {
            if self.replay.followers.reading >= READING {
                break;
            }
            let Some(id) = self.replay.followers.waiting.pop_front() else { break };
            let Some(follower) = self.replay.followers.by_id.get(&id) else { continue };
            let (who, in_seam) = (follower.who, follower.seam.is_some());
            if self.sessions.get_of(who.slot, who.generation).is_none() {
                self.replay.followers.remove(id);
                continue;
            }
            let may_read = follower.ready && follower.not_before <= self.now;
            // In the seam it goes as what is published does: into the queue, where there is no room.
            if may_read && (in_seam || self.has_room_to_follow(who)) {
                self.begin_round(driver, id);
            } else {
                self.replay.followers.line_up(id);
            }
        }
        !self.replay.followers.waiting.is_empty()
    }

    fn has_room_to_follow(&mut self, who: Subscriber) -> bool {
        let Some(resident) = self.sessions.get_of(who.slot, who.generation) else { return false };
        let limits = self.profiles.limits(resident.profile);
        let (session, tally) = (&resident.session, resident.session.queue_tally());
        let is_short = session.queue_len() < QUEUED && tally.1 <= u64::from(limits.queue_bytes_max) / 2;
        let is_free = is_short && !session.is_cut() && self.total_reached(who.slot).is_none();
        is_free && matches!(self.room_for_retained(who), Room::Enough)
    }

    /// Asks for the next part of each queue.
    fn begin_round<D: Driver<Transport = T>>(&mut self, driver: &mut D, id: u32) {
        let Some(store) = self.durable.store() else { return };
        let (shard, last) = (self.id, self.durable.last);
        let Some(follower) = self.replay.followers.by_id.get_mut(&id) else { return };
        follower.take_new_lanes(last);
        follower.round = follower.round.wrapping_add(1) & (u32::MAX >> LANE_BITS);
        let round = follower.round;
        let count = follower.lanes.iter().filter(|lane| !follower.is_over(lane)).count().max(1);
        let (messages_max, bytes_max) = ((MESSAGES / count).max(4), (BYTES / count).max(4096));
        let mut questions = Vec::with_capacity(count);
        for (number, lane) in (0_u32..1 << LANE_BITS).zip(&follower.lanes) {
            if follower.is_over(lane) {
                continue;
            }
            let (session, after) = (lane.queue.pool.number, lane.cursor);
            questions.push((
                number,
                match &lane.seek {
                    Some(seek) => seek.question(session),
                    None => Question::Queue { session, after, messages_max, bytes_max },
                },
            ));
        }
        if questions.is_empty() {
            return self.finish_round(driver, id);
        }
        follower.open = questions.len() as u32;
        self.replay.followers.reading += 1;
        for (number, question) in questions {
            let token = Token { shard, slot: FOLLOWER, generation: id, sequence: round << LANE_BITS | number };
            if store.ask(token, question) == Submitted::Refused {
                self.on_follower_read(driver, token, Answer::Failed);
            }
        }
    }

    /// The store has answered one of the questions of a round.
    pub(crate) fn on_follower_read<D: Driver<Transport = T>>(&mut self, driver: &mut D, token: Token, answer: Answer) {
        let (id, number) = (token.generation, token.sequence & ((1 << LANE_BITS) - 1));
        let Some(follower) = self.replay.followers.by_id.get_mut(&id) else { return };
        if follower.open == 0 || follower.round != token.sequence >> LANE_BITS {
            return;
        }
        let Some(lane) = follower.lanes.get_mut(number as usize) else { return };
        lane.found = lane.take_answer(answer);
        follower.open -= 1;
        if follower.open == 0 {
            self.replay.followers.reading -= 1;
            self.finish_round(driver, id);
        }
    }

    fn finish_round<D: Driver<Transport = T>>(&mut self, driver: &mut D, id: u32) {
        // Out of the list, so that nothing finds it half done.
        let Some(mut follower) = self.replay.followers.by_id.remove(&id) else { return };
        let failed = follower.lanes.iter().any(|lane| matches!(lane.found, Found::Failed));
        let seeks = follower.lanes.iter().any(|lane| lane.seek.is_some());
        let end = if failed {
            follower.not_before = later(self.now, PAUSE_MS);
            End::Waits
        } else if seeks {
            End::Waits
        } else {
            self.send_found(&mut follower)
        };
        follower.lanes.iter_mut().for_each(|lane| lane.found = Found::Nothing);
        let who = follower.who;
        let in_seam = follower.seam.is_some();
        self.replay.followers.by_id.insert(id, follower);
        self.account(who.slot);
        match end {
            End::Waits => self.replay.followers.line_up(id),
            End::Reached if !in_seam && self.replay.followers.seams < SEAMS => {
                self.replay.followers.seams += 1;
                self.begin_seam(driver, id);
            }
            End::Reached if !in_seam => {
                if let Some(follower) = self.replay.followers.by_id.get_mut(&id) {
                    follower.not_before = later(self.now, TURN_MS);
                }
                self.replay.followers.line_up(id);
            }
            End::Reached => {
                if let Some(follower) = self.replay.followers.remove(id) {
                    self.go_live(follower);
                }
            }
        }
    }

    /// Sends what was read, in order of time, as far as there is room.
    fn send_found(&mut self, follower: &mut Follower) -> End {
        let in_seam = follower.seam.is_some();
        let mut end = End::Reached;
        self.replay.followers.passing = true;
        while let Some(nth) = follower.next_lane() {
            if !in_seam && !self.has_room_to_follow(follower.who) {
                end = End::Waits;
                break;
            }
            let lane = &mut follower.lanes[nth];
            let Found::Messages { messages, .. } = &mut lane.found else { break };
            let Some(queued) = messages.pop_front() else { break };
            lane.cursor = queued.position;
            let shard = (!lane.queue.is_old).then_some(lane.queue.shard);
            let is_live = follower.seam.as_ref().is_some_and(|seam| seam.is_live(shard, queued.position));
            if !is_live && queued.unix_ms >= follower.since_ms {
                self.send_kept(follower, &queued);
            }
        }
        self.replay.followers.passing = false;
        if follower.lanes.iter().any(|lane| !follower.is_over(lane) && lane.has_more()) { End::Waits } else { end }
    }

    fn send_kept(&mut self, follower: &Follower, queued: &Queued) {
        let Some(message) = &queued.message else { return self.counters.bump(Metric::DroppedGone) };
        let view = message.view();
        if !matches(&follower.filter, view.topic) || view.expires_at.is_some_and(|at| at <= self.now) {
            return; // [MQTT-3.3.2-5]
        }
        // Before this start the name of a publisher was another one's.
        let started_ms = self.unix_ms.saturating_sub(self.now.ms_since(self.started));
        let is_own = view.origin == follower.who.as_u64() && queued.unix_ms >= started_ms;
        if follower.grant.no_local && is_own {
            return; // [MQTT-3.8.3-3]
        }
        let grant = PackedGrant::new(follower.grant);
        let delivery = Delivery {
            qos: view.qos.min(grant.qos()),                     // [MQTT-3.8.4-8]
            retain: view.retain && grant.retain_as_published(), // [MQTT-3.3.1-12] [MQTT-3.3.1-13]
            subscription_ids: grant.subscription_ids(),
            ..Delivery::default()
        };
        let mut encoded = std::mem::take(&mut self.encoded);
        let mut shared = Shared::owned(message, &mut encoded);
        self.deliver_as(&mut shared, follower.who, delivery);
        self.finish_keeping();
        self.encoded = encoded;
        self.counters.bump(Metric::ReplaySent);
    }
}

/// How a round ended.
enum End {
    /// There is more, or no room for it.
    Waits,
    /// Nothing is left, as far as the store knew.
    Reached,
}

impl Follower {
    /// Queues that have come since.
    fn take_new_lanes(&mut self, last: Position) {
        for queue in self.rule.queues() {
            if self.lanes.iter().any(|lane| lane.queue.pool.number == queue.pool.number) {
                continue;
            }
            // What is in it came later, if it was not there at first.
            let seek =
                (self.round == 0).then(|| Seek::new(if queue.is_old { Position(0) } else { last }, self.since_ms));
            self.lanes.push(Lane { queue, cursor: Position(0), seek, found: Found::Nothing });
        }
    }

    /// All that is to be read of a queue was.
    fn is_over(&self, lane: &Lane) -> bool {
        let Some(seam) = &self.seam else { return false };
        !lane.queue.is_old && seam.is_reached(lane.queue.shard, lane.cursor)
    }

    /// The queue whose next message came first. None: what may come before it was not read.
    fn next_lane(&self) -> Option<usize> {
        let next = |lane: &Lane| match &lane.found {
            Found::Messages { messages, .. } => messages.front().map(|queued| (queued.unix_ms, queued.position)),
            _ => None,
        };
        if self.lanes.iter().any(|lane| next(lane).is_none() && lane.has_more()) {
            return None;
        }
        (0..self.lanes.len()).filter_map(|nth| Some((next(&self.lanes[nth])?, nth))).min().map(|(_, nth)| nth)
    }
}

impl Lane {
    /// There is more behind what was read.
    fn has_more(&self) -> bool {
        match &self.found {
            Found::Messages { messages, more } => *more || !messages.is_empty(),
            Found::Nothing | Found::Failed => false,
        }
    }

    fn take_answer(&mut self, answer: Answer) -> Found {
        match (&mut self.seek, answer) {
            (Some(seek), answer) => match seek.on_answer(&answer) {
                Ok(None) => Found::Nothing,
                Ok(Some(cursor)) => {
                    (self.seek, self.cursor) = (None, cursor);
                    // What lies behind it is asked for now.
                    Found::Messages { messages: VecDeque::new(), more: true }
                }
                Err(()) => Found::Failed,
            },
            (None, Answer::Queue { messages, more }) => Found::Messages { messages: messages.into(), more },
            (None, _) => Found::Failed,
        }
    }
}
