//! A shard's hands: its connections, its mail and its journal.

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use breakwater_contract::Identity;
use breakwater_proto::Instant;
use breakwater_shard::{Batch, Driver, Event, Mail, Peer, ReadOutcome, Ready, ShardId, WriteOutcome};
use breakwater_transport::layers::{Gave, LayerFault, Scratch, Took};
use breakwater_transport::sniff::{Sniffed, sniff};
use breakwater_transport::tls::ClientCheck;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use rustls::pki_types::CertificateDer;

use crate::Journal;
use crate::bell::Bell;
use crate::connections::{BESIDE, BROKEN, Connections, ENDED, Held, LAST_WORDS, WATCHED};
use crate::extra::{Extra, Piped, Via};
use crate::gate::words;
use crate::linger::Linger;
use crate::listener::Protocols;
use crate::passes::Passes;
use crate::pipe::NearEnd;
use crate::refusal::Refusal;
use crate::ring::{Inbox, Outbox, Parcel, Taken};
use crate::roll::{Listener, Pass, Standing};
use crate::token::Watched;

/// A connection on its way from one shard to another.
pub struct Transport {
    stream: Option<TcpStream>,
    extra: Option<Box<Extra>>,
    /// Its place in the counts of its listener.
    pass: Pass,
}

impl std::fmt::Debug for Transport {
    /// Where it leads, never what it carries.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Transport {
    pub(crate) fn pass(&self) -> &Pass {
        &self.pass
    }
}

impl Parcel for Mail<Transport> {
    fn bytes(&self) -> usize {
        Mail::bytes(self)
    }
}

/// The [`Driver`] of one shard. Lives on its thread.
pub struct Sockets {
    shard: ShardId,
    registry: Registry,
    connections: Connections,
    /// Connections that the poller doesn't know yet. Registering waits until the end of the turn: most new ones have left
    /// for their home shard by then, which saves two system calls for each.
    fresh: Vec<u32>,
    /// What is to be told in the next turn, because no edge will.
    again: Vec<(u32, Ready)>,
    outboxes: Vec<Outbox<Mail<Transport>, Box<Batch>>>,
    inboxes: Vec<Inbox<Mail<Transport>, Box<Batch>>>,
    bells: Arc<[Bell]>,
    journal: Box<dyn Journal>,
    /// Which listener each came through.
    passes: Passes,
    /// When the counts of bytes are next shown to others.
    publish_at: Instant,
    now: Instant,
    unix_ms: u64,
    linger: Linger,
    linger_ms: u64,
    /// For connections with layers.
    scratch: Scratch,
    /// Connections whose layers owe bytes to a full socket.
    owing: u32,
}

/// Bytes are counted by the shard for itself, and shown to others that often.
const PUBLISH_MS: u64 = 1000;

/// The mail of one shard: an end of the pair with each shard, itself included.
pub(crate) struct Post {
    pub(crate) outboxes: Vec<Outbox<Mail<Transport>, Box<Batch>>>,
    pub(crate) inboxes: Vec<Inbox<Mail<Transport>, Box<Batch>>>,
}

impl Sockets {
    pub(crate) fn new(
        shard: ShardId,
        registry: Registry,
        post: Post,
        bells: Arc<[Bell]>,
        journal: Box<dyn Journal>,
        linger_ms: u64,
    ) -> Self {
        Self {
            shard,
            registry,
            connections: Connections::default(),
            fresh: Vec::new(),
            again: Vec::new(),
            outboxes: post.outboxes,
            inboxes: post.inboxes,
            bells,
            journal,
            passes: Passes::default(),
            publish_at: Instant(0),
            now: Instant(0),
            unix_ms: 0,
            linger: Linger::default(),
            linger_ms,
            scratch: Scratch::default(),
            owing: 0,
        }
    }

    /// The transport of a connection that was just accepted.
    pub(crate) fn transport(stream: TcpStream, pass: Pass) -> Transport {
        Transport { stream: Some(stream), extra: None, pass }
    }

