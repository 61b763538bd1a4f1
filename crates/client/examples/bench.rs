//! `breakwater bench` on its own.

use breakwater_client::bench::{BenchArgs, run};
use clap::Parser;

fn main() {
    std::process::exit(run(BenchArgs::parse()));
}
