//! Broker to client: what a session does about a message that the router has for it.

mod moving;

use breakwater_proto::{Ack, Instant, Message, OutPublish, QoS, ReasonCode, Version, encode_pubrel};

use crate::aliases::AliasChoice;
use crate::delivery::{Kept, Layout, Note};
use crate::inflight::{Entry, Inflight, Resend, advance};
use crate::queue::{Pending, Pushed, Queue};
use crate::{Delivered, Delivery, DropReason, Env, Limits, Link, Pumped, Session, Shared};

/// What an acknowledgement from the client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acked {
    /// The delivery is over.
    Finished,
    /// PUBREC taken, PUBREL written.
    Released,
    /// Nothing with this id waits for this packet.
    Unknown,
}

/// Unfinished business of QoS 1 and 2 towards the client, and the queue.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    inflight: Inflight,
    queue: Queue,
}

impl Outbound {
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Outbound>() + self.inflight.heap_bytes() + self.queue.heap_bytes()
    }
}

impl Session {
    /// Sends a message to the client, or keeps it, or drops it for a stated reason.
    #[inline]
    pub fn deliver(
        &mut self,
        link: Option<&mut Link>,
        message: &mut Shared<'_>,
        delivery: &Delivery<'_>,
        env: &mut Env<'_>,
    ) -> Delivered {
        if is_expired(message.view_ref().expires_at, env.now) {
            return dropped(DropReason::Expired, env); // [MQTT-3.3.2-5]
        }
        match link {
            Some(link) if delivery.qos == QoS::AtMostOnce => self.deliver_at_most_once(link, message, delivery, env),
            Some(link) => self.deliver_acknowledged(link, message, delivery, env),
            None => self.deliver_offline(message, delivery, env),
        }
    }

    /// PUBACK. What waited for quota goes with the next call of [`Session::pump`], so that acknowledgements which came
    /// together cost one.
    #[inline]
    pub fn on_puback(&mut self, _link: &mut Link, ack: &Ack<'_>, env: &mut Env<'_>) -> Acked {
        let Some(outbound) = self.outbound.as_deref_mut() else { return Acked::Unknown };
        match outbound.inflight.get(ack.packet_id) {
            Some(Entry::Published(pending)) if pending.qos() == QoS::AtLeastOnce && pending.was_sent() => {
                env.forget(pending.kept());
                outbound.inflight.finish(ack.packet_id); // whatever the code says [MQTT-4.4.0-2] [MQTT-4.8.2-6]
                Acked::Finished
            }
            _ => Acked::Unknown,
        }
    }

    /// PUBREC. Answers PUBREL, or ends the delivery if the client refused it; then call [`Session::pump`].
    #[inline]
    pub fn on_pubrec(&mut self, link: &mut Link, ack: &Ack<'_>, env: &mut Env<'_>) -> Acked {
        let id = ack.packet_id;
        let inflight = self.outbound.as_deref_mut().map(|outbound| &mut outbound.inflight);
        let mut waits = false;
        let (acked, reason) = match inflight.as_ref().and_then(|inflight| inflight.get(id)) {
            Some(Entry::Published(pending)) if pending.qos() == QoS::ExactlyOnce && pending.was_sent() => {
                let (refused, kept) = (ack.reason.is_error(), pending.kept()); // then it is over [MQTT-4.4.0-2] [MQTT-4.8.2-6]
                let is_kept = kept != Kept::default();
                if is_kept && refused {
                    env.report.notes.extend([Note::Forgotten(kept), Note::Finished { packet_id: id }]);
                } else if is_kept {
                    env.report.notes.push(Note::Received { packet_id: id, kept });
                    waits = true;
                }
                (if refused { Acked::Finished } else { Acked::Released }, ReasonCode::Success)
            }
            Some(Entry::Released { waits: not_yet, .. }) => {
                waits = *not_yet;
                (Acked::Released, ReasonCode::Success)
            }
            // The client waits for a PUBREL all the same; without one it would keep the id for ever.
            _ => (Acked::Unknown, ReasonCode::PacketIdentifierNotFound),
        };
        if let Some(inflight) = inflight {
            match acked {
                Acked::Finished => inflight.finish(id),
                Acked::Released => inflight.release(id),
                Acked::Unknown => {}
            }
        }
        if acked != Acked::Finished && !waits {
            // In the order of the PUBRECs [MQTT3-4.6.0-4], without Reason String [MQTT-3.6.2-2] or User Property
            // [MQTT-3.6.2-3], so that there is nothing to leave out.
            encode_pubrel(link.version, id, reason, env.out); // [MQTT-4.3.3-4]
        }
        acked
    }

