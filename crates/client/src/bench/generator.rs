//! The generator's loop: one thread, one poller, all clients.

use std::time::Duration;

use mio::event::Event;
use mio::{Events, Interest, Poll, Token};

use super::Fault;
use super::clock::Clock;
use super::link::{self, Fill, Hello, Link};
use super::plan::{Plan, Shape};
use super::progress::{Progress, short};
use super::publisher::{Bounds, Publisher};
use super::report::{BrokerUse, Figures, Latency, TrafficReport};
use super::schedule::{Alarm, Schedule};
use super::subscriber::Subscriber;
use super::tally::Tally;
use super::usage::{self, ThreadTime};

const ALARM: Token = Token(usize::MAX);
/// Reads and writes per connection and turn: enough to be cheap, few enough to serve both sides in turn.
const ROUNDS: usize = 4;
/// Below this many bytes per readable connection a turn read little: resting lets the broker work in peace. A generator
/// that wakes for every message halves the throughput of a broker that shares its cores.
const LITTLE: usize = 16 * 1024;
/// Longest sleep of the poller: phases end on time without an event.
const IDLE: Duration = Duration::from_millis(10);
/// A saturating run in which nothing arrives for so long has lost messages: go on without them.
const STALL_NS: u64 = 500_000_000;
/// A broker this far behind an open-loop rate can't keep it: stop instead of filling the memory.
const BEHIND_BYTES_MAX: usize = 256 << 20;

pub(super) fn run(plan: &Plan) -> Result<TrafficReport, Fault> {
    let mut generator = Generator::open(plan)?;
    generator.drive()?;
    Ok(generator.report())
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Warmup,
    Measure,
    Drain,
}

/// Counters at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at_ns: u64,
    unique: u64,
    published: u64,
    broker_cpu_ns: Option<u64>,
    own_cpu_ns: u64,
}

struct Generator<'a> {
    plan: &'a Plan,
    clock: Clock,
    poll: Poll,
    alarm: Alarm,
    /// Subscribers first, then publishers; `None` once the broker has closed it.
    links: Vec<Option<Link>>,
    subscribers: Vec<Subscriber>,
    publishers: Vec<Publisher>,
    /// Deliveries that came or will not come, by publisher.
    returned: Vec<u64>,
    schedule: Option<Schedule>,
    /// Publishers with messages that are due but may not leave yet.
    waiting: Vec<usize>,
    /// Links with more to read that will raise no event.
    unread: Vec<usize>,
    tally: Tally,
    buf: Vec<u8>,
    batch: Vec<u8>,
    phase: Phase,
    begin: Mark,
    end: Mark,
    last_arrival_ns: u64,
    last_forgiven_ns: u64,
    forgiven: u64,
    behind_ns_max: u64,
    broken: Vec<String>,
    rss_start: Option<u64>,
    /// The broker's threads: their times at the begin, then what they used until the end.
    threads_begin: Vec<ThreadTime>,
    threads: Vec<(String, u64)>,
}