    /// The transport of a connection that has passed the gate.
    pub(crate) fn transport_with(stream: TcpStream, extra: Option<Box<Extra>>, pass: Pass) -> Transport {
        Transport { stream: Some(stream), extra, pass }
    }

    /// Sends `words` to a peer that is turned away, and lets it read them.
    pub(crate) fn dismiss(&mut self, stream: TcpStream, words: Vec<u8>) {
        self.linger.add(stream, words, self.now, self.now.plus_ms(self.linger_ms));
    }

    /// The transport of a connection whose bytes come from another thread, and which has shown this chain of certificates.
    pub(crate) fn transport_of_pipe(
        near: NearEnd,
        identity: Option<Box<Identity>>,
        chain: Vec<CertificateDer<'static>>,
        pass: Pass,
    ) -> Transport {
        let via = Via::Pipe(Piped { near, chain, fault: None });
        Transport { stream: None, extra: Some(Box::new(Extra { identity, via })), pass }
    }

    /// Connections of a listener on this shard.
    pub(crate) fn connections_of(&self, listener: u16) -> u32 {
        self.passes.here(listener)
    }

    /// Counts a connection that is turned away before it is one of the engine's, and says so once in a while for each address. `detail` adds
    /// what the reason alone does not tell; it may be empty.
    pub(crate) fn refused(&mut self, standing: &Standing, peer: Peer, refusal: Refusal, detail: &str) {
        let Some(count) = standing.refuse(refusal, peer.address.ip(), self.now) else { return };
        let mut reason = format!("{}: {}", standing.name, refusal.text());
        for part in [": ", detail] {
            reason.push_str(if detail.is_empty() { "" } else { part });
        }
        if count > 1 {
            reason.push_str(&format!(" (and {} more for this reason since the last such line)", count - 1));
        }
        let event = Event::Refused { peer, client: "", reason: &reason, code: refusal.code() };
        self.journal.event(self.unix_ms, &event);
    }

    /// Judges the certificate of the next client of a listener, from a slot on; who does not pass fails at its next read.
    /// Answers which slot that was; none if no more follows.
    pub(crate) fn judge_next(&mut self, standing: &Arc<Standing>, check: &ClientCheck, from: u32) -> Option<u32> {
        let mut slot = from;
        loop {
            slot = self.connections.next_beside(slot)?;
            let is_theirs = |listener: &Arc<Listener>| Arc::ptr_eq(&listener.standing, standing);
            if self.passes.listener(slot).is_some_and(is_theirs)
                && let Some((_, _, extra)) = self.connections.get_beside(slot)
                && let Some(counts) = extra.judge(check, self.unix_ms / 1000)
            {
                if !counts {
                    self.again.push((slot, BOTH));
                }
                return Some(slot);
            }
            slot += 1;
        }
    }

    /// Memory that layers of connections hold for buffers at this moment. Looks at all of them: for tests and diagnosis.
    pub fn buffer_bytes(&self) -> usize {
        self.connections.extras().map(Extra::buffer_bytes).sum()
    }

    pub(crate) fn set_time(&mut self, now: Instant, unix_ms: u64) {
        (self.now, self.unix_ms) = (now, unix_ms);
        self.linger.look(now);
    }

    /// When to look at the sockets that linger; none if there are none.
    pub(crate) fn linger_next(&self) -> Option<Instant> {
        self.linger.next()
    }

    /// Start of a turn: what was left over goes out where there is room, calls that came are noted, and batches that came
    /// home are handed out.
    pub(crate) fn collect(&mut self, mut spare: impl FnMut(Box<Batch>)) {
        for (to, outbox) in self.outboxes.iter_mut().enumerate() {
            while let Some(batch) = outbox.spare() {
                spare(batch);
            }
            if outbox.has_news() {
                outbox.acknowledge_call();
                if outbox.flush() {
                    self.bells[to].ring();
                }
            }
        }
    }

    /// Passes the events of a turn on.
    pub(crate) fn end_of_turn(&mut self) {
        self.journal.end_of_turn();
        if self.now >= self.publish_at {
            self.publish_at = self.now.plus_ms(PUBLISH_MS);
            self.passes.publish();
        }
    }

