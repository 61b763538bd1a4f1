//! Who waits for a hashing thread, in turn by address: one address that asks without end can't keep the others waiting.
//!
//! Addresses that have lately come with wrong passwords get every fourth turn while others wait: so many addresses that guess
//! together can't keep the others waiting either, and a household with one forgetful device is still served.

mod suspects;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use breakwater_contract::Token;
use zeroize::Zeroizing;

use suspects::Suspects;

/// Every so many turns are for suspects, if others wait.
const LATE_EVERY: u32 = 4;

/// Where questions come from: an IPv4 address, or the /64 of an IPv6 address, which one host may have all of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    pub(crate) fn of(peer: SocketAddr) -> Self {
        Self(match peer.ip().to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
            address @ IpAddr::V4(_) => address,
        })
    }
}

/// A password that has to be judged.
pub(crate) struct Job {
    pub(crate) token: Token,
    pub(crate) peer: SocketAddr,
    pub(crate) name: Box<str>,
    pub(crate) password: Zeroizing<Box<[u8]>>,
}

/// What became of a job.
pub(crate) enum Place {
    /// It waits.
    Taken,
    /// It waits, and this one had to go for it.
    InsteadOf(Job),
    /// There is no room for it: its address has its share of the places.
    Full,
}

/// Jobs by address. Bounded.
pub(crate) struct Queue {
    waiting: HashMap<Origin, VecDeque<Job>>,
    /// Addresses with jobs, each once in one of the two; the first is served next.
    turns: VecDeque<Origin>,
    late: VecDeque<Origin>,
    suspects: Suspects,
    /// Turns taken.
    taken: u32,
    origins: HashMap<Token, Origin>,
    most: usize,
}

