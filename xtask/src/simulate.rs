//! `cargo xtask simulate`: plays seeds of the simulation in `breakwater-testkit`, in a release build.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

const SEEDS: &str = "0..10000";

pub fn command(root: &Path, args: &[String]) -> Result<()> {
    let seeds = match args {
        [] => SEEDS,
        [flag, seeds] if flag == "--seeds" => seeds,
        [seeds] if !seeds.starts_with('-') => seeds,
        _ => bail!("simulate takes --seeds A..B, or one seed to see all of it"),
    };
    let status = Command::new("cargo")
        .current_dir(root)
        .args([
            "run",
            "--release",
            "--locked",
            "--quiet",
            "-p",
            "breakwater-testkit",
            "--example",
            "simulate",
            "--",
            seeds,
        ])
        .status()
        .context("cargo does not start")?;
    if status.success() { Ok(()) } else { bail!("a promise was broken: the seed is above") }
}
