//! Topics that are rewritten by rules: what a client publishes to, subscribes to and unsubscribes from.
//!
//! Rules are asked in the order of the settings, and of those whose filter matches the last one decides: if its expression
//! does not match, the topic stays. Names are those that the client says, without its mountpoint, and what a rule makes of
//! them is all that counts from there on, for authorization too.

use breakwater_contract::Metric;
use breakwater_proto::{FilterKind, matches, parse_filter, topic};
use regex::{CaptureLocations, Regex, RegexBuilder};

use crate::delayed::is_delayed;
use crate::mount::is_nameless;
use crate::publish::is_reserved;
use crate::shard::Shard;
use crate::template::{Names, Template};

/// Rules of a broker at most: each message is compared with the filters of all of them.
const RULES_MAX: usize = 256;
/// Bytes that one compiled expression may take, and as many again while it is searched.
const EXPRESSION_BYTES: usize = 1 << 20;
/// Longest filter, expression and destination.
const TEXT_BYTES_MAX: usize = 1024;

/// A rule as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RewriteRule {
    /// What is published.
    pub publish: bool,
    /// What is subscribed to, and unsubscribed from.
    pub subscribe: bool,
    /// Filter of the topics that it is for.
    pub source: Box<str>,
    /// Expression that takes them apart.
    pub expression: Box<str>,
    /// What they become.
    pub destination: Box<str>,
}

/// Rules, checked and compiled. Shared by all listeners; each shard makes a rewriter of its own from it.
#[derive(Clone, Debug, Default)]
pub struct Rewrite {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    written: RewriteRule,
    expression: Regex,
    destination: Template,
}

impl PartialEq for Rewrite {
    fn eq(&self, other: &Self) -> bool {
        self.rules.iter().map(|rule| &rule.written).eq(other.rules.iter().map(|rule| &rule.written))
    }
}

impl Eq for Rewrite {}

impl Rewrite {
    /// Checks and compiles rules.
    ///
    /// # Errors
    /// Says which rule is wrong, what about it, and what to write instead.
    pub fn new(rules: Vec<RewriteRule>) -> Result<Self, String> {
        if rules.len() > RULES_MAX {
            return Err(format!("has {} rules; there may be {RULES_MAX}", rules.len()));
        }
        let one = |(number, rule): (usize, RewriteRule)| {
            Rule::new(rule).map_err(|(key, what)| format!("rule {}: {key} {what}", number + 1))
        };
        Ok(Self { rules: (0..).zip(rules).map(one).collect::<Result<_, _>>()? })
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

impl Rule {
    fn new(written: RewriteRule) -> Result<Self, (&'static str, String)> {
        for (key, text) in
            [("source", &written.source), ("expression", &written.expression), ("destination", &written.destination)]
        {
            if text.is_empty() {
                return Err((key, "is missing or empty".into()));
            }
            if text.len() > TEXT_BYTES_MAX {
                return Err((key, format!("is longer than {TEXT_BYTES_MAX} bytes")));
            }
        }
        match parse_filter(&written.source) {
            Ok(FilterKind::Plain(_)) => {}
            Ok(FilterKind::Shared { .. }) => {
                return Err(("source", "is the filter behind $share/GROUP/, without it".into()));
            }
            Err(_) => return Err(("source", "is no topic filter, such as \"x/#\"".into())),
        }
        let expression = RegexBuilder::new(&written.expression)
            .size_limit(EXPRESSION_BYTES)
            .dfa_size_limit(EXPRESSION_BYTES)
            .build()
            .map_err(|fault| ("expression", refusal(&fault)))?;
        let destination = Template::read(&written.destination, Some(expression.captures_len() - 1))
            .map_err(|what| ("destination", what))?;
        Ok(Self { written, expression, destination })
    }
}

/// Why an expression is none, in one line.
fn refusal(fault: &regex::Error) -> String {
    match fault {
        regex::Error::CompiledTooBig(most) => {
            format!("takes more than {most} bytes when it is compiled: make its repetitions smaller")
        }
        regex::Error::Syntax(text) => {
            let last = text.lines().last().unwrap_or_default().trim();
            let what = last.strip_prefix("error: ").unwrap_or(last);
            format!("is no regular expression: {what} (without look-around and back-references)")
        }
        _ => "is no regular expression".into(),
    }
}

/// The rules of one shard: what a search needs to remember is its own, so that shards don't wait for each other.
#[derive(Debug)]
pub(crate) struct Rewriter {
    rules: Vec<(Rule, CaptureLocations)>,
}

/// What a name is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Publish,
    Subscribe,
}

/// What became of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// No rule is for it.
    Same,
    /// The rule makes no name of it that could be used.
    Unusable,
    Rewritten,
}

