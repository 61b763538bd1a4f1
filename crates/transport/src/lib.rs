//! What lies between a socket and MQTT: PROXY protocol, TLS, WebSocket, and telling them apart.
//!
//! Promise: no socket, no clock and no thread in here. Bytes come in, bytes and plain values go out, so that the real
//! sockets of `net`, the virtual network of the tests and our own clients run the same code.
//!
//! Not here: listeners and pollers (`net`), MQTT packets (`proto`).
#![forbid(unsafe_code)]

pub mod layers;
pub mod proxy;
mod scheme;
pub mod sniff;
pub mod tls;
pub mod upgrade;
pub mod ws;

pub use scheme::Scheme;
