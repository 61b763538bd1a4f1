//! The narrow traits and plain data that cross planes.
//!
//! Promise: nothing here implements anything, nothing here polls a future. A shard asks with `submit` and gets the answer
//! back through its mailbox as a [`Completion`]; a slow plane may lag or die without holding a shard.
//!
//! Not here: the traits of sockets (they belong to `shard`), any implementation (they live in `store`, `auth`, `cluster`,
//! `mgmt`).
#![forbid(unsafe_code)]

pub mod auth;
pub mod cluster;
pub mod control;
pub mod metric;
pub mod store;
pub mod tap;

pub use auth::{Action, AuthRequest, AuthStep, Authenticator, Authorizer, Certificate, Identity, Principal, Verdict};
pub use cluster::Cluster;
pub use control::{Command, Control, Handoff, HttpStream, Kicked, Lost, Revoked, Visit};
pub use metric::{Counters, Gauge, ListenerMetric, Metric, ShardTimes};
pub use store::Store;
pub use tap::Tap;

/// Names one question that a shard has asked and not yet had answered.
///
/// Only the shard that minted it can read it; everybody else hands it back unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    /// Shard that asked.
    pub shard: u16,
    /// Slot of the connection or session that waits.
    pub slot: u32,
    /// Its generation, so that an answer that comes too late meets nobody.
    pub generation: u32,
    /// Number of the question within that connection or session.
    pub sequence: u32,
}

/// An answer on its way back to a shard.
#[derive(Debug)]
pub enum Completion {
    /// To an authentication request.
    Auth {
        /// The question.
        token: Token,
        /// The answer.
        step: AuthStep,
    },
    /// To an authorization question.
    Authorized {
        /// The question.
        token: Token,
        /// The answer: never `Ask`.
        verdict: Verdict,
    },
    /// What was submitted under this token is as durable as was asked for (or is not).
    Durable {
        /// The batch.
        token: Token,
        /// `false`: the store failed; the acknowledgement carries an error. What was submitted may still be found after a
        /// crash that comes next.
        stored: bool,
        /// Where its messages are, one for each [`store::Change::Message`], in order; empty if it was not stored.
        positions: Box<[store::Position]>,
    },
    /// To [`Store::ask`].
    Read {
        /// The question.
        token: Token,
        /// The answer.
        answer: store::Answer,
    },
}

/// Where completions are handed in: the mailbox of a shard. Never blocks.
pub trait Completions: Send + Sync {
    /// Delivers `completion` to the shard named in its token and wakes it.
    fn complete(&self, completion: Completion);
}
