//! What the store costs: `cargo run --release -p breakwater-store --example store_cost -- [folder] [append|slow|start]...`
//!
//! `append`: messages of 64 bytes from many submitters at once, against a bare file that is given the same frames. `slow`: one
//! message at a time, each synced, and what of each was handed to write(2), index included. `start`: how long a start takes,
//! and what memory it leaves, with idle sessions, retained and queued messages.
#![expect(clippy::print_stdout, reason = "it talks to the terminal")]

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use breakwater_contract::store::{
    Answer, Change, Durability, Position, Question, Restored, Retained, SessionNumber, SessionRow, Store, Submitted,
    Terms, Wanted,
};
use breakwater_contract::{Completion, Completions, Token};
use breakwater_proto::{ForwardProperties, Message, MessageView, QoS};
use breakwater_store::{Embedded, Options, RealDisk};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("store_cost");
    let wanted: Vec<String> = arguments.collect();
    let wants = |word: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == word);
    if wants("append") {
        for submitters in [1, 16, 128, 1024, 16384] {
            append(&folder, submitters);
        }
    }
    if wants("slow") {
        slow(&folder);
    }
    if wants("start") {
        start(&folder, "100,000 idle sessions", |store, inbox| sessions(store, inbox, 100_000));
        start(&folder, "1 M idle sessions", |store, inbox| sessions(store, inbox, 1_000_000));
        start(&folder, "1 M retained, 1 M queued", |store, inbox| {
            retained(store, inbox, 1_000_000);
            queued(store, inbox, 1_000_000);
        });
        start(&folder, "10 M queued", |store, inbox| queued(store, inbox, 10_000_000));
    }
    let _ = fs::remove_dir_all(&folder);
}

fn wanted(session: u64) -> Wanted {
    Wanted { session: SessionNumber(session), terms: Terms::default() }
}

/// Counts completions and lets somebody wait for them.
#[derive(Default)]
struct Inbox {
    /// How many came, and how many somebody waits for.
    state: Mutex<(u64, u64)>,
    changed: Condvar,
}

impl Completions for Inbox {
    fn complete(&self, completion: Completion) {
        assert!(matches!(completion, Completion::Durable { stored: true, .. }), "the disk is in order");
        let mut state = self.state.lock().expect("nobody panics");
        state.0 += 1;
        if state.0 == state.1 {
            self.changed.notify_all();
        }
    }
}

impl Inbox {
    fn wait(&self, count: u64) {
        let mut state = self.state.lock().expect("nobody panics");
        state.1 = count;
        drop(self.changed.wait_while(state, |state| state.0 < count).expect("nobody panics"));
    }

    fn done(&self) -> u64 {
        self.state.lock().expect("nobody panics").0
    }
}

fn open(folder: &Path, inbox: &Arc<Inbox>) -> Embedded {
    let disk = Arc::new(RealDisk::new(folder).expect("a folder"));
    let completions = Arc::clone(inbox) as Arc<dyn Completions>;
    let tell = Box::new(|text: &str| println!("store: {text}"));
    Embedded::open(disk, Options::default(), completions, tell).expect("a store")
}

fn token() -> Token {
    Token { shard: 0, slot: 0, generation: 0, sequence: 0 }
}

fn message(topic: &str, payload: &[u8]) -> Message {
    let view = MessageView {
        topic,
        payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: ForwardProperties::EMPTY,
        expires_at: None,
        origin: 1,
    };
    Message::new(&view, &mut Vec::new())
}

fn session(number: u64) -> Change {
    let client_id = format!("sensor-{number:08}").into();
    let row = SessionRow { number: SessionNumber(number), client_id, expiry_s: 3600, ..SessionRow::default() };
    Change::Session(Box::new(row))
}

