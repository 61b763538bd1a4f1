use super::*;

const KEY: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
const MAX: u32 = 1000;

fn server() -> Decoder {
    Decoder::new(Role::Server, MAX, 2 * MAX)
}

/// A frame of a client, with the first byte as given.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, OpCode::Binary, payload, Some(KEY));
    out[0] = first;
    out
}

/// Feeds `bytes` in pieces of `step`; the stream, the answers and the end.
fn feed(decoder: &mut Decoder, bytes: &[u8], step: usize) -> (Vec<u8>, Vec<u8>, Option<End>) {
    let (mut stream, mut answers, mut end) = (Vec::new(), Vec::new(), None);
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let decoded = decoder.decode(&mut piece, KEY, &mut answers);
        stream.extend_from_slice(&piece[..decoded.payload]);
        end = end.or(decoded.end);
    }
    (stream, answers, end)
}

fn close(code: u16, reason: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_close(&mut out, code, reason, None);
    out
}

/// [MQTT-6.0.0-2] [MQTT3-6.0.0-2]
#[test]
fn any_split_of_any_frames_gives_the_same_stream() {
    let long: Vec<u8> = (0..900_u32).map(|at| at as u8).collect();
    // One packet over three fragments with a ping in between, two packets in one frame, nothing in a frame.
    let bytes = [
        frame(0x02, b"first "),
        frame(0x89, b"are you there?"),
        frame(0x00, b"second "),
        frame(0x80, b"third"),
        frame(0x82, b""),
        frame(0x82, &long),
        frame(0x8A, b"nobody asked"),
        frame(0x82, b"end"),
    ]
    .concat();
    let stream = [b"first second third".as_slice(), &long, b"end"].concat();
    let mut pong = Vec::new();
    put_frame(&mut pong, OpCode::Pong, b"are you there?", None);
    for step in (1..40).chain([300, bytes.len()]) {
        let got = feed(&mut server(), &bytes, step);
        assert_eq!(got, (stream.clone(), pong.clone(), None), "in pieces of {step}");
    }
}

#[test]
fn both_ends_understand_each_other() {
    for (role, key) in [(Role::Server, Some(KEY)), (Role::Client, None)] {
        for length in [0, 1, 7, 125, 126, 300, 65_535, 65_536, 70_000] {
            let payload: Vec<u8> = (0..length).map(|at| (at * 7) as u8).collect();
            let mut bytes = Vec::new();
            put_frame(&mut bytes, OpCode::Binary, &payload, key);
            let mut decoder = Decoder::new(role, 100_000, 100_000);
            assert_eq!(feed(&mut decoder, &bytes, 999), (payload, vec![], None));
        }
    }
}

#[test]
fn a_client_masks_its_answers() {
    let mut bytes = Vec::new();
    put_frame(&mut bytes, OpCode::Ping, b"hello", None);
    let (_, answers, _) = feed(&mut Decoder::new(Role::Client, MAX, MAX), &bytes, 3);
    let (_, _, end) = feed(&mut server(), &answers, 2);
    assert_eq!(end, None);
    assert_eq!(answers, frame(0x8A, b"hello"));
}

