//! Mail from other shards, and large fan-outs: work that is taken up again where the last turn left it.

use breakwater_contract::Completion;
use breakwater_contract::store::Position;
use breakwater_proto::{Message, MessageView, QoS, Split, decode_publish, split};
use breakwater_router::{Snapshot, Subscriber, Target};
use breakwater_session::{Delivered, DropReason, Shared};

use crate::driver::{Driver, ShardId};
use crate::durable::Promise;
use crate::mail::{Batch, Control, Entry, Mail, Receipt, Routed};
use crate::refusal::Word;
use crate::route::{Run, Tried};
use crate::shard::Shard;

/// Members of a large set served at a time.
const CHUNK: usize = 1024;
/// What a delivery costs apart from its bytes, in bytes: short messages to many targets must not make a turn long.
const DELIVERY: usize = 64;
/// Spare batches kept per shard.
const SPARES: usize = 16;

/// A batch that is being worked off.
#[derive(Debug)]
pub(crate) struct Progress {
    batch: Box<Batch>,
    entry: usize,
    place: Place,
}

/// How far the work on an entry has come.
#[derive(Debug, Default)]
struct Place {
    /// Next target, or position in the large set.
    target: usize,
    /// First of the identifiers that targets still to come refer to.
    id: usize,
    /// Since which batch the store is told of it, if it is.
    since: Option<u64>,
    /// Another shard has it now, and tells.
    passed_on: bool,
    /// The copy that sessions keep, once one of them asked for it: all that are still to come share it.
    message: Option<Message>,
}

impl Progress {
    pub(crate) fn new(batch: Box<Batch>) -> Self {
        Self { batch, entry: 0, place: Place::default() }
    }
}

impl Place {
    /// Identifiers of a target beyond its first; the targets come in order.
    fn more_ids<'a>(&mut self, batch: &'a Batch, routed: &Routed) -> &'a [u32] {
        let more = &batch.ids[self.id..self.id + usize::from(routed.more_ids)];
        self.id += more.len();
        more
    }
}

/// A large fan-out of a publisher that lives here: it waits until all is done.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) progress: Progress,
    pub(crate) owner: Option<u32>,
    pub(crate) generation: u32,
}

impl<T: Send> Shard<T> {
    /// Takes mail from every neighbour, to a bound each. Answers whether some is left.
    pub(crate) fn take_mail<D: Driver<Transport = T>>(&mut self, driver: &mut D) -> bool {
        let mut more = false;
        for from in 0..self.shards {
            if from != self.id {
                self.mail_from = from;
                more |= self.take_mail_from(driver, from);
            }
        }
        self.mail_from = self.id;
        more
    }

    fn take_mail_from<D: Driver<Transport = T>>(&mut self, driver: &mut D, from: ShardId) -> bool {
        let mut budget = self.options.turn.mail_bytes as usize;
        loop {
            let progress = match self.inbox[from as usize].take() {
                Some(progress) => progress,
                None => match driver.receive(from) {
                    None => return false,
                    Some(Mail::Batch(batch)) => Progress::new(batch),
                    Some(Mail::Control(control)) => {
                        match *control {
                            Control::Arrive(arrival) => {
                                // What the client says is published here.
                                self.mail_from = self.id;
                                self.on_arrival(driver, arrival);
                                self.mail_from = from;
                            }
                            Control::Seam(mail) => self.on_seam_mail(driver, from, mail),
                        }
                        continue;
                    }
                },
            };
            match self.work(driver, progress, &mut budget) {
                Ok(batch) => self.return_batch(driver, batch),
                Err(progress) => {
                    self.inbox[from as usize] = Some(progress);
                    return true;
                }
            }
            if budget == 0 {
                return true;
            }
        }
    }

    fn return_batch<D: Driver<Transport = T>>(&mut self, driver: &mut D, mut batch: Box<Batch>) {
        batch.clear();
        batch.trim();
        let home = batch.home;
        if home == self.id {
            self.reclaim(batch);
        } else {
            driver.give_back(home, batch);
        }
    }

    /// Takes back a batch that another shard has emptied.
    pub fn reclaim(&mut self, batch: Box<Batch>) {
        if self.spare.len() < SPARES {
            self.spare.push(batch);
        }
    }

    /// Large fan-outs of publishers that live here.
    pub(crate) fn work_jobs<D: Driver<Transport = T>>(&mut self, driver: &mut D) -> bool {
        let mut budget = self.options.turn.appended_bytes as usize;
        for _ in 0..self.jobs.len() {
            let Some(job) = self.jobs.pop_front() else { break };
            let Job { progress, owner, generation } = job;
            match self.work(driver, progress, &mut budget) {
                Ok(batch) => {
                    self.return_batch(driver, batch);
                    if let Some(slot) = owner
                        && self.conns.generation(slot) == Some(generation)
                        && let Some(conn) = self.conns.get_mut(slot)
                    {
                        conn.jobs -= 1;
                        self.schedule(slot);
                    }
                }
                Err(progress) => self.jobs.push_back(Job { progress, owner, generation }),
            }
            if budget == 0 {
                break;
            }
        }
        !self.jobs.is_empty()
    }

