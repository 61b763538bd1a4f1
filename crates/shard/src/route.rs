//! From a message to its targets: here, at other shards, and through shared groups.

use breakwater_contract::Metric;
use breakwater_contract::store::Position;
use breakwater_proto::{MessageView, OutPublish, QoS, Split, Version, decode_publish, split};
use breakwater_router::{GroupRef, Matches, PackedGrant, PickTicket, Snapshot, Strategy, Subscriber, Target};
use breakwater_session::{Delivered, DropReason, Shared};

use crate::conn::{NONE, hold};
use crate::driver::{Driver, ShardId};
use crate::inbox::{Job, Progress};
use crate::ingress::Spend;
use crate::mail::{Batch, Entry, GroupTry, Mail, Receipt, Routed};
use crate::refusal::Word;
use crate::shard::{Shard, hash_id};

/// A batch that has grown so far leaves before the turn ends, so that the other core starts early and caches stay warm.
const POST_EARLY: usize = 256 * 1024;

/// What a PUBLISH has besides its payload, roughly, in bytes.
const OVERHEAD: usize = 32;

/// Looking at so many nodes of the router costs about as much as one delivery.
const VISITS_PER_DELIVERY: u32 = 4;

/// Paused connections looked at in one turn for one that can make room.
const PAUSED_LOOKS: usize = 64;

/// Consecutive QoS 0 messages of one publisher to one topic, in wire form without gaps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) wire: &'a [u8],
    pub(crate) count: u32,
    /// Length of the longest packet.
    pub(crate) longest: usize,
    pub(crate) version: Version,
    pub(crate) origin: Subscriber,
}

impl<'a> Run<'a> {
    /// Takes in what follows in `bytes` as long as it is of the same kind and topic (`prefix`: the topic with its length)
    /// Leaves everything doubtful to the ordinary path.
    #[inline]
    pub(crate) fn extend(&mut self, bytes: &'a [u8], prefix: &[u8], packet_max: u32) {
        let mut end = self.wire.len();
        let version_5 = self.version.is_v5();
        while end + 2 < bytes.len() {
            let rest = &bytes[end..];
            if rest[0] != self.wire[0] {
                break;
            }
            let (length, header) = match rest {
                [_, low, ..] if *low < 0x80 => (*low as usize, 2),
                [_, low, high, ..] if *high < 0x80 && *high > 0 => {
                    ((*low as usize & 0x7F) | ((*high as usize) << 7), 3)
                }
                _ => break,
            };
            let whole = header + length;
            let bare = if version_5 { rest.get(header + prefix.len()) == Some(&0) } else { true };
            let floor = prefix.len() + usize::from(version_5);
            if whole > rest.len() || whole > packet_max as usize || length < floor || !bare {
                break;
            }
            if &rest[header..header + prefix.len()] != prefix {
                break;
            }
            end += whole;
            self.count += 1;
            self.longest = self.longest.max(whole);
        }
        self.wire = &bytes[..end];
    }

    /// The messages one by one.
    pub(crate) fn messages(&self) -> impl Iterator<Item = MessageView<'a>> + 'a {
        let (version, origin) = (self.version, self.origin.as_u64());
        let mut rest = self.wire;
        std::iter::from_fn(move || {
            let Ok(Split::Packet(frame)) = split(rest, u32::MAX) else { return None };
            rest = &rest[frame.len..];
            let publish = decode_publish(version, frame.first, frame.body).ok()?;
            Some(MessageView {
                topic: publish.topic,
                payload: publish.payload,
                qos: QoS::AtMostOnce,
                retain: false,
                properties: publish.properties,
                expires_at: None,
                origin,
            })
        })
    }
}

