//! `$replay/SECONDS/FILTER`: what a rule has kept comes first, and then what is published, without a gap and nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use breakwater_contract::auth::Subject;
use breakwater_contract::{Action, Authorizer, Metric, Verdict};
use breakwater_proto::{Instant, OutPublish, PacketKind, QoS, ReasonCode, SubscribeOptions, Version, encode_pubrel};
use breakwater_shard::ReplayRule;
use breakwater_store::{Crash, SimulatedDisk};
use breakwater_testkit::{Broker, Client, out_publish};

fn rule(filter: &str) -> ReplayRule {
    ReplayRule { filter: filter.into(), max_age_s: 3600, max_messages: 1_000_000, max_bytes: 1 << 30 }
}

fn on(disk: &SimulatedDisk, shards: u16) -> Broker {
    Broker::new().shards(shards).on_disk(disk).replay(&[rule("kept/#")])
}

fn fresh(shards: u16) -> Broker {
    on(&SimulatedDisk::new(), shards)
}

/// All that a client gets, answered, as text.
fn take(broker: &Broker, client: &mut Client) -> Vec<String> {
    let mut got = Vec::new();
    let mut silent = 0;
    while silent < 4 {
        let more = client.payloads();
        silent = if more.is_empty() { silent + 1 } else { 0 };
        got.extend(more.into_iter().map(|payload| String::from_utf8(payload).expect("text")));
        broker.advance(Duration::from_millis(300));
    }
    got
}

fn names(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:05}")).collect()
}

fn publish(client: &mut Client, topic: &str, qos: QoS, range: std::ops::Range<usize>) {
    for name in names(range) {
        client.send_publish(topic, qos, false, name.as_bytes());
    }
}

fn second(broker: &Broker) {
    broker.advance(Duration::from_secs(1));
}

#[test]
fn what_was_kept_comes_first_in_order_and_then_what_is_published() {
    for shards in [1, 2] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            let broker = fresh(shards);
            let ids: Vec<String> = (0..shards).map(|shard| broker.id_at(shard, "publisher")).collect();
            let mut publishers: Vec<Client> = ids.iter().map(|id| broker.client(id).connect()).collect();
            for (nth, publisher) in publishers.iter_mut().enumerate() {
                publish(publisher, &format!("kept/{nth}"), qos, 0..300);
                publish(publisher, "other", qos, 0..3);
            }
            second(&broker);
            let mut late = broker.client("late").connect();
            assert_eq!(late.subscribe("$replay/60/kept/0", QoS::ExactlyOnce).suback().codes, [2]);
            assert_eq!(take(&broker, &mut late), names(0..300), "{shards} {qos:?}");
            publish(&mut publishers[0], "kept/0", qos, 300..310);
            assert_eq!(take(&broker, &mut late), names(300..310), "{shards} {qos:?}");
            assert_eq!(broker.counter(Metric::ReplaySent), 300);
        }
    }
}

#[test]
fn only_what_is_young_enough_comes_and_not_as_retained() {
    let broker = fresh(2);
    let mut publisher = broker.client("publisher").connect();
    let mut all = Vec::new();
    for number in 0..40 {
        let name = format!("{number:05}");
        publisher.publish_retained("kept/t", QoS::AtLeastOnce, name.as_bytes());
        all.push((broker.now(), name));
        second(&broker);
    }
    for seconds in [20, 47, 3000, 0] {
        let mut late = broker.client("late").connect();
        let young = |(at, _): &&(Instant, String)| broker.now().ms_since(*at) <= seconds * 1000;
        let wanted: Vec<String> = all.iter().filter(young).map(|(_, name)| name.clone()).collect();
        late.subscribe(&format!("$replay/{seconds}/kept/+"), QoS::AtLeastOnce);
        broker.advance(Duration::from_millis(200));
        let mut got = Vec::new();
        if late.waiting() > 0 {
            let first = late.message();
            assert!(!first.publish().retain, "neither retained ones nor as such");
            got.push(String::from_utf8(first.publish().payload.to_vec()).expect("text"));
        }
        got.extend(take(&broker, &mut late));
        assert_eq!(got, wanted, "{seconds}");
        late.disconnect();
    }
    // A moment in Unix time: the virtual clock begins with the year 2026.
    let mut late = broker.client("late").connect();
    late.subscribe("$replay/1767225610/kept/t", QoS::AtMostOnce);
    let got = take(&broker, &mut late);
    assert!((29..=31).contains(&got.len()) && got[got.len() - 1] == "00039", "{got:?}");
}

