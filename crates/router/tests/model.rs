//! Random changes and questions, answered by the router and by a list that is searched from end to end.

use std::collections::BTreeMap;

use breakwater_proto::{ForwardProperties, Instant, Message, MessageView, QoS};
use breakwater_router::{
    FilterId, Grant, Matches, PickTicket, Progress, RetainedCursor, Router, RouterOptions, Strategy as PickStrategy,
    Subscriber,
};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Step {
    Subscribe(String, u32, u8),
    Unsubscribe(String, u32),
    RemoveById(usize),
    Join(u8, String, u32),
    Leave(u8, String, u32),
    Online(usize, bool),
    Publish(String),
    Retain(String, bool),
    Clear(String),
    ReadRetained(String, usize),
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just(""), Just("c"), Just("$x")]
}

fn not_empty(text: String) -> String {
    if text.is_empty() { "/".to_owned() } else { text }
}

fn topic() -> impl Strategy<Value = String> {
    prop::collection::vec(level(), 1..5).prop_map(|levels| not_empty(levels.join("/")))
}

fn filter() -> impl Strategy<Value = String> {
    let level = prop_oneof![3 => level(), 2 => Just("+")];
    (prop::collection::vec(level, 0..5), any::<bool>()).prop_map(|(mut levels, hash)| {
        if hash {
            levels.push("#");
        }
        not_empty(levels.join("/"))
    })
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..6u32;
    prop_oneof![
        4 => (filter(), who.clone(), any::<u8>()).prop_map(|(f, w, g)| Step::Subscribe(f, w, g)),
        2 => (filter(), who.clone()).prop_map(|(f, w)| Step::Unsubscribe(f, w)),
        2 => any::<usize>().prop_map(Step::RemoveById),
        2 => (0..2u8, filter(), who.clone()).prop_map(|(n, f, w)| Step::Join(n, f, w)),
        1 => (0..2u8, filter(), who).prop_map(|(n, f, w)| Step::Leave(n, f, w)),
        1 => (any::<usize>(), any::<bool>()).prop_map(|(n, o)| Step::Online(n, o)),
        6 => topic().prop_map(Step::Publish),
        3 => (topic(), any::<bool>()).prop_map(|(t, e)| Step::Retain(t, e)),
        1 => topic().prop_map(Step::Clear),
        2 => (filter(), 1..20usize).prop_map(|(f, b)| Step::ReadRetained(f, b)),
    ]
}

fn session(number: u32) -> Subscriber {
    Subscriber { shard: (number % 3) as u16, generation: (number * 7 % 5) as u16, slot: number }
}

fn grant(bits: u8) -> Grant {
    Grant {
        qos: [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(bits % 3)],
        no_local: bits & 4 != 0,
        retain_as_published: bits & 8 != 0,
        durable: bits & 16 != 0,
        subscription_id: u32::from(bits >> 5),
    }
}

#[derive(Default)]
struct Model {
    plain: BTreeMap<(String, u32), (Grant, FilterId)>,
    /// (filter, group, session): id and online.
    shared: BTreeMap<(String, u8, u32), (FilterId, bool)>,
    retained: BTreeMap<String, (u64, bool)>,
}

impl Model {
    fn check_publish(&self, router: &Router, topic: &str, out: &mut Matches) {
        router.matches(0, topic, out);
        let mut expect: BTreeMap<Subscriber, Vec<Grant>> = BTreeMap::new();
        for ((filter, who), (grant, _)) in &self.plain {
            if breakwater_proto::matches(filter, topic) {
                expect.entry(session(*who)).or_default().push(*grant);
            }
        }
        assert_eq!(
            out.few.iter().map(|t| t.subscriber).collect::<Vec<_>>(),
            expect.keys().copied().collect::<Vec<_>>()
        );
        for (index, grants) in expect.values().enumerate() {
            let heard: Vec<Grant> = grants.iter().copied().filter(|grant| !grant.no_local).collect();
            check_merged(out, index, false, grants);
            check_merged(out, index, true, &heard);
        }
        assert_eq!(out.any_durable, expect.values().flatten().any(|grant| grant.durable));
        self.check_groups(router, topic, out);
    }

