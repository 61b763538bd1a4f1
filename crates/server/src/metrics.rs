//! Everything that is counted, as text in the exposition format of Prometheus (0.0.4).

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};

use breakwater_contract::store::{Condition, Health};
use breakwater_contract::{Gauge, ListenerMetric, Metric, ShardTimes};
use breakwater_net::{ListenerStatus, Refusal, TURN_BOUNDS_US, TurnCounts};
use breakwater_router::RouterCounts;
use breakwater_shard::Pages;

/// In front of every name.
const PREFIX: &str = "breakwater_";

/// What the page is made from.
pub(crate) struct Seen<'a> {
    pub(crate) pages: &'a Pages,
    pub(crate) counts: RouterCounts,
    pub(crate) store: Health,
    pub(crate) listeners: &'a [ListenerStatus],
    /// By shard.
    pub(crate) turns: &'a [TurnCounts],
    pub(crate) started_unix_s: u64,
}

/// One listener: the open one of its name, and closed ones that have connections left.
#[derive(Default)]
struct Row {
    connections: u64,
    accepted: u64,
    refused: [u64; Refusal::ALL.len()],
    bytes_in: u64,
    bytes_out: u64,
    expires_s: Option<i64>,
}

/// The page.
pub(crate) fn page(seen: &Seen<'_>) -> String {
    let mut text = String::new();
    for gauge in Gauge::ALL {
        family(&mut text, gauge.name(), gauge.help());
        sample(&mut text, gauge.name(), &[], value(seen, *gauge));
    }
    for metric in Metric::ALL {
        family(&mut text, metric.name(), metric.help());
        sample(&mut text, metric.name(), &[], seen.pages.total(*metric));
    }
    let rows = rows(seen.listeners);
    for metric in ListenerMetric::ALL {
        family(&mut text, metric.name(), metric.help());
        rows.iter().for_each(|(name, row)| of_listener(&mut text, *metric, name, row));
    }
    for times in ShardTimes::ALL {
        let _ = writeln!(text, "# HELP {PREFIX}{0} {1}\n# TYPE {PREFIX}{0} histogram", times.name(), times.help());
        for (shard, counts) in seen.turns.iter().enumerate() {
            histogram(&mut text, times.name(), &shard.to_string(), counts);
        }
    }
    text
}

fn histogram(text: &mut String, name: &str, shard: &str, turns: &TurnCounts) {
    let shard = ("shard", shard);
    let mut so_far = 0;
    for (count, bound) in turns.counts.iter().zip(TURN_BOUNDS_US) {
        so_far += count;
        let bound = (bound as f64 / 1e6).to_string();
        sample(text, &format!("{name}_bucket"), &[shard, ("le", &bound)], so_far);
    }
    let all: u64 = turns.counts.iter().sum();
    sample(text, &format!("{name}_bucket"), &[shard, ("le", "+Inf")], all);
    sample(text, &format!("{name}_sum"), &[shard], turns.sum_ns as f64 / 1e9);
    sample(text, &format!("{name}_count"), &[shard], all);
}

fn value(seen: &Seen<'_>, gauge: Gauge) -> u64 {
    match gauge {
        Gauge::StartTime => seen.started_unix_s,
        Gauge::Clients => seen.pages.clients(),
        Gauge::Sessions => seen.pages.sessions(),
        Gauge::Subscriptions => seen.counts.subscriptions,
        Gauge::SharedSubscriptions => seen.counts.shared_subscriptions,
        Gauge::Retained => seen.counts.retained,
        Gauge::RetainedBytes => seen.counts.retained_bytes,
        Gauge::Delayed => seen.pages.delayed(),
        Gauge::ReplayMessages => seen.pages.replay().0,
        Gauge::ReplayBytes => seen.pages.replay().1,
        Gauge::QueueMessages => seen.pages.queued().0,
        Gauge::QueueBytes => seen.pages.queued().1,
        Gauge::QueuedBytes => seen.pages.held_bytes(),
        Gauge::StoreCondition => match seen.store.condition {
            Condition::Well => 0,
            Condition::Full => 1,
            Condition::Failing => 2,
        },
        Gauge::StoreBytes => seen.store.disk_bytes,
        Gauge::StoreWaitingBytes => seen.store.waiting_bytes as u64,
        Gauge::StoreSyncs => seen.store.syncs,
        Gauge::StoreLogged => seen.store.logged_bytes,
        Gauge::StoreDamages => seen.store.damages,
    }
}

fn rows(listeners: &[ListenerStatus]) -> BTreeMap<&str, Row> {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for status in listeners {
        let row = rows.entry(&status.options.name).or_default();
        row.connections += u64::from(status.connections);
        row.accepted += status.accepted;
        row.bytes_in += status.bytes_in;
        row.bytes_out += status.bytes_out;
        for (refusal, count) in &status.refused {
            row.refused[*refusal as usize] += count;
        }
        if status.open {
            row.expires_s = status.certificates.iter().map(|certificate| certificate.not_after_s).min();
        }
    }
    rows
}

fn of_listener(text: &mut String, metric: ListenerMetric, name: &str, row: &Row) {
    let label = ("listener", name);
    let mut one = |value: u64| sample(text, metric.name(), &[label], value);
    match metric {
        ListenerMetric::Connections => one(row.connections),
        ListenerMetric::Accepted => one(row.accepted),
        ListenerMetric::BytesReceived => one(row.bytes_in),
        ListenerMetric::BytesSent => one(row.bytes_out),
        ListenerMetric::Refused => {
            for (refusal, count) in Refusal::ALL.iter().zip(row.refused) {
                sample(text, metric.name(), &[label, ("reason", refusal.name())], count);
            }
        }
        ListenerMetric::CertificateExpiry => {
            row.expires_s.into_iter().for_each(|at_s| sample(text, metric.name(), &[label], at_s));
        }
    }
}

