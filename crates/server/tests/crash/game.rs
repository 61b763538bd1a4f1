//! Clients that go on publishing and receiving while their broker is killed and started, again and again.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use breakwater_proto::{QoS, Version};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::broker::{Broker, Stable};
use crate::chance::Chance;
use crate::ledger::{Fault, Ledger, Topic};
use crate::link::Link;
use crate::publisher::{Kept, Publisher, Terms};
use crate::subscriber::Subscriber;
use crate::visitor::Visitor;

/// What is said to one message is said again no later than this, or it never will be.
const STUCK: Duration = Duration::from_secs(40);
/// The loop looks up at least so often.
const TICK: Duration = Duration::from_millis(4);

pub(crate) struct Options {
    pub(crate) kills: u64,
    /// Ends the game earlier.
    pub(crate) seconds: u64,
    pub(crate) seed: u64,
    pub(crate) publishers: usize,
    /// Longest time that a broker lives, in milliseconds.
    pub(crate) life_ms: u64,
    pub(crate) terms: Terms,
}

pub(crate) struct Game {
    stable: Stable,
    options: Options,
    chance: Chance,
    ledger: Ledger,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    visitor: Visitor,
    kills: u64,
    starts: Vec<Duration>,
    /// Starts that were killed before they had ended.
    cut_off: u64,
}

/// Name, version, filter, QoS, largest window, longest delay of acknowledgements, whether it comes and goes.
type Part = (&'static str, Version, &'static str, QoS, u16, u64, bool);

const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;
const PARTS: [Part; 12] = [
    ("steady-1", Version::V311, "work/#", ONE, 0, 0, false),
    ("steady-2", Version::V5, "work/#", TWO, 20, 0, false),
    ("lazy-1", Version::V5, "work/+/1", ONE, 3, 30, false),
    ("lazy-2", Version::V5, "work/#", TWO, 100, 60, false),
    ("late-2", Version::V311, "work/+/2", TWO, 0, 20, false),
    ("away-1", Version::V5, "work/#", ONE, 50, 0, true),
    ("away-2", Version::V311, "work/#", TWO, 0, 0, true),
    ("away-few", Version::V5, "work/0/+", TWO, 1, 10, true),
    ("member-1-a", Version::V5, "$share/one/work/#", ONE, 20, 0, false),
    ("member-1-b", Version::V5, "$share/one/work/#", ONE, 20, 10, true),
    ("member-2-a", Version::V5, "$share/two/work/#", TWO, 20, 0, true),
    ("member-2-b", Version::V5, "$share/two/work/#", TWO, 20, 10, false),
];

impl Game {
    pub(crate) fn new(stable: Stable, options: Options) -> Game {
        let (mut ledger, seed, now) = (Ledger::default(), options.seed, Instant::now());
        let publishers: Vec<Publisher> = (0..options.publishers)
            .map(|number| Publisher::new(number, &mut ledger, seed, &options.terms, now))
            .collect();
        let mut groups: Vec<(&str, crate::ledger::Reader)> = Vec::new();
        let mut subscribers = Vec::new();
        for (at, (name, version, filter, qos, window, lazy_ms, comes_and_goes)) in PARTS.into_iter().enumerate() {
            let shared = filter.strip_prefix("$share/").and_then(|rest| rest.split_once('/'));
            let topics = wanted(&ledger, shared.map_or(filter, |(_, filter)| filter), options.publishers);
            let known = shared.and_then(|(group, _)| groups.iter().find(|(name, _)| *name == group));
            let reader = known.map_or_else(
                || ledger.add_reader(shared.map_or(name, |(group, _)| group), shared.is_some(), qos, &topics),
                |(_, reader)| *reader,
            );
            groups.extend(shared.map(|(group, _)| (group, reader)));
            let mut link = Link::new(name, version, now);
            link.receive_maximum = window;
            let mut subscriber = Subscriber::new(link, reader, filter, qos, lazy_ms, seed ^ at as u64);
            subscriber.comes_and_goes = comes_and_goes;
            subscribers.push(subscriber);
        }
        Game {
            stable,
            chance: Chance::new(options.seed),
            options,
            ledger,
            publishers,
            subscribers,
            visitor: Visitor::new(now),
            kills: 0,
            starts: Vec::new(),
            cut_off: 0,
        }
    }

    /// All of it; what went wrong, told as a text.
    pub(crate) fn play(&mut self) -> Result<(), String> {
        let mut life = None;
        let played = self.lives(&mut life);
        let Err(fault) = played else { return Ok(()) };
        let mut text = format!("seed {}, after {} kills: {fault}\n", self.options.seed, self.kills);
        for told in self.publishers.iter().map(Publisher::told).chain(self.subscribers.iter().map(Subscriber::told)) {
            let _ = writeln!(text, "{told}");
        }
        let said = fault.to_string();
        let concerned = |link: &Link| {
            let topics = link.name.strip_prefix("publisher-").map(|number| format!("work/{number}/"));
            said.contains(&link.name) || topics.is_some_and(|topics| said.contains(&topics))
        };
        for link in self.links().filter(|link| concerned(link)) {
            let _ = writeln!(text, "{}", link.traced());
        }
        if let Some(mut broker) = life {
            let _ = writeln!(text, "the broker says:\n{}", broker.said());
            broker.kill();
        }
        let _ = write!(text, "{}kept in {}", self.stable.stats(), self.stable.folder().display());
        Err(text)
    }

