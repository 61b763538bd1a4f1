use std::sync::mpsc;
use std::task::Wake;
use std::thread::{self, Thread};

use mio::{Events, Poll, Token};

use super::*;
use crate::bell::Bell;

/// Shards of which only the docks exist.
fn docks(count: usize) -> (Arc<Docks>, Arc<[Bell]>, Vec<Poll>) {
    let polls: Vec<Poll> = (0..count).map(|_| Poll::new().expect("a poller")).collect();
    let bells: Arc<[Bell]> = polls.iter().map(|poll| Bell::new(poll, Token(9)).expect("a waker")).collect();
    (Arc::new(Docks::new(Arc::clone(&bells))), bells, polls)
}

fn all_told(docks: &Docks, shard: ShardId) -> Vec<(u32, Ready)> {
    docks.take(shard).ready.iter().filter_map(|pipe| pipe.take_told(shard)).collect()
}

fn read_all(near: &mut NearEnd) -> (Vec<u8>, ReadOutcome) {
    let (mut all, mut buffer) = (Vec::new(), [0; 1000]);
    loop {
        match near.read(&mut buffer).expect("nobody else is at it") {
            ReadOutcome::Bytes(count) | ReadOutcome::More(count) => all.extend_from_slice(&buffer[..count]),
            end => return (all, end),
        }
    }
}

#[test]
fn bytes_go_both_ways_and_idle_holds_none() {
    let (docks, ..) = docks(1);
    let (mut near, mut far) = pipe(Arc::clone(&docks));
    near.settle(0, 7);
    assert_eq!(near.read(&mut [0; 4]), Some(ReadOutcome::WouldBlock));
    assert_eq!(far.send(b"hello"), 5);
    assert_eq!(far.send(b" you"), 4);
    let told = all_told(&docks, 0);
    assert_eq!(told, [(7, Ready { readable: true, writable: true, read_closed: false })], "once for both");
    assert_eq!(read_all(&mut near), (b"hello you".to_vec(), ReadOutcome::WouldBlock));
    assert_eq!(near.write(b"back"), Some(WriteOutcome::Wrote(4)));
    assert_eq!(far.take(), b"back");
    assert!(far.take().is_empty() && !docks.has_news(0));
    let lanes = near.pipe.lanes();
    assert_eq!(lanes.inward.capacity() + lanes.outward.capacity() + near.taken.capacity(), 0);
}

#[test]
fn both_directions_are_bounded_and_say_when_there_is_room() {
    let (docks, ..) = docks(1);
    let (mut near, mut far) = pipe(Arc::clone(&docks));
    near.settle(0, 1);
    let much = vec![1; LANE_BYTES_MAX + 10];
    assert_eq!(far.send(&much), LANE_BYTES_MAX);
    assert_eq!((far.send(b"x"), far.room()), (0, 0));
    assert_eq!(read_all(&mut near).0.len(), LANE_BYTES_MAX);
    assert_eq!(far.room(), LANE_BYTES_MAX);
    all_told(&docks, 0);
    assert_eq!(near.write(&much), Some(WriteOutcome::Wrote(LANE_BYTES_MAX)));
    assert_eq!(near.write(b"x"), Some(WriteOutcome::WouldBlock));
    assert!(all_told(&docks, 0).is_empty());
    assert_eq!(far.take().len(), LANE_BYTES_MAX);
    assert!(all_told(&docks, 0)[0].1.writable, "a shard that was blocked hears of room");
    far.take();
    assert!(all_told(&docks, 0).is_empty(), "and one that was not does not");
}

#[test]
fn what_was_sent_before_the_end_arrives_before_it() {
    let (docks, ..) = docks(1);
    for (finish, end) in [(true, ReadOutcome::Closed), (false, ReadOutcome::Failed)] {
        let (mut near, mut far) = pipe(Arc::clone(&docks));
        near.settle(0, 1);
        far.send(b"last words");
        if finish {
            far.finish();
        }
        drop(far);
        assert!(all_told(&docks, 0)[0].1.read_closed);
        assert_eq!(read_all(&mut near), (b"last words".to_vec(), end));
        assert_eq!(near.write(b"x"), Some(WriteOutcome::Failed));
    }
    let (mut near, mut far) = pipe(docks);
    assert_eq!(near.write(b"bye"), Some(WriteOutcome::Wrote(3)));
    assert!(!far.is_closed());
    drop(near);
    assert!(far.is_closed());
    assert_eq!(far.take(), b"bye");
}

#[test]
fn a_shard_never_waits_for_the_far_thread() {
    let (docks, ..) = docks(1);
    let (mut near, mut far) = pipe(docks);
    far.send(b"abcdef");
    let mut buffer = [0; 4];
    assert_eq!(near.read(&mut buffer), Some(ReadOutcome::Bytes(4)));
    let pipe = Arc::clone(&near.pipe);
    let _at_it = pipe.lanes();
    assert_eq!(near.read(&mut buffer), Some(ReadOutcome::More(2)));
    assert_eq!(near.read(&mut buffer), None);
    assert_eq!(near.write(b"x"), None);
    near.settle(0, 1);
    near.leave();
    drop(near);
}

