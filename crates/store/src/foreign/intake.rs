//! What Mosquitto has kept, as changes of a store.
//!
//! Sessions first, with what they are subscribed to; then retained messages; then those that wait, each once, oldest first, with the
//! deliveries that are under way; last what clients have published and not released: it is later than all the rest.

use std::collections::{BTreeMap, HashMap, HashSet};

use breakwater_contract::store::{
    Change, MessageAt, OutboundState, Retained, SessionNumber, SessionRow, Terms, Wanted,
};
use breakwater_proto::{ForwardProperties, Instant, Message, MessageView, QoS};

use super::mosquitto::{Client, Database, Stage, Stored, Transfer, properties};
use super::routing::{Routes, identify};

/// What the store knows before.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Sessions, by client identifier, and whether their time is over: those give way in any case.
    pub sessions: HashMap<Box<str>, (SessionNumber, bool)>,
    /// Their subscriptions: whose, filter, packed options, Subscription Identifier.
    pub subscriptions: Vec<(SessionNumber, Box<str>, u8, u32)>,
    /// Topics that have a retained message.
    pub topics: HashSet<Box<str>>,
}

/// How something is taken in.
#[derive(Clone, Copy, Debug)]
pub struct Intake {
    /// Unix time.
    pub now_ms: u64,
    /// What the store has gives way to what the file has; else it stays.
    pub replace: bool,
    /// The first revision for retained messages, greater than any that the store knows.
    pub revision: u64,
}

/// Why something was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// A session that the store has already.
    SessionThere,
    /// A session whose time is over.
    SessionExpired,
    /// A session that ends with its connection.
    SessionEnded,
    /// A session of a bridge of Mosquitto's.
    SessionOfBridge,
    /// A session that is in the file twice.
    SessionTwice,
    /// A subscription or message of a client that the file has no session of.
    WithoutSession,
    /// A waiting message that has expired.
    MessageExpired,
    /// A waiting message that is not in the file.
    MessageAbsent,
    /// A waiting message with QoS 0.
    MessageQos0,
    /// A retained message of a topic that the store has one for.
    RetainedThere,
    /// A retained message that has expired.
    RetainedExpired,
    /// A retained message that is not in the file.
    RetainedAbsent,
    /// A retained message of `$SYS`.
    RetainedSys,
}

/// What was taken in, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Retained messages.
    pub retained: u64,
    /// Sessions.
    pub sessions: u64,
    /// Their subscriptions.
    pub subscriptions: u64,
    /// Messages in their queues; one that several want counts for each.
    pub waiting: u64,
    /// How many of these are in flight, and those of which only PUBCOMP is outstanding.
    pub in_flight: u64,
    /// Publishes with QoS 2 that await their PUBREL.
    pub held: u64,
    /// What was left out.
    pub skipped: BTreeMap<Reason, u64>,
    /// Clients whose sessions were left out though they could have been taken, and why; the first ones.
    pub clients: Vec<(Box<str>, Reason)>,
}

/// Clients that are told by name.
const CLIENTS_MAX: usize = 20;
/// A batch that has grown so far goes off.
const BATCH_BYTES: usize = 1 << 20;

/// Takes in what a file holds. `number`: a number for a new session. `submit`: takes the next batch. The clock of the messages'
/// expiry has to be Unix time, in milliseconds.
///
/// # Errors
/// Those of `submit`.
pub fn take_in(
    database: &Database<'_>,
    known: &Known,
    intake: Intake,
    number: &mut dyn FnMut() -> SessionNumber,
    submit: &mut dyn FnMut(&[Change]) -> Result<(), String>,
) -> Result<Taken, String> {
    let batch = Batch { changes: Vec::new(), bytes: 0, messages: 0, submit };
    let mut taking = Taking { database, known, intake, taken: Taken::default(), batch, scratch: Vec::new() };
    let sessions = taking.sessions(number)?;
    let routes = taking.subscriptions(&sessions)?;
    taking.retained()?;
    taking.transfers(&sessions, &routes)?;
    taking.batch.flush()?;
    Ok(taking.taken)
}

/// Sessions of the file, by client identifier: what they are called in the store if they are taken.
type Sessions<'a> = HashMap<&'a str, Option<SessionNumber>>;

/// A message for a session, and the packet identifier if it is in flight with QoS 2.
#[derive(Clone, Copy)]
struct Delivery {
    message: u64,
    wanted: Wanted,
    packet_id: Option<u16>,
}