impl<'a> Generator<'a> {
    fn open(plan: &'a Plan) -> Result<Generator<'a>, Fault> {
        let poll = Poll::new().map_err(|e| Fault::io("poller", &e))?;
        let alarm = Alarm::new(poll.registry(), ALARM).map_err(|e| Fault::io("timer", &e))?;
        let packet = plan.load.size + plan.load.topic.len() + 64;
        let mut generator = Generator {
            plan,
            clock: Clock::new(),
            poll,
            alarm,
            links: Vec::new(),
            subscribers: Vec::new(),
            publishers: Vec::new(),
            returned: vec![0; plan.publishers.len()],
            schedule: None,
            waiting: Vec::new(),
            unread: Vec::new(),
            tally: Tally::new(),
            buf: vec![0; (256 * 1024).max(packet * 2)],
            batch: Vec::with_capacity(plan.load.write_bytes + packet),
            phase: Phase::Warmup,
            begin: Mark::default(),
            end: Mark::default(),
            last_arrival_ns: 0,
            last_forgiven_ns: 0,
            forgiven: 0,
            behind_ns_max: 0,
            broken: Vec::new(),
            rss_start: plan.target.broker_pid.and_then(usage::resident_bytes),
            threads_begin: Vec::new(),
            threads: Vec::new(),
        };
        if let Some(pid) = plan.target.broker_pid {
            usage::cpu_ns(pid).ok_or_else(|| Fault::new(format!("there is no process {pid}")))?;
            usage::forget_peak(pid);
        }
        generator.connect()?;
        Ok(generator)
    }

    fn connect(&mut self) -> Result<(), Fault> {
        let plan = self.plan;
        let level = plan.target.level();
        let clients = plan.subscribers.iter().map(|c| (c, true)).chain(plan.publishers.iter().map(|c| (c, false)));
        for (index, (client, subscribes)) in clients.enumerate() {
            let hello = Hello {
                level,
                client,
                keep_alive_s: plan.target.keep_alive,
                inflight: plan.load.inflight,
                subscribe: subscribes.then_some(plan.load.qos),
            };
            let source = plan.target.source(plan.address, index);
            let (mut link, receive_maximum) = link::open(plan.address, source, plan.covers.make()?, &hello)?;
            self.poll
                .registry()
                .register(&mut link.stream, Token(index), Interest::READABLE | Interest::WRITABLE)
                .map_err(|e| Fault::io("poller", &e))?;
            self.links.push(Some(link));
            if subscribes {
                self.subscribers.push(Subscriber::new(level, plan.load.first_publisher, plan.heard_by(index)));
            } else {
                let nth = u32::try_from(self.publishers.len()).expect("clients fit a u32");
                let window = plan.load.inflight.min(receive_maximum.unwrap_or(u16::MAX));
                let number = plan.load.first_publisher + nth;
                let (qos, size) = (plan.load.qos, plan.load.size);
                self.publishers.push(Publisher::new(level, number, &client.topic, qos, size, window));
            }
        }
        Ok(())
    }

    fn drive(&mut self) -> Result<(), Fault> {
        let mut events = Events::with_capacity(4096);
        let mut progress = Progress::new(self.plan.target.quiet || self.plan.target.json);
        let start_ns = self.clock.now_ns();
        let seconds = |s: f64| Duration::from_secs_f64(s).as_nanos() as u64;
        let warmup = if self.plan.load.messages.is_some() { 0.0 } else { self.plan.load.warmup };
        let begin_ns = start_ns + seconds(warmup);
        let end_ns = match self.plan.load.messages {
            Some(_) => u64::MAX,
            None => begin_ns + seconds(self.plan.load.duration),
        };
        self.schedule = self.plan.load.rate.map(|rate| Schedule::new(start_ns, rate));
        self.tally.span_ns = begin_ns..end_ns;
        self.last_arrival_ns = start_ns;
        loop {
            let now_ns = self.clock.now_ns();
            if !self.advance(now_ns, begin_ns, end_ns) {
                break;
            }
            let more = self.phase != Phase::Drain && self.publish(now_ns)?;
            self.forgive_if_stalled(now_ns);
            if progress.is_due() {
                self.draw(&mut progress, now_ns, start_ns, end_ns);
            }
            let read = self.turn(&mut events, more)?;
            if !more && read < LITTLE && self.unread.is_empty() && self.schedule.is_none() {
                std::thread::sleep(self.plan.rest());
            }
        }
        Ok(())
    }

    /// Moves to the next phase when its time has come; false when the run is over.
    fn advance(&mut self, now_ns: u64, begin_ns: u64, end_ns: u64) -> bool {
        if self.phase == Phase::Warmup && now_ns >= begin_ns {
            self.begin = self.mark(now_ns);
            self.threads_begin = self.broker_threads();
            self.phase = Phase::Measure;
        }
        let alive = self.links.iter().any(Option::is_some);
        let mut silent = now_ns.saturating_sub(self.last_arrival_ns) > (self.plan.load.drain * 1e9) as u64;
        let stuck = silent && self.plan.load.messages.is_some() && self.plan.shape != Shape::Subscribe;
        if self.phase == Phase::Measure && (now_ns >= end_ns || self.all_published() || stuck || !alive) {
            self.phase = Phase::Drain;
            if !stuck {
                self.last_arrival_ns = now_ns;
                silent = false;
            }
            if self.plan.load.messages.is_none() {
                self.set_end(now_ns);
            }
        }
        if self.phase != Phase::Drain {
            return true;
        }
        if alive && !silent && !self.is_settled() {
            return true;
        }
        if self.plan.load.messages.is_some() {
            self.set_end(if silent { self.last_arrival_ns } else { now_ns });
        }
        self.tally.close_run();
        false
    }

    fn all_published(&self) -> bool {
        match self.plan.load.messages {
            Some(_) if self.plan.shape == Shape::Subscribe => self.tally.unique >= self.plan.load.messages.unwrap_or(0),
            Some(messages) => self.published() >= messages,
            None => false,
        }
    }

    fn is_settled(&self) -> bool {
        let arrived = self.tally.unique + self.tally.gaps >= self.published() * self.plan.fan_out();
        arrived && self.publishers.iter().all(Publisher::is_settled) && self.links.iter().flatten().all(Link::is_clear)
    }

    fn published(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.published).sum()
    }

