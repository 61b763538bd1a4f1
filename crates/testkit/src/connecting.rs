//! From a client identifier to a connected client, in one line.

use breakwater_contract::Identity;
use breakwater_proto::{Connect, ForwardProperties, Packet, QoS, ReasonCode, Version, Will};
use breakwater_shard::ShardId;

use crate::broker::Broker;
use crate::client::Client;
use crate::received::Received;

/// A CONNECT being put together.
pub struct Connecting<'a> {
    broker: Broker,
    connect: Connect<'a>,
    shard: Option<ShardId>,
    listener: u16,
    identity: Option<Identity>,
}

impl<'a> Connecting<'a> {
    pub(crate) fn new(broker: Broker, client_id: &'a str) -> Self {
        Self { broker, connect: Connect::new(Version::V5, client_id), shard: None, listener: 0, identity: None }
    }

    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.connect.version = version;
        self
    }

    #[must_use]
    pub fn v5(self) -> Self {
        self.version(Version::V5)
    }

    #[must_use]
    pub fn v311(self) -> Self {
        self.version(Version::V311)
    }

    #[must_use]
    pub fn v31(self) -> Self {
        self.version(Version::V31)
    }

    /// Clean start (5.0), clean session (3.x). This is the default.
    #[must_use]
    pub fn clean(mut self) -> Self {
        self.connect.clean_start = true;
        self
    }

    /// Takes up a stored session, and (5.0) keeps it for an hour after the connection.
    #[must_use]
    pub fn persistent(self) -> Self {
        let mut next = self.resume();
        next.connect.session_expiry = next.connect.version.is_v5().then_some(3600);
        next
    }

    /// Clean start 0: takes up a stored session.
    #[must_use]
    pub fn resume(mut self) -> Self {
        self.connect.clean_start = false;
        self
    }

    /// Session Expiry Interval (5.0).
    #[must_use]
    pub fn expiry(mut self, seconds: u32) -> Self {
        self.connect.session_expiry = Some(seconds);
        self
    }

    #[must_use]
    pub fn keep_alive(mut self, seconds: u16) -> Self {
        self.connect.keep_alive_s = seconds;
        self
    }

    #[must_use]
    pub fn receive_maximum(mut self, maximum: u16) -> Self {
        self.connect.receive_maximum = Some(maximum);
        self
    }

    #[must_use]
    pub fn will(mut self, topic: &'a str, payload: &'a [u8], qos: QoS, retain: bool) -> Self {
        let properties = ForwardProperties::EMPTY;
        self.connect.will = Some(Will { qos, retain, topic, payload, delay_s: 0, expiry: None, properties });
        self
    }

    /// Will Delay Interval (5.0); after [`Connecting::will`].
    #[must_use]
    pub fn will_delay(mut self, seconds: u32) -> Self {
        self.connect.will.as_mut().expect("a will, before its delay").delay_s = seconds;
        self
    }

    /// Any other field of the CONNECT.
    #[must_use]
    pub fn set(mut self, change: impl FnOnce(&mut Connect<'a>)) -> Self {
        change(&mut self.connect);
        self
    }

    /// Accepted by this shard; otherwise shards accept in turn.
    #[must_use]
    pub fn at(mut self, shard: ShardId) -> Self {
        self.shard = Some(shard);
        self
    }

    /// Accepted by the listener of this number; otherwise by 0.
    #[must_use]
    pub fn on(mut self, listener: u16) -> Self {
        self.listener = listener;
        self
    }

    /// Shows a certificate first.
    #[must_use]
    pub fn shows(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Opens the connection and sends CONNECT, without waiting for anything.
    #[must_use]
    pub fn start(self) -> Client {
        let mut client = self.broker.connect_through(self.listener, self.shard);
        if let Some(identity) = self.identity {
            client.show(identity);
        }
        client.send_packet(&Packet::Connect(self.connect));
        client
    }

    /// Connects and expects to be let in; the CONNACK is in [`Client::connack`].
    #[must_use]
    pub fn connect(self) -> Client {
        let id = self.connect.client_id.to_owned();
        let (mut client, answer) = self.attempt();
        let Some(answer) = answer else { panic!("{id:?} got no CONNACK") };
        assert_eq!(answer.connack().reason, ReasonCode::Success, "{id:?} was turned away");
        client.connack = Some(answer);
        client
    }

    /// Connects and answers with what the broker sent first, if anything.
    #[must_use]
    pub fn attempt(self) -> (Client, Option<Received>) {
        let mut client = self.start();
        let answer = client.try_next();
        (client, answer)
    }
}
