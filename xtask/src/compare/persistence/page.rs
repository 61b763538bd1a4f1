//! The table of a comparison of what is kept.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::keeper::Keeper;
use super::{Figures, Order};
use crate::compare::table::machine;

const BEGIN: &str = "<!-- persistence: begin; written by `cargo xtask compare persistence --write` -->";
const END: &str = "<!-- persistence: end -->";

/// What is asked of a figure of ours.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// So many times Mosquitto's.
    TimesMosquitto(f64),
}

/// By the row and the figure.
const BOUNDS: [(&str, Bound); 4] = [
    ("queue: drained per second", Bound::TimesMosquitto(3.0)),
    ("acks 1000 x 20: part of raw", Bound::AtLeast(0.5)),
    ("bytes: times the raw loop", Bound::AtMost(4.0)),
    ("sessions: resident bytes per session, after a start", Bound::AtMost(400.0)),
];
/// Seconds for a million queued and a million retained messages, and for ten million queued ones.
const RESTART_S: f64 = 3.0;
const RESTART_10M_S: f64 = 5.0;

pub(super) fn write(path: &Path, page: &str) -> Result<()> {
    let text = fs::read_to_string(path)?;
    let (head, rest) = text.split_once(BEGIN).with_context(|| format!("{} lacks `{BEGIN}`", path.display()))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("{} lacks `{END}`", path.display()))?;
    fs::write(path, format!("{head}{BEGIN}\n\n{page}\n{END}{tail}"))?;
    Ok(())
}

pub(super) fn page(order: &Order, figures: &Figures) -> String {
    let mut page = format!("`{}`, {}.\n\n", order.command, machine());
    let _ = writeln!(
        page,
        "64 bytes of payload, QoS 1. Medians of {} rounds for `queue` and `acks`, one run of the others.\n",
        order.rounds
    );
    page += "| | version | settings | a crash loses |\n|---|---|---|---|\n";
    for peer in &order.peers {
        let (version, settings) = (order.stable.version(*peer), peer.settings());
        let _ = writeln!(page, "| {} | {version} | {settings} | {} |", peer.name(), peer.loses());
    }
    page += "\n| row: figure |";
    for peer in &order.peers {
        let _ = write!(page, " {} |", peer.name());
    }
    page += " fsync / Mosquitto | required | reached |\n|---|";
    page += &"---:|".repeat(order.peers.len() + 3);
    page += "\n";
    for name in names(order, figures) {
        let of = |peer: Keeper| figures.get(&(name.clone(), peer.name())).map_or(f64::NAN, |all| median(all));
        let _ = write!(page, "| {name} |");
        for peer in &order.peers {
            let _ = write!(page, " {} |", figure(of(*peer)));
        }
        let ratio = of(Keeper::Fsync) / of(Keeper::Mosquitto);
        let (required, reached) = match bound(&name) {
            Some(bound) => judge(bound, of(Keeper::Fsync), ratio),
            None => (String::new(), ""),
        };
        let _ = writeln!(page, " {} | {required} | {reached} |", figure(ratio));
    }
    page
}

/// Names of figures, in the order of the rows.
fn names(order: &Order, figures: &Figures) -> Vec<String> {
    let all: BTreeSet<&String> = figures.keys().map(|(name, _)| name).collect();
    let rank = |name: &str| order.rows.iter().position(|row| name.starts_with(row)).unwrap_or(usize::MAX);
    let load = |name: &str| {
        super::LOADS.iter().position(|(publishers, window)| name.starts_with(&format!("acks {publishers} x {window}:")))
    };
    let mut names: Vec<String> = all.into_iter().cloned().collect();
    names.sort_by_key(|name| (rank(name), load(name)));
    names
}

fn bound(name: &str) -> Option<Bound> {
    if name.starts_with("restart") {
        let ten = name.starts_with("restart with 10000000 ");
        return name.contains(": s after").then_some(Bound::AtMost(if ten { RESTART_10M_S } else { RESTART_S }));
    }
    BOUNDS.iter().find(|(wanted, _)| *wanted == name).map(|(_, bound)| *bound)
}

fn judge(bound: Bound, ours: f64, ratio: f64) -> (String, &'static str) {
    let (text, reached) = match bound {
        Bound::AtLeast(least) => (format!("≥ {least}"), ours >= least),
        Bound::AtMost(most) => (format!("≤ {most}"), ours <= most),
        Bound::TimesMosquitto(times) => (format!("≥ {times} x"), ratio >= times),
    };
    let known = if matches!(bound, Bound::TimesMosquitto(_)) { ratio } else { ours };
    (
        text,
        if known.is_nan() {
            ""
        } else if reached {
            "yes"
        } else {
            "no"
        },
    )
}

fn median(values: &[f64]) -> f64 {
    let mut values: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

/// Three digits or so.
pub(super) fn figure(value: f64) -> String {
    match value {
        value if !value.is_finite() => "–".into(),
        value if value.abs() >= 100.0 => format!("{value:.0}"),
        value if value.abs() >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_judged_by_what_is_asked_of_them() {
        let reached = |name: &str, ours, ratio| judge(bound(name).unwrap(), ours, ratio).1;
        assert_eq!(reached("queue: drained per second", 100.0, 3.0), "yes");
        assert_eq!(reached("queue: drained per second", 100.0, 2.9), "no");
        assert_eq!(reached("queue: drained per second", 100.0, f64::NAN), "");
        assert_eq!(reached("sessions: resident bytes per session, after a start", 401.0, 1.0), "no");
        assert_eq!(reached("restart with 1000000 queued and 1000000 retained: s after a kill", 2.9, 1.0), "yes");
        assert_eq!(reached("restart with 10000000 queued: s after a kill", 4.9, 1.0), "yes");
        assert_eq!(bound("restart with 10000000 queued: resident MB then"), None);
    }

    #[test]
    fn the_median_of_rounds_is_the_middle_one_or_between_two() {
        assert_eq!(median(&[3.0, 1.0, f64::NAN, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), 2.5);
        assert!(median(&[]).is_nan());
    }
}
