//! A file is one idea that a reader can hold.

use super::Report;
use super::modules::Modules;
use super::tree::Tree;

/// Lines of a file without its tests. Functions are held by clippy's `too_many_lines`.
const MOST: usize = 1000;
const JUSTIFY: usize = 600;

pub(super) fn check(tree: &Tree, modules: &Modules, report: &mut Report) {
    let mut longest = (0, "");
    for file in tree.rust().filter(|file| !modules.is_test(&file.path)) {
        let lines = file.lines_without_tests().count();
        if lines > MOST {
            report.fault(format!("{}: {lines} lines without its tests, at most {MOST}", file.path));
        } else if lines > JUSTIFY {
            report.notes.push(format!("{}: {lines} lines, could it be two ideas?", file.path));
        }
        longest = longest.max((lines, file.path.as_str()));
    }
    report.counts.push(format!("longest file: {} ({} lines)", longest.1, longest.0));
}