    fn mark(&self, at_ns: u64) -> Mark {
        Mark {
            at_ns,
            unique: self.tally.unique,
            published: self.published(),
            broker_cpu_ns: self.plan.target.broker_pid.and_then(usage::cpu_ns),
            own_cpu_ns: usage::cpu_ns(std::process::id()).unwrap_or(0),
        }
    }

    fn set_end(&mut self, at_ns: u64) {
        self.end = self.mark(at_ns);
        self.threads = usage::thread_times_between(&self.threads_begin, self.broker_threads());
    }

    fn broker_threads(&self) -> Vec<ThreadTime> {
        self.plan.target.broker_pid.and_then(usage::thread_times).unwrap_or_default()
    }

    /// Sends what is due or what the bounds leave room for. True when more could be sent at once.
    fn publish(&mut self, now_ns: u64) -> Result<bool, Fault> {
        if self.publishers.is_empty() {
            return Ok(false);
        }
        if self.schedule.is_some() {
            return self.publish_due(now_ns).map(|()| false);
        }
        let mut left = match self.plan.load.messages {
            Some(messages) => messages.saturating_sub(self.published()),
            None => u64::MAX,
        };
        let mut more = false;
        for index in 0..self.publishers.len() {
            more |= self.saturate(index, &mut left);
        }
        Ok(more)
    }

    fn saturate(&mut self, index: usize, left: &mut u64) -> bool {
        let at = self.subscribers.len() + index;
        for _ in 0..ROUNDS {
            let publisher = &mut self.publishers[index];
            let Some(link) = self.links[at].as_mut().filter(|link| link.is_clear()) else { return false };
            let batch = (self.plan.load.write_bytes / publisher.packet_len()).max(1) as u64;
            let outstanding = self.plan.outstanding_each();
            let bounds = Bounds { fan_out: self.plan.fan_out().max(1), outstanding, batch, left: *left };
            let room = publisher.room(&bounds, self.returned[index]);
            if room == 0 {
                return false;
            }
            self.batch.clear();
            publisher.append(room, self.clock.now_ns(), &mut self.batch);
            *left -= room;
            if let Err(error) = link.send(&self.batch) {
                self.close(at, &error.to_string());
                return false;
            }
        }
        true
    }

    fn publish_due(&mut self, now_ns: u64) -> Result<(), Fault> {
        let Some(schedule) = &mut self.schedule else { return Ok(()) };
        let count = self.publishers.len() as u64;
        while let Some((number, due_ns)) = schedule.take_due(now_ns) {
            if self.plan.load.messages.is_some_and(|messages| number >= messages) {
                break;
            }
            let index = (number % count) as usize;
            self.behind_ns_max = self.behind_ns_max.max(now_ns - due_ns);
            self.publishers[index].owe(due_ns);
            self.waiting.push(index);
        }
        let next_ns = schedule.next_due_ns();
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain(|index| self.send_due(*index));
        self.waiting = waiting;
        self.check_behind()?;
        let after = Duration::from_nanos(next_ns.saturating_sub(self.clock.now_ns()));
        self.alarm.set(after).map_err(|e| Fault::io("timer", &e))
    }

