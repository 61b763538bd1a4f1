//! What the tests play with: a script of changes that knows messages by number, a player that knows where a store put them,
//! and what a store holds in a form that two stores can be compared by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use breakwater_contract::store::{
    Answer, Change, Durability, MessageAt, OutboundState, Position, Question, Restored, Retained, SessionNumber,
    SessionRow, Store, Submitted, Terms, Wanted,
};
use breakwater_contract::{Completion, Completions, Token};
use breakwater_proto::{ForwardProperties, Instant, Message, MessageView, QoS};
use breakwater_store::{Disk, Engine, Memory, OpenFault, Options, SimulatedDisk};

/// Keeps what is completed.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<Vec<Completion>>);

impl Inbox {
    pub(crate) fn take(&self) -> Vec<Completion> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl Completions for Inbox {
    fn complete(&self, completion: Completion) {
        self.0.lock().unwrap().push(completion);
    }
}

pub(crate) fn token(sequence: u32) -> Token {
    Token { shard: 0, slot: 0, generation: 0, sequence }
}

/// A message that can be told from all others.
pub(crate) fn message(number: u64, topic: &str) -> Message {
    let payload = [number.to_be_bytes().as_slice(), &vec![b'.'; (number % 97) as usize]].concat();
    let view = MessageView {
        topic,
        payload: &payload,
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: ForwardProperties::EMPTY,
        expires_at: number.is_multiple_of(5).then_some(Instant(1000 + number)),
        origin: 0,
    };
    Message::new(&view, &mut Vec::new())
}

fn number_of(message: &Message) -> u64 {
    u64::from_be_bytes(*message.payload().first_chunk().unwrap())
}

pub(crate) fn row(number: u64, flavour: u64) -> SessionRow {
    SessionRow {
        number: SessionNumber(number),
        client_id: format!("client-{number}").into(),
        user: "somebody".into(),
        expiry_s: flavour as u32,
        detached_unix_ms: flavour * 1000,
        will: flavour.is_multiple_of(2).then(|| (message(flavour, "will"), 7)),
        attributes: flavour.to_be_bytes().into(),
    }
}

/// A session that wants a message, on terms that its number decides.
pub(crate) fn wanted(session: u64) -> Wanted {
    let terms = Terms {
        qos: if session.is_multiple_of(2) { QoS::ExactlyOnce } else { QoS::AtLeastOnce },
        retain: session.is_multiple_of(3),
        shared: session.is_multiple_of(5),
        subscription_id: (session % 3) as u32 * 89_478_485,
        more_ids: session.is_multiple_of(7),
    };
    Wanted { session: SessionNumber(session), terms }
}

/// One step of a script. Messages have numbers.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Push(u64, Vec<u64>),
    Forget(u64, Vec<u64>),
    ForgetThrough(u64, u64),
    /// Session, packet identifier, message.
    Send(u64, u16, u64),
    Done(u64, u16, u64),
    Plain(Change),
}

/// Plays a script on a store.
pub(crate) struct Player<'a> {
    pub store: &'a dyn Store,
    pub inbox: &'a Inbox,
    pub positions: BTreeMap<u64, Position>,
    sequence: u32,
    waiting: BTreeMap<u32, Vec<u64>>,
}

