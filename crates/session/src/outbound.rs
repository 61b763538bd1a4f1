//! Broker to client: what a session does about a message that the router has for it.

use breakwater_proto::{Ack, Instant, Message, OutPublish, QoS, ReasonCode, Version, encode_pubrel};

use crate::aliases::AliasChoice;
use crate::delivery::Layout;
use crate::inflight::{Entry, Inflight, Resend, advance};
use crate::queue::{Pending, Queue};
use crate::{Delivered, Delivery, DropReason, Env, Link, Pumped, Session, Shared};

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
    pub fn on_puback(&mut self, _link: &mut Link, ack: &Ack<'_>, _env: &mut Env<'_>) -> Acked {
        let Some(outbound) = self.outbound.as_deref_mut() else { return Acked::Unknown };
        match outbound.inflight.get(ack.packet_id) {
            Some(Entry::Published(pending)) if pending.qos == QoS::AtLeastOnce => {
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
        let (acked, reason) = match inflight.as_ref().and_then(|inflight| inflight.get(id)) {
            Some(Entry::Published(pending)) if pending.qos == QoS::ExactlyOnce => {
                let refused = ack.reason.is_error(); // then it is over [MQTT-4.4.0-2] [MQTT-4.8.2-6]
                (if refused { Acked::Finished } else { Acked::Released }, ReasonCode::Success)
            }
            Some(Entry::Released) => (Acked::Released, ReasonCode::Success),
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
        if acked != Acked::Finished {
            // In the order of the PUBRECs [MQTT3-4.6.0-4], without Reason String [MQTT-3.6.2-2] or User Property
            // [MQTT-3.6.2-3], so that there is nothing to leave out.
            encode_pubrel(link.version, id, reason, env.out); // [MQTT-4.3.3-4]
        }
        acked
    }

    /// PUBCOMP. Like PUBACK.
    #[inline]
    pub fn on_pubcomp(&mut self, _link: &mut Link, ack: &Ack<'_>, _env: &mut Env<'_>) -> Acked {
        let Some(outbound) = self.outbound.as_deref_mut() else { return Acked::Unknown };
        match outbound.inflight.get(ack.packet_id) {
            Some(Entry::Released) => {
                outbound.inflight.finish(ack.packet_id);
                Acked::Finished
            }
            _ => Acked::Unknown,
        }
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
        if resend(&mut outbound.inflight, link, env, &mut pumped) {
            send_queued(outbound, &mut self.next_id, link, env, &mut pumped);
        }
        pumped
    }

    /// The session ends: takes out the messages of shared groups that another member may get. What was begun with QoS 2
    /// may not [MQTT-4.8.2-5]. Everything else that waited is gone.
    pub fn drain_unacked(&mut self) -> impl Iterator<Item = (Message, QoS)> + use<> {
        let Outbound { mut inflight, mut queue } = self.outbound.take().map(|outbound| *outbound).unwrap_or_default();
        let begun = inflight.drain().filter(|pending| pending.qos != QoS::ExactlyOnce);
        begun.chain(queue.take()).filter(|pending| pending.shared).map(|pending| (pending.message, pending.qos))
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

    /// Deliveries of QoS 1 and 2 that were begun and are not finished.
    #[must_use]
    pub fn inflight_len(&self) -> usize {
        self.outbound.as_deref().map_or(0, |outbound| outbound.inflight.len())
    }

    /// Whether something waits to be sent, for whatever reason.
    #[inline]
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        let waits = |outbound: &Outbound| !outbound.queue.is_empty() || outbound.inflight.has_resends();
        self.outbound.as_deref().is_some_and(waits)
    }

    pub(crate) fn detach_outbound(&mut self) {
        if let Some(outbound) = self.outbound.as_deref_mut() {
            outbound.inflight.rewind();
        }
        self.trim_outbound();
    }

    pub(crate) fn trim_outbound(&mut self) {
        let is_empty = |outbound: &Outbound| outbound.queue.is_empty() && outbound.inflight.len() == 0;
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
            || !outbound.inflight.may_begin(link.window)
            || !outbound.inflight.has_byte_room(env.limits.inflight_bytes_max)
        {
            return self.enqueue(message, delivery, env);
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

    fn enqueue(&mut self, message: &mut Shared<'_>, delivery: &Delivery<'_>, env: &mut Env<'_>) -> Delivered {
        let queue = &mut self.outbound.get_or_insert_default().queue;
        while queue.front().is_some_and(|first| is_expired(first.message.expires_at(), env.now)) {
            queue.pop();
            env.drop_for(DropReason::Expired);
        }
        let pending = Pending::new(message.message(env.scratch).clone(), delivery);
        let (taken, displaced) = queue.push(pending, env.limits);
        env.drops.queue_full += u64::from(displaced);
        if taken { Delivered::Queued } else { dropped(DropReason::QueueFull, env) }
    }
}

/// Sends again what was begun on an earlier connection. False: some of it still waits, so nothing new may begin.
fn resend(inflight: &mut Inflight, link: &mut Link, env: &mut Env<'_>, pumped: &mut Pumped) -> bool {
    let window = link.window;
    loop {
        let quota_left = inflight.quota_left(window);
        match inflight.next_resend() {
            None => return true,
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
                let dup = true;
                match write_pending(link, pending, id, dup, env) {
                    Fit::Sent => {}
                    Fit::NoRoom => {
                        pumped.more = true;
                        return false;
                    }
                    Fit::TooLarge => {
                        inflight.finish(id);
                        env.drop_for(DropReason::TooLarge); // [MQTT-3.1.2-25]
                        continue;
                    }
                }
            }
        }
        inflight.resent();
        pumped.sent += 1;
    }
}

fn send_queued(outbound: &mut Outbound, next_id: &mut u16, link: &mut Link, env: &mut Env<'_>, pumped: &mut Pumped) {
    let Outbound { inflight, queue } = outbound;
    while let Some(first) = queue.front() {
        let id = if first.qos == QoS::AtMostOnce { 0 } else { *next_id };
        let fit = if is_expired(first.message.expires_at(), env.now) {
            env.drop_for(DropReason::Expired); // [MQTT-3.3.2-5]
            queue.pop();
            continue;
        } else if id != 0 && !(inflight.may_begin(link.window) && inflight.has_byte_room(env.limits.inflight_bytes_max))
        {
            return;
        } else {
            write_pending(link, first, id, false, env)
        };
        match fit {
            Fit::NoRoom => {
                pumped.more = true;
                return;
            }
            Fit::TooLarge => {
                env.drop_for(DropReason::TooLarge); // [MQTT-3.1.2-25]
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
    let publish = OutPublish {
        dup,
        qos: pending.qos,
        retain: pending.retain,
        packet_id,
        topic: view.topic,
        topic_alias: 0,
        expiry: expiry(view.expires_at, env.now),
        subscription_ids: pending.subscription_ids(),
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
