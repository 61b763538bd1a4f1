//! A process that is killed while it writes, again and again, on real files: what it was answered is there.
//!
//! `BREAKWATER_STORE_KILLS=1000 cargo nextest run -p breakwater-store kill` for a longer game.
#![allow(clippy::unwrap_used, reason = "what fails in the ground of a test ends the test")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use breakwater_contract::store::{
    Answer, Change, Durability, Position, Question, SessionNumber, SessionRow, Store, Submitted, Terms, Wanted,
};
use breakwater_contract::{Completion, Completions, Token};
use breakwater_proto::{ForwardProperties, Message, MessageView, QoS};
use breakwater_store::{Embedded, OpenFault, Options, RealDisk};

const FOLDER: &str = "BREAKWATER_STORE_CHILD";
const SESSION: SessionNumber = SessionNumber(1);
const WANTED: Wanted = Wanted {
    session: SESSION,
    terms: Terms { qos: QoS::AtLeastOnce, retain: false, shared: false, subscription_id: 0, more_ids: false },
};
/// Length of the queue: each message that comes sends the one so far before it away.
const KEPT: u64 = 300;
/// Batches under way at once.
const UNDER_WAY: u64 = 16;

struct Answers(Sender<Completion>);

impl Completions for Answers {
    fn complete(&self, completion: Completion) {
        let _ = self.0.send(completion);
    }
}

fn open(folder: &Path) -> Result<(Embedded, Receiver<Completion>), OpenFault> {
    let (answers, inbox) = channel();
    // Small, so that kills meet folds, new segments and segments that go.
    let options =
        Options { segment_bytes: 16 << 10, fold_log_bytes: 10 << 10, cache_bytes: 1 << 20, ..Options::default() };
    let tell = Box::new(|text: &str| panic!("a kill is no damage: {text}"));
    let store = Embedded::open(Arc::new(RealDisk::new(folder)?), options, Arc::new(Answers(answers)), tell)?;
    Ok((store, inbox))
}

fn message(number: u64) -> Message {
    let view = MessageView {
        topic: "a/topic",
        payload: &number.to_be_bytes(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: ForwardProperties::EMPTY,
        expires_at: None,
        origin: 0,
    };
    Message::new(&view, &mut Vec::new())
}

fn queue(store: &Embedded) -> Vec<(u64, Position)> {
    let question = Question::Queue { session: SESSION, after: Position(0), messages_max: 10_000, bytes_max: 1 << 24 };
    let Answer::Queue { messages, more: false } = store.engine().answer(&question) else { panic!("it does not read") };
    let number = |message: &Message| u64::from_be_bytes(*message.payload().first_chunk().unwrap());
    messages.iter().map(|queued| (number(queued.message.as_ref().unwrap()), queued.position)).collect()
}

/// What the child does: goes on with the numbers, and says each one that it was answered.
fn write_until_killed(folder: &Path) {
    let (store, inbox) = open(folder).unwrap();
    let mut queue: std::collections::VecDeque<_> = queue(&store).into();
    let token = Token { shard: 0, slot: 0, generation: 0, sequence: 0 };
    let session = Change::Session(Box::new(SessionRow { number: SESSION, ..SessionRow::default() }));
    let _ = store.submit(token, &[session], Durability::Fsync);
    let mut number = queue.back().map_or(0, |(number, _)| *number);
    let mut answered = number;
    let mut out = std::io::stdout().lock();
    loop {
        while number < answered + UNDER_WAY {
            number += 1;
            let mut changes = vec![Change::Message { message: message(number), unix_ms: 0, sessions: vec![WANTED] }];
            if let Some((_, position)) = queue.pop_front_if(|(first, _)| *first + KEPT <= number) {
                changes.push(Change::Forget { session: SESSION, messages: vec![position] });
            }
            assert_eq!(store.submit(token, &changes, Durability::Fsync), Submitted::Pending);
        }
        if let Completion::Durable { stored: true, positions, .. } = inbox.recv().unwrap()
            && let [position] = *positions
        {
            answered += 1;
            queue.push_back((answered, position));
            writeln!(out, "answered {answered}").unwrap();
            out.flush().unwrap();
        }
    }
}

fn child(folder: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_process_that_is_killed_again_and_again_loses_nothing_answered", "--nocapture"]);
    command.env(FOLDER, folder).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap()
}

#[test]
fn a_process_that_is_killed_again_and_again_loses_nothing_answered() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write_until_killed(&PathBuf::from(folder));
    }
    let folder = std::env::temp_dir().join(format!("breakwater-kills-{}", std::process::id()));
    let kills = std::env::var("BREAKWATER_STORE_KILLS").map_or(20, |kills| kills.parse().unwrap());
    let mut random = 88_172_645_463_325_252_u64;
    for kill in 0..kills {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let mut child = child(&folder);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut answered = 0;
        let mut numbers = lines.by_ref().filter_map(|line| line.strip_prefix("answered ")?.parse::<u64>().ok());
        for number in numbers.by_ref().take(1 + (random % 150) as usize) {
            answered = number;
        }
        if kill == 0 {
            assert!(matches!(open(&folder), Err(OpenFault::Locked)), "another process has the folder");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts too.
        answered = numbers.last().unwrap_or(answered);
        assert!(answered > 0);
        let (store, _inbox) = open(&folder).unwrap();
        let found: Vec<u64> = queue(&store).into_iter().map(|(number, _)| number).collect();
        let last = *found.last().unwrap();
        assert!((answered..=answered + UNDER_WAY).contains(&last), "kill {kill}: {answered} answered, {last} found");
        let first = (last + 1).saturating_sub(KEPT).max(1);
        assert_eq!(found, (first..=last).collect::<Vec<_>>(), "kill {kill}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}