impl<'a> Player<'a> {
    pub(crate) fn new(store: &'a dyn Store, inbox: &'a Inbox) -> Player<'a> {
        Player { store, inbox, positions: BTreeMap::new(), sequence: 0, waiting: BTreeMap::new() }
    }

    pub(crate) fn submit(&mut self, acts: &[Act], durability: Durability) -> Submitted {
        let (mut changes, mut here) = (Vec::new(), Vec::new());
        for act in acts {
            let at = |number: &u64| {
                let known = self.positions.get(number).copied();
                known.unwrap_or(Position(u64::MAX - 1))
            };
            match act {
                Act::Push(number, sessions) => {
                    here.push(*number);
                    let sessions = sessions.iter().copied().map(wanted).collect();
                    let (message, unix_ms) = (message(*number, "a/topic"), 7_000 + number);
                    changes.push(Change::Message { message, unix_ms, sessions });
                }
                Act::Forget(session, numbers) => {
                    let messages = numbers.iter().map(at).collect();
                    changes.push(Change::Forget { session: SessionNumber(*session), messages });
                }
                Act::ForgetThrough(session, number) => {
                    changes.push(Change::ForgetThrough { session: SessionNumber(*session), last: at(number) });
                }
                Act::Send(session, packet_id, number) => {
                    let nth = here.iter().position(|pushed| pushed == number);
                    let message = match nth {
                        Some(nth) => MessageAt::InBatch(nth as u32),
                        None => MessageAt::Position(at(number)),
                    };
                    changes.push(Change::Outbound {
                        session: SessionNumber(*session),
                        packet_id: *packet_id,
                        state: OutboundState::Sent,
                        message: Some(message),
                    });
                }
                Act::Done(session, packet_id, number) => {
                    let session = SessionNumber(*session);
                    changes.push(Change::OutboundDone { session, packet_id: *packet_id });
                    changes.push(Change::Forget { session, messages: vec![at(number)] });
                }
                Act::Plain(change) => changes.push(change.clone()),
            }
        }
        self.sequence += 1;
        self.waiting.insert(self.sequence, here);
        self.store.submit(token(self.sequence), &changes, durability)
    }

    /// Takes completions in. Answers of each whether it was stored.
    pub(crate) fn completed(&mut self) -> Vec<bool> {
        let mut answers = Vec::new();
        for completion in self.inbox.take() {
            let Completion::Durable { token, stored, positions } = completion else { panic!("{completion:?}") };
            let numbers = self.waiting.remove(&token.sequence).expect("answered once");
            assert_eq!(positions.len(), if stored { numbers.len() } else { 0 });
            self.positions.extend(numbers.into_iter().zip(positions));
            answers.push(stored);
        }
        answers
    }
}

/// What a store holds, messages by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Dump {
    pub sessions: BTreeMap<u64, DumpedSession>,
    pub retained: BTreeMap<String, (u64, u64, String)>,
    pub values: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    pub lost: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DumpedSession {
    pub row: SessionRow,
    pub subscriptions: Vec<(Box<str>, u8, u32)>,
    pub inbound: Vec<u16>,
    pub outbound: Vec<(u16, OutboundState, Option<u64>)>,
    pub queue: Vec<u64>,
    pub tally: (u64, u64),
}

/// Reads everything: what a start finds, and then each queue in windows of `window` messages. `ask` answers a question.
pub(crate) fn dump(store: &dyn Store, window: usize, ask: &mut dyn FnMut(Question) -> Answer) -> Dump {
    let mut dump = Dump::default();
    let mut sessions = Vec::new();
    store
        .restore(&mut |restored| match restored {
            Restored::Session(session) => sessions.push(session),
            Restored::Retained(retained) => {
                let Retained { message, revision, by, .. } = *retained;
                let entry = (number_of(&message), revision, by.to_string());
                assert_eq!(dump.retained.insert(message.topic().to_owned(), entry), None, "a topic was found twice");
            }
            Restored::Value { table, key, value } => {
                assert_eq!(dump.values.insert((table.to_string(), key.into()), value.into()), None);
            }
        })
        .unwrap();
    for session in sessions {
        let (mut queue, mut numbers, mut bytes) = (Vec::new(), BTreeMap::new(), 0);
        let mut after = Position(0);
        loop {
            let session = session.row.number;
            let question = Question::Queue { session, after, messages_max: window, bytes_max: 1 << 20 };
            let Answer::Queue { messages, more } = ask(question) else { panic!("a queue does not read") };
            for queued in &messages {
                assert!(queued.position > after, "queues are in order");
                after = queued.position;
                match &queued.message {
                    Some(found) => {
                        bytes += found.as_bytes().len() as u64;
                        let number = number_of(found);
                        assert_eq!(*found, message(number, "a/topic"));
                        assert_eq!(queued.unix_ms, 7_000 + number);
                        assert_eq!(queued.terms, wanted(session.0).terms);
                        numbers.insert(queued.position, number);
                        queue.push(number);
                    }
                    None => dump.lost += 1,
                }
            }
            assert!(more || messages.len() <= window);
            if !more {
                break;
            }
        }
        if dump.lost == 0 {
            assert_eq!((session.tally.messages, session.tally.bytes), (queue.len() as u64, bytes), "{session:?}");
        }
        let asked = ask(Question::Session(session.row.number));
        assert_eq!(asked, Answer::Session(Some(session.clone())), "asked and restored are the same");
        let outbound =
            session.outbound.iter().map(|(id, state, at)| (*id, *state, at.and_then(|at| numbers.get(&at).copied())));
        let dumped = DumpedSession {
            outbound: outbound.collect(),
            row: session.row,
            subscriptions: session.subscriptions,
            inbound: session.inbound,
            queue,
            tally: (session.tally.messages, session.tally.bytes),
        };
        assert_eq!(dump.sessions.insert(dumped.row.number.0, dumped), None, "a session was found twice");
    }
    dump
}

