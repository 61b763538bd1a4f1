//! How a shard is woken: a system call only if it sleeps.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use mio::{Poll, Token, Waker};

/// Wakes one shard. Shared by all threads. A cache line of its own: the sleeper writes it twice a turn.
#[repr(align(64))]
pub(crate) struct Bell {
    sleeping: AtomicBool,
    waker: Waker,
}

impl Bell {
    /// A bell for the shard that waits on `poll`.
    pub(crate) fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        Ok(Self { sleeping: AtomicBool::new(false), waker: Waker::new(poll.registry(), token)? })
    }

    /// Says that this shard is about to wait. It has to look at everything that others may have left for it after this
    /// and before it waits.
    pub(crate) fn lie_down(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Says that this shard is up, so that nobody wakes it.
    pub(crate) fn get_up(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Called after something was left for the shard: wakes it if it sleeps. True if a system call was needed.
    pub(crate) fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        let asleep = self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel);
        // A shard that can't be woken would sit on mail until its next timer, which is late and not lost.
        asleep && self.waker.wake().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicU32;

    use mio::Events;

    use super::*;

    const TOKEN: Token = Token(7);

    #[test]
    fn only_a_sleeper_costs_a_system_call() {
        let poll = Poll::new().expect("a poller");
        let bell = Bell::new(&poll, TOKEN).expect("a waker");
        assert!(!bell.ring());
        bell.lie_down();
        assert!(bell.ring());
        assert!(!bell.ring(), "the second finds it awake");
        bell.lie_down();
        bell.get_up();
        assert!(!bell.ring());
    }

    #[test]
    fn what_is_left_before_the_bell_is_seen_by_the_sleeper() {
        const ROUNDS: u32 = 2000;
        let mut poll = Poll::new().expect("a poller");
        let bell = Arc::new(Bell::new(&poll, TOKEN).expect("a waker"));
        let (left, taken) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let sender = std::thread::spawn({
            let (bell, left, taken) = (Arc::clone(&bell), Arc::clone(&left), Arc::clone(&taken));
            move || {
                for round in 1..=ROUNDS {
                    left.store(round, Ordering::Release);
                    bell.ring();
                    while taken.load(Ordering::Acquire) < round {
                        std::thread::yield_now();
                    }
                }
            }
        });
        let mut events = Events::with_capacity(8);
        let mut seen = 0;
        while seen < ROUNDS {
            bell.lie_down();
            if left.load(Ordering::Acquire) == seen {
                // No timeout: a lost wake would hang here.
                poll.poll(&mut events, None).expect("poll");
            }
            bell.get_up();
            seen = left.load(Ordering::Acquire);
            taken.store(seen, Ordering::Release);
        }
        sender.join().expect("the sender is done");
    }
}