impl<T: Send> Shard<T> {
    /// Sends a run to everything in `self.matches`. What is more than `spend` allows goes to the targets here a few at a
    /// time, while the publisher waits: each still gets it in one piece.
    pub(crate) fn route_run<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        publisher: u32,
        run: &Run<'_>,
        spend: &mut Spend,
    ) {
        let matches = std::mem::take(&mut self.matches);
        let here = matches.few.iter().filter(|target| target.subscriber.shard == self.id).count();
        let work = run.wire.len().saturating_mul(here);
        let mut later = (work > spend.bytes as usize && here > 1)
            .then(|| self.own_batch(run.entry(), |batch| batch.wire_from(run.wire)));
        spend.bytes = spend.bytes.saturating_sub(work.min(u32::MAX as usize) as u32);
        if matches.is_empty() {
            self.counters.add(Metric::PublishUnmatched, u64::from(run.count));
        }
        let mut converted = std::mem::take(&mut self.converted);
        converted.clear();
        let mut ids = std::mem::take(&mut self.ids);
        let mut open = None;
        for (index, target) in matches.few.iter().enumerate() {
            let Some(grant) = grant_of(&matches, index, target, run.origin, &mut ids) else { continue };
            if let Some(batch) = &mut later
                && target.subscriber.shard == self.id
            {
                batch.add_target(target.subscriber, grant, &ids);
            } else if target.subscriber.shard == self.id {
                let more = ids.get(1..).unwrap_or_default();
                self.deliver_run(driver, target.subscriber, grant, more, run, &mut converted);
            } else {
                let to = target.subscriber.shard;
                if open != Some(to) {
                    self.open_entry(to, run.entry());
                    self.batch(to).wire_from(run.wire);
                    open = Some(to);
                }
                self.batch(to).add_target(target.subscriber, grant, &ids);
            }
        }
        if let Some(batch) = later {
            self.begin_job(batch, publisher);
        }
        for snapshot in &matches.large {
            self.route_large(publisher, snapshot, run.entry(), |batch| batch.wire_from(run.wire));
        }
        for group in &matches.groups {
            for view in run.messages() {
                self.route_shared(driver, *group, &view, matches.topic_hash);
            }
        }
        self.converted = converted;
        self.ids = ids;
        let crossed = open.is_some() || !matches.large.is_empty() || !matches.groups.is_empty();
        self.matches = matches;
        if crossed {
            self.post_early(driver);
        }
        if crossed || self.live_bytes() > self.live_bytes_max() {
            self.pause_if_crowded(driver, publisher);
        }
    }

    /// Sends one message to everything that it matches, as [`Shard::route_run`] does. `publisher`: the connection that
    /// waits if this is too much. Answers whether anything matched.
    pub(crate) fn route_one<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        view: &MessageView<'_>,
        publisher: Option<u32>,
        spend: &mut Spend,
    ) -> bool {
        // Sessions without a connection too [MQTT-4.5.0-1] [MQTT3-4.5.0-1]; nobody else [MQTT-3.3.2-3] [MQTT3-3.3.2-3].
        self.router.matches(self.id, view.topic, &mut self.matches);
        if self.matches.truncated {
            self.counters.bump(Metric::MatchesTruncated);
        }
        let matches = std::mem::take(&mut self.matches);
        if matches.is_empty() {
            self.counters.bump(Metric::PublishUnmatched);
            self.matches = matches;
            return false;
        }
        let here = matches.few.iter().filter(|target| target.subscriber.shard == self.id).count();
        let work = view.payload.len().saturating_add(OVERHEAD).saturating_mul(here);
        let mut later = (work > spend.bytes as usize && here > 1)
            .then(|| self.own_batch(self.entry_of(view), |batch| batch.wire_of(view)));
        let origin = Subscriber::from_u64(view.origin);
        let mut encoded = std::mem::take(&mut self.encoded);
        let mut shared = Shared::borrowed(*view, &mut encoded);
        let mut ids = std::mem::take(&mut self.ids);
        let mut open = None;
        for (index, target) in matches.few.iter().enumerate() {
            let Some(grant) = grant_of(&matches, index, target, origin, &mut ids) else { continue };
            if let Some(batch) = &mut later
                && target.subscriber.shard == self.id
            {
                self.expect_receipt(grant.durable(), batch);
                batch.add_target(target.subscriber, grant, &ids);
            } else if target.subscriber.shard == self.id {
                self.deliver_one(&mut shared, target.subscriber, grant, &ids, false);
            } else {
                let to = target.subscriber.shard;
                if open != Some(to) {
                    self.open_entry(to, self.entry_of(view));
                    self.batch(to).wire_of(view);
                    open = Some(to);
                }
                if let Some(publishing) = &mut self.publishing {
                    let batch = self.outgoing[to as usize].as_mut();
                    batch.into_iter().for_each(|batch| publishing.expect(grant.durable(), batch));
                }
                self.batch(to).add_target(target.subscriber, grant, &ids);
            }
        }
        self.encoded = encoded;
        self.ids = ids;
        self.finish_publishing_here();
        let waits = publisher.unwrap_or(NONE);
        if let Some(batch) = later {
            self.begin_job(batch, waits);
        }
        for snapshot in &matches.large {
            self.route_large(waits, snapshot, self.entry_of(view), |batch| batch.wire_of(view));
        }
        for group in &matches.groups {
            self.route_shared(driver, *group, view, matches.topic_hash);
        }
        spend.deliveries = spend.deliveries.saturating_sub(deliveries_in(&matches));
        spend.bytes = spend.bytes.saturating_sub(u32::try_from(work).unwrap_or(u32::MAX));
        let crossed = open.is_some() || !matches.large.is_empty() || !matches.groups.is_empty();
        self.matches = matches;
        if crossed {
            self.post_early(driver);
        }
        if let Some(publisher) = publisher
            && (crossed || self.live_bytes() > self.live_bytes_max())
        {
            self.pause_if_crowded(driver, publisher);
        }
        true
    }

    /// A set too large to copy: its members here are worked off in chunks while the publisher waits; elsewhere the
    /// receiving shard does the same.
    fn route_large(&mut self, publisher: u32, snapshot: &Snapshot, mut entry: Entry, fill: impl Fn(&mut Batch)) {
        entry.large = Some(Box::new(snapshot.clone()));
        if let Some(publishing) = &mut self.publishing {
            // Some of its members may outlast the process, or none.
            entry.receipt = Some(publishing.another());
        }
        if snapshot.shard != self.id {
            self.open_entry(snapshot.shard, entry);
            fill(self.batch(snapshot.shard));
            return;
        }
        let batch = self.own_batch(entry, fill);
        self.begin_job(batch, publisher);
    }

    /// An entry for the message that is being delivered; its wire form follows by [`Batch::wire_of`].
    pub(crate) fn entry_of(&self, view: &MessageView<'_>) -> Entry {
        Entry { word: self.word, ..entry_of(view) }
    }

    /// A batch for targets that live here.
    fn own_batch(&mut self, entry: Entry, fill: impl FnOnce(&mut Batch)) -> Box<Batch> {
        let mut batch = self.spare.pop().unwrap_or_default();
        batch.home = self.id;
        batch.open(entry);
        fill(&mut batch);
        batch
    }

    /// Works a batch off in this and later turns, while the publisher waits.
    fn begin_job(&mut self, batch: Box<Batch>, publisher: u32) {
        let owner = self.conns.get_mut(publisher).map(|conn| {
            conn.jobs += 1;
            publisher
        });
        let generation = owner.and_then(|slot| self.conns.generation(slot)).unwrap_or(0);
        self.jobs.push_back(Job { progress: Progress::new(batch), owner, generation });
    }

    /// One message to one member of a group.
    fn route_shared<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        group: GroupRef,
        view: &MessageView<'_>,
        topic_hash: u64,
    ) {
        let client_hash = self.client_hash(Subscriber::from_u64(view.origin));
        let attempt = GroupTry { group, topic_hash, client_hash, tried: None };
        self.try_group(driver, attempt, None, view, None);
        self.finish_publishing_here();
    }

    /// Hash of the publisher's client id, where the strategy asks for it.
    pub(crate) fn client_hash(&self, origin: Subscriber) -> u64 {
        if self.router.options().strategy != Strategy::HashClientId || origin.shard != self.id {
            return 0;
        }
        self.sessions.get(origin.slot).map_or(0, |resident| hash_id(self.seed, resident.session.client_id()))
    }

    /// Picks a member that is neither `attempt.tried` nor `failed`, and delivers; at most two members are tried.
    pub(crate) fn try_group<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        mut attempt: GroupTry,
        failed: Option<Subscriber>,
        view: &MessageView<'_>,
        receipt: Option<Receipt>,
    ) -> Tried {
        let mut tried = [attempt.tried, failed].into_iter().flatten().collect::<TriedMembers>();
        while tried.count < 2 {
            let random = self.chance();
            let ticket = PickTicket {
                shard: self.id,
                topic_hash: attempt.topic_hash,
                client_hash: attempt.client_hash,
                random,
                tried: tried.as_slice(),
            };
            let Some((target, online)) = self.router.pick_present(attempt.group, &ticket) else {
                return Tried::Nobody;
            };
            if !online && tried.count == 0 && self.put_in_pool(view, attempt.group, target, false) {
                return Tried::Here;
            }
            if tried.count > 0 {
                self.counters.bump(Metric::SharedBounced);
            }
            attempt.tried = tried.as_slice().first().copied();
            match self.give_to_member(driver, view, target, attempt, receipt) {
                Tried::Nobody => tried.push(target.subscriber),
                tried => return tried,
            }
        }
        if self.word == Word::Given {
            return self.insist(driver, attempt, view, receipt);
        }
        Tried::Nobody
    }

    /// One message to one member of a group. Nobody: it is gone, or has dropped it.
    pub(crate) fn give_to_member<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        view: &MessageView<'_>,
        target: Target,
        attempt: GroupTry,
        receipt: Option<Receipt>,
    ) -> Tried {
        let who = target.subscriber;
        if who.shard != self.id {
            return self.send_to_member(driver, view, target, attempt, receipt);
        }
        let mut encoded = std::mem::take(&mut self.encoded);
        let mut shared = Shared::borrowed(*view, &mut encoded);
        let ids = target.grant.subscription_ids();
        let outcome = self.deliver_one(&mut shared, who, target.grant, ids, true);
        self.encoded = encoded;
        match outcome {
            Some(Delivered::Dropped(DropReason::Expired)) => Tried::Here,
            Some(Delivered::Dropped(_)) | None => Tried::Nobody,
            Some(Delivered::Sent | Delivered::Queued | Delivered::Behind) => Tried::Here,
        }
    }

    /// One message to one group member at another shard. `receipt`: of the entry that brought it here; who publishes here has one
    /// of its own.
    fn send_to_member<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        view: &MessageView<'_>,
        target: Target,
        attempt: GroupTry,
        receipt: Option<Receipt>,
    ) -> Tried {
        let to = target.subscriber.shard;
        let mut entry = self.entry_of(view);
        entry.group = Some(attempt);
        entry.receipt = match &mut self.publishing {
            Some(publishing) if target.grant.durable() => Some(publishing.another()),
            _ => receipt,
        };
        self.open_entry(to, entry);
        self.batch(to).wire_of(view);
        self.batch(to).add_target(target.subscriber, target.grant, &[]);
        self.post_early(driver);
        Tried::Elsewhere
    }

    /// A part of a publish is served later by a batch for targets here.
    fn expect_receipt(&mut self, durable: bool, batch: &mut Batch) {
        if let Some(publishing) = &mut self.publishing {
            publishing.expect(durable, batch);
        }
    }

    /// What was delivered here joins the batch of the store; the publisher waits for that.
    fn finish_publishing_here(&mut self) {
        if self.finish_keeping()
            && let Some(publishing) = &mut self.publishing
        {
            publishing.here = true;
        }
    }

    /// The batch for a shard, being filled.
    pub(crate) fn batch(&mut self, to: ShardId) -> &mut Batch {
        self.outgoing[to as usize].get_or_insert_with(|| {
            let mut batch = self.spare.pop().unwrap_or_default();
            batch.home = self.id;
            batch
        })
    }

    pub(crate) fn open_entry(&mut self, to: ShardId, entry: Entry) {
        self.batch(to).open(entry);
    }

    /// Sends what has grown large.
    pub(crate) fn post_early<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        for to in 0..self.outgoing.len() {
            if self.outgoing[to].as_ref().is_some_and(|batch| batch.bytes() > POST_EARLY)
                && let Some(batch) = self.outgoing[to].take()
            {
                driver.send(to as ShardId, Mail::Batch(batch));
            }
        }
    }

    /// Sends everything.
    pub(crate) fn post<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        for to in 0..self.outgoing.len() {
            if let Some(batch) = self.outgoing[to].take() {
                driver.send(to as ShardId, Mail::Batch(batch));
            }
        }
    }

    /// A publisher that fills a mailbox or the shard's memory stops reading until there is room.
    fn pause_if_crowded<D: Driver<Transport = T>>(&mut self, driver: &mut D, publisher: u32) {
        if self.crowded(driver, self.options.mailbox_bytes as usize, self.live_bytes_max())
            && let Some(conn) = self.conns.get_mut(publisher)
            && !conn.flags.holds.has(hold::PAUSED)
        {
            conn.flags.holds.put(hold::PAUSED, true);
            self.paused.push_back(publisher);
            self.counters.bump(Metric::ReadersPaused);
        }
    }

    pub(crate) fn crowded<D: Driver<Transport = T>>(&self, driver: &D, mailbox: usize, memory: u64) -> bool {
        self.live_bytes() > memory
            || (0..self.shards).any(|to| {
                let filling = self.outgoing[to as usize].as_ref().map_or(0, |batch| batch.bytes());
                to != self.id && driver.backlog_bytes(to) + filling > mailbox
            })
    }

    /// Lets paused readers go on once half the room is free again.
    pub(crate) fn resume_paused<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        if self.paused.is_empty() {
            return;
        }
        let memory = self.live_bytes_max() / 8 * 7;
        if self.crowded(driver, self.options.mailbox_bytes as usize / 2, memory) {
            if self.live_bytes() > memory {
                self.resume_one_that_owes();
            }
            return;
        }
        for slot in std::mem::take(&mut self.paused) {
            self.resume(slot);
        }
    }

    /// Whoever waits for want of memory may owe the acknowledgements that would make room, and they may stand behind
    /// messages of its own: one such connection a turn goes on, and waits again after its next message. Without this,
    /// clients that both publish and subscribe could hold each other for ever.
    fn resume_one_that_owes(&mut self) {
        for _ in 0..self.paused.len().min(PAUSED_LOOKS) {
            let Some(slot) = self.paused.pop_front() else { return };
            let Some(conn) = self.conns.get(slot).filter(|conn| conn.flags.holds.has(hold::PAUSED)) else { continue };
            if self.sessions.get(conn.session).is_some_and(|resident| resident.session.inflight_len() > 0) {
                self.resume(slot);
                return;
            }
            self.paused.push_back(slot);
        }
    }

    fn resume(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.holds.put(hold::PAUSED, false);
            self.schedule(slot);
        }
    }
}

