//! Mail from other shards, and large fan-outs: work that is taken up again where the last turn left it.

use breakwater_contract::{Completion, Metric};
use breakwater_proto::{MessageView, QoS, Split, decode_publish, split};
use breakwater_router::Subscriber;
use breakwater_session::Shared;

use crate::driver::{Driver, ShardId};
use crate::mail::{Batch, Control, Entry, Mail};
use crate::route::Run;
use crate::shard::Shard;

/// Members of a large set served at a time.
const CHUNK: usize = 1024;
/// Spare batches kept per shard.
const SPARES: usize = 16;

/// A batch that is being worked off.
#[derive(Debug)]
pub(crate) struct Progress {
    batch: Box<Batch>,
    entry: usize,
    /// Next target, or position in the large set.
    target: usize,
    /// First of the identifiers that targets still to come refer to.
    id: usize,
}

impl Progress {
    pub(crate) fn new(batch: Box<Batch>) -> Self {
        Self { batch, entry: 0, target: 0, id: 0 }
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
                more |= self.take_mail_from(driver, from);
            }
        }
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
                            Control::Arrive(arrival) => self.on_arrival(driver, arrival),
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
            if self.spare.len() < SPARES {
                self.spare.push(batch);
            }
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

    /// Works off a batch as far as `budget` reaches. `Err`: go on later.
    fn work<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        mut progress: Progress,
        budget: &mut usize,
    ) -> Result<Box<Batch>, Progress> {
        while let Some(entry) = progress.batch.entries.get(progress.entry) {
            if *budget == 0 {
                return Err(progress);
            }
            let wire = &progress.batch.wire[entry.wire.0 as usize..entry.wire.1 as usize];
            let (done, cost) = if entry.large.is_some() {
                self.work_large(driver, entry, wire, &mut progress.target, *budget)
            } else {
                let cost =
                    self.work_few(driver, &progress.batch, entry, &mut progress.target, &mut progress.id, *budget);
                (progress.target >= entry.targets.1 as usize, cost)
            };
            *budget = budget.saturating_sub(cost);
            if done {
                progress.entry += 1;
                progress.target = progress
                    .batch
                    .entries
                    .get(progress.entry)
                    .map_or(0, |next| if next.large.is_some() { 0 } else { next.targets.0 as usize });
            }
        }
        Ok(progress.batch)
    }

    /// Some targets of an entry; answers what that cost.
    fn work_few<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        batch: &Batch,
        entry: &Entry,
        target: &mut usize,
        id: &mut usize,
        budget: usize,
    ) -> usize {
        let wire = &batch.wire[entry.wire.0 as usize..entry.wire.1 as usize];
        let mut ids = std::mem::take(&mut self.ids);
        let end = (entry.targets.1 as usize).min(*target + chunk(budget, wire));
        let mut outgoing = Outgoing::new(entry, wire, &mut self.converted);
        let mut encoded = std::mem::take(&mut self.encoded);
        let mut cost = wire.len();
        for routed in &batch.targets[*target..end] {
            let who = Subscriber { shard: self.id, generation: routed.generation, slot: routed.slot };
            let more = &batch.ids[*id..*id + routed.more_ids as usize];
            *id += more.len();
            cost += wire.len();
            match &mut outgoing {
                Outgoing::Run(run, converted) if entry.group.is_none() => {
                    self.deliver_run(driver, who, routed.grant, more, run, converted);
                }
                Outgoing::Run(..) | Outgoing::Nothing => {}
                Outgoing::One(view) => {
                    ids.clear();
                    if routed.grant.subscription_id() != 0 {
                        ids.push(routed.grant.subscription_id());
                        ids.extend_from_slice(more);
                    }
                    let mut message = Shared::borrowed(*view, &mut encoded);
                    let outcome = self.deliver_one(&mut message, who, routed.grant, &ids, entry.group.is_some());
                    if let Some(attempt) = entry.group
                        && matches!(outcome, None | Some(breakwater_session::Delivered::Dropped(_)))
                    {
                        let view = *view;
                        self.try_group(driver, attempt, Some(who), &view);
                    }
                }
            }
        }
        if let Outgoing::Run(_, converted) = outgoing {
            self.converted = converted;
        }
        *target = end;
        self.encoded = encoded;
        self.ids = ids;
        cost
    }

    /// A chunk of a large set.
    fn work_large<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        entry: &Entry,
        wire: &[u8],
        position: &mut usize,
        budget: usize,
    ) -> (bool, usize) {
        let Some(snapshot) = &entry.large else { return (true, 0) };
        let mut walked = std::mem::take(&mut self.walked);
        walked.clear();
        let done = snapshot.walk(position, chunk(budget, wire), |target| walked.push(target));
        let origin = Subscriber::from_u64(entry.origin);
        let mut outgoing = Outgoing::new(entry, wire, &mut self.converted);
        let mut encoded = std::mem::take(&mut self.encoded);
        for target in &walked {
            if target.subscriber == origin && target.grant.no_local() {
                continue; // [MQTT-3.8.3-3]
            }
            let id = [target.grant.subscription_id()];
            match &mut outgoing {
                Outgoing::Run(run, converted) => {
                    self.deliver_run(driver, target.subscriber, target.grant, &[], run, converted);
                }
                Outgoing::One(view) => {
                    let mut message = Shared::borrowed(*view, &mut encoded);
                    let ids = if id[0] == 0 { &[][..] } else { &id[..] };
                    self.deliver_one(&mut message, target.subscriber, target.grant, ids, false);
                }
                Outgoing::Nothing => {}
            }
        }
        if let Outgoing::Run(_, converted) = outgoing {
            self.converted = converted;
        }
        let cost = wire.len() * walked.len();
        self.walked = walked;
        self.encoded = encoded;
        (done, cost.max(1))
    }

    pub(crate) fn take_completions<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        while let Some(completion) = self.completions.pop_front() {
            match completion {
                Completion::Auth { token, step } => self.on_auth_step(driver, token, step),
                Completion::Authorized { token, verdict } => self.on_authorized(token, verdict),
                // Sessions and messages live in memory: nothing of this kind is asked for.
                Completion::Durable { .. } | Completion::Session { .. } => {
                    self.counters.bump(Metric::DroppedGone);
                }
            }
        }
    }
}

/// Targets to serve before looking at the budget again.
fn chunk(budget: usize, wire: &[u8]) -> usize {
    (budget / wire.len().max(1)).clamp(1, CHUNK)
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
