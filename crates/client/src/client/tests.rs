use breakwater_proto::write_user_property;

use super::*;

/// A client with its clock, and the bytes of the server in the test's hand.
struct Peer {
    client: Client,
    now: Instant,
}

impl Peer {
    fn new(options: Options) -> Peer {
        Peer { client: Client::new(options), now: Instant(1_000) }
    }

    fn online(options: Options, connack: &[u8]) -> Peer {
        let mut peer = Peer::new(options);
        peer.connect();
        assert_eq!(peer.feed(connack), ["connected"]);
        peer
    }

    fn v311() -> Peer {
        Peer::online(Options { client_id: "c".into(), clean_start: false, ..Options::default() }, CONNACK)
    }

    fn v5() -> Peer {
        Peer::online(v5_options(), CONNACK5)
    }

    fn connect(&mut self) -> Vec<u8> {
        self.client.connect(self.now);
        self.client.take_output()
    }

    /// What the bytes bring about; a fault comes last.
    fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
        self.client.on_bytes(bytes, self.now);
        let mut seen = Vec::new();
        loop {
            match self.client.next_event(self.now) {
                Ok(Some(event)) => seen.push(describe(&event)),
                Ok(None) => return seen,
                Err(fault) => {
                    seen.push(format!("{fault:?}"));
                    return seen;
                }
            }
        }
    }

    fn publish(&mut self, qos: QoS, payload: &[u8]) -> Result<u16, Refusal> {
        self.client.publish(&message(qos, payload), self.now)
    }

    fn out(&mut self) -> Vec<u8> {
        self.client.take_output()
    }
}

const CONNACK: &[u8] = b"\x20\x02\0\0";
const CONNACK_PRESENT: &[u8] = b"\x20\x02\x01\0";
const CONNACK5: &[u8] = b"\x20\x03\0\0\0";
const Q0: QoS = QoS::AtMostOnce;
const Q1: QoS = QoS::AtLeastOnce;
const Q2: QoS = QoS::ExactlyOnce;

fn v5_options() -> Options {
    Options { version: Version::V5, client_id: "c".into(), clean_start: false, ..Options::default() }
}

fn message(qos: QoS, payload: &[u8]) -> OutPublish<'_> {
    OutPublish {
        dup: false,
        qos,
        retain: false,
        packet_id: 0,
        topic: "t",
        topic_alias: 0,
        expiry: None,
        subscription_ids: &[],
        properties: ForwardProperties::EMPTY,
        payload,
    }
}

fn describe(event: &Event<'_>) -> String {
    match event {
        Event::Connected(_) => "connected".into(),
        Event::Refused(connack) => format!("refused {:?}", connack.reason),
        Event::Message(publish) => {
            let payload = String::from_utf8_lossy(publish.payload);
            format!("message {} {payload} q{}", publish.topic, publish.qos.as_u8())
        }
        Event::Published { packet_id, reason } => format!("published {packet_id} {reason:?}"),
        Event::Subscribed(ack) => format!("subscribed {} {:?}", ack.packet_id, ack.codes),
        Event::Unsubscribed(ack) => format!("unsubscribed {}", ack.packet_id),
        Event::Auth(auth) => format!("auth {:?}", auth.reason),
        Event::Disconnected(disconnect) => format!("disconnected {:?}", disconnect.reason),
    }
}