    fn check_groups(&self, router: &Router, topic: &str, out: &Matches) {
        let mut expect: BTreeMap<(&str, u8), Vec<(u32, bool)>> = BTreeMap::new();
        for ((filter, name, who), (_, online)) in &self.shared {
            if breakwater_proto::matches(filter, topic) {
                expect.entry((filter, *name)).or_default().push((*who, *online));
            }
        }
        assert_eq!(out.groups.len(), expect.len());
        // Trying until nobody is left names every member, those online first.
        let mut found: Vec<Vec<u32>> = Vec::new();
        for group in &out.groups {
            let mut tried = Vec::new();
            while let Some(target) = router.pick(*group, &ticket(&tried)) {
                tried.push(target.subscriber);
            }
            let mut members: Vec<u32> = tried.iter().map(|who| who.slot).collect();
            let online_first = expect.values().any(|wanted| {
                let online = wanted.iter().filter(|(_, online)| *online).count();
                let mut picked: Vec<_> =
                    members.iter().enumerate().map(|(place, who)| (*who, place < online)).collect();
                picked.sort_unstable();
                picked == *wanted
            });
            assert!(online_first);
            members.sort_unstable();
            found.push(members);
        }
        let slots = |wanted: Vec<(u32, bool)>| wanted.into_iter().map(|(who, _)| who).collect();
        let mut wanted: Vec<Vec<u32>> = expect.into_values().map(slots).collect();
        wanted.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, wanted);
    }

    fn check_retained(&self, router: &Router, filter: &str, budget: usize) {
        let now = Instant(1000);
        let mut cursor = RetainedCursor::new(filter);
        let mut out = Vec::new();
        while router.retained_next(&mut cursor, now, budget, &mut out) == Progress::More {}
        let mut found: Vec<(String, u64)> = out.iter().map(|(m, revision)| (m.topic().to_owned(), *revision)).collect();
        found.sort_unstable();
        let live = self.retained.iter().filter(|(t, (_, expired))| !expired && breakwater_proto::matches(filter, t));
        assert_eq!(found, live.map(|(t, (revision, _))| (t.clone(), *revision)).collect::<Vec<_>>());
    }
}

fn ticket(tried: &[Subscriber]) -> PickTicket<'_> {
    PickTicket { shard: 0, topic_hash: 5, client_hash: 6, random: 7, tried }
}

fn check_merged(out: &Matches, index: usize, to_publisher: bool, grants: &[Grant]) {
    let merged = out.grant(index, to_publisher);
    let mut ids = Vec::new();
    out.subscription_ids(index, to_publisher, &mut ids);
    ids.sort_unstable();
    let mut expect: Vec<u32> = grants.iter().map(|grant| grant.subscription_id).filter(|id| *id != 0).collect();
    expect.sort_unstable();
    assert_eq!(ids, expect);
    assert_eq!(merged.is_none(), grants.is_empty());
    if let Some(merged) = merged {
        assert_eq!(Some(merged.qos()), grants.iter().map(|grant| grant.qos).max());
        assert_eq!(merged.retain_as_published(), grants.iter().any(|grant| grant.retain_as_published));
    }
}

fn message(topic: &str, expires: bool) -> Message {
    let view = MessageView {
        topic,
        payload: b"x",
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: ForwardProperties::EMPTY,
        expires_at: expires.then_some(Instant(1000)),
        origin: 0,
    };
    Message::new(&view, &mut Vec::new())
}