    /// Sends what publisher `index` owes; true when something must wait for acknowledgements.
    fn send_due(&mut self, index: usize) -> bool {
        let at = self.subscribers.len() + index;
        let Some(link) = self.links[at].as_mut() else { return false };
        self.batch.clear();
        let waits = self.publishers[index].append_due(&mut self.batch);
        if !self.batch.is_empty()
            && let Err(error) = link.send(&self.batch)
        {
            self.close(at, &error.to_string());
            return false;
        }
        waits
    }

    fn check_behind(&self) -> Result<(), Fault> {
        // A backlog entry is small, but each is a message the rate promised: bound both kinds of debt.
        let unsent: usize = match self.waiting.is_empty() {
            true => self.links[self.subscribers.len()..].iter().flatten().map(Link::waiting_bytes).sum(),
            false => self.waiting.len() * self.plan.load.size,
        };
        match unsent > BEHIND_BYTES_MAX {
            true => Err(Fault::new("the broker can't keep this rate: more than 256 MiB are overdue")),
            false => Ok(()),
        }
    }

    fn forgive_if_stalled(&mut self, now_ns: u64) {
        let bounded = self.plan.outstanding_each().is_some() && self.schedule.is_none();
        let since_ns = self.last_arrival_ns.max(self.last_forgiven_ns);
        if !bounded || self.phase == Phase::Drain || now_ns.saturating_sub(since_ns) < STALL_NS {
            return;
        }
        let fan_out = self.plan.fan_out();
        for (publisher, returned) in self.publishers.iter_mut().zip(&self.returned) {
            self.forgiven += publisher.under_way(fan_out, *returned);
            publisher.forgive(fan_out, *returned);
        }
        self.last_forgiven_ns = now_ns;
    }

