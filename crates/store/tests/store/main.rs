//! Every store by one measure, and the embedded one when its disk does its worst.
#![allow(clippy::unwrap_used, reason = "what fails in the ground of a test ends the test")]

mod contract;
mod crashes;
mod damage;
mod faults;
mod ground;
mod room;
mod tools;
