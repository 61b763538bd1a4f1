//! SUBSCRIBE and UNSUBSCRIBE.

use std::borrow::Cow;
use std::sync::Arc;

use breakwater_contract::{Action, Metric, Verdict};
use breakwater_proto::{
    FilterKind, PacketKind, ReasonCode, RetainHandling, SubAck, Subscribe, SubscribeOptions, UnsubAck, Unsubscribe,
    UserProperties, Version, Violation, exclusive, is_wildcard, parse_filter,
};
use breakwater_router::{FilterId, Grant, PackedGrant, Subscribed};

use crate::conn::{Cause, NONE, mark};
use crate::ingress::Spend;
use crate::replay;
use crate::rewrite::{Outcome, Use};
use crate::shard::Shard;
use crate::sys::is_sys;

/// A (un)subscription costs about as much as so many deliveries: with a wildcard it takes the lock of every shard.
const COST: u32 = 32;

/// A client that asks about so many filters that it can't take the answer.
const ANSWER_TOO_LARGE: Cause =
    Cause::NotPermitted(ReasonCode::PacketTooLarge, "the answer would be larger than the client's maximum packet size");

/// A filter of SUBSCRIBE or UNSUBSCRIBE, taken apart and rewritten.
struct Asked<'a> {
    /// Of a shared subscription.
    group: Option<&'a str>,
    /// It wants the filter for itself.
    exclusive: bool,
    /// It wants what was published since this moment, in milliseconds of Unix time.
    since_ms: Option<u64>,
    /// What is to match, in the client's words.
    plain: Cow<'a, str>,
    outcome: Outcome,
}

impl<'a> Asked<'a> {
    /// As it is written.
    fn of(filter: &'a str, unix_ms: u64) -> Result<Self, ReasonCode> {
        let (since_ms, filter) = match replay::asked(filter, unix_ms).transpose()? {
            Some((since_ms, filter)) => (Some(since_ms), filter),
            None => (None, filter),
        };
        let own = exclusive(filter);
        let kind = parse_filter(own.unwrap_or(filter)).map_err(|_| ReasonCode::TopicFilterInvalid)?;
        let (group, plain) = match kind {
            FilterKind::Plain(plain) => (None, plain),
            FilterKind::Shared { group, filter } => (Some(group), filter),
        };
        // A group shares what one session would have for itself.
        let is_special = own.is_some() || since_ms.is_some();
        let several = (is_special && group.is_some()) || (own.is_some() && since_ms.is_some());
        if several || exclusive(plain).is_some() || replay::is_replay(plain) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        let (plain, outcome) = (Cow::Borrowed(plain), Outcome::Same);
        Ok(Self { group, exclusive: own.is_some(), since_ms, plain, outcome })
    }
}

impl<T: Send> Shard<T> {
    pub(crate) fn on_subscribe(
        &mut self,
        slot: u32,
        subscribe: &Subscribe<'_>,
        spend: &mut Spend,
    ) -> Result<bool, Cause> {
        let Some(conn) = self.conns.get(slot) else { return Ok(true) };
        let (version, bridge, session) = (conn.link.version, conn.flags.marks.has(mark::BRIDGE), conn.session);
        self.check_user_properties(slot, &subscribe.user_properties)?;
        if subscribe.subscription_id.is_some() && !self.limits_of(slot).subscription_ids_available {
            return Err(Violation::SubscriptionIdentifiersNotSupported.into());
        }
        if !self.open && self.asks_about(slot, subscribe) {
            self.park(slot);
            return Ok(false);
        }
        let before = self.durable.mark();
        let mut codes = std::mem::take(&mut self.codes);
        codes.clear();
        for (index, (filter, mut options)) in subscribe.filters().enumerate() {
            if bridge {
                // What a bridge means by the bit in its protocol level: no echo, and retained stays retained.
                options.no_local = true;
                options.retain_as_published = true;
            }
            let id = subscribe.subscription_id.unwrap_or(0);
            let code = match self.subscribe_one(slot, index, filter, options, id) {
                Ok(granted) => granted,
                Err(reason) => refusal_code(version, reason, options)?,
            };
            codes.push(code); // [MQTT-3.8.4-6] [MQTT-3.9.3-1] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1]
            spend.deliveries = spend.deliveries.saturating_sub(COST);
        }
        let suback = SubAck {
            packet_id: subscribe.packet_id, // [MQTT-3.8.4-2] [MQTT3-3.8.4-2] [MQTT-2.2.1-6] [MQTT3-2.3.1-7]
            codes: &codes,
            // Never any, so that there is nothing to leave out [MQTT-3.9.2-1] [MQTT-3.9.2-2].
            reason_string: None,
            user_properties: UserProperties::EMPTY,
        };
        if let Some(conn) = self.conns.get_mut(slot) {
            if suback.encoded_len(version) > conn.link.maximum_packet_size as usize {
                return Err(ANSWER_TOO_LARGE); // [MQTT-3.1.2-24]
            }
            self.pool.ready(&mut conn.out);
            suback.encode(version, &mut conn.out); // [MQTT-3.8.4-1] [MQTT-3.8.4-5] [MQTT3-3.8.4-1] [MQTT3-3.8.4-4]
        }
        self.codes = codes;
        self.mark_dirty(slot);
        self.keep_subscriptions(slot, before);
        self.release_retained(session);
        self.release_replays(session);
        self.forget_questions(slot);
        Ok(true)
    }