    fn lives(&mut self, life: &mut Option<Broker>) -> Result<(), Fault> {
        let until = Instant::now() + Duration::from_secs(self.options.seconds);
        // Once, all of them are let in and subscribe; from then on everything is owed.
        self.publishers.iter_mut().for_each(|publisher| publisher.idle = true);
        self.run(life, |game| game.subscribers.iter().all(|subscriber| subscriber.subscribed))?;
        self.publishers.iter_mut().for_each(|publisher| publisher.idle = false);
        loop {
            self.plan();
            let broker = match life {
                Some(broker) => broker,
                None => life.insert(self.start()?),
            };
            let end = Instant::now() + self.chance.ms(10, self.options.life_ms);
            while Instant::now() < end {
                self.turn(broker)?;
            }
            // Without a single kill, a game shows that the clients themselves do right.
            if self.kills >= self.options.kills || Instant::now() > until {
                break;
            }
            self.kill(life)?;
        }
        // Twice: what was in flight when it came to rest must not come again after one more kill.
        self.settle(life)?;
        self.kill(life)?;
        self.settle(life)?;
        self.kill(life)
    }

    fn start(&mut self) -> Result<Broker, Fault> {
        while self.chance.percent(15) {
            self.stable.start_and_kill(Duration::from_micros(self.chance.below(80_000)));
            self.cut_off += 1;
        }
        let broker = self.stable.start()?;
        self.starts.push(broker.took);
        Ok(broker)
    }

    /// Who leaves in the life that begins, when, and for how long.
    fn plan(&mut self) {
        let (now, life) = (Instant::now(), self.options.life_ms);
        for subscriber in &mut self.subscribers {
            let (part, pause) = if subscriber.comes_and_goes { (50, 2 * life) } else { (10, 50) };
            if self.chance.percent(part) {
                subscriber.link.leaves = Some((now + self.chance.ms(0, life), self.chance.ms(0, pause)));
            }
        }
        for publisher in &mut self.publishers {
            if self.chance.percent(20) {
                publisher.link.leaves = Some((now + self.chance.ms(0, life), self.chance.ms(0, 30)));
            }
        }
    }

    /// Some clients get what was sent to them before the end, for others it is lost with the connection.
    fn kill(&mut self, life: &mut Option<Broker>) -> Result<(), Fault> {
        let Some(mut broker) = life.take() else { return Ok(()) };
        broker.check()?;
        if self.chance.percent(70) {
            self.publishers.iter_mut().for_each(|publisher| publisher.burst(&mut self.ledger));
            let end = Instant::now() + Duration::from_micros(self.chance.below(6000));
            // What comes meanwhile lies in the sockets.
            while Instant::now() < end {
                std::thread::yield_now();
            }
        }
        broker.kill();
        self.kills += 1;
        for publisher in &mut self.publishers {
            if self.chance.percent(50) {
                publisher.read(&mut self.ledger)?;
            }
            publisher.link.lose();
        }
        for subscriber in &mut self.subscribers {
            if self.chance.percent(50) {
                subscriber.read(&mut self.ledger)?;
            }
            subscriber.link.lose();
        }
        self.visitor.link.lose();
        Ok(())
    }

    /// Nobody leaves any more: everything that is owed comes.
    fn settle(&mut self, life: &mut Option<Broker>) -> Result<(), Fault> {
        let now = Instant::now();
        for link in self.links() {
            (link.leaves, link.away_until) = (None, now);
        }
        self.publishers.iter_mut().for_each(|publisher| publisher.idle = true);
        self.run(life, Game::is_at_rest)?;
        // What stands behind it in the queues would come before this.
        for publisher in &mut self.publishers {
            publisher.publish_last(&mut self.ledger);
        }
        let visits = self.visitor.visits + 2;
        self.run(life, |game| game.is_at_rest() && game.visitor.visits >= visits)
    }

    fn is_at_rest(&self) -> bool {
        let done = |link: &Link| link.online && !link.has_more_to_write();
        self.publishers.iter().all(|publisher| publisher.is_done() && done(&publisher.link))
            && self.subscribers.iter().all(|subscriber| subscriber.is_done() && done(&subscriber.link))
            && self.ledger.missing().is_empty()
    }

