//! Client to broker: what a session does about a PUBLISH before and after it is routed.

use breakwater_proto::{Publish, QoS, ReasonCode, Version, Violation, encode_pubcomp, encode_pubrec, topic};

use crate::acks::{self, AckTicket, Acks};
use crate::awaiting_release::AwaitingRelease;
use crate::{Limits, Link, Session};

/// What to do with a PUBLISH that the session took in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A new message: route it, then call [`Session::acknowledge`] or [`Session::acknowledge_later`] (not for QoS 0).
    Route,
    /// A QoS 2 publish that was routed before. Its PUBREC has been written again; don't route it.
    Repeat,
}

/// Unfinished business of QoS 1 and 2 from the client; most sessions have none.
#[derive(Debug)]
pub(crate) struct Inbound {
    awaiting_release: AwaitingRelease,
    acks: Acks,
}

impl Inbound {
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Inbound>() + self.awaiting_release.heap_bytes() + self.acks.heap_bytes()
    }

    /// Publishes under way. The second bound is for a client that releases ids before it got PUBREC.
    fn unfinished(&self) -> usize {
        (self.awaiting_release.len() + self.acks.loose_len()).max(self.acks.len())
    }

    /// A QoS 2 publish that is held: PUBREC again [MQTT-4.3.3-10], but not before what it promises holds, and not ahead of
    /// earlier answers.
    fn on_repeat(
        &mut self,
        link: &Link,
        packet_id: u16,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Received, Violation> {
        if self.acks.is_empty() {
            encode_pubrec(link.version, packet_id, ReasonCode::Success, out);
        } else if !self.acks.want_again(packet_id) {
            if self.acks.len() >= receive_maximum(link.version, limits) {
                return Err(Violation::ReceiveMaximumExceeded);
            }
            self.acks.push(QoS::ExactlyOnce, packet_id, ReasonCode::Success, 0);
        }
        Ok(Received::Repeat)
    }
}

impl Session {
    /// Checks a PUBLISH against the limits and keeps the book of QoS 2 ids. Call it before routing.
    #[inline]
    pub fn on_publish(
        &mut self,
        link: &mut Link,
        publish: &Publish<'_>,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Received, Violation> {
        check_publish(publish, limits)?;
        match publish.qos {
            QoS::AtMostOnce => Ok(Received::Route),
            QoS::AtLeastOnce => {
                self.check_quota(link, limits)?;
                Ok(Received::Route) // [MQTT-4.3.2-5]: whatever DUP says
            }
            QoS::ExactlyOnce => self.on_exactly_once(link, publish.packet_id, limits, out),
        }
    }

    /// Answers a routed publish, behind earlier ones whose answer still waits. A reason of 0x80 and above frees a QoS 2 id.
    #[inline]
    pub fn acknowledge(&mut self, link: &mut Link, qos: QoS, packet_id: u16, reason: ReasonCode, out: &mut Vec<u8>) {
        debug_assert_ne!(qos, QoS::AtMostOnce, "QoS 0 is not acknowledged");
        let exactly_once = qos == QoS::ExactlyOnce;
        if let Some(inbound) = self.inbound.as_deref_mut() {
            // A 3.x client can't be told, and goes on with PUBREL.
            if exactly_once && reason.is_error() && link.version.is_v5() {
                inbound.awaiting_release.remove(packet_id); // [MQTT-4.3.3-9]
            }
            if !inbound.acks.is_empty() {
                inbound.acks.push(qos, packet_id, reason, 0); // [MQTT-4.6.0-2]
                return;
            }
        }
        acks::write(exactly_once, link.version, packet_id, reason, out);
    }

    /// Keeps the place of an answer whose message is on its way to durability, in so many parts: with as many calls of
    /// [`Session::acknowledge_ready`] it leaves.
    pub fn acknowledge_later(&mut self, qos: QoS, packet_id: u16, parts: u16) -> AckTicket {
        self.inbound_mut().acks.push(qos, packet_id, ReasonCode::Success, parts)
    }

    /// The ticket that [`Session::acknowledge_later`] would give.
    #[must_use]
    pub fn next_ticket(&self) -> AckTicket {
        self.inbound.as_deref().map_or(self.next_ticket, |inbound| inbound.acks.next_ticket())
    }

    /// QoS 2 publishes that an earlier life of the broker has taken, and that await their PUBREL.
    pub fn restore_inbound(&mut self, packet_ids: &[u16]) {
        if packet_ids.is_empty() {
            return;
        }
        let inbound = self.inbound_mut();
        packet_ids.iter().for_each(|id| _ = inbound.awaiting_release.insert(*id));
    }

    /// QoS 2 publishes that were taken, and that await their PUBREL: their packet identifiers.
    #[must_use]
    pub fn held_publishes(&self) -> Vec<u16> {
        self.inbound.as_deref().map_or(Vec::new(), |inbound| inbound.awaiting_release.iter().collect())
    }

    /// A QoS 2 publish comes to nothing: if it comes again, it is a new one.
    pub fn forget_publish(&mut self, packet_id: u16) {
        if let Some(inbound) = self.inbound.as_deref_mut() {
            inbound.awaiting_release.remove(packet_id);
        }
    }

    /// Whether the answer of `ticket` is still to be decided: its connection may be gone, or its session another.
    #[must_use]
    pub fn awaits(&self, ticket: AckTicket) -> bool {
        self.inbound.as_deref().is_some_and(|inbound| inbound.acks.awaits(ticket))
    }