    /// PUBCOMP. Like PUBACK.
    #[inline]
    pub fn on_pubcomp(&mut self, _link: &mut Link, ack: &Ack<'_>, env: &mut Env<'_>) -> Acked {
        let Some(outbound) = self.outbound.as_deref_mut() else { return Acked::Unknown };
        match outbound.inflight.get(ack.packet_id) {
            Some(Entry::Released { kept, waits: false }) => {
                if *kept {
                    env.report.notes.push(Note::Finished { packet_id: ack.packet_id });
                }
                outbound.inflight.finish(ack.packet_id);
                Acked::Finished
            }
            _ => Acked::Unknown,
        }
    }

    /// The store has what a [`Note::Begun`] or [`Note::Received`] said. What it held up goes with the next call of
    /// [`Session::pump`]; a PUBREL that a client waits for is written at once.
    pub fn on_stored(&mut self, packet_id: u16, connection: Option<(&mut Link, &mut Vec<u8>)>) {
        let Some(outbound) = self.outbound.as_deref_mut() else { return };
        let outstanding = outbound.inflight.is_outstanding(packet_id);
        match outbound.inflight.get_mut(packet_id) {
            Some(Entry::Published(pending)) => pending.set_waits(false),
            Some(Entry::Released { waits, .. }) if *waits => {
                *waits = false;
                if let (Some((link, out)), true) = (connection, outstanding) {
                    encode_pubrel(link.version, packet_id, ReasonCode::Success, out); // [MQTT-4.3.3-4]
                }
            }
            _ => {}
        }
    }

    /// The store does not have the message of a delivery that has begun, and won't: it goes on from memory. Answers what the
    /// message was called.
    pub fn on_lost(&mut self, packet_id: u16) -> Option<Kept> {
        let Some(Entry::Published(pending)) = self.outbound.as_deref_mut()?.inflight.get_mut(packet_id) else {
            return None;
        };
        let kept = pending.kept();
        pending.lose();
        Some(kept).filter(|kept| *kept != Kept::default())
    }

    /// What an earlier life of the broker has begun with QoS 2: packet identifiers, and whether PUBREC came. Messages that it
    /// sent, and of which none came, follow by [`Session::fill`].
    pub fn restore_outbound(&mut self, mut flights: Vec<(u16, bool)>) {
        flights.retain(|(id, _)| *id != 0);
        if flights.is_empty() {
            return;
        }
        flights.sort_unstable_by_key(|(id, _)| *id);
        flights.dedup_by_key(|(id, _)| *id);
        // Ids are given in a circle: the oldest follows the widest gap.
        let gap = |at: usize| {
            let before = flights[(at + flights.len() - 1) % flights.len()].0;
            flights[at].0.wrapping_sub(before).wrapping_sub(1)
        };
        let oldest = (0..flights.len()).max_by_key(|at| gap(*at)).unwrap_or(0);
        flights.rotate_left(oldest);
        let outbound = self.outbound.get_or_insert_default();
        self.next_id = outbound.inflight.restore(&flights);
    }

    /// The message of a delivery that an earlier life of the broker has begun.
    pub fn fill(&mut self, packet_id: u16, message: Message, delivery: &Delivery<'_>) {
        if let Some(outbound) = self.outbound.as_deref_mut() {
            outbound.inflight.fill(packet_id, Pending::new(message, delivery));
        }
    }

