//! Topic to subscribers, shared groups and retained messages; shared by all shards.
//!
//! Promise: a match takes no lock when its answer is remembered and a read lock otherwise, allocates nothing in steady
//! state, and its work is bounded. Every method takes `&self`. The same calls in the same order give the same answers:
//! hash seeds, time and chance are arguments.
//!
//! Not here: packets, sessions, connections, sockets, clocks, threads.
#![forbid(unsafe_code)]

mod exact;
mod exclusive;
mod keyed_hash;
mod levels;
mod locks;
mod match_cache;
mod matches;
mod members;
mod options;
mod retained;
mod router;
mod shared;
mod slab;
mod snapshot;
mod split_table;
mod subscriber;
mod symbols;
mod text;
mod trie;
mod wild;

pub use matches::{ExtraId, Matches};
pub use options::{RetainedLimits, RouterOptions, Strategy};
pub use retained::{Progress, Refusal, RetainOutcome, RetainedCursor, RetainedLife};
pub use router::{Router, RouterCounts};
pub use shared::{GroupRef, PickTicket};
pub use snapshot::Snapshot;
pub use subscriber::{FilterId, Grant, PackedGrant, Subscribed, Subscriber, Target};
