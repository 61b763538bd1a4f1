//! `$SYS`: the broker about itself. Costs a look per topic and interval while nobody reads.

use std::sync::atomic::{AtomicU64, Ordering};

use breakwater_contract::Metric;
use breakwater_contract::store::Durability;
use breakwater_proto::{ForwardProperties, Message, MessageView, QoS, matches};
use breakwater_router::{PackedGrant, RouterCounts, Subscriber};
use breakwater_session::{Delivery, Shared};

use crate::conn::NONE;
use crate::delayed::Totals as DelayedTotals;
use crate::driver::Driver;
use crate::driver::ShardId;
use crate::refusal::Refusals;
use crate::shard::{Shard, later};
use crate::totals::Totals;

/// Time between two looks at a shard's numbers, in milliseconds.
const PAGE_MS: u64 = 1000;
/// Retained messages looked at for expiry per second and shard.
const SWEEP: usize = 2000;

/// Numbers of one shard, for everybody to read. Written by its owner once a second.
#[derive(Debug)]
pub struct ShardPage {
    counters: Vec<AtomicU64>,
    clients: AtomicU64,
    sessions: AtomicU64,
    held_bytes: AtomicU64,
    replay_messages: AtomicU64,
    replay_bytes: AtomicU64,
    /// Most clients at once, as this shard saw them.
    clients_max: AtomicU64,
}

/// One page per shard.
#[derive(Debug)]
pub struct Pages {
    shards: Vec<ShardPage>,
    /// Messages that are to be published later.
    pub(crate) delayed: DelayedTotals,
    /// Sessions that have publishes refused while their queues are full.
    pub(crate) refusals: Refusals,
    /// What waits in all queues.
    pub(crate) totals: Totals,
}

impl Pages {
    /// Pages for so many shards.
    #[must_use]
    pub fn new(shards: u16) -> Self {
        let page = || ShardPage {
            counters: Metric::ALL.iter().map(|_| AtomicU64::new(0)).collect(),
            clients: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            held_bytes: AtomicU64::new(0),
            replay_messages: AtomicU64::new(0),
            replay_bytes: AtomicU64::new(0),
            clients_max: AtomicU64::new(0),
        };
        let (delayed, refusals, totals) = (DelayedTotals::default(), Refusals::new(shards), Totals::default());
        Self { shards: (0..shards).map(|_| page()).collect(), delayed, refusals, totals }
    }

    /// Sum of a counter over all shards, as of their last pages.
    #[must_use]
    pub fn total(&self, metric: Metric) -> u64 {
        self.shards.iter().map(|page| page.counters[metric as usize].load(Ordering::Relaxed)).sum()
    }

    /// Messages that wait to be published later.
    #[must_use]
    pub fn delayed(&self) -> u64 {
        self.delayed.count()
    }

    /// Messages in the queues of all sessions, and bytes of them; nothing is counted where there is no bound.
    #[must_use]
    pub fn queued(&self) -> (u64, u64) {
        self.totals.queued()
    }

    /// Messages that are kept for replays, and their bytes.
    #[must_use]
    pub fn replay(&self) -> (u64, u64) {
        let sum = |of: fn(&ShardPage) -> &AtomicU64| {
            self.shards.iter().map(|page| of(page).load(Ordering::Relaxed)).sum::<u64>()
        };
        (sum(|page| &page.replay_messages), sum(|page| &page.replay_bytes))
    }

    pub(crate) fn count_replay(&self, shard: ShardId, messages: u64, bytes: u64) {
        if let Some(page) = self.shards.get(usize::from(shard)) {
            page.replay_messages.store(messages, Ordering::Relaxed);
            page.replay_bytes.store(bytes, Ordering::Relaxed);
        }
    }

    /// Connected clients.
    #[must_use]
    pub fn clients(&self) -> u64 {
        self.shards.iter().map(|page| page.clients.load(Ordering::Relaxed)).sum()
    }

    /// Most clients at once: the sum of each shard's own maximum, so rather too high than too low.
    #[must_use]
    pub fn clients_max(&self) -> u64 {
        self.shards.iter().map(|page| page.clients_max.load(Ordering::Relaxed)).sum()
    }

    /// Sessions, connected or not.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.shards.iter().map(|page| page.sessions.load(Ordering::Relaxed)).sum()
    }

    /// Bytes in queues and blocked out buffers.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        self.shards.iter().map(|page| page.held_bytes.load(Ordering::Relaxed)).sum()
    }
}

