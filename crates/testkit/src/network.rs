//! The virtual network: byte pipes with edges, as an edge-triggered poller shows them.

use std::io::{self, IoSlice, Read, Write};

use breakwater_contract::Identity;
use breakwater_shard::{ReadOutcome, Ready, ShardId, WriteOutcome};
use breakwater_transport::layers::{Gave, Scratch, Took};

use crate::transport::{Ends, Transport};

/// One connection, from the broker's point of view: what travels between shards instead of a socket.
#[derive(Debug)]
pub struct Wire(pub(crate) u32);

/// No slot, no link.
const NONE: u32 = u32::MAX;
/// Empty buffers kept for reuse.
const SPARES: usize = 1024;

/// All connections of one virtual node.
#[derive(Default)]
pub(crate) struct Network {
    links: Vec<Link>,
    free: Vec<u32>,
    /// Links with an edge to tell, by shard.
    edges: Vec<Vec<u32>>,
    /// Link of each slot, by shard.
    slots: Vec<Vec<u32>>,
    /// Empty buffers: a pipe holds memory only while it holds bytes.
    spares: Vec<Vec<u8>>,
    transport: Transport,
    /// Memory for calls of layers.
    scratch: Scratch,
}

struct Link {
    /// Arrived at the broker and unread; `read` of them are gone.
    inward: Vec<u8>,
    read: usize,
    /// Written by the broker and not yet taken by the client.
    outward: Vec<u8>,
    /// Bytes that the broker may still write before its socket is full.
    window: usize,
    near: Near,
    far: Far,
    /// A writer has met a full socket: room makes an edge.
    full: bool,
    /// An edge is noted in `edges`.
    edge: bool,
    /// What lies above the bytes, if they don't go as they are.
    ends: Option<Box<Ends>>,
    /// What the client has shown before its CONNECT.
    identity: Option<Box<Identity>>,
    /// The client's handle is gone: the link is free once the broker is done with it.
    forgotten: bool,
}

/// The broker's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Near {
    At { shard: ShardId, slot: u32 },
    Travelling,
    Closed,
}

/// The client's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    Open,
    /// It sends no more.
    Finished,
    /// It is gone with a reset.
    Broken,
}

impl Link {
    /// The client reads all that has come; what it has heard.
    fn hear(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.outward);
        self.ends.as_mut().map_or_else(Vec::new, |ends| {
            ends.far.hear(&bytes);
            ends.far.take_heard()
        })
    }

    /// Sends what layers hold back for a full socket. True: some is left.
    fn flush(&mut self) -> bool {
        let Some(mut ends) = self.ends.take() else { return false };
        let owes = ends.near.owes() && !matches!(ends.near.flush(&mut Socket(self)), Ok(true));
        self.ends = Some(ends);
        owes
    }
}