    /// The store has nothing more to say of what was begun: what is still missing is lost. Answers its packet identifiers.
    pub fn give_up_missing(&mut self) -> Vec<u16> {
        let Some(outbound) = self.outbound.as_deref_mut() else { return Vec::new() };
        let missing: Vec<u16> = outbound.inflight.missing().collect();
        missing.iter().for_each(|id| outbound.inflight.finish(*id));
        missing
    }

    /// Whether deliveries that were begun lack their messages.
    #[must_use]
    pub fn has_missing(&self) -> bool {
        self.outbound.as_deref().is_some_and(|outbound| outbound.inflight.missing().next().is_some())
    }

    /// So many messages more wait in the store alone.
    pub fn add_behind(&mut self, messages: u32, bytes: u64) {
        self.outbound.get_or_insert_default().queue.add_behind(messages, bytes);
    }

    /// A message that was in the store alone, oldest first, with how long it has waited. `sent`: it may have been sent before.
    pub fn take_back(
        &mut self,
        message: Message,
        delivery: &Delivery<'_>,
        (sent, age_s): (bool, u32),
        (now, limits): (Instant, &Limits),
    ) {
        let mut pending = Pending::new(message, delivery);
        if sent {
            pending.set_sent();
        }
        self.outbound.get_or_insert_default().queue.take_back(pending, age_s, now, limits);
    }

    /// So many messages that were in the store alone are there no longer.
    pub fn leave_behind(&mut self, messages: u32, bytes: u64) {
        if let Some(outbound) = self.outbound.as_deref_mut() {
            outbound.queue.leave_behind(messages, bytes);
        }
    }

    /// Whether messages may wait in the store alone: others line up behind them there.
    #[inline]
    #[must_use]
    pub fn is_cut(&self) -> bool {
        self.outbound.as_deref().is_some_and(|outbound| outbound.queue.is_cut())
    }

    /// No message waits in the store alone any more.
    pub fn join(&mut self) {
        if let Some(outbound) = self.outbound.as_deref_mut() {
            outbound.queue.join();
        }
    }

    /// So many of those that wait in the store alone, the oldest, have given way, and the store is to forget them.
    #[must_use]
    pub fn excess(&self) -> u32 {
        self.outbound.as_deref().map_or(0, |outbound| outbound.queue.excess())
    }

    /// As [`Session::excess`]; the store is told from here on.
    pub fn take_excess(&mut self) -> u32 {
        self.outbound.as_deref_mut().map_or(0, |outbound| outbound.queue.take_excess())
    }

    /// So many of [`Session::take_excess`] the store could not be told of yet.
    pub fn add_excess(&mut self, messages: u32) {
        if messages > 0 {
            self.outbound.get_or_insert_default().queue.add_excess(messages);
        }
    }

    /// Calls `each` for every message of the store that this session holds in memory.
    pub fn each_kept(&self, mut each: impl FnMut(Kept)) {
        if let Some(outbound) = self.outbound.as_deref() {
            let held = outbound.inflight.unanswered().chain(outbound.queue.iter());
            held.map(Pending::kept).filter(|kept| *kept != Kept::default()).for_each(&mut each);
        }
    }

    /// Deliveries that were begun or may have been, by QoS 1: the oldest of the queue, as a start would find it.
    #[must_use]
    pub fn begun_len(&self) -> usize {
        let begun = |outbound: &Outbound| outbound.inflight.unanswered().filter(|pending| pending.was_sent()).count();
        self.outbound.as_deref().map_or(0, begun)
    }

    /// A new connection to this session: sends again what was begun, in its old order and with its ids, as far as quota and
    /// room allow, then goes on with the queue. [MQTT-4.4.0-1] [MQTT-4.6.0-1] [MQTT3-4.4.0-1] [MQTT3-4.6.0-1] [MQTT-4.8.2-4]
    pub fn resume(&mut self, link: &mut Link, env: &mut Env<'_>) -> Pumped {
        self.on_detach();
        self.pump(link, env)
    }

