use super::*;

/// A file as a Mosquitto writes it, chunk by chunk.
struct File {
    bytes: Vec<u8>,
    version: u32,
    narrow: bool,
    big_endian: bool,
}

/// What is in the file of each version, as far as it can be.
const TOPIC: &str = "room/1";

impl File {
    fn new(version: u32) -> File {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([0; 4]);
        bytes.extend(version.to_be_bytes());
        File { bytes, version, narrow: false, big_endian: false }
    }

    fn u64(&self, number: u64) -> [u8; 8] {
        if self.big_endian { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn chunk(mut self, kind: u32, parts: &[&[u8]]) -> File {
        let body = parts.concat();
        if self.version < 5 {
            self.bytes.extend((kind as u16).to_be_bytes());
        } else {
            self.bytes.extend(kind.to_be_bytes());
        }
        self.bytes.extend((body.len() as u32).to_be_bytes());
        self.bytes.extend(body);
        self
    }

    fn configuration(self, last: u64, stopped: u8) -> File {
        let last = self.u64(last);
        match (self.version, self.narrow) {
            (..5, _) => self.chunk(1, &[&[stopped, 8], &last]),
            (_, true) => self.chunk(1, &[&last, &[stopped, 8, 0, 0]]),
            (_, false) => self.chunk(1, &[&last, &[stopped, 8], &[0; 6]]),
        }
    }

    fn message(self, number: u64, expires_s: i64, payload: &str, properties: &[u8]) -> File {
        let (number, expires) = (self.u64(number), self.u64(expires_s.cast_unsigned()));
        let len = &(payload.len() as u32).to_be_bytes();
        match self.version {
            3 => self.chunk(2, &[&number, &text("pub"), &[0, 9, 0, 0], &text(TOPIC), &[1, 1], len, payload.as_bytes()]),
            4 => self.chunk(
                2,
                &[
                    &number,
                    &text("pub"),
                    &text("bob"),
                    &[7, 91, 0, 9, 0, 0],
                    &text(TOPIC),
                    &[1, 1],
                    len,
                    payload.as_bytes(),
                ],
            ),
            _ => {
                let lens = [0, 9, 0, 3, 0, 3, 0, TOPIC.len() as u8, 7, 91, 1, 1];
                let texts = ["pub", "bob", TOPIC, payload].concat();
                self.chunk(2, &[&number, &expires, len, &lens, texts.as_bytes(), properties])
            }
        }
    }

    fn client(self, id: &str, ends_s: i64, expiry_s: u32) -> File {
        let ends = self.u64(ends_s.cast_unsigned());
        let (expiry, len) = (expiry_s.to_be_bytes(), (id.len() as u16).to_be_bytes());
        match (self.version, self.narrow) {
            (..5, true) => self.chunk(6, &[&text(id), &[0, 1], &[1, 2, 3, 4]]),
            (..5, false) => self.chunk(6, &[&text(id), &[0, 1], &ends]),
            (5, _) => self.chunk(6, &[&ends, &expiry, &[0, 1], &len, id.as_bytes()]),
            (_, narrow) => {
                let padding = if narrow { &[][..] } else { &[0; 4] };
                self.chunk(6, &[&ends, &expiry, &[0, 1], &len, &[7, 91, 0, 4], padding, id.as_bytes(), b"anna"])
            }
        }
    }

    fn transfer(self, client: &str, message: u64, id: u16, (direction, state): (u8, u8), properties: &[u8]) -> File {
        let (message, id) = (self.u64(message), id.to_be_bytes());
        let len = (client.len() as u16).to_be_bytes();
        match self.version {
            ..5 => self.chunk(3, &[&text(client), &message, &id, &[2, 1, direction, state, 1]]),
            _ => self.chunk(3, &[&message, &id, &len, &[2, state, 0x11, direction], client.as_bytes(), properties]),
        }
    }

    fn subscription(self, client: &str, filter: &str, identifier: u32, bits: u8) -> File {
        let lens = [(client.len() as u16).to_be_bytes(), (filter.len() as u16).to_be_bytes()].concat();
        match self.version {
            ..5 => self.chunk(5, &[&text(client), &text(filter), &[1]]),
            _ => self
                .chunk(5, &[&identifier.to_be_bytes(), &lens, &[1, bits, 0, 0], client.as_bytes(), filter.as_bytes()]),
        }
    }

    fn retained(self, number: u64) -> File {
        let number = self.u64(number);
        self.chunk(4, &[&number])
    }

    /// One of each.
    fn whole(self) -> File {
        self.configuration(60, 1)
            .message(60, 2_000_000_000, "late", &[5, 1, 1, 3, 0, 0])
            .message(5, 0, "early", &[])
            .client("a", 2_000_000_000, 3600)
            .transfer("a", 60, 9, (1, 5), &[2, 11, 77])
            .subscription("a", "room/+", 77, 0x2C)
            .retained(5)
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

#[test]
fn a_file_of_each_version_and_machine_is_read() {
    for version in 3..=6 {
        for (narrow, big_endian) in [(false, false), (true, false), (false, true)] {
            let file = File { narrow, big_endian, ..File::new(version) }.whole();
            let read = read(&file.bytes).expect("it is one");
            let told = format!("version {version}, narrow {narrow}, big endian {big_endian}: {read:?}");
            assert_eq!((read.damages_count, read.version, read.stopped), (0, version, true), "{told}");
            let numbers: Vec<(u64, &[u8])> =
                read.messages.iter().map(|message| (message.number, message.payload)).collect();
            assert_eq!(numbers, [(5, &b"early"[..]), (60, b"late")], "{told}");
            let late = read.message(60).expect("it is there");
            assert_eq!((late.topic, late.publisher, late.qos, late.retain), (TOPIC, "pub", QoS::AtLeastOnce, true));
            assert_eq!(late.expires_s, (version > 4).then_some(2_000_000_000), "{told}");
            assert_eq!(late.properties, if version > 4 { &[5, 1, 1, 3, 0, 0][..] } else { &[] }, "{told}");
            let client = read.clients[0];
            let user = if version == 6 { ("anna", 1883) } else { ("", 0) };
            assert_eq!((client.id, client.user, client.port), ("a", user.0, user.1), "{told}");
            let life = if version > 4 { (3600, Some(2_000_000_000)) } else { (u32::MAX, None) };
            assert_eq!((client.expiry_s, client.ends_s), life, "{told}");
            let transfer = read.transfers[0];
            assert_eq!((transfer.client, transfer.message, transfer.packet_id), ("a", 60, 9), "{told}");
            assert_eq!((transfer.stage, transfer.qos, transfer.retain), (Stage::Sent, QoS::ExactlyOnce, true));
            let mut scratch = Vec::new();
            let ids = properties(transfer.properties, &mut scratch).expect("checked").subscription_identifiers();
            assert_eq!(ids.collect::<Vec<u32>>(), if version > 4 { &[77][..] } else { &[] }, "{told}");
            let subscription = read.subscriptions[0];
            assert_eq!((subscription.client, subscription.filter), ("a", "room/+"), "{told}");
            let (options, identifier) = if version > 4 { (0x0D, 77) } else { (1, 0) };
            assert_eq!((subscription.options.as_byte(), subscription.identifier), (options, identifier), "{told}");
            assert_eq!(read.retained, [5], "{told}");
        }
    }
}

/// 2.1 counts messages by the time: they need all of their 64 bits.
#[test]
fn numbers_made_of_times_do_not_look_like_another_machine() {
    let number = (150_000_000_u64 << 23) | 0x12_3400;
    let file = File::new(6).configuration(number, 0).message(number, 7, "x", &[]).retained(number);
    let read = read(&file.bytes).expect("it is one");
    assert!(!read.stopped);
    assert_eq!(
        (read.damages_count, read.retained[0], read.message(number).expect("it is there").expires_s),
        (0, number, Some(7))
    );
}

#[test]
fn states_are_told_by_their_direction() {
    let stages = [
        ((1, 11), Some(Stage::Queued)),
        ((1, 1), Some(Stage::Queued)),
        ((1, 2), Some(Stage::Sent)),
        ((1, 3), Some(Stage::Sent)),
        ((1, 4), Some(Stage::Sent)),
        ((1, 5), Some(Stage::Sent)),
        ((1, 6), Some(Stage::Received)),
        ((1, 9), Some(Stage::Received)),
        ((0, 7), Some(Stage::Held)),
        ((0, 10), Some(Stage::Held)),
        ((0, 11), Some(Stage::Held)),
        ((0, 8), Some(Stage::Over)),
        ((1, 7), None),
        ((1, 0), None),
        ((0, 1), None),
        ((1, 12), None),
        ((2, 11), None),
    ];
    for (state, stage) in stages {
        let file = File::new(6).configuration(1, 1).transfer("a", 1, 1, state, &[]);
        let read = read(&file.bytes).expect("it is one");
        assert_eq!(read.transfers.first().map(|transfer| transfer.stage), stage, "{state:?}");
        assert_eq!(read.damages_count, usize::from(stage.is_none()), "{state:?}");
    }
}

#[test]
fn what_is_no_persistence_file_is_refused() {
    let mut newer = File::new(6).whole().bytes;
    newer[22] = 7;
    let cases: [(&[u8], &str); 6] = [
        (b"", "the file is empty"),
        (b"SQLite format 3\0\x10\0", "SQLite plugin"),
        (b"listener 1883\npersistence true\n# and so on", "not a persistence file"),
        (MAGIC, "not a persistence file"),
        (&newer, "version 7"),
        (&File::new(2).bytes, "version 2"),
    ];
    for (bytes, text) in cases {
        let fault = read(bytes).expect_err("it is none");
        assert!(fault.contains(text), "{fault}");
    }
}

/// Damages as text, and how many messages are left.
fn damages(bytes: &[u8]) -> (Vec<String>, usize) {
    let read = read(bytes).expect("it begins like one");
    let told = read.damages.iter().map(|damage| format!("{}: {}", damage.offset, damage.what)).collect();
    (told, read.messages.len())
}

#[test]
fn damage_is_told_with_its_offset_and_the_rest_is_read() {
    let good = |file: File| file.message(8, 0, "good", &[]).bytes;
    let start = || File::new(6).configuration(9, 1);
    let cases = [
        (start().chunk(9, &[b"what?"]), "47: a chunk of kind 9 with 5 bytes is unknown"),
        (start().chunk(4, &[&[0; 9]]), "47: 1 bytes too many in a chunk"),
        (start().chunk(4, &[&[0; 7]]), "47: a chunk ends 1 bytes too early"),
        (
            start().message(7, 0, "x", &[9, 1]),
            "47: properties do not read: property length runs past the end of the packet",
        ),
        (start().message(7, 0, "x", &[0, 1]), "47: 1 bytes too many in a chunk"),
        (
            start().chunk(2, &[&[0; 16], &[0x10, 0, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], b"t"]),
            "47: a payload has 268435456 bytes, more than a packet holds",
        ),
        (start().client("", 0, 9), "47: a client identifier is empty"),
        (start().client("a\0", 0, 9), "47: a client identifier is no text in UTF-8"),
        (start().transfer("a", 8, 0, (1, 3), &[]), "47: a message is in flight under packet identifier 0"),
        (start().transfer("a", 8, 1, (1, 99), &[]), "47: a message is in state 99, which is unknown for its direction"),
        (start().subscription("a", "a/#/b", 0, 0), "47: a filter is none (MultiLevelWildcard)"),
        (start().subscription("a", "a", 1 << 28, 0), "47: a Subscription Identifier is 268435456, which none can be"),
        (start().chunk(5, &[&[0; 4], &[0, 1, 0, 1, 3, 0, 0, 0], b"aa"]), "47: QoS is 3"),
    ];
    for (file, what) in cases {
        assert_eq!(damages(&good(file)), (vec![what.to_owned()], 1));
    }
    let wide = File::new(6).chunk(1, &[&[0; 8], &[1, 4], &[0; 6]]);
    assert_eq!(damages(&wide.bytes).0, ["23: numbers of messages have 4 bytes each, and not 8"]);
}

#[test]
fn a_file_that_is_cut_anywhere_is_damaged_or_holds_less() {
    for version in 3..=6 {
        let whole = File::new(version).whole().bytes;
        let all = read(&whole).expect("it is one");
        let count = |read: &Database<'_>| {
            read.messages.len()
                + read.clients.len()
                + read.transfers.len()
                + read.subscriptions.len()
                + read.retained.len()
        };
        for len in HEADER..whole.len() {
            let cut = read(&whole[..len]).expect("it begins like one");
            assert!(count(&cut) < count(&all));
            assert!(cut.damages_count <= 1);
            if let [damage] = &*cut.damages {
                assert!(damage.what.contains("ends"), "{damage:?}");
            }
        }
    }
}

#[test]
fn a_length_beyond_the_end_ends_the_reading() {
    let mut bytes = File::new(6).configuration(9, 1).message(8, 0, "good", &[]).bytes;
    let at = bytes.len();
    bytes.extend([0, 0, 0, 2, 0xFF, 0xFF, 0xFF, 0xFF, 1, 2, 3]);
    let what = format!("{at}: a chunk of kind 2 says that it has 4294967295 bytes, and the file ends after 3 of them");
    assert_eq!(damages(&bytes), (vec![what], 1));
}

/// 2.0.11 writes what follows a user name in its memory.
#[test]
fn a_user_name_that_is_memory_of_mosquitto_is_none() {
    let head = [&[0; 8][..], &[0xFF; 4], &[0, 1, 0, 1, 7, 91, 0, 8, 0, 0, 0, 0]].concat();
    let file = File::new(6).configuration(9, 1).chunk(6, &[&head, b"b", b"anna\0\x91\xFF\0"]);
    let read = read(&file.bytes).expect("it is one");
    assert_eq!((read.damages_count, read.clients[0].id, read.clients[0].user), (0, "b", ""));
}

#[test]
fn damages_are_counted_beyond_those_that_are_told() {
    let mut file = File::new(6).configuration(9, 1);
    for _ in 0..DAMAGES_MAX + 5 {
        file = file.chunk(0, &[]);
    }
    let read = read(&file.bytes).expect("it begins like one");
    assert_eq!((read.damages.len(), read.damages_count), (DAMAGES_MAX, DAMAGES_MAX + 5));
}

/// What Debian's Mosquitto 2.0.11 wrote: two retained messages, one of them with properties and an expiry, a client of 3.1.1 and one
/// of 5.0 with a Subscription Identifier, and what was published while both were away.
#[test]
fn a_file_that_mosquitto_wrote_is_read() {
    let bytes = include_bytes!("../../../../../fuzz/seeds/mosquitto_db/debian_2_0_11");
    let read = read(bytes).expect("it is one");
    assert_eq!((read.damages_count, read.version, read.stopped), (0, 6, true));
    let clients: Vec<(&str, &str, u32)> = read.clients.iter().map(|c| (c.id, c.user, c.expiry_s)).collect();
    assert_eq!(clients, [("sub1", "", u32::MAX), ("sub5", "alice", 1000)]);
    let filters: Vec<(&str, &str, u8, u32)> =
        read.subscriptions.iter().map(|s| (s.client, s.filter, s.options.as_byte(), s.identifier)).collect();
    assert_eq!(filters, [("sub1", "s/#", 2, 0), ("sub5", "s/+", 1, 77)]);
    let retained: Vec<&str> =
        read.retained.iter().filter_map(|number| read.message(*number)).map(|message| message.topic).collect();
    assert_eq!(retained, ["r/a", "r/b"]);
    let queued: Vec<(&str, &[u8], QoS)> = read
        .transfers
        .iter()
        .filter_map(|transfer| Some((transfer.client, read.message(transfer.message)?.payload, transfer.qos)))
        .collect();
    let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
    assert_eq!(
        queued,
        [
            ("sub1", &b"m2"[..], one),
            ("sub1", b"m3", two),
            ("sub5", b"m2", one),
            ("sub5", b"m3", one),
            ("sub5", b"shared", one)
        ]
    );
}