#[test]
fn connect_has_the_bytes_of_its_version() {
    let mut user_properties = Vec::new();
    write_user_property("k", "v", &mut user_properties);
    let will = WillOptions { topic: "w".into(), payload: b"p".to_vec(), qos: Q1, retain: true, ..Default::default() };
    for (options, expected) in [
        (
            Options { version: Version::V31, client_id: "c".into(), ..Options::default() },
            &b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01c"[..],
        ),
        (Options::default(), b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0"),
        (Options { bridge: true, ..Options::default() }, b"\x10\x0c\0\x04MQTT\x84\x02\0\x3c\0\0"),
        (
            Options {
                username: Some("u".into()),
                password: Some(b"p".to_vec()),
                will: Some(will),
                clean_start: false,
                keep_alive_s: 5,
                client_id: "c".into(),
                ..Options::default()
            },
            b"\x10\x19\0\x04MQTT\x04\xec\0\x05\0\x01c\0\x01w\0\x01p\0\x01u\0\x01p",
        ),
        (
            Options { version: Version::V5, session_expiry: Some(1), user_properties, ..Options::default() },
            b"\x10\x19\0\x04MQTT\x05\x02\0\x3c\x0c\x11\0\0\0\x01\x26\0\x01k\0\x01v\0\0",
        ),
    ] {
        let text = format!("{options:?}");
        assert_eq!(Peer::new(options).connect(), expected, "{text}");
    }
}

#[test]
fn connack_connects_or_refuses() {
    for (version, connack, expected) in [
        (Version::V311, CONNACK, "connected"),
        (Version::V311, b"\x20\x02\0\x05", "refused NotAuthorized"),
        (Version::V311, b"\x20\x02\0\x02", "refused ClientIdentifierNotValid"),
        (Version::V5, CONNACK5, "connected"),
        (Version::V5, b"\x20\x03\0\x87\0", "refused NotAuthorized"),
        (Version::V5, b"\xe0\x02\x8b\0", "disconnected ServerShuttingDown"),
        (Version::V311, b"\xd0\0", "Violation(PacketBeforeConnAck)"),
        (Version::V311, b"\x00\0", "Violation(ReservedPacketType)"),
    ] {
        let mut peer = Peer::new(Options { version, ..Options::default() });
        peer.connect();
        assert_eq!(peer.feed(connack), [expected]);
        assert_eq!(peer.client.is_online(), expected == "connected");
    }
}

/// What is sent, what the server answers, what that means, and what goes out then.
#[test]
fn publishes_go_through_their_exchange() {
    for (version, qos, sent, answers) in [
        (Version::V311, Q0, &b"\x30\x04\0\x01tx"[..], &[][..]),
        (Version::V5, Q0, b"\x30\x05\0\x01t\0x", &[]),
        (
            Version::V311,
            Q1,
            b"\x32\x06\0\x01t\0\x01x",
            &[(&b"\x40\x02\0\x01"[..], &["published 1 Success"][..], &b""[..])],
        ),
        (Version::V5, Q1, b"\x32\x07\0\x01t\0\x01\0x", &[(b"\x40\x03\0\x01\x87", &["published 1 NotAuthorized"], b"")]),
        (
            Version::V311,
            Q2,
            b"\x34\x06\0\x01t\0\x01x",
            &[
                (b"\x50\x02\0\x01", &[], b"\x62\x02\0\x01"),
                // A repeated PUBREC is answered again.
                (b"\x50\x02\0\x01", &[], b"\x62\x02\0\x01"),
                (b"\x70\x02\0\x01", &["published 1 Success"], b""),
                // A late one too: the server must get its PUBREL.
                (b"\x50\x02\0\x01", &[], b"\x62\x02\0\x01"),
                (b"\x70\x02\0\x01", &[], b""),
            ],
        ),
        (Version::V5, Q2, b"\x34\x07\0\x01t\0\x01\0x", &[(b"\x50\x03\0\x01\x97", &["published 1 QuotaExceeded"], b"")]),
        (
            Version::V5,
            Q2,
            b"\x34\x07\0\x01t\0\x01\0x",
            &[(b"\x50\x02\0\x02", &[], b"\x62\x03\0\x02\x92"), (b"\x50\x02\0\x01", &[], b"\x62\x02\0\x01")],
        ),
    ] {
        let mut peer = if version.is_v5() { Peer::v5() } else { Peer::v311() };
        assert_eq!(peer.publish(qos, b"x"), Ok(u16::from(qos > Q0)));
        assert_eq!(peer.out(), sent);
        for (answer, events, out) in answers {
            assert_eq!(peer.feed(answer), *events);
            assert_eq!(peer.out(), *out);
        }
    }
}

#[test]
fn messages_are_acknowledged_and_handed_on_once() {
    for (version, input, events, out) in [
        (Version::V311, &b"\x30\x04\0\x01tx"[..], &["message t x q0"][..], &b""[..]),
        (Version::V311, b"\x32\x06\0\x01t\0\x09x", &["message t x q1"], b"\x40\x02\0\x09"),
        (
            Version::V311,
            b"\x34\x06\0\x01t\0\x09x\x3c\x06\0\x01t\0\x09x\x62\x02\0\x09\x34\x06\0\x01t\0\x09y",
            &["message t x q2", "message t y q2"],
            b"\x50\x02\0\x09\x50\x02\0\x09\x70\x02\0\x09\x50\x02\0\x09",
        ),
        (Version::V5, b"\x62\x02\0\x09", &[], b"\x70\x03\0\x09\x92"),
    ] {
        let mut peer = if version.is_v5() { Peer::v5() } else { Peer::v311() };
        assert_eq!(peer.feed(input), events);
        assert_eq!(peer.out(), out);
    }
}

#[test]
fn a_split_stream_means_the_same() {
    let stream = [CONNACK, b"\x34\x06\0\x01t\0\x09x", b"\x62\x02\0\x09", b"\xd0\0", b"\x30\x04\0\x01ty"].concat();
    let mut peer = Peer::new(Options::default());
    peer.connect();
    let seen: Vec<String> = stream.iter().flat_map(|byte| peer.feed(&[*byte])).collect();
    assert_eq!(seen, ["connected", "message t x q2", "message t y q0"]);
    assert_eq!(peer.out(), b"\x50\x02\0\x09\x70\x02\0\x09");
}

#[test]
fn a_kept_session_sends_again_in_order_and_marked() {
    let mut peer = Peer::v311();
    for (qos, payload) in [(Q1, b"a"), (Q2, b"b"), (Q2, b"c"), (Q1, b"d")] {
        peer.publish(qos, payload).expect("accepted");
    }
    peer.out();
    // "a" and "b" get their first answers.
    assert_eq!(peer.feed(b"\x40\x02\0\x01\x50\x02\0\x02"), ["published 1 Success"]);
    peer.client.on_closed();
    assert_eq!(peer.publish(Q1, b"e"), Ok(5));
    assert_eq!(peer.publish(Q0, b"f"), Err(Refusal::NotConnected));

    peer.connect();
    assert_eq!(peer.feed(CONNACK_PRESENT), ["connected"]);
    let again = [
        &b"\x62\x02\0\x02"[..],
        b"\x3c\x06\0\x01t\0\x03c",
        b"\x3a\x06\0\x01t\0\x04d",
        b"\x32\x06\0\x01t\0\x05e", // never sent before
    ];
    assert_eq!(peer.out(), again.concat());
    assert_eq!(peer.client.unacknowledged(), 4);
    assert_eq!(peer.feed(b"\x70\x02\0\x02\x40\x02\0\x05"), ["published 2 Success", "published 5 Success"]);
}

#[test]
fn a_lost_session_starts_its_messages_over() {
    let mut peer = Peer::v311();
    peer.publish(Q2, b"a").expect("accepted");
    peer.publish(Q1, b"b").expect("accepted");
    peer.feed(b"\x50\x02\0\x01");
    // Received with QoS 2 and not released: forgotten with the session.
    assert_eq!(peer.feed(b"\x34\x06\0\x01t\0\x09x"), ["message t x q2"]);
    peer.connect();
    assert_eq!(peer.feed(CONNACK), ["connected", "published 1 Success"]);
    assert_eq!(peer.out(), b"\x32\x06\0\x01t\0\x02b");
    assert_eq!(peer.feed(b"\x34\x06\0\x01t\0\x09x"), ["message t x q2"]);
}

#[test]
fn version_3_1_keeps_the_session_without_being_told() {
    let options = Options { version: Version::V31, client_id: "c".into(), clean_start: false, ..Options::default() };
    let mut peer = Peer::online(options, CONNACK);
    peer.publish(Q1, b"a").expect("accepted");
    peer.connect();
    peer.feed(CONNACK);
    assert_eq!(peer.out(), b"\x3a\x06\0\x01t\0\x01a");
}

#[test]
fn a_message_sent_under_an_alias_is_sent_again_without_it() {
    let mut peer = Peer::online(v5_options(), b"\x20\x06\0\0\x03\x22\0\x05");
    peer.client.publish(&OutPublish { topic_alias: 5, ..message(Q1, b"x") }, peer.now).expect("accepted");
    assert_eq!(peer.out(), b"\x32\x0a\0\x01t\0\x01\x03\x23\0\x05x");
    peer.connect();
    peer.feed(b"\x20\x03\x01\0\0");
    assert_eq!(peer.out(), b"\x3a\x07\0\x01t\0\x01\0x");
}

#[test]
fn the_receive_maximum_holds_messages_back() {
    let mut peer = Peer::online(v5_options(), b"\x20\x06\0\0\x03\x21\0\x02");
    for payload in [b"a", b"b", b"c", b"d"] {
        peer.publish(Q1, payload).expect("accepted");
    }
    assert_eq!(peer.out(), b"\x32\x07\0\x01t\0\x01\0a\x32\x07\0\x01t\0\x02\0b");
    assert_eq!(peer.feed(b"\x40\x02\0\x02"), ["published 2 Success"]);
    assert_eq!(peer.out(), b"\x32\x07\0\x01t\0\x03\0c");
    // After a new connection the quota is whole again, and only that.
    peer.connect();
    peer.feed(b"\x20\x06\x01\0\x03\x21\0\x02");
    assert_eq!(peer.out(), b"\x3a\x07\0\x01t\0\x01\0a\x3a\x07\0\x01t\0\x03\0c");
}

#[test]
fn what_the_server_does_not_take_is_refused_unsent() {
    for (connack, publish, expected) in [
        (&b"\x20\x08\0\0\x05\x27\0\0\0\x0a"[..], message(Q0, b"12345678"), Refusal::PacketTooLarge(10)),
        (b"\x20\x05\0\0\x02\x24\0", message(Q1, b""), Refusal::QosNotSupported),
        (b"\x20\x05\0\0\x02\x25\0", OutPublish { retain: true, ..message(Q0, b"") }, Refusal::RetainNotSupported),
        (CONNACK5, OutPublish { topic_alias: 1, ..message(Q0, b"") }, Refusal::TopicAliasTooLarge),
    ] {
        let mut peer = Peer::online(v5_options(), connack);
        assert_eq!(peer.client.publish(&publish, peer.now), Err(expected));
        assert_eq!(peer.out(), b"");
    }
}

#[test]
fn topic_aliases_of_the_server_are_resolved() {
    let options = Options { topic_alias_maximum: 2, ..v5_options() };
    let set = b"\x30\x08\0\x02ab\x03\x23\0\x02";
    let used = b"\x30\x06\0\0\x03\x23\0\x02";
    let mut peer = Peer::online(options, CONNACK5);
    assert_eq!(peer.feed(&[&set[..], used].concat()), ["message ab  q0", "message ab  q0"]);
    // A new connection knows none.
    peer.connect();
    assert_eq!(peer.feed(&[CONNACK5, used].concat()), ["connected", "Violation(TopicAliasUnknown)"]);
    assert_eq!(peer.out(), b"\xe0\x01\x82");
}

#[test]
fn a_server_that_breaks_the_rules_is_told_and_left() {
    for (options, input, fault, out) in [
        (v5_options(), &b"\x30\x07\0\x01t\x03\x23\0\x01"[..], "Violation(TopicAliasTooLarge)", &b"\xe0\x01\x94"[..]),
        (v5_options(), b"\xc0\0", "Violation(WrongDirection)", b"\xe0\x01\x82"),
        (v5_options(), b"\x36\x07\0\x01t\0\x01\0x", "Violation(PublishQosInvalid)", b"\xe0\x01\x81"),
        (
            Options { maximum_packet_size: Some(100), ..v5_options() },
            b"\x30\x80\x10",
            "Violation(PacketTooLarge)",
            b"\xe0\x01\x95",
        ),
        (Options::default(), b"\xe0\0", "Violation(WrongDirection)", b""),
    ] {
        let connack = if options.version.is_v5() { CONNACK5 } else { CONNACK };
        let mut peer = Peer::online(options, connack);
        assert_eq!(peer.feed(input), [fault]);
        assert_eq!(peer.out(), out, "{fault}");
        assert!(!peer.client.is_online());
    }
}

#[test]
fn more_qos_2_than_our_receive_maximum_ends_the_connection() {
    let mut peer = Peer::online(Options { receive_maximum: Some(1), ..v5_options() }, CONNACK5);
    assert_eq!(peer.feed(b"\x34\x07\0\x01t\0\x01\0x"), ["message t x q2"]);
    assert_eq!(peer.feed(b"\x34\x07\0\x01t\0\x02\0x"), ["Violation(ReceiveMaximumExceeded)"]);
}

#[test]
fn requests_carry_filters_and_get_their_answers() {
    let mut peer = Peer::v5();
    let filters =
        [("a", SubscribeOptions::new(Q1)), ("b/#", SubscribeOptions { no_local: true, ..Default::default() })];
    assert_eq!(peer.client.subscribe(filters, Some(3), UserProperties::EMPTY, peer.now), Ok(1));
    assert_eq!(peer.out(), b"\x82\x0f\0\x01\x02\x0b\x03\0\x01a\x01\0\x03b/#\x04");
    assert_eq!(peer.client.unsubscribe(["a"], UserProperties::EMPTY, peer.now), Ok(2));
    assert_eq!(peer.out(), b"\xa2\x06\0\x02\0\0\x01a");
    let answers = b"\x90\x05\0\x01\0\x01\x87\xb0\x04\0\x02\0\0";
    assert_eq!(peer.feed(answers), ["subscribed 1 [1, 135]", "unsubscribed 2"]);

    let mut older = Peer::v311();
    assert_eq!(older.client.subscribe(filters, None, UserProperties::EMPTY, older.now), Ok(1));
    assert_eq!(older.out(), b"\x82\x0c\0\x01\0\x01a\x01\0\x03b/#\0");
}

#[test]
fn silence_is_broken_by_pings_and_a_dead_server_is_noticed() {
    let mut peer = Peer::online(Options { keep_alive_s: 10, ..Options::default() }, CONNACK);
    assert_eq!(peer.client.next_deadline(), Some(Instant(11_000)));
    peer.now = Instant(5_000);
    peer.publish(Q0, b"x").expect("online");
    peer.out();
    assert_eq!(peer.client.next_deadline(), Some(Instant(15_000)));
    assert_eq!(peer.client.on_time(Instant(14_999)), Ok(()));
    assert_eq!(peer.out(), b"");
    assert_eq!(peer.client.on_time(Instant(15_000)), Ok(()));
    assert_eq!(peer.out(), b"\xc0\0");
    // Any byte puts the end off; PINGRESP takes it away.
    peer.now = Instant(20_000);
    peer.feed(b"\x30");
    assert_eq!(peer.client.next_deadline(), Some(Instant(30_000)));
    peer.feed(b"\x04\0\x01tx\xd0\0");
    assert_eq!(peer.client.next_deadline(), Some(Instant(25_000)));
    assert_eq!(peer.client.on_time(Instant(25_000)), Ok(()));
    assert_eq!(peer.client.on_time(Instant(35_000)), Err(Fault::PingTimeout));
}

#[test]
fn the_servers_keep_alive_counts() {
    let peer = Peer::online(v5_options(), b"\x20\x06\0\0\x03\x13\0\x05");
    assert_eq!(peer.client.next_deadline(), Some(Instant(6_000)));
    let silent = Peer::online(Options { keep_alive_s: 0, ..Options::default() }, CONNACK);
    assert_eq!(silent.client.next_deadline(), None);
}

#[test]
fn a_server_that_never_answers_connect_is_given_up() {
    let mut peer = Peer::new(Options { connect_timeout_s: 3, ..Options::default() });
    peer.connect();
    assert_eq!(peer.client.on_time(Instant(3_999)), Ok(()));
    assert_eq!(peer.client.on_time(Instant(4_000)), Err(Fault::ConnectTimeout));
}

#[test]
fn packet_identifiers_go_round_without_touching_open_ones() {
    let mut peer = Peer::v311();
    for id in 1..=u16::MAX {
        assert_eq!(peer.publish(Q1, b""), Ok(id));
    }
    assert_eq!(peer.publish(Q1, b""), Err(Refusal::NoPacketId));
    // Out of order: the first one still holds its identifier, so there is no room.
    assert_eq!(peer.feed(b"\x40\x02\0\x02"), ["published 2 Success"]);
    assert_eq!(peer.publish(Q1, b""), Err(Refusal::NoPacketId));
    assert_eq!(peer.feed(b"\x40\x02\0\x01"), ["published 1 Success"]);
    assert_eq!(peer.publish(Q1, b""), Ok(1));
    assert_eq!(peer.publish(Q1, b""), Ok(2));
    assert_eq!(peer.publish(Q1, b""), Err(Refusal::NoPacketId));
    assert_eq!(peer.feed(b"\x40\x02\0\x02\x40\x02\xff\xff"), ["published 2 Success", "published 65535 Success"]);
    assert_eq!(peer.client.unacknowledged(), 65_533);
}

#[test]
fn unasked_acknowledgements_are_ignored() {
    let mut peer = Peer::v311();
    assert_eq!(peer.feed(b"\x40\x02\0\x01\x70\x02\0\x07"), Vec::<String>::new());
    peer.publish(Q2, b"x").expect("accepted");
    // PUBACK and PUBCOMP don't fit a QoS 2 exchange that awaits PUBREC.
    assert_eq!(peer.feed(b"\x40\x02\0\x01\x70\x02\0\x01"), Vec::<String>::new());
    assert_eq!(peer.client.unacknowledged(), 1);
}

#[test]
fn disconnect_ends_what_is_said() {
    let mut peer = Peer::v5();
    peer.client.disconnect(&Disconnect { reason: ReasonCode::DisconnectWithWill, ..Disconnect::default() }, peer.now);
    assert!(peer.out().starts_with(b"\xe0"));
    assert_eq!(peer.feed(b"\x30\x05\0\x01t\0x"), Vec::<String>::new());
    assert_eq!(peer.publish(Q1, b"x"), Err(Refusal::NotConnected));
}

#[test]
fn auth_goes_both_ways_before_connack() {
    let mut peer = Peer::new(Options { auth_method: Some("m".into()), ..v5_options() });
    peer.connect();
    assert_eq!(peer.feed(b"\xf0\x06\x18\x04\x15\0\x01m"), ["auth ContinueAuthentication"]);
    let auth = Auth { reason: ReasonCode::ContinueAuthentication, method: Some("m"), ..Auth::default() };
    assert_eq!(peer.client.auth(&auth, peer.now), Ok(()));
    assert_eq!(peer.out(), b"\xf0\x06\x18\x04\x15\0\x01m");
    assert_eq!(peer.feed(CONNACK5), ["connected"]);
}
