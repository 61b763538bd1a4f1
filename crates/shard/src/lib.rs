//! The turn: what one shard does with bytes, mail and time.
//!
//! A [`Shard`] owns connections and sessions. Its driver tells it what is ready and lets it take a [`Shard::turn`]; in
//! the turn it reads, decodes, asks the router, appends to out buffers, fills batches for other shards, and writes each
//! dirty connection once. Nothing in it waits.
//!
//! Promise: no socket, no thread and no clock in here ([`Driver`] hands all of them in), so that the same code runs over
//! a virtual network, and the same inputs give the same run.
//!
//! Not here: pollers and listeners (`net`), what a client and its session owe each other (`session`), who receives what
//! (`router`).
#![forbid(unsafe_code)]

mod admit;
mod auto_subscribe;
mod conn;
mod delayed;
mod deliver;
mod driver;
mod durable;
mod egress;
mod estate;
mod exclusive;
mod farewell;
mod forward;
mod inbox;
mod ingress;
mod keeping;
mod kept;
mod lasting;
mod lifetime;
mod mail;
mod memory;
mod mount;
mod operator;
mod options;
mod pace;
mod papers;
mod pool;
mod porch;
mod profile;
mod publish;
mod refusal;
mod replay;
mod retained;
mod revive;
mod rewrite;
mod roster;
mod route;
mod shard;
mod slab;
mod starts;
mod subscribe;
mod sys;
mod tail;
mod template;
mod timers;
mod totals;
mod wheel;
mod wills;
mod zone;

pub use breakwater_contract::store::Durability;

pub use auto_subscribe::{AutoSubscribe, AutoSubscription};
pub use conn::Cause;
pub use delayed::Delayed;
pub use driver::{Driver, Event, Peer, ReadOutcome, Ready, ShardId, WriteOutcome};
pub use lasting::{Back, Returning, hand_out};
pub use mail::{Batch, Control, Mail};
pub use mount::mountpoint_fault;
pub use options::{Options, QueueTotals, TurnBudget};
pub use profile::{Profile, Rate, Rates};
pub use replay::ReplayRule;
pub use revive::{Found, NOBODY, Revived, revive};
pub use rewrite::{Rewrite, RewriteRule};
pub use shard::{Clock, Setup, Shard, TurnEnd, home_of};
pub use starts::Starts;
pub use sys::{Pages, ShardPage};
