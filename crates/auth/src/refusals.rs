//! Which addresses the log has been told about: once an hour each, so that a stubborn client doesn't fill it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Mutex, TryLockError};
use std::time::{Duration, Instant};

use crate::queue::Origin;

/// Told again after that long.
const FORGET: Duration = Duration::from_secs(3600);

/// Addresses that are remembered. Those beyond are counted as one.
const ADDRESSES_MAX: usize = 4096;

/// Lives as long as the chain; all threads may ask it.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<Told>);

#[derive(Default)]
struct Told {
    addresses: HashMap<Origin, Instant>,
    /// When it was told that there are too many.
    crowd: Option<Instant>,
}

/// What the log should be told of a refusal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Everything.
    All,
    /// That there are too many addresses to name each.
    Crowd,
    /// Nothing: it was told.
    Nothing,
}

impl Refusals {
    pub(crate) fn on_refusal(&self, peer: SocketAddr, now: Instant) -> Tell {
        // Shards ask, too, and don't wait for a thread that has to let them go first: the next refusal will be told.
        let mut told = match self.0.try_lock() {
            Ok(told) => told,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Tell::Nothing,
        };
        let old = |at: &Instant| now.saturating_duration_since(*at) >= FORGET;
        let origin = Origin::of(peer);
        if told.addresses.get(&origin).is_some_and(|at| !old(at)) {
            return Tell::Nothing;
        }
        if told.addresses.len() >= ADDRESSES_MAX && !told.addresses.contains_key(&origin) {
            if told.crowd.as_ref().is_some_and(|at| !old(at)) {
                return Tell::Nothing;
            }
            // Looked for once an hour, not for each that comes.
            told.addresses.retain(|_, at| !old(at));
            if told.addresses.len() >= ADDRESSES_MAX {
                told.crowd = Some(now);
                return Tell::Crowd;
            }
        }
        told.addresses.insert(origin, now);
        Tell::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: u32) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from(number), 1))
    }

    #[test]
    fn an_address_is_told_once_an_hour() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.on_refusal(peer(1), start), Tell::All);
        assert_eq!(refusals.on_refusal(peer(1), start), Tell::Nothing);
        assert_eq!(refusals.on_refusal(peer(2), start), Tell::All);
        assert_eq!(refusals.on_refusal(peer(1), start + FORGET / 2), Tell::Nothing);
        assert_eq!(refusals.on_refusal(peer(1), start + FORGET), Tell::All);
        assert_eq!(refusals.on_refusal(peer(1), start + FORGET + FORGET / 2), Tell::Nothing);
    }

    #[test]
    fn a_crowd_is_told_once_and_forgotten_again() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        for number in 0..ADDRESSES_MAX as u32 {
            assert_eq!(refusals.on_refusal(peer(number), start), Tell::All);
        }
        assert_eq!(refusals.on_refusal(peer(1 << 20), start), Tell::Crowd);
        assert_eq!(refusals.on_refusal(peer(1 << 21), start), Tell::Nothing);
        assert_eq!(refusals.0.lock().expect("one thread").addresses.len(), ADDRESSES_MAX);
        assert_eq!(refusals.on_refusal(peer(1 << 21), start + FORGET), Tell::All);
        assert_eq!(refusals.0.lock().expect("one thread").addresses.len(), 1);
    }
}
