//! Where a replay ends and the live subscription begins: nothing is lost, and nothing comes twice.
//!
//! When nothing is left to read a follower is subscribed in the router. What is published from then on comes live, and each shard keeps
//! it for the rule as well; what was matched before comes from the queue alone. The two meet at a **mark**, one for each shard:
//!
//! - The shard of the follower asks each other shard. That one lets go first what it holds of QoS 2 publishes, for these were matched
//!   earlier than they are sent. Then it sends a mark, behind all that it has sent live until then.
//! - What comes live before the mark of its shard is thrown away: it is in the queue. What comes behind waits here.
//! - When what was recorded before the mark is stored, the shard says up to which position that is, and which QoS 2 publishes it held at
//!   that moment: those lie before it in the queue, and come live behind the mark. Up to there the queue is read.
//! - Then what waited goes out, and the subscription is like any other.
//!
//! All of that takes a write to the disk. The follower's own shard needs no mark: it subscribes between two messages.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use breakwater_contract::store::{Position, SessionNumber};
use breakwater_proto::{Message, QoS, matches};
use breakwater_router::{FilterId, Subscribed, Subscriber};
use breakwater_session::{Delivery, DropReason, Kept, Shared};

use super::follow::Follower;
use crate::driver::{Driver, ShardId};
use crate::durable::Promise;
use crate::kept::Place;
use crate::mail::{Control, Mail};
use crate::mount::has_name;
use crate::refusal::Word;
use crate::shard::{SEAM, Shard};

/// What waits behind a mark, of one follower.
const HELD_MESSAGES: usize = 8192;
const HELD_BYTES: usize = 2 << 20;

/// One follower between its queue and the live messages.
#[derive(Debug, Default)]
pub(crate) struct Seam {
    /// Shards whose mark has come.
    marked: BTreeSet<ShardId>,
    ends: BTreeMap<ShardId, Bound>,
    held: VecDeque<HeldBack>,
    held_bytes: usize,
}

/// What of a queue was recorded before the mark.
#[derive(Debug, Default)]
pub struct Bound {
    last: Position,
    /// But for these.
    except: BTreeSet<Position>,
}

/// A live message that comes after the replay.
#[derive(Debug)]
struct HeldBack {
    message: Message,
    qos: QoS,
    retain: bool,
    ids: Box<[u32]>,
    /// What its publisher was told.
    word: Word,
    /// Where it is in the store, in the queue of its session.
    position: Option<Position>,
}

/// Between shards, about a follower of the first one.
#[derive(Debug)]
pub enum SeamMail {
    /// Say where it is.
    Ask { follower: u32 },
    /// Here.
    Mark { follower: u32 },
    /// This is in the queue.
    Bound { follower: u32, bound: Box<Bound> },
}

/// What waits for the store.
#[derive(Clone, Debug)]
pub(crate) enum SeamPromise {
    /// What was held when it was asked is sent.
    Mark { home: ShardId, follower: u32 },
    /// What was recorded before the mark is stored.
    Bound { home: ShardId, follower: u32, except: Vec<Kept> },
}

impl Seam {
    /// Whether a message in a queue is one that comes live. `shard`: whose queue it is; none for one of an earlier life.
    pub(super) fn is_live(&self, shard: Option<ShardId>, position: Position) -> bool {
        let bound = shard.and_then(|shard| self.ends.get(&shard));
        bound.is_some_and(|bound| position > bound.last || bound.except.contains(&position))
    }

    /// Whether a queue was read up to its mark.
    pub(super) fn is_reached(&self, shard: ShardId, cursor: Position) -> bool {
        self.ends.get(&shard).is_some_and(|bound| cursor >= bound.last)
    }
}

impl<T: Send> Shard<T> {
    /// Nothing is left to read: from here on it is subscribed.
    pub(super) fn begin_seam<D: Driver<Transport = T>>(&mut self, driver: &mut D, id: u32) {
        let Some(follower) = self.replay.followers.by_id.get_mut(&id) else { return };
        follower.seam = Some(Seam { marked: [self.id].into(), ..Seam::default() });
        let session = follower.who.slot;
        self.subscribe_follower(id);
        self.settle_picky(session);
        self.submit();
        self.promise_seam(driver, SeamPromise::Bound { home: self.id, follower: id, except: Vec::new() });
        for to in 0..self.shards {
            if to != self.id {
                self.mail_seam(driver, to, SeamMail::Ask { follower: id });
            }
        }
    }