/// So many messages under way at once, one batch each.
#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn append(folder: &Path, submitters: u64) {
    let _ = fs::remove_dir_all(folder);
    let inbox = Arc::new(Inbox::default());
    let store = open(folder, &inbox);
    assert_eq!(store.submit(token(), &[session(1)], Durability::Fsync), Submitted::Pending);
    inbox.wait(1);
    let message = message("plant/4/line/2/temp", &[b'x'; 64]);
    let (before, started) = (io(), Instant::now());
    let (mut sent, mut done) = (1, 0);
    while started.elapsed() < Duration::from_secs(4) {
        if sent >= done + submitters {
            done = inbox.done();
        }
        if sent >= done + submitters {
            inbox.wait(done + submitters.div_ceil(4));
            continue;
        }
        let changes =
            [Change::Message { message: message.clone(), unix_ms: 1_800_000_000_000, sessions: vec![wanted(1)] }];
        if store.submit(token(), &changes, Durability::Fsync) == Submitted::Pending {
            sent += 1;
        }
    }
    inbox.wait(sent);
    let seconds = started.elapsed().as_secs_f64();
    let written = (io() - before) as f64 / sent as f64;
    let rate = sent as f64 / seconds;
    drop(store);
    let raw = raw(folder, submitters);
    println!(
        "append: {submitters:>6} under way {rate:>9.0} messages/s, {written:>5.0} B written each; \
         a bare file with batches of as many: {raw:>9.0}/s; {:.2} of it",
        rate / raw
    );
}

/// Records of 120 bytes in batches, an fdatasync each.
#[expect(clippy::cast_precision_loss, reason = "figures to look at")]
fn raw(folder: &Path, batch: u64) -> f64 {
    let mut file = fs::File::create(folder.join("raw")).expect("a file");
    let bytes = vec![7; 120 * usize::try_from(batch).expect("small")];
    let (started, mut records) = (Instant::now(), 0);
    while started.elapsed() < Duration::from_secs(4) {
        file.write_all(&bytes).expect("room");
        file.sync_data().expect("a disk");
        records += batch;
    }
    records as f64 / started.elapsed().as_secs_f64()
}

/// 3,000 messages of 64 bytes, one sync each, acknowledged at once by the session that wants them.
fn slow(folder: &Path) {
    let _ = fs::remove_dir_all(folder);
    let inbox = Arc::new(Inbox::default());
    let store = open(folder, &inbox);
    store.submit(token(), &[session(1)], Durability::Fsync);
    inbox.wait(1);
    let message = message("plant/4/line/2/temp", &[b'x'; 64]);
    let (before, started) = (io(), Instant::now());
    for number in 0..3000_u32 {
        let changes =
            [Change::Message { message: message.clone(), unix_ms: 1_800_000_000_000, sessions: vec![wanted(1)] }];
        store.submit(token(), &changes, Durability::Fsync);
        inbox.wait(2 + u64::from(number));
        // A hundred a second, or as fast as the disk is.
        std::thread::sleep((started + Duration::from_millis(10) * number).saturating_duration_since(Instant::now()));
    }
    let log = (io() - before) / 3000;
    drop(store);
    println!("slow: {log} B written per message of 64 bytes at 100/s, {} with the end", (io() - before) / 3000);
}

fn sessions(store: &Embedded, inbox: &Inbox, count: u64) {
    let mut batches = inbox.done();
    for first in (1..=count).step_by(100) {
        let mut changes = Vec::new();
        for number in first..(first + 100).min(count + 1) {
            let filter = format!("sensors/{number}/#").into();
            changes.push(session(number));
            changes.push(Change::Subscribe { session: SessionNumber(number), filter, options: 1, identifier: 0 });
        }
        batches += submit(store, inbox, &changes);
    }
    inbox.wait(batches);
}

fn retained(store: &Embedded, inbox: &Inbox, count: u64) {
    for first in (1..=count).step_by(100) {
        let set = |number: u64| {
            let message = message(&format!("sensors/{number}/state"), &[b'x'; 64]);
            let retained = Retained { message, revision: number, set_unix_ms: 1, by: "sensor".into() };
            Change::Retain(Box::new(retained))
        };
        submit(store, inbox, &(first..first + 100).map(set).collect::<Vec<_>>());
    }
}