struct Taking<'a, 's> {
    database: &'a Database<'a>,
    known: &'a Known,
    intake: Intake,
    taken: Taken,
    batch: Batch<'s>,
    scratch: Vec<u8>,
}

impl<'a> Taking<'a, '_> {
    fn skip(&mut self, reason: Reason) {
        *self.taken.skipped.entry(reason).or_default() += 1;
    }

    fn sessions(&mut self, number: &mut dyn FnMut() -> SessionNumber) -> Result<Sessions<'a>, String> {
        let mut sessions = Sessions::new();
        for client in &self.database.clients {
            if sessions.contains_key(client.id) {
                self.skip(Reason::SessionTwice);
                continue;
            }
            let taken = self.session(client, number)?;
            sessions.insert(client.id, taken);
        }
        Ok(sessions)
    }

    fn session(
        &mut self,
        client: &Client<'_>,
        number: &mut dyn FnMut() -> SessionNumber,
    ) -> Result<Option<SessionNumber>, String> {
        let there = self.known.sessions.get(client.id).copied();
        let life = match life(client, self.intake.now_ms) {
            Ok(_) if is_bridge(client) => Err(Reason::SessionOfBridge),
            Ok(_) if there.is_some_and(|(_, over)| !over) && !self.intake.replace => Err(Reason::SessionThere),
            life => life,
        };
        let (expiry_s, detached_unix_ms) = match life {
            Ok(life) => life,
            Err(reason) => {
                self.skip(reason);
                let named = matches!(reason, Reason::SessionOfBridge | Reason::SessionThere);
                if named && self.taken.clients.len() < CLIENTS_MAX {
                    self.taken.clients.push((client.id.into(), reason));
                }
                return Ok(None);
            }
        };
        if let Some((there, _)) = there {
            self.batch.put(Change::RemoveSession(there), 0)?;
        }
        let row = SessionRow {
            number: number(),
            client_id: client.id.into(),
            user: client.user.into(),
            expiry_s,
            detached_unix_ms,
            will: None,
            attributes: Box::default(),
        };
        let taken = row.number;
        self.batch.put(Change::Session(Box::new(row)), client.id.len() + client.user.len())?;
        self.taken.sessions += 1;
        Ok(Some(taken))
    }

    fn subscriptions(&mut self, sessions: &Sessions<'a>) -> Result<Routes<'a>, String> {
        let mut routes = Routes::default();
        // Looked through only where somebody has published and not released.
        if self.database.transfers.iter().any(|transfer| transfer.stage == Stage::Held) {
            let replaced = |client: &str| sessions.get(client).is_some_and(Option::is_some);
            let known = self.known.sessions.iter();
            let gone: HashSet<SessionNumber> =
                known.filter(|(client, _)| replaced(client)).map(|(_, (number, _))| *number).collect();
            for (number, filter, options, identifier) in &self.known.subscriptions {
                if !gone.contains(number) {
                    routes.add(*number, filter, *options, *identifier);
                }
            }
        }
        for subscription in &self.database.subscriptions {
            let Some(session) = sessions.get(subscription.client) else {
                self.skip(Reason::WithoutSession);
                continue;
            };
            let Some(session) = *session else { continue };
            let (filter, options, identifier) =
                (subscription.filter, subscription.options.as_byte(), subscription.identifier);
            routes.add(session, filter, options, identifier);
            self.batch.put(Change::Subscribe { session, filter: filter.into(), options, identifier }, filter.len())?;
            self.taken.subscriptions += 1;
        }
        Ok(routes)
    }

    fn transfers(&mut self, sessions: &Sessions<'a>, routes: &Routes<'a>) -> Result<(), String> {
        let mut queues = Queues::default();
        let mut held = Vec::new();
        for transfer in &self.database.transfers {
            let Some(session) = sessions.get(transfer.client) else {
                self.skip(Reason::WithoutSession);
                continue;
            };
            let Some(session) = *session else { continue };
            match transfer.stage {
                Stage::Queued | Stage::Sent => match self.delivery(session, transfer) {
                    Ok(delivery) => queues.join(delivery),
                    Err(reason) => self.skip(reason),
                },
                Stage::Received => {
                    let (packet_id, state) = (transfer.packet_id, OutboundState::Received);
                    self.batch.put(Change::Outbound { session, packet_id, state, message: None }, 0)?;
                    self.taken.in_flight += 1;
                }
                Stage::Held => held.push((session, transfer)),
                Stage::Over => {}
            }
        }
        let Queues { mut in_order, behind, .. } = queues;
        in_order.sort_by_key(|delivery| delivery.message);
        for alike in in_order.chunk_by(|one, next| one.message == next.message) {
            self.send(alike)?;
        }
        for delivery in &behind {
            self.send(std::slice::from_ref(delivery))?;
        }
        for (session, transfer) in held {
            self.hold(session, transfer, routes)?;
        }
        Ok(())
    }

    fn delivery(&mut self, session: SessionNumber, transfer: &Transfer<'_>) -> Result<Delivery, Reason> {
        let message = self.database.message(transfer.message).ok_or(Reason::MessageAbsent)?;
        if self.has_expired(message) {
            return Err(Reason::MessageExpired);
        }
        if transfer.qos == QoS::AtMostOnce {
            return Err(Reason::MessageQos0);
        }
        let mut terms = Terms { qos: transfer.qos, retain: transfer.retain, ..Terms::default() };
        if let Ok(publish) = properties(transfer.properties, &mut self.scratch) {
            publish.subscription_identifiers().for_each(|identifier| identify(&mut terms, identifier));
        }
        let sent = transfer.stage == Stage::Sent;
        self.taken.in_flight += u64::from(sent);
        // With QoS 1 it is sent again, under whatever identifier: a broker's own store does not know of these either.
        let packet_id = (sent && transfer.qos == QoS::ExactlyOnce).then_some(transfer.packet_id);
        Ok(Delivery { message: transfer.message, wanted: Wanted { session, terms }, packet_id })
    }

    fn has_expired(&self, message: &Stored<'_>) -> bool {
        message.expires_s.is_some_and(|at| at.saturating_mul(1000) <= self.intake.now_ms)
    }

    /// One message, for all of them.
    fn send(&mut self, deliveries: &[Delivery]) -> Result<(), String> {
        let Some(message) = deliveries.first().and_then(|first| self.database.message(first.message)) else {
            return Ok(());
        };
        let nth = self.put_message(message, deliveries.iter().map(|delivery| delivery.wanted).collect())?;
        for delivery in deliveries {
            let Some(packet_id) = delivery.packet_id else { continue };
            let (session, state) = (delivery.wanted.session, OutboundState::Sent);
            let message = Some(MessageAt::InBatch(nth));
            self.batch.put_with(Change::Outbound { session, packet_id, state, message });
        }
        Ok(())
    }

    /// Answers which message of the batch it is.
    fn put_message(&mut self, message: &Stored<'_>, sessions: Vec<Wanted>) -> Result<u32, String> {
        let kept = self.message(message, message.retain);
        let (bytes, count) = (kept.byte_len() + size_of_val(&*sessions), sessions.len() as u64);
        self.batch.put(Change::Message { message: kept, unix_ms: self.intake.now_ms, sessions }, bytes)?;
        self.taken.waiting += count;
        self.batch.messages += 1;
        Ok(self.batch.messages - 1)
    }

    fn message(&mut self, message: &Stored<'_>, retain: bool) -> Message {
        // Read once already; what does not read has not come this far.
        let properties = properties(message.properties, &mut self.scratch)
            .map_or(ForwardProperties::EMPTY, |publish| publish.properties);
        let view = MessageView {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain,
            properties,
            expires_at: message.expires_s.map(|at| Instant(at.saturating_mul(1000))),
            origin: 0,
        };
        Message::new(&view, &mut Vec::new())
    }

    /// What a client has published and not released. Mosquitto passes such a message on when it is released; here that is done when
    /// it comes, so it is done now.
    fn hold(&mut self, session: SessionNumber, transfer: &Transfer<'_>, routes: &Routes<'_>) -> Result<(), String> {
        if let Some(message) = self.database.message(transfer.message)
            && !self.has_expired(message)
        {
            let wanted = routes.of(session, message);
            if !wanted.is_empty() {
                self.put_message(message, wanted)?;
            }
            if message.retain && (self.intake.replace || !self.known.topics.contains(message.topic)) {
                self.retain(message)?;
            }
        }
        self.batch.put(Change::Inbound { session, packet_id: transfer.packet_id, held: true }, 0)?;
        self.taken.held += 1;
        Ok(())
    }

    fn retained(&mut self) -> Result<(), String> {
        for number in &self.database.retained {
            let reason = match self.database.message(*number) {
                None => Reason::RetainedAbsent,
                Some(message) if message.topic.starts_with("$SYS") => Reason::RetainedSys,
                Some(message) if self.has_expired(message) => Reason::RetainedExpired,
                Some(message) if !self.intake.replace && self.known.topics.contains(message.topic) => {
                    Reason::RetainedThere
                }
                Some(message) => {
                    self.retain(message)?;
                    self.taken.retained += 1;
                    continue;
                }
            };
            self.skip(reason);
        }
        Ok(())
    }

    fn retain(&mut self, message: &Stored<'_>) -> Result<(), String> {
        let revision = self.intake.revision;
        self.intake.revision += 1;
        if message.payload.is_empty() {
            return self.batch.put(Change::Unretain { topic: message.topic.into(), revision }, message.topic.len());
        }
        let kept = self.message(message, true);
        let bytes = kept.byte_len();
        let (set_unix_ms, by) = (self.intake.now_ms, message.publisher.into());
        let retained = Retained { message: kept, revision, set_unix_ms, by };
        self.batch.put(Change::Retain(Box::new(retained)), bytes)
    }
}