/// The broker's end of a link, as layers see it.
struct Socket<'a>(&'a mut Link);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let end = &mut *self.0;
        let count = buffer.len().min(end.inward.len() - end.read);
        if count == 0 {
            return if end.far == Far::Finished { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        buffer[..count].copy_from_slice(&end.inward[end.read..end.read + count]);
        end.read += count;
        if end.read == end.inward.len() {
            end.read = 0;
            end.inward = Vec::new();
        }
        Ok(count)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = &mut *self.0;
        let count = bytes.len().min(end.window);
        end.full |= count < bytes.len();
        if count == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        end.window = if end.window == usize::MAX { usize::MAX } else { end.window - count };
        end.outward.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut done = 0;
        for part in parts {
            match self.write(part) {
                Ok(count) => done += count,
                Err(fault) if done == 0 => return Err(fault),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Network {
    pub(crate) fn new(shards: u16, transport: Transport) -> Self {
        let lists = || (0..shards).map(|_| Vec::new()).collect();
        Self { edges: lists(), slots: lists(), transport, ..Self::default() }
    }

    pub(crate) fn reserve(&mut self, links: usize, per_shard: usize) {
        self.links.reserve(links);
        self.free.reserve(links);
        self.slots.iter_mut().for_each(|slots| slots.reserve(per_shard));
    }

    /// Gives back the memory of empty buffers.
    pub(crate) fn release_spares(&mut self) {
        self.spares = Vec::new();
    }

    /// A new connection, on its way to being accepted.
    pub(crate) fn open(&mut self) -> u32 {
        let link = Link {
            inward: Vec::new(),
            read: 0,
            outward: Vec::new(),
            window: usize::MAX,
            near: Near::Travelling,
            far: Far::Open,
            full: false,
            edge: false,
            ends: Ends::open(self.transport),
            identity: None,
            forgotten: false,
        };
        if let Some(index) = self.free.pop() {
            self.links[index as usize] = link;
            return index;
        }
        self.links.push(link);
        (self.links.len() - 1) as u32
    }

    // The client's side.

    pub(crate) fn show(&mut self, link: u32, identity: Identity) {
        self.links[link as usize].identity = Some(Box::new(identity));
    }

    /// Bytes arrive at the broker: one edge, however many they are.
    pub(crate) fn arrive(&mut self, link: u32, bytes: &[u8]) {
        let spare = &mut self.spares;
        let end = &mut self.links[link as usize];
        if end.near == Near::Closed || end.far != Far::Open || bytes.is_empty() {
            return;
        }
        if end.inward.capacity() == 0 {
            end.inward = spare.pop().unwrap_or_default();
        }
        match &mut end.ends {
            None => end.inward.extend_from_slice(bytes),
            Some(ends) => end.inward.append(&mut ends.far.say(bytes)),
        }
        self.note_edge(link);
    }

    /// Takes what the broker has written, appended to `into`; the room it took in the socket is free again.
    pub(crate) fn collect(&mut self, link: u32, into: &mut Vec<u8>) -> usize {
        let end = &mut self.links[link as usize];
        if end.ends.is_some() {
            let mut heard = end.hear();
            into.append(&mut heard);
            return heard.len();
        }
        let count = end.outward.len();
        into.extend_from_slice(&end.outward);
        let emptied = std::mem::take(&mut end.outward);
        self.recycle(emptied);
        count
    }

    /// Throws away what the broker has written.
    pub(crate) fn discard(&mut self, link: u32) -> usize {
        if self.links[link as usize].ends.is_some() {
            return self.links[link as usize].hear().len();
        }
        let emptied = std::mem::take(&mut self.links[link as usize].outward);
        let count = emptied.len();
        self.recycle(emptied);
        count
    }

    /// Bytes written by the broker that the client has not taken.
    pub(crate) fn waiting(&mut self, link: u32) -> usize {
        let end = &mut self.links[link as usize];
        if end.ends.is_some() {
            let heard = end.hear();
            end.ends.iter_mut().for_each(|ends| ends.far.put_back(&heard));
            return heard.len();
        }
        end.outward.len()
    }

    /// Bytes that the broker has not read.
    pub(crate) fn unread(&self, link: u32) -> usize {
        let end = &self.links[link as usize];
        end.inward.len() - end.read
    }

    /// From here on the broker can write so many bytes.
    pub(crate) fn set_window(&mut self, link: u32, bytes: usize) {
        let end = &mut self.links[link as usize];
        end.window = bytes;
        if bytes > 0 && end.full {
            end.full = false;
            self.note_edge(link);
        }
    }

    pub(crate) fn finish(&mut self, link: u32) {
        if self.links[link as usize].far == Far::Open {
            self.links[link as usize].far = Far::Finished;
            self.note_edge(link);
        }
    }

    pub(crate) fn reset(&mut self, link: u32) {
        self.links[link as usize].far = Far::Broken;
        let end = &mut self.links[link as usize];
        let emptied = [std::mem::take(&mut end.inward), std::mem::take(&mut end.outward)];
        end.read = 0;
        emptied.into_iter().for_each(|buffer| self.recycle(buffer));
        self.note_edge(link);
    }

    /// An edge without a reason, as pollers send them at times.
    pub(crate) fn nudge(&mut self, link: u32) {
        self.note_edge(link);
    }

    pub(crate) fn is_closed(&self, link: u32) -> bool {
        self.links[link as usize].near == Near::Closed
    }

    /// The client's handle is gone; the connection is not.
    pub(crate) fn forget(&mut self, link: u32) {
        self.links[link as usize].forgotten = true;
        self.release(link);
    }

    /// Connections that the broker holds.
    pub(crate) fn held(&self) -> usize {
        self.links.iter().filter(|link| link.near != Near::Closed).count()
    }

    // The broker's side.

    pub(crate) fn place(&mut self, shard: ShardId, slot: u32, wire: &Wire) {
        let slots = &mut self.slots[usize::from(shard)];
        if slots.len() <= slot as usize {
            slots.resize(slot as usize + 1, NONE);
        }
        assert_eq!(slots[slot as usize], NONE, "shard {shard} places a connection in slot {slot}, which is taken");
        slots[slot as usize] = wire.0;
        self.links[wire.0 as usize].near = Near::At { shard, slot };
        self.links[wire.0 as usize].edge = false;
        // Watching starts with one edge that tells what is.
        self.note_edge(wire.0);
    }

    pub(crate) fn take(&mut self, shard: ShardId, slot: u32) -> Wire {
        let link = self.vacate(shard, slot);
        self.links[link as usize].near = Near::Travelling;
        Wire(link)
    }

    pub(crate) fn close(&mut self, shard: ShardId, slot: u32) {
        let link = self.vacate(shard, slot);
        let end = &mut self.links[link as usize];
        if let Some(ends) = &mut end.ends {
            let last = ends.near.last_words(&mut self.scratch);
            // What the socket does not take is lost, as it is when a real one lingers in vain.
            let _ = Socket(end).write(&last);
        }
        self.drop_near(link);
    }

    /// The broker's end is gone.
    pub(crate) fn drop_near(&mut self, link: u32) {
        let end = &mut self.links[link as usize];
        end.near = Near::Closed;
        end.read = 0;
        let unread = std::mem::take(&mut end.inward);
        self.recycle(unread);
        self.release(link);
    }

    pub(crate) fn read(&mut self, shard: ShardId, slot: u32, buffer: &mut [u8]) -> ReadOutcome {
        let link = self.link(shard, slot);
        let end = &mut self.links[link as usize];
        if end.far == Far::Broken {
            return ReadOutcome::Failed;
        }
        if let Some(mut ends) = end.ends.take() {
            let took = ends.near.read(&mut Socket(end), &mut self.scratch, buffer);
            end.ends = Some(ends);
            return match took {
                Took::Bytes(count) => ReadOutcome::Bytes(count),
                Took::More(count) => ReadOutcome::More(count),
                Took::WouldBlock => ReadOutcome::WouldBlock,
                Took::Closed => ReadOutcome::Closed,
                Took::Failed(_) => ReadOutcome::Failed,
            };
        }
        let count = buffer.len().min(end.inward.len() - end.read);
        if count == 0 {
            return if end.far == Far::Finished { ReadOutcome::Closed } else { ReadOutcome::WouldBlock };
        }
        buffer[..count].copy_from_slice(&end.inward[end.read..end.read + count]);
        end.read += count;
        if end.read == end.inward.len() {
            end.read = 0;
            let emptied = std::mem::take(&mut end.inward);
            self.recycle(emptied);
        }
        ReadOutcome::Bytes(count)
    }

    pub(crate) fn write(&mut self, shard: ShardId, slot: u32, bytes: &[u8]) -> WriteOutcome {
        let link = self.link(shard, slot);
        let spare = &mut self.spares;
        let end = &mut self.links[link as usize];
        if end.far == Far::Broken {
            return WriteOutcome::Failed;
        }
        if let Some(mut ends) = end.ends.take() {
            let gave = ends.near.write(&mut Socket(end), &mut self.scratch, bytes);
            end.ends = Some(ends);
            return match gave {
                Gave::Wrote(count) if end.ends.as_ref().is_some_and(|ends| ends.near.owes()) => {
                    WriteOutcome::Held(count)
                }
                Gave::Wrote(count) => WriteOutcome::Wrote(count),
                Gave::WouldBlock => WriteOutcome::WouldBlock,
                Gave::Failed => WriteOutcome::Failed,
            };
        }
        let count = bytes.len().min(end.window);
        end.full = count < bytes.len();
        if count == 0 {
            return WriteOutcome::WouldBlock;
        }
        end.window = if end.window == usize::MAX { usize::MAX } else { end.window - count };
        if end.outward.capacity() == 0 {
            end.outward = spare.pop().unwrap_or_default();
        }
        end.outward.extend_from_slice(&bytes[..count]);
        WriteOutcome::Wrote(count)
    }

    pub(crate) fn identity(&self, shard: ShardId, slot: u32) -> Option<&Identity> {
        self.links[self.link(shard, slot) as usize].identity.as_deref()
    }

    pub(crate) fn has_edges(&self, shard: ShardId) -> bool {
        !self.edges[usize::from(shard)].is_empty()
    }

    /// Tells every edge of `shard` once. As with a real poller an edge carries all that is true of the socket at present.
    pub(crate) fn poll(&mut self, shard: ShardId, mut tell: impl FnMut(u32, Ready)) {
        let mut edges = std::mem::take(&mut self.edges[usize::from(shard)]);
        for link in edges.drain(..) {
            let end = &mut self.links[link as usize];
            let Near::At { shard: at, slot } = end.near else { continue };
            if at != shard || !end.edge {
                continue;
            }
            end.edge = false;
            let owes = end.flush();
            let over = end.far != Far::Open;
            tell(
                slot,
                Ready {
                    readable: end.inward.len() > end.read || over,
                    writable: (end.window > 0 && !owes) || end.far == Far::Broken,
                    read_closed: over,
                },
            );
        }
        self.edges[usize::from(shard)] = edges;
    }

    fn link(&self, shard: ShardId, slot: u32) -> u32 {
        let link = self.slots[usize::from(shard)].get(slot as usize).copied().unwrap_or(NONE);
        assert_ne!(link, NONE, "shard {shard} uses slot {slot}, where no connection is");
        link
    }

    fn vacate(&mut self, shard: ShardId, slot: u32) -> u32 {
        let link = self.link(shard, slot);
        self.slots[usize::from(shard)][slot as usize] = NONE;
        link
    }

    fn note_edge(&mut self, link: u32) {
        let end = &mut self.links[link as usize];
        if let Near::At { shard, .. } = end.near
            && !end.edge
        {
            end.edge = true;
            self.edges[usize::from(shard)].push(link);
        }
    }

    fn recycle(&mut self, mut buffer: Vec<u8>) {
        if buffer.capacity() > 0 && self.spares.len() < SPARES {
            buffer.clear();
            self.spares.push(buffer);
        }
    }

    fn release(&mut self, link: u32) {
        let end = &mut self.links[link as usize];
        if end.forgotten && end.near == Near::Closed {
            let unread = std::mem::take(&mut end.outward);
            self.recycle(unread);
            self.free.push(link);
        }
    }
}