/// Whether a filter begins in the broker's own tree.
pub(crate) fn is_sys(filter: &str) -> bool {
    filter.strip_prefix("$SYS").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl<T: Send> Shard<T> {
    /// Once a second: the page. At the interval, on the first shard: `$SYS`, if anybody reads it.
    pub(crate) fn periodic<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        if self.now.0 < self.next_page.0 {
            return;
        }
        self.next_page = later(self.now, PAGE_MS);
        self.collect_drops();
        let page = &self.pages.shards[self.id as usize];
        for metric in Metric::ALL {
            page.counters[*metric as usize].store(self.counters.get(*metric), Ordering::Relaxed);
        }
        let clients = self.clients as u64;
        page.clients.store(clients, Ordering::Relaxed);
        page.sessions.store(self.sessions.len() as u64, Ordering::Relaxed);
        page.held_bytes.store(self.held_bytes, Ordering::Relaxed);
        page.clients_max.fetch_max(clients, Ordering::Relaxed);
        if self.conns.len() == 0 {
            self.pool.release();
        }
        self.give_up_batches(driver);
        self.forget_published(false);
        self.trim_replays();
        if self.id == 0 {
            self.sweep_retained();
            let interval = self.options.sys_interval_s;
            if interval > 0 && self.now.0 >= self.next_sys.0 {
                self.next_sys = later(self.now, u64::from(interval) * 1000);
                self.publish_sys(driver);
            }
        }
    }

    /// Expired messages go, from the store as well.
    fn sweep_retained(&mut self) {
        let mut gone = Vec::new();
        let on = self.durable.is_on();
        self.router.sweep_retained(self.now, SWEEP, |topic, revision| {
            if on {
                gone.push((Box::<str>::from(topic), revision));
            }
        });
        for (topic, revision) in gone {
            self.record_cleared(&topic, revision, QoS::AtMostOnce, self.durable.durability);
        }
    }

    pub(crate) fn collect_drops(&mut self) {
        let drops = std::mem::take(&mut self.report.drops);
        for (metric, count) in [
            (Metric::DroppedExpired, drops.expired),
            (Metric::DroppedTooLarge, drops.too_large),
            (Metric::DroppedQueueFull, drops.queue_full),
            (Metric::DroppedTooOld, drops.too_old),
            (Metric::DroppedSlowConsumer, drops.slow_consumer),
            (Metric::DroppedOffline, drops.offline),
        ] {
            self.counters.add(metric, count);
        }
    }

    /// To everybody who has subscribed to a part of the tree.
    fn publish_sys<D: Driver<Transport = T>>(&mut self, driver: &mut D) {
        if self.router.counts().subscriptions == 0 {
            return;
        }
        for (topic, value) in self.sys_tree() {
            self.router.matches(self.id, &topic, &mut self.matches);
            if !self.matches.is_empty() {
                self.publish_own(driver, &sys_view(&topic, &value), NONE, Durability::Memory);
            }
        }
    }

    /// The present values to one new subscriber, as if they were retained.
    pub(crate) fn send_sys(&mut self, who: Subscriber, grant: PackedGrant, filter: &str) {
        for (topic, value) in self.sys_tree() {
            if !matches(filter, &topic) {
                continue;
            }
            let message = Message::new(&sys_view(&topic, &value), &mut self.building);
            let mut encoded = std::mem::take(&mut self.encoded);
            let mut shared = Shared::owned(&message, &mut encoded);
            let ids = grant.subscription_ids();
            let delivery =
                Delivery { qos: QoS::AtMostOnce, retain: true, subscription_ids: ids, ..Delivery::default() };
            self.deliver_as(&mut shared, who, delivery);
            self.encoded = encoded;
        }
    }

    /// Topics and values: those that Mosquitto's users know, then those of EMQX.
    fn sys_tree(&self) -> Vec<(String, String)> {
        let mut counts = self.router.counts();
        // Rules for replays look like members of groups to the router.
        counts.shared_subscriptions = counts.shared_subscriptions.saturating_sub(self.returning.replays.len() as u64);
        let figures = Figures::of(&self.pages, &counts, (self.now.0 - self.started.0) / 1000);
        let mut tree = figures.as_in_mosquitto();
        tree.extend(figures.as_in_emqx(&self.options.node, self.unix_ms));
        tree
    }
}

/// What both trees show.
struct Figures<'a> {
    pages: &'a Pages,
    counts: &'a RouterCounts,
    uptime_s: u64,
    clients: u64,
    sessions: u64,
}

impl<'a> Figures<'a> {
    fn of(pages: &'a Pages, counts: &'a RouterCounts, uptime_s: u64) -> Self {
        Self { pages, counts, uptime_s, clients: pages.clients(), sessions: pages.sessions() }
    }