/// Session Expiry Interval and when the connection ended, in Unix time.
fn life(client: &Client<'_>, now_ms: u64) -> Result<(u32, u64), Reason> {
    let Some(ends_ms) = client.ends_s.map(|ends| ends.saturating_mul(1000)) else {
        // A client that was there when the file was written, or one that never goes.
        return if client.expiry_s == 0 { Err(Reason::SessionEnded) } else { Ok((client.expiry_s, now_ms.max(1))) };
    };
    if ends_ms <= now_ms {
        return Err(Reason::SessionExpired);
    }
    let left_ms = ends_ms.saturating_sub(u64::from(client.expiry_s) * 1000);
    if client.expiry_s != u32::MAX && (1..=now_ms).contains(&left_ms) {
        return Ok((client.expiry_s, left_ms));
    }
    // Mosquitto ends sessions earlier than they ask for (`persistent_client_expiration`).
    let rest_s = u32::try_from((ends_ms - now_ms).div_ceil(1000)).unwrap_or(u32::MAX);
    Ok((rest_s, now_ms.max(1)))
}

/// Whether it is a bridge of Mosquitto's own, by the name that it gives itself: nobody will ever come and take up its session.
fn is_bridge(client: &Client<'_>) -> bool {
    client.id.starts_with("local.") && client.port == 0 && client.user.is_empty()
}