    /// End of a turn: watches the connections that stay, and tells of those that no edge will tell of; one that can't be
    /// watched is told to the shard as broken.
    pub(crate) fn watch_fresh(&mut self, mut told: impl FnMut(u32, Ready)) {
        self.again.drain(..).for_each(|(slot, ready)| told(slot, ready));
        for slot in self.fresh.drain(..) {
            let Some((stream, flags)) = self.connections.get(slot) else { continue };
            if *flags & WATCHED != 0 {
                continue;
            }
            let interest = Interest::READABLE | Interest::WRITABLE;
            match self.registry.register(stream, Watched::Connection(slot).token(), interest) {
                Ok(()) => *flags |= WATCHED,
                Err(_) => {
                    *flags |= BROKEN | ENDED;
                    told(slot, Ready { readable: true, writable: true, read_closed: true });
                }
            }
        }
    }

    /// Whether mail waits, or a neighbour or the way to it wants something. Checked between lying down and sleeping.
    pub(crate) fn has_mail(&self) -> bool {
        self.inboxes.iter().any(Inbox::has_news) || self.outboxes.iter().any(Outbox::has_news)
    }

    /// All mail that this shard ever sent has been taken.
    pub(crate) fn is_settled(&self) -> bool {
        self.outboxes.iter().all(Outbox::is_settled)
    }
}

impl Driver for Sockets {
    type Transport = Transport;

    #[inline]
    fn read(&mut self, slot: u32, buffer: &mut [u8]) -> ReadOutcome {
        let outcome = match self.connections.get(slot) {
            Some((stream, flags)) if *flags & (BROKEN | BESIDE) == 0 => read(stream, flags, buffer),
            _ => self.read_beside(slot, buffer),
        };
        if let ReadOutcome::Bytes(count) | ReadOutcome::More(count) = outcome {
            self.passes.count(slot, count, 0);
        }
        outcome
    }

    #[inline]
    fn write(&mut self, slot: u32, bytes: &[u8]) -> WriteOutcome {
        let outcome = match self.connections.get(slot) {
            Some((stream, flags)) if *flags & (BROKEN | BESIDE) == 0 => write(stream, flags, bytes),
            _ => self.write_beside(slot, bytes),
        };
        if let WriteOutcome::Wrote(count) | WriteOutcome::Held(count) = outcome {
            self.passes.count(slot, 0, count);
        }
        outcome
    }

    fn close(&mut self, slot: u32) {
        let Some(Held { stream, extra, flags }) = self.connections.remove(slot) else { return };
        drop(self.passes.remove(slot));
        let Some(mut stream) = stream else { return };
        if flags & (ENDED | LAST_WORDS) == LAST_WORDS {
            let words = extra.map_or_else(Vec::new, |extra| self.last_words(*extra));
            if flags & WATCHED != 0 {
                let _ = self.registry.deregister(&mut stream);
            }
            self.linger.add(stream, words, self.now, self.now.plus_ms(self.linger_ms));
        } else if extra.is_some_and(|extra| extra.owes()) {
            self.owing -= 1;
        }
        // Else the last descriptor of a socket leaves the poller with it: no call for that.
    }

    fn take(&mut self, slot: u32) -> Transport {
        let Held { mut stream, extra, flags } = self.connections.remove(slot).expect("the shard takes what it has");
        if let Some(Extra { via: Via::Pipe(pipe), .. }) = extra.as_deref() {
            pipe.near.leave();
        }
        if flags & WATCHED != 0
            && let Some(stream) = &mut stream
        {
            // Fails only for what isn't watched, and then there is nothing to undo.
            let _ = self.registry.deregister(stream);
        }
        self.owing -= u32::from(extra.as_ref().is_some_and(|extra| extra.owes()));
        let pass = self.passes.remove(slot).expect("every connection came with one");
        Transport { stream, extra, pass }
    }