    /// A session has a connection again: large fan-outs that it has begun hold this one up too, or what it says next would
    /// overtake them.
    pub(crate) fn adopt_jobs(&mut self, slot: u32, session: u32) {
        let origin = self.subscriber_of(session).as_u64();
        let Some(generation) = self.conns.generation(slot) else { return };
        let Some(conn) = self.conns.get_mut(slot) else { return };
        for job in &mut self.jobs {
            if job.progress.batch.entries.first().is_some_and(|entry| entry.origin == origin) {
                (job.owner, job.generation) = (Some(slot), generation);
                conn.jobs += 1;
            }
        }
    }

    /// Works off a batch as far as `budget` reaches. `Err`: go on later.
    pub(crate) fn work<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        mut progress: Progress,
        budget: &mut usize,
    ) -> Result<Box<Batch>, Progress> {
        if !progress.batch.receipts.is_empty() {
            for (receipt, stored) in std::mem::take(&mut progress.batch.receipts) {
                self.on_receipt(driver, receipt, stored);
            }
        }
        while let Some(entry) = progress.batch.entries.get(progress.entry) {
            if *budget == 0 {
                return Err(progress);
            }
            let place = &mut progress.place;
            self.word = entry.word;
            let (done, cost) = if let Some(snapshot) = &entry.large {
                self.work_large(driver, &progress.batch, entry, snapshot, place, *budget)
            } else {
                let cost = self.work_few(driver, &progress.batch, entry, place, *budget);
                (place.target >= entry.targets.1 as usize, cost)
            };
            self.word = Word::None;
            *budget = budget.saturating_sub(cost);
            if let Some(since) = self.finish_part(place.since) {
                place.since = Some(since);
            }
            if done {
                if let Some(receipt) = entry.receipt.filter(|_| !place.passed_on) {
                    self.answer(driver, receipt, place.since);
                }
                (place.since, place.passed_on) = (None, false);
                progress.entry += 1;
                let next = progress.batch.entries.get(progress.entry);
                place.target = next.map_or(0, |next| if next.large.is_some() { 0 } else { next.targets.0 as usize });
                place.message = None;
            }
        }
        Ok(progress.batch)
    }

    /// What was delivered of an entry joins the batch of the store. Answers the first one that it is in.
    #[inline]
    fn finish_part(&mut self, since: Option<u64>) -> Option<u64> {
        let recorded = self.finish_keeping();
        since.or_else(|| recorded.then(|| self.durable.next_batch()))
    }

    /// Tells whoever waits for an entry when all of it is stored.
    fn answer<D: Driver<Transport = T>>(&mut self, driver: &mut D, receipt: Receipt, since: Option<u64>) {
        let Some(since) = since else { return self.send_receipt(driver, receipt, true) };
        if let Some(promise) = self.durable.promise(Promise::Receipt { receipt, since }) {
            self.settle_promise(driver, promise, true);
        }
    }

    /// Some targets of an entry; answers what that cost.
    fn work_few<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        batch: &Batch,
        entry: &Entry,
        place: &mut Place,
        budget: usize,
    ) -> usize {
        let wire = batch.wire_in(entry);
        let end = (entry.targets.1 as usize).min(place.target + chunk(budget, wire));
        let targets = &batch.targets[place.target..end];
        place.target = end;
        let cost = wire.len() + targets.len() * (wire.len() + DELIVERY);
        match Outgoing::new(entry, wire, &mut self.converted) {
            Outgoing::Run(run, mut converted) => {
                for routed in targets {
                    let more = place.more_ids(batch, routed);
                    self.deliver_run(driver, routed.at(self.id), routed.grant, more, &run, &mut converted);
                }
                self.converted = converted;
            }
            Outgoing::One(view) => {
                let mut ids = std::mem::take(&mut self.ids);
                let mut encoded = std::mem::take(&mut self.encoded);
                let earlier = place.message.take();
                let mut message = shared(view, earlier.as_ref(), &mut encoded);
                if entry.position != Position(0) {
                    self.keep_at(entry.position);
                }
                for routed in targets {
                    ids.clear();
                    let more = place.more_ids(batch, routed);
                    if routed.grant.subscription_id() != 0 {
                        ids.push(routed.grant.subscription_id());
                        ids.extend_from_slice(more);
                    }
                    let who = routed.at(self.id);
                    let outcome = self.deliver_one(&mut message, who, routed.grant, &ids, entry.group.is_some());
                    if let Some(attempt) = entry.group
                        && matches!(outcome, None | Some(Delivered::Dropped(_)))
                        && !self.durable.estates.has(who, entry.position)
                    {
                        // Who is tried now is not among those that the store has it for.
                        self.finish_keeping();
                        let tried = self.try_group(driver, attempt, Some(who), &view, entry.receipt);
                        place.passed_on = tried == Tried::Elsewhere;
                        if tried == Tried::Nobody
                            && entry.position != Position(0)
                            && outcome == Some(Delivered::Dropped(DropReason::QueueFull))
                        {
                            // It had been taken from those that wait for the group, or stored for it: it waits again.
                            let target = Target { subscriber: who, grant: routed.grant };
                            self.put_in_pool(&view, attempt.group, target, true);
                        }
                    }
                }
                place.message = message.copy();
                self.encoded = encoded;
                self.ids = ids;
            }
            Outgoing::Nothing => targets.iter().for_each(|routed| _ = place.more_ids(batch, routed)),
        }
        cost
    }

    /// A chunk of a large set: whether it was the last, and what it cost.
    fn work_large<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        batch: &Batch,
        entry: &Entry,
        snapshot: &Snapshot,
        place: &mut Place,
        budget: usize,
    ) -> (bool, usize) {
        let wire = batch.wire_in(entry);
        let origin = Subscriber::from_u64(entry.origin);
        let mut walked = std::mem::take(&mut self.walked);
        walked.clear();
        let done = snapshot.walk(&mut place.target, chunk(budget, wire), |target| {
            // Not to the publisher, where it said so [MQTT-3.8.3-3].
            if target.subscriber != origin || !target.grant.no_local() {
                walked.push(target);
            }
        });
        match Outgoing::new(entry, wire, &mut self.converted) {
            Outgoing::Run(run, mut converted) => {
                for target in &walked {
                    self.deliver_run(driver, target.subscriber, target.grant, &[], &run, &mut converted);
                }
                self.converted = converted;
            }
            Outgoing::One(view) => {
                let mut encoded = std::mem::take(&mut self.encoded);
                let earlier = place.message.take();
                let mut message = shared(view, earlier.as_ref(), &mut encoded);
                if entry.position != Position(0) {
                    self.keep_at(entry.position);
                }
                for target in &walked {
                    let ids = target.grant.subscription_ids();
                    self.deliver_one(&mut message, target.subscriber, target.grant, ids, false);
                }
                place.message = message.copy();
                self.encoded = encoded;
            }
            Outgoing::Nothing => {}
        }
        let cost = (walked.len() + 1) * (wire.len() + DELIVERY);
        self.walked = walked;
        (done, cost)
    }

    #[inline]
    pub(crate) fn take_completions<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        if !self.completions.is_empty() {
            self.work_completions(driver);
        }
    }

    #[cold]
    fn work_completions<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        while let Some(completion) = self.completions.pop_front() {
            match completion {
                Completion::Auth { token, step } => self.on_auth_step(driver, token, step),
                Completion::Authorized { token, verdict } => self.on_authorized(token, verdict),
                Completion::Durable { token, stored, positions } => {
                    self.on_durable(driver, token, stored.then_some(&*positions));
                }
                Completion::Read { token, answer } => self.on_read(driver, token, answer),
            }
        }
    }
}