/// A store that is played by its steps.
pub(crate) struct Stage {
    pub engine: Engine,
    pub inbox: Arc<Inbox>,
    pub told: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    pub(crate) fn open(disk: &SimulatedDisk, options: Options) -> Result<Stage, OpenFault> {
        let (inbox, told) = (Arc::new(Inbox::default()), Arc::new(Mutex::new(Vec::new())));
        let disk: Arc<dyn Disk> = Arc::new(disk.clone());
        let listener = Arc::clone(&told);
        let tell = Box::new(move |text: &str| listener.lock().unwrap().push(text.to_owned()));
        let engine = Engine::open(disk, options, Arc::clone(&inbox) as Arc<dyn Completions>, tell)?;
        Ok(Stage { engine, inbox, told })
    }

    pub(crate) fn dump(&self) -> Dump {
        dump(&self.engine, 3, &mut |question| self.engine.answer(&question))
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// Writes, and folds what is there to fold.
    pub(crate) fn turn(&self, now_ms: u64) {
        self.engine.write(now_ms, Duration::ZERO);
        self.engine.fold();
    }
}

/// Small in everything, so that all that happens in a large store happens soon.
pub(crate) fn small() -> Options {
    Options {
        segment_bytes: 2048,
        fold_bytes: 1 << 20,
        fold_log_bytes: 1500,
        cache_bytes: 1 << 20,
        salt: 4711,
        ..Options::default()
    }
}

/// What the memory store holds.
pub(crate) fn dump_of_memory(store: &Memory, inbox: &Inbox) -> Dump {
    dump(store, usize::MAX, &mut |question| {
        let _ = store.ask(token(0), question);
        match inbox.take().pop() {
            Some(Completion::Read { answer, .. }) => answer,
            other => panic!("{other:?}"),
        }
    })
}

/// That seed, and as many more as `BREAKWATER_STORE_SEEDS` asks for.
pub(crate) fn seeds(first: u64) -> impl Iterator<Item = u64> {
    let rounds = std::env::var("BREAKWATER_STORE_SEEDS").map_or(1, |rounds| rounds.parse().unwrap());
    (0..rounds).map(move |round| first + 1000 * round)
}

/// A seeded generator (xorshift64*).
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64) -> Chance {
        Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound.max(1)
    }
}

/// Batches of a script by a seed, and what a store holds after each (`states[0]`: before all).
pub(crate) struct Script {
    pub batches: Vec<Vec<Act>>,
    pub states: Vec<Dump>,
}

impl Script {
    pub(crate) fn new(seed: u64, batches: usize) -> Script {
        let inbox = Arc::new(Inbox::default());
        let memory = Memory::new(Arc::clone(&inbox) as Arc<dyn Completions>);
        let mut player = Player::new(&memory, &inbox);
        let mut writer = ScriptWriter { chance: Chance::new(seed), next_message: 1, next_session: 1, revision: 1 };
        let mut script = Script { batches: Vec::new(), states: vec![Dump::default()] };
        for _ in 0..batches {
            let batch = writer.batch(script.states.last().unwrap());
            player.submit(&batch, Durability::Fsync);
            player.completed();
            script.batches.push(batch);
            script.states.push(dump_of_memory(&memory, &inbox));
        }
        script
    }
}

struct ScriptWriter {
    chance: Chance,
    next_message: u64,
    next_session: u64,
    revision: u64,
}

