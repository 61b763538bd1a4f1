//! MQTT over QUIC.

#[cfg_attr(not(test), expect(dead_code, reason = "its endpoint comes next"))]
mod mux;