    fn dropped(&self) -> u64 {
        let reasons = [
            Metric::DroppedExpired,
            Metric::DroppedTooLarge,
            Metric::DroppedQueueFull,
            Metric::DroppedUntold,
            Metric::DroppedUserFull,
            Metric::DroppedAllFull,
            Metric::DroppedTooOld,
            Metric::DroppedSlowConsumer,
            Metric::DroppedOffline,
            Metric::DroppedGone,
        ];
        reasons.iter().map(|metric| self.pages.total(*metric)).sum()
    }

    fn as_in_mosquitto(&self) -> Vec<(String, String)> {
        let (pages, counts) = (self.pages, self.counts);
        let away = self.sessions.saturating_sub(self.clients);
        let mut tree = vec![
            ("$SYS/broker/version".into(), format!("breakwater {}", env!("CARGO_PKG_VERSION"))),
            ("$SYS/broker/uptime".into(), format!("{} seconds", self.uptime_s)),
        ];
        let numbers = [
            ("clients/total", self.sessions),
            ("clients/connected", self.clients),
            ("clients/active", self.clients),
            ("clients/disconnected", away),
            ("clients/inactive", away),
            ("clients/maximum", pages.clients_max()),
            ("clients/expired", pages.total(Metric::SessionsExpired)),
            ("bytes/received", pages.total(Metric::BytesReceived)),
            ("bytes/sent", pages.total(Metric::BytesSent)),
            ("messages/received", pages.total(Metric::PacketsReceived)),
            ("publish/messages/received", pages.total(Metric::PublishReceived)),
            ("publish/messages/sent", pages.total(Metric::PublishSent)),
            ("publish/messages/dropped", self.dropped()),
            ("retained messages/count", counts.retained),
            ("store/messages/bytes", counts.retained_bytes + pages.held_bytes()),
            ("subscriptions/count", counts.subscriptions),
            ("shared_subscriptions/count", counts.shared_subscriptions),
        ];
        tree.extend(numbers.map(|(name, value)| (format!("$SYS/broker/{name}"), value.to_string())));
        tree
    }

    fn as_in_emqx(&self, node: &str, unix_ms: u64) -> Vec<(String, String)> {
        let counts = self.counts;
        let subscriptions = counts.subscriptions + counts.shared_subscriptions;
        let name = |name: &str| format!("$SYS/brokers/{node}/{name}");
        let mut tree = vec![
            ("$SYS/brokers".into(), node.to_string()),
            (name("version"), env!("CARGO_PKG_VERSION").into()),
            (name("uptime"), (self.uptime_s * 1000).to_string()),
            (name("datetime"), rfc3339(unix_ms)),
            (name("sysdescr"), "Breakwater".into()),
        ];
        let stats = [
            ("connections", self.clients),
            ("live_connections", self.clients),
            ("sessions", self.sessions),
            ("subscriptions", subscriptions),
            ("subscriptions/shared", counts.shared_subscriptions),
            ("suboptions", subscriptions),
            ("topics", counts.exact_filters + counts.trie_filters),
            ("retained", counts.retained),
        ];
        tree.extend(stats.map(|(stat, value)| (name(&format!("stats/{stat}/count")), value.to_string())));
        let metrics = [
            ("bytes/received", Metric::BytesReceived),
            ("bytes/sent", Metric::BytesSent),
            ("packets/received", Metric::PacketsReceived),
            ("messages/received", Metric::PublishReceived),
            ("messages/sent", Metric::PublishSent),
            ("messages/qos1/received", Metric::PublishReceivedQos1),
            ("messages/qos2/received", Metric::PublishReceivedQos2),
            ("delivery/dropped/queue_full", Metric::DroppedQueueFull),
            ("delivery/dropped/expired", Metric::DroppedExpired),
            ("delivery/dropped/too_large", Metric::DroppedTooLarge),
            ("client/connected", Metric::ClientsConnected),
            ("client/disconnected", Metric::ConnectionsClosed),
            ("session/created", Metric::SessionsCreated),
            ("session/resumed", Metric::SessionsResumed),
            ("session/takenover", Metric::SessionsTakenOver),
        ];
        let total = |metric| self.pages.total(metric).to_string();
        tree.extend(metrics.map(|(metric, counter)| (name(&format!("metrics/{metric}")), total(counter))));
        tree
    }
}

fn sys_view<'a>(topic: &'a str, value: &'a str) -> MessageView<'a> {
    MessageView {
        topic,
        payload: value.as_bytes(),
        qos: QoS::AtMostOnce,
        retain: false,
        properties: ForwardProperties::EMPTY,
        expires_at: None,
        origin: u64::MAX,
    }
}

/// Milliseconds of Unix time as `2026-01-31T12:00:00Z`.
fn rfc3339(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a civil date, counted from 0000-03-01 so that the leap day ends the year.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn unix_time_is_written_as_a_date() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400_000), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_353_845_000), "2026-11-22T13:24:05Z");
    }
}
