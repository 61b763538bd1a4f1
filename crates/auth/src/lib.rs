//! Who may connect, and what they may do.
//!
//! A [`Chain`] asks its links in order until one of them allows or denies: a direct peer on loopback may be anonymous, a
//! client certificate may name its user, and everybody else needs a name and a password that the [users file](users) knows.
//! What costs time is done on threads of its own, bounded in number, memory and queue.
//!
//! Promise: whatever can't be read, or isn't known, lets nobody in. Passwords are never printed, logged or compared in a time
//! that tells of them.
//!
//! Not here: packets, sessions, sockets.
#![forbid(unsafe_code)]

mod chain;
mod date;
mod desk;
mod guess;
mod hash;
mod name;
mod open;
mod queue;
mod refusals;
mod roster;
pub mod users;
mod verified;

pub use chain::{Answer, Chain, ChainOptions, Link, Notice, Voice};
pub use guess::is_guessed_first;
pub use hash::{Hasher, PASSWORD_BYTES_MAX, PasswordHash, generate_password};
pub use name::{NAME_BYTES_MAX, check_name};
pub use open::Open;
pub use roster::Roster;
