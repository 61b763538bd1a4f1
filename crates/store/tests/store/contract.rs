//! What holds of every store.

use std::sync::Arc;
use std::time::Duration;

use breakwater_contract::store::{
    Answer, Change, Condition, Durability, Position, Question, SessionNumber, Store, Submitted,
};
use breakwater_contract::{Completion, Completions};
use breakwater_store::{Disk, Embedded, Engine, Memory, Options, SimulatedDisk};

use crate::ground::{Act, Dump, Inbox, Player, Script, Stage, dump, message, row, small, token, wanted};

/// A store under test: what lets it work until it has nothing to do, and whether nothing is left of it when it is opened again.
struct Ground<'a> {
    store: &'a dyn Store,
    inbox: &'a Inbox,
    turn: &'a dyn Fn(),
}

impl Ground<'_> {
    fn ask(&self, question: Question) -> Answer {
        assert_eq!(self.store.ask(token(0), question), Submitted::Pending);
        (self.turn)();
        match self.inbox.take().pop() {
            Some(Completion::Read { answer, .. }) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn dump(&self) -> Dump {
        dump(self.store, 4, &mut |question| self.ask(question))
    }

    fn play(&self, player: &mut Player<'_>, acts: &[Act]) {
        assert_eq!(player.submit(acts, Durability::Fsync), Submitted::Pending);
        (self.turn)();
        assert_eq!(player.completed(), [true]);
    }
}

/// All of it, on one kind of store after the other.
fn on_every_store(test: impl Fn(&Ground<'_>)) {
    let inbox = Arc::new(Inbox::default());
    let memory = Memory::new(Arc::clone(&inbox) as Arc<dyn Completions>);
    test(&Ground { store: &memory, inbox: &inbox, turn: &|| {} });

    for options in [small(), Options::default()] {
        let inbox = Arc::new(Inbox::default());
        let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
        let completions = Arc::clone(&inbox) as Arc<dyn Completions>;
        let engine = Engine::open(disk, options, completions, Box::new(|_| {})).unwrap();
        let turn = || while engine.write(0, Duration::ZERO) || engine.fold() || engine.read(Duration::ZERO) {};
        test(&Ground { store: &engine, inbox: &inbox, turn: &turn });
    }
}

#[test]
fn what_is_submitted_is_what_is_found() {
    on_every_store(|ground| {
        let script = Script::new(11, 120);
        let mut player = Player::new(ground.store, ground.inbox);
        for (batch, state) in script.batches.iter().zip(&script.states[1..]) {
            ground.play(&mut player, batch);
            assert_eq!(ground.dump(), *state);
        }
    });
}

#[test]
fn a_change_that_says_what_is_so_can_be_made_twice() {
    on_every_store(|ground| {
        let script = Script::new(12, 80);
        let mut player = Player::new(ground.store, ground.inbox);
        for (batch, state) in script.batches.iter().zip(&script.states[1..]) {
            ground.play(&mut player, batch);
            // A batch in which a session comes or goes says different things of it the second time.
            let same = |act: &&Act| !matches!(act, Act::Push(..) | Act::Send(..));
            let again: Vec<Act> = batch.iter().filter(same).cloned().collect();
            let moves =
                batch.iter().any(|act| matches!(act, Act::Plain(Change::RemoveSession(_) | Change::Session(_))));
            if !moves {
                let sends: Vec<_> = batch.iter().filter(|act| matches!(act, Act::Send(..))).collect();
                if sends.is_empty() {
                    ground.play(&mut player, &again);
                }
            }
            assert_eq!(ground.dump(), *state);
        }
    });
}

#[test]
fn numbers_of_sessions_are_not_given_twice() {
    on_every_store(|ground| {
        let first = ground.store.new_session();
        let mut player = Player::new(ground.store, ground.inbox);
        ground.play(&mut player, &[Act::Plain(Change::Session(Box::new(row(first.0, 1))))]);
        ground.play(&mut player, &[Act::Plain(Change::RemoveSession(first))]);
        assert_ne!(ground.store.new_session(), first);
    });
}

#[test]
fn a_window_is_bounded_by_messages_and_bytes_and_never_empty() {
    on_every_store(|ground| {
        let mut player = Player::new(ground.store, ground.inbox);
        let pushes = (1..=20).map(|number| Act::Push(number, vec![1]));
        let acts: Vec<_> = [Act::Plain(Change::Session(Box::new(row(1, 1))))].into_iter().chain(pushes).collect();
        ground.play(&mut player, &acts);
        let window = |after, messages_max, bytes_max| {
            let question = Question::Queue { session: SessionNumber(1), after, messages_max, bytes_max };
            match ground.ask(question) {
                Answer::Queue { messages, more } => (messages.len(), more),
                other => panic!("{other:?}"),
            }
        };
        let size = message(1, "a/topic").as_bytes().len();
        assert_eq!(window(Position(0), 7, usize::MAX), (7, true));
        assert_eq!(window(Position(0), 100, usize::MAX), (20, false));
        assert_eq!(window(Position(0), 100, 1), (1, true));
        assert_eq!(window(Position(0), 100, 3 * size + 3), (3, true));
        assert_eq!(window(player.positions[&19], 100, 1), (1, false));
        assert_eq!(window(player.positions[&20], 100, 1), (0, false));

        let entries = |after, entries_max| match ground.ask(Question::Entries {
            session: SessionNumber(1),
            after,
            entries_max,
        }) {
            Answer::Entries { entries, more } => (entries, more),
            other => panic!("{other:?}"),
        };
        let of = |number: u64| (player.positions[&number], message(number, "a/topic").as_bytes().len() as u32);
        assert_eq!(entries(Position(0), 2), (vec![of(1), of(2)], true));
        assert_eq!(entries(player.positions[&18], 2), (vec![of(19), of(20)], false));
    });
}

#[test]
fn rows_of_a_table_come_in_pages() {
    on_every_store(|ground| {
        let mut player = Player::new(ground.store, ground.inbox);
        for key in 0..10_u8 {
            let (key, value) = ([key].into(), Some([key, key].into()));
            ground.play(&mut player, &[Act::Plain(Change::Value { table: "t".into(), key, value })]);
        }
        let other = Change::Value { table: "u".into(), key: [1].into(), value: Some([1].into()) };
        ground.play(&mut player, &[Act::Plain(other)]);
        let gone = Change::Value { table: "t".into(), key: [4].into(), value: None };
        ground.play(&mut player, &[Act::Plain(gone)]);
        let page = |after: Option<u8>| {
            let after = after.map(|key| [key].into());
            match ground.ask(Question::Values { table: "t".into(), after, rows_max: 4 }) {
                Answer::Values(rows) => rows.into_iter().map(|(key, _)| key[0]).collect::<Vec<_>>(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(page(None), [0, 1, 2, 3]);
        assert_eq!(page(Some(3)), [5, 6, 7, 8]);
        assert_eq!(page(Some(8)), [9]);
    });
}

#[test]
fn a_full_queue_of_submissions_refuses_and_nothing_waits() {
    let inbox = Arc::new(Inbox::default());
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
    let options = Options { waiting_bytes_max: 1000, questions_max: 3, ..small() };
    let completions = Arc::clone(&inbox) as Arc<dyn Completions>;
    let engine = Engine::open(disk, options, completions, Box::new(|_| {})).unwrap();
    let change = [Change::Message { message: message(90, "t"), unix_ms: 0, sessions: vec![] }];
    let taken = (0..100).filter(|_| engine.submit(token(1), &change, Durability::Fsync) == Submitted::Pending).count();
    assert!((5..20).contains(&taken), "{taken}");
    let asked = (0..10).filter(|_| engine.ask(token(1), Question::Retained("t".into())) == Submitted::Pending).count();
    assert_eq!(asked, 3);
    engine.write(0, Duration::ZERO);
    while engine.read(Duration::ZERO) {}
    assert_eq!(inbox.take().len(), taken + asked);
    assert_eq!(engine.health().waiting_bytes, 0);
    assert_eq!(engine.submit(token(1), &change, Durability::Fsync), Submitted::Pending);
}

#[test]
fn the_threads_of_a_store_answer_what_many_submit() {
    let inbox = Arc::new(Inbox::default());
    let disk = SimulatedDisk::new();
    let open = |inbox: &Arc<Inbox>| {
        let completions = Arc::clone(inbox) as Arc<dyn Completions>;
        Embedded::open(Arc::new(disk.clone()), small(), completions, Box::new(|_| {})).unwrap()
    };
    let store = open(&inbox);
    let session = Change::Session(Box::new(row(1, 1)));
    assert_eq!(store.submit(token(0), &[session], Durability::Fsync), Submitted::Pending);
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..100 {
                    let message = message(1 + thread * 100 + number, "a/topic");
                    let unix_ms = 7_000 + 1 + thread * 100 + number;
                    let change = Change::Message { message, unix_ms, sessions: vec![wanted(1)] };
                    assert_eq!(store.submit(token(1), &[change], Durability::Fsync), Submitted::Pending);
                }
            });
        }
    });
    let mut answers = 0;
    while answers < 401 {
        answers += inbox.take().len();
        std::thread::yield_now();
    }
    drop(store);
    let store = open(&inbox);
    let found = dump(&store, 1000, &mut |question| store.engine().answer(&question));
    let queue = &found.sessions[&1].queue;
    assert_eq!(queue.len(), 400);
    for thread in 0..4_u64 {
        let of_thread: Vec<_> = queue.iter().filter(|number| (**number - 1) / 100 == thread).collect();
        assert!(of_thread.is_sorted(), "what one thread submits stays in order");
    }
}

