//! The [`Driver`] of one shard for the length of one call: a view of the virtual node.

use breakwater_contract::Identity;
use breakwater_proto::Instant;
use breakwater_shard::{Batch, Driver, Event, Mail, ReadOutcome, ShardId, WriteOutcome};

use crate::event::Logged;
use crate::mailboxes::Mailboxes;
use crate::network::{Network, Wire};

/// What all shards of a virtual node share.
pub(crate) struct Fabric {
    pub(crate) network: Network,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) events: Vec<Noted>,
    /// Time of the turn under way.
    pub(crate) now: Instant,
    /// Off in measurements.
    pub(crate) keep_events: bool,
}

/// A log event with its time and the port of the peer that it is about.
pub(crate) struct Noted {
    pub(crate) at: Instant,
    pub(crate) port: u16,
    pub(crate) logged: Logged,
}

pub(crate) struct Hands<'a> {
    pub(crate) shard: ShardId,
    pub(crate) fabric: &'a mut Fabric,
}

impl Driver for Hands<'_> {
    type Transport = Wire;

    fn read(&mut self, slot: u32, buffer: &mut [u8]) -> ReadOutcome {
        self.fabric.network.read(self.shard, slot, buffer)
    }

    fn write(&mut self, slot: u32, bytes: &[u8]) -> WriteOutcome {
        self.fabric.network.write(self.shard, slot, bytes)
    }

    fn close(&mut self, slot: u32) {
        self.fabric.network.close(self.shard, slot);
    }

    fn take(&mut self, slot: u32) -> Wire {
        self.fabric.network.take(self.shard, slot)
    }

    fn place(&mut self, slot: u32, transport: Wire) -> bool {
        self.fabric.network.place(self.shard, slot, &transport);
        true
    }

    fn send(&mut self, to: ShardId, mail: Mail<Wire>) {
        self.fabric.mailboxes.send(self.shard, to, mail);
    }

    fn receive(&mut self, from: ShardId) -> Option<Mail<Wire>> {
        self.fabric.mailboxes.receive(from, self.shard)
    }

    fn give_back(&mut self, to: ShardId, batch: Box<Batch>) {
        self.fabric.mailboxes.give_back(self.shard, to, batch);
    }

    fn backlog_bytes(&self, to: ShardId) -> usize {
        self.fabric.mailboxes.backlog_bytes(self.shard, to)
    }

    fn identity(&self, slot: u32) -> Option<&Identity> {
        self.fabric.network.identity(self.shard, slot)
    }

    fn event(&mut self, event: Event<'_>) {
        if self.fabric.keep_events {
            let port = match event {
                Event::Connected { peer, .. } | Event::Disconnected { peer, .. } | Event::Refused { peer, .. } => {
                    peer.address.port()
                }
                Event::Fault { .. } => 0,
            };
            self.fabric.events.push(Noted { at: self.fabric.now, port, logged: event.into() });
        }
    }
}
