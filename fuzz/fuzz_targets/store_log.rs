//! Any bytes as the log of a store: nothing panics, what a start finds is what the next start finds, and the store goes on.
//!
//! The first byte chooses: whole frames with any records in them, cut by the second byte, or any bytes behind a good header.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use breakwater_store::{Crash, Disk as _, Engine, Frame, Options, SimulatedDisk};
use breakwater_contract::store::{Answer, Change, Durability, Position, Question, Restored, Store as _};
use breakwater_contract::{Completion, Completions, Token};
use libfuzzer_sys::fuzz_target;

const SALT: u64 = 1;
/// Where a log begins.
const START: u64 = 1;

struct Nobody;

impl Completions for Nobody {
    fn complete(&self, _: Completion) {}
}

fuzz_target!(|input: &[u8]| {
    let [choice, cut, bytes @ ..] = input else { return };
    let log = if choice & 1 == 0 { framed(bytes, usize::from(*cut)) } else { bytes.to_vec() };
    let disk = SimulatedDisk::new();
    let file = disk.create("log/0000000001.seg").expect("an empty disk");
    file.write_at(&[header(), log].concat(), 0).expect("room");
    file.sync().expect("a disk");
    disk.sync_folder("log").expect("a disk");

    let first = found(&open(&disk));
    let engine = open(&disk);
    engine.settle(1);
    assert_eq!(found(&engine), first, "folded and not folded are the same");
    let token = Token { shard: 0, slot: 0, generation: 0, sequence: 0 };
    let change = Change::Value { table: "last".into(), key: [1].into(), value: Some([2].into()) };
    let _ = engine.submit(token, &[change], Durability::Fsync);
    engine.write(2, Duration::ZERO);
    drop(engine);
    let disk = disk.after(Crash::Nothing);
    let question = Question::Values { table: "last".into(), after: None, rows_max: usize::MAX };
    let Answer::Values(rows) = open(&disk).answer(&question) else { panic!("it does not read") };
    assert!(rows.contains(&([1].into(), [2].into())));
});

fn open(disk: &SimulatedDisk) -> Engine {
    let options = Options { salt: SALT, cache_bytes: 1 << 20, ..Options::default() };
    Engine::open(Arc::new(disk.clone()), options, Arc::new(Nobody), Box::new(|_| {})).expect("a start succeeds")
}

/// All that a start finds, and the front of each queue, sorted.
fn found(engine: &Engine) -> Vec<String> {
    let (mut found, mut sessions) = (Vec::new(), Vec::new());
    engine
        .restore(&mut |restored| {
            if let Restored::Session(session) = &restored {
                sessions.push(session.row.number);
            }
            found.push(format!("{restored:?}"));
        })
        .unwrap_or_default();
    for session in sessions {
        let question = Question::Queue { session, after: Position(0), messages_max: 9, bytes_max: 1 << 16 };
        found.push(format!("{:?}", engine.answer(&question)));
    }
    found.sort();
    found
}

/// The bytes as bodies of frames, `cut` bytes each at most.
fn framed(bytes: &[u8], cut: usize) -> Vec<u8> {
    let mut log = Vec::new();
    for body in bytes.chunks(cut.max(1) * 8) {
        let frame = Frame { position: START + log.len() as u64, synced_back: 0, body };
        log.extend_from_slice(&frame.head(SALT));
        log.extend_from_slice(body);
    }
    log
}

/// Of the first segment, as the store writes it.
fn header() -> Vec<u8> {
    let disk = SimulatedDisk::new();
    let engine = open(&disk);
    let token = Token { shard: 0, slot: 0, generation: 0, sequence: 0 };
    let change = Change::Unretain { topic: "t".into(), revision: 1 };
    let _ = engine.submit(token, &[change], Durability::Fsync);
    engine.write(0, Duration::ZERO);
    let mut header = vec![0; 72];
    let file = disk.open("log/0000000001.seg").expect("the first segment");
    file.read_at(&mut header, 0).expect("a header");
    header
}