/// What came, by what stands before the number in each payload.
fn by_kind(broker: &Broker, client: &mut Client) -> BTreeMap<String, Vec<usize>> {
    let mut got = BTreeMap::<String, Vec<usize>>::new();
    for payload in take(broker, client) {
        let (kind, number) = payload.split_once(' ').expect("two words");
        got.entry(kind.to_owned()).or_default().push(number.parse().expect("a number"));
    }
    got
}

/// A publisher takes what it is answered.
fn settle(client: &mut Client) {
    while let Some(packet) = client.try_next() {
        if packet.kind() == PacketKind::PubRec {
            let mut bytes = Vec::new();
            encode_pubrel(Version::V5, packet.ack().packet_id, ReasonCode::Success, &mut bytes);
            client.send(&bytes);
        }
    }
}

/// Publishers of all kinds go on while somebody asks for all of it.
fn seam(shards: u16, seed: u64, lasting: bool, granted: QoS) {
    let disk = SimulatedDisk::new();
    let broker = on(&disk, shards).seed(seed);
    let mut publishers = Vec::new();
    for shard in 0..shards {
        for (kind, expiry) in [("brief", 0), ("lasting", 3600)] {
            let id = broker.id_at(shard, kind);
            publishers.push((id.clone(), broker.client(&id).expiry(expiry).connect(), 0));
        }
    }
    let mut chance = seed;
    let mut next = |most: u64| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) % most
    };
    let say = |publishers: &mut Vec<(String, Client, usize)>, next: &mut dyn FnMut(u64) -> u64| {
        let nth = next(publishers.len() as u64) as usize;
        let (id, client, sent) = &mut publishers[nth];
        for _ in 0..=next(3) {
            for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                let kind = format!("{id}/{}", qos.as_u8());
                client.send_publish(&format!("kept/{kind}"), qos, false, format!("{kind} {sent}").as_bytes());
            }
            *sent += 1;
        }
        // Some is acknowledged, some waits.
        if next(3) == 0 {
            settle(client);
        }
    };
    for _ in 0..60 {
        say(&mut publishers, &mut next);
        broker.turn(next(u64::from(shards)) as u16);
    }
    let expiry = if lasting { 3600 } else { 0 };
    let mut late = broker.client("late").expiry(expiry).connect();
    late.send_subscribe(&[("$replay/3600/kept/#", SubscribeOptions::new(granted))], None);
    for _ in 0..400 {
        say(&mut publishers, &mut next);
        for _ in 0..next(3) {
            broker.turn(next(u64::from(shards)) as u16);
        }
        if next(8) == 0 {
            broker.advance(Duration::from_millis(next(40)));
        }
    }
    assert_eq!(late.next_of(PacketKind::SubAck).suback().codes, [granted.as_u8()]);
    for _ in 0..4 {
        publishers.iter_mut().for_each(|(_, client, _)| settle(client));
        broker.advance(Duration::from_millis(300));
    }
    let got = by_kind(&broker, &mut late);
    for (id, client, sent) in &mut publishers {
        assert!(!client.is_closed());
        for qos in 0..3 {
            let kind = format!("{id}/{qos}");
            let got = got.get(&kind).cloned().unwrap_or_default();
            let wrong = got.iter().zip(0..).position(|(one, other)| *one != other);
            let whole = got.len() == *sent && wrong.is_none();
            let around = wrong.map(|at| &got[at.saturating_sub(3)..(at + 3).min(got.len())]);
            assert!(
                whole,
                "{shards} {seed} {lasting} {granted:?} {kind}: {} of {sent}, wrong at {wrong:?}: {around:?}",
                got.len()
            );
        }
    }
    assert!(broker.counter(Metric::ReplaySent) > 0);
}