impl Rewriter {
    /// None where there is nothing to do.
    pub(crate) fn new(rewrite: &Rewrite) -> Option<Box<Self>> {
        let one = |rule: &Rule| {
            let rule = rule.clone();
            let places = rule.expression.capture_locations();
            (rule, places)
        };
        (!rewrite.is_empty()).then(|| Box::new(Self { rules: rewrite.rules.iter().map(one).collect() }))
    }

    /// Appends to `out` what a name becomes.
    fn rewrite(&mut self, used: Use, name: &str, names: &Names<'_>, most: usize, out: &mut String) -> Outcome {
        let wanted = |rule: &Rule| match used {
            Use::Publish => rule.written.publish,
            Use::Subscribe => rule.written.subscribe,
        };
        let decides = |(rule, _): &&mut (Rule, CaptureLocations)| wanted(rule) && matches(&rule.written.source, name);
        let Some((rule, places)) = self.rules.iter_mut().rev().find(decides) else { return Outcome::Same };
        if rule.expression.captures_read(places, name).is_none() {
            return Outcome::Same;
        }
        // A group that took no part is empty.
        let group = |number| places.get(number).and_then(|(from, to)| name.get(from..to)).unwrap_or_default();
        if rule.destination.fill(names, group, most, out) { Outcome::Rewritten } else { Outcome::Unusable }
    }
}

impl<T: Send> Shard<T> {
    /// What the client of a connection means by `name`, behind `mount` in `out`, if that is not just what it says.
    pub(crate) fn rewrite(&mut self, slot: u32, used: Use, (mount, name): (&str, &str), out: &mut String) -> Outcome {
        let Some(conn) = self.conns.get(slot) else { return Outcome::Same };
        if !self.profiles.rewrites(conn.profile) {
            return Outcome::Same;
        }
        let Some(resident) = self.sessions.get(conn.session) else { return Outcome::Same };
        let names = Names {
            client_id: resident.session.client_id(),
            username: conn.rare.as_ref().map_or("", |rare| &rare.principal.name),
            address: conn.peer.address,
        };
        self.profiles.rewrite(conn.profile, used, (mount, name), &names, out)
    }

    /// Once per name, when its packet is dealt with.
    pub(crate) fn count_rewrite(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Same => {}
            Outcome::Unusable => self.counters.bump(Metric::RewritesRefused),
            Outcome::Rewritten => self.counters.bump(Metric::TopicsRewritten),
        }
    }
}

