//! Lists of tables that are settings of the whole broker: rules for topics.

use std::sync::Arc;

use breakwater_proto::{QoS, RetainHandling, SubscribeOptions};
use breakwater_shard::{AutoSubscribe, AutoSubscription, Rewrite, RewriteRule};

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
}
