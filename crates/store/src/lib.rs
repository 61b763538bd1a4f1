//! Implementations of the store contract.
//!
//! [`Embedded`] keeps everything in a folder: changes in a log, synced in groups, and what they come to in an index beside it.
//! [`Memory`] keeps everything in memory and is what the tests hold the other one against.
//!
//! ```text
//! submit ─► writer ─► log (one frame, one sync per group) ─► answers
//!                        └─► overlay ─► folder ─► index (redb)
//! ask ─────► reader: index, overlays above it, messages from the log
//! ```
//!
//! Not here: MQTT rules.
#![forbid(unsafe_code)]

mod bytes;
mod disk;
mod embedded;
mod engine;
mod findings;
mod folder;
pub mod foreign;
mod index;
mod log;
mod memory;
mod mover;
mod overlay;
mod reader;
mod record;
mod shared;
mod tools;
mod writer;

pub use disk::{Crash, Disk, DiskFile, Fault, FaultKind, RealDisk, SimulatedDisk, sync_folder};
pub use embedded::Embedded;
pub use engine::{Engine, Options, Tell};
pub use findings::{Finding, Mends, OpenFault};
pub use log::{Frame, read_frame};
pub use memory::Memory;
pub use tools::{FINDINGS_MAX, Stats, UNFINISHED};