    fn place(&mut self, slot: u32, transport: Transport) -> bool {
        if let Some(Extra { via: Via::Pipe(pipe), .. }) = transport.extra.as_deref() {
            self.again.push((slot, pipe.near.settle(self.shard, slot)));
        }
        self.owing += u32::from(transport.extra.as_ref().is_some_and(|extra| extra.owes()));
        self.connections.insert(slot, transport.stream, transport.extra);
        self.passes.insert(slot, transport.pass);
        self.fresh.push(slot);
        true
    }

    fn send(&mut self, to: ShardId, mail: Mail<Transport>) {
        self.outboxes[usize::from(to)].send(mail);
        if to != self.shard {
            self.bells[usize::from(to)].ring();
        }
    }

    fn receive(&mut self, from: ShardId) -> Option<Mail<Transport>> {
        match self.inboxes[usize::from(from)].take() {
            Taken::Mail(mail) => Some(mail),
            Taken::EmptyCall => {
                self.bells[usize::from(from)].ring();
                None
            }
            Taken::Empty => None,
        }
    }

    fn give_back(&mut self, to: ShardId, batch: Box<Batch>) {
        self.inboxes[usize::from(to)].give_back(batch);
    }

    fn backlog_bytes(&self, to: ShardId) -> usize {
        self.outboxes[usize::from(to)].backlog_bytes()
    }

    fn identity(&self, slot: u32) -> Option<&Identity> {
        self.connections.extra(slot)?.identity.as_deref()
    }

    fn fault(&self, slot: u32) -> Option<String> {
        match &self.connections.extra(slot)?.via {
            Via::Layers(layers) => layers.fault().map(ToString::to_string),
            Via::Pipe(pipe) => pipe.fault.as_ref().map(ToString::to_string),
        }
    }

    fn misled(&mut self, slot: u32, peer: Peer, first: &[u8]) {
        let what = sniff(first);
        let detail = match self.connections.extra(slot).map(|extra| &extra.via) {
            None => words::wrong_protocol(what, Protocols::MQTT),
            Some(Via::Layers(layers)) if layers.tls().is_some() => words::wrong_inside(what),
            Some(Via::Layers(_)) => "",
            // Nobody comes to QUIC by mistake.
            Some(Via::Pipe(_)) => return,
        };
        let Some(listener) = self.passes.listener(slot) else { return };
        let standing = Arc::clone(&listener.standing);
        self.refused(&standing, peer, Refusal::Protocol, detail);
        if what == Sniffed::Http {
            // Whoever reads it is a person. A socket that takes nothing so early belongs to none.
            let _ = self.write(slot, words::NOT_HTTP);
        }
    }

    fn event(&mut self, event: Event<'_>) {
        self.journal.event(self.unix_ms, &event);
    }
}

/// The other end of a pipe was at it: try again in the next turn.
const BOTH: Ready = Ready { readable: true, writable: true, read_closed: false };

impl Sockets {
    #[inline(never)]
    fn read_beside(&mut self, slot: u32, buffer: &mut [u8]) -> ReadOutcome {
        match self.connections.get_beside(slot) {
            Some((_, flags, _)) if *flags & BROKEN != 0 => ReadOutcome::Failed,
            Some((Some(stream), flags, Extra { via: Via::Layers(layers), .. })) => {
                let before = layers.owes();
                let took = layers.read(stream, &mut self.scratch, buffer);
                self.owing = self.owing + u32::from(layers.owes()) - u32::from(before);
                read_outcome(took, flags)
            }
            Some((_, _, Extra { via: Via::Pipe(Piped { fault: Some(_), .. }), .. })) => ReadOutcome::Failed,
            Some((_, _, Extra { via: Via::Pipe(pipe), .. })) => pipe.near.read(buffer).unwrap_or_else(|| {
                self.again.push((slot, BOTH));
                ReadOutcome::WouldBlock
            }),
            _ => ReadOutcome::Failed,
        }
    }