#[test]
fn nothing_is_lost_and_nothing_comes_twice_where_a_replay_meets_what_is_published() {
    for seed in 0..12 {
        for shards in [1, 2, 3] {
            for lasting in [false, true] {
                seam(shards, seed, lasting, [QoS::ExactlyOnce, QoS::AtLeastOnce][seed as usize % 2]);
            }
        }
    }
}

fn unsubscribe(filter: &str) -> Vec<u8> {
    let mut packet = vec![0xA2, filter.len() as u8 + 5, 0x77, 0x77, 0, 0, filter.len() as u8];
    packet.extend(filter.as_bytes());
    packet
}

fn refused(broker: &Broker, filter: &str) -> [u8; 2] {
    [Version::V5, Version::V311].map(|version| {
        let mut client = broker.client("who").version(version).connect();
        client.subscribe(filter, QoS::AtLeastOnce).suback().codes[0]
    })
}

#[test]
fn what_no_rule_keeps_is_not_valid_nor_is_anything_without_a_store() {
    let broker = fresh(2);
    for filter in [
        "$replay/60/other",
        "$replay/60/#",
        "$replay/60/+/t",
        "$replay/60/$SYS/#",
        "$replay/x/kept/t",
        "$replay/60",
        "$share/g/$replay/60/kept/t",
        "$replay/60/$share/g/kept/t",
        "$replay/60/$exclusive/kept/t",
        "$replay/60/$replay/60/kept/t",
    ] {
        assert_eq!(refused(&broker, filter), [0x8F, 0x80], "{filter}");
    }
    for filter in ["$replay/60/kept", "$replay/60/kept/#", "$replay/60/kept/+/+"] {
        assert_eq!(refused(&broker, filter), [1, 1], "{filter}");
    }
    let forgetful = Broker::new().replay(&[rule("kept/#")]);
    assert_eq!(refused(&forgetful, "$replay/60/kept/t"), [0x8F, 0x80]);
}

#[test]
fn it_outlasts_a_power_cut_and_goes_on_with_other_shards() {
    for (before, after) in [(1, 1), (2, 2), (1, 3), (3, 1)] {
        let disk = SimulatedDisk::new();
        let broker = on(&disk, before);
        for shard in 0..before {
            let mut publisher = broker.client(&broker.id_at(shard, "publisher")).connect();
            for name in names(0..50) {
                assert!(
                    !publisher.publish("kept/t", QoS::AtLeastOnce, format!("{shard} {name}").as_bytes()).is_error()
                );
            }
        }
        // Acknowledged, so that it is there.
        let broker = on(&disk.after(Crash::Nothing), after);
        let mut publisher = broker.client("publisher").connect();
        assert!(!publisher.publish("kept/t", QoS::ExactlyOnce, b"9 00000").is_error());
        let mut late = broker.client("late").connect();
        late.subscribe("$replay/3600/kept/t", QoS::ExactlyOnce);
        let got = by_kind(&broker, &mut late);
        assert_eq!(got.len(), usize::from(before) + 1);
        for (kind, numbers) in got {
            assert_eq!(numbers, (0..if kind == "9" { 1 } else { 50 }).collect::<Vec<_>>(), "{before} {after} {kind}");
        }
        broker.advance(Duration::from_secs(2));
        assert_eq!(broker.kept_for_replay().0, u64::from(before) * 50 + 1);
        broker.advance(Duration::from_secs(3700));
        let mut late = broker.client("late").connect();
        late.subscribe("$replay/7200/kept/t", QoS::ExactlyOnce);
        assert!(take(&broker, &mut late).is_empty());
        assert_eq!(broker.kept_for_replay(), (0, 0));
    }
}