#[test]
fn a_store_whose_thread_met_a_fault_takes_nothing_more_and_lost_nothing() {
    struct Faulty;
    impl Completions for Faulty {
        fn complete(&self, _: Completion) {
            panic!("what can't be");
        }
    }
    let disk = SimulatedDisk::new();
    let store = Embedded::open(Arc::new(disk.clone()), small(), Arc::new(Faulty), Box::new(|_| {})).unwrap();
    let session = Change::Session(Box::new(row(1, 1)));
    assert_eq!(store.submit(token(0), std::slice::from_ref(&session), Durability::Fsync), Submitted::Pending);
    while store.health().condition == Condition::Well {
        std::thread::yield_now();
    }
    assert!(store.health().fault.contains("start the broker again"), "{}", store.health().fault);
    assert_eq!(store.submit(token(0), &[session], Durability::Fsync), Submitted::Refused);
    assert_eq!(store.ask(token(0), Question::Session(SessionNumber(1))), Submitted::Refused);
    drop(store);
    let store = Embedded::open(Arc::new(disk), small(), Arc::new(Inbox::default()), Box::new(|_| {})).unwrap();
    assert!(matches!(store.engine().answer(&Question::Session(SessionNumber(1))), Answer::Session(Some(_))));
}

#[test]
fn what_waits_together_takes_one_sync_and_each_byte_of_the_log_counts_once() {
    let disk = SimulatedDisk::new();
    let stage = Stage::open(&disk, small()).unwrap();
    let mut player = Player::new(&stage.engine, &stage.inbox);
    let before = stage.engine.health();
    for number in 1..=5 {
        player.submit(&[Act::Plain(Change::Session(Box::new(row(number, 1))))], Durability::Fsync);
    }
    stage.turn(1);
    let after = stage.engine.health();
    assert_eq!(after.syncs, before.syncs + 1);
    assert!(after.logged_bytes > before.logged_bytes);
    stage.turn(2);
    assert_eq!(stage.engine.health().logged_bytes, after.logged_bytes);
}
