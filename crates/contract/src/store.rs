//! What outlives a connection, and may outlive the process.
//!
//! One trait, [`Store`], for messages, queues, sessions, retained messages and the operator's tables. Everything that has to last
//! is a [`Change`]; changes go in batches, and a batch holds in whole or not at all. Nobody waits: a batch is answered by
//! [`crate::Completion::Durable`], a question by [`crate::Completion::Read`].
//!
//! Changes say what is so, not what to do with what was: to apply one twice is to apply it once. The exception is
//! [`Change::Message`], which is a message more each time; whoever sends a batch again because no answer came gets a second copy,
//! never none. So a replicated log can stand behind the same trait.
//!
//! Times are milliseconds of Unix time, except in a [`Message`], whose moment of expiry is in the process's own clock: a store is
//! told at its start what Unix time that clock began at, and translates.

use breakwater_proto::{Message, QoS};

use crate::Token;

/// Names a session in the store: from [`Store::new_session`], never given twice, the same after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionNumber(pub u64);

/// Names a message in the store. Later ones are greater; 0 is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// What has to be true of a batch before it is answered. A store may do more than is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Durability {
    /// This process knows it.
    Memory,
    /// The operating system has it: it outlives the process, not a power cut.
    Os,
    /// The disk has it.
    #[default]
    Fsync,
}

/// Answer of a store to a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// Under way: a completion follows, always.
    Pending,
    /// Refused, for want of room or because the store is down: no completion follows. [`Store::health`] says which.
    Refused,
}

/// How far a delivery with QoS 1 or 2 has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutboundState {
    /// PUBLISH was sent.
    Sent,
    /// PUBREC came; PUBREL was or is to be sent.
    Received,
}

/// A message that a change speaks of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageAt {
    /// Stored already.
    Position(Position),
    /// The n-th message of the same batch, from 0, which must stand before this change.
    InBatch(u32),
}

/// How a message goes out to a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// The lower of the message's and the granted one; 1 or 2.
    pub qos: QoS,
    /// RETAIN flag.
    pub retain: bool,
    /// Through a shared group.
    pub shared: bool,
    /// Subscription Identifier, 0 for none.
    pub subscription_id: u32,
    /// There are more identifiers: those of all its subscriptions that match.
    pub more_ids: bool,
}

/// A session whose queue a message joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which.
    pub session: SessionNumber,
    /// On which terms.
    pub terms: Terms,
}

/// What is known of a session besides its subscriptions, queue and packet identifiers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionRow {
    /// Its name in the store.
    pub number: SessionNumber,
    /// Client identifier.
    pub client_id: Box<str>,
    /// Who it belongs to; empty for nobody.
    pub user: Box<str>,
    /// Session Expiry Interval in seconds.
    pub expiry_s: u32,
    /// When the connection ended; 0 while connected.
    pub detached_unix_ms: u64,
    /// Will and its delay in seconds.
    pub will: Option<(Message, u32)>,
    /// Whatever else its shard wants to find again, in a form of its own.
    pub attributes: Box<[u8]>,
}

/// One change. Changes of a session that does not exist do nothing; a session begins with its row, and whoever makes it says
/// nothing of it before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A message, once, and the sessions whose queues it joins.
    Message {
        /// The message.
        message: Message,
        /// When it came; for whoever limits the age of what waits.
        unix_ms: u64,
        /// Who wants it.
        sessions: Vec<Wanted>,
    },
    /// Messages leave a session's queue: acknowledged, expired or dropped. Those in flight are in the queue too, until then.
    Forget {
        /// Whose.
        session: SessionNumber,
        /// Which.
        messages: Vec<Position>,
    },
    /// All messages up to and including this one leave the queue.
    ForgetThrough {
        /// Whose.
        session: SessionNumber,
        /// The last one that leaves.
        last: Position,
    },
    /// A session is made, or its row is set.
    Session(Box<SessionRow>),
    /// A session and all that belongs to it is gone.
    RemoveSession(SessionNumber),
    /// A subscription is made or replaced.
    Subscribe {
        /// Whose.
        session: SessionNumber,
        /// Filter, with `$share/…` where shared.
        filter: Box<str>,
        /// Packed options.
        options: u8,
        /// Subscription Identifier, 0 for none.
        identifier: u32,
    },
    /// A subscription is gone.
    Unsubscribe {
        /// Whose.
        session: SessionNumber,
        /// Filter.
        filter: Box<str>,
    },
    /// A QoS 2 publish came in under this packet identifier (`held`), or was released.
    Inbound {
        /// Whose.
        session: SessionNumber,
        /// Packet identifier.
        packet_id: u16,
        /// Whether it awaits its PUBREL.
        held: bool,
    },
    /// A delivery is in flight under this packet identifier.
    Outbound {
        /// Whose.
        session: SessionNumber,
        /// Packet identifier.
        packet_id: u16,
        /// How far it is.
        state: OutboundState,
        /// The message; none once it need not be sent again.
        message: Option<MessageAt>,
    },
    /// A delivery is complete: the packet identifier is free. (Its message leaves the queue by [`Change::Forget`].)
    OutboundDone {
        /// Whose.
        session: SessionNumber,
        /// Packet identifier.
        packet_id: u16,
    },
    /// A retained message is set. Of several for a topic the highest revision wins.
    Retain(Box<Retained>),
    /// A topic has no retained message. A revision that is lower and comes later is still recognised for as long as the shards may
    /// disagree about which came first: seconds, not for ever.
    Unretain {
        /// Topic.
        topic: Box<str>,
        /// Orders it among other changes of the topic.
        revision: u64,
    },
    /// A value of the operator's is set, or removed (`None`).
    Value {
        /// Table.
        table: Box<str>,
        /// Key.
        key: Box<[u8]>,
        /// Value.
        value: Option<Box<[u8]>>,
    },
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The message; its topic is the key.
    pub message: Message,
    /// Orders changes of one topic.
    pub revision: u64,
    /// When it was set.
    pub set_unix_ms: u64,
    /// By whom: a client identifier, or empty.
    pub by: Box<str>,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Messages, those in flight included.
    pub messages: u64,
    /// Their bytes ([`Message::as_bytes`]).
    pub bytes: u64,
}

