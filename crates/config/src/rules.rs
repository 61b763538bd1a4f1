//! Lists of tables that are settings of the whole broker: rules for topics.

use std::sync::Arc;

use breakwater_proto::{FilterKind, QoS, RetainHandling, SubscribeOptions, parse_filter};
use breakwater_shard::{AutoSubscribe, AutoSubscription, ReplayRule, Rewrite, RewriteRule};

use crate::{Kind, Value};

/// One table of a list: what it says under a key, and nothing for what it doesn't.
struct Table<'a>(&'a [(Box<str>, Box<str>)]);

impl<'a> Table<'a> {
    fn get(&self, key: &str) -> &'a str {
        self.0.iter().find(|(name, _)| **name == *key).map_or("", |(_, text)| text)
    }
}

fn tables(value: &Value) -> impl Iterator<Item = (usize, Table<'_>)> {
    (1..).zip(value.tables().iter().map(|table| Table(table)))
}

/// `rewrite.rules`.
pub(crate) fn rewrite(value: &Value) -> Result<Arc<Rewrite>, String> {
    let one = |(number, table): (usize, Table<'_>)| {
        let (publish, subscribe) = match table.get("action") {
            "" | "all" => (true, true),
            "publish" => (true, false),
            "subscribe" => (false, true),
            _ => return Err(format!("rule {number}: action takes publish, subscribe or all")),
        };
        Ok(RewriteRule {
            publish,
            subscribe,
            source: table.get("source").into(),
            expression: table.get("expression").into(),
            destination: table.get("destination").into(),
        })
    };
    Rewrite::new(tables(value).map(one).collect::<Result<_, _>>()?).map(Arc::new)
}

/// `auto_subscribe.topics`.
pub(crate) fn auto_subscribe(value: &Value) -> Result<Arc<AutoSubscribe>, String> {
    let one = |(number, table): (usize, Table<'_>)| {
        let read = |key: &str, kind: Kind| match table.get(key) {
            "" => Ok(0),
            text => match kind.parse(text) {
                Ok(value) => Ok(value.number() as u8),
                Err(what) => Err(format!("topic {number}: {key} {what}")),
            },
        };
        let upto_2 = Kind::Count { min: 0, max: 2 };
        let options = SubscribeOptions {
            qos: QoS::from_bits(read("qos", upto_2)?).unwrap_or_default(),
            no_local: read("no_local", Kind::Flag)? != 0,
            retain_as_published: read("retain_as_published", Kind::Flag)? != 0,
            retain_handling: match read("retain_handling", upto_2)? {
                0 => RetainHandling::AtSubscribe,
                1 => RetainHandling::IfNew,
                _ => RetainHandling::Never,
            },
        };
        Ok(AutoSubscription { topic: table.get("topic").into(), options })
    };
    AutoSubscribe::new(tables(value).map(one).collect::<Result<_, String>>()?).map(Arc::new)
}

/// Rules for the life of retained messages at most: each message that is retained is compared with them.
const EXPIRIES_MAX: usize = 256;

/// `retained.expiry_rules`.
pub(crate) fn expiries(value: &Value) -> Result<Vec<(Box<str>, u32)>, String> {
    if value.tables().len() > EXPIRIES_MAX {
        return Err(format!("has {} rules; there may be {EXPIRIES_MAX}", value.tables().len()));
    }
    let one = |(number, table): (usize, Table<'_>)| {
        let filter = table.get("filter");
        if !matches!(parse_filter(filter), Ok(FilterKind::Plain(_))) || filter.len() > 1024 {
            return Err(format!("rule {number}: filter is no topic filter, such as \"status/#\""));
        }
        let span = Kind::Duration { min_ms: 1000, max_ms: u64::from(u32::MAX) * 1000 };
        let expiry = span.parse(table.get("expiry")).map_err(|what| format!("rule {number}: expiry {what}"))?;
        Ok((filter.into(), u32::try_from(expiry.number().div_ceil(1000)).unwrap_or(u32::MAX)))
    };
    tables(value).map(one).collect()
}

/// Rules for what is kept at most: a message is kept once for each that its topic matches.
const REPLAYS_MAX: usize = 64;