/// Publishes with one client at each shard, in turns.
fn publish_everywhere(broker: &Broker, shards: u16, range: std::ops::Range<usize>) {
    let ids: Vec<String> = (0..shards).map(|shard| broker.id_at(shard, "publisher")).collect();
    let mut publishers: Vec<Client> = ids.iter().map(|id| broker.client(id).connect()).collect();
    for (nth, name) in range.clone().zip(names(range)) {
        publishers[nth % ids.len()].publish("kept/t", QoS::AtLeastOnce, name.as_bytes());
        broker.advance(Duration::from_millis(20));
    }
}

fn replayed(broker: &Broker) -> Vec<String> {
    let mut late = broker.client("late").connect();
    late.subscribe("$replay/4000000/kept/t", QoS::AtLeastOnce);
    take(broker, &mut late)
}

#[test]
fn what_is_more_than_a_rule_keeps_goes_the_oldest_first() {
    for shards in [1, 2] {
        let disk = SimulatedDisk::new();
        let small = ReplayRule { max_messages: 100, ..rule("kept/#") };
        let broker = Broker::new().shards(shards).on_disk(&disk).replay(std::slice::from_ref(&small));
        publish_everywhere(&broker, shards, 0..1000);
        broker.advance(Duration::from_secs(5));
        // Of several shards each gives up a few at a time.
        let got = replayed(&broker);
        assert!(got.ends_with(&names(if shards == 1 { 900 } else { 930 }..1000)), "{shards} {got:?}");
        assert_eq!((got.len(), broker.kept_for_replay().0), (100, 100));
        // A message is some tens of bytes.
        broker.set_replay_rules(&[ReplayRule { max_bytes: 1000, ..small.clone() }]);
        broker.advance(Duration::from_secs(20));
        let (messages, bytes) = broker.kept_for_replay();
        assert!((10..30).contains(&messages) && bytes <= 1000, "{shards}: {messages} {bytes}");
        let got = replayed(&broker);
        assert!(
            got.len() as u64 == messages && got.ends_with(&names(if shards == 1 { 990 } else { 995 }..1000)),
            "{got:?}"
        );
        broker.set_replay_rules(&[ReplayRule { max_age_s: 10, ..small }]);
        broker.advance(Duration::from_secs(2));
        publish_everywhere(&broker, shards, 0..2);
        assert_eq!(replayed(&broker), names(0..2), "{shards}");
        broker.advance(Duration::from_secs(12));
        assert_eq!(broker.kept_for_replay(), (0, 0));
    }
}

#[test]
fn rules_that_are_taken_away_take_what_they_have_kept_with_them() {
    for shards in [1, 2] {
        let disk = SimulatedDisk::new();
        let broker = on(&disk, shards);
        publish_everywhere(&broker, shards, 0..20);
        broker.set_replay_rules(&[rule("other")]);
        assert_eq!(refused(&broker, "$replay/60/kept/t"), [0x8F, 0x80]);
        broker.advance(Duration::from_secs(3));
        broker.set_replay_rules(&[rule("kept/t"), rule("other")]);
        publish_everywhere(&broker, shards, 20..24);
        assert_eq!(replayed(&broker), names(20..24));
        broker.advance(Duration::from_secs(2));
        drop(broker);
        // Nor do they come back with a start; and one that is not there then is gone for good.
        let broker = Broker::new().shards(shards).on_disk(&disk.after(Crash::Nothing)).replay(&[rule("+/t")]);
        assert!(replayed(&broker).is_empty());
        broker.advance(Duration::from_secs(3));
        drop(broker);
    }
}

/// A client that has begun to get 1000 messages, and has no room for the rest.
fn in_the_middle(broker: &Broker, expiry: u32) -> Client {
    let mut publisher = broker.client("publisher").connect();
    publish(&mut publisher, "kept/t", QoS::AtLeastOnce, 0..1000);
    second(broker);
    let mut late = broker.client("late").expiry(expiry).receive_maximum(5).connect();
    late.subscribe("$replay/60/kept/t", QoS::AtLeastOnce);
    broker.advance(Duration::from_millis(50));
    late
}