    fn subscribe_follower(&mut self, id: u32) {
        let Some(follower) = self.replay.followers.by_id.get(&id) else { return };
        let Subscribed { id, new } = self.router.subscribe(&follower.filter, follower.who, follower.grant);
        self.note_subscribed(follower.who.slot, id, new);
    }

    fn note_subscribed(&mut self, session: u32, id: FilterId, new: bool) {
        if let Some(resident) = self.sessions.get_mut(session).filter(|_| new) {
            resident.session.subscriptions.push(id.as_u32());
        }
    }

    fn mail_seam<D: Driver<Transport = T>>(&mut self, driver: &mut D, to: ShardId, mail: SeamMail) {
        driver.send(to, Mail::Control(Box::new(Control::Seam(mail))));
    }

    fn promise_seam<D: Driver<Transport = T>>(&mut self, driver: &mut D, promise: SeamPromise) {
        if let Some(promise) = self.durable.promise(Promise::Seam(promise)) {
            self.settle_promise(driver, promise, true);
        }
    }

    pub(crate) fn on_seam_mail<D: Driver<Transport = T>>(&mut self, driver: &mut D, from: ShardId, mail: SeamMail) {
        match mail {
            SeamMail::Ask { follower } => {
                // By itself, so that what it promises are all publishes which are held by now.
                self.submit();
                self.promise_seam(driver, SeamPromise::Mark { home: from, follower });
            }
            SeamMail::Mark { follower } => {
                if let Some(seam) = self.seam_of(follower) {
                    seam.marked.insert(from);
                }
            }
            SeamMail::Bound { follower, bound } => self.on_bound(from, follower, *bound),
        }
    }

    /// Whether it could be stored makes no difference: what was not is not in the queue.
    pub(crate) fn settle_seam<D: Driver<Transport = T>>(&mut self, driver: &mut D, promise: SeamPromise) {
        match promise {
            SeamPromise::Mark { home, follower } => {
                self.post(driver);
                self.mail_seam(driver, home, SeamMail::Mark { follower });
                self.submit();
                let except = self.durable.hold_held();
                self.promise_seam(driver, SeamPromise::Bound { home, follower, except });
            }
            SeamPromise::Bound { home, follower, except } => {
                let mut bound = Bound { last: self.durable.last, except: BTreeSet::new() };
                for kept in except {
                    if let Place::At(position) = self.durable.kept.place(kept) {
                        bound.except.insert(position);
                    }
                    self.durable.kept.release(kept);
                }
                if home == self.id {
                    self.on_bound(home, follower, bound);
                } else {
                    self.mail_seam(driver, home, SeamMail::Bound { follower, bound: Box::new(bound) });
                }
            }
        }
    }

    fn seam_of(&mut self, follower: u32) -> Option<&mut Seam> {
        self.replay.followers.by_id.get_mut(&follower)?.seam.as_mut()
    }

    fn on_bound(&mut self, from: ShardId, follower: u32, bound: Bound) {
        let shards = usize::from(self.shards);
        let Some(seam) = self.seam_of(follower) else { return };
        seam.ends.insert(from, bound);
        if seam.ends.len() == shards {
            self.replay.followers.line_up(follower);
        }
    }

    /// A live message comes to a session that has a mountpoint or a seam. `false`: it is not for it, or not yet.
    pub(crate) fn takes(&mut self, message: &mut Shared<'_>, to: Subscriber, delivery: &Delivery<'_>) -> bool {
        let topic = message.view().topic;
        let bits = if self.replay.followers.of(to.slot).is_empty() { 0 } else { SEAM };
        let mount = self.sessions.get(to.slot).map_or(0, |resident| resident.mount & !bits);
        if mount > 0 && !has_name(topic, mount) {
            return false;
        }
        if self.replay.followers.passing || delivery.shared {
            return true;
        }
        let ids = self.replay.followers.of(to.slot).to_vec();
        let in_seam = |id: &u32| {
            let follower = self.replay.followers.by_id.get(id);
            follower.is_some_and(|one| one.seam.is_some() && matches(&one.filter, topic))
        };
        match ids.into_iter().find(in_seam) {
            Some(id) => {
                self.hold_at_seam(id, message, to, delivery);
                false
            }
            None => true,
        }
    }

