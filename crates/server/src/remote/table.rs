//! Answers of a node, for people.

use std::fmt::Write as _;

use breakwater_config::Kind;

use crate::control::{AcmeRow, ListenerRow, StatusRow, StoreRow};

const HEAD: [&str; 7] = ["LISTENER", "PROTOCOL", "ADDRESS", "REACHED FROM", "TLS", "CONNECTIONS", "ACCEPTED"];

/// A line for each port, and one for each that needs a further word.
pub(crate) fn listeners(rows: &[ListenerRow], now_unix_s: i64) -> String {
    let mut cells: Vec<[String; 7]> = vec![HEAD.map(str::to_owned)];
    for row in rows {
        let connections = match row.connections_max {
            0 => row.connections.to_string(),
            most => format!("{}/{most}", row.connections),
        };
        cells.push([
            row.name.clone(),
            row.protocols.clone(),
            row.places.join(" "),
            row.exposure.clone(),
            tls(row, now_unix_s),
            connections,
            row.accepted.to_string(),
        ]);
    }
    let mut widths = [0; 7];
    for line in &cells {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for (at, line) in cells.iter().enumerate() {
        let mut padded = String::new();
        for (cell, width) in line.iter().zip(widths) {
            let _ = write!(padded, "{cell:width$}  ");
        }
        let _ = writeln!(text, "{}", padded.trim_end());
        if let Some(row) = at.checked_sub(1).and_then(|at| rows.get(at)) {
            further(&mut text, row);
        }
    }
    text
}

/// What doesn't fit into a column.
fn further(text: &mut String, row: &ListenerRow) {
    if let Some(fault) = &row.fault {
        let _ = writeln!(text, "    not open: {fault}");
    }
    if !row.refused.is_empty() {
        let refused: Vec<String> = row.refused.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let _ = writeln!(text, "    refused: {}", refused.join(", "));
    }
    if row.bytes_in + row.bytes_out > 0 {
        let size = Kind::Bytes { min: 0, max: u64::MAX };
        let per_second = |bytes: u64| bytes / row.open_for_s.max(1);
        let _ = writeln!(
            text,
            "    bytes: {} in, {} out ({} and {} a second on average)",
            size.written(row.bytes_in),
            size.written(row.bytes_out),
            size.written(per_second(row.bytes_in)),
            size.written(per_second(row.bytes_out))
        );
    }
}

/// State of its certificate in a word or two.
fn tls(row: &ListenerRow, now_unix_s: i64) -> String {
    let Some(soonest) = row.certificates.iter().min_by_key(|certificate| certificate.not_after) else {
        return "none".into();
    };
    let kind = if soonest.self_made { "self-made" } else { "yes" };
    match (soonest.not_after - now_unix_s).div_euclid(24 * 3600) {
        ..0 => format!("{kind}, expired"),
        days => format!("{kind}, {days} days"),
    }
}

/// A node in a few lines.
pub(crate) fn status(status: &StatusRow) -> String {
    let mut text = String::new();
    let config = status.config.as_deref().unwrap_or("none: defaults, and what flags and environment say");
    let _ = writeln!(text, "breakwater {}, process {}, up {} s", status.version, status.pid, status.up_s);
    let _ = writeln!(text, "shards         {}", status.shards);
    let _ = writeln!(text, "connections    {}", status.connections);
    let _ = writeln!(text, "configuration  {config}");
    let _ = writeln!(text, "store          {}", store(&status.store));
    text
}

fn store(store: &StoreRow) -> String {
    if !store.open {
        return "memory: nothing outlasts the process".to_owned();
    }
    let mut text = store.durability.clone();
    if !store.zones.is_empty() {
        let zones: Vec<String> = store.zones.iter().map(|(zone, durability)| format!("{zone}: {durability}")).collect();
        text += &format!(" (zones {})", zones.join(", "));
    }
    text += &format!(", {}", store.condition);
    if store.damages > 0 {
        text += &format!(", {} things lost or set aside", store.damages);
    }
    if store.waiting_bytes > 0 {
        text += &format!(", {} bytes wait to be written", store.waiting_bytes);
    }
    if let Some(fault) = store.fault.as_ref().filter(|_| store.condition != "well") {
        text += &format!(": {fault}");
    }
    text
}

/// A certificate in a few lines each.
pub(crate) fn certificates(rows: &[AcmeRow], now_unix_s: i64) -> String {
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(text, "{}: {} from {}", row.name, row.domains.join(", "), row.directory);
        let state = match row.not_after.map(|end| (end - now_unix_s).div_euclid(24 * 3600)) {
            None => "none yet: listeners show the self-made one".to_owned(),
            Some(..0) => "has expired".to_owned(),
            Some(days) => format!("good for {days} days"),
        };
        let next = span((row.next - now_unix_s).max(0));
        let _ = writeln!(text, "    certificate  {state}");
        let _ = writeln!(text, "    next order   {next}");
        if let Some(fault) = &row.fault {
            let _ = writeln!(text, "    last failure {fault} (failures in a row: {})", row.failures);
        }
    }
    if rows.is_empty() {
        text.push_str("no certificate comes by ACME: write a section [acme.NAME]\n");
    }
    text
}

