//! What a reader of the repository cannot follow does not stand in it: paths of one machine, numbers of a tracker.

use super::Report;
use super::tree::{SourceFile, Tree};

/// Written in two halves so that this file passes its own check.
const PLACES: [&str; 5] = [
    concat!("../sha", "red"),
    concat!("/work/ma", "in"),
    concat!("/work/sha", "red"),
    concat!("/tmp/pl", "an"),
    concat!("/root", "/."),
];

pub(super) fn check(tree: &Tree, report: &mut Report) {
    for file in &tree.files {
        for (at, line) in file.text.lines().enumerate() {
            if let Some(place) = PLACES.iter().find(|place| line.contains(*place)) {
                report.fault(format!("{}:{}: `{place}` means nothing to a reader", file.path, at + 1));
            }
            if names_an_issue(line) {
                report.fault(format!("{}:{}: say what was wrong, not the issue's number", file.path, at + 1));
            }
        }
        unfinished(file, report);
    }
}

fn unfinished(file: &SourceFile, report: &mut Report) {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    if !file.path.ends_with(".rs") {
        return;
    }
    for (at, line) in file.text.lines().enumerate() {
        let comment = line.split_once("//").map_or("", |(_, comment)| comment);
        if let Some(mark) = marks.iter().find(|mark| comment.contains(*mark)) {
            report.fault(format!(
                "{}:{}: `{mark}` in a comment: do it or write it down as an issue",
                file.path,
                at + 1
            ));
        }
    }
}

/// The word with a number behind it, with or without `#`, in any case.
fn names_an_issue(line: &str) -> bool {
    let lower = line.to_ascii_lowercase();
    lower.match_indices("issue").any(|(at, word)| {
        let rest = lower[at + word.len()..].trim_start_matches([' ', '#']);
        rest.len() < lower.len() - at - word.len() && rest.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_number_is_found_and_a_plain_word_is_not() {
        assert!(names_an_issue(concat!("// see iss", "ue #12")));
        assert!(names_an_issue(concat!("Iss", "ue 7 asks")));
        assert!(!names_an_issue("open an issue, 2 days later"));
        assert!(!names_an_issue("issues"));
    }
}
