//! Who waits for a hashing thread, in turn by address: one address that asks without end can't keep the others waiting.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use breakwater_contract::Token;
use zeroize::Zeroizing;

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
    /// Addresses with jobs, each once; the first is served next.
    turns: VecDeque<Origin>,
    origins: HashMap<Token, Origin>,
    most: usize,
}

impl Queue {
    pub(crate) fn new(most: usize) -> Self {
        Self { waiting: HashMap::new(), turns: VecDeque::new(), origins: HashMap::new(), most: most.max(1) }
    }

    pub(crate) fn len(&self) -> usize {
        self.origins.len()
    }

    /// When all places are taken, each address is left with its share of them: the last to come of the address with the most
    /// has to go for one whose address has less than its share.
    pub(crate) fn push(&mut self, job: Job) -> Place {
        let origin = Origin::of(job.peer);
        let mut place = Place::Taken;
        if self.len() >= self.most {
            let own = self.waiting.get(&origin).map_or(0, VecDeque::len);
            // Counted with this address, whether it waits already or not.
            let addresses = self.turns.len() + usize::from(own == 0);
            if own >= (self.most / addresses).max(1) {
                return Place::Full;
            }
            match self.last_of_the_longest(own + 2) {
                Some(gone) => place = Place::InsteadOf(gone),
                None => return Place::Full,
            }
        }
        self.origins.insert(job.token, origin);
        let jobs = self.waiting.entry(origin).or_default();
        if jobs.is_empty() {
            self.turns.push_back(origin);
        }
        jobs.push_back(job);
        place
    }

    /// The next one: the oldest of the address whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<Job> {
        let origin = self.turns.pop_front()?;
        let jobs = self.waiting.get_mut(&origin)?;
        let job = jobs.pop_front()?;
        if jobs.is_empty() {
            self.waiting.remove(&origin);
        } else {
            self.turns.push_back(origin);
        }
        self.origins.remove(&job.token);
        Some(job)
    }

    /// Nobody waits for this one any longer.
    pub(crate) fn remove(&mut self, token: Token) {
        let Some(origin) = self.origins.remove(&token) else { return };
        let Some(jobs) = self.waiting.get_mut(&origin) else { return };
        jobs.retain(|job| job.token != token);
        self.tidy(origin);
    }

    /// Of the address with the most jobs, if these are at least `least`.
    fn last_of_the_longest(&mut self, least: usize) -> Option<Job> {
        // Of the turns, not of the table: the order of the table differs from run to run.
        let lengths = self.turns.iter().map(|origin| (self.waiting.get(origin).map_or(0, VecDeque::len), *origin));
        let (length, origin) = lengths.max()?;
        if length < least {
            return None;
        }
        let job = self.waiting.get_mut(&origin)?.pop_back()?;
        self.origins.remove(&job.token);
        self.tidy(origin);
        Some(job)
    }

    fn tidy(&mut self, origin: Origin) {
        if self.waiting.get(&origin).is_some_and(VecDeque::is_empty) {
            self.waiting.remove(&origin);
            self.turns.retain(|other| *other != origin);
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
    fn who_is_gone_is_skipped() {
        let mut queue = Queue::new(10);
        for (host, slot) in [(1, 0), (2, 1), (1, 2)] {
            queue.push(job(host, slot));
        }
        queue.remove(job(2, 1).token);
        queue.remove(job(1, 0).token);
        queue.remove(job(1, 77).token);
        assert_eq!(order(&mut queue), [2]);
        assert!(queue.turns.is_empty() && queue.waiting.is_empty() && queue.origins.is_empty());
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