/// A time from now, in the largest unit that says enough.
fn span(seconds: i64) -> String {
    match seconds {
        0 => "at once".into(),
        1..7200 => format!("in {} minutes", seconds.div_euclid(60) + 1),
        7200..172_800 => format!("in {} hours", seconds.div_euclid(3600)),
        _ => format!("in {} days", seconds.div_euclid(86_400)),
    }
}

/// Where this machine can reach the port.
pub(crate) fn url(row: &ListenerRow) -> Option<String> {
    let (scheme, _) = row.name.split_once('.')?;
    let place = row.places.first()?;
    if scheme == "unix" {
        return Some(format!("unix://{place}"));
    }
    let (host, port) = place.rsplit_once(':')?;
    let host = match host {
        // A name that is in every certificate of ours.
        "0.0.0.0" | "[::]" | "127.0.0.1" => "localhost",
        other => other,
    };
    Some(format!("{scheme}://{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::CertificateRow;

    fn row(name: &str, place: &str) -> ListenerRow {
        ListenerRow {
            name: name.into(),
            places: vec![place.into()],
            protocols: "MQTT".into(),
            ..ListenerRow::default()
        }
    }

    #[test]
    fn each_port_is_a_line_under_the_head() {
        let mut tls = row("tls.default", "0.0.0.0:8883");
        tls.certificates.push(CertificateRow {
            self_made: true,
            not_after: 10 * 24 * 3600,
            ..CertificateRow::default()
        });
        tls.refused = vec![("by access rules".into(), 3)];
        let text = listeners(&[row("tcp.default", "127.0.0.1:1883"), tls], 0);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("LISTENER     PROTOCOL  ADDRESS"), "{text}");
        assert!(lines[1].starts_with("tcp.default  MQTT      127.0.0.1:1883"), "{text}");
        assert!(lines[2].contains("self-made, 10 days"), "{text}");
        assert_eq!(lines[3].trim(), "refused: 3 by access rules");
    }

    #[test]
    fn a_port_is_reached_by_a_name_that_its_certificate_holds() {
        for (name, place, expected) in [
            ("tls.default", "0.0.0.0:8883", "tls://localhost:8883"),
            ("ws.a", "[::]:8083", "ws://localhost:8083"),
            ("tcp.b", "192.0.2.1:1883", "tcp://192.0.2.1:1883"),
            ("tcp.c", "[2001:db8::1]:1883", "tcp://[2001:db8::1]:1883"),
            ("unix.d", "/run/x.sock", "unix:///run/x.sock"),
        ] {
            assert_eq!(url(&row(name, place)).as_deref(), Some(expected));
        }
    }
}