#[test]
fn whoever_breaks_a_rule_is_told_which() {
    let mut short_written_long = vec![0x82, 0xFE, 0, 125];
    short_written_long.extend_from_slice(&KEY);
    let mut huge = vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0];
    huge.extend_from_slice(&KEY);
    let mut unmasked = Vec::new();
    put_frame(&mut unmasked, OpCode::Binary, b"bare", None);
    let cases: &[(&str, Vec<u8>, Fault)] = &[
        ("text", frame(0x81, b"text"), Fault::Text),
        ("compressed", frame(0xC2, b"data"), Fault::ReservedBits),
        ("reserved bit 2", frame(0xA2, b""), Fault::ReservedBits),
        ("reserved bit 3", frame(0x92, b""), Fault::ReservedBits),
        ("data of kind 3", frame(0x83, b""), Fault::UnknownOpCode),
        ("control of kind 11", frame(0x8B, b""), Fault::UnknownOpCode),
        ("unmasked", unmasked, Fault::Mask),
        ("ping in fragments", frame(0x09, b""), Fault::Control),
        ("long ping", frame(0x89, &[0; 126]), Fault::Control),
        ("long close", frame(0x88, &[0; 126]), Fault::Control),
        ("continuation of nothing", frame(0x80, b"x"), Fault::Order),
        ("message within a message", [frame(0x02, b"a"), frame(0x82, b"b")].concat(), Fault::Order),
        ("wasteful length", short_written_long, Fault::Length),
        ("impossible length", huge, Fault::Length),
        ("frame too big", frame(0x82, &[0; 1001]), Fault::TooBig),
        (
            "message too big",
            [frame(0x02, &[0; 1000]), frame(0x00, &[0; 1000]), frame(0x80, b"!")].concat(),
            Fault::TooBig,
        ),
        ("half a close code", frame(0x88, &[3]), Fault::Close),
        ("close code 1005", frame(0x88, &[0x03, 0xED]), Fault::Close),
        ("close code 999", frame(0x88, &[0x03, 0xE7]), Fault::Close),
        ("close code 5000", frame(0x88, &[0x13, 0x88]), Fault::Close),
        ("close text", frame(0x88, &[0x03, 0xE8, 0xFF]), Fault::CloseText),
    ];
    for (what, bytes, fault) in cases {
        for step in [1, 5, bytes.len()] {
            let mut decoder = server();
            let (_, answers, end) = feed(&mut decoder, bytes, step);
            assert_eq!(end, Some(End::Broken(*fault)), "{what}");
            assert_eq!(answers, close(fault.code(), fault.text()), "{what}");
            assert!(decoder.has_ended());
        }
    }
    assert_eq!([Fault::Text.code(), Fault::Order.code(), Fault::TooBig.code()], [1003, 1002, 1009]);
}

#[test]
fn what_stands_before_a_close_is_heard_and_what_stands_behind_is_not() {
    for (said, code, answer) in [(&[][..], None, 1000), (&[0x03, 0xE9, b'b', b'y', b'e'][..], Some(1001), 1001)] {
        let bytes =
            [frame(0x82, b"last words"), frame(0x88, said), frame(0x82, b"more"), frame(0x81, b"text")].concat();
        for step in [1, 4, bytes.len()] {
            let (stream, answers, end) = feed(&mut server(), &bytes, step);
            assert_eq!((stream.as_slice(), end), (b"last words".as_slice(), Some(End::Closed(code))));
            assert_eq!(answers, close(answer, ""));
        }
    }
}

#[test]
fn a_storm_of_pings_is_answered_once_per_look() {
    let bytes: Vec<u8> = (0..500_u32).flat_map(|at| frame(0x89, &at.to_be_bytes())).collect();
    let mut earlier = b"earlier".to_vec();
    let decoded = server().decode(&mut bytes.clone(), KEY, &mut earlier);
    assert_eq!(decoded, Decoded { payload: 0, end: None });
    let mut answer = b"earlier".to_vec();
    put_frame(&mut answer, OpCode::Pong, &499_u32.to_be_bytes(), None);
    assert_eq!(earlier, answer);
}

#[test]
fn masking_is_the_same_by_words_and_by_bytes() {
    for length in 0..40 {
        let bytes: Vec<u8> = (0..length).collect();
        let mut masked = bytes.clone();
        mask(&mut masked, KEY);
        let by_bytes: Vec<u8> = bytes.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        assert_eq!(masked, by_bytes);
    }
}

#[test]
fn a_reason_that_is_too_long_is_cut_between_letters() {
    let mut out = Vec::new();
    put_close(&mut out, 1000, &"ä".repeat(100), None);
    assert_eq!(out.len(), 2 + 2 + 122);
    assert!(std::str::from_utf8(&out[4..]).is_ok());
}

#[test]
fn a_quiet_connection_keeps_a_few_bytes() {
    assert!(size_of::<Decoder>() <= 56, "{}", size_of::<Decoder>());
}