impl Queue {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
            late: VecDeque::new(),
            suspects: Suspects::default(),
            taken: 0,
            origins: HashMap::new(),
            most: most.max(1),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.origins.len()
    }

    /// When all places are taken, each address is left with its share of them: the last to come of the address with the most
    /// has to go for one whose address has less than its share. Suspects go first.
    pub(crate) fn push(&mut self, job: Job) -> Place {
        let origin = Origin::of(job.peer);
        let mut place = Place::Taken;
        if self.len() >= self.most {
            match self.make_room(origin) {
                Some(gone) => place = Place::InsteadOf(gone),
                None => return Place::Full,
            }
        }
        self.origins.insert(job.token, origin);
        let jobs = self.waiting.entry(origin).or_default();
        jobs.push_back(job);
        if jobs.len() == 1 {
            self.line_up(origin);
        }
        place
    }

    /// The job that has to go for one of this address, if one has to.
    fn make_room(&mut self, origin: Origin) -> Option<Job> {
        if !self.suspects.contains(origin) && !self.late.is_empty() {
            let longest = Self::longest(&self.late, &self.waiting, 1)?;
            return self.take_last(longest);
        }
        let own = self.waiting.get(&origin).map_or(0, VecDeque::len);
        // Counted with this address, whether it waits already or not.
        let addresses = self.turns.len() + self.late.len() + usize::from(own == 0);
        if own >= (self.most / addresses).max(1) {
            return None;
        }
        let among = if self.suspects.contains(origin) { &self.late } else { &self.turns };
        let longest = Self::longest(among, &self.waiting, own + 2)?;
        self.take_last(longest)
    }

    /// The next one: the oldest of the address whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Job> {
        self.taken = self.taken.wrapping_add(1);
        let (first, second) = if self.taken.is_multiple_of(LATE_EVERY) {
            (&mut self.late, &mut self.turns)
        } else {
            (&mut self.turns, &mut self.late)
        };
        let origin = first.pop_front().or_else(|| second.pop_front())?;
        let jobs = self.waiting.get_mut(&origin)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.waiting.remove(&origin);
        } else {
            self.line_up(origin);
        }
        self.origins.remove(&job.token);
        Some(job)
    }

    /// How the password of a job was judged: where its address stands from its next turn on.
    pub(crate) fn on_verdict(&mut self, peer: SocketAddr, right: bool, now: Instant) {
        self.suspects.on_verdict(Origin::of(peer), right, now);
    }

    /// Nobody waits for this one any longer.
    pub(crate) fn remove(&mut self, token: Token) {
        let Some(origin) = self.origins.remove(&token) else { return };
        let Some(jobs) = self.waiting.get_mut(&origin) else { return };
        jobs.retain(|job| job.token != token);
        self.tidy(origin);
    }

    fn line_up(&mut self, origin: Origin) {
        let line = if self.suspects.contains(origin) { &mut self.late } else { &mut self.turns };
        line.push_back(origin);
    }

    /// The address with the most jobs, if these are at least `least`.
    fn longest(among: &VecDeque<Origin>, waiting: &HashMap<Origin, VecDeque<Job>>, least: usize) -> Option<Origin> {
        // Of a line, not of the table: the order of the table differs from run to run.
        let lengths = among.iter().map(|origin| (waiting.get(origin).map_or(0, VecDeque::len), *origin));
        lengths.max().filter(|(length, _)| *length >= least).map(|(_, origin)| origin)
    }

    fn take_last(&mut self, origin: Origin) -> Option<Job> {
        let job = self.waiting.get_mut(&origin)?.pop_back()?;
        self.origins.remove(&job.token);
        self.tidy(origin);
        Some(job)
    }

    fn tidy(&mut self, origin: Origin) {
        if self.waiting.get(&origin).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&origin);
            self.turns.retain(|other| *other != origin);
            self.late.retain(|other| *other != origin);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(host: u8, slot: u32) -> Job {
        Job {
            token: Token { shard: 0, slot, generation: 0, sequence: 0 },
            peer: SocketAddr::from(([192, 0, 2, host], 1000)),
            name: "n".into(),
            password: Zeroizing::new(Box::from(*b"p")),
        }
    }

    fn order(queue: &mut Queue) -> Vec<u32> {
        std::iter::from_fn(|| queue.pop()).map(|job| job.token.slot).collect()
    }

    #[test]
    fn addresses_take_turns() {
        let mut queue = Queue::new(100);
        for slot in 0..4 {
            queue.push(job(1, slot));
        }
        queue.push(job(2, 10));
        queue.push(job(3, 20));
        queue.push(job(2, 11));
        assert_eq!(order(&mut queue), [0, 10, 20, 1, 11, 2, 3]);
        assert_eq!(queue.len(), 0);
    }

    #[test]
    fn one_address_may_have_all_places_until_another_comes() {
        let mut queue = Queue::new(4);
        for slot in 0..4 {
            assert!(matches!(queue.push(job(1, slot)), Place::Taken));
        }
        assert!(matches!(queue.push(job(1, 4)), Place::Full));
        for (slot, gone) in [(10, 3), (11, 2)] {
            assert!(matches!(queue.push(job(2, slot)), Place::InsteadOf(job) if job.token.slot == gone));
        }
        assert!(matches!(queue.push(job(2, 12)), Place::Full), "two each");
        assert!(matches!(queue.push(job(3, 20)), Place::InsteadOf(_)));
        assert_eq!(queue.len(), 4);
        assert!(order(&mut queue).contains(&20));
    }

    #[test]
    fn more_addresses_than_places_share_nothing() {
        let mut queue = Queue::new(3);
        for host in 0..3 {
            queue.push(job(host, host.into()));
        }
        assert!(matches!(queue.push(job(9, 9)), Place::Full));
        assert_eq!(order(&mut queue), [0, 1, 2]);
    }

    #[test]
    fn addresses_that_guess_get_every_fourth_turn() {
        let (mut queue, now) = (Queue::new(100), Instant::now());
        for host in 1..=3 {
            queue.on_verdict(job(host, 0).peer, false, now);
            queue.push(job(host, host.into()));
        }
        for slot in 10..15 {
            queue.push(job(9, slot));
        }
        assert_eq!(order(&mut queue), [10, 11, 12, 1, 13, 14, 2, 3]);
        queue.on_verdict(job(2, 0).peer, true, now);
        for host in [1, 2] {
            queue.push(job(host, host.into()));
        }
        assert_eq!(order(&mut queue), [2, 1], "who has shown a right password is no suspect");
    }

    #[test]
    fn many_addresses_that_guess_keep_nobody_waiting() {
        let (mut queue, now) = (Queue::new(1024), Instant::now());
        let round = |queue: &mut Queue| (0..200).for_each(|host| _ = queue.push(job(host, host.into())));
        round(&mut queue);
        while let Some(job) = queue.pop() {
            queue.on_verdict(job.peer, false, now);
        }
        (0..5).for_each(|_| round(&mut queue));
        queue.push(job(255, 255));
        assert!(order(&mut queue).iter().take(2).any(|slot| *slot == 255));
    }

    #[test]
    fn addresses_that_guess_make_room_first() {
        let (mut queue, now) = (Queue::new(3), Instant::now());
        for host in 1..=3 {
            queue.on_verdict(job(host, 0).peer, false, now);
            queue.push(job(host, host.into()));
        }
        assert!(matches!(queue.push(job(4, 4)), Place::InsteadOf(gone) if gone.token.slot == 3));
        assert!(matches!(queue.push(job(1, 9)), Place::Full));
        for slot in [5, 6] {
            assert!(matches!(queue.push(job(4, slot)), Place::InsteadOf(_)));
        }
        assert!(matches!(queue.push(job(4, 7)), Place::Full), "nobody is left who could go");
        assert!(matches!(queue.push(job(1, 9)), Place::Full), "a suspect takes no place of others");
        assert_eq!(order(&mut queue), [4, 5, 6]);
    }

    #[test]
    fn who_is_gone_is_skipped() {
        let mut queue = Queue::new(10);
        for (host, slot) in [(1, 0), (2, 1), (1, 2)] {
            queue.push(job(host, slot));
        }
        queue.remove(job(2, 1).token);
        queue.remove(job(1, 0).token);
        queue.remove(job(1, 77).token);
        assert_eq!(order(&mut queue), [2]);
        assert!(
            queue.turns.is_empty() && queue.late.is_empty() && queue.waiting.is_empty() && queue.origins.is_empty()
        );
    }

    #[test]
    fn hosts_of_one_network_count_as_one() {
        let origin = |text: &str| Origin::of(text.parse().expect("an address"));
        assert_eq!(origin("[2001:db8::1]:1"), origin("[2001:db8::ffff:1]:2"));
        assert_ne!(origin("[2001:db8::1]:1"), origin("[2001:db8:0:1::1]:1"));
        assert_eq!(origin("[::ffff:192.0.2.1]:1"), origin("192.0.2.1:9"));
        assert_ne!(origin("192.0.2.1:1"), origin("192.0.2.2:1"));
    }
}
