use breakwater_proto::{Connect, Disconnect, ForwardProperties, Version};
use breakwater_proto::{
    Filters, OutPublish, Packet, QoS, ReasonCode, Subscribe, SubscribeOptions, Unsubscribe, UnsubscribeFilters,
    encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel,
};

use super::*;

const V5: Version = Version::V5;

fn packet(packet: Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(V5, &mut bytes);
    bytes
}

fn bytes_of(encode: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(&mut bytes);
    bytes
}

fn connect() -> Vec<u8> {
    bytes_of(|out| Connect::new(V5, "client").encode(V5, out))
}

fn publish(topic: &str, id: u16, payload: &[u8], alias: u16) -> Vec<u8> {
    let qos = if id == 0 { QoS::AtMostOnce } else { QoS::ExactlyOnce };
    let publish = OutPublish {
        dup: false,
        qos,
        retain: false,
        packet_id: id,
        topic,
        topic_alias: alias,
        expiry: None,
        subscription_ids: &[],
        properties: ForwardProperties::EMPTY,
        payload,
    };
    bytes_of(|out| publish.encode(V5, out))
}

fn subscribe(id: u16, filters: &[&str]) -> Vec<u8> {
    let mut raw = Vec::new();
    filters.iter().for_each(|filter| Filters::write(filter, SubscribeOptions::new(QoS::AtMostOnce), &mut raw));
    bytes_of(|out| Subscribe::new(id, Filters::from_encoded(&raw)).encode(V5, out))
}

fn unsubscribe(id: u16, filter: &str) -> Vec<u8> {
    let mut raw = Vec::new();
    UnsubscribeFilters::write(filter, &mut raw);
    bytes_of(|out| Unsubscribe::new(id, UnsubscribeFilters::from_encoded(&raw)).encode(V5, out))
}

/// A mux whose CONNECT has passed, with so many data streams.
fn connected(data_streams: Stream) -> Mux {
    let mut mux = Mux::new();
    mux.collect(CONTROL, &connect());
    assert_eq!(passed(&mut mux), Ok(connect()));
    (1..=data_streams).for_each(|stream| mux.open(stream));
    mux
}

fn passed(mux: &mut Mux) -> Result<Vec<u8>, Breach> {
    let mut all = Vec::new();
    mux.pass(usize::MAX, |bytes| all.extend_from_slice(bytes)).map(|()| all)
}

/// Streams that these bytes of the shard go to, in order, each with how many bytes.
fn sorted(mux: &mut Mux, bytes: &[u8]) -> Vec<(Stream, usize)> {
    let mut pieces: Vec<(Stream, usize)> = Vec::new();
    mux.sort(bytes, |stream, piece| match pieces.last_mut() {
        Some((last, count)) if *last == stream => *count += piece.len(),
        _ => pieces.push((stream, piece.len())),
    });
    pieces
}

fn target(mux: &mut Mux, bytes: &[u8]) -> Stream {
    let pieces = sorted(mux, bytes);
    assert!(matches!(pieces[..], [(_, count)] if count == bytes.len()), "{pieces:?}");
    pieces[0].0
}

#[test]
fn streams_take_turns_packet_by_packet() {
    let mut mux = connected(2);
    let (a, b, c) = (publish("a", 0, b"1", 0), publish("b", 0, b"22", 0), publish("c", 0, b"333", 0));
    mux.collect(1, &[a.clone(), a.clone(), a.clone()].concat());
    mux.collect(2, &b);
    mux.collect(CONTROL, &c);
    mux.collect(2, &b[..3]);
    assert_eq!(passed(&mut mux), Ok([&a, &b, &c, &a, &a].map(|packet| &packet[..]).concat()));
    mux.collect(2, &b[3..]);
    assert_eq!(passed(&mut mux), Ok(b));
    assert_eq!(mux.collected, 0);
}

#[test]
fn a_packet_is_never_cut_by_another_however_little_room_there_is() {
    let mut mux = connected(2);
    let (a, b) = (publish("a", 0, &[b'a'; 100], 0), publish("b", 0, &[b'b'; 100], 0));
    let mut all = Vec::new();
    for step in 0..a.len() {
        mux.collect(1, &a[step..=step]);
        mux.collect(2, &b[step..=step]);
        mux.pass(1, |bytes| all.extend_from_slice(bytes)).expect("no breach");
    }
    mux.pass(usize::MAX, |bytes| all.extend_from_slice(bytes)).expect("no breach");
    assert_eq!(all, [a, b].concat());
}

#[test]
fn data_streams_wait_for_the_connect() {
    let mut mux = Mux::new();
    mux.open(1);
    let early = publish("a", 0, b"", 0);
    mux.collect(1, &early);
    mux.collect(CONTROL, &connect()[..5]);
    assert_eq!(passed(&mut mux), Ok(Vec::new()));
    mux.collect(CONTROL, &connect()[5..]);
    assert_eq!(passed(&mut mux), Ok([connect(), early].concat()));
}

