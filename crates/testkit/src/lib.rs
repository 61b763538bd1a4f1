//! A broker in a box: real shards over a virtual network and a virtual clock, in one thread.
//!
//! ```
//! use breakwater_proto::{Packet, QoS, ReasonCode};
//! use breakwater_testkit::Broker;
//!
//! let broker = Broker::new(); // or: Broker::with(|options, router| ..).shards(4)
//! let mut sensor = broker.client("sensor").connect(); // 5.0, clean start, no keep-alive
//! let mut reader = broker.client("reader").v311().persistent().connect();
//! assert_eq!(reader.subscribe("room/+", QoS::AtLeastOnce).suback().codes, [1]);
//! assert_eq!(sensor.publish("room/1", QoS::AtLeastOnce, b"21"), ReasonCode::Success);
//! let message = reader.message(); // takes the next packet and acknowledges it
//! assert_eq!((message.publish().topic, message.publish().payload), ("room/1", &b"21"[..]));
//!
//! let mut raw = broker.connect(); // nothing but bytes
//! raw.send(&[0xC0, 0]);
//! assert!(raw.is_closed());
//! # sensor.send_packet(&Packet::PingReq);
//! # sensor.expect(&Packet::PingResp);
//! ```
//!
//! - A [`Client`] that **sends** only queues bytes (`send`, `send_packet`, `send_publish`, `send_subscribe`). What
//!   **waits** for something first lets the broker take turns until it rests (`receive`, `try_next`, `next_packet`,
//!   `expect`, `message`, `is_closed`, and all that takes an answer: `subscribe`, `publish`, `ping`, ..).
//! - [`Received`] owns one packet; `received.packet()` borrows the decoded form, `received.publish()` and its like panic
//!   with what came instead.
//! - `next_packet` acknowledges nothing; `message` and `payloads` do.
//! - Time stands still but for [`Broker::advance`]. A connection whose reading was paused goes on when time passes.
//! - Network: `half_close` (FIN), `reset` (RST), `window(bytes)`/`stop_reading`/`resume_reading` (the broker's socket is
//!   full), `nudge` (an edge without a reason). Edges come once, and carry all that is true, as with `epoll`.
//! - Shards: `broker.shard_of(id)`, `broker.id_at(shard, prefix)`, `.at(shard)` on a CONNECT, `broker.turn(shard)` for a
//!   single turn. By default shards accept in turn, so that with several of them most clients move once.
//! - Transports: `.over(Transport::Tls)`, or `BREAKWATER_TRANSPORT=ws|tls|wss` for a whole run of the tests: what a client
//!   says and hears goes through the layers of a real listener, and back through those of a real client.
//! - Store: none that lasts, unless `.on_disk(&disk)` names a simulated one; `disk.after(Crash::..)` is what a crash leaves of
//!   it, for the next broker. Its threads work whenever the shards rest, unless `halt_store` stops them.
//! - Inside: `broker.counter(Metric::..)`, `broker.events()`, `sessions()`, `connections()`, `held_bytes()`.
//!
//! Promise: the same calls give the same run.
//!
//! Not here: real sockets and threads (`net`).
#![forbid(unsafe_code)]

mod broker;
mod chance;
mod client;
mod connecting;
mod event;
mod hands;
mod mailboxes;
mod network;
mod received;
pub mod simulation;
mod stored;
mod transport;
mod world;

pub use broker::Broker;
pub use chance::Chance;
pub use client::{Client, out_publish};
pub use connecting::Connecting;
pub use event::Logged;
pub use network::Wire;
pub use received::Received;
pub use transport::Transport;