/// What a message costs its publisher, in deliveries: targets, and the search for them where many filters came into
/// question.
pub(crate) fn deliveries_in(matches: &Matches) -> u32 {
    let targets = (matches.few.len() + matches.groups.len()) as u32;
    (targets + matches.visited / VISITS_PER_DELIVERY).max(1)
}

/// On which terms a target gets the message, and with which identifiers; `None`: it is the publisher, and said no-local.
#[inline]
pub(crate) fn grant_of(
    matches: &Matches,
    index: usize,
    target: &Target,
    origin: Subscriber,
    ids: &mut Vec<u32>,
) -> Option<PackedGrant> {
    let to_publisher = target.subscriber == origin;
    ids.clear();
    if !to_publisher && matches.extra_ids.is_empty() {
        let id = target.grant.subscription_id();
        if id != 0 {
            ids.push(id);
        }
        return Some(target.grant);
    }
    let grant = matches.grant(index, to_publisher)?; // [MQTT-3.8.3-3]
    matches.subscription_ids(index, to_publisher, ids);
    Some(grant)
}

/// What became of a message for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tried {
    /// A member here has it, or it has expired.
    Here,
    /// It is on its way to another shard, with its receipt.
    Elsewhere,
    /// There is nobody who could take it.
    Nobody,
}

