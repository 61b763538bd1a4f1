//! `cargo xtask fuzz`: builds `fuzz/` with coverage on a stable toolchain and runs its targets under libFuzzer.
//!
//! The flags are those that cargo-fuzz would pass; only a C++ compiler is needed besides. Build output lies in
//! `fuzz/target`, so that the flags never touch the workspace's own. Inputs that libFuzzer keeps lie in
//! `fuzz/corpus/<target>` (not in the repository), the ones we wrote in `fuzz/seeds/<target>` (in it).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";
const SECONDS: u32 = 30;

struct Order {
    target: String,
    seconds: u32,
    /// Replays this input instead of searching.
    input: Option<PathBuf>,
}

pub fn command(root: &Path, args: &[String]) -> Result<()> {
    let order = read(args)?;
    let manifest = root.join("fuzz/Cargo.toml");
    let known = targets(&manifest)?;
    let chosen: Vec<&String> = known.iter().filter(|name| order.target == "all" || **name == order.target).collect();
    if chosen.is_empty() {
        bail!("there is no fuzz target `{}`; there are: {}", order.target, known.join(", "));
    }
    let host = host()?;
    build(root, &host)?;
    for target in chosen {
        run(root, &host, target, &order)?;
    }
    Ok(())
}

fn read(args: &[String]) -> Result<Order> {
    let mut args = args.iter();
    let target = args.next().context("which target? (or `all`)")?.clone();
    let mut order = Order { target, seconds: SECONDS, input: None };
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value"))?;
        match arg.as_str() {
            "--seconds" => order.seconds = value.parse().context("--seconds takes a whole number")?,
            "--input" => order.input = Some(PathBuf::from(value)),
            _ => bail!("fuzz takes --seconds N and --input FILE, not {arg}"),
        }
    }
    Ok(order)
}

fn targets(manifest: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(manifest).context("there is no fuzz/Cargo.toml")?;
    let table: toml::Table = text.parse()?;
    let bins = table.get("bin").and_then(toml::Value::as_array).into_iter().flatten();
    Ok(bins.filter_map(|bin| bin.get("name")?.as_str().map(str::to_owned)).collect())
}

fn host() -> Result<String> {
    let out = Command::new("rustc").arg("-vV").output().context("rustc does not start")?;
    let text = String::from_utf8(out.stdout)?;
    let line = text.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    Ok(line.to_owned())
}

fn build(root: &Path, host: &str) -> Result<()> {
    let status = Command::new("cargo")
        .current_dir(root)
        .args(["build", "--locked", "--quiet", "--release"])
        .args(["--manifest-path", "fuzz/Cargo.toml", "--target-dir", "fuzz/target"])
        .args(["--target", host])
        .env("RUSTFLAGS", RUSTFLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .status()
        .context("cargo does not start")?;
    if status.success() { Ok(()) } else { bail!("the fuzz targets do not build") }
}

fn run(root: &Path, host: &str, target: &str, order: &Order) -> Result<()> {
    let fuzz = root.join("fuzz");
    let mut command = Command::new(fuzz.join("target").join(host).join("release").join(target));
    command.current_dir(root).stdin(Stdio::null());
    if let Some(input) = &order.input {
        let status = command.arg(input).status()?;
        return if status.success() { Ok(()) } else { bail!("{target} fails on {}", input.display()) };
    }
    let (corpus, found) = (fuzz.join("corpus").join(target), fuzz.join("artifacts").join(target));
    fs::create_dir_all(&corpus)?;
    fs::create_dir_all(&found)?;
    command.arg(&corpus);
    let seeds = fuzz.join("seeds").join(target);
    if seeds.is_dir() {
        command.arg(&seeds);
    }
    command.args(["-print_final_stats=1", "-timeout=10", "-rss_limit_mb=2048"]);
    command.arg(format!("-max_total_time={}", order.seconds)).arg(format!("-artifact_prefix={}/", found.display()));
    let out = command.output().with_context(|| format!("the fuzz target {target} does not start"))?;
    let text = String::from_utf8_lossy(&out.stderr);
    let stat = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map_or("?", str::trim);
    if out.status.success() {
        let executions = stat("stat::number_of_executed_units:");
        println!("{target}: {executions} executions in {} s, nothing found", order.seconds);
        return Ok(());
    }
    let tail: Vec<&str> = text.lines().rev().take(40).collect();
    for line in tail.iter().rev() {
        println!("{line}");
    }
    bail!(
        "{target} found an input that fails; see fuzz/artifacts/{target}, replay: cargo xtask fuzz {target} --input FILE"
    )
}
