//! Certificates of clients that are connected, judged again when a listener has read new revocation lists or authorities.
//!
//! Each judgement verifies signatures: so there are few at a time, and a shard with many such clients takes a while for all.

use std::sync::Arc;

use breakwater_proto::Instant;
use breakwater_transport::tls::ClientCheck;

use crate::roll::{Listener, Standing, Terms};
use crate::sockets::Sockets;

/// What a shard still has to look at.
#[derive(Default)]
pub(crate) struct Rechecks(Vec<Recheck>);

struct Recheck {
    standing: Arc<Standing>,
    check: ClientCheck,
    /// The next slot to look at.
    slot: u32,
    /// When to look at the next ones.
    next: Instant,
    /// This is the last round.
    last: bool,
}

/// Clients that are judged in one turn: some hundred microseconds each, on a slow machine.
const AT_ONCE: usize = 4;
/// Time between two such turns.
const STEP_MS: u64 = 2;
/// Connections that were under way, at the gate or between shards, are seen in a second round.
const AGAIN_MS: u64 = 60_000;

impl Rechecks {
    /// A listener has got these terms.
    pub(crate) fn add(&mut self, listener: &Listener, terms: &Terms, now: Instant) {
        self.0.retain(|recheck| !Arc::ptr_eq(&recheck.standing, &listener.standing));
        if let Some(check) = terms.tls.as_ref().and_then(|tls| tls.client_check()) {
            let standing = Arc::clone(&listener.standing);
            self.0.push(Recheck { standing, check: check.clone(), slot: 0, next: now, last: false });
        }
    }

    /// When to look next.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|recheck| recheck.next).min()
    }

    /// Judges a few clients, if it is time for that.
    pub(crate) fn work(&mut self, sockets: &mut Sockets, now: Instant) {
        for recheck in self.0.iter_mut().filter(|recheck| recheck.next <= now) {
            recheck.next = now.plus_ms(STEP_MS);
            for _ in 0..AT_ONCE {
                if let Some(slot) = sockets.judge_next(&recheck.standing, &recheck.check, recheck.slot) {
                    recheck.slot = slot + 1;
                    continue;
                }
                (recheck.slot, recheck.next) = (0, now.plus_ms(AGAIN_MS));
                if recheck.last {
                    recheck.slot = u32::MAX;
                }
                recheck.last = true;
                break;
            }
        }
        self.0.retain(|recheck| recheck.slot < u32::MAX);
    }
}