fn family(text: &mut String, name: &str, help: &str) {
    let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
    let _ = writeln!(text, "# HELP {PREFIX}{name} {help}\n# TYPE {PREFIX}{name} {kind}");
}

fn sample(text: &mut String, name: &str, labels: &[(&str, &str)], value: impl Display) {
    // Names of listeners are letters, digits, dots and dashes: nothing to escape.
    let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let _ = match &labels[..] {
        [] => writeln!(text, "{PREFIX}{name} {value}"),
        labels => writeln!(text, "{PREFIX}{name}{{{}}} {value}", labels.join(",")),
    };
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use breakwater_net::ListenerOptions;
    use breakwater_transport::tls::CertificateFacts;

    use super::*;

    fn listener(name: &str, open: bool, expires_s: &[i64]) -> ListenerStatus {
        let certificate =
            |not_after_s: &i64| CertificateFacts { not_after_s: *not_after_s, ..CertificateFacts::default() };
        ListenerStatus {
            number: 0,
            open,
            options: ListenerOptions { name: name.into(), ..ListenerOptions::default() },
            bound: Vec::new(),
            certificates: expires_s.iter().map(certificate).collect(),
            warnings: Vec::new(),
            connections: 2,
            accepted: 5,
            refused: vec![(Refusal::Tls, 3)],
            bytes_in: 100,
            bytes_out: 200,
            since_unix_ms: 0,
        }
    }

    fn shown() -> String {
        let pages = Pages::new(2);
        let router = breakwater_router::Router::new(breakwater_router::RouterOptions::default());
        let listeners = [
            listener("tls.default", true, &[2000, 1000]),
            listener("tls.default", false, &[500]),
            listener("tcp.a", true, &[]),
        ];
        let mut turns = TurnCounts { sum_ns: 1_500_000, ..TurnCounts::default() };
        (turns.counts[0], turns.counts[2]) = (3, 4);
        let turns = [turns, TurnCounts::default()];
        let store = Health { condition: Condition::Full, damages: 3, ..Health::default() };
        let (pages, counts) = (&pages, router.counts());
        page(&Seen { pages, counts, store, listeners: &listeners, turns: &turns, started_unix_s: 7 })
    }

    #[test]
    fn every_sample_follows_its_type_and_none_comes_twice() {
        let (text, mut family, mut seen) = (shown(), "", HashSet::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                let simple = if name.ends_with("_total") { "counter" } else { "gauge" };
                assert!(kind == simple || (kind == "histogram" && !name.ends_with("_total")), "{line}");
                assert!(seen.insert(name), "{name} comes twice");
                family = name;
            } else if !line.starts_with("# HELP breakwater_") {
                let (series, value) = line.rsplit_once(' ').expect("a series and a value");
                let name = series.split('{').next().unwrap_or_default();
                let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
                assert!(name == family || of_histogram == Some(family), "{line}");
                assert!(value.parse::<f64>().is_ok() && (!series.contains('{') || series.ends_with("\"}")), "{line}");
                assert!(series == family || seen.insert(series), "{series} comes twice");
            }
        }
        assert!(text.ends_with('\n'));
    }

    #[test]
    fn listeners_show_when_their_first_certificate_expires_and_whom_they_turn_away() {
        let text = shown();
        for line in [
            "breakwater_start_time_seconds 7",
            "breakwater_store_condition 1",
            "breakwater_store_damages 3",
            "breakwater_connections_accepted_total 0",
            "breakwater_listener_certificate_expiry_timestamp_seconds{listener=\"tls.default\"} 1000",
            "breakwater_listener_refused_total{listener=\"tcp.a\",reason=\"tls\"} 3",
            "breakwater_listener_refused_total{listener=\"tcp.a\",reason=\"denied\"} 0",
            "breakwater_listener_connections{listener=\"tls.default\"} 4",
            "breakwater_listener_bytes_sent_total{listener=\"tcp.a\"} 200",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        assert!(!text.contains("expiry_timestamp_seconds{listener=\"tcp.a\"}"), "it shows none");
    }

    #[test]
    fn turns_are_a_histogram_whose_classes_add_up() {
        let text = shown();
        for line in [
            "breakwater_shard_turn_seconds_bucket{shard=\"0\",le=\"0.00001\"} 3",
            "breakwater_shard_turn_seconds_bucket{shard=\"0\",le=\"0.00005\"} 7",
            "breakwater_shard_turn_seconds_bucket{shard=\"0\",le=\"+Inf\"} 7",
            "breakwater_shard_turn_seconds_sum{shard=\"0\"} 0.0015",
            "breakwater_shard_turn_seconds_count{shard=\"1\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }

    #[test]
    fn every_metric_has_its_row_on_the_page_of_the_manual() {
        let page = include_str!("../../../docs/metrics.md");
        let gauges = Gauge::ALL.iter().map(|metric| (metric.name(), metric.help()));
        let listeners = ListenerMetric::ALL.iter().map(|metric| (metric.name(), metric.help()));
        let counters = Metric::ALL.iter().map(|metric| (metric.name(), metric.help()));
        let times = ShardTimes::ALL.iter().map(|metric| (metric.name(), metric.help()));
        for (name, help) in gauges.chain(listeners).chain(times).chain(counters) {
            let row = format!("| `{PREFIX}{name}` | {help} |");
            assert!(page.contains(&row), "docs/metrics.md lacks: {row}");
        }
    }
}
