//! Settings of a shard, resolved: no strings to parse, no defaults to look up.

use breakwater_contract::store::Durability;
use breakwater_session::Limits;

/// Settings that all shards of a node share. One value, behind an `Arc`.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a client and its session may use.
    pub limits: Limits,
    /// Above this many unsent bytes a connection's QoS 0 is shed and its QoS 1/2 stays queued.
    pub out_buffer_bytes: u32,
    /// A connection that takes no byte for this long while bytes wait is ended with "quota exceeded", in milliseconds.
    pub write_stall_ms: u32,
    /// Connections that a shard holds at most.
    pub connections_max: u32,
    /// Bytes of queues and buffers that a shard holds at most: above it readers pause, further above it new connections
    /// are refused.
    pub memory_bytes: u64,
    /// Bytes on their way to another shard above which the readers that fill it pause.
    pub mailbox_bytes: u32,
    /// What one connection may use in one turn.
    pub turn: TurnBudget,
    /// Seconds between two publications of `$SYS`, 0 for never.
    pub sys_interval_s: u32,
    /// `$SYS` may be read by clients that don't come from loopback.
    pub sys_for_all: bool,
    /// Publish wills when the broker is told to stop.
    pub wills_on_shutdown: bool,
    /// Retained messages sent to one subscriber in one turn.
    pub retained_per_turn: u32,
    /// Messages that may wait to be published later, at all shards together; 0: topics below `$delayed/` are ordinary ones.
    pub delayed_max: u64,
    /// Bytes of them.
    pub delayed_bytes_max: u64,
    /// What may wait in all queues together.
    pub queue_totals: QueueTotals,
    /// Name of this node in `$SYS`.
    pub node: Box<str>,
    /// What an acknowledgement promises of what has to outlast the process, where no listener's profile says something else.
    pub durability: Durability,
}

/// Bounds of what waits in the queues of all sessions, and in those of all sessions of one user; 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Messages, of all.
    pub messages_max: u64,
    /// Bytes of them.
    pub bytes_max: u64,
    /// Messages, of the sessions of one user. Clients without a user name have no such bound.
    pub user_messages_max: u64,
    /// Bytes of them.
    pub user_bytes_max: u64,
}

/// Bounds of one turn, in work done, so that no peer can hold a shard for long.
#[derive(Clone, Copy, Debug)]
pub struct TurnBudget {
    /// Bytes read from one connection.
    pub read_bytes: u32,
    /// Deliveries caused by one connection.
    pub deliveries: u32,
    /// Bytes appended to out buffers for one connection's messages.
    pub appended_bytes: u32,
    /// Mail taken from one neighbour, in bytes.
    pub mail_bytes: u32,
    /// Connections accepted.
    pub accepts: u32,
    /// Timers fired.
    pub timers: u32,
}

impl Default for TurnBudget {
    fn default() -> Self {
        Self {
            read_bytes: 64 * 1024,
            deliveries: 16 * 1024,
            appended_bytes: 4 * 1024 * 1024,
            mail_bytes: 1024 * 1024,
            accepts: 64,
            timers: 4096,
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            out_buffer_bytes: 1024 * 1024,
            write_stall_ms: 10_000,
            connections_max: 1_000_000,
            memory_bytes: 1 << 30,
            mailbox_bytes: 4 * 1024 * 1024,
            turn: TurnBudget::default(),
            sys_interval_s: 60,
            sys_for_all: false,
            wills_on_shutdown: true,
            retained_per_turn: 256,
            delayed_max: 100_000,
            delayed_bytes_max: 128 << 20,
            queue_totals: QueueTotals::default(),
            node: "breakwater".into(),
            durability: Durability::default(),
        }
    }
}
