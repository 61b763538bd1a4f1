//! What a client and its session may use.

use breakwater_proto::{QoS, TopicLimits, Version};

/// Bounds and switches, resolved from the configuration. Shared by all sessions of a node; read only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet that a client may send, in bytes of the whole packet.
    pub packet_bytes_max: u32,
    /// Largest packet before CONNECT was accepted. Smaller than the later bound, because anybody may send it.
    pub connect_bytes_max: u32,
    /// A connection that has not become a client within this time is closed, in milliseconds.
    pub connect_timeout_ms: u32,
    pub client_id_bytes_max: u16,
    pub topic: TopicLimits,
    /// Topic aliases that a client may register on one connection.
    pub topic_alias_in_max: u16,
    /// Topic aliases that we register towards one client, at most.
    pub topic_alias_out_max: u16,
    /// QoS 1 and 2 publishes that a 5.0 client may have unacknowledged.
    pub receive_maximum: u16,
    /// The same for 3.x clients, who are not told: beyond it the connection ends.
    pub awaiting_release_max: u16,
    /// QoS 1 and 2 deliveries that we keep unacknowledged towards one client, at most.
    pub inflight_max: u16,
    /// Bytes of QoS 1 and 2 messages under way to one client, above which no further one is begun.
    pub inflight_bytes_max: u32,
    pub queue_messages_max: u32,
    /// Bytes of messages and their records that one session's queue keeps alive.
    pub queue_bytes_max: u32,
    /// A message that has waited longer is dropped when its turn comes, in seconds; 0 for never.
    pub queue_age_max_s: u32,
    /// Messages of one session's queue that are kept in memory while the store has them, and bytes of them: enough that whoever
    /// comes back need not wait for the disk.
    pub queue_memory_messages: u32,
    pub queue_memory_bytes: u32,
    /// Whether QoS 0 messages are kept for an offline session.
    pub queue_qos0: bool,
    pub queue_full: QueueFull,
    pub subscriptions_max: u32,
    pub filters_per_subscribe_max: u16,
    pub user_properties_max: u16,
    pub maximum_qos: QoS,
    pub retain_available: bool,
    pub wildcard_available: bool,
    pub shared_available: bool,
    /// Filters behind `$exclusive/` are given to one session of the node each.
    pub exclusive_available: bool,
    pub subscription_ids_available: bool,
    /// Overrides the keep alive of every 5.0 client.
    pub server_keep_alive_s: Option<u16>,
    /// A 5.0 client that asks for more gets this as Server Keep Alive. The largest value sets no bound.
    pub keep_alive_max_s: u16,
    /// Silence after which a connection ends, in percent of its keep alive.
    pub keep_alive_percent: u16,
    /// Session expiry of 3.x clients with clean session 0, who can't name one.
    pub session_expiry_default_s: u32,
    pub session_expiry_max_s: u32,
    /// Upper bound of a message's expiry, applied where a publish comes in.
    pub message_expiry_max_s: Option<u32>,
    pub response_information: Option<Box<str>>,
    pub versions: Versions,
    /// MQTT 3.1 allows 1 to 23 bytes; many of its clients send more.
    pub v31_client_id_bytes_max: u16,
    pub allow_empty_client_id: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packet_bytes_max: 1024 * 1024,
            connect_bytes_max: 64 * 1024,
            connect_timeout_ms: 10_000,
            client_id_bytes_max: 256,
            topic: TopicLimits { levels_max: 128, bytes_max: 4096 },
            topic_alias_in_max: 16,
            topic_alias_out_max: 16,
            receive_maximum: 1024,
            awaiting_release_max: 4096,
            inflight_max: 32,
            inflight_bytes_max: 4 << 20,
            queue_messages_max: 10_000,
            queue_bytes_max: 8 * 1024 * 1024,
            queue_age_max_s: 0,
            queue_memory_messages: 128,
            queue_memory_bytes: 64 * 1024,
            queue_qos0: false,
            queue_full: QueueFull::DropOldest,
            subscriptions_max: 1000,
            filters_per_subscribe_max: 100,
            user_properties_max: 128,
            maximum_qos: QoS::ExactlyOnce,
            retain_available: true,
            wildcard_available: true,
            shared_available: true,
            exclusive_available: false,
            subscription_ids_available: true,
            server_keep_alive_s: None,
            keep_alive_max_s: u16::MAX,
            keep_alive_percent: 150,
            session_expiry_default_s: 7200,
            session_expiry_max_s: 7 * 24 * 3600,
            message_expiry_max_s: None,
            response_information: None,
            versions: Versions::ALL,
            v31_client_id_bytes_max: 23,
            allow_empty_client_id: true,
        }
    }
}

/// What gives way when a session's queue is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QueueFull {
    #[default]
    DropOldest,
    DropNewest,
    /// The publisher is told: the shard asks [`Session::queue_is_full`](crate::Session::queue_is_full) before it takes a message. Whatever
    /// comes all the same is dropped. As nobody knows how long the next message is, the last one that is taken may go beyond the bytes.
    Refuse,
}

/// Protocol versions that may connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions(u8);

impl Versions {
    pub const ALL: Versions = Versions(0b11_1000);
    pub const NONE: Versions = Versions(0);

    #[must_use]
    pub const fn with(self, version: Version) -> Versions {
        Versions(self.0 | 1 << version as u8)
    }

    #[must_use]
    pub const fn without(self, version: Version) -> Versions {
        Versions(self.0 & !(1 << version as u8))
    }

    #[must_use]
    pub const fn contains(self, version: Version) -> bool {
        self.0 & 1 << version as u8 != 0
    }
}

impl Default for Versions {
    fn default() -> Self {
        Versions::ALL
    }
}