/// Deliveries in the order of their queues.
#[derive(Default)]
struct Queues {
    /// Where the order of each queue is that of the messages.
    in_order: Vec<Delivery>,
    /// What comes behind a message that is later: a retained one, or one that a session gets twice. Messages are stored once and in one
    /// order, so that these, and all behind them, get a copy of their own.
    behind: Vec<Delivery>,
    /// Of each session, the lowest message that can come next; none once one is behind.
    next: HashMap<SessionNumber, Option<u64>>,
}

impl Queues {
    fn join(&mut self, delivery: Delivery) {
        let number = delivery.message;
        let next = self.next.entry(delivery.wanted.session).or_insert(Some(0));
        if next.is_some_and(|next| next <= number) {
            *next = number.checked_add(1);
            self.in_order.push(delivery);
        } else {
            *next = None;
            self.behind.push(delivery);
        }
    }
}

/// Changes on their way to the store.
struct Batch<'s> {
    changes: Vec<Change>,
    bytes: usize,
    messages: u32,
    submit: &'s mut dyn FnMut(&[Change]) -> Result<(), String>,
}

impl Batch<'_> {
    fn put(&mut self, change: Change, bytes: usize) -> Result<(), String> {
        if self.bytes + bytes > BATCH_BYTES {
            self.flush()?;
        }
        self.bytes += bytes + size_of::<Change>();
        self.changes.push(change);
        Ok(())
    }

    /// One that belongs to what was put last.
    fn put_with(&mut self, change: Change) {
        self.bytes += size_of::<Change>();
        self.changes.push(change);
    }

    fn flush(&mut self) -> Result<(), String> {
        if !self.changes.is_empty() {
            (self.submit)(&self.changes)?;
        }
        self.changes.clear();
        (self.bytes, self.messages) = (0, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