/// A publish with QoS 1 or 2 on its way to its targets, and how much has to be stored before it is acknowledged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publishing {
    pub(crate) receipt: Receipt,
    /// Receipts that are expected.
    pub(crate) parts: u16,
    /// Something was recorded here.
    pub(crate) here: bool,
}

impl Publishing {
    /// The entry opened last tells when it is stored, if it has a target that outlasts the process.
    fn expect(&mut self, durable: bool, batch: &mut Batch) {
        if let Some(entry) = batch.entries.last_mut()
            && durable
            && entry.receipt.is_none()
        {
            entry.receipt = Some(self.another());
        }
    }

    fn another(&mut self) -> Receipt {
        self.parts += 1;
        self.receipt
    }
}

/// Members that did not take a message: two at most.
struct TriedMembers {
    members: [Subscriber; 2],
    count: usize,
}

impl TriedMembers {
    fn push(&mut self, member: Subscriber) {
        if self.count < 2 {
            self.members[self.count] = member;
        }
        self.count += 1;
    }

    fn as_slice(&self) -> &[Subscriber] {
        &self.members[..self.count.min(2)]
    }
}

impl FromIterator<Subscriber> for TriedMembers {
    fn from_iter<I: IntoIterator<Item = Subscriber>>(members: I) -> Self {
        let mut tried = Self { members: [Subscriber::from_u64(0); 2], count: 0 };
        members.into_iter().for_each(|member| tried.push(member));
        tried
    }
}