#[test]
fn a_lone_control_stream_passes_without_being_collected() {
    let mut mux = connected(0);
    let long = publish("a", 0, &vec![7; 1_000_000], 0);
    let mut all = Vec::new();
    for chunk in long.chunks(5000) {
        mux.collect(CONTROL, chunk);
        all.extend(passed(&mut mux).expect("no breach"));
        assert_eq!(mux.collected, 0);
    }
    assert_eq!(all, long);
}

#[test]
fn a_packet_too_long_to_collect_takes_the_floor() {
    let mut mux = connected(1);
    let (long, ping) = (publish("a", 0, &[7; WHOLE_MAX], 0), packet(Packet::PingReq));
    mux.collect(1, &long[..WHOLE_MAX - 1]);
    mux.collect(CONTROL, &ping);
    assert_eq!(passed(&mut mux), Ok(ping.clone()), "until then others pass");
    assert_eq!(mux.appetite(1), 1);
    mux.collect(1, &long[WHOLE_MAX - 1..WHOLE_MAX]);
    mux.collect(CONTROL, &ping);
    assert_eq!(passed(&mut mux).map(|bytes| bytes.len()), Ok(WHOLE_MAX));
    assert_eq!(mux.appetite(1), WHOLE_MAX);
    mux.collect(1, &long[WHOLE_MAX..]);
    assert_eq!(passed(&mut mux), Ok([&long[WHOLE_MAX..], &ping].concat()));
}

#[test]
fn many_half_packets_hold_no_more_than_their_bound() {
    let mut mux = connected(100);
    let long = publish("a", 9, &[7; WHOLE_MAX - 100], 0);
    let mut passed_bytes = 0;
    for stream in 1..=100 {
        let count = mux.appetite(stream).min(long.len() - 1);
        mux.collect(stream, &long[..count]);
        passed_bytes += passed(&mut mux).expect("no breach").len();
    }
    assert!(mux.collected <= COLLECTED_MAX, "{}", mux.collected);
    assert!(passed_bytes > 0, "one of them has the floor, or nobody would come on");
}

#[test]
fn what_belongs_on_the_control_stream_is_a_breach_elsewhere() {
    let disconnect = bytes_of(|out| Disconnect::new(ReasonCode::Success).encode(V5, out));
    for (bytes, kind) in [(connect(), PacketKind::Connect), (disconnect, PacketKind::Disconnect)] {
        let mut mux = connected(1);
        mux.collect(1, &bytes);
        assert_eq!(passed(&mut mux), Err(Breach::Misplaced(kind)));
        let mut mux = connected(1);
        mux.collect(CONTROL, &bytes);
        assert_eq!(passed(&mut mux), Ok(bytes), "there the shard decides");
    }
}

