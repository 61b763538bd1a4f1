//! `cargo xtask counts`: instructions per operation under callgrind, compared with `counts.toml`.
//!
//! Wall time is noise on a shared machine, instruction counts are not. The protocol of the bench binaries, and how to
//! read the figures, is in `docs/benchmarks.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

const FILE: &str = "counts.toml";
const BASELINE: &str = "empty";
/// Between two builds of the same source the counts differ by less than 0.1%; a change below 3% is not worth a stop.
const TOLERANCE: f64 = 0.03;
/// Below this many instructions one instruction more is already above the tolerance.
const SLACK: f64 = 2.0;

/// `crate.bench.scenario` to instructions per iteration.
type Counts = BTreeMap<String, f64>;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Show,
    Check,
    Bless,
}

pub fn command(root: &Path, args: &[String]) -> Result<()> {
    let mut mode = Mode::Show;
    let mut only = "";
    for arg in args {
        match arg.as_str() {
            "--check" => mode = Mode::Check,
            "--bless" => mode = Mode::Bless,
            name if !name.starts_with('-') => only = name,
            other => bail!("counts takes --check or --bless and a part of a name, not {other}"),
        }
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("instruction counts: skipped, valgrind is not installed (apt-get install valgrind)");
        return Ok(());
    }
    let measured = measure(root, only)?;
    let file = root.join(FILE);
    let kept = kept(&file)?;
    let faults = compare(&measured, &kept.counts, only);
    if mode == Mode::Bless {
        let mut all = kept.counts;
        all.retain(|name, _| !name.contains(only));
        all.extend(measured);
        return fs::write(&file, written(&all, &rustc()?)).context("counts.toml cannot be written");
    }
    let rustc = rustc()?;
    if !kept.rustc.is_empty() && kept.rustc != rustc {
        println!("counts.toml was made with rustc {}, this is {rustc}: differences are not faults", kept.rustc);
        return Ok(());
    }
    if mode == Mode::Check && !faults.is_empty() {
        bail!("{}\nif that is the price of what was won: cargo xtask counts --bless", faults.join("\n"));
    }
    Ok(())
}

fn measure(root: &Path, only: &str) -> Result<Counts> {
    let mut counts = Counts::new();
    for (name, binary) in binaries(root)? {
        let scenarios = listed(&binary)?;
        if !scenarios.iter().any(|(scenario, _)| format!("{name}.{scenario}").contains(only)) {
            continue;
        }
        let baseline = instructions(&binary, BASELINE)?;
        for (scenario, iterations) in scenarios.iter().filter(|(scenario, _)| scenario != BASELINE) {
            let full = format!("{name}.{scenario}");
            if full.contains(only) {
                let spent = instructions(&binary, scenario)?.saturating_sub(baseline);
                counts.insert(full, spent as f64 / *iterations as f64);
            }
        }
    }
    Ok(counts)
}

/// Builds the bench binaries; returns them as `crate.bench` with their paths.
fn binaries(root: &Path) -> Result<Vec<(String, PathBuf)>> {
    let out = Command::new("cargo")
        .current_dir(root)
        .args(["bench", "--no-run", "--locked", "--quiet", "--workspace", "--bench", "*", "--message-format=json"])
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("cargo does not start")?;
    if !out.status.success() {
        bail!("the benches do not build");
    }
    let text = String::from_utf8(out.stdout)?;
    let mut found: Vec<(String, PathBuf)> = text.lines().filter_map(artifact).collect();
    found.sort();
    Ok(found)
}

/// One line of cargo's output, when it names the binary of a `[[bench]]`. Cargo writes one flat JSON object per
/// line with fixed keys, so a JSON parser would be a dependency for two strings.
pub(crate) fn artifact(line: &str) -> Option<(String, PathBuf)> {
    if !line.contains("\"reason\":\"compiler-artifact\"") || !line.contains("\"kind\":[\"bench\"]") {
        return None;
    }
    let binary = string_after(line, "\"executable\":\"")?;
    let source = string_after(line, "\"src_path\":\"")?;
    let mut parts = source.rsplit('/');
    let bench = parts.next()?.strip_suffix(".rs")?;
    let name = parts.nth(1)?;
    Some((format!("{name}.{bench}"), PathBuf::from(binary)))
}

fn string_after<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let from = line.find(key)? + key.len();
    line[from..].split('"').next()
}

/// `--list`: one `name iterations` per line.
fn listed(binary: &Path) -> Result<Vec<(String, u64)>> {
    let out =
        Command::new(binary).arg("--list").output().with_context(|| format!("{} does not start", binary.display()))?;
    let text = String::from_utf8(out.stdout)?;
    let row = |line: &str| {
        let (name, iterations) = line.split_once(' ').ok_or_else(|| anyhow!("--list printed `{line}`"))?;
        Ok((name.to_owned(), iterations.trim().parse().with_context(|| format!("--list printed `{line}`"))?))
    };
    text.lines().filter(|line| !line.trim().is_empty()).map(row).collect()
}