    #[inline(never)]
    fn write_beside(&mut self, slot: u32, bytes: &[u8]) -> WriteOutcome {
        match self.connections.get_beside(slot) {
            Some((_, flags, _)) if *flags & BROKEN != 0 => WriteOutcome::Failed,
            Some((Some(stream), flags, Extra { via: Via::Layers(layers), .. })) => {
                let before = layers.owes();
                let gave = layers.write(stream, &mut self.scratch, bytes);
                self.owing = self.owing + u32::from(layers.owes()) - u32::from(before);
                match gave {
                    Gave::Wrote(count) if layers.owes() => WriteOutcome::Held(count),
                    Gave::Wrote(count) => WriteOutcome::Wrote(count),
                    Gave::WouldBlock => WriteOutcome::WouldBlock,
                    Gave::Failed => {
                        *flags |= ENDED;
                        WriteOutcome::Failed
                    }
                }
            }
            Some((_, _, Extra { via: Via::Pipe(pipe), .. })) => pipe.near.write(bytes).unwrap_or_else(|| {
                self.again.push((slot, BOTH));
                WriteOutcome::WouldBlock
            }),
            _ => WriteOutcome::Failed,
        }
    }

    /// Notes that a socket takes bytes again: what its layers owe goes out first. Answers whether all of it did: only then
    /// is the engine to hear.
    #[inline]
    pub(crate) fn writable(&mut self, slot: u32) -> bool {
        self.owing == 0 || self.flush(slot)
    }

    #[cold]
    fn flush(&mut self, slot: u32) -> bool {
        if let Some((Some(stream), _, Extra { via: Via::Layers(layers), .. })) = self.connections.get_beside(slot)
            && layers.owes()
        {
            // A socket that is broken shows it to whoever reads next.
            let done = layers.flush(stream) == Ok(true);
            self.owing -= u32::from(done);
            return done;
        }
        true
    }

    /// What the layers of a connection that is closed have to say.
    fn last_words(&mut self, mut extra: Extra) -> Vec<u8> {
        self.owing -= u32::from(extra.owes());
        match &mut extra.via {
            Via::Layers(layers) => layers.last_words(&mut self.scratch),
            _ => Vec::new(),
        }
    }
}

fn read_outcome(took: Took, flags: &mut u8) -> ReadOutcome {
    // Each layer wants to say good-bye, whatever was written last.
    *flags |= LAST_WORDS;
    match took {
        Took::Bytes(count) => ReadOutcome::Bytes(count),
        Took::More(count) => ReadOutcome::More(count),
        Took::WouldBlock => ReadOutcome::WouldBlock,
        Took::Closed => ReadOutcome::Closed,
        Took::Failed(fault) => {
            if fault == LayerFault::Socket {
                *flags |= ENDED;
            }
            ReadOutcome::Failed
        }
    }
}

#[inline]
fn read(stream: &mut TcpStream, flags: &mut u8, buffer: &mut [u8]) -> ReadOutcome {
    loop {
        let outcome = match stream.read(buffer) {
            Ok(0) => ReadOutcome::Closed,
            Ok(count) => {
                *flags = if count == buffer.len() { *flags | LAST_WORDS } else { *flags & !LAST_WORDS };
                return ReadOutcome::Bytes(count);
            }
            Err(fault) => match fault.kind() {
                io::ErrorKind::WouldBlock => return ReadOutcome::WouldBlock,
                io::ErrorKind::Interrupted => continue,
                _ => ReadOutcome::Failed,
            },
        };
        *flags |= ENDED;
        return outcome;
    }
}

#[inline]
fn write(stream: &mut TcpStream, flags: &mut u8, bytes: &[u8]) -> WriteOutcome {
    loop {
        match stream.write(bytes) {
            Ok(count) => {
                *flags |= LAST_WORDS;
                return WriteOutcome::Wrote(count);
            }
            Err(fault) => match fault.kind() {
                io::ErrorKind::WouldBlock => return WriteOutcome::WouldBlock,
                io::ErrorKind::Interrupted => {}
                _ => {
                    *flags |= ENDED;
                    return WriteOutcome::Failed;
                }
            },
        }
    }
}