#[test]
fn bytes_that_are_no_packet_are_left_to_the_shard() {
    let mut mux = connected(1);
    mux.collect(1, &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
    assert_eq!(passed(&mut mux).map(|bytes| bytes.len()), Ok(6));
}

#[test]
fn answers_go_back_where_the_question_came_from() {
    let ok = ReasonCode::Success;
    let suback = [0x90, 4, 0, 7, 0, 0];
    let unsuback = [0xB0, 4, 0, 7, 0, 0];
    type Case = (Vec<u8>, Vec<(Vec<u8>, Stream)>);
    let cases: Vec<Case> = vec![
        (publish("t", 7, b"", 0), vec![(bytes_of(|out| encode_puback(V5, 7, ok, out)), 2)]),
        (
            publish("t", 7, b"", 0),
            vec![
                (bytes_of(|out| encode_pubrec(V5, 7, ok, out)), 2),
                (bytes_of(|out| encode_pubcomp(V5, 7, ok, out)), 2),
                (bytes_of(|out| encode_pubcomp(V5, 7, ok, out)), 0),
            ],
        ),
        (
            publish("t", 7, b"", 0),
            vec![
                (bytes_of(|out| encode_pubrec(V5, 7, ReasonCode::NotAuthorized, out)), 2),
                (bytes_of(|out| encode_pubcomp(V5, 7, ok, out)), 0),
            ],
        ),
        (subscribe(7, &["a"]), vec![(suback.to_vec(), 2), (suback.to_vec(), 0)]),
        (unsubscribe(7, "a"), vec![(unsuback.to_vec(), 2)]),
        (bytes_of(|out| encode_pubrel(V5, 7, ok, out)), vec![(bytes_of(|out| encode_pubcomp(V5, 7, ok, out)), 2)]),
        (bytes_of(|out| encode_pubrec(V5, 7, ok, out)), vec![(bytes_of(|out| encode_pubrel(V5, 7, ok, out)), 2)]),
        (packet(Packet::PingReq), vec![(packet(Packet::PingResp), 0)]),
    ];
    for (question, answers) in cases {
        let mut mux = connected(3);
        mux.collect(2, &question);
        passed(&mut mux).expect("no breach");
        for (answer, stream) in answers {
            assert_eq!(target(&mut mux, &answer), stream, "{question:?} {answer:?}");
        }
        assert!(!mux.book.owes(2));
        // The same on the control stream, after it was under way on a data stream.
        mux.collect(2, &question);
        mux.collect(CONTROL, &question);
        passed(&mut mux).expect("no breach");
        mux.collect(CONTROL, &question);
        passed(&mut mux).expect("no breach");
        assert!(!mux.book.owes(2), "{question:?}");
    }
}

#[test]
fn deliveries_go_where_their_topic_was_subscribed() {
    let mut mux = connected(3);
    mux.collect(1, &subscribe(1, &["a/+", "$share/g/s/#"]));
    mux.collect(2, &subscribe(2, &["a/b", "b/#"]));
    mux.collect(3, &subscribe(3, &["a/#", "c", "bad/#/filter"]));
    passed(&mut mux).expect("no breach");
    for (topic, stream) in
        [("a/b", 2), ("a/c", 1), ("a/b/c", 3), ("b", 2), ("c", 3), ("c/d", 0), ("s/t", 1), ("$share/g/s/t", 0)]
    {
        assert_eq!(target(&mut mux, &publish(topic, 0, b"x", 0)), stream, "{topic}");
    }
    // The last to ask for a filter has it; unsubscribing works from any stream.
    mux.collect(CONTROL, &[subscribe(4, &["c"]), unsubscribe(5, "a/+")].concat());
    passed(&mut mux).expect("no breach");
    assert_eq!(target(&mut mux, &publish("c", 0, b"x", 0)), 0);
    assert_eq!(target(&mut mux, &publish("a/c", 0, b"x", 0)), 3);
    mux.end(3);
    assert_eq!(target(&mut mux, &publish("a/c", 0, b"x", 0)), 0);
}

#[test]
fn an_alias_stays_on_the_stream_that_knows_it() {
    let mut mux = connected(2);
    assert_eq!(target(&mut mux, &publish("long/topic", 0, b"x", 5)), 0);
    mux.collect(1, &subscribe(1, &["long/#"]));
    passed(&mut mux).expect("no breach");
    assert_eq!(target(&mut mux, &publish("", 0, b"x", 5)), 0, "introduced on the control stream");
    assert_eq!(target(&mut mux, &publish("long/other", 3, b"x", 6)), 1);
    assert_eq!(target(&mut mux, &publish("", 0, b"x", 6)), 1);
    mux.collect(2, &subscribe(2, &["long/other"]));
    passed(&mut mux).expect("no breach");
    assert_eq!(target(&mut mux, &publish("", 4, b"x", 6)), 1);
    assert_eq!(target(&mut mux, &publish("long/other", 0, b"x", 6)), 2);
    assert_eq!(target(&mut mux, &publish("", 0, b"x", 6)), 2);
}

#[test]
fn output_is_sorted_the_same_however_it_is_cut() {
    let mut mux = connected(2);
    mux.collect(1, &subscribe(1, &["x/#"]));
    passed(&mut mux).expect("no breach");
    let topic = format!("x/{}", "y".repeat(300));
    let parts = [
        (publish(&topic, 0, &[1; 500], 2), 1),
        (packet(Packet::PingResp), 0),
        (publish("z", 8, &[2; 40], 0), 0),
        (publish("", 9, &[3; 40], 2), 1),
    ];
    let whole: Vec<u8> = parts.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
    let expected: Vec<Vec<u8>> = [0, 1]
        .map(|stream| parts.iter().filter(|(_, of)| *of == stream).flat_map(|(bytes, _)| bytes.clone()).collect())
        .to_vec();
    for size in [1, 2, 3, 7, 100, 5000] {
        let mut got = vec![Vec::new(), Vec::new()];
        for chunk in whole.chunks(size) {
            mux.sort(chunk, |stream, bytes| got[usize::from(stream)].extend_from_slice(bytes));
        }
        assert_eq!(got, expected, "in pieces of {size}");
    }
}

#[test]
fn an_ended_stream_is_done_when_all_is_answered() {
    let mut mux = connected(1);
    mux.collect(1, &publish("t", 7, b"", 0));
    mux.end(1);
    assert_eq!(mux.appetite(1), 0);
    assert!(!mux.is_done(1));
    passed(&mut mux).expect("no breach");
    assert!(!mux.is_done(1), "it waits for its answer");
    assert_eq!(target(&mut mux, &bytes_of(|out| encode_puback(V5, 7, ReasonCode::Success, out))), 1);
    assert!(mux.is_done(1));
    mux.close(1).expect("nothing is under way");
    mux.open(1);
    assert!(mux.appetite(1) > 0);
}

#[test]
fn half_a_packet_is_dropped_with_its_stream_unless_the_shard_has_begun_it() {
    let mut mux = connected(1);
    mux.collect(1, &publish("t", 7, b"payload", 0)[..5]);
    mux.end(1);
    assert_eq!(passed(&mut mux), Ok(Vec::new()));
    assert!(mux.is_done(1));
    mux.close(1).expect("nothing is under way");
    assert_eq!(mux.collected, 0);
    for ended in [true, false] {
        let mut mux = connected(1);
        mux.collect(1, &vec![0x30; 1][..]);
        mux.collect(1, &publish("t", 0, &[7; WHOLE_MAX], 0)[1..WHOLE_MAX]);
        passed(&mut mux).expect("no breach");
        if ended {
            mux.end(1);
            assert_eq!(passed(&mut mux), Err(Breach::Torn));
        } else {
            assert_eq!(mux.close(1), Err(Breach::Torn));
        }
    }
}

/// A sequence that looks random and is always the same.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }
}