/// Targets to serve before looking at the budget again.
fn chunk(budget: usize, wire: &[u8]) -> usize {
    (budget / (wire.len() + DELIVERY)).clamp(1, CHUNK)
}

/// A message on its way to the targets of a chunk; `earlier`: the copy that an earlier chunk has made.
fn shared<'a>(view: MessageView<'a>, earlier: Option<&'a Message>, encoded: &'a mut Vec<u8>) -> Shared<'a> {
    match earlier {
        Some(message) => Shared::owned(message, encoded),
        None => Shared::borrowed(view, encoded),
    }
}

/// An entry, ready to be delivered.
enum Outgoing<'a> {
    Run(Run<'a>, Vec<u8>),
    One(MessageView<'a>),
    /// Our own neighbour sent what we can't read: nothing is better than a guess.
    Nothing,
}

impl<'a> Outgoing<'a> {
    fn new(entry: &Entry, wire: &'a [u8], converted: &mut Vec<u8>) -> Self {
        let Ok(Split::Packet(frame)) = split(wire, u32::MAX) else { return Self::Nothing };
        let Ok(publish) = decode_publish(entry.version, frame.first, frame.body) else { return Self::Nothing };
        let plain = publish.qos == QoS::AtMostOnce && entry.expires_at.is_none() && !entry.retain;
        if plain && entry.group.is_none() {
            let mut converted = std::mem::take(converted);
            converted.clear();
            let run = Run {
                wire,
                count: entry.count,
                longest: if entry.count == 1 { wire.len() } else { longest(wire) },
                version: entry.version,
                origin: Subscriber::from_u64(entry.origin),
            };
            return Self::Run(run, converted);
        }
        Self::One(MessageView {
            topic: publish.topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: entry.retain,
            properties: publish.properties,
            expires_at: entry.expires_at,
            origin: entry.origin,
        })
    }
}

/// Length of the longest packet of a run.
fn longest(wire: &[u8]) -> usize {
    let mut rest = wire;
    let mut longest = 0;
    while let Ok(Split::Packet(frame)) = split(rest, u32::MAX) {
        longest = longest.max(frame.len);
        rest = &rest[frame.len..];
    }
    longest
}
