//! The rules of the house that no compiler checks. Each part reads the tree once loaded and pushes what is wrong.

use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

use self::modules::Modules;
use self::tree::Tree;

mod conformance;
mod crates;
mod edges;
mod features;
mod length;
mod locked;
pub mod modules;
mod names;
mod purity;
pub mod tags;
pub mod tree;
mod words;

/// What a run found. `faults` fail it; `counts` are always printed, `notes` with them.
#[derive(Default)]
pub struct Report {
    pub faults: Vec<String>,
    pub notes: Vec<String>,
    pub counts: Vec<String>,
}

impl Report {
    fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
    }
}

pub fn command(root: &Path, args: &[String]) -> Result<()> {
    let strict = match args {
        [] => false,
        [flag] if flag == "--strict" => true,
        _ => bail!("tidy takes only --strict"),
    };
    let started = Instant::now();
    let mut report = check(root, strict)?;
    locked::check(root, &mut report)?;
    for line in report.counts.iter().chain(&report.notes) {
        println!("{line}");
    }
    for fault in &report.faults {
        println!("fault: {fault}");
    }
    println!("tidy: {} faults, {} ms", report.faults.len(), started.elapsed().as_millis());
    if report.faults.is_empty() { Ok(()) } else { bail!("the tree is not tidy") }
}

/// Checks the whole tree. With `strict`, or with `complete = true` in `conformance.toml`, a statement or a feature
/// without a test is a fault too.
pub fn check(root: &Path, strict: bool) -> Result<Report> {
    let tree = Tree::load(root)?;
    let modules = Modules::of(&tree);
    let mut report = Report::default();
    crates::check(&tree, &mut report)?;
    edges::check(&tree, &mut report)?;
    purity::check(&tree, &modules, &mut report)?;
    modules.check(&tree, &mut report);
    names::check(&tree, &mut report);
    length::check(&tree, &modules, &mut report);
    words::check(&tree, &mut report);
    let strict = conformance::check(&tree, &modules, strict, &mut report)?;
    features::check(&tree, strict, &mut report)?;
    Ok(report)
}