    /// Sends what waits while quota and room last. Call it when an acknowledgement came or the socket took some bytes.
    pub fn pump(&mut self, link: &mut Link, env: &mut Env<'_>) -> Pumped {
        let mut pumped = Pumped::default();
        let Some(outbound) = self.outbound.as_deref_mut() else { return pumped };
        let clear = resend(&mut outbound.inflight, link, env, &mut pumped);
        if clear || !pumped.more {
            send_queued(outbound, &mut self.next_id, clear, link, env, &mut pumped);
        }
        pumped
    }

    /// The session ends: takes out the messages of shared groups that another member may get. What was begun with QoS 2
    /// may not [MQTT-4.8.2-5]. Everything else that waited is gone.
    pub fn drain_unacked(&mut self) -> impl Iterator<Item = (Message, QoS, Kept)> + use<> {
        let Outbound { mut inflight, mut queue } = self.outbound.take().map(|outbound| *outbound).unwrap_or_default();
        let begun = inflight.drain().filter(|pending| pending.qos() != QoS::ExactlyOnce || !pending.was_sent());
        begun.chain(queue.take()).filter(Pending::shared).map(|pending| {
            let (qos, kept) = (pending.qos(), pending.kept());
            (pending.message, qos, kept)
        })
    }

    /// Packet identifiers of QoS 2 deliveries that have their place and were never sent.
    #[must_use]
    pub fn never_sent(&self) -> Vec<u16> {
        let outbound = self.outbound.as_deref();
        outbound.map_or(Vec::new(), |outbound| outbound.inflight.never_sent().collect())
    }