fn queued(store: &Embedded, inbox: &Inbox, count: u64) {
    sessions(store, inbox, 100);
    let message = message("plant/4/line/2/temp", &[b'x'; 64]);
    for first in (0..count).step_by(100) {
        let push = |number| Change::Message {
            message: message.clone(),
            unix_ms: 1_800_000_000_000,
            sessions: vec![wanted(1 + number % 100)],
        };
        submit(store, inbox, &(first..first + 100).map(push).collect::<Vec<_>>());
    }
}

/// Submits, again if there is no room. Answers 1, for the batches.
fn submit(store: &Embedded, inbox: &Inbox, changes: &[Change]) -> u64 {
    while store.submit(token(), changes, Durability::Os) == Submitted::Refused {
        let state = inbox.state.lock().expect("nobody panics");
        let _ = inbox.changed.wait_timeout(state, Duration::from_millis(2));
    }
    1
}

fn start(folder: &Path, what: &str, fill: impl Fn(&Embedded, &Inbox)) {
    let _ = fs::remove_dir_all(folder);
    let inbox = Arc::new(Inbox::default());
    let store = open(folder, &inbox);
    let started = Instant::now();
    fill(&store, &inbox);
    // As after a crash: what is behind the last fold is in the log only.
    while store.health().waiting_bytes > 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (filled, memory_full) = (started.elapsed(), resident());
    let crashed = folder.with_extension("crashed");
    copy(folder, &crashed);
    drop(store);
    let before = resident();
    let (started, cpu) = (Instant::now(), cpu_s());
    let store = open(&crashed, &inbox);
    let opened = started.elapsed();
    let mut found = (0_u64, 0_u64);
    store
        .restore(&mut |restored| match restored {
            Restored::Session(session) => {
                found.0 += 1;
                found.1 += session.tally.messages;
            }
            Restored::Retained(_) => found.1 += 1,
            Restored::Value { .. } => {}
        })
        .expect("it reads");
    let (usable, cpu) = (started.elapsed(), cpu_s() - cpu);
    let window =
        Question::Queue { session: SessionNumber(1), after: Position(0), messages_max: 100, bytes_max: 1 << 20 };
    let asked = Instant::now();
    let answer = store.engine().answer(&window);
    let first = asked.elapsed();
    let messages = match answer {
        Answer::Queue { messages, .. } => messages.len(),
        other => unreachable!("{other:?}"),
    };
    println!(
        "start: {what}: filled in {filled:.1?} ({memory_full} MiB resident), {} MiB on disk; opened in {opened:.2?}, \
         {} sessions and {} messages told in {usable:.2?} ({cpu:.2} s on a core), {messages} of a queue read in {first:.1?}; {} MiB more resident",
        size(&crashed) >> 20,
        found.0,
        found.1,
        resident().saturating_sub(before)
    );
    drop(store);
    let _ = fs::remove_dir_all(crashed);
}

fn copy(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to.join("log")).expect("room");
    for path in files(from) {
        fs::copy(&path, to.join(path.strip_prefix(from).expect("inside"))).expect("room");
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let list = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    list(folder).chain(list(&folder.join("log"))).filter(|path| path.is_file()).collect()
}

fn size(folder: &Path) -> u64 {
    files(folder).iter().map(|path| fs::metadata(path).map_or(0, |file| file.len())).sum()
}

/// Seconds on a core so far.
fn cpu_s() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").expect("Linux");
    let after_name = text.rsplit_once(')').expect("the name in brackets").1;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().expect("a number"));
    ticks.sum::<f64>() / 100.0
}

/// MiB in memory.
fn resident() -> u64 {
    line_of("/proc/self/status", "VmRSS:") >> 10
}

/// Bytes handed to write(2).
fn io() -> u64 {
    line_of("/proc/self/io", "wchar:")
}

fn line_of(path: &str, key: &str) -> u64 {
    let text = fs::read_to_string(path).expect("Linux");
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("a line of it")
}
