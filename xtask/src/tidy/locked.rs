//! The lock file of the fuzz targets, which are no members of the workspace: no other build notices that it is stale, and theirs comes
//! last.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Report;

const MANIFEST: &str = "fuzz/Cargo.toml";

/// Asks cargo, which may have to fetch what the fuzz targets alone depend on. What else goes wrong there is not for this check.
pub(super) fn check(root: &Path, report: &mut Report) -> Result<()> {
    if !root.join(MANIFEST).exists() {
        return Ok(());
    }
    let out = Command::new("cargo")
        .current_dir(root)
        .args(["metadata", "--locked", "--format-version", "1", "--manifest-path", MANIFEST])
        .output()
        .context("cargo does not start")?;
    if !out.status.success() && is_stale(&String::from_utf8_lossy(&out.stderr)) {
        report.fault(format!(
            "fuzz/Cargo.lock does not fit what the crates depend on; mend it: cargo metadata --format-version 1 \
             --manifest-path {MANIFEST} >/dev/null, and commit it"
        ));
    }
    Ok(())
}

fn is_stale(said: &str) -> bool {
    said.contains("--locked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_file_that_does_not_fit_is_told_from_other_trouble() {
        let stale = "error: cannot update the lock file /x/fuzz/Cargo.lock because --locked was passed to prevent this";
        let older =
            "error: the lock file /x/fuzz/Cargo.lock needs to be updated but --locked was passed to prevent this";
        assert!(is_stale(stale) && is_stale(older));
        assert!(!is_stale("error: failed to download from `https://index.crates.io/config.json`"));
    }
}