    /// Messages in the queue.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.outbound.as_deref().map_or(0, |outbound| outbound.queue.len())
    }

    /// Bytes that the queue keeps alive: what `queue_bytes_max` bounds.
    #[must_use]
    pub fn queue_bytes(&self) -> usize {
        self.outbound.as_deref().map_or(0, |outbound| outbound.queue.bytes())
    }

    /// Messages of the queue and bytes of them, those that are in the store alone included.
    #[must_use]
    pub fn queue_tally(&self) -> (u64, u64) {
        self.outbound.as_deref().map_or((0, 0), |outbound| outbound.queue.tally())
    }

    /// Whether nothing more would be taken under [`QueueFull::Refuse`](crate::QueueFull::Refuse). `was`: it was full before.
    #[must_use]
    pub fn queue_is_full(&self, limits: &Limits, was: bool) -> bool {
        self.outbound.as_deref().is_some_and(|outbound| outbound.queue.is_full(limits, was))
    }

    /// By how much [`Session::queue_tally`] has changed since this was asked before.
    pub fn recount_queue(&mut self) -> (i64, i64) {
        self.outbound.as_deref_mut().map_or((0, 0), |outbound| outbound.queue.recount())
    }

    /// All that [`Session::recount_queue`] has told.
    #[must_use]
    pub fn counted_queue(&self) -> (u64, u64) {
        self.outbound.as_deref().map_or((0, 0), |outbound| outbound.queue.counted())
    }

    /// As [`Session::counted_queue`]; from here on nothing of it counts.
    pub fn take_counted_queue(&mut self) -> (u64, u64) {
        self.outbound.as_deref_mut().map_or((0, 0), |outbound| outbound.queue.take_counted())
    }

    /// Deliveries of QoS 1 and 2 that were begun and are not finished.
    #[must_use]
    pub fn inflight_len(&self) -> usize {
        self.outbound.as_deref().map_or(0, |outbound| outbound.inflight.len())
    }

    /// Whether something waits to be sent, for whatever reason.
    #[inline]
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        let waits = |outbound: &Outbound| {
            !outbound.queue.is_empty() || outbound.inflight.has_resends() || outbound.queue.is_cut()
        };
        self.outbound.as_deref().is_some_and(waits)
    }

    pub(crate) fn detach_outbound(&mut self) {
        if let Some(outbound) = self.outbound.as_deref_mut() {
            outbound.inflight.rewind();
        }
        self.trim_outbound();
    }

    pub(crate) fn trim_outbound(&mut self) {
        let is_empty = |outbound: &Outbound| {
            let Outbound { inflight, queue } = outbound;
            let is_settled = queue.excess() == 0 && queue.counted() == (0, 0);
            queue.is_empty() && !queue.is_cut() && is_settled && inflight.len() == 0
        };
        if self.outbound.as_deref().is_some_and(is_empty) {
            self.outbound = None;
        }
    }

    #[inline]
    fn deliver_at_most_once(
        &mut self,
        link: &mut Link,
        message: &mut Shared<'_>,
        delivery: &Delivery<'_>,
        env: &mut Env<'_>,
    ) -> Delivered {
        if self.outbound.as_deref().is_some_and(|outbound| outbound.queue.holds_qos0()) {
            return self.enqueue(message, delivery, env); // [MQTT-4.6.0-5]
        }
        // [MQTT-4.3.1-1] [MQTT3-4.3.1-1]
        match write_shared(link, message, delivery, 0, env) {
            Fit::Sent => Delivered::Sent,
            Fit::TooLarge => dropped(DropReason::TooLarge, env),
            Fit::NoRoom => dropped(DropReason::SlowConsumer, env),
        }
    }

    #[inline]
    fn deliver_acknowledged(
        &mut self,
        link: &mut Link,
        message: &mut Shared<'_>,
        delivery: &Delivery<'_>,
        env: &mut Env<'_>,
    ) -> Delivered {
        let outbound = self.outbound.get_or_insert_default();
        // Nothing but such a PUBLISH ever waits for the window [MQTT-3.3.4-10] [MQTT-4.9.0-3], and it waits in line, whatever
        // its topic [MQTT-4.6.0-6] [MQTT3-4.6.0-5].
        if !outbound.queue.is_empty()
            || outbound.queue.is_cut()
            || !outbound.inflight.may_begin(link.window)
            || !outbound.inflight.has_byte_room(env.limits.inflight_bytes_max)
            // The id goes to the store with the message before the client gets to know it.
            || (delivery.qos == QoS::ExactlyOnce && delivery.kept != Kept::default())
        {
            return self.enqueue_and_line_up(link, message, delivery, env);
        }
        let id = self.next_id; // [MQTT-4.3.2-1] [MQTT-4.3.3-1]
        match write_shared(link, message, delivery, id, env) {
            Fit::Sent => {
                self.next_id = advance(id, 1); // [MQTT-2.2.1-4]
                outbound.inflight.begin(id, Pending::new(message.message(env.scratch).clone(), delivery));
                Delivered::Sent
            }
            Fit::TooLarge => dropped(DropReason::TooLarge, env), // [MQTT-3.1.2-25]
            Fit::NoRoom => self.enqueue(message, delivery, env),
        }
    }

    fn deliver_offline(&mut self, message: &mut Shared<'_>, delivery: &Delivery<'_>, env: &mut Env<'_>) -> Delivered {
        if delivery.qos == QoS::AtMostOnce && !(env.limits.queue_qos0 && self.is_durable()) {
            return dropped(DropReason::Offline, env);
        }
        self.enqueue(message, delivery, env) // [MQTT3-3.1.2-5]
    }

    /// What the store has need not wait in the queue for others that the store is to have first.
    fn enqueue_and_line_up(
        &mut self,
        link: &Link,
        message: &mut Shared<'_>,
        delivery: &Delivery<'_>,
        env: &mut Env<'_>,
    ) -> Delivered {
        let delivered = self.enqueue(message, delivery, env);
        if delivery.kept != Kept::default()
            && delivered == Delivered::Queued
            && let Some(outbound) = self.outbound.as_deref_mut()
            && outbound.queue.len() == 1
            && (delivery.qos == QoS::ExactlyOnce || outbound.inflight.has_resends())
        {
            line_up_queued(outbound, &mut self.next_id, link, env);
        }
        delivered
    }

    fn enqueue(&mut self, message: &mut Shared<'_>, delivery: &Delivery<'_>, env: &mut Env<'_>) -> Delivered {
        let queue = &mut self.outbound.get_or_insert_default().queue;
        while let Some(reason) = queue.front_is_over(env.now, env.limits)
            && let Some(first) = queue.pop()
        {
            env.drop_pending(reason, &first);
        }
        let pending = Pending::new(message.message(env.scratch).clone(), delivery);
        let (limits, spill) = (env.limits, (delivery.spill, env.now));
        let pushed = queue.push(pending, limits, spill, |displaced| {
            env.drop_for(DropReason::QueueFull);
            env.forget(displaced.map_or(Kept::default(), |displaced| displaced.kept()));
        });
        match pushed {
            Pushed::Taken => Delivered::Queued,
            Pushed::Behind => Delivered::Behind,
            Pushed::Refused => dropped(DropReason::QueueFull, env),
        }
    }
}

