//! The persistence file of Mosquitto, `mosquitto.db`: what versions 1.4 to 2.1 write.
//!
//! Behind a header (15 bytes that name it, a checksum that is never set, the version of the format) lie chunks: a kind, a length,
//! and a record. Versions 5 and 6 begin each record with a C structure as its compiler laid it out, and of that only some fields are
//! in network order: the rest is in the order of the machine that wrote the file. Versions 3 and 4 have no such structures.
//!
//! Nothing in the file is believed. Lengths are checked before anything is taken, names and numbers by what MQTT lets them be;
//! what is wrong is said with its offset, and reading goes on with the next chunk as far as there is one. What comes out borrows
//! from the bytes, and there is at most one value per eight of them.

mod chunk;
#[cfg(test)]
mod tests;

use breakwater_proto::{Publish, QoS, SubscribeOptions, Version, Violation, decode_publish};

use chunk::{Fields, Layout};

/// What a persistence file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Database<'a> {
    /// Version of the format: 3 to 6.
    pub version: u32,
    /// Mosquitto wrote it when it stopped; else it went on after it, and what came later is not in here.
    pub stopped: bool,
    /// Messages, by their number.
    pub messages: Vec<Stored<'a>>,
    /// Clients whose sessions outlast their connections.
    pub clients: Vec<Client<'a>>,
    /// What is on its way between the broker and its clients; of each client in the order of its queue.
    pub transfers: Vec<Transfer<'a>>,
    /// Subscriptions.
    pub subscriptions: Vec<Subscription<'a>>,
    /// Numbers of the messages that are retained.
    pub retained: Vec<u64>,
    /// What does not read; at most [`DAMAGES_MAX`] of them.
    pub damages: Vec<Damage>,
    /// All that does not read.
    pub damages_count: usize,
}

/// Something in the file that nobody can have written so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where the chunk begins.
    pub offset: usize,
    /// What is wrong with it.
    pub what: String,
}

/// Damages that are told one by one.
pub const DAMAGES_MAX: usize = 100;

/// A message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    /// Its number in the file; later ones are greater.
    pub number: u64,
    /// Topic.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// As published.
    pub qos: QoS,
    /// As published.
    pub retain: bool,
    /// When it expires, in seconds of Unix time.
    pub expires_s: Option<u64>,
    /// Who published it; may be empty.
    pub publisher: &'a str,
    /// See [`properties`].
    pub properties: &'a [u8],
}

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client<'a> {
    /// Client identifier.
    pub id: &'a str,
    /// User name; empty for none. Before 2.0.16 it may be that of another client, if it had none itself.
    pub user: &'a str,
    /// Session Expiry Interval in seconds.
    pub expiry_s: u32,
    /// When its session ends, in seconds of Unix time, if the file says so.
    pub ends_s: Option<u64>,
    /// Port of the listener that it came by, 0 if that is not known.
    pub port: u16,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// To the client: not sent yet.
    Queued,
    /// To the client: PUBLISH was or is to be sent under its packet identifier.
    Sent,
    /// To the client: PUBREC came; PUBREL was or is to be sent.
    Received,
    /// From the client: QoS 2, and PUBREL did not come yet. Nobody has got it.
    Held,
    /// Nothing is to be done any more.
    Over,
}

/// A message on its way to or from a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// Client identifier.
    pub client: &'a str,
    /// Number of the message.
    pub message: u64,
    /// Packet identifier; of what is queued it says nothing.
    pub packet_id: u16,
    /// QoS that it has on this way.
    pub qos: QoS,
    /// RETAIN flag that it has on this way.
    pub retain: bool,
    /// How far it is.
    pub stage: Stage,
    /// See [`properties`]: Subscription Identifiers.
    pub properties: &'a [u8],
}

/// A subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription<'a> {
    /// Client identifier.
    pub client: &'a str,
    /// Filter, with `$share/…` where shared.
    pub filter: &'a str,
    /// Its options; how retained messages are handled matters to SUBSCRIBE alone, and is not kept.
    pub options: SubscribeOptions,
    /// Subscription Identifier, 0 for none.
    pub identifier: u32,
}

