//! Other nodes, seen from here.

use breakwater_proto::Message;

use crate::Token;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub node: Box<str>,
    /// Grows with every start of that node, so that an old answer is recognised.
    pub incarnation: u64,
    /// Reachable as far as is known.
    pub up: bool,
}

/// A change of what this node wants to receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterestDelta {
    /// Topic filter.
    pub filter: Box<str>,
    /// First subscriber came (`true`) or last one left.
    pub wanted: bool,
}

/// Members, interest, forwarding and takeover between nodes.
pub trait Cluster: Send + Sync {
    /// Nodes as known now, this one first.
    fn members(&self) -> Vec<Member>;

    /// Tells the others what this node wants.
    fn set_interest(&self, batch: &[InterestDelta]);

    /// Sends messages that another node may want. Answers how many bytes of credit are left: at 0 the sender pauses the
    /// readers that fill it.
    fn forward(&self, batch: &[Message]) -> usize;

    /// Claims a client identifier for this node; completes with the session that another node held.
    fn take_over(&self, token: Token, client_id: &str, epoch_seen: u64);
}