#[test]
fn packets_of_many_streams_arrive_whole_and_each_stream_in_its_order() {
    for seed in 1..40 {
        let mut chance = Chance(seed);
        let mut mux = connected(5);
        // Each payload says its stream and its number there.
        let mut waiting: Vec<Vec<u8>> = (0..=5_u8)
            .map(|stream| {
                let packets = (0..20_u8).map(|number| {
                    let length = if chance.below(10) == 0 { WHOLE_MAX + chance.below(9000) } else { chance.below(200) };
                    publish("t", 0, &[vec![stream, number], vec![7; length]].concat(), 0)
                });
                packets.collect::<Vec<_>>().concat()
            })
            .collect();
        let mut arrived = Vec::new();
        while waiting.iter().any(|bytes| !bytes.is_empty()) {
            let stream = chance.below(6);
            let appetite = mux.appetite(stream as Stream);
            let count = chance.below(1 + appetite.min(20_000)).min(waiting[stream].len());
            mux.collect(stream as Stream, &waiting[stream][..count]);
            waiting[stream].drain(..count);
            mux.pass(chance.below(30_000), |bytes| arrived.extend_from_slice(bytes)).expect("no breach");
            assert!(mux.collected <= COLLECTED_MAX + WHOLE_MAX);
        }
        arrived.extend(passed(&mut mux).expect("no breach"));
        let mut next = [0_u8; 6];
        while !arrived.is_empty() {
            let Ok(Split::Packet(frame)) = split(&arrived, u32::MAX) else { panic!("cut by another") };
            // Topic "t", no properties.
            let (stream, number) = (frame.body[4], frame.body[5]);
            assert_eq!(number, next[usize::from(stream)], "seed {seed}");
            next[usize::from(stream)] += 1;
            let len = frame.len;
            arrived.drain(..len);
        }
        assert_eq!(next, [20; 6]);
        assert_eq!(mux.collected, 0);
    }
}

#[test]
fn no_bytes_and_no_order_of_calls_make_it_panic() {
    for seed in 1..400 {
        let mut chance = Chance(seed);
        let mut mux = if chance.below(4) == 0 { Mux::new() } else { connected(0) };
        let mut open = vec![true];
        let bytes = |chance: &mut Chance| -> Vec<u8> {
            let first = [0x10, 0x30, 0x32, 0x40, 0x50, 0x62, 0x70, 0x82, 0xA2, 0xC0, 0xF0][chance.below(11)];
            let length = chance.below(12);
            let claimed = if chance.below(4) == 0 { chance.below(256) } else { length };
            let body = (0..length).map(|_| chance.below(6) as u8);
            [first, claimed as u8].into_iter().chain(body).collect()
        };
        for _ in 0..300 {
            let stream = chance.below(open.len()) as Stream;
            match chance.below(8) {
                0 if open.len() < 8 => {
                    mux.open(open.len() as Stream);
                    open.push(true);
                }
                1 => mux.end(stream),
                2 => mux.deafen(stream),
                3 if stream != CONTROL && open[usize::from(stream)] => {
                    open[usize::from(stream)] = false;
                    if mux.close(stream).is_err() {
                        break;
                    }
                }
                4 if !open[usize::from(stream)] => {
                    mux.open(stream);
                    open[usize::from(stream)] = true;
                }
                5 => mux.sort(&bytes(&mut chance), |_, _| {}),
                6 => {
                    let _ = mux.is_done(stream);
                    if mux.pass(chance.below(20), |_| {}).is_err() {
                        break;
                    }
                }
                _ if mux.appetite(stream) > 300 => mux.collect(stream, &bytes(&mut chance)),
                _ => {}
            }
        }
    }
}