#[test]
fn unsubscribe_ends_both_parts() {
    for shards in [1, 2] {
        for filter in ["$replay/60/kept/t", "$replay/1/kept/t", "kept/t"] {
            let broker = fresh(shards);
            let mut publisher = broker.client("other").connect();
            publish(&mut publisher, "kept/t", QoS::AtLeastOnce, 0..500);
            second(&broker);
            let mut late = broker.client("late").receive_maximum(1).connect();
            late.subscribe("$replay/60/kept/t", QoS::AtLeastOnce);
            assert_eq!(late.message().publish().payload, b"00000");
            late.send(&unsubscribe(filter));
            let got = take(&broker, &mut late);
            assert!(got.len() < 60, "{}: what was queued by then", got.len());
            assert_eq!(late.next_of(PacketKind::UnsubAck).unsuback().codes, [0]);
            publish(&mut publisher, "kept/t", QoS::AtLeastOnce, 0..5);
            take(&broker, &mut late);
            late.expect_nothing();
            assert_eq!(late.unsubscribe(filter).unsuback().codes, [0x11], "{filter}");
            // Afterwards, too.
            late.subscribe("$replay/60/kept/t", QoS::AtLeastOnce);
            assert_eq!(take(&broker, &mut late).len(), 505);
            assert_eq!(late.unsubscribe(filter).unsuback().codes, [0]);
            publish(&mut publisher, "kept/t", QoS::AtLeastOnce, 0..5);
            assert!(take(&broker, &mut late).is_empty());
        }
    }
}

#[test]
fn a_session_whose_connection_ends_goes_on_live() {
    for shards in [1, 2] {
        let broker = fresh(shards);
        let mut late = in_the_middle(&broker, 3600);
        assert_eq!(late.message().publish().payload, b"00000");
        late.reset();
        broker.step();
        let mut publisher = broker.client("publisher 2").connect();
        publish(&mut publisher, "kept/t", QoS::AtLeastOnce, 3000..3010);
        second(&broker);
        let (mut late, connack) = broker.client("late").expiry(3600).resume().attempt();
        assert!(connack.expect("CONNACK").connack().session_present);
        let got = take(&broker, &mut late);
        let (rest, live) = got.split_at(got.len() - 10);
        assert!(rest.len() < 60, "it does not begin anew");
        assert_eq!(live, names(3000..3010));
        publish(&mut publisher, "kept/t", QoS::AtLeastOnce, 3010..3012);
        assert_eq!(take(&broker, &mut late), names(3010..3012));
    }
}

#[test]
fn a_session_without_expiry_takes_its_replay_with_it() {
    let broker = fresh(2);
    let late = in_the_middle(&broker, 0);
    drop(late);
    broker.advance(Duration::from_secs(1));
    let sent = broker.counter(Metric::ReplaySent);
    let mut late = broker.client("late").connect();
    broker.advance(Duration::from_secs(2));
    late.expect_nothing();
    assert_eq!(broker.counter(Metric::ReplaySent), sent);
}

#[test]
fn an_ordinary_subscription_replaces_one_that_is_not_live_yet_and_the_other_way_round() {
    let broker = fresh(2);
    let mut late = in_the_middle(&broker, 0);
    late.subscribe_with(&[("kept/t", SubscribeOptions::new(QoS::AtMostOnce))], None);
    assert!(take(&broker, &mut late).len() < 60);
    let mut publisher = broker.client("publisher 2").connect();
    publisher.publish("kept/t", QoS::AtLeastOnce, b"live");
    assert_eq!(take(&broker, &mut late), ["live"]);
    late.subscribe("$replay/60/kept/t", QoS::AtLeastOnce);
    let got = take(&broker, &mut late);
    assert_eq!((got.len(), &*got[1000]), (1001, "live"));
    publisher.publish("kept/t", QoS::AtLeastOnce, b"once");
    assert_eq!(take(&broker, &mut late), ["once"]);
}

struct Picky;

impl Authorizer for Picky {
    fn allows_everything(&self) -> bool {
        false
    }

