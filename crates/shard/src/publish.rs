//! A PUBLISH comes in.

use breakwater_contract::auth::Subject;
use breakwater_contract::store::{Change, SessionNumber};
use breakwater_contract::{Action, Metric, Token, Verdict};
use breakwater_proto::{Instant, MessageView, PacketKind, Publish, QoS, ReasonCode, Split, decode_publish, split};
use breakwater_router::Subscriber;
use breakwater_session::{Acked, Env, Limits, Link, Received, Session, check_publish};

use crate::conn::{Cause, NONE, hold, mark};
use crate::driver::Driver;
use crate::durable::{NOTE_BYTES, Promise};
use crate::ingress::{Spend, Step};
use crate::mail::Receipt;
use crate::mount::is_nameless;
use crate::refusal::Word;
use crate::rewrite::{Outcome, Use};
use crate::route::{Publishing, Run, deliveries_in};
use crate::shard::{Shard, later};
use crate::wheel::{Kind, Timer};

const TOO_LONG: &str = "the topic is longer or deeper than allowed";
const NO_DELAY: &str =
    "a message to be delayed has a topic of the form $delayed/SECONDS/TOPIC, with at most 4294967 seconds";

/// Topics that belong to the broker: clients read them at most.
pub(crate) fn is_reserved(topic: &str) -> bool {
    const RESERVED: [&str; 3] = ["$SYS", "$share", "$queue"];
    topic.starts_with('$')
        && RESERVED
            .iter()
            .any(|name| topic.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
}

impl<T: Send> Shard<T> {
    /// Name of the session of a connection.
    #[inline]
    pub(crate) fn subscriber_of(&self, session: u32) -> Subscriber {
        let generation = self.sessions.generation(session).unwrap_or(0) as u16;
        Subscriber { shard: self.id, generation, slot: session }
    }

    /// A QoS 0 PUBLISH without flags, and as many more of the same topic behind it as are here and affordable: such a run
    /// is matched once and copied to each subscriber in one piece.
    pub(crate) fn on_plain_publish<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        bytes: &[u8],
        spend: &mut Spend,
    ) -> Result<Step, Cause> {
        let Some(conn) = self.conns.get(slot) else { return Ok(Step::Gone) };
        let limits = self.profiles.limits(conn.profile);
        let frame = match split(bytes, limits.packet_bytes_max)? {
            Split::Packet(frame) => frame,
            Split::Incomplete { need } => return Ok(Step::Partial(need.unwrap_or(0) as u32)),
        };
        let version = conn.link.version;
        let publish = decode_publish(version, frame.first, frame.body)?;
        let by_itself = publish.topic_alias.is_some()
            || publish.expiry.is_some()
            || publish.subscription_ids
            || limits.message_expiry_max_s.is_some()
            || publish.topic.starts_with('$')
            || conn.flags.marks.has(mark::SINGLE);
        if by_itself {
            let length = frame.len;
            self.counters.bump(Metric::PacketsReceived);
            if !self.on_publish(driver, slot, &publish, spend)? {
                return Ok(Step::Parked);
            }
            return Ok(if self.conns.get(slot).is_some() { Step::Used(length) } else { Step::Gone });
        }
        check_publish(&publish, limits)?;
        let publisher = self.subscriber_of(conn.session);
        self.router.matches(self.id, publish.topic, &mut self.matches);
        if self.matches.truncated {
            self.counters.bump(Metric::MatchesTruncated);
        }
        let deliveries = deliveries_in(&self.matches);
        let mut run = Run { wire: &bytes[..frame.len], count: 1, longest: frame.len, version, origin: publisher };
        // Behind the topic a version 5 packet of the run has the one byte that says "no properties".
        let bare = !version.is_v5() || publish.properties.is_empty();
        if bare {
            let prefix = &frame.body[..2 + publish.topic.len()];
            run.extend(bytes, prefix, limits.packet_bytes_max);
        }
        let count = run.count;
        self.counters.add(Metric::PacketsReceived, u64::from(count));
        self.counters.add(Metric::PublishReceived, u64::from(count));
        let length = run.wire.len();
        self.route_run(driver, slot, &run, spend);
        spend.deliveries = spend.deliveries.saturating_sub(deliveries);
        Ok(Step::Used(length))
    }

    /// Any PUBLISH. `false`: it waits for a verdict, come again.
    pub(crate) fn on_publish<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        publish: &Publish<'_>,
        spend: &mut Spend,
    ) -> Result<bool, Cause> {
        if publish.qos == QoS::AtMostOnce {
            check_publish(publish, self.limits_of(slot))?;
        }
        let (mut topic, mut rewritten) = (std::mem::take(&mut self.topic), String::new());
        let result = self.on_publish_checked(driver, slot, publish, spend, &mut topic, &mut rewritten);
        self.topic = topic;
        if rewritten.capacity() > 0 {
            self.rewritten = rewritten;
        }
        result
    }

    fn on_publish_checked<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        publish: &Publish<'_>,
        spend: &mut Spend,
        aliased: &mut String,
        rewritten: &mut String,
    ) -> Result<bool, Cause> {
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(true) };
        let (session, mount) = (conn.session, usize::from(conn.link.mount()));
        let single = conn.flags.marks.has(mark::SINGLE);
        let topic = if publish.topic_alias.is_some() || mount > 0 {
            aliased.clear();
            if mount > 0 {
                aliased.push_str(self.mounts.get(&session).map_or("", |prefix| prefix));
            }
            aliased.push_str(conn.link.resolve_alias(publish)?);
            aliased.as_str()
        } else {
            publish.topic
        };
        let mut outcome = Outcome::Same;
        if single {
            std::mem::swap(rewritten, &mut self.rewritten);
            outcome = self.rewrite(slot, Use::Publish, topic.split_at(mount.min(topic.len())), rewritten);
        }
        let topic = if outcome == Outcome::Rewritten { rewritten.as_str() } else { topic };
        let special = topic.as_bytes().get(mount) == Some(&b'$');
        let delayed = if special { self.delayed(topic.get(mount..).unwrap_or_default()) } else { None };
        let whole;
        let topic = match delayed {
            Some(Ok((_, name))) if mount > 0 => {
                whole = format!("{}{name}", &topic[..mount]);
                whole.as_str()
            }
            Some(Ok((_, name))) => name,
            _ => topic,
        };
        // Asked first: nothing may have happened yet if the packet has to wait.
        let Some(denied) = self.permit_publish(slot, topic, mount, publish) else { return Ok(false) };
        self.count_publish(slot, publish.qos);
        self.count_rewrite(outcome);
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(true) };
        if publish.qos != QoS::AtMostOnce {
            let Some(resident) = self.sessions.get_mut(session) else { return Ok(true) };
            self.pool.ready(&mut conn.out);
            let limits = self.profiles.limits(conn.profile);
            let received = resident.session.on_publish(&mut conn.link, publish, limits, &mut conn.out)?;
            self.mark_dirty(slot);
            if received == Received::Repeat {
                return Ok(true);
            }
        }
        let due = delayed.map(|delayed| delayed.map(|(due, _)| due));
        self.take_publish(driver, slot, topic, publish, spend, (denied, due))
    }

    /// A publish that is a new one. One that can be refused is, if it meets a full queue; otherwise its client has our word.
    fn take_publish<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        topic: &str,
        publish: &Publish<'_>,
        spend: &mut Spend,
        (denied, due): (Option<ReasonCode>, Option<Result<u64, ReasonCode>>),
    ) -> Result<bool, Cause> {
        let routed = denied.is_none() && due.is_none();
        if publish.qos == QoS::AtMostOnce || !routed || !self.can_be_refused(slot) {
            return self.take_permitted(driver, slot, topic, publish, spend, (denied, due));
        }
        let view = self.view_of(slot, topic, publish);
        let refused = self.is_refused(&view).then_some(ReasonCode::QuotaExceeded);
        self.word = Word::Given;
        let result = self.take_permitted(driver, slot, topic, publish, spend, (refused, None));
        self.word = Word::None;
        result
    }

    /// A publish that is a new one: routed, kept for later, or neither; and acknowledged, now or when the store has it.
    fn take_permitted<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        topic: &str,
        publish: &Publish<'_>,
        spend: &mut Spend,
        (denied, due): (Option<ReasonCode>, Option<Result<u64, ReasonCode>>),
    ) -> Result<bool, Cause> {
        let session = self.conns.get(slot).map_or(NONE, |conn| conn.session);
        let routed = denied.is_none() && due.is_none();
        if routed && publish.qos == QoS::ExactlyOnce && self.hold_publish(driver, slot, topic, publish) {
            return Ok(true);
        }
        if publish.qos != QoS::AtMostOnce && self.durable.is_on() {
            self.begin_publishing(session);
        }
        let (reason, lasting) = match (denied, due) {
            // 3.x has no code for it: acknowledged, not routed [MQTT3-3.3.5-2]
            (Some(reason), _) | (None, Some(Err(reason))) => (reason, false),
            (None, Some(Ok(due))) => {
                let profile = self.conns.get(slot).map_or(0, |conn| conn.profile);
                self.hold_back((session, profile), topic, publish, due)
            }
            (None, None) => self.accept_publish(driver, slot, topic, publish, spend),
        };
        let (parts, here) = self.publishing.take().map_or((0, lasting), |publishing| {
            let here = publishing.here || lasting;
            (publishing.parts + u16::from(here), here)
        });
        if publish.qos == QoS::AtMostOnce {
            return match reason {
                ReasonCode::TopicNameInvalid => {
                    Err(Cause::NotPermitted(reason, if due.is_some() { NO_DELAY } else { TOO_LONG }))
                }
                _ => Ok(true),
            };
        }
        if lasting && publish.qos == QoS::ExactlyOnce && self.hold_recorded(slot, publish.packet_id, reason) {
            return Ok(true);
        }
        if parts > 0 {
            self.promise(slot, (publish.qos, publish.packet_id), reason, parts, here);
            return Ok(true);
        }
        let Some(conn) = self.conns.get_mut(slot) else { return Ok(true) };
        let Some(resident) = self.sessions.get_mut(session) else { return Ok(true) };
        self.pool.ready(&mut conn.out);
        resident.session.acknowledge(&mut conn.link, publish.qos, publish.packet_id, reason, &mut conn.out);
        self.mark_dirty(slot);
        Ok(true)
    }

    /// A publish goes to its targets: those that outlast the process are counted.
    fn begin_publishing(&mut self, session: u32) {
        let Some(generation) = self.sessions.generation(session) else { return };
        let Some(resident) = self.sessions.get(session) else { return };
        let receipt = Receipt { home: self.id, session, generation, ticket: resident.session.next_ticket() };
        self.publishing = Some(Publishing { receipt, parts: 0, here: false });
    }

    fn count_publish(&mut self, slot: u32, qos: QoS) {
        if self.conns.get(slot).is_some_and(|conn| conn.flags.marks.has(mark::METERED)) {
            self.count_message_in(slot);
        }
        self.counters.bump(Metric::PublishReceived);
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.counters.bump(Metric::PublishReceivedQos1),
            QoS::ExactlyOnce => self.counters.bump(Metric::PublishReceivedQos2),
        }
    }

    /// `Some(Some(..))`: not to be routed, and this is what the client is told. `None`: it is not known yet.
    #[expect(clippy::option_option, reason = "not known, known to be fine, known to be denied")]
    fn permit_publish(
        &mut self,
        slot: u32,
        topic: &str,
        mount: usize,
        publish: &Publish<'_>,
    ) -> Option<Option<ReasonCode>> {
        if !breakwater_proto::topic::within(topic, &self.limits_of(slot).topic) {
            return Some(Some(ReasonCode::TopicNameInvalid));
        }
        // Rules speak of topics as their clients do.
        let topic = topic.get(mount..).unwrap_or_default();
        let action = Action::Publish { topic, qos: publish.qos, retain: publish.retain };
        let denied = if is_reserved(topic) || (mount > 0 && is_nameless(topic)) {
            Some(ReasonCode::NotAuthorized)
        } else {
            match self.verdict(slot, action, 0) {
                Verdict::Allow => None,
                Verdict::Deny(reason) => Some(reason.nearest_in(PacketKind::PubAck)), // [MQTT-3.4.2-1]
                Verdict::Ask => {
                    self.park(slot);
                    return None;
                }
            }
        };
        self.forget_questions(slot);
        if denied.is_some() {
            self.counters.bump(Metric::PublishDenied);
        }
        Some(denied)
    }

    /// May the client of this connection do it? `Ask`: the question is under way; come again when it is answered.
    /// `number`: of the question within the packet.
    pub(crate) fn verdict(&mut self, slot: u32, action: Action<'_>, number: u32) -> Verdict {
        if self.open {
            return Verdict::Allow;
        }
        let verdict = self.ask_authorizer(slot, action, number);
        if verdict == Verdict::Ask
            && let Some(conn) = self.conns.get_mut(slot)
        {
            conn.rare().questions.open += 1;
        }
        verdict
    }

    fn ask_authorizer(&self, slot: u32, action: Action<'_>, number: u32) -> Verdict {
        let Some(conn) = self.conns.get(slot) else { return Verdict::Deny(ReasonCode::NotAuthorized) };
        let Some(resident) = self.sessions.get(conn.session) else {
            return Verdict::Deny(ReasonCode::NotAuthorized);
        };
        let mut sequence = number;
        if let Some(rare) = &conn.rare {
            let questions = &rare.questions;
            sequence = questions.first.wrapping_add(number);
            if let Some((_, verdict)) = questions.answers.iter().find(|(asked, _)| *asked == number) {
                return *verdict;
            }
            if questions.overdue {
                return Verdict::Deny(ReasonCode::NotAuthorized);
            }
        }
        let anonymous = breakwater_contract::Principal::default();
        let subject = Subject {
            token: self.token(slot, sequence),
            client_id: resident.session.client_id(),
            principal: conn.rare.as_ref().map_or(&anonymous, |rare| &rare.principal),
            peer: conn.peer.address,
        };
        self.authorizer.check(&subject, action)
    }

    /// Stops reading until all questions about the packet in front are answered, or the time for that is over.
    pub(crate) fn park(&mut self, slot: u32) {
        let Some(generation) = self.conns.generation(slot) else { return };
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.flags.holds.put(hold::PARKED, true);
        let at = later(self.now, u64::from(self.profiles.limits(conn.profile).connect_timeout_ms));
        conn.rare().questions.until = at;
        self.wheel.set(at, Timer { kind: Kind::Verdict, slot, generation });
    }

    /// The packet that had questions is dealt with.
    pub(crate) fn forget_questions(&mut self, slot: u32) {
        if !self.open
            && let Some(rare) = self.conns.get_mut(slot).and_then(|conn| conn.rare.as_deref_mut())
        {
            rare.questions = rare.questions.next();
        }
    }

    /// An answer to a question has come: with the last one the connection goes on.
    pub(crate) fn on_authorized(&mut self, token: Token, verdict: Verdict) {
        if self.conns.generation(token.slot) != Some(token.generation) {
            return;
        }
        let Some(conn) = self.conns.get_mut(token.slot) else { return };
        let questions = &mut conn.rare().questions;
        let number = token.sequence.wrapping_sub(questions.first);
        let known = questions.answers.iter().any(|(answered, _)| *answered == number);
        if questions.open == 0 || number > u32::from(u16::MAX) || known {
            return;
        }
        questions.answers.push((number, verdict));
        questions.open -= 1;
        if questions.open == 0 {
            self.unpark(token.slot);
        }
    }

    pub(crate) fn unpark(&mut self, slot: u32) {
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.flags.holds.put(hold::PARKED, false);
            conn.flags.tail_ready |= !conn.tail.is_empty();
        }
        self.schedule(slot);
    }

    pub(crate) fn token(&self, slot: u32, sequence: u32) -> Token {
        Token { shard: self.id, slot, generation: self.conns.generation(slot).unwrap_or(0), sequence }
    }

    /// Retains and routes; answers what the acknowledgement says, and whether it waits for the store.
    fn accept_publish<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        topic: &str,
        publish: &Publish<'_>,
        spend: &mut Spend,
    ) -> (ReasonCode, bool) {
        let session = self.conns.get(slot).map_or(NONE, |conn| conn.session);
        let view = self.view_of(slot, topic, publish);
        // Without RETAIN nothing touches what is kept [MQTT-3.3.1-8] [MQTT3-3.3.1-12].
        let lasting = publish.retain && self.retain(&view, session, self.zone_durability(session));
        let reached = self.route_one(driver, &view, Some(slot), spend);
        (if reached { ReasonCode::Success } else { ReasonCode::NoMatchingSubscribers }, lasting)
    }

    /// The message of a publish.
    pub(crate) fn view_of<'a>(&self, slot: u32, topic: &'a str, publish: &Publish<'a>) -> MessageView<'a> {
        let (session, profile) = self.conns.get(slot).map_or((NONE, 0), |conn| (conn.session, conn.profile));
        MessageView {
            topic,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            properties: publish.properties,
            expires_at: self.deadline_of(publish.expiry, profile),
            origin: self.subscriber_of(session).as_u64(),
        }
    }

    /// What the client of a connection may use.
    pub(crate) fn limits_of(&self, slot: u32) -> &Limits {
        self.profiles.limits(self.conns.get(slot).map_or(0, |conn| conn.profile))
    }

    /// When a message with this expiry interval ends, under the publisher's maximum.
    pub(crate) fn deadline_of(&self, expiry_s: Option<u32>, profile: u16) -> Option<Instant> {
        self.bounded_expiry(expiry_s, profile).map(|seconds| later(self.now, u64::from(seconds) * 1000))
    }

    /// An expiry interval under the publisher's maximum.
    pub(crate) fn bounded_expiry(&self, expiry_s: Option<u32>, profile: u16) -> Option<u32> {
        match (expiry_s, self.profiles.limits(profile).message_expiry_max_s) {
            (Some(asked), Some(most)) => Some(asked.min(most)),
            (asked, most) => asked.or(most),
        }
    }

    /// PUBACK, PUBREC or PUBCOMP: the session takes note, and may send more once the turn ends.
    pub(crate) fn on_acknowledged(
        &mut self,
        slot: u32,
        act: impl FnOnce(&mut Session, &mut Link, &mut Env<'_>) -> Acked,
    ) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let Some(resident) = self.sessions.get_mut(conn.session) else { return };
        self.pool.ready(&mut conn.out);
        let room = conn.room(self.options.out_buffer_bytes);
        let mut env = Env {
            now: self.now,
            limits: self.profiles.limits(conn.profile),
            room,
            out: &mut conn.out,
            report: &mut self.report,
            scratch: &mut self.building,
        };
        let acked = act(&mut resident.session, &mut conn.link, &mut env);
        if acked == Acked::Unknown {
            self.counters.bump(Metric::AckUnknownId);
        }
        conn.flags.pump = true;
        let (session, accounted) = (conn.session, resident.accounted);
        if accounted > 0 {
            self.account(session);
        }
        self.settle_notes(session);
        self.mark_dirty(slot);
    }

    pub(crate) fn on_release(&mut self, slot: u32, packet_id: u16) {
        let Some(generation) = self.conns.generation(slot) else { return };
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let conn_session = conn.session;
        let Some(resident) = self.sessions.get_mut(conn_session) else { return };
        if resident.number() != SessionNumber::default() {
            // The client may use the identifier again with PUBCOMP: by then a start has to know that it is free.
            let session = resident.number();
            let known = resident.session.release(packet_id);
            let reason = if known { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
            let asks = self.durability_of(conn_session);
            self.record(Change::Inbound { session, packet_id, held: false }, NOTE_BYTES, true, asks);
            let _ = self.durable.promise(Promise::Release { slot, generation, packet_id, reason });
            return;
        }
        self.pool.ready(&mut conn.out);
        resident.session.on_pubrel(&mut conn.link, packet_id, &mut conn.out);
        self.mark_dirty(slot);
    }
}
