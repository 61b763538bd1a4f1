//! The configuration: every setting of the broker in one table, from which parsing, its errors, the defaults and the reference
//! page come, and the formats in which an operator writes settings down.
//!
//! Promise: text of any kind becomes the plain values that each plane reads, or all of its faults at once, one line each; nothing
//! is dropped in silence, and no input makes it panic.
//!
//! Not here: sockets, signals and threads; what a setting does.
#![forbid(unsafe_code)]

mod acme;
mod apply;
mod document;
mod edit;
mod environment;
mod flags;
mod gather;
mod history;
pub mod import;
mod listener;
mod literal;
mod locate;
mod nearest;
mod plan;
mod raw;
mod reference;
mod resolve;
mod rules;
mod setting;
mod show;
mod surroundings;
mod table;
mod value;

pub use apply::{Live, apply};
pub use document::FILE_BYTES_MAX;
pub use edit::{Edit, edited};
pub use history::{VERSIONS_MAX, Version, content, replace, versions};
pub use listener::{Listener, Scheme};
pub use locate::{CONFIG_VARIABLE, DATA_VARIABLE, data, file};
pub use plan::{Change, Plan, Step, plan};
pub use raw::{Fault, Origin};
pub use reference::reference;
pub use resolve::{
    Authentication, Effective, OnRebind, Reload, Resolved, Sources, StoreSettings, Terms, WhenUnavailable, Zone,
    resolve,
};
pub use setting::{Applies, Setting, Store};
pub use show::{explain, show};
pub use surroundings::{Surroundings, read_bounded};
pub use table::TABLE;
pub use value::{Kind, Value};

#[cfg(test)]
mod tests;