/// Sends again what was begun on an earlier connection. False: some of it still waits, so nothing new may begin.
fn resend(inflight: &mut Inflight, link: &mut Link, env: &mut Env<'_>, pumped: &mut Pumped) -> bool {
    let window = link.window;
    loop {
        let quota_left = inflight.quota_left(window);
        match inflight.next_resend() {
            None => return true,
            Some(Resend::Wait) => return false,
            Some(Resend::Release(id)) => {
                if !env.has_room(RELEASE_BYTES) {
                    pumped.more = true;
                    return false;
                }
                encode_pubrel(link.version, id, ReasonCode::Success, env.out);
                env.room = env.room.saturating_sub(RELEASE_BYTES);
            }
            Some(Resend::Publish(..)) if !quota_left => return false,
            Some(Resend::Publish(id, pending)) => {
                // [MQTT-3.3.1-1] [MQTT3-3.3.1-1]; expired or not, it was begun [MQTT-4.3.3-7].
                let dup = pending.was_sent();
                match write_pending(link, pending, id, dup, env) {
                    Fit::Sent => pending.set_sent(),
                    Fit::NoRoom => {
                        pumped.more = true;
                        return false;
                    }
                    Fit::TooLarge => {
                        env.drop_pending(DropReason::TooLarge, pending); // [MQTT-3.1.2-25]
                        if pending.kept() != Kept::default() && pending.qos() == QoS::ExactlyOnce {
                            env.report.notes.push(Note::Finished { packet_id: id });
                        }
                        inflight.finish(id);
                        continue;
                    }
                }
            }
        }
        inflight.resent();
        pumped.sent += 1;
    }
}

/// `clear`: everything that was begun is sent, so that new deliveries may be. Otherwise those that the store has line up.
fn send_queued(
    outbound: &mut Outbound,
    next_id: &mut u16,
    mut clear: bool,
    link: &mut Link,
    env: &mut Env<'_>,
    pumped: &mut Pumped,
) {
    while let Some(first) = outbound.queue.front() {
        if first.qos() != QoS::AtMostOnce && (!clear || needs_store_first(first)) {
            if !line_up_queued(outbound, next_id, link, env) {
                return;
            }
            clear = false;
            continue;
        }
        let Outbound { inflight, queue } = &mut *outbound;
        let Some(first) = queue.front() else { return };
        let id = if first.qos() == QoS::AtMostOnce { 0 } else { *next_id };
        let fit = if let Some(reason) = queue.front_is_over(env.now, env.limits) {
            env.drop_pending(reason, first);
            queue.pop();
            continue;
        } else if id != 0 && !(inflight.may_begin(link.window) && inflight.has_byte_room(env.limits.inflight_bytes_max))
        {
            return;
        } else {
            write_pending(link, first, id, first.was_sent(), env)
        };
        match fit {
            Fit::NoRoom => {
                pumped.more = true;
                return;
            }
            Fit::TooLarge => {
                env.drop_pending(DropReason::TooLarge, first); // [MQTT-3.1.2-25]
                queue.pop();
            }
            Fit::Sent => {
                pumped.sent += 1;
                if let (Some(sent), true) = (queue.pop(), id != 0) {
                    inflight.begin(id, sent);
                    *next_id = advance(id, 1);
                }
            }
        }
    }
}

