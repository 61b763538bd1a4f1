//! WebSocket (RFC 6455), as MQTT uses it: the payloads of all binary frames together are the stream of MQTT.
//!
//! A frame is never collected. Payload is handed on as it comes, so that an MQTT packet may be split over frames, and
//! frames may hold many packets, in any way, and a connection keeps a few bytes between two reads.

mod decode;
mod frame;

pub use decode::{Decoded, Decoder, End, Fault};
pub use frame::{HEADER_MAX, Header, OpCode, Role, mask, put_close, put_frame};

/// Close codes that are sent from here (RFC 6455, 7.4.1).
pub mod code {
    /// Done.
    pub const NORMAL: u16 = 1000;
    /// This end goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// Not WebSocket as the RFC has it.
    pub const PROTOCOL: u16 = 1002;
    /// Text, where MQTT needs binary frames.
    pub const UNACCEPTABLE: u16 = 1003;
    /// Text that is not UTF-8.
    pub const INVALID_TEXT: u16 = 1007;
    /// A frame or a message above the bound.
    pub const TOO_BIG: u16 = 1009;
}

#[cfg(test)]
mod tests;