impl Run<'_> {
    fn entry(&self) -> Entry {
        Entry {
            wire: (0, 0),
            count: self.count,
            version: self.version,
            retain: false,
            expires_at: None,
            origin: self.origin.as_u64(),
            targets: (0, 0),
            large: None,
            group: None,
            receipt: None,
            position: Position(0),
            word: Word::None,
        }
    }
}

/// An entry for one message; its wire form follows by [`Batch::wire_of`].
pub(crate) fn entry_of(view: &MessageView<'_>) -> Entry {
    Entry {
        wire: (0, 0),
        count: 1,
        version: canonical_version(view),
        retain: view.retain,
        expires_at: view.expires_at,
        origin: view.origin,
        targets: (0, 0),
        large: None,
        group: None,
        receipt: None,
        position: Position(0),
        word: Word::None,
    }
}

/// Between shards a message travels in the leaner layout unless it has properties.
fn canonical_version(view: &MessageView<'_>) -> Version {
    if view.properties.is_empty() { Version::V311 } else { Version::V5 }
}

impl Batch {
    /// Begins an entry: its wire bytes and targets follow.
    pub(crate) fn open(&mut self, mut entry: Entry) {
        let wire = self.wire.len() as u32;
        let targets = self.targets.len() as u32;
        entry.wire = (wire, wire);
        entry.targets = (targets, targets);
        self.entries.push(entry);
    }

