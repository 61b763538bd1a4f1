//! `bench conn`: opens connections, many handshakes at a time, and holds them.

use std::io::ErrorKind;
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::Fault;
use super::clock::Clock;
use super::cover::Covers;
use super::link::{self, ANSWER_BYTES, Fill, Link};
use super::options::Conn;
use super::plan::check_open_files;
use super::progress::{Progress, short};
use super::report::{BrokerUse, ConnReport, Figures, Latency, MemoryMark};
use super::usage;
use super::wire;

/// The broker's memory is read this long after the last handshake, when its buffers have gone back.
const SETTLE: Duration = Duration::from_millis(500);
/// No handshake ends and nothing else happens for so long: the broker does not answer.
const SILENCE_NS: u64 = 15_000_000_000;
/// Between turns in which nothing new could be started, as in other saturating runs.
const REST: Duration = Duration::from_micros(50);

pub(super) fn run(options: &Conn) -> Result<ConnReport, Fault> {
    let count = usize::try_from(options.clients).expect("checked by its range");
    check_open_files(count)?;
    let address = options.target.address()?;
    let mut crowd = Crowd {
        options,
        address,
        covers: options.target.covers()?,
        buf: vec![0; ANSWER_BYTES],
        clock: Clock::new(),
        poll: Poll::new().map_err(|e| Fault::io("poller", &e))?,
        members: Vec::with_capacity(count),
        idle: 0,
        in_handshake: 0,
        refused: 0,
        resumed: 0,
        broken: Vec::new(),
        // 1 µs to 10 minutes at three digits.
        latency: Histogram::new_with_bounds(1_000, 600_000_000_000, 3).expect("the bounds are in order"),
        memory: Vec::new(),
        busy_ns: 0,
        broker_cpu_ns: 0,
        own_cpu_ns: 0,
        progress: Progress::new(options.target.quiet || options.target.json),
        last_change_ns: 0,
    };
    if let Some(pid) = options.target.broker_pid {
        usage::cpu_ns(pid).ok_or_else(|| Fault::new(format!("there is no process {pid}")))?;
        usage::forget_peak(pid);
    }
    let rss_start = options.target.broker_pid.and_then(usage::resident_bytes);
    crowd.run()?;
    Ok(crowd.report(rss_start))
}

struct Crowd<'a> {
    options: &'a Conn,
    address: std::net::SocketAddr,
    covers: Covers,
    clock: Clock,
    poll: Poll,
    buf: Vec<u8>,
    members: Vec<Option<Member>>,
    idle: u32,
    in_handshake: u32,
    refused: u64,
    resumed: u64,
    broken: Vec<String>,
    latency: Histogram<u64>,
    memory: Vec<MemoryMark>,
    busy_ns: u64,
    broker_cpu_ns: u64,
    own_cpu_ns: u64,
    progress: Progress,
    last_change_ns: u64,
}

struct Member {
    link: Link,
    step: Step,
    due_ns: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    AwaitConnAck,
    AwaitSubAck,
    Idle,
}