/// Whether the store has to know its packet identifier before the client does.
fn needs_store_first(pending: &Pending) -> bool {
    pending.qos() == QoS::ExactlyOnce && pending.kept() != Kept::default()
}

/// Gives the front of the queue its place behind what was begun, to be sent when that is, and when the store has what it has to
/// have. Answers whether it did; false too for one that only memory has: it can wait where it is.
fn line_up_queued(outbound: &mut Outbound, next_id: &mut u16, link: &Link, env: &mut Env<'_>) -> bool {
    let Outbound { inflight, queue } = outbound;
    let Some(first) = queue.front() else { return false };
    let kept = first.kept();
    if kept == Kept::default() || first.qos() == QoS::AtMostOnce {
        return false;
    }
    if let Some(reason) = queue.front_is_over(env.now, env.limits) {
        env.drop_pending(reason, first);
        queue.pop();
        return true;
    }
    if !inflight.may_line_up(link.window, env.limits.inflight_bytes_max) {
        return false;
    }
    let Some(mut pending) = queue.pop() else { return false };
    let packet_id = *next_id;
    if pending.qos() == QoS::ExactlyOnce {
        pending.set_waits(true);
        env.report.notes.push(Note::Begun { packet_id, kept });
    }
    inflight.line_up(packet_id, pending);
    *next_id = advance(packet_id, 1);
    true
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Sent,
    NoRoom,
    TooLarge,
}

/// Writes a message that goes to many sessions: where nothing in it is this client's own, the bytes encoded for an earlier
/// one are copied.
#[inline]
fn write_shared(
    link: &mut Link,
    message: &mut Shared<'_>,
    delivery: &Delivery<'_>,
    packet_id: u16,
    env: &mut Env<'_>,
) -> Fit {
    let view = message.view_ref();
    let layout = Layout::new(link.version, delivery.qos, delivery.retain);
    let same_for_all = !link.has_own_bytes()
        && (!link.version.is_v5() || (delivery.subscription_ids.is_empty() && view.expires_at.is_none()));
    if same_for_all && let Some(len) = message.encoded_len(layout) {
        let fit = fits(len, link, env);
        if fit == Fit::Sent && message.append_encoded(layout, packet_id, env.out) {
            env.room = env.room.saturating_sub(len);
        }
        return fit;
    }
    let start = env.out.len();
    let publish = OutPublish {
        dup: false, // whatever the publisher sent [MQTT-3.3.1-3] [MQTT3-3.3.1-3] [MQTT-4.3.2-2] [MQTT-4.3.3-2]
        qos: delivery.qos,
        retain: delivery.retain,
        packet_id,
        topic: view.topic,
        topic_alias: 0,
        expiry: expiry(view.expires_at, env.now),
        subscription_ids: delivery.subscription_ids,
        properties: view.properties,
        payload: view.payload,
    };
    let fit = write(link, publish, env);
    if same_for_all && fit == Fit::Sent {
        message.remember(layout, &env.out[start..]);
    }
    fit
}

/// Writes a message from the session's own copy.
fn write_pending(link: &mut Link, pending: &Pending, packet_id: u16, dup: bool, env: &mut Env<'_>) -> Fit {
    let view = pending.message.view();
    let mut one = 0;
    let publish = OutPublish {
        dup: dup && pending.qos() != QoS::AtMostOnce,
        qos: pending.qos(),
        retain: pending.retain(),
        packet_id,
        topic: view.topic,
        topic_alias: 0,
        expiry: expiry(view.expires_at, env.now),
        subscription_ids: pending.subscription_ids(&mut one),
        properties: view.properties,
        payload: view.payload,
    };
    write(link, publish, env)
}

