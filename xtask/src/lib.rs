//! The project's own chores, run as `cargo xtask <chore>`.
//!
//! `tidy` holds the rules of the house that no compiler checks, `tie` records which test proves which statement of
//! the specification, `fuzz` runs the fuzz targets on a stable toolchain, `simulate` plays the simulation, `counts`
//! compares instruction counts with the ones kept in `counts.toml`, `crash` kills the broker under clients. Not here: anything that a user of the broker needs.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a chore talks to the terminal")]

use std::path::PathBuf;

pub mod compare;
pub mod counts;
pub mod crash;
pub mod fuzz;
pub mod neighbour;
pub mod simulate;
pub mod tidy;
pub mod tie;

/// The workspace's root folder: this crate lies one level below it.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies inside the workspace").to_path_buf()
}
