use breakwater_proto::SubscribeOptions;

use super::super::mosquitto::Subscription;
use super::*;

const NOW_MS: u64 = 1_800_000_000_000;
const NOW_S: u64 = NOW_MS / 1000;

fn stored(number: u64, topic: &'static str, qos: QoS) -> Stored<'static> {
    let (payload, publisher, properties) = (&b"payload"[..], "pub", &[][..]);
    Stored { number, topic, payload, qos, retain: false, expires_s: None, publisher, properties }
}

fn client(id: &'static str) -> Client<'static> {
    Client { id, user: "", expiry_s: u32::MAX, ends_s: None, port: 1883 }
}

fn transfer(client: &'static str, message: u64, packet_id: u16, stage: Stage) -> Transfer<'static> {
    Transfer { client, message, packet_id, qos: QoS::ExactlyOnce, retain: false, stage, properties: &[] }
}

fn subscription(client: &'static str, filter: &'static str, options: u8, identifier: u32) -> Subscription<'static> {
    let options = SubscribeOptions::from_byte(options).expect("good ones");
    Subscription { client, filter, options, identifier }
}

/// Changes, one line each, and what is said of them.
fn taken(database: &Database<'_>, known: &Known, replace: bool) -> (Vec<String>, Taken) {
    let (mut changes, mut number) = (Vec::new(), 0);
    let intake = Intake { now_ms: NOW_MS, replace, revision: 100 };
    let mut numbers = || {
        number += 1;
        SessionNumber(number)
    };
    let mut submit = |batch: &[Change]| {
        changes.extend(batch.iter().map(line));
        Ok(())
    };
    let taken = take_in(database, known, intake, &mut numbers, &mut submit).expect("everything is taken");
    (changes, taken)
}

fn line(change: &Change) -> String {
    match change {
        Change::Message { message, sessions, .. } => {
            let wanted: Vec<String> =
                sessions.iter().map(|wanted| (wanted.session.0, wanted.terms)).map(terms).collect();
            format!("message {} for {}", message.topic(), wanted.join(", "))
        }
        Change::Session(row) => {
            let (number, ago) = (row.number.0, NOW_MS - row.detached_unix_ms);
            format!("session {number} {} of {:?}, {} s, left {ago} ms ago", row.client_id, row.user, row.expiry_s)
        }
        Change::RemoveSession(number) => format!("remove {}", number.0),
        Change::Subscribe { session, filter, options, identifier } => {
            format!("subscribe {} {filter} {options:#x} {identifier}", session.0)
        }
        Change::Inbound { session, packet_id, held } => format!("inbound {} {packet_id} {held}", session.0),
        Change::Outbound { session, packet_id, state, message } => {
            format!("outbound {} {packet_id} {state:?} {message:?}", session.0)
        }
        Change::Retain(retained) => {
            let flag = retained.message.retain();
            format!("retain {} by {} at {}, {flag}", retained.message.topic(), retained.by, retained.revision)
        }
        Change::Unretain { topic, revision } => format!("unretain {topic} at {revision}"),
        other => format!("{other:?}"),
    }
}

fn terms((session, terms): (u64, Terms)) -> String {
    let Terms { qos, retain, shared, subscription_id, more_ids } = terms;
    let mut text = format!("{session} qos {}", qos.as_u8());
    for (is, word) in [(retain, " retain"), (shared, " shared"), (more_ids, " more")] {
        text += if is { word } else { "" };
    }
    if subscription_id > 0 { format!("{text} id {subscription_id}") } else { text }
}

#[test]
fn sessions_live_on_as_long_as_they_would_have() {
    let finite = |expiry_s, ends_s| Client { expiry_s, ends_s: Some(ends_s), ..client("a") };
    let cases = [
        (client("a"), Ok((u32::MAX, 0))),
        (Client { expiry_s: 60, ..client("a") }, Ok((60, 0))),
        (Client { expiry_s: 0, ..client("a") }, Err(Reason::SessionEnded)),
        (finite(60, NOW_S + 20), Ok((60, 40_000))),
        (finite(60, NOW_S + 60), Ok((60, 0))),
        (finite(60, NOW_S), Err(Reason::SessionExpired)),
        (finite(60, NOW_S - 5), Err(Reason::SessionExpired)),
        // It ends earlier, or later, than it asked for.
        (finite(u32::MAX, NOW_S + 20), Ok((20, 0))),
        (finite(4_000_000_000, NOW_S + 20), Ok((20, 0))),
        (finite(60, NOW_S + 100), Ok((100, 0))),
        (finite(60, u64::MAX), Ok((u32::MAX, 0))),
    ];
    for (client, expected) in cases {
        let expected = expected.map(|(expiry_s, ago)| (expiry_s, NOW_MS - ago));
        assert_eq!(life(&client, NOW_MS), expected, "{client:?}");
    }
}

#[test]
fn sessions_messages_and_what_is_in_flight_come_in_an_order_that_a_store_takes() {
    let (two, one) = (QoS::ExactlyOnce, QoS::AtLeastOnce);
    let ids = [4, 11, 7, 11, 9];
    let database = Database {
        messages: vec![stored(1, "old", two), Stored { retain: true, ..stored(3, "kept", one) }, stored(7, "new", two)],
        clients: vec![client("a"), Client { user: "bob", ..client("b") }],
        transfers: vec![
            transfer("a", 1, 5, Stage::Sent),
            Transfer { qos: one, ..transfer("a", 3, 6, Stage::Sent) },
            transfer("a", 7, 0, Stage::Queued),
            transfer("b", 1, 8, Stage::Received),
            Transfer { qos: one, retain: true, properties: &ids, ..transfer("b", 7, 0, Stage::Queued) },
        ],
        subscriptions: vec![subscription("a", "#", 2, 0), subscription("b", "$share/g/+", 0x0D, 7)],
        retained: vec![3],
        ..Database::default()
    };
    let (changes, taken) = taken(&database, &Known::default(), false);
    let expected = [
        "session 1 a of \"\", 4294967295 s, left 0 ms ago",
        "session 2 b of \"bob\", 4294967295 s, left 0 ms ago",
        "subscribe 1 # 0x2 0",
        "subscribe 2 $share/g/+ 0xd 7",
        "retain kept by pub at 100, true",
        "outbound 2 8 Received None",
        "message old for 1 qos 2",
        "outbound 1 5 Sent Some(InBatch(0))",
        "message kept for 1 qos 1",
        "message new for 1 qos 2, 2 qos 1 retain more id 7",
    ];
    assert_eq!(changes, expected);
    let counts = Taken { retained: 1, sessions: 2, subscriptions: 2, waiting: 4, in_flight: 3, ..Taken::default() };
    assert_eq!(taken, counts);
}

#[test]
fn a_queue_that_is_not_in_the_order_of_the_messages_keeps_its_order() {
    let two = QoS::ExactlyOnce;
    let database = Database {
        messages: vec![stored(1, "1", two), stored(2, "2", two), stored(3, "3", two)],
        clients: vec![client("a"), client("b")],
        transfers: [("a", 2), ("a", 1), ("a", 3), ("b", 1), ("b", 3), ("b", 3)]
            .map(|(client, message)| transfer(client, message, 0, Stage::Queued))
            .into(),
        ..Database::default()
    };
    let (changes, _) = taken(&database, &Known::default(), false);
    let order = |session: &str| -> Vec<&str> {
        let messages = changes.iter().filter_map(|change| change.strip_prefix("message ")?.split_once(" for "));
        messages
            .filter(|(_, who)| who.split(", ").any(|who| who.starts_with(session)))
            .map(|(topic, _)| topic)
            .collect()
    };
    assert_eq!((order("1 "), order("2 ")), (vec!["2", "1", "3"], vec!["1", "3", "3"]));
}

#[test]
fn what_was_published_and_not_released_goes_to_whom_it_would_have_gone() {
    let held = |client, message, packet_id| transfer(client, message, packet_id, Stage::Held);
    let database = Database {
        messages: vec![
            Stored { retain: true, ..stored(1, "t/1", QoS::ExactlyOnce) },
            Stored { retain: true, payload: b"", ..stored(2, "t/2", QoS::ExactlyOnce) },
            Stored { expires_s: Some(NOW_S), ..stored(3, "t/1", QoS::ExactlyOnce) },
        ],
        clients: vec![client("pub"), client("b"), client("c")],
        transfers: vec![held("pub", 1, 11), held("pub", 2, 12), held("pub", 3, 13), held("pub", 9, 14)],
        subscriptions: vec![
            subscription("pub", "t/1", 0x06, 0),
            subscription("b", "t/+", 0x09, 5),
            subscription("b", "t/1", 0x02, 6),
            subscription("c", "#", 0x00, 0),
            subscription("c", "$share/g/t/1", 0x01, 0),
            subscription("b", "$share/g/t/1", 0x01, 0),
        ],
        retained: vec![1],
        ..Database::default()
    };
    let known = Known {
        sessions: HashMap::from([("c".into(), (SessionNumber(90), true))]),
        subscriptions: vec![
            (SessionNumber(90), "t/1".into(), 2, 0),
            (SessionNumber(91), "t/#".into(), 1, 0),
            (SessionNumber(91), "$share/g/t/1".into(), 1, 0),
        ],
        topics: HashSet::from(["t/2".into()]),
    };
    let (changes, taken) = taken(&database, &known, false);
    let expected = [
        "retain t/1 by pub at 100, true",
        "message t/1 for 2 qos 2 retain more id 5, 91 qos 1 shared",
        "retain t/1 by pub at 101, true",
        "inbound 1 11 true",
        "message t/2 for 2 qos 1 retain id 5, 91 qos 1",
        "inbound 1 12 true",
        "inbound 1 13 true",
        "inbound 1 14 true",
    ];
    let at = changes.iter().position(|change| change.starts_with("retain")).expect("there is one");
    assert_eq!(changes[at..], expected);
    assert_eq!((taken.held, taken.waiting), (4, 4));
    assert_eq!(changes[2..4], ["remove 90", "session 3 c of \"\", 4294967295 s, left 0 ms ago"]);
}

#[test]
fn what_is_left_out_is_counted_by_its_reason() {
    let database = Database {
        messages: vec![
            stored(1, "$SYS/broker/uptime", QoS::ExactlyOnce),
            Stored { expires_s: Some(NOW_S - 1), ..stored(2, "old", QoS::ExactlyOnce) },
            stored(3, "there", QoS::ExactlyOnce),
        ],
        clients: vec![
            client("there"),
            Client { ends_s: Some(1), ..client("expired") },
            Client { expiry_s: 0, ..client("ended") },
            Client { port: 0, ..client("local.host.bridge") },
            client("local.host.client"),
            client("local.host.client"),
        ],
        transfers: vec![
            transfer("nobody", 3, 0, Stage::Queued),
            transfer("there", 3, 0, Stage::Queued),
            transfer("local.host.client", 2, 0, Stage::Queued),
            transfer("local.host.client", 9, 0, Stage::Queued),
            Transfer { qos: QoS::AtMostOnce, ..transfer("local.host.client", 3, 0, Stage::Queued) },
            transfer("local.host.client", 3, 4, Stage::Over),
        ],
        subscriptions: vec![subscription("nobody", "a", 0, 0), subscription("there", "a", 0, 0)],
        retained: vec![1, 2, 3, 4],
        ..Database::default()
    };
    let known = Known {
        sessions: HashMap::from([("there".into(), (SessionNumber(90), false))]),
        topics: HashSet::from(["there".into()]),
        ..Known::default()
    };
    let (changes, taken_in) = taken(&database, &known, false);
    assert_eq!(changes, ["session 1 local.host.client of \"\", 4294967295 s, left 0 ms ago"]);
    let skipped = [
        (Reason::SessionThere, 1),
        (Reason::SessionExpired, 1),
        (Reason::SessionEnded, 1),
        (Reason::SessionOfBridge, 1),
        (Reason::SessionTwice, 1),
        (Reason::WithoutSession, 2),
        (Reason::MessageExpired, 1),
        (Reason::MessageAbsent, 1),
        (Reason::MessageQos0, 1),
        (Reason::RetainedThere, 1),
        (Reason::RetainedExpired, 1),
        (Reason::RetainedAbsent, 1),
        (Reason::RetainedSys, 1),
    ];
    assert_eq!(taken_in.skipped, BTreeMap::from(skipped));
    let named: Vec<(&str, Reason)> = taken_in.clients.iter().map(|(client, reason)| (&**client, *reason)).collect();
    assert_eq!(named, [("there", Reason::SessionThere), ("local.host.bridge", Reason::SessionOfBridge)]);

    let (changes, taken_in) = taken(&database, &known, true);
    let expected = [
        "remove 90",
        "session 1 there of \"\", 4294967295 s, left 0 ms ago",
        "session 2 local.host.client of \"\", 4294967295 s, left 0 ms ago",
        "subscribe 1 a 0x0 0",
        "retain there by pub at 100, true",
        "message there for 1 qos 2",
    ];
    assert_eq!(changes, expected);
    assert_eq!((taken_in.sessions, taken_in.retained), (2, 1));
}

#[test]
fn messages_keep_their_properties_and_expire_by_the_wall_clock() {
    // Payload format, expiry of another time, a user property.
    let properties = [14, 1, 1, 2, 0, 0, 0, 9, 38, 0, 1, b'k', 0, 1, b'v'];
    let message = Stored { expires_s: Some(NOW_S + 7), properties: &properties, ..stored(3, "kept", QoS::AtLeastOnce) };
    let database = Database { messages: vec![message], retained: vec![3], ..Database::default() };
    let mut kept = Vec::new();
    let intake = Intake { now_ms: NOW_MS, replace: false, revision: 1 };
    let mut submit = |batch: &[Change]| {
        kept.extend_from_slice(batch);
        Ok(())
    };
    take_in(&database, &Known::default(), intake, &mut SessionNumber::default, &mut submit).expect("taken");
    let [Change::Retain(retained)] = &*kept else { panic!("{kept:?}") };
    let view = retained.message.view();
    assert_eq!(view.expires_at, Some(Instant(NOW_MS + 7000)));
    assert_eq!(
        (view.payload, view.qos, view.properties.payload_format()),
        (&b"payload"[..], QoS::AtLeastOnce, Some(1))
    );
    assert_eq!(view.properties.user_properties().collect::<Vec<_>>(), [("k", "v")]);
    assert!(Message::from_bytes(retained.message.as_bytes()).is_some());
}