    /// Waits for events and serves them. Returns bytes read per readable connection.
    fn turn(&mut self, events: &mut Events, more: bool) -> Result<usize, Fault> {
        let hurry = more || !self.unread.is_empty();
        let timeout = if hurry { Duration::ZERO } else { self.alarm.poll_timeout(IDLE) };
        match self.poll.poll(events, Some(timeout)) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(0),
            Err(e) => return Err(Fault::io("poller", &e)),
        }
        let before = self.tally.unique;
        let (mut bytes, mut readable) = (0, 0);
        for index in std::mem::take(&mut self.unread) {
            bytes += self.read(index);
            readable += 1;
        }
        for event in events.iter().filter(|event| event.token() != ALARM) {
            let index = event.token().0;
            if event.is_writable() {
                self.flush(index);
            }
            if is_readable(event) {
                bytes += self.read(index);
                readable += 1;
            }
        }
        // A run that only publishes sees no arrivals: there, each turn with something to send counts.
        if self.tally.unique > before || (self.plan.shape == Shape::Publish && (more || bytes > 0)) {
            self.last_arrival_ns = self.clock.now_ns();
        }
        Ok(bytes / readable.max(1))
    }

    fn flush(&mut self, index: usize) {
        if let Some(Err(error)) = self.links[index].as_mut().map(Link::flush) {
            self.close(index, &error.to_string());
        }
    }

    /// Reads what a connection has, within its share of the turn, and answers it.
    fn read(&mut self, index: usize) -> usize {
        let mut total = 0;
        for _ in 0..ROUNDS {
            let Some(link) = self.links[index].as_mut() else { return total };
            let (filled, fresh, drained) = match link.fill(&mut self.buf) {
                Ok(Fill::Bytes { filled, fresh, drained }) => (filled, fresh, drained),
                Ok(Fill::Blocked) => break,
                Ok(Fill::Closed) => {
                    self.close(index, "the broker closed the connection");
                    return total;
                }
                Err(error) => {
                    self.close(index, &error.to_string());
                    return total;
                }
            };
            total += fresh;
            let bytes = &self.buf[..filled];
            let taken = match self.subscribers.get_mut(index) {
                Some(subscriber) => {
                    let now_ns = self.clock.now_ns();
                    subscriber.take(bytes, now_ns, link.out(), &mut self.tally, &mut self.returned)
                }
                None => self.publishers[index - self.subscribers.len()].take(bytes, link.out()),
            };
            match taken {
                Ok(used) => link.keep_tail(&self.buf[used..filled]),
                Err(reason) => {
                    self.close(index, &reason);
                    return total;
                }
            }
            if drained {
                self.flush(index);
                return total;
            }
        }
        if total > 0 {
            self.flush(index);
            self.unread.push(index);
        }
        total
    }

    fn close(&mut self, index: usize, reason: &str) {
        let client = self.plan.subscribers.iter().chain(&self.plan.publishers).nth(index);
        let id = client.map_or("?", |client| client.id.as_str());
        self.broken.push(format!("{id}: {reason}"));
        self.links[index] = None;
    }

    fn draw(&self, progress: &mut Progress, now_ns: u64, start_ns: u64, end_ns: u64) {
        let done = match self.plan.load.messages {
            Some(messages) => self.published() as f64 / messages.max(1) as f64,
            None => (now_ns - start_ns) as f64 / (end_ns - start_ns).max(1) as f64,
        };
        let rate = (self.tally.unique - self.begin.unique) as f64
            / (now_ns.saturating_sub(self.begin.at_ns.max(start_ns)).max(1) as f64 / 1e9);
        let phase = match self.phase {
            Phase::Warmup => "warming up",
            Phase::Measure => "measuring",
            Phase::Drain => "draining",
        };
        progress.draw(done.min(1.0), &format!("{phase}, {}/s delivered, {} lost", short(rate), self.tally.gaps));
    }

    fn report(mut self) -> TrafficReport {
        for link in self.links.iter_mut().flatten() {
            let _ = link.send(&super::wire::DISCONNECT_PACKET);
        }
        let plan = self.plan;
        let expected = self.published() * plan.fan_out();
        let accounted = self.tally.unique + self.tally.gaps;
        let (begin, end) = (self.begin, self.end);
        let figures = Figures {
            seconds: end.at_ns.saturating_sub(begin.at_ns) as f64 / 1e9,
            published: end.published - begin.published,
            delivered: end.unique - begin.unique,
        };
        TrafficReport {
            scenario: plan.shape.name(),
            version: plan.target.level().name(),
            qos: plan.load.qos,
            size: plan.load.size,
            publishers: plan.publishers.len(),
            subscribers: plan.subscribers.len(),
            rate: plan.load.rate,
            outstanding: plan.load.outstanding,
            inflight: plan.load.inflight,
            latency: Latency::of(&self.tally.latency),
            total_published: self.published(),
            total_delivered: self.tally.unique,
            lost: self.tally.gaps,
            under_way: if expected == 0 { 0 } else { expected.saturating_sub(accounted) },
            duplicates: self.tally.duplicates,
            out_of_order: self.tally.late,
            strange: self.tally.strange,
            refused: self.publishers.iter().map(|publisher| publisher.refused).sum(),
            unacknowledged: self.publishers.iter().map(|publisher| publisher.inflight).sum(),
            stalled_deliveries: self.forgiven,
            broken: self.broken,
            behind_us_max: self.behind_ns_max as f64 / 1e3,
            generator_cpu_us: figures.per_message(end.own_cpu_ns.saturating_sub(begin.own_cpu_ns)),
            broker: plan.target.broker_pid.map(|pid| {
                BrokerUse::new(pid, &figures, begin.broker_cpu_ns, end.broker_cpu_ns, self.rss_start)
                    .by_thread(&figures, &self.threads)
            }),
            load_average: usage::load_average(),
            figures,
        }
    }
}

fn is_readable(event: &Event) -> bool {
    event.is_readable() || event.is_read_closed() || event.is_error()
}