#[test]
fn word_of_a_pipe_follows_it_to_its_new_shard() {
    let (docks, ..) = docks(2);
    let (near, mut far) = pipe(Arc::clone(&docks));
    near.settle(0, 4);
    far.send(b"x");
    near.leave();
    assert!(all_told(&docks, 0).is_empty(), "on its way: whoever gets it will look");
    far.send(b"x");
    assert!(!docks.has_news(0) && !docks.has_news(1));
    near.settle(0, 4);
    far.send(b"x");
    near.leave();
    assert!(near.settle(1, 5).readable);
    assert!(!docks.has_news(1));
    assert!(all_told(&docks, 0).is_empty(), "slot 4 may be somebody else's");
    assert_eq!(all_told(&docks, 1)[0].0, 5, "passed on");
    docks.close(1);
    far.send(b"x");
    assert!(docks.take(1).ready.is_empty(), "a shard that has stopped keeps nothing");
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// One of the shards between which the connection wanders: echoes what it reads, waits without a time limit, and hands the
/// connection on every few reads.
fn wander(
    shard: ShardId,
    docks: &Docks,
    bells: &[Bell],
    mut poll: Poll,
    arrivals: &mpsc::Receiver<NearEnd>,
    next: &mpsc::Sender<NearEnd>,
) {
    let mut events = Events::with_capacity(8);
    let mut here: Option<(NearEnd, Vec<u8>)> = None;
    let (mut ready, mut reads) = (false, 0_u32);
    loop {
        bells[usize::from(shard)].lie_down();
        let arrival = arrivals.try_recv();
        if matches!(arrival, Err(mpsc::TryRecvError::Disconnected)) {
            return;
        }
        if !ready && arrival.is_err() && !docks.has_news(shard) {
            // A lost wake hangs here.
            poll.poll(&mut events, None).expect("poll");
        }
        bells[usize::from(shard)].get_up();
        if let Ok(near) = arrival {
            ready = near.settle(shard, 3).readable;
            here = Some((near, Vec::new()));
        }
        ready |= !all_told(docks, shard).is_empty();
        let Some((near, pending)) = &mut here else {
            ready = false;
            continue;
        };
        if !ready {
            continue;
        }
        let mut buffer = [0; 97];
        if pending.is_empty() {
            match near.read(&mut buffer) {
                Some(ReadOutcome::Bytes(count) | ReadOutcome::More(count)) => pending.extend(&buffer[..count]),
                Some(ReadOutcome::WouldBlock) => ready = false,
                Some(ReadOutcome::Closed) => return,
                Some(ReadOutcome::Failed) => panic!("the far end finishes before it goes"),
                None => {}
            }
        }
        match near.write(pending) {
            Some(WriteOutcome::Wrote(count)) => drop(pending.drain(..count)),
            Some(WriteOutcome::WouldBlock) => ready = false,
            Some(WriteOutcome::Held(_) | WriteOutcome::Failed) => panic!("the far end reads all"),
            None => ready = true,
        }
        reads += 1;
        if reads.is_multiple_of(5) && pending.is_empty() {
            near.leave();
            let (near, _) = here.take().expect("it is here");
            ready = false;
            next.send(near).expect("the other shard waits for it");
            bells[usize::from(1 - shard)].ring();
        }
    }
}

#[test]
fn no_byte_and_no_wake_is_lost_while_the_connection_wanders() {
    const TOTAL: usize = 300_000;
    let (docks, bells, polls) = docks(2);
    let (near, mut far) = pipe(Arc::clone(&docks));
    let (to_a, from_b) = mpsc::channel();
    let (to_b, from_a) = mpsc::channel();
    to_a.send(near).expect("the receiver lives");
    let mut polls = polls.into_iter();
    let shards: Vec<_> = [(from_b, to_b), (from_a, to_a)]
        .into_iter()
        .zip(0_u16..)
        .map(|((arrivals, next), shard)| {
            let (docks, bells) = (Arc::clone(&docks), Arc::clone(&bells));
            let poll = polls.next().expect("one for each");
            thread::spawn(move || {
                wander(shard, &docks, &bells, poll, &arrivals, &next);
                drop(next);
                bells[usize::from(1 - shard)].ring();
            })
        })
        .collect();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let (mut sent, mut back) = (0, 0);
    while back < TOTAL {
        far.register(&waker);
        let end = TOTAL.min(sent + 1 + sent % 301);
        let chunk: Vec<u8> = (sent..end).map(|at| (at % 251) as u8).collect();
        let count = far.send(&chunk);
        sent += count;
        let bytes = far.take();
        for byte in &bytes {
            assert_eq!(usize::from(*byte), back % 251, "in order");
            back += 1;
        }
        if count == 0 && bytes.is_empty() {
            // So does a lost wake of the task.
            thread::park();
        }
    }
    far.finish();
    for shard in shards {
        shard.join().expect("no panic");
    }
}