    /// Whether a verdict about any of the filters is still to come. Asks about all of them, so that one round trip does.
    fn asks_about(&mut self, slot: u32, subscribe: &Subscribe<'_>) -> bool {
        let mut asks = false;
        let most = usize::from(self.limits_of(slot).filters_per_subscribe_max);
        // Those behind the limit are refused without a question.
        for (number, (filter, options)) in (0..).zip(subscribe.filters().take(most)) {
            let Ok(Asked { plain, .. }) = self.asked(slot, filter) else { continue };
            let action = Action::Subscribe { filter: &plain, qos: options.qos };
            asks |= self.verdict(slot, action, number) == Verdict::Ask;
        }
        asks
    }

    fn asked<'a>(&mut self, slot: u32, filter: &'a str) -> Result<Asked<'a>, ReasonCode> {
        let mut asked = Asked::of(filter, self.unix_ms)?;
        let mut rewritten = String::new();
        asked.outcome = self.rewrite(slot, Use::Subscribe, ("", &asked.plain), &mut rewritten);
        if asked.outcome == Outcome::Rewritten {
            asked.plain = Cow::Owned(rewritten);
        }
        Ok(asked)
    }

    /// One filter; answers the granted QoS.
    fn subscribe_one(
        &mut self,
        slot: u32,
        index: usize,
        filter: &str,
        options: SubscribeOptions,
        subscription_id: u32,
    ) -> Result<u8, ReasonCode> {
        if index >= usize::from(self.limits_of(slot).filters_per_subscribe_max) {
            return Err(ReasonCode::QuotaExceeded);
        }
        let asked = self.asked(slot, filter)?;
        self.count_rewrite(asked.outcome);
        self.enter(slot, Some(index as u32), &asked, options, subscription_id)
    }

    /// One filter that the broker subscribes a client to, as it is written; authorization is not asked.
    pub(crate) fn subscribe_unasked(
        &mut self,
        slot: u32,
        filter: &str,
        options: SubscribeOptions,
    ) -> Result<u8, ReasonCode> {
        let asked = Asked::of(filter, self.unix_ms)?;
        self.enter(slot, None, &asked, options, 0)
    }

    /// Makes a subscription or replaces it; `number`: of the question whether the client may.
    fn enter(
        &mut self,
        slot: u32,
        number: Option<u32>,
        asked: &Asked<'_>,
        options: SubscribeOptions,
        subscription_id: u32,
    ) -> Result<u8, ReasonCode> {
        let limits = Arc::clone(self.profiles.shared_limits(self.conns.get(slot).map_or(0, |conn| conn.profile)));
        let (group, plain, shared) = (asked.group, &*asked.plain, asked.group.is_some());
        let session = self.conns.get(slot).map_or(NONE, |conn| conn.session);
        let whole = self.mounted_filter(session, plain).ok_or(ReasonCode::TopicFilterInvalid)?;
        if !breakwater_proto::topic::within(&whole, &limits.topic) {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if is_wildcard(plain) && !limits.wildcard_available {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported); // [MQTT3-3.8.3-2]
        }
        if shared && !limits.shared_available {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        if asked.exclusive && !limits.exclusive_available {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        if let Some(number) = number {
            self.permit_subscribe(slot, number, plain, options)?;
        }
        let qos = options.qos.min(limits.maximum_qos); // [MQTT-3.2.2-10]
        let who = self.subscriber_of(session);
        if asked.exclusive && !self.router.claim(&whole, who) {
            return Err(ReasonCode::QuotaExceeded);
        }
        let durable = self.sessions.get(session).is_some_and(|resident| resident.session.is_durable());
        let grant = Grant {
            qos,
            no_local: options.no_local,
            retain_as_published: options.retain_as_published,
            durable,
            subscription_id,
        };
        if let Some(since_ms) = asked.since_ms {
            return self.follow(session, &whole, since_ms, grant, limits.subscriptions_max);
        }
        // What is replayed is replaced by what is live at once [MQTT-3.8.4-3].
        _ = !shared && self.unfollow(session, &whole);
        let Some(resident) = self.sessions.get_mut(session) else { return Err(ReasonCode::UnspecifiedError) };
        // A full session may still replace what it has; whether it has it only the router knows.
        let Subscribed { id, new } = match group {
            None => self.router.subscribe(&whole, who, grant), // [MQTT-3.8.4-3]
            Some(group) => {
                resident.shares = true;
                self.router.subscribe_shared(group, &whole, who, grant)
            }
        };
        if new {
            let following = self.replay.followers.of(session).len();
            if resident.session.subscriptions.len() + following >= limits.subscriptions_max as usize {
                self.router.remove(id, who);
                if asked.exclusive {
                    self.router.release(&whole, who);
                }
                return Err(ReasonCode::QuotaExceeded);
            }
            resident.session.subscriptions.push(id.as_u32());
        }
        self.counters.bump(Metric::Subscribes);
        if asked.exclusive && self.note_exclusive(session, &whole) && !new {
            // The store knew it as one that others may have too.
            self.record_unsubscribed(session, &whole);
        }
        let name = self.name_of(session, group, &whole);
        self.record_subscription(session, &name, grant);
        let wanted = match options.retain_handling {
            RetainHandling::AtSubscribe => true, // [MQTT-3.3.1-9] [MQTT-3.8.4-4] [MQTT3-3.3.1-6]
            RetainHandling::IfNew => new,        // [MQTT-3.3.1-10]
            RetainHandling::Never => false,      // [MQTT-3.3.1-11]
        };
        if wanted && !shared {
            // Behind the insertion, never before: a message published in between is live or retained, not lost.
            self.owe_retained(who, &whole, PackedGrant::new(grant));
        }
        Ok(qos.as_u8()) // [MQTT-3.8.4-7]
    }

    /// The bound on user properties holds for packets that nobody reads them from, too.
    fn check_user_properties(&self, slot: u32, properties: &UserProperties<'_>) -> Result<(), Cause> {
        if properties.count() > usize::from(self.limits_of(slot).user_properties_max) {
            return Err(Violation::TooManyUserProperties.into());
        }
        Ok(())
    }

    fn permit_subscribe(
        &mut self,
        slot: u32,
        number: u32,
        filter: &str,
        options: SubscribeOptions,
    ) -> Result<(), ReasonCode> {
        if is_sys(filter) {
            let loopback = self.conns.get(slot).is_some_and(|conn| conn.peer.address.ip().to_canonical().is_loopback());
            if !loopback && !self.options.sys_for_all {
                return Err(ReasonCode::NotAuthorized);
            }
        }
        match self.verdict(slot, Action::Subscribe { filter, qos: options.qos }, number) {
            Verdict::Allow => Ok(()),
            Verdict::Deny(reason) => Err(reason.nearest_in(PacketKind::SubAck)), // [MQTT-3.9.3-2]
            Verdict::Ask => Err(ReasonCode::NotAuthorized),
        }
    }

    pub(crate) fn on_unsubscribe(
        &mut self,
        slot: u32,
        unsubscribe: &Unsubscribe<'_>,
        spend: &mut Spend,
    ) -> Result<(), Cause> {
        let Some(conn) = self.conns.get(slot) else { return Ok(()) };
        self.check_user_properties(slot, &unsubscribe.user_properties)?;
        let (version, session) = (conn.link.version, conn.session);
        let before = self.durable.mark();
        let mut codes = std::mem::take(&mut self.codes);
        codes.clear();
        let limits = self.limits_of(slot);
        let most = (limits.subscriptions_max as usize).max(usize::from(limits.filters_per_subscribe_max));
        for (index, filter) in unsubscribe.filters().enumerate() {
            if index == most {
                // Nobody has so many, and one packet must not keep a shard busy.
                return Err(Cause::NotPermitted(
                    ReasonCode::QuotaExceeded,
                    "too many topic filters in one UNSUBSCRIBE",
                ));
            }
            spend.deliveries = spend.deliveries.saturating_sub(COST);
            let asked = self.asked(slot, filter).ok();
            let whole =
                asked.as_ref().and_then(|asked| self.mounted_filter(session, &asked.plain).map(Cow::into_owned));
            let (Some(Asked { group, exclusive, outcome, .. }), Some(whole)) = (&asked, whole) else {
                codes.push(ReasonCode::TopicFilterInvalid.as_u8());
                continue;
            };
            self.count_rewrite(*outcome);
            let has = !exclusive || self.has_exclusive(session, &whole);
            let follows = group.is_none() && !self.replay.followers.is_empty() && self.unfollow(session, &whole);
            let ended = if has { self.unsubscribe_one(session, *group, &whole) } else { None };
            if ended.is_none() && follows {
                // It was not live yet.
                let name = self.name_of(session, None, &whole).into_owned();
                self.record_unsubscribed(session, &name);
                self.release_exclusive(session, &whole);
                self.counters.bump(Metric::Unsubscribes);
                codes.push(ReasonCode::Success.as_u8());
                continue;
            }
            let Some(id) = ended else {
                codes.push(ReasonCode::NoSubscriptionExisted.as_u8());
                continue;
            };
            // From here on nothing matches it [MQTT-3.10.4-2] [MQTT3-3.10.4-2]; what the session holds stays
            // [MQTT-3.10.4-3] [MQTT3-3.10.4-3].
            self.counters.bump(Metric::Unsubscribes);
            if let Some(resident) = self.sessions.get_mut(session) {
                resident.session.subscriptions.remove(id.as_u32());
            }
            codes.push(ReasonCode::Success.as_u8()); // [MQTT-3.11.3-1]
        }
        let unsuback = UnsubAck {
            packet_id: unsubscribe.packet_id, // [MQTT-3.10.4-5] [MQTT3-3.10.4-5]
            codes: &codes,
            // Never any, so that there is nothing to leave out [MQTT-3.11.2-1] [MQTT-3.11.2-2].
            reason_string: None,
            user_properties: UserProperties::EMPTY,
        };
        if let Some(conn) = self.conns.get_mut(slot) {
            if unsuback.encoded_len(version) > conn.link.maximum_packet_size as usize {
                return Err(ANSWER_TOO_LARGE); // [MQTT-3.1.2-24]
            }
            self.pool.ready(&mut conn.out);
            unsuback.encode(version, &mut conn.out); // [MQTT-3.10.4-4] [MQTT-3.10.4-6] [MQTT3-3.10.4-4] [MQTT3-3.10.4-6]
        }
        self.codes = codes;
        self.mark_dirty(slot);
        self.keep_subscriptions(slot, before);
        Ok(())
    }

    /// Ends one subscription; `None`: there was none.
    fn unsubscribe_one(&mut self, session: u32, group: Option<&str>, whole: &str) -> Option<FilterId> {
        let who = self.subscriber_of(session);
        let name = self.name_of(session, group, whole);
        let id = match group {
            None => {
                self.forgive_retained(who, whole);
                let id = self.router.unsubscribe(whole, who)?; // [MQTT-3.10.4-1] [MQTT3-3.10.4-1]
                self.release_exclusive(session, whole);
                id
            }
            Some(group) => self.router.unsubscribe_shared(group, whole, who)?,
        };
        self.record_unsubscribed(session, &name);
        Some(id)
    }
}

/// How a version says no to one filter. 3.1 can't: a filter that makes no sense ends the connection, and one that is not
/// permitted is answered as if it were.
fn refusal_code(version: Version, reason: ReasonCode, options: SubscribeOptions) -> Result<u8, Cause> {
    match version {
        Version::V5 => Ok(reason.as_u8()),
        Version::V311 => Ok(ReasonCode::UnspecifiedError.as_u8()), // [MQTT3-3.9.3-2]
        Version::V31 if reason == ReasonCode::TopicFilterInvalid => {
            Err(Cause::NotPermitted(reason, "the topic filter is not valid"))
        }
        Version::V31 => Ok(options.qos.as_u8()),
    }
}
