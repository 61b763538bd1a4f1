//! What travels between shards: batches of deliveries, and connections on their way home.

use breakwater_contract::store::Position;
use breakwater_proto::{Instant, Version};
use breakwater_router::{GroupRef, PackedGrant, Snapshot, Subscriber};
use breakwater_session::AckTicket;

use crate::driver::{Peer, ShardId};
use crate::refusal::Word;
use crate::replay::seam::SeamMail;

/// One piece of mail. Owned and `Send`; keeps its order per pair of shards.
#[derive(Debug)]
pub enum Mail<T> {
    /// Deliveries of one turn.
    Batch(Box<Batch>),
    /// Something rare.
    Control(Box<Control<T>>),
}

impl<T> Mail<T> {
    /// Bytes that this mail holds, for accounting.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Mail::Batch(batch) => batch.bytes(),
            Mail::Control(control) => control.bytes(),
        }
    }
}

/// Rare mail.
#[derive(Debug)]
pub enum Control<T> {
    /// A connection whose client identifier lives at the receiving shard.
    Arrive(Arrival<T>),
    /// A replay meets what comes live.
    Seam(SeamMail),
}

impl<T> Control<T> {
    fn bytes(&self) -> usize {
        match self {
            Control::Arrive(arrival) => size_of::<Arrival<T>>() + arrival.bytes.len(),
            Control::Seam(_) => size_of::<SeamMail>(),
        }
    }
}

/// A connection between porch and home.
#[derive(Debug)]
pub struct Arrival<T> {
    pub(crate) transport: T,
    pub(crate) peer: Peer,
    /// The CONNECT packet and whatever came behind it, undecoded.
    pub(crate) bytes: Vec<u8>,
    /// Until when it has to be a client.
    pub(crate) deadline: Instant,
    /// The edge that brought the CONNECT may have left more in the socket.
    pub(crate) readable: bool,
}

/// Deliveries of one turn for one shard: messages in wire form, back to back, and whom they go to.
///
/// Filled by the sending shard, emptied by the receiving one, sent home and filled again.
#[derive(Debug, Default)]
pub struct Batch {
    pub(crate) wire: Vec<u8>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) targets: Vec<Routed>,
    pub(crate) ids: Vec<u32>,
    /// For publishers that wait at the receiving shard: what became of parts of their messages.
    pub(crate) receipts: Vec<(Receipt, bool)>,
    /// Shard whose batch this is, and to which it goes home.
    pub(crate) home: ShardId,
}

/// One message, or a run of QoS 0 messages of one topic from one publisher, and its targets.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) wire: (u32, u32),
    /// Packets in `wire`.
    pub(crate) count: u32,
    /// Layout of `wire`.
    pub(crate) version: Version,
    /// RETAIN as published.
    pub(crate) retain: bool,
    pub(crate) expires_at: Option<Instant>,
    pub(crate) origin: u64,
    pub(crate) targets: (u32, u32),
    pub(crate) large: Option<Box<Snapshot>>,
    pub(crate) group: Option<GroupTry>,
    /// Whom to tell when what is to last of it is stored.
    pub(crate) receipt: Option<Receipt>,
    /// Where it is in the store, in the queues of all its targets that are there; 0 if it is not.
    pub(crate) position: Position,
    /// What its publisher was told.
    pub(crate) word: Word,
}

/// A publisher whose acknowledgement waits for what others have to store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// Its home: an entry may have come by way of another shard.
    pub(crate) home: ShardId,
    /// Its session there.
    pub(crate) session: u32,
    pub(crate) generation: u32,
    pub(crate) ticket: AckTicket,
}

/// A delivery through a shared group: enough to choose another member.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupTry {
    pub(crate) group: GroupRef,
    pub(crate) topic_hash: u64,
    pub(crate) client_hash: u64,
    /// Member that was tried before the target of this entry.
    pub(crate) tried: Option<Subscriber>,
}

/// One session that a message goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Routed {
    pub(crate) slot: u32,
    pub(crate) generation: u16,
    /// Subscription identifiers beyond the first, in `Batch::ids`, in order of targets.
    pub(crate) more_ids: u16,
    pub(crate) grant: PackedGrant,
}

impl Routed {
    /// Its full name: it lives at the shard that the batch is for.
    pub(crate) fn at(&self, shard: ShardId) -> Subscriber {
        Subscriber { shard, generation: self.generation, slot: self.slot }
    }
}

impl Batch {
    pub(crate) fn bytes(&self) -> usize {
        self.wire.len()
            + self.entries.len() * size_of::<Entry>()
            + self.targets.len() * size_of::<Routed>()
            + self.ids.len() * size_of::<u32>()
            + self.receipts.len() * size_of::<(Receipt, bool)>()
    }

    /// The packets of one of its entries.
    pub(crate) fn wire_in(&self, entry: &Entry) -> &[u8] {
        &self.wire[entry.wire.0 as usize..entry.wire.1 as usize]
    }

    pub(crate) fn clear(&mut self) {
        self.wire.clear();
        self.entries.clear();
        self.targets.clear();
        self.ids.clear();
        self.receipts.clear();
    }

    /// Keeps one huge turn from holding its memory for ever.
    #[inline]
    pub(crate) fn trim(&mut self) {
        const KEEP: usize = 256 * 1024;
        if self.wire.capacity() > KEEP {
            self.wire = Vec::new();
        }
        if self.targets.capacity() * size_of::<Routed>() > KEEP {
            self.targets = Vec::new();
        }
        if self.entries.capacity() * size_of::<Entry>() > KEEP {
            self.entries = Vec::new();
        }
        if self.ids.capacity() * size_of::<u32>() > KEEP {
            self.ids = Vec::new();
        }
        if self.receipts.capacity() * size_of::<(Receipt, bool)>() > KEEP {
            self.receipts = Vec::new();
        }
    }
}