impl Crowd<'_> {
    fn run(&mut self) -> Result<(), Fault> {
        let mut events = Events::with_capacity(4096);
        for cycle in 1..=self.options.cycles {
            self.members.clear();
            self.idle = 0;
            let mut goals: Vec<u32> =
                self.options.marks.iter().copied().filter(|m| *m < self.options.clients).collect();
            goals.push(self.options.clients);
            goals.sort_unstable();
            for goal in goals {
                self.connect_up_to(goal, &mut events)?;
                self.note_memory(cycle, goal);
            }
            self.hold(&mut events)?;
            self.leave(&mut events)?;
            self.note_memory(cycle, 0);
        }
        Ok(())
    }

    fn connect_up_to(&mut self, goal: u32, events: &mut Events) -> Result<(), Fault> {
        let start_ns = self.clock.now_ns();
        let broker = self.options.target.broker_pid.and_then(usage::cpu_ns);
        let own = usage::cpu_ns(std::process::id());
        let already = self.started();
        self.last_change_ns = start_ns;
        while self.idle + self.lost() < goal {
            let mut may_start = true;
            while self.started() < goal && self.in_handshake < self.options.concurrency {
                let now_ns = self.clock.now_ns();
                let nth = u64::from(self.started() - already);
                let due_ns =
                    self.options.rate.map_or(now_ns, |rate| start_ns + nth * 1_000_000_000 / u64::from(rate.max(1)));
                if due_ns > now_ns {
                    may_start = false;
                    break;
                }
                self.start(due_ns)?;
            }
            let timeout = Duration::from_millis(1);
            self.turn(events, timeout)?;
            if may_start && self.options.rate.is_none() {
                std::thread::sleep(REST);
            }
            self.check_silence()?;
            self.draw();
        }
        self.busy_ns += self.clock.now_ns() - start_ns;
        self.broker_cpu_ns += difference(broker, self.options.target.broker_pid.and_then(usage::cpu_ns));
        self.own_cpu_ns += difference(own, usage::cpu_ns(std::process::id()));
        Ok(())
    }

    fn started(&self) -> u32 {
        u32::try_from(self.members.len()).expect("clients fit a u32")
    }

    fn lost(&self) -> u32 {
        self.started() - self.idle - self.in_handshake
    }

    fn start(&mut self, due_ns: u64) -> Result<(), Fault> {
        let index = self.members.len();
        let fault = |e: std::io::Error| Fault::io("cannot open a connection", &e);
        let socket = link::socket(self.address, self.options.target.source(self.address, index)).map_err(fault)?;
        socket.set_nonblocking(true).map_err(fault)?;
        // No TIME_WAIT here or at the broker: cycles would run out of ports.
        socket.set_linger(Some(Duration::ZERO)).map_err(fault)?;
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(e) if e.raw_os_error().is_some() && is_under_way(&e) => {}
            Err(e) => return Err(Fault::io(&self.address.to_string(), &e)),
        }
        let mut stream = TcpStream::from_std(socket.into());
        self.poll
            .registry()
            .register(&mut stream, Token(index), Interest::READABLE | Interest::WRITABLE)
            .map_err(fault)?;
        let link = Link::new(stream, self.covers.make()?);
        self.members.push(Some(Member { link, step: Step::AwaitConnAck, due_ns }));
        self.in_handshake += 1;
        self.greet(index);
        Ok(())
    }

    /// Whatever the socket does not take yet leaves with its next event.
    fn greet(&mut self, index: usize) {
        let Some(member) = self.members[index].as_mut() else { return };
        let target = &self.options.target;
        let id = format!("{}-c-{index:06}", target.id_prefix);
        let connect = wire::connect(target.level(), &id, target.keep_alive, 1000);
        if let Err(e) = member.link.send(&connect) {
            self.end(index, &e.to_string());
        }
    }

    fn turn(&mut self, events: &mut Events, timeout: Duration) -> Result<(), Fault> {
        match self.poll.poll(events, Some(timeout)) {
            Err(e) if e.kind() != ErrorKind::Interrupted => return Err(Fault::io("poller", &e)),
            _ => {}
        }
        for event in events.iter() {
            let index = event.token().0;
            if event.is_writable() {
                self.flush(index);
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(index);
            }
        }
        Ok(())
    }

    fn flush(&mut self, index: usize) {
        let Some(member) = self.members[index].as_mut() else { return };
        if let Err(e) = member.link.flush() {
            self.end(index, &e.to_string());
        }
    }

    fn read(&mut self, index: usize) {
        loop {
            let Some(member) = self.members[index].as_mut() else { return };
            let (filled, drained) = match member.link.fill(&mut self.buf) {
                Ok(Fill::Bytes { filled, drained, .. }) => (filled, drained),
                Ok(Fill::Blocked) => return,
                Ok(Fill::Closed) => return self.end(index, "the broker closed the connection"),
                Err(e) => return self.end(index, &e.to_string()),
            };
            let mut at = 0;
            while let Ok(Some((first, body, len))) = wire::first_packet(&self.buf[at..filled]) {
                at += len;
                let (kind, body) = (first >> 4, body.to_vec());
                if !self.take(index, kind, &body) {
                    return;
                }
            }
            let Some(member) = self.members[index].as_mut() else { return };
            member.link.keep_tail(&self.buf[at..filled]);
            // What a handshake has to say.
            if let Err(e) = member.link.flush() {
                return self.end(index, &e.to_string());
            }
            if drained {
                return;
            }
        }
    }

    /// False when the connection has ended.
    fn take(&mut self, index: usize, kind: u8, body: &[u8]) -> bool {
        let Some(member) = self.members[index].as_mut() else { return false };
        let target = &self.options.target;
        match (member.step, kind) {
            (Step::AwaitConnAck, wire::CONNACK) => match (wire::connack(target.level(), body), &self.options.subscribe)
            {
                (Ok((0, _)), None) => self.settle(index),
                (Ok((0, _)), Some(filter)) => {
                    let filter = filter.replace("%i", &index.to_string());
                    let packet = wire::subscribe(target.level(), 1, &[filter], self.options.qos);
                    member.step = Step::AwaitSubAck;
                    if let Err(e) = member.link.send(&packet) {
                        self.end(index, &e.to_string());
                    }
                }
                (Ok((code, _)), _) => {
                    self.refused += 1;
                    self.end(index, &format!("refused with code {code:#04x}"));
                }
                (Err(e), _) => self.end(index, &e.to_string()),
            },
            (Step::AwaitSubAck, wire::SUBACK) if body.last().is_some_and(|code| *code <= 2) => self.settle(index),
            (Step::AwaitSubAck, wire::SUBACK) => self.end(index, "the subscription was refused"),
            (_, wire::DISCONNECT) => self.end(index, &wire::disconnected(body)),
            _ => {}
        }
        self.members[index].is_some()
    }

    fn settle(&mut self, index: usize) {
        let now_ns = self.clock.now_ns();
        let Some(member) = self.members[index].as_mut() else { return };
        member.step = Step::Idle;
        self.resumed += u64::from(member.link.is_resumed());
        self.latency.saturating_record(now_ns.saturating_sub(member.due_ns));
        self.idle += 1;
        self.in_handshake -= 1;
        self.last_change_ns = now_ns;
    }

    fn end(&mut self, index: usize, reason: &str) {
        let Some(member) = self.members[index].take() else { return };
        if member.step == Step::Idle {
            self.idle -= 1;
        } else {
            self.in_handshake -= 1;
        }
        self.last_change_ns = self.clock.now_ns();
        self.broken.push(format!("connection {index}: {reason}"));
    }

    fn check_silence(&self) -> Result<(), Fault> {
        let silent = self.clock.now_ns().saturating_sub(self.last_change_ns);
        match self.in_handshake > 0 && silent > SILENCE_NS {
            true => Err(Fault::new(format!("{} connections got no answer for 15 s", self.in_handshake))),
            false => Ok(()),
        }
    }

    fn note_memory(&mut self, cycle: u32, connections: u32) {
        let Some(pid) = self.options.target.broker_pid else { return };
        if !self.options.marks.is_empty() || self.options.cycles > 1 {
            std::thread::sleep(SETTLE);
        }
        let rss_bytes = usage::resident_bytes(pid).unwrap_or(0);
        self.memory.push(MemoryMark { cycle, connections, rss_bytes });
    }

    fn hold(&mut self, events: &mut Events) -> Result<(), Fault> {
        let until_ns = self.clock.now_ns() + (self.options.hold.max(0.0) * 1e9) as u64;
        while self.clock.now_ns() < until_ns {
            self.turn(events, Duration::from_millis(100))?;
            self.draw();
        }
        Ok(())
    }

    /// Says goodbye and waits until the broker has closed every connection.
    fn leave(&mut self, events: &mut Events) -> Result<(), Fault> {
        for member in self.members.iter_mut().flatten() {
            let _ = member.link.send(&wire::DISCONNECT_PACKET);
        }
        let before = self.broken.len();
        let until_ns = self.clock.now_ns() + 10_000_000_000;
        while self.idle > 0 && self.clock.now_ns() < until_ns {
            self.turn(events, Duration::from_millis(10))?;
        }
        self.broken.truncate(before); // closing was asked for
        Ok(())
    }

    fn draw(&mut self) {
        if self.progress.is_due() {
            let text = format!("{} connections", short(f64::from(self.idle)));
            self.progress.draw(f64::from(self.idle) / f64::from(self.options.clients), &text);
        }
    }

    fn report(mut self, rss_start: Option<u64>) -> ConnReport {
        self.progress.clear();
        let options = self.options;
        let made = self.latency.len();
        let figures = Figures { seconds: self.busy_ns as f64 / 1e9, published: 0, delivered: made };
        let first: Vec<_> = self.memory.iter().filter(|mark| mark.cycle == 1 && mark.connections > 0).collect();
        let bytes_per_connection = match (first.first(), first.last()) {
            (Some(low), Some(high)) if high.connections > low.connections => {
                let growth = high.rss_bytes as f64 - low.rss_bytes as f64;
                Some(growth / f64::from(high.connections - low.connections))
            }
            _ => None,
        };
        ConnReport {
            scenario: "conn",
            version: options.target.level().name(),
            connections: options.clients,
            cycles: options.cycles,
            seconds: figures.seconds,
            per_second: made as f64 / figures.seconds.max(1e-9),
            latency: Latency::of(&self.latency),
            refused: self.refused,
            resumed: self.resumed,
            broken: self.broken,
            bytes_per_connection,
            generator_cpu_us: figures.per_message(self.own_cpu_ns),
            broker: options
                .target
                .broker_pid
                .map(|pid| BrokerUse::new(pid, &figures, Some(0), Some(self.broker_cpu_ns), rss_start)),
            memory: self.memory,
            load_average: usage::load_average(),
        }
    }
}

fn difference(before: Option<u64>, after: Option<u64>) -> u64 {
    after.unwrap_or(0).saturating_sub(before.unwrap_or(0))
}

/// A non-blocking connect that has begun.
fn is_under_way(error: &std::io::Error) -> bool {
    const EINPROGRESS: i32 = if cfg!(target_os = "linux") { 115 } else { 36 };
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(EINPROGRESS)
}
