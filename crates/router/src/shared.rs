//! Shared subscriptions: groups and the choice of a member.

use crate::subscriber::Subscriber;

/// Names a shared group that a message goes to. Goes stale, harmlessly, when the group's last member leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupRef {
    pub(crate) id: u32,
    pub(crate) generation: u32,
}

/// What the choice of a member depends on.
#[derive(Clone, Copy, Debug)]
pub struct PickTicket<'a> {
    /// The publisher's shard.
    pub shard: u16,
    pub topic_hash: u64,
    pub client_hash: u64,
    pub random: u64,
    /// Members that bounced this message already.
    pub tried: &'a [Subscriber],
}
