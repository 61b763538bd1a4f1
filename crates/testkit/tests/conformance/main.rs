//! Every statement of MQTT 5.0 and 3.1.1 that a broker on a virtual network can show. A test carries the tags of what it
//! shows in the comment above it; `cargo xtask tie` enters them in `conformance.toml`.
//!
//! One file per section of the specification, beside `wire` (packets by hand) and `script` (an authenticator that does
//! as it is told).

mod bridges;
mod certificates;
mod limits;
mod pair;
mod queues;
mod script;
mod section_1_representation;
mod section_2_format;
mod section_3_10_unsubscribe;
mod section_3_12_ping;
mod section_3_14_disconnect;
mod section_3_15_auth;
mod section_3_1_connect;
mod section_3_1_format;
mod section_3_1_will;
mod section_3_2_connack;
mod section_3_3_alias;
mod section_3_3_publish;
mod section_3_3_retain;
mod section_3_4_acks;
mod section_3_8_subscribe;
mod section_4_12_authentication;
mod section_4_13_errors;
mod section_4_1_state;
mod section_4_3_qos;
mod section_4_4_retry;
mod section_4_5_ordering;
mod section_4_7_topics;
mod section_4_8_shared;
mod section_4_9_flow;
mod sys;
mod wills;
mod wire;
