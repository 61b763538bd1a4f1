//! Mail between two shards: one ring per ordered pair, an overflow behind it, and a ring for what goes back empty.
//!
//! Nobody waits and nothing is lost: what doesn't fit in the ring stays with the sender, in order. Its size is bounded by
//! the readers that fill it, which pause above a bound of bytes ([`Outbox::backlog_bytes`]). A sender that has something
//! left over, or that has paused readers, asks the receiver for a call once the ring is empty.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};

/// What travels, with its size.
pub(crate) trait Parcel {
    /// Bytes that it stands for; the same number at both ends.
    fn bytes(&self) -> usize;
}

/// What both ends of a pair see. A cache line of its own: each end writes one field at every parcel.
#[repr(align(64))]
#[derive(Default)]
struct Pair {
    /// Bytes taken by the receiver since the start; written by the receiver only, wraps.
    taken: AtomicUsize,
    /// The sender wants a call when the ring is empty.
    call: AtomicBool,
}

/// The sender's end.
pub(crate) struct Outbox<M, B> {
    ring: Producer<M>,
    overflow: VecDeque<M>,
    sent: usize,
    /// A call was asked for and is not yet noted.
    called_for: Cell<bool>,
    /// Bytes under way above which the sender wants to hear when they are gone.
    call_above: usize,
    returns: Consumer<B>,
    pair: Arc<Pair>,
}

/// The receiver's end.
pub(crate) struct Inbox<M, B> {
    ring: Consumer<M>,
    taken: usize,
    returns: Producer<B>,
    pair: Arc<Pair>,
}

/// What a receiver finds.
pub(crate) enum Taken<M> {
    Mail(M),
    /// The ring is empty and its sender wants to be woken.
    EmptyCall,
    Empty,
}

/// Both ends of one ordered pair of shards.
pub(crate) fn pair<M: Parcel, B>(capacity: usize, call_above: usize) -> (Outbox<M, B>, Inbox<M, B>) {
    let (producer, consumer) = RingBuffer::new(capacity);
    let (back, returns) = RingBuffer::new(capacity);
    let pair = Arc::new(Pair::default());
    let outbox = Outbox {
        ring: producer,
        overflow: VecDeque::new(),
        sent: 0,
        called_for: Cell::new(false),
        call_above,
        returns,
        pair: Arc::clone(&pair),
    };
    (outbox, Inbox { ring: consumer, taken: 0, returns: back, pair })
}

impl<M: Parcel, B> Outbox<M, B> {
    /// Sends, or keeps for later what doesn't fit.
    pub(crate) fn send(&mut self, mail: M) {
        self.sent = self.sent.wrapping_add(mail.bytes());
        if self.overflow.is_empty() {
            let Err(rtrb::PushError::Full(mail)) = self.ring.push(mail) else { return };
            self.overflow.push_back(mail);
        } else {
            self.overflow.push_back(mail);
        }
        self.flush();
    }

    /// Moves what was left over into the ring. True if anything moved, so that the receiver has to be woken.
    pub(crate) fn flush(&mut self) -> bool {
        let mut moved = self.shift();
        if !self.overflow.is_empty() {
            self.ask_for_call();
            // The receiver may have emptied the ring before it could see the request: look once more.
            moved |= self.shift();
        } else if self.overflow.capacity() > KEPT {
            self.overflow = VecDeque::new();
        }
        moved
    }

    fn shift(&mut self) -> bool {
        let mut moved = false;
        while let Some(mail) = self.overflow.pop_front() {
            if let Err(rtrb::PushError::Full(mail)) = self.ring.push(mail) {
                self.overflow.push_front(mail);
                break;
            }
            moved = true;
        }
        moved
    }

    fn ask_for_call(&self) {
        self.called_for.set(true);
        self.pair.call.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Bytes sent and not yet taken.
    pub(crate) fn backlog_bytes(&self) -> usize {
        let backlog = self.sent.wrapping_sub(self.pair.taken.load(Ordering::Relaxed));
        if backlog > self.call_above && !self.called_for.get() {
            self.ask_for_call();
            return self.sent.wrapping_sub(self.pair.taken.load(Ordering::SeqCst));
        }
        backlog
    }

    /// Whether there is something to do at this end: room for what was left over, or the call that was asked for has come.
    pub(crate) fn has_news(&self) -> bool {
        (self.called_for.get() && !self.pair.call.load(Ordering::SeqCst))
            || (!self.overflow.is_empty() && !self.ring.is_full())
    }

    /// Takes note of a call, so that it counts as news once.
    pub(crate) fn acknowledge_call(&mut self) {
        self.called_for.set(self.called_for.get() && self.pair.call.load(Ordering::SeqCst));
    }

    /// Nothing is under way: all that was ever sent has been taken.
    pub(crate) fn is_settled(&self) -> bool {
        self.sent == self.pair.taken.load(Ordering::Acquire)
    }

    /// A drained batch that came home.
    pub(crate) fn spare(&mut self) -> Option<B> {
        self.returns.pop().ok()
    }
}

impl<M: Parcel, B> Inbox<M, B> {
    /// Takes the next parcel in the order in which they were sent.
    pub(crate) fn take(&mut self) -> Taken<M> {
        if let Ok(mail) = self.ring.pop() {
            self.taken = self.taken.wrapping_add(mail.bytes());
            self.pair.taken.store(self.taken, Ordering::Release);
            return Taken::Mail(mail);
        }
        // Pairs with the fence of `ask_for_call`: either the sender sees the room, or we see its request.
        fence(Ordering::SeqCst);
        if self.pair.call.load(Ordering::Relaxed) && self.pair.call.swap(false, Ordering::SeqCst) {
            return Taken::EmptyCall;
        }
        Taken::Empty
    }