const MAGIC: &[u8] = b"\x00\xB5\x00mosquitto db";
const SQLITE: &[u8] = b"SQLite format 3\0";
/// Magic, checksum, version.
const HEADER: usize = 15 + 4 + 4;

/// Reads a persistence file.
///
/// # Errors
/// If it is something else, or of a version that is not known here. Damage is no error: see [`Database::damages`].
pub fn read(bytes: &[u8]) -> Result<Database<'_>, String> {
    if bytes.is_empty() {
        return Err("the file is empty".to_owned());
    }
    if bytes.starts_with(SQLITE) {
        return Err("this is a database of Mosquitto's SQLite plugin; what is read here is its mosquitto.db".to_owned());
    }
    let Some((header, _)) = bytes.split_first_chunk::<HEADER>().filter(|_| bytes.starts_with(MAGIC)) else {
        return Err("this is not a persistence file of Mosquitto: it does not begin like one".to_owned());
    };
    let version = header.last_chunk().map_or(0, |version| u32::from_be_bytes(*version));
    if !(3..=6).contains(&version) {
        return Err(format!(
            "the format has version {version}; what is read here are versions 3 to 6, of Mosquitto 1.4 to 2.1"
        ));
    }
    let mut reading = Reading { database: Database { version, ..Database::default() }, layout: Layout::of(version) };
    reading.chunks(bytes);
    reading.sort();
    Ok(reading.database)
}

/// A file that is being read.
struct Reading<'a> {
    database: Database<'a>,
    layout: Layout,
}

impl<'a> Reading<'a> {
    fn chunks(&mut self, bytes: &'a [u8]) {
        let mut at = HEADER;
        while at < bytes.len() {
            let mut fields = Fields(&bytes[at..]);
            let (kind, body) = match fields.chunk(self.layout) {
                Ok(chunk) => chunk,
                Err(what) => return self.damaged(at, what),
            };
            if let Err(what) = self.take(kind, body) {
                self.damaged(at, what);
            }
            at = bytes.len() - fields.0.len();
        }
    }

    fn take(&mut self, kind: u32, body: &'a [u8]) -> Result<(), String> {
        let (database, layout) = (&mut self.database, self.layout);
        let fields = Fields(body);
        match kind {
            1 => (self.layout, database.stopped) = fields.configuration(layout)?,
            2 => database.messages.push(fields.message(layout)?),
            3 => database.transfers.push(fields.transfer(layout)?),
            4 => database.retained.push(fields.retained(layout)?),
            5 => database.subscriptions.push(fields.subscription(layout)?),
            6 => database.clients.push(fields.client(layout)?),
            _ => return Err(format!("a chunk of kind {kind} with {} bytes is unknown", body.len())),
        }
        Ok(())
    }

    fn damaged(&mut self, offset: usize, what: String) {
        self.database.damages_count += 1;
        if self.database.damages.len() < DAMAGES_MAX {
            self.database.damages.push(Damage { offset, what });
        }
    }

    /// Brings messages into their order: 2.0 writes the last one first.
    fn sort(&mut self) {
        self.database.messages.sort_by_key(|message| message.number);
        self.database.messages.dedup_by_key(|message| message.number);
    }
}

impl<'a> Database<'a> {
    /// The message of this number.
    #[must_use]
    pub fn message(&self, number: u64) -> Option<&Stored<'a>> {
        let at = self.messages.binary_search_by_key(&number, |message| message.number).ok()?;
        self.messages.get(at)
    }
}

/// What the properties of a message or a transfer say: those of a PUBLISH, which is made in `scratch` around them.
///
/// # Errors
/// What a peer that sent them would be told.
pub fn properties<'s>(properties: &[u8], scratch: &'s mut Vec<u8>) -> Result<Publish<'s>, Violation> {
    scratch.clear();
    // A topic of one letter in front.
    scratch.extend_from_slice(&[0, 1, b'-']);
    scratch.extend_from_slice(if properties.is_empty() { &[0] } else { properties });
    decode_publish(Version::V5, 0x30, scratch)
}
