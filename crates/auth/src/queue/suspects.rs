//! Addresses that have lately come with a wrong password.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::Origin;

/// Forgotten after that long without another one.
const FORGET: Duration = Duration::from_secs(600);

/// Noted anew only after that long, so that one address that guesses without end doesn't push out the others.
const RENEW: Duration = Duration::from_secs(60);

/// Addresses that are remembered; the oldest goes for a new one.
const ADDRESSES_MAX: usize = 16_384;

#[derive(Default)]
pub(super) struct Suspects {
    since: HashMap<Origin, Instant>,
    /// In the order in which they came. An entry whose time is not that of the table is out of date.
    order: VecDeque<(Origin, Instant)>,
}

impl Suspects {
    pub(super) fn contains(&self, origin: Origin) -> bool {
        self.since.contains_key(&origin)
    }

    pub(super) fn on_verdict(&mut self, origin: Origin, right: bool, now: Instant) {
        if right {
            self.since.remove(&origin);
        } else if self.since.get(&origin).is_none_or(|at| now.saturating_duration_since(*at) >= RENEW) {
            self.since.insert(origin, now);
            self.order.push_back((origin, now));
        }
        while let Some((oldest, at)) = self.order.front().copied() {
            let current = self.since.get(&oldest) == Some(&at);
            let old = now.saturating_duration_since(at) >= FORGET || self.order.len() > ADDRESSES_MAX;
            if current && !old {
                break;
            }
            if current {
                self.since.remove(&oldest);
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(number: u32) -> Origin {
        Origin::of((std::net::Ipv4Addr::from(number), 1).into())
    }

    #[test]
    fn suspects_are_forgotten_in_time_and_beyond_the_bound() {
        let (mut suspects, start) = (Suspects::default(), Instant::now());
        suspects.on_verdict(origin(1), false, start);
        suspects.on_verdict(origin(2), false, start);
        suspects.on_verdict(origin(1), false, start + FORGET / 2);
        suspects.on_verdict(origin(9), true, start + FORGET);
        assert!(suspects.contains(origin(1)) && !suspects.contains(origin(2)) && !suspects.contains(origin(9)));
        suspects.on_verdict(origin(1), true, start + FORGET);
        assert!(!suspects.contains(origin(1)));
        for number in 0..ADDRESSES_MAX as u32 + 10 {
            suspects.on_verdict(origin(number), false, start + FORGET);
        }
        assert_eq!(suspects.since.len(), ADDRESSES_MAX);
        assert!(!suspects.contains(origin(9)) && suspects.contains(origin(10)));
        for _ in 0..3 * ADDRESSES_MAX {
            suspects.on_verdict(origin(10), false, start + FORGET);
        }
        assert!(suspects.order.len() <= ADDRESSES_MAX);
    }
}