fn instructions(binary: &Path, scenario: &str) -> Result<u64> {
    let out = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(binary)
        .args(["--count", scenario])
        // The environment lies on the stack; its size would move the figures.
        .env_clear()
        .output()
        .context("valgrind does not start")?;
    let text = String::from_utf8_lossy(&out.stderr);
    if !out.status.success() {
        bail!("{} --count {scenario} failed:\n{text}", binary.display());
    }
    let line = text.lines().find_map(|line| line.split_once("Collected :")).context("callgrind printed no count")?;
    line.1.trim().parse().context("callgrind printed no number")
}

struct Kept {
    rustc: String,
    counts: Counts,
}

fn kept(file: &Path) -> Result<Kept> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let table: toml::Table = text.parse().context("counts.toml is not valid TOML")?;
    let mut kept = Kept { rustc: String::new(), counts: Counts::new() };
    for (name, value) in &table {
        match value {
            toml::Value::String(text) if name == "rustc" => kept.rustc.clone_from(text),
            toml::Value::Table(benches) => read_benches(name, benches, &mut kept.counts),
            _ => bail!("counts.toml: `{name}` is not known"),
        }
    }
    Ok(kept)
}

fn read_benches(name: &str, benches: &toml::Table, counts: &mut Counts) {
    for (bench, scenarios) in benches.iter().filter_map(|(bench, value)| Some((bench, value.as_table()?))) {
        for (scenario, value) in scenarios {
            let value = value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64));
            counts.insert(format!("{name}.{bench}.{scenario}"), value.unwrap_or(f64::NAN));
        }
    }
}

/// Prints every figure beside the kept one; returns what is worse than the tolerance allows.
fn compare(measured: &Counts, kept: &Counts, only: &str) -> Vec<String> {
    let mut faults = Vec::new();
    println!("{:<52} {:>12} {:>12} {:>8}", "instructions per iteration", "kept", "here", "");
    for (name, &here) in measured {
        let Some(&before) = kept.get(name) else {
            println!("{name:<52} {:>12} {here:>12.1}      new", "-");
            faults.push(format!("{name}: not in counts.toml"));
            continue;
        };
        let change = (here - before) / before * 100.0;
        println!("{name:<52} {before:>12.1} {here:>12.1} {change:>+7.1}%");
        if is_worse(before, here) {
            faults.push(format!("{name}: {before:.1} -> {here:.1} instructions ({change:+.1}%)"));
        }
    }
    for name in kept.keys().filter(|name| name.contains(only) && !measured.contains_key(*name)) {
        faults.push(format!("{name}: in counts.toml, but no bench counts it"));
    }
    faults
}

fn is_worse(before: f64, here: f64) -> bool {
    !(here <= before * (1.0 + TOLERANCE) || here <= before + SLACK)
}

fn written(counts: &Counts, rustc: &str) -> String {
    let mut out = String::from(
        "# Instructions per iteration under callgrind, release build, x86_64. Written by `cargo xtask counts --bless`;\n\
         # compared in CI, where a rise of more than 3% fails. See docs/benchmarks.md.\n",
    );
    writeln!(out, "rustc = \"{rustc}\"").expect("writing to a String");
    let mut section = "";
    for (name, count) in counts {
        let (bench, scenario) = name.rsplit_once('.').expect("crate.bench.scenario");
        if bench != section {
            writeln!(out, "\n[{bench}]").expect("writing to a String");
            section = bench;
        }
        writeln!(out, "{scenario} = {count:.1}").expect("writing to a String");
    }
    out
}

fn rustc() -> Result<String> {
    let out = Command::new("rustc").arg("--version").output().context("rustc does not start")?;
    let text = String::from_utf8(out.stdout)?;
    Ok(text.split_whitespace().nth(1).unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_the_same() {
        let counts = Counts::from([("proto.codec.a".to_owned(), 12.5), ("proto.codec.b".to_owned(), 7.0)]);
        let table: toml::Table = written(&counts, "1.95.0").parse().expect("valid");
        let mut back = Counts::new();
        read_benches("proto", table["proto"].as_table().expect("a table"), &mut back);
        assert_eq!(back, counts);
        assert_eq!(table["rustc"].as_str(), Some("1.95.0"));
    }

    #[test]
    fn a_rise_above_the_tolerance_is_worse_but_not_for_tiny_counts() {
        assert!(is_worse(1000.0, 1031.0));
        assert!(!is_worse(1000.0, 1029.0));
        assert!(!is_worse(1000.0, 900.0));
        assert!(!is_worse(10.0, 11.0));
        assert!(is_worse(10.0, f64::NAN));
    }

    #[test]
    fn the_binary_of_a_bench_is_found_in_cargos_output() {
        let line = r#"{"reason":"compiler-artifact","target":{"kind":["bench"],"src_path":"/x/crates/proto/benches/codec.rs"},"executable":"/t/codec-1"}"#;
        assert_eq!(artifact(line), Some(("proto.codec".to_owned(), PathBuf::from("/t/codec-1"))));
    }
}
