//! What other brokers have kept, and how it becomes ours.
//!
//! Pure: bytes in, values out. Where files lie, and what a store knows already, is for whoever calls.

mod intake;
pub mod mosquitto;
mod routing;

pub use intake::{Intake, Known, Reason, Taken, take_in};