/// All that is known of a session, without the messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredSession {
    /// Itself.
    pub row: SessionRow,
    /// Filter, packed options, Subscription Identifier; by filter.
    pub subscriptions: Vec<(Box<str>, u8, u32)>,
    /// Packet identifiers of QoS 2 publishes that await their PUBREL; ascending.
    pub inbound: Vec<u16>,
    /// Deliveries in flight, by packet identifier.
    pub outbound: Vec<(u16, OutboundState, Option<Position>)>,
    /// What its queue holds.
    pub tally: Tally,
}

/// A message of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queued {
    /// Its name.
    pub position: Position,
    /// When it came.
    pub unix_ms: u64,
    /// How it goes out.
    pub terms: Terms,
    /// Itself; none where the disk gave back something else than what was stored. It is to be forgotten and counted as lost.
    pub message: Option<Message>,
}

/// A question to the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// The next messages of a queue. At least one if there is one, whatever its size.
    Queue {
        /// Whose.
        session: SessionNumber,
        /// Those behind this one.
        after: Position,
        /// At most so many.
        messages_max: usize,
        /// At most so many bytes of them.
        bytes_max: usize,
    },
    /// Names and bytes of the next messages of a queue, without reading them: to see up to which one to drop.
    Entries {
        /// Whose.
        session: SessionNumber,
        /// Those behind this one.
        after: Position,
        /// At most so many.
        entries_max: usize,
    },
    /// A session without its messages.
    Session(SessionNumber),
    /// A retained message.
    Retained(Box<str>),
    /// Rows of a table, by key.
    Values {
        /// Table.
        table: Box<str>,
        /// Those behind this key; none for the first ones.
        after: Option<Box<[u8]>>,
        /// At most so many.
        rows_max: usize,
    },
}

/// Key and value.
pub type TableRow = (Box<[u8]>, Box<[u8]>);

/// Answer to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Queue`].
    Queue {
        /// Messages, oldest first.
        messages: Vec<Queued>,
        /// Whether there are more behind them.
        more: bool,
    },
    /// To [`Question::Entries`].
    Entries {
        /// Name and bytes of each, oldest first.
        entries: Vec<(Position, u32)>,
        /// Whether there are more behind them.
        more: bool,
    },
    /// To [`Question::Session`].
    Session(Option<Box<StoredSession>>),
    /// To [`Question::Retained`].
    Retained(Option<Box<Retained>>),
    /// To [`Question::Values`].
    Values(Vec<TableRow>),
    /// The store could not read. Asked again it may.
    Failed,
}

/// What a start finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// A session.
    Session(Box<StoredSession>),
    /// A retained message.
    Retained(Box<Retained>),
    /// A row of a table.
    Value {
        /// Table.
        table: Box<str>,
        /// Key.
        key: Box<[u8]>,
        /// Value.
        value: Box<[u8]>,
    },
}

/// Whether a store can be relied on at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Condition {
    /// It works.
    #[default]
    Well,
    /// The disk has no room: batches are answered with `stored: false` until it has.
    Full,
    /// The disk fails: the same.
    Failing,
}

/// How a store is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// In a word.
    pub condition: Condition,
    /// What went wrong last, where, and what to do; empty if nothing did.
    pub fault: String,
    /// Bytes submitted and not yet answered.
    pub waiting_bytes: usize,
    /// Bytes on disk.
    pub disk_bytes: u64,
    /// Syncs of what changes are written into, since the start.
    pub syncs: u64,
    /// Bytes written there, since the start.
    pub logged_bytes: u64,
    /// Things that were set aside since the start, or found damaged.
    pub damages: u64,
}

/// Keeps what has to last.
pub trait Store: Send + Sync {
    /// Whether nothing here outlives the process, so that nothing has to be submitted.
    fn is_volatile(&self) -> bool;

    /// A number for a new session.
    fn new_session(&self) -> SessionNumber;

    /// Takes a batch. Batches of one thread hold in the order in which it submitted them.
    ///
    /// An acknowledgement that promises durability leaves only after [`crate::Completion::Durable`].
    fn submit(&self, token: Token, changes: &[Change], durability: Durability) -> Submitted;

    /// Asks. The answer knows every batch that was answered before; it may know later ones.
    fn ask(&self, token: Token, question: Question) -> Submitted;

    /// Calls `each` with what is stored. Blocks: at a start, before anything else.
    ///
    /// # Errors
    /// What kept it from reading.
    fn restore(&self, each: &mut dyn FnMut(Restored)) -> Result<(), String>;

    /// How it is.
    fn health(&self) -> Health;
}