    fn check(&self, _subject: &Subject<'_>, action: Action<'_>) -> Verdict {
        match action {
            Action::Subscribe { filter: "kept/secret", .. } => Verdict::Deny(ReasonCode::NotAuthorized),
            Action::Subscribe { filter, .. } if filter.starts_with('$') => Verdict::Deny(ReasonCode::NotAuthorized),
            _ => Verdict::Allow,
        }
    }
}

#[test]
fn authorization_is_asked_about_the_filter_and_a_mountpoint_stands_in_front_of_it() {
    let broker = fresh(2).authorizer(Arc::new(Picky));
    let mut late = broker.client("late").connect();
    let codes = [
        late.subscribe("$replay/60/kept/secret", QoS::AtLeastOnce),
        late.subscribe("$replay/60/kept/t", QoS::AtLeastOnce),
    ];
    assert_eq!(codes.map(|code| code.suback().codes[0]), [0x87, 1]);

    let broker = fresh(2).profile(1, |profile| profile.mountpoint = "kept/".into());
    publish(&mut broker.client("publisher").connect(), "kept/t", QoS::AtLeastOnce, 0..3);
    second(&broker);
    let mut below = broker.client("below").on(1).connect();
    assert_eq!(below.subscribe("$replay/60/#", QoS::AtLeastOnce).suback().codes, [1]);
    assert_eq!(below.message().publish().topic, "t");
    assert_eq!(take(&broker, &mut below).len(), 2);
    publish(&mut broker.client("publisher").connect(), "kept/t", QoS::AtLeastOnce, 3..5);
    assert_eq!(take(&broker, &mut below), names(3..5));
}

#[test]
fn expiry_no_local_and_identifiers_hold_as_for_what_is_live() {
    let broker = fresh(2);
    let mut publisher = broker.client("publisher").connect();
    let mut say = |payload: &[u8], expiry: Option<u32>| {
        let publish = OutPublish { expiry, ..out_publish("kept/t", QoS::AtMostOnce, false, 0, payload) };
        publisher.send_out(&publish);
        broker.step();
    };
    say(b"brief", Some(5));
    say(b"long", Some(100));
    say(b"for ever", None);
    broker.advance(Duration::from_secs(10));
    let mut late = broker.client("late").connect();
    late.subscribe_with(&[("$replay/60/kept/#", SubscribeOptions::new(QoS::AtMostOnce))], Some(7));
    broker.advance(Duration::from_millis(100));
    let first = late.message();
    let first = first.publish();
    assert_eq!((first.payload, first.expiry), (&b"long"[..], Some(90)));
    assert!(first.subscription_ids);
    assert_eq!(take(&broker, &mut late), ["for ever"]);
    let own = SubscribeOptions { no_local: true, ..SubscribeOptions::new(QoS::AtMostOnce) };
    publisher.subscribe_with(&[("$replay/60/kept/#", own)], None);
    assert!(take(&broker, &mut publisher).is_empty());
}

#[test]
fn a_thousand_who_ask_at_once_are_served_in_turns_within_bounds() {
    let broker = fresh(2);
    let mut publisher = broker.client("publisher").connect();
    let payload = vec![b'x'; 1000];
    for _ in 0..300 {
        publisher.publish("kept/t", QoS::AtLeastOnce, &payload);
    }
    second(&broker);
    let mut clients: Vec<Client> = (0..1000)
        .map(|number| {
            let mut client = broker.client(&format!("late{number}")).receive_maximum(10).connect();
            client.send_subscribe(&[("$replay/60/kept/#", SubscribeOptions::new(QoS::AtLeastOnce))], None);
            client
        })
        .collect();
    broker.advance(Duration::from_secs(5));
    // None of them answers: what waits for each is a part of what there is.
    assert!(broker.held_bytes() < 1000 * 50 * 1100, "{}", broker.held_bytes());
    let mut live = broker.client("live").connect();
    live.subscribe("other", QoS::AtLeastOnce);
    publisher.publish("other", QoS::AtLeastOnce, b"m");
    assert_eq!(live.message().publish().payload, b"m");
    for client in &mut clients[..100] {
        client.next_of(PacketKind::SubAck);
        assert_eq!(take(&broker, client).len(), 300);
    }
}
