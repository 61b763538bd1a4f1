//! Any bytes as a persistence file of Mosquitto: nothing panics, what is read is bounded by what there is, and what is made of it is
//! what a store takes: it holds so many sessions and messages then as were counted.
#![no_main]

use std::collections::HashSet;

use breakwater_contract::Token;
use breakwater_contract::store::{Change, Durability, MessageAt, Restored, SessionNumber, Store as _};
use breakwater_proto::Message;
use breakwater_store::Memory;
use breakwater_store::foreign::mosquitto::{self, DAMAGES_MAX};
use breakwater_store::foreign::{Intake, Known, take_in};
use libfuzzer_sys::fuzz_target;

/// The shortest chunk.
const CHUNK: usize = 6;

fuzz_target!(|input: &[u8]| {
    let database = match mosquitto::read(input) {
        Ok(database) => database,
        Err(fault) => {
            assert!(!fault.is_empty() && !fault.contains('\n'));
            return;
        }
    };
    let read = database.messages.len()
        + database.clients.len()
        + database.transfers.len()
        + database.subscriptions.len()
        + database.retained.len();
    assert!(read + database.damages_count <= input.len() / CHUNK);
    assert!(database.damages.len() <= DAMAGES_MAX.min(database.damages_count));
    for damage in &database.damages {
        assert!(damage.offset < input.len() && !damage.what.contains('\n'));
    }
    // The second file finds what the first one has left.
    let store = Memory::default();
    let mut known = Known::default();
    for round in [0, 1] {
        let intake = Intake { now_ms: 1_700_000_000_000, replace: round == 1, revision: 1 + (round << 40) };
        let mut submit = |changes: &[Change]| {
            check(changes);
            let token = Token { shard: 0, slot: 0, generation: 0, sequence: 0 };
            let _ = store.submit(token, changes, Durability::Memory);
            Ok(())
        };
        let taken = take_in(&database, &known, intake, &mut || store.new_session(), &mut submit);
        let taken = taken.expect("the store takes everything");
        let (mut sessions, mut waiting, mut retained) = (0, 0, HashSet::new());
        store
            .restore(&mut |restored| match restored {
                Restored::Session(session) => {
                    sessions += 1;
                    waiting += session.tally.messages;
                    known.sessions.insert(session.row.client_id, (session.row.number, false));
                }
                Restored::Retained(kept) => assert!(retained.insert(kept.message.topic().to_owned())),
                Restored::Value { .. } => {}
            })
            .expect("it is in memory");
        assert_eq!((sessions, waiting), (taken.sessions, taken.waiting));
        assert!(retained.len() as u64 <= taken.retained + taken.held);
        known.topics = retained.into_iter().map(Into::into).collect();
    }
});

/// What a store may rely on.
fn check(changes: &[Change]) {
    let mut messages = 0;
    for change in changes {
        match change {
            Change::Message { message, sessions, .. } => {
                messages += 1;
                assert!(Message::from_bytes(message.as_bytes()).is_some());
                let different: HashSet<SessionNumber> = sessions.iter().map(|wanted| wanted.session).collect();
                assert!(different.len() == sessions.len() && !sessions.is_empty());
            }
            Change::Outbound { message: Some(MessageAt::InBatch(nth)), .. } => assert!(*nth < messages),
            Change::Retain(retained) => assert!(Message::from_bytes(retained.message.as_bytes()).is_some()),
            _ => {}
        }
    }
}
