//! Subscriptions that every client gets when it connects, without asking.

use breakwater_contract::Metric;
use breakwater_proto::{SubscribeOptions, parse_filter};

use crate::shard::Shard;
use crate::template::{Names, Template};

/// Of one client at most: they are made before it may say anything, all in one turn.
const SUBSCRIPTIONS_MAX: usize = 64;
/// Longest template.
const TEXT_BYTES_MAX: usize = 1024;

/// One of them, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoSubscription {
    /// Filter, with places for what the client is called.
    pub topic: Box<str>,
    /// What a client would ask for.
    pub options: SubscribeOptions,
}

/// All of them, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AutoSubscribe {
    topics: Vec<(AutoSubscription, Template)>,
}

impl AutoSubscribe {
    /// Checks and reads them.
    ///
    /// # Errors
    /// Says which one is wrong, what about it, and what to write instead.
    pub fn new(topics: Vec<AutoSubscription>) -> Result<Self, String> {
        if topics.len() > SUBSCRIPTIONS_MAX {
            return Err(format!("has {} topics; there may be {SUBSCRIPTIONS_MAX}", topics.len()));
        }
        let one = |(number, written): (usize, AutoSubscription)| {
            let template = read(&written.topic).map_err(|what| format!("topic {number}: topic {what}"))?;
            if written.options.no_local && written.topic.starts_with("$share/") {
                // [MQTT-3.8.3-4]
                return Err(format!("topic {number}: no_local does not exist for shared subscriptions"));
            }
            Ok((written, template))
        };
        Ok(Self { topics: (1..).zip(topics).map(one).collect::<Result<_, _>>()? })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

fn read(text: &str) -> Result<Template, String> {
    if text.is_empty() {
        return Err("is missing or empty".into());
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("is longer than {TEXT_BYTES_MAX} bytes"));
    }
    let template = Template::read(text, None)?;
    // As it may be for somebody.
    let somebody = Names { client_id: "c", username: "u", address: ([127, 0, 0, 1], 1).into() };
    let mut filter = String::new();
    let filled = template.fill(&somebody, |_| "", usize::MAX, &mut filter);
    if !filled || parse_filter(&filter).is_err() {
        return Err("is no topic filter, such as \"clients/%c/#\"".into());
    }
    Ok(template)
}

impl<T: Send> Shard<T> {
    /// A client has its CONNACK: subscribes it to what everybody gets. Nobody is asked whether it may. What it has already is
    /// replaced, as if it had subscribed again.
    pub(crate) fn auto_subscribe(&mut self, slot: u32) {
        let Some(conn) = self.conns.get(slot) else { return };
        let profile = self.profiles.profile(conn.profile);
        if profile.auto_subscribe.is_empty() {
            return;
        }
        let (profile, most) = (profile.clone(), self.profiles.limits(conn.profile).topic.bytes_max);
        let session = conn.session;
        let mut filter = String::new();
        for (written, template) in &profile.auto_subscribe.topics {
            filter.clear();
            let Some(conn) = self.conns.get(slot) else { return };
            let Some(resident) = self.sessions.get(session) else { return };
            let names = Names {
                client_id: resident.session.client_id(),
                username: conn.rare.as_ref().map_or("", |rare| &rare.principal.name),
                address: conn.peer.address,
            };
            let filled = template.fill(&names, |_| "", usize::from(most), &mut filter);
            if !filled || self.subscribe_unasked(slot, &filter, written.options).is_err() {
                self.counters.bump(Metric::AutoSubscriptionsRefused);
            }
        }
        self.release_retained(session);
        self.release_replays(session);
    }
}

#[cfg(test)]
mod tests {
    use breakwater_proto::QoS;

    use super::*;

    fn topic(topic: &str, no_local: bool) -> AutoSubscription {
        AutoSubscription {
            topic: topic.into(),
            options: SubscribeOptions { no_local, ..SubscribeOptions::new(QoS::AtMostOnce) },
        }
    }

    #[test]
    fn bad_topics_are_told_with_their_number() {
        let long = "a".repeat(1025);
        for (text, no_local, word) in [
            ("", false, "topic is missing"),
            (&*long, false, "longer than 1024"),
            ("a/#/b", false, "is no topic filter"),
            ("$share/g", false, "is no topic filter"),
            ("a/%c+", false, "is no topic filter"),
            ("${name}/a", false, "placeholder that nobody knows"),
            ("$share/g/a", true, "no_local"),
        ] {
            let fault = AutoSubscribe::new(vec![topic("a", true), topic(text, no_local)]).expect_err("bad");
            assert!(fault.starts_with("topic 2: ") && fault.contains(word), "{fault}");
        }
        assert!(AutoSubscribe::new(vec![topic("a", false); 65]).is_err());
        assert!(AutoSubscribe::new(vec![topic("$share/%u/%c/%h/${port}/#", false); 64]).is_ok());
    }
}