impl ScriptWriter {
    /// A batch that only speaks of messages that were there before it or that it brings.
    fn batch(&mut self, before: &Dump) -> Vec<Act> {
        let count = 1 + self.chance.below(6);
        let (mut acts, mut gone) = (Vec::new(), BTreeSet::new());
        for _ in 0..count {
            self.act(before, &mut gone, &mut acts);
        }
        acts
    }

    fn act(&mut self, before: &Dump, gone: &mut BTreeSet<u64>, acts: &mut Vec<Act>) {
        let known: Vec<u64> = before.sessions.keys().copied().filter(|number| !gone.contains(number)).collect();
        let kind = self.chance.below(20);
        if known.is_empty() || kind == 0 {
            acts.push(Act::Plain(Change::Session(Box::new(row(self.next_session, self.chance.below(9) as u64)))));
            self.next_session += 1;
            return;
        }
        let number = known[self.chance.below(known.len())];
        let session = &before.sessions[&number];
        match kind {
            1..=7 => {
                let wants = known.iter().copied().filter(|_| self.chance.below(2) == 0).collect();
                acts.push(Act::Push(self.next_message, wants));
                if self.chance.below(3) == 0 {
                    acts.push(Act::Push(self.next_message + 1, vec![number]));
                    acts.push(Act::Send(number, 1 + self.chance.below(8) as u16, self.next_message + 1));
                }
                self.next_message += 2;
            }
            8..=10 if !session.queue.is_empty() => {
                let numbers = session.queue.iter().copied().filter(|_| self.chance.below(3) == 0).collect();
                acts.push(Act::Forget(number, numbers));
            }
            11 if !session.queue.is_empty() => {
                acts.push(Act::ForgetThrough(number, session.queue[self.chance.below(session.queue.len())]));
            }
            12 if !session.outbound.is_empty() => {
                let (id, _, sent) = session.outbound[self.chance.below(session.outbound.len())];
                acts.push(Act::Done(number, id, sent.unwrap_or(u64::MAX)));
            }
            13 => acts.push(Act::Plain(Change::Session(Box::new(row(number, self.chance.below(9) as u64))))),
            14 if self.chance.below(4) == 0 => {
                gone.insert(number);
                acts.push(Act::Plain(Change::RemoveSession(SessionNumber(number))));
            }
            15 => {
                let filter = format!("f/{}", self.chance.below(4)).into();
                let (session, identifier) = (SessionNumber(number), self.chance.below(3) as u32);
                acts.push(Act::Plain(Change::Subscribe { session, filter, options: 1, identifier }));
            }
            16 => {
                let filter = format!("f/{}", self.chance.below(4)).into();
                acts.push(Act::Plain(Change::Unsubscribe { session: SessionNumber(number), filter }));
            }
            17 => {
                let (session, packet_id) = (SessionNumber(number), self.chance.below(5) as u16);
                let held = self.chance.below(2) == 0;
                acts.push(Act::Plain(Change::Inbound { session, packet_id, held }));
            }
            18 => self.retained(acts),
            _ => {
                let value = (self.chance.below(3) > 0).then(|| self.revision.to_be_bytes().into());
                let key = [self.chance.below(6) as u8].into();
                acts.push(Act::Plain(Change::Value { table: "users".into(), key, value }));
            }
        }
    }

    fn retained(&mut self, acts: &mut Vec<Act>) {
        self.revision += 2;
        let topic = format!("r/{}", self.chance.below(4));
        let (revision, number) = (self.revision, self.next_message);
        self.next_message += 1;
        let set = |revision| {
            let message = message(number, &topic);
            Act::Plain(Change::Retain(Box::new(Retained { message, revision, set_unix_ms: 5, by: "me".into() })))
        };
        let clear = |revision| Act::Plain(Change::Unretain { topic: topic.as_str().into(), revision });
        match self.chance.below(4) {
            0 => acts.push(clear(revision)),
            // The other way round than they were made.
            1 => acts.extend([clear(revision), set(revision - 1)]),
            2 => acts.extend([set(revision), clear(revision - 1)]),
            _ => acts.push(set(revision)),
        }
    }
}