    /// Goes on until that holds.
    fn run(&mut self, life: &mut Option<Broker>, enough: impl Fn(&Game) -> bool) -> Result<(), Fault> {
        let broker = match life {
            Some(broker) => broker,
            None => life.insert(self.start()?),
        };
        let (mut before, mut since) = (self.ledger.counts, Instant::now());
        // `enough` may look at every message.
        while !enough(self) {
            let pause = Instant::now() + 10 * TICK;
            while Instant::now() < pause {
                self.turn(broker)?;
            }
            if self.ledger.counts != before {
                (before, since) = (self.ledger.counts, Instant::now());
            }
            if since.elapsed() > STUCK {
                broker.check()?;
                let missing: Vec<String> = self.ledger.missing().iter().map(Fault::to_string).collect();
                return Err(Fault::Protocol(format!("nothing comes any more, and yet:\n{}", missing.join("\n"))));
            }
        }
        Ok(())
    }

    /// Waits for bytes or for what is due, and handles both.
    fn turn(&mut self, broker: &Broker) -> Result<(), Fault> {
        let now = Instant::now();
        let due = self.subscribers.iter().filter_map(Subscriber::due).min();
        let wait = due.map_or(TICK, |due| due.saturating_duration_since(now).min(TICK));
        let ready = self.ready(wait);
        let (publishers, rest) = ready.split_at(self.publishers.len());
        for (publisher, _) in self.publishers.iter_mut().zip(publishers).filter(|(_, ready)| **ready) {
            publisher.read(&mut self.ledger)?;
        }
        for (subscriber, _) in self.subscribers.iter_mut().zip(rest).filter(|(_, ready)| **ready) {
            subscriber.read(&mut self.ledger)?;
        }
        if rest[self.subscribers.len()] {
            self.visitor.read(kept(&self.publishers))?;
        }
        let now = Instant::now();
        self.publishers.iter_mut().for_each(|publisher| publisher.on_tick(broker.port, &mut self.ledger, now));
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.on_tick(broker.port, now));
        self.visitor.on_tick(broker.port, kept(&self.publishers), now);
        Ok(())
    }

    /// Which links have something to read, in the order of `links`.
    fn ready(&mut self, wait: Duration) -> Vec<bool> {
        let mut at = Vec::new();
        let mut fds = Vec::new();
        for (place, link) in self.links().enumerate() {
            at.push(place);
            if let Some(stream) = link.stream() {
                let more = if link.has_more_to_write() { PollFlags::OUT } else { PollFlags::empty() };
                fds.push((place, PollFd::from_borrowed_fd(std::os::fd::AsFd::as_fd(stream), PollFlags::IN | more)));
            }
        }
        let mut ready = vec![false; at.len()];
        let (places, mut fds): (Vec<usize>, Vec<PollFd<'_>>) = fds.into_iter().unzip();
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        if poll(&mut fds, Some(&wait)).is_ok() {
            for (place, fd) in places.into_iter().zip(&fds) {
                ready[place] = !fd.revents().is_empty();
            }
        }
        ready
    }

    fn links(&mut self) -> impl Iterator<Item = &mut Link> {
        let publishers = self.publishers.iter_mut().map(|publisher| &mut publisher.link);
        let subscribers = self.subscribers.iter_mut().map(|subscriber| &mut subscriber.link);
        publishers.chain(subscribers).chain(std::iter::once(&mut self.visitor.link))
    }

    /// The figures of a game that is over.
    pub(crate) fn told(&mut self) -> String {
        let counts = self.ledger.counts;
        self.starts.sort();
        let ms = |at: usize| self.starts.get(at).map_or(0, Duration::as_millis);
        let retained: u32 = kept(&self.publishers).map(|kept| kept.sent).sum();
        let unmarked: u64 = self.subscribers.iter().map(|subscriber| subscriber.unmarked).sum();
        format!(
            "seed {}: {} kills and {} of starts under way, {retained} retained, {} published, {} acknowledged, {} sent again by publishers, {} received, \
             {} repeated with QoS 1, {} repeated in shared groups with QoS 2, {unmarked} repeated without DUP, \
             {} looks at what is retained; lost 0, duplicated at QoS 2 0, sessions lost 0; \
             starts took {} ms (median), at most {} ms",
            self.options.seed,
            self.kills,
            self.cut_off,
            counts.published,
            counts.acknowledged,
            counts.resent,
            counts.received,
            counts.repeated_qos_1,
            counts.repeated_shared,
            self.visitor.visits,
            ms(self.starts.len() / 2),
            ms(self.starts.len().saturating_sub(1)),
        )
    }
}

fn kept(publishers: &[Publisher]) -> impl Iterator<Item = &Kept> {
    publishers.iter().flat_map(|publisher| &publisher.kept)
}

/// The topics of all publishers that a filter wants.
fn wanted(ledger: &Ledger, filter: &str, publishers: usize) -> Vec<Topic> {
    let names = (0..publishers).flat_map(|number| [1, 2].map(|qos| format!("work/{number}/{qos}")));
    names.filter(|name| breakwater_proto::matches(filter, name)).filter_map(|name| ledger.topic(&name)).collect()
}