    /// Whether there is something to do at this end.
    pub(crate) fn has_news(&self) -> bool {
        !self.ring.is_empty() || self.pair.call.load(Ordering::SeqCst)
    }

    /// Sends a drained batch home; drops it when plenty are on their way already.
    pub(crate) fn give_back(&mut self, batch: B) {
        let _ = self.returns.push(batch);
    }
}

/// Room for that many parcels is kept in an overflow that has drained.
const KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    impl Parcel for usize {
        fn bytes(&self) -> usize {
            *self
        }
    }

    fn mail<M, B>(inbox: &mut Inbox<M, B>) -> Option<M>
    where
        M: Parcel,
    {
        match inbox.take() {
            Taken::Mail(mail) => Some(mail),
            Taken::EmptyCall | Taken::Empty => None,
        }
    }

    #[test]
    fn order_holds_across_the_overflow() {
        let (mut out, mut inbox) = pair::<usize, ()>(4, usize::MAX);
        let mut expected = 1;
        for number in 1..=20 {
            out.send(number);
            if number % 3 == 0 {
                assert_eq!(mail(&mut inbox), Some(expected));
                expected += 1;
            }
        }
        while expected <= 20 {
            match inbox.take() {
                Taken::Mail(number) => {
                    assert_eq!(number, expected);
                    expected += 1;
                }
                Taken::EmptyCall => assert!(out.flush()),
                Taken::Empty => panic!("{expected} is left over and nobody will be called"),
            }
        }
        assert!(out.is_settled());
    }

    #[test]
    fn backlog_counts_the_overflow_too() {
        let (mut out, mut inbox) = pair::<usize, ()>(2, usize::MAX);
        (1..=4).for_each(|number| out.send(number));
        assert_eq!(out.backlog_bytes(), 10);
        assert_eq!(mail(&mut inbox), Some(1));
        assert_eq!(out.backlog_bytes(), 9);
        assert!(!out.is_settled());
    }

    #[test]
    fn sender_that_paused_is_called_when_the_ring_is_empty() {
        let (mut out, mut inbox) = pair::<usize, ()>(8, 100);
        out.send(200);
        assert_eq!(out.backlog_bytes(), 200);
        assert!(!out.has_news());
        assert_eq!(mail(&mut inbox), Some(200));
        assert!(matches!(inbox.take(), Taken::EmptyCall));
        assert!(out.has_news(), "the call has come");
        out.acknowledge_call();
        assert!(!out.has_news());
        assert!(matches!(inbox.take(), Taken::Empty), "one call per request");
    }

    #[test]
    fn nobody_is_called_below_the_bound() {
        let (mut out, mut inbox) = pair::<usize, ()>(8, 100);
        out.send(50);
        assert_eq!(out.backlog_bytes(), 50);
        assert_eq!(mail(&mut inbox), Some(50));
        assert!(matches!(inbox.take(), Taken::Empty));
    }

    #[test]
    fn drained_batches_come_home_and_too_many_are_dropped() {
        let (mut out, mut inbox) = pair::<usize, u8>(2, usize::MAX);
        (1..=3).for_each(|batch| inbox.give_back(batch));
        assert_eq!((out.spare(), out.spare(), out.spare()), (Some(1), Some(2), None));
    }

    #[test]
    fn two_threads_lose_nothing_and_nobody_sleeps_for_ever() {
        const COUNT: usize = 20_000;
        let (mut out, mut inbox) = pair::<usize, ()>(4, 1000);
        let finished = Arc::new(AtomicBool::new(false));
        let sender_has_finished = Arc::clone(&finished);
        let receiver = std::thread::spawn(move || {
            let (mut next, mut calls) = (1, 0_u32);
            // A receiver looks once more after the last parcel: the sender may still wait for its call.
            while next <= COUNT || !sender_has_finished.load(Ordering::SeqCst) {
                match inbox.take() {
                    Taken::Mail(number) => {
                        assert_eq!(number, next);
                        next += 1;
                    }
                    Taken::EmptyCall => calls += 1,
                    Taken::Empty => std::thread::yield_now(),
                }
            }
            calls
        });
        for number in 1..=COUNT {
            out.send(number);
            // A paused sender acts on calls only, as it does when it sleeps.
            while out.backlog_bytes() > 50_000 {
                while !out.has_news() {
                    std::thread::yield_now();
                }
                out.acknowledge_call();
                out.flush();
            }
        }
        while !out.overflow.is_empty() {
            while !out.has_news() {
                std::thread::yield_now();
            }
            out.acknowledge_call();
            out.flush();
        }
        finished.store(true, Ordering::SeqCst);
        assert!(receiver.join().expect("the receiver saw all in order") > 0);
    }
}
