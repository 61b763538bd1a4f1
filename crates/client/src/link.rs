//! The blocking shell around the client core: one connection, one thread that reads it.
//!
//! The main thread owns the core and writes; while a write stalls it goes on taking in what arrives, so that two peers
//! that both wait for the other to read can't lock each other up.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant as Clock};

use breakwater_proto::{Instant, Split, split};

use crate::args::Settings;
use crate::console::Console;
use crate::dial::{Outgoing, Seen, dial};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::{Client, Event};

/// What wakes the main thread.
pub(crate) enum Arrival {
    Bytes(Vec<u8>),
    Closed,
    /// Another source has something; the sender keeps it.
    Nudge,
}

/// One connection of one client. Owned by the main thread of the tool.
pub(crate) struct Link {
    pub(crate) client: Client,
    stream: Box<dyn Outgoing>,
    inbox: Receiver<Arrival>,
    nudge: SyncSender<Arrival>,
    backlog: VecDeque<Arrival>,
    start: Clock,
    trace: Option<Trace>,
}

const READ_BYTES: usize = 64 * 1024;
/// Chunks under way from the reading thread: 1 MiB at most.
const CHUNKS_MAX: usize = 16;
/// How often the main thread looks whether it shall stop.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// How long a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection on which nothing was said yet.
pub(crate) struct Wire {
    stream: Box<dyn Outgoing>,
    inbox: Receiver<Arrival>,
    sender: SyncSender<Arrival>,
    pub(crate) seen: Seen,
}

impl Wire {
    pub(crate) fn open(settings: &Settings) -> Result<Wire, Failure> {
        let dialled = dial(&settings.target)?;
        let (sender, inbox) = sync_channel(CHUNKS_MAX);
        let (reader, arrivals) = (dialled.reader, sender.clone());
        thread::Builder::new()
            .name("read".into())
            .spawn(move || read(reader, &arrivals))
            .map_err(|error| Failure::new(Exit::USAGE, format!("can't use the connection: {error}")))?;
        Ok(Wire { stream: dialled.writer, inbox, sender, seen: dialled.seen })
    }
}

impl Link {
    /// Puts CONNECT on its way. The client may bring a session from an earlier connection; `start` is the zero of its
    /// time.
    pub(crate) fn start(wire: Wire, settings: &Settings, mut client: Client, start: Clock) -> Link {
        client.connect(since(start));
        let Wire { stream, inbox, sender, .. } = wire;
        let trace = settings.debug.then(Trace::default);
        Link { client, stream, inbox, nudge: sender, backlog: VecDeque::new(), start, trace }
    }

    pub(crate) fn now(&self) -> Instant {
        since(self.start)
    }

    /// Lets another thread wake [`Link::wait`].
    pub(crate) fn nudge(&self) -> SyncSender<Arrival> {
        self.nudge.clone()
    }

    /// Writes all output, waits until something arrives or `until` has come, and hands it to the core. `false`: the
    /// connection is over.
    pub(crate) fn turn(&mut self, until: Option<Instant>, console: &mut Console) -> Result<bool, Failure> {
        self.client.on_time(self.now())?;
        if !self.flush(console) {
            return Ok(false);
        }
        let deadline = [until, self.client.next_deadline()].into_iter().flatten().min();
        match self.wait(deadline) {
            Some(Arrival::Bytes(bytes)) => self.take_in(&bytes, console),
            Some(Arrival::Closed) => return Ok(false),
            Some(Arrival::Nudge) | None => {}
        }
        Ok(true)
    }

    /// The next event that has arrived; `None` when the connection must be waited for.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event<'_>>, Failure> {
        let now = self.now();
        Ok(self.client.next_event(now)?)
    }

    /// Writes what is left, ends the stream in good order, and gives the client back.
    pub(crate) fn close(mut self, console: &mut Console) -> Client {
        if self.flush(console) && self.stream.end().is_ok() {
            // Closing while the server's bytes are unread would cut off ours on their way.
            let until = self.now() + CLOSE_TIMEOUT;
            while self.now() < until {
                if let Some(Arrival::Closed) = self.wait(Some(until)) {
                    break;
                }
            }
        }
        self.leave()
    }

    /// Drops the connection as it is.
    pub(crate) fn leave(mut self) -> Client {
        self.stream.cut();
        self.client.on_closed();
        self.client
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Option<Arrival> {
        if let Some(arrival) = self.backlog.pop_front() {
            return Some(arrival);
        }
        let left = deadline.map_or(STOP_LOOK, |deadline| (deadline - self.now()).min(STOP_LOOK));
        match self.inbox.recv_timeout(left) {
            Ok(arrival) => Some(arrival),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Arrival::Closed),
        }
    }

    fn take_in(&mut self, bytes: &[u8], console: &mut Console) {
        if let Some(trace) = &mut self.trace {
            trace.on_bytes(bytes, console);
        }
        let now = self.now();
        self.client.on_bytes(bytes, now);
    }

    /// `false`: the connection takes nothing any more.
    fn flush(&mut self, console: &mut Console) -> bool {
        let out = self.client.take_output();
        if self.trace.is_some() {
            Trace::print(&out, '>', console);
        }
        let mut rest = out.as_slice();
        let mut flushed = false;
        while !flushed {
            let result = match rest {
                // What the transport has put around it may still wait.
                [] => self.stream.flush().map(|()| flushed = true),
                _ => match self.stream.write(rest) {
                    Ok(0) => return false,
                    result => result.map(|written| rest = &rest[written..]),
                },
            };
            match result {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if console.is_stopped() {
                        return false;
                    }
                    self.backlog.extend(self.inbox.try_iter());
                }
                Err(_) => return self.stays_readable(),
            }
        }
        true
    }

    /// The server may have said why before it closed: what has arrived is still read.
    fn stays_readable(&mut self) -> bool {
        self.backlog.extend(self.inbox.try_iter());
        self.backlog.iter().any(|arrival| matches!(arrival, Arrival::Bytes(_)))
    }
}

fn since(start: Clock) -> Instant {
    Instant(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Ends when the connection or the receiver does.
fn read(mut stream: Box<dyn Read + Send>, sender: &SyncSender<Arrival>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let arrival = match stream.read(&mut buffer) {
            Ok(0) => Arrival::Closed,
            Ok(len) => Arrival::Bytes(buffer[..len].to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => Arrival::Closed,
        };
        let is_last = matches!(arrival, Arrival::Closed);
        if sender.send(arrival).is_err() || is_last {
            return;
        }
    }
}

/// `--debug`: one line per packet, in both directions.
#[derive(Default)]
struct Trace {
    partial: Vec<u8>,
}

impl Trace {
    fn on_bytes(&mut self, bytes: &[u8], console: &mut Console) {
        self.partial.extend_from_slice(bytes);
        let printed = Trace::print(&self.partial, '<', console);
        self.partial.drain(..printed);
    }

    /// Prints the whole packets in `bytes` and gives their length.
    fn print(bytes: &[u8], arrow: char, console: &mut Console) -> usize {
        let mut at = 0;
        while let Ok(Split::Packet(frame)) = split(&bytes[at..], u32::MAX) {
            let name = frame.kind().map_or("?", |kind| kind.name());
            console.note(&format!("{arrow} {name}, {} bytes", frame.len));
            at += frame.len;
        }
        at
    }
}
