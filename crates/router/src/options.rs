//! What the router is built with.

/// Everything that a [`Router`](crate::Router) must be told at start. Plain values; nothing is read from elsewhere.
#[derive(Clone, Debug)]
pub struct RouterOptions {
    /// Reader lanes: one per shard.
    pub shards: u16,
    /// Key of every hash in the router; random per process, so that nobody can choose topics that collide.
    pub hash_seed: u64,
    /// Topics whose matches each [`Matches`](crate::Matches) remembers; rounded up to a power of two, 0 turns it off.
    pub cache_entries: u32,
    /// Most trie nodes that one match may visit before it stops and says so in `Matches::truncated`.
    pub visits_max: u32,
    pub strategy: Strategy,
    pub retained: RetainedLimits,
}

impl Default for RouterOptions {
    fn default() -> Self {
        Self {
            shards: 1,
            hash_seed: 0,
            cache_entries: 4096,
            visits_max: 65_536,
            strategy: Strategy::Random,
            retained: RetainedLimits::default(),
        }
    }
}

/// How a shared group chooses the member that gets a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    #[default]
    Random,
    /// In turn, counted by each publishing shard on its own: exact per shard, even on the whole, and nothing shared.
    RoundRobin,
    /// In turn over all publishers; costs one shared counter per message.
    RoundRobinPerGroup,
    /// The same member until it goes offline or leaves.
    Sticky,
    /// A member on the publisher's shard if one is online, else any.
    Local,
    /// By the topic: messages of one topic go to one member while the membership stays as it is.
    HashTopic,
    /// By the publisher's client id.
    HashClientId,
}

/// Bounds of the retained messages.
#[derive(Clone, Copy, Debug)]
pub struct RetainedLimits {
    pub count_max: u64,
    /// Heap bytes of the messages, summed.
    pub bytes_max: u64,
    pub payload_max: u32,
}

impl Default for RetainedLimits {
    fn default() -> Self {
        // 1 M messages or 512 MiB, whichever comes first; a payload as large as the largest packet.
        Self { count_max: 1_000_000, bytes_max: 512 << 20, payload_max: 1 << 20 }
    }
}
