//! Everything that may stand between a socket and MQTT, over real sockets, with an engine that echoes instead of a shard.
#![forbid(unsafe_code)]

#[path = "authority/authority.rs"]
mod authority;
#[path = "gate/ground.rs"]
mod ground;
#[path = "gate/one_port.rs"]
mod one_port;
#[path = "gate/proxied.rs"]
mod proxied;
#[path = "gate/secure.rs"]
mod secure;
#[path = "gate/web.rs"]
mod web;