/// Encodes a PUBLISH into the out buffer if it has room and the client takes packets of that size.
#[inline]
fn write(link: &mut Link, publish: OutPublish<'_>, env: &mut Env<'_>) -> Fit {
    if link.has_own_bytes() {
        return write_own(link, publish, env);
    }
    // Most packets are far from both bounds: no need to know their length to the byte.
    if ceiling(&publish) > env.room.min(link.maximum_packet_size as usize) {
        let fit = fits(publish.encoded_len(link.version), link, env);
        if fit != Fit::Sent {
            return fit;
        }
    }
    encode(link.version, &publish, env);
    Fit::Sent
}

/// The same for a client that takes topic aliases, or has a mountpoint.
fn write_own(link: &mut Link, mut publish: OutPublish<'_>, env: &mut Env<'_>) -> Fit {
    let topic = link.name_of(publish.topic);
    let mut choice = match link.aliases_out.as_deref_mut() {
        Some(aliases) => aliases.choose(topic),
        None => AliasChoice::None,
    };
    let ceiling = ceiling(&publish);
    set_alias(&mut publish, topic, choice);
    if ceiling > env.room.min(link.maximum_packet_size as usize) {
        let mut fit = fits(publish.encoded_len(link.version), link, env);
        if let (AliasChoice::New(_), true) = (choice, fit != Fit::Sent) {
            choice = AliasChoice::None;
            set_alias(&mut publish, topic, choice);
            fit = fits(publish.encoded_len(link.version), link, env);
        }
        if fit != Fit::Sent {
            return fit;
        }
    }
    encode(link.version, &publish, env);
    if let (AliasChoice::New(alias), Some(aliases)) = (choice, link.aliases_out.as_deref_mut()) {
        aliases.assign(alias, topic);
    }
    Fit::Sent
}

#[inline]
fn encode(version: Version, publish: &OutPublish<'_>, env: &mut Env<'_>) {
    let start = env.out.len();
    publish.encode(version, env.out);
    env.room = env.room.saturating_sub(env.out.len() - start);
}

/// At least as long as the packet in any version, with or without an alias.
#[inline]
fn ceiling(publish: &OutPublish<'_>) -> usize {
    FIXED_BYTES_MAX
        + publish.topic.len()
        + publish.payload.len()
        + publish.properties.len()
        + 5 * publish.subscription_ids.len()
}

/// What is left of the Message Expiry Interval. [MQTT-3.3.2-6]
#[inline]
fn expiry(expires_at: Option<Instant>, now: Instant) -> Option<u32> {
    expires_at.map(|at| now.s_until(at))
}

#[inline]
fn set_alias<'a>(publish: &mut OutPublish<'a>, topic: &'a str, choice: AliasChoice) {
    (publish.topic, publish.topic_alias) = match choice {
        AliasChoice::None => (topic, 0),
        AliasChoice::Known(alias) => ("", alias),
        AliasChoice::New(alias) => (topic, alias),
    };
}

#[inline]
fn fits(len: usize, link: &Link, env: &Env<'_>) -> Fit {
    if len > link.maximum_packet_size as usize {
        Fit::TooLarge // [MQTT-3.1.2-24]
    } else if !env.has_room(len) {
        Fit::NoRoom
    } else {
        Fit::Sent
    }
}

#[inline]
fn is_expired(expires_at: Option<Instant>, now: Instant) -> bool {
    expires_at.is_some_and(|at| at <= now)
}

#[inline]
fn dropped(reason: DropReason, env: &mut Env<'_>) -> Delivered {
    env.drop_for(reason);
    Delivered::Dropped(reason)
}

const RELEASE_BYTES: usize = 4;

/// Type and Remaining Length (5), topic length (2), packet id (2), property length (4), expiry (5), alias (3).
const FIXED_BYTES_MAX: usize = 21;