    /// A part of what `ticket` stands for is durable, or failed to be: the last one lets its answer out, and every ready one behind
    /// it, with the worst reason. With no connection the answer is kept back: the client publishes again. Answers the reason if it
    /// was the last part.
    pub fn acknowledge_ready(
        &mut self,
        ticket: AckTicket,
        reason: ReasonCode,
        connection: Option<(&mut Link, &mut Vec<u8>)>,
    ) -> Option<ReasonCode> {
        let inbound = self.inbound.as_deref_mut()?;
        let (qos, packet_id, reason) = inbound.acks.set_ready(ticket, reason)?;
        let told = connection.as_ref().is_none_or(|(link, _)| link.version.is_v5());
        if qos == QoS::ExactlyOnce && reason.is_error() && told {
            inbound.awaiting_release.remove(packet_id); // [MQTT-4.3.3-9]
        }
        inbound.acks.release(connection.map(|(link, out)| (link.version, out)));
        Some(reason)
    }

    /// Answers PUBREL with PUBCOMP and forgets the id. [MQTT-4.3.3-11] [MQTT-4.3.3-12] [MQTT3-4.3.3-2]
    ///
    /// The message and its expiry don't matter [MQTT-4.3.3-13]. Without Reason String [MQTT-3.7.2-2] or User Property
    /// [MQTT-3.7.2-3], so that there is nothing to leave out.
    #[inline]
    pub fn on_pubrel(&mut self, link: &mut Link, packet_id: u16, out: &mut Vec<u8>) {
        let known = self.release(packet_id);
        let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        encode_pubcomp(link.version, packet_id, reason, out);
    }

    /// PUBREL came: forgets the id, and answers whether it was known. PUBCOMP is the caller's, see [`Session::on_pubrel`].
    pub fn release(&mut self, packet_id: u16) -> bool {
        self.inbound.as_deref_mut().is_some_and(|inbound| inbound.awaiting_release.remove(packet_id))
    }

    /// QoS 1 and 2 publishes that this client may still send; at 0 stop reading a 3.x client, who isn't told of the bound.
    #[must_use]
    pub fn receive_quota(&self, version: Version, limits: &Limits) -> usize {
        receive_maximum(version, limits).saturating_sub(self.unfinished_publishes())
    }

    /// QoS 2 publishes without PUBREL.
    #[must_use]
    pub fn awaiting_release_len(&self) -> usize {
        self.inbound.as_deref().map_or(0, |inbound| inbound.awaiting_release.len())
    }

    /// Answers that wait for durability, or behind one that does.
    #[must_use]
    pub fn waiting_acks_len(&self) -> usize {
        self.inbound.as_deref().map_or(0, |inbound| inbound.acks.len())
    }

    pub(crate) fn detach_inbound(&mut self) {
        if let Some(inbound) = self.inbound.as_deref_mut() {
            inbound.acks.on_detach();
        }
        self.trim_inbound();
    }

    pub(crate) fn trim_inbound(&mut self) {
        if let Some(inbound) = self.inbound.as_deref_mut() {
            if inbound.awaiting_release.len() == 0 && inbound.acks.is_empty() {
                self.next_ticket = inbound.acks.next_ticket();
                self.inbound = None;
            } else {
                inbound.awaiting_release.shrink();
            }
        }
    }

    fn on_exactly_once(
        &mut self,
        link: &mut Link,
        packet_id: u16,
        limits: &Limits,
        out: &mut Vec<u8>,
    ) -> Result<Received, Violation> {
        let inbound = self.inbound_mut();
        if inbound.awaiting_release.contains(packet_id) {
            return inbound.on_repeat(link, packet_id, limits, out);
        }
        self.check_quota(link, limits)?;
        if let Some(inbound) = self.inbound.as_deref_mut() {
            inbound.awaiting_release.insert(packet_id);
        }
        Ok(Received::Route)
    }

    #[inline]
    fn check_quota(&self, link: &Link, limits: &Limits) -> Result<(), Violation> {
        if self.inbound.is_some() && self.receive_quota(link.version, limits) == 0 {
            return Err(Violation::ReceiveMaximumExceeded); // [MQTT-3.3.4-7]
        }
        Ok(())
    }

    fn inbound_mut(&mut self) -> &mut Inbound {
        let first = self.next_ticket;
        self.inbound.get_or_insert_with(|| {
            Box::new(Inbound { awaiting_release: AwaitingRelease::default(), acks: Acks::starting_at(first) })
        })
    }

    fn unfinished_publishes(&self) -> usize {
        self.inbound.as_deref().map_or(0, Inbound::unfinished)
    }
}

#[inline]
fn receive_maximum(version: Version, limits: &Limits) -> usize {
    usize::from(if version.is_v5() { limits.receive_maximum } else { limits.awaiting_release_max })
}

/// What CONNACK announced binds the client, whatever the QoS. Called by `Session::on_publish`; for QoS 0, which owes the
/// session nothing, by the shard.
#[inline]
pub fn check_publish(publish: &Publish<'_>, limits: &Limits) -> Result<(), Violation> {
    if publish.subscription_ids {
        return Err(Violation::SubscriptionIdentifierFromClient); // [MQTT-3.3.4-6]
    }
    if publish.qos > limits.maximum_qos {
        return Err(Violation::PublishQosNotSupported); // [MQTT-3.2.2-11]
    }
    if publish.retain && !limits.retain_available {
        return Err(Violation::RetainNotSupported); // [MQTT-3.2.2-14]
    }
    if !topic::within(publish.topic, &limits.topic) {
        return Err(Violation::TopicTooLarge);
    }
    // The shortest user property has five bytes.
    let user_properties_max = usize::from(limits.user_properties_max);
    if publish.properties.len() / 5 > user_properties_max
        && publish.properties.user_properties().count() > user_properties_max
    {
        return Err(Violation::TooManyUserProperties);
    }
    Ok(())
}
