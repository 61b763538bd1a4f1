//! The will in a CONNECT: may it be published, and what is kept of it.

use breakwater_contract::{Action, Verdict};
use breakwater_proto::{Message, MessageView, ReasonCode, Will};
use breakwater_session::StoredWill;

use crate::admit::Entrant;
use crate::mount::is_nameless;
use crate::publish::is_reserved;
use crate::rewrite::{Outcome, Use};
use crate::shard::Shard;
use crate::template::Names;

impl<T: Send> Shard<T> {
    /// `Some`: this will may not be published, so that the client is refused.
    pub(crate) fn will_denied(&self, slot: u32, entrant: &Entrant<'_>, will: &Will<'_>) -> Option<ReasonCode> {
        let topic = entrant.will_topic.as_deref().unwrap_or(will.topic);
        let whole = entrant.mount.as_deref().map(|mount| format!("{mount}{topic}"));
        let limits = self.profiles.limits(entrant.profile).topic;
        if !breakwater_proto::topic::within(whole.as_deref().unwrap_or(topic), &limits) {
            return Some(ReasonCode::TopicNameInvalid);
        }
        if self.delayed(topic).is_some() {
            // It has a delay of its own, where there is one.
            return Some(ReasonCode::TopicNameInvalid);
        }
        if is_reserved(topic) || (whole.is_some() && is_nameless(topic)) {
            return Some(ReasonCode::NotAuthorized);
        }
        if self.open {
            return None;
        }
        let conn = self.conns.get(slot)?;
        let subject = breakwater_contract::auth::Subject {
            token: self.token(slot, 0),
            client_id: entrant.client_id(),
            principal: &entrant.principal,
            peer: conn.peer.address,
        };
        let action = Action::Publish { topic, qos: will.qos, retain: will.retain };
        match self.authorizer.check(&subject, action) {
            Verdict::Allow => None,
            Verdict::Deny(reason) => Some(reason),
            Verdict::Ask => Some(ReasonCode::NotAuthorized),
        }
    }

    /// What rules make of the topic of a will.
    pub(crate) fn rewritten_will(&mut self, slot: u32, entrant: &Entrant<'_>, will: &Will<'_>) -> Option<String> {
        let address = self.conns.get(slot)?.peer.address;
        let names = Names { client_id: entrant.client_id(), username: &entrant.principal.name, address };
        let (mount, mut out) = (entrant.mount.as_deref().unwrap_or_default(), String::new());
        let outcome = self.profiles.rewrite(entrant.profile, Use::Publish, (mount, will.topic), &names, &mut out);
        self.count_rewrite(outcome);
        (outcome == Outcome::Rewritten).then(|| out.split_off(mount.len()))
    }

    pub(crate) fn stored_will(&mut self, will: &Will<'_>, entrant: &Entrant<'_>, origin: u64) -> StoredWill {
        let topic = entrant.will_topic.as_deref().unwrap_or(will.topic);
        let whole = entrant.mount.as_deref().map(|mount| format!("{mount}{topic}"));
        let view = MessageView {
            topic: whole.as_deref().unwrap_or(topic),
            payload: will.payload,
            qos: will.qos,
            retain: will.retain,
            properties: will.properties, // [MQTT-3.1.3-10]
            expires_at: None,
            origin,
        };
        let message = Message::new(&view, &mut self.building);
        StoredWill { message, delay_s: will.delay_s, expiry_s: will.expiry }
    }
}