impl crate::profile::Profiles {
    /// Puts what the rules of a row make of `name` behind `mount` into `out`, if that can be used.
    pub(crate) fn rewrite(
        &mut self,
        row: u16,
        used: Use,
        (mount, name): (&str, &str),
        names: &Names<'_>,
        out: &mut String,
    ) -> Outcome {
        let limits = self.limits(row).topic;
        let Some(rewriter) = self.rewriter(row) else { return Outcome::Same };
        out.clear();
        out.push_str(mount);
        let outcome = rewriter.rewrite(used, name, names, usize::from(limits.bytes_max), out);
        let rewritten = &out[mount.len().min(out.len())..];
        let usable = topic::within(out, &limits)
            && match used {
                Use::Publish => {
                    let own = is_reserved(rewritten)
                        || (!mount.is_empty() && is_nameless(rewritten) && !is_delayed(rewritten));
                    !own && topic::check(rewritten).is_ok()
                }
                Use::Subscribe => matches!(parse_filter(rewritten), Ok(FilterKind::Plain(_))),
            };
        if outcome == Outcome::Rewritten && !usable { Outcome::Unusable } else { outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(source: &str, expression: &str, destination: &str) -> RewriteRule {
        RewriteRule {
            publish: true,
            subscribe: true,
            source: source.into(),
            expression: expression.into(),
            destination: destination.into(),
        }
    }

    fn rewritten(rules: &[(&str, &str, &str)], used: Use, name: &str) -> (Outcome, String) {
        let rules = rules.iter().map(|(source, expression, destination)| rule(source, expression, destination));
        let rewrite = Rewrite::new(rules.collect()).expect("good rules");
        let names = Names { client_id: "c", username: "", address: ([127, 0, 0, 1], 1).into() };
        let mut out = String::new();
        let outcome = Rewriter::new(&rewrite).expect("rules").rewrite(used, name, &names, 20, &mut out);
        (outcome, out)
    }

    #[test]
    fn the_last_rule_whose_filter_matches_decides() {
        let rules = [
            ("y/+/z/#", "^y/(.+)/z/(.+)$", "y/z/$2"),
            ("x/#", "^x/y/(.+)$", "z/y/x/$1"),
            ("x/y/+", r"^x/y/(\d+)$", "z/y/$1"),
        ];
        for (name, wanted) in
            [("y/a/z/b", "y/z/b"), ("x/y/2", "z/y/2"), ("x/y/1/2", "z/y/x/1/2"), ("x/y/+/a", "z/y/x/+/a")]
        {
            assert_eq!(rewritten(&rules, Use::Subscribe, name), (Outcome::Rewritten, wanted.into()), "{name}");
        }
        // The filter of the last one matches and its expression does not: the one before it is not asked.
        for name in ["y/def", "x/1/2", "x/y/z", "q"] {
            assert_eq!(rewritten(&rules, Use::Publish, name).0, Outcome::Same, "{name}");
        }
    }

    #[test]
    fn what_can_not_be_a_name_is_told_apart() {
        assert_eq!(rewritten(&[("#", "(.*)", "%u/$1")], Use::Publish, "a").0, Outcome::Unusable, "no user name");
        assert_eq!(rewritten(&[("#", "(.*)", "$1$1$1")], Use::Publish, "1234567").0, Outcome::Unusable, "too long");
        assert_eq!(rewritten(&[("#", "(a)|b", "t/$1")], Use::Publish, "b"), (Outcome::Rewritten, "t/".into()));
    }

    #[test]
    fn rules_are_for_what_they_say() {
        let only = RewriteRule { publish: false, ..rule("#", "^(.*)$", "s/$1") };
        let mut rewriter = Rewriter::new(&Rewrite::new(vec![only]).expect("good")).expect("a rule");
        let names = Names { client_id: "c", username: "", address: ([127, 0, 0, 1], 1).into() };
        assert_eq!(rewriter.rewrite(Use::Publish, "a", &names, 20, &mut String::new()), Outcome::Same);
        assert_eq!(rewriter.rewrite(Use::Subscribe, "a", &names, 20, &mut String::new()), Outcome::Rewritten);
    }

    #[test]
    fn bad_rules_are_told_with_their_number() {
        let long = "a".repeat(1025);
        for (source, expression, destination, word) in [
            ("", "a", "b", "source is missing"),
            ("a", "", "b", "expression is missing"),
            ("a", "a", "", "destination is missing"),
            (&long, "a", "b", "longer than 1024"),
            ("a/#/b", "a", "b", "source is no topic filter"),
            ("$share/g/a", "a", "b", "source is the filter behind"),
            ("a", "(", "b", "expression is no regular expression: unclosed group"),
            ("a", "(?=b)a", "b", "look-around"),
            ("a", r"(\w{1000}){1000}", "b", "takes more than"),
            ("a", "(a)", "$2", "destination names $2"),
        ] {
            let rules = vec![rule("a", "a", "b"), rule(source, expression, destination)];
            let fault = Rewrite::new(rules).expect_err("bad");
            assert!(fault.starts_with("rule 2: ") && fault.contains(word), "{fault}");
        }
        assert!(Rewrite::new(vec![rule("a", "a", "b"); 257]).is_err());
    }
}