    fn hold_at_seam(&mut self, id: u32, message: &mut Shared<'_>, to: Subscriber, delivery: &Delivery<'_>) {
        let (from, position) = (self.mail_from, self.durable.keeping.position());
        let Some(seam) = self.seam_of(id) else { return };
        let is_marked = seam.marked.contains(&from);
        let view = message.view();
        let bytes = view.topic.len() + view.payload.len() + view.properties.len() + size_of::<HeldBack>();
        let fits = seam.held.len() < HELD_MESSAGES && seam.held_bytes + bytes <= HELD_BYTES;
        if !is_marked || !fits {
            if is_marked {
                self.report.drops.count(DropReason::QueueFull);
            }
            return self.forget_held_back(to, position.filter(|_| delivery.qos > QoS::AtMostOnce));
        }
        let held = HeldBack {
            message: message.message(&mut self.building).clone(),
            qos: delivery.qos,
            retain: delivery.retain,
            ids: delivery.subscription_ids.into(),
            word: self.word,
            position: position.filter(|_| delivery.qos > QoS::AtMostOnce),
        };
        if let Some(seam) = self.seam_of(id) {
            seam.held.push_back(held);
            seam.held_bytes += bytes;
        }
    }

    /// The store may have it for the session.
    fn forget_held_back(&mut self, who: Subscriber, position: Option<Position>) {
        let Some(resident) = self.sessions.get_of(who.slot, who.generation) else { return };
        let number = resident.number();
        if let Some(position) = position
            && number != SessionNumber::default()
        {
            let kept = self.durable.kept.open(Place::At(position));
            self.forget(number, kept, self.durable.durability);
        }
    }

    /// What waited comes to nothing: its subscription has ended.
    pub(super) fn drop_held_back(&mut self, who: Subscriber, seam: Option<Seam>) {
        for held in seam.into_iter().flat_map(|seam| seam.held) {
            self.forget_held_back(who, held.position);
        }
    }

    /// A replay is over. From here on it is a subscription like any other.
    pub(super) fn go_live(&mut self, follower: Follower) {
        let Follower { who, filter, grant, seam, .. } = follower;
        if self.sessions.get_of(who.slot, who.generation).is_none() {
            return;
        }
        let Some(seam) = seam else {
            let Subscribed { id, new } = self.router.subscribe(&filter, who, grant);
            return self.note_subscribed(who.slot, id, new);
        };
        self.settle_picky(who.slot);
        self.replay.followers.passing = true;
        let word = self.word;
        for held in seam.held {
            self.word = held.word;
            self.finish_keeping();
            if let Some(position) = held.position {
                self.keep_at(position);
            }
            let mut encoded = std::mem::take(&mut self.encoded);
            let mut shared = Shared::owned(&held.message, &mut encoded);
            let (qos, retain) = (held.qos, held.retain);
            let delivery = Delivery { qos, retain, subscription_ids: &held.ids, ..Delivery::default() };
            self.deliver_as(&mut shared, who, delivery);
            self.finish_keeping();
            self.encoded = encoded;
        }
        self.word = word;
        self.replay.followers.passing = false;
        self.account(who.slot);
    }

    /// Whether a session is to be asked before a message is delivered.
    pub(super) fn settle_picky(&mut self, session: u32) {
        let followers = &self.replay.followers;
        let in_seam = |id: &u32| followers.by_id.get(id).is_some_and(|one| one.seam.is_some());
        let has_seam = followers.of(session).iter().any(in_seam);
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.mount = if has_seam { resident.mount | SEAM } else { resident.mount & !SEAM };
        let slot = resident.conn;
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.link.set_apart(has_seam);
        }
    }
}
