//! `breakwater retained`: what is retained, by whom, and the end of it.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Subcommand;

use super::{ask, report};
use crate::clock::now_unix_s;
use crate::control::{Answer, ROWS_MAX, Request, RetainedRow};
use crate::print;
use crate::sources::Place;

/// What to do with retained messages.
#[derive(Subcommand)]
pub(crate) enum RetainedCommand {
    /// Show those whose topics match a filter: size, QoS, who set them and when, and when they end.
    List {
        /// Which topics; those that begin with $ only if the filter does.
        #[arg(default_value = "#")]
        filter: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
        /// Show so many at most.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=i64::from(ROWS_MAX)))]
        limit: u32,
    },
    /// Show one with its payload.
    Show {
        /// Its topic.
        topic: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Remove those whose topics match a filter. Subscribers are not told.
    Delete {
        /// Which topics.
        filter: String,
        /// Really remove them; without, they are only counted.
        #[arg(long)]
        yes: bool,
    },
}

/// Runs one of the commands.
pub(crate) fn retained(node: &Place, what: RetainedCommand) -> ExitCode {
    match what {
        RetainedCommand::List { filter, json, limit } => match rows(node, &Request::Retained { filter, limit }) {
            Ok((rows, more)) if json => printed(&serde_json::json!({ "messages": rows, "more": more })),
            Ok((rows, more)) => print(table(&rows, more, now_unix_s()).as_bytes()),
            Err(faults) => report(Err(faults)),
        },
        RetainedCommand::Show { topic, json } => match rows(node, &Request::RetainedMessage { topic }) {
            Ok((rows, _)) => match rows.first() {
                Some(row) if json => printed(&serde_json::json!(row)),
                Some(row) => print(page(row, now_unix_s()).as_bytes()),
                None => report(Err(vec!["the broker answered something else".into()])),
            },
            Err(faults) => report(Err(faults)),
        },
        RetainedCommand::Delete { filter, yes } => report(ask(node, &Request::Unretain { filter, really: yes })),
    }
}

fn printed(value: &serde_json::Value) -> ExitCode {
    print(format!("{value:#}\n").as_bytes())
}

fn rows(node: &Place, request: &Request) -> Result<(Vec<RetainedRow>, bool), Vec<String>> {
    match ask(node, request)? {
        Answer::Retained { rows, more } => Ok((rows, more)),
        Answer::Refused { faults } => Err(faults),
        _ => Err(vec!["the broker answered something else".into()]),
    }
}

/// Text of clients as it may stand in a terminal.
fn harmless(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] }).collect()
}

fn by(row: &RetainedRow) -> String {
    match row.by.as_deref() {
        None => "?".into(),
        Some("") => "-".into(),
        Some(name) => harmless(name),
    }
}

/// A time from now, or before it.
fn time(unix_ms: Option<u64>, now_unix_s: i64, none: &str) -> String {
    let Some(unix_ms) = unix_ms else { return none.into() };
    let seconds = (unix_ms / 1000).cast_signed().saturating_sub(now_unix_s);
    let span = match seconds.unsigned_abs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    };
    if seconds > 0 { format!("in {span}") } else { format!("{span} ago") }
}

fn table(rows: &[RetainedRow], more: bool, now_unix_s: i64) -> String {
    let mut lines = vec![["TOPIC", "BYTES", "QOS", "SET BY", "SET", "ENDS"].map(str::to_owned)];
    lines.extend(rows.iter().map(|row| {
        [
            harmless(&row.topic),
            row.bytes.to_string(),
            row.qos.to_string(),
            by(row),
            time(row.set_unix_ms, now_unix_s, "?"),
            time(row.expires_unix_ms, now_unix_s, "never"),
        ]
    }));
    let mut widths = [0; 6];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            // One long topic must not push everything else out of sight.
            *width = (*width).max(cell.chars().count().min(60));
        }
    }
    let mut text = String::new();
    for line in &lines {
        let cells: String = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        let _ = writeln!(text, "{}", cells.trim_end());
    }
    if more {
        text.push_str("there are more: name a narrower filter, or raise --limit\n");
    }
    text
}

fn page(row: &RetainedRow, now_unix_s: i64) -> String {
    let mut text = String::new();
    for (name, value) in [
        ("topic", harmless(&row.topic)),
        ("bytes", row.bytes.to_string()),
        ("QoS", row.qos.to_string()),
        ("set by", by(row)),
        ("set", time(row.set_unix_ms, now_unix_s, "?")),
        ("ends", time(row.expires_unix_ms, now_unix_s, "never")),
    ] {
        let _ = writeln!(text, "{name:9}{value}");
    }
    let (name, payload) = match (&row.payload, &row.payload_hex) {
        (Some(payload), _) => ("payload", payload.lines().map(harmless).collect::<Vec<_>>().join("\n         ")),
        (None, hex) => ("hex", hex.clone().unwrap_or_default()),
    };
    let _ = writeln!(text, "{name:9}{payload}");
    let shown =
        row.payload.as_ref().map_or(0, String::len).max(row.payload_hex.as_ref().map_or(0, |hex| hex.len() / 2));
    if (shown as u64) < row.bytes {
        let _ = writeln!(text, "         … of which these are the first {shown} bytes");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_harmless_and_says_what_is_not_known() {
        let row = |topic: &str, by: Option<&str>| RetainedRow {
            topic: topic.into(),
            bytes: 5,
            by: by.map(Into::into),
            set_unix_ms: Some(1_000_000),
            expires_unix_ms: by.map(|_| 9_000_000_000),
            ..RetainedRow::default()
        };
        let rows = [row("a\u{1b}[2J", Some("")), row("b", None), row("c", Some("meter"))];
        let text = table(&rows, true, 1100);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("a\\u{1b}[2J") && lines[1].contains(" -  ") && lines[1].ends_with("in 104 d"),
            "{text}"
        );
        assert!(
            lines[2].contains("?") && lines[2].ends_with("never") && lines[3].contains("meter   100 s ago"),
            "{text}"
        );
        assert!(lines[4].contains("--limit"));
    }

    #[test]
    fn a_payload_is_text_or_hexadecimal() {
        let row = RetainedRow { bytes: 9, payload: Some("on\u{1b}\noff".into()), ..RetainedRow::default() };
        let text = page(&row, 0);
        assert!(text.contains("payload  on\\u{1b}\n         off\n") && text.contains("the first 7 bytes"), "{text}");
        let row = RetainedRow { bytes: 2, payload_hex: Some("ff00".into()), ..RetainedRow::default() };
        assert!(page(&row, 0).ends_with("hex      ff00\n"));
    }
}