fn run(steps: &[Step], options: RouterOptions) {
    let router = Router::new(options);
    let mut out = Matches::new();
    let mut model = Model::default();
    for step in steps {
        apply(step, &router, &mut model, &mut out);
        let counts = router.counts();
        assert_eq!(counts.subscriptions, model.plain.len() as u64);
        assert_eq!(counts.shared_subscriptions, model.shared.len() as u64);
        assert_eq!(counts.retained, model.retained.len() as u64);
    }
    for ((filter, who), (grant, id)) in &model.plain {
        let mut text = String::new();
        assert!(router.filter_text(*id, &mut text));
        assert_eq!(&text, filter);
        assert_eq!(router.grant(*id, session(*who)), Some(*grant));
        assert!(router.remove(*id, session(*who)));
    }
    for ((filter, name, who), (id, _)) in &model.shared {
        let mut text = String::new();
        assert!(router.filter_text(*id, &mut text));
        assert_eq!(text, format!("$share/g{name}/{filter}"));
        assert!(router.remove(*id, session(*who)));
    }
    let swept = router.sweep_retained(Instant(1000), 10_000, |_, _| {});
    assert_eq!(swept, model.retained.values().filter(|(_, expired)| *expired).count());
    for topic in model.retained.iter().filter(|(_, (_, expired))| !expired).map(|(topic, _)| topic) {
        assert!(router.clear_retained(topic).replaced);
    }
    assert_eq!(router.counts(), Router::new(RouterOptions::default()).counts());
}

fn apply(step: &Step, router: &Router, model: &mut Model, out: &mut Matches) {
    match step {
        Step::Subscribe(filter, who, bits) => {
            let done = router.subscribe(filter, session(*who), grant(*bits));
            let old = model.plain.insert((filter.clone(), *who), (grant(*bits), done.id));
            assert_eq!(done.new, old.is_none());
            assert!(old.is_none_or(|(_, id)| id == done.id), "an id is stable");
        }
        Step::Unsubscribe(filter, who) => {
            let id = model.plain.remove(&(filter.clone(), *who)).map(|(_, id)| id);
            assert_eq!(router.unsubscribe(filter, session(*who)), id);
        }
        Step::RemoveById(number) => {
            let nth = model.plain.keys().nth(number % model.plain.len().max(1)).cloned();
            if let Some((nth, (_, id))) = nth.and_then(|nth| model.plain.remove_entry(&nth)) {
                let who = session(nth.1);
                assert!(router.remove(id, who));
                assert!(!router.remove(id, who));
            }
        }
        Step::Join(name, filter, who) => {
            let done = router.subscribe_shared(&format!("g{name}"), filter, session(*who), grant(0));
            let old = model.shared.insert((filter.clone(), *name, *who), (done.id, true));
            assert_eq!(done.new, old.is_none());
        }
        Step::Leave(name, filter, who) => {
            let id = model.shared.remove(&(filter.clone(), *name, *who)).map(|(id, _)| id);
            assert_eq!(router.unsubscribe_shared(&format!("g{name}"), filter, session(*who)), id);
        }
        Step::Online(number, online) => {
            let nth = number % model.shared.len().max(1);
            if let Some(((_, _, who), (id, was))) = model.shared.iter_mut().nth(nth) {
                router.set_online(*id, session(*who), *online);
                *was = *online;
            }
        }
        Step::Publish(topic) => {
            model.check_publish(router, topic, out);
            model.check_publish(router, topic, out);
        }
        Step::Retain(topic, expired) => {
            let outcome = router.retain(message(topic, *expired));
            let old = model.retained.insert(topic.clone(), (outcome.revision, *expired));
            assert_eq!(outcome.replaced, old.is_some());
            assert!(old.is_none_or(|(revision, _)| revision < outcome.revision));
        }
        Step::Clear(topic) => {
            assert_eq!(router.clear_retained(topic).replaced, model.retained.remove(topic).is_some());
        }
        Step::ReadRetained(filter, budget) => model.check_retained(router, filter, *budget),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn router_and_model_agree(steps in prop::collection::vec(step(), 1..120), seed: u64, strategy in 0..7usize) {
        let strategy = [
            PickStrategy::Random,
            PickStrategy::RoundRobin,
            PickStrategy::RoundRobinPerGroup,
            PickStrategy::Sticky,
            PickStrategy::Local,
            PickStrategy::HashTopic,
            PickStrategy::HashClientId,
        ][strategy];
        // Few places, so that answers drive each other out; none in every fourth run.
        let cache_entries = (seed % 4) as u32 * 8;
        run(&steps, RouterOptions { shards: 3, hash_seed: seed, cache_entries, strategy, ..RouterOptions::default() });
    }
}
