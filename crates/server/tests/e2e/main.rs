//! The broker as its users meet it: the program itself, and clients that we did not write.
//!
//! Each test starts a broker of its own on a port that the system chooses, and waits for what it expects with a deadline.
//! The clients: `mosquitto_pub` and `mosquitto_sub` (Debian), Paho (Python), MQTT.js (Node), rumqttc (Rust), and our own
//! `pub` and `sub`. `scripts/test.sh` installs them; where one is absent its tests say so and pass, unless
//! `BREAKWATER_E2E=all` is set.
#![forbid(unsafe_code)]
#![cfg(unix)]

mod acme;
mod broker;
mod command_line;
mod configuring;
mod control;
mod durable;
mod ending;
mod haproxy;
mod importing;
mod logging;
mod moving;
mod ports;
mod program;
mod queues;
mod rumqttc_clients;
mod scripts;
mod starting;
mod stopping;
mod store;
mod topics;
mod transports;
mod users;