    /// Wire bytes of a run, as they are.
    pub(crate) fn wire_from(&mut self, bytes: &[u8]) {
        self.wire.extend_from_slice(bytes);
        self.close_wire();
    }

    /// Wire bytes of one message.
    pub(crate) fn wire_of(&mut self, view: &MessageView<'_>) {
        let packet = OutPublish {
            dup: false,
            qos: view.qos,
            retain: false,
            packet_id: u16::from(view.qos != QoS::AtMostOnce),
            topic: view.topic,
            topic_alias: 0,
            expiry: None,
            subscription_ids: &[],
            properties: view.properties,
            payload: view.payload,
        };
        packet.encode(canonical_version(view), &mut self.wire);
        self.close_wire();
    }

    fn close_wire(&mut self) {
        let end = self.wire.len() as u32;
        if let Some(entry) = self.entries.last_mut() {
            entry.wire.1 = end;
        }
    }

    /// One more target of the entry opened last. `ids`: all subscription identifiers, the first one being the grant's.
    pub(crate) fn add_target(&mut self, who: Subscriber, grant: PackedGrant, ids: &[u32]) {
        let more = ids.get(1..).unwrap_or_default();
        self.ids.extend_from_slice(more);
        self.targets.push(Routed { slot: who.slot, generation: who.generation, more_ids: more.len() as u16, grant });
        let end = self.targets.len() as u32;
        if let Some(entry) = self.entries.last_mut() {
            entry.targets.1 = end;
        }
    }
}
