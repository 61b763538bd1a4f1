//! MQTT 3.1, 3.1.1 and 5.0 on the wire: bytes to borrowed values and back.
//!
//! Promise: nothing is copied or allocated on decode, every malformed packet ends in one named [`Violation`], and no
//! input makes it panic. One crate serves both directions, so the broker and the client share every table.
//!
//! Not here: sockets, clocks, threads, sessions, routing.
#![forbid(unsafe_code)]
#![cfg_attr(
    not(test),
    warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)
)]

pub mod filter;
pub mod frame;
pub mod message;
pub mod packet;
pub mod property;
pub mod reason;
pub mod time;
pub mod topic;
pub mod utf8;
pub mod version;
pub mod violation;

mod cursor;
mod sink;

pub use filter::{FilterError, FilterKind, exclusive, is_wildcard, matches, parse_filter};
pub use frame::{Frame, PacketKind, Split, split};
pub use message::{Message, MessageView};
pub use packet::ack::{Ack, encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel};
pub use packet::auth::Auth;
pub use packet::connack::ConnAck;
pub use packet::connect::{Connect, Will, peek_version};
pub use packet::disconnect::Disconnect;
pub use packet::publish::{OutPublish, Publish, decode_publish};
pub use packet::suback::{SubAck, UnsubAck};
pub use packet::subscribe::{Filters, RetainHandling, Subscribe, SubscribeOptions};
pub use packet::unsubscribe::{Unsubscribe, UnsubscribeFilters};
pub use packet::{Packet, decode, encode_pingreq, encode_pingresp};
pub use property::forward::ForwardProperties;
pub use property::user::UserProperties;
pub use property::{Property, write_user_property};
pub use reason::ReasonCode;
pub use time::Instant;
pub use topic::TopicLimits;
pub use utf8::has_control_chars;
pub use version::{QoS, Version};
pub use violation::Violation;