/// `replay.rules`.
pub(crate) fn replays(value: &Value) -> Result<Vec<ReplayRule>, String> {
    if value.tables().len() > REPLAYS_MAX {
        return Err(format!("has {} rules; there may be {REPLAYS_MAX}", value.tables().len()));
    }
    let mut rules: Vec<ReplayRule> = Vec::new();
    for (number, table) in tables(value) {
        let filter = table.get("filter");
        let plain = matches!(parse_filter(filter), Ok(FilterKind::Plain(_)));
        if !plain || filter.starts_with('$') || filter.len() > 1024 {
            return Err(format!("rule {number}: filter is no topic filter, such as \"sensors/#\""));
        }
        if let Some(other) = rules.iter().position(|rule| *rule.filter == *filter) {
            return Err(format!("rule {number}: filter is that of rule {}", other + 1));
        }
        let read = |key: &str, default: &str, kind: Kind| {
            let text = if table.get(key).is_empty() { default } else { table.get(key) };
            kind.parse(text).map(|value| value.number()).map_err(|what| format!("rule {number}: {key} {what}"))
        };
        // As far back as a filter can ask for in seconds.
        let span = Kind::Duration { min_ms: 1000, max_ms: 4_294_967_000 };
        rules.push(ReplayRule {
            filter: filter.into(),
            max_age_s: u32::try_from(read("max_age", "1h", span)?.div_ceil(1000)).unwrap_or(u32::MAX),
            max_messages: read("max_messages", "100000", Kind::Count { min: 1, max: u64::from(u32::MAX) })?,
            max_bytes: read("max_bytes", "256MB", Kind::Bytes { min: 1, max: 1 << 50 })?,
        });
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use crate::tests::{faults, good};

    #[test]
    fn rules_reach_every_listener() {
        let text = "[[rewrite.rules]]\nsource = 'x/#'\nexpression = '^x/(.+)$'\ndestination = 'y/$1/%c'\n\
                    [[rewrite.rules]]\naction = 'publish'\nsource = 'z'\nexpression = 'z'\ndestination = '$delayed/5/z'\n";
        let resolved = good(text);
        assert!(!resolved.terms.rewrite.is_empty());
        assert!(resolved.listeners.iter().all(|listener| listener.options.profile.rewrite == resolved.terms.rewrite));
        assert_eq!(good("").terms.rewrite, std::sync::Arc::default());
    }

    #[test]
    fn a_rule_that_can_not_work_is_told_with_its_place() {
        for (text, word) in [
            ("[[rewrite.rules]]\nsource = 'x'\nexpression = '('\ndestination = 'y'\n", "rule 1: expression is no"),
            ("[[rewrite.rules]]\nsource = 'x'\nexpression = 'x'\ndestination = '$1'\n", "rule 1: destination names $1"),
            ("[[rewrite.rules]]\nsource = 'x'\nexpression = 'x'\n", "rule 1: destination is missing"),
            ("[[rewrite.rules]]\naction = 'both'\n", "rule 1: action takes publish, subscribe or all"),
            ("[[rewrite.rules]]\nre = 'x'\n", "has tables with the keys action, source, expression, destination"),
        ] {
            let faults = faults(text);
            let told =
                faults.iter().any(|fault| fault.contains(word) && fault.contains("b.toml:1:11: rewrite.rules: "));
            assert!(told, "{faults:?}");
        }
    }

    #[test]
    fn new_rules_are_taken_up_while_the_broker_runs() {
        let text = "[[rewrite.rules]]\nsource = 'x'\nexpression = 'x'\ndestination = 'y'\n";
        let plan = crate::plan(&good(""), &good(text));
        assert_eq!((plan.steps.len(), plan.restarts().count()), (5, 0));
        assert!(
            plan.lines()
                .iter()
                .any(|line| line.starts_with("setting rewrite.rules: (none) -> {") && line.contains("at once"))
        );
    }

    #[test]
    fn topics_for_all_reach_every_listener() {
        let text = "[[auto_subscribe.topics]]\ntopic = 'c/%c/#'\nqos = 1\nno_local = true\nretain_handling = 2\n";
        let resolved = good(text);
        let given = &resolved.terms.auto_subscribe;
        assert!(!given.is_empty());
        assert!(resolved.listeners.iter().all(|listener| &listener.options.profile.auto_subscribe == given));
        let same = "auto_subscribe.topics = [{ topic = 'c/%c/#', qos = '1', no_local = 1, retain_handling = 2 }]\n";
        assert_eq!(&good(same).terms.auto_subscribe, given);
        for (text, word) in [
            ("topic = 'a'\nqos = 3\n", "topic 1: qos takes 0 to 2, not \"3\""),
            ("topic = 'a'\nno_local = 'perhaps'\n", "topic 1: no_local takes true, false"),
            ("qos = 1\n", "topic 1: topic is missing"),
            ("topic = 'a'\nrh = 1\n", "has tables with the keys topic, qos"),
        ] {
            let faults = faults(&format!("[[auto_subscribe.topics]]\n{text}"));
            assert!(faults[0].contains(word) && faults[0].contains("b.toml:1:18"), "{faults:?}");
        }
    }

    #[test]
    fn retained_messages_get_a_life_by_their_topics() {
        let text = "retained.expiry = '1h'\n[[retained.expiry_rules]]\nfilter = 'a/#'\nexpiry = '90s'\n";
        let life = good(text).retained;
        assert_eq!((life.default_s, &life.rules[..]), (Some(3600), &[("a/#".into(), 90)][..]));
        assert_eq!(good("").retained, breakwater_router::RetainedLife::default());
        let plan = crate::plan(&good(""), &good(text));
        assert_eq!((plan.steps.len(), plan.restarts().count(), plan.changes.len()), (0, 0, 2));
        for (text, word) in [
            ("filter = 'a/#/b'\nexpiry = '1s'\n", "rule 1: filter is no topic filter"),
            ("expiry = '1s'\n", "rule 1: filter is no topic filter"),
            ("filter = '$share/g/a'\nexpiry = '1s'\n", "rule 1: filter is no topic filter"),
            ("filter = 'a'\nexpiry = 60\n", "rule 1: expiry needs a unit, such as 60s"),
            ("filter = 'a'\n", "rule 1: expiry takes 1s to"),
            ("filter = 'a'\nttl = '1s'\n", "has tables with the keys filter, expiry"),
        ] {
            let faults = faults(&format!("[[retained.expiry_rules]]\n{text}"));
            assert!(faults[0].contains(word) && faults[0].contains("b.toml:1:12"), "{faults:?}");
        }
    }

    #[test]
    fn what_is_kept_for_replays_has_bounds_whether_they_are_said_or_not() {
        let text = "[[replay.rules]]\nfilter = 'a/#'\n\
                    [[replay.rules]]\nfilter = 'b'\nmax_age = '90s'\nmax_messages = 5\nmax_bytes = '1KB'\n";
        let rules = good(text).replay;
        let bounds: Vec<_> =
            rules.iter().map(|rule| (&*rule.filter, rule.max_age_s, rule.max_messages, rule.max_bytes)).collect();
        assert_eq!(bounds, [("a/#", 3600, 100_000, 256 << 20), ("b", 90, 5, 1024)]);
        assert!(good("").replay.is_empty());
        let plan = crate::plan(&good(""), &good(text));
        assert_eq!(plan.restarts().count(), 0);
        for (text, word) in [
            ("max_age = '1h'\n", "rule 1: filter is no topic filter"),
            ("filter = '$SYS/#'\n", "rule 1: filter is no topic filter"),
            ("filter = '$share/g/a'\n", "rule 1: filter is no topic filter"),
            ("filter = 'a'\nmax_age = 'long'\n", "rule 1: max_age takes"),
            ("filter = 'a'\nmax_messages = 0\n", "rule 1: max_messages takes"),
            ("filter = 'a'\n[[replay.rules]]\nfilter = 'a'\n", "rule 2: filter is that of rule 1"),
            ("expiry = '1h'\n", "has tables with the keys filter, max_age, max_messages, max_bytes"),
        ] {
            let faults = faults(&format!("[[replay.rules]]\n{text}"));
            assert!(faults.iter().any(|fault| fault.contains(word)), "{word}: {faults:?}");
        }
    }
}
