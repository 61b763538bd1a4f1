//! One session as its client sees it: connections come and go, what is remembered stays.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::time::{Duration, Instant};

use breakwater_proto::{ConnAck, Connect, Disconnect, Packet, ReasonCode, Split, Version, decode, split};

use crate::ledger::Fault;

const PACKET_MAX: u32 = 1 << 20;
/// Long enough for any game; what 3.1.1 gets is set in the broker.
const EXPIRY_S: u32 = 86_400;

/// The name of a session and its connection, if it has one.
pub(crate) struct Link {
    pub(crate) name: String,
    pub(crate) version: Version,
    /// Forgets its session with each connection.
    pub(crate) clean: bool,
    pub(crate) receive_maximum: u16,
    /// The broker has confirmed the session, so from now on it has to know it.
    known: bool,
    /// CONNACK has come.
    pub(crate) online: bool,
    /// Which connection this is, from 1.
    pub(crate) connection: u32,
    /// Not to connect before that.
    pub(crate) away_until: Instant,
    /// Ends its connection then, and stays away for so long.
    pub(crate) leaves: Option<(Instant, Duration)>,
    stream: Option<TcpStream>,
    input: Vec<u8>,
    pub(crate) out: Vec<u8>,
    /// What it sent and was sent last.
    trace: VecDeque<String>,
    began: Instant,
}

/// Lines of a trace.
const LINES: usize = 80;

impl Link {
    pub(crate) fn new(name: &str, version: Version, now: Instant) -> Link {
        Link {
            name: name.to_owned(),
            version,
            clean: false,
            receive_maximum: u16::MAX,
            known: false,
            online: false,
            connection: 0,
            away_until: now,
            leaves: None,
            stream: None,
            input: Vec::new(),
            out: Vec::new(),
            trace: VecDeque::new(),
            began: now,
        }
    }

    pub(crate) fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() == LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9.3} {}", self.began.elapsed().as_secs_f64(), text()));
    }

    /// What it sent and was sent last, for the report of a fault.
    pub(crate) fn traced(&self) -> String {
        let lines: Vec<&str> = self.trace.iter().map(String::as_str).collect();
        format!("{}, in seconds since the start of the game:\n{}\n", self.name, lines.join("\n"))
    }

    pub(crate) fn stream(&self) -> Option<&TcpStream> {
        self.stream.as_ref()
    }

    pub(crate) fn has_more_to_write(&self) -> bool {
        !self.out.is_empty()
    }

    /// Connects if it is time to.
    pub(crate) fn on_tick(&mut self, port: u16, now: Instant) {
        if let Some((at, pause)) = self.leaves
            && at <= now
        {
            self.leave();
            self.away_until = now + pause;
        }
        if self.stream.is_some() || now < self.away_until {
            return;
        }
        // A port that is not there: the broker is ending.
        let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)) else { return };
        if stream.set_nonblocking(true).and_then(|()| stream.set_nodelay(true)).is_err() {
            return;
        }
        self.stream = Some(stream);
        self.connection += 1;
        let connection = self.connection;
        self.note(|| format!("CONNECT on connection {connection}"));
        let mut connect = Connect::new(self.version, &self.name);
        connect.clean_start = self.clean;
        connect.keep_alive_s = 0;
        if self.version.is_v5() {
            connect.session_expiry = (!self.clean).then_some(EXPIRY_S);
            connect.receive_maximum = Some(self.receive_maximum);
        }
        connect.encode(self.version, &mut self.out);
        self.flush();
    }

    /// Says goodbye, or does not.
    fn leave(&mut self) {
        if self.connection.is_multiple_of(2) && self.online {
            Disconnect::new(ReasonCode::Success).encode(self.version, &mut self.out);
            self.flush();
        }
        self.lose();
        self.leaves = None;
    }

    /// The connection is gone, with all that was under way.
    pub(crate) fn lose(&mut self) {
        if self.stream.is_some() {
            self.note(|| "the connection is lost".to_owned());
        }
        self.stream = None;
        self.online = false;
        self.input.clear();
        self.out.clear();
    }

    /// What CONNACK says has to fit what it said before.
    pub(crate) fn on_connack(&mut self, connack: &ConnAck<'_>) -> Result<(), Fault> {
        let name = &self.name;
        if connack.reason != ReasonCode::Success {
            return Err(Fault::Protocol(format!("{name} is not let in: {:?}", connack.reason)));
        }
        if connack.session_present != (self.known && !self.clean) {
            let present = connack.session_present;
            return Err(Fault::Protocol(format!("{name} is told that its session is present: {present}")));
        }
        self.known = true;
        self.online = true;
        self.note(|| "CONNACK".to_owned());
        Ok(())
    }

    /// Reads all that is there and gives it packet by packet. Ends the connection if the other side did.
    pub(crate) fn read(
        &mut self,
        mut on_packet: impl FnMut(&mut Link, Packet<'_>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let open = self.fill();
        let mut input = std::mem::take(&mut self.input);
        let mut at = 0;
        let violation = |name: &str, what: &dyn std::fmt::Debug| Fault::Protocol(format!("{name} was sent {what:?}"));
        loop {
            match split(&input[at..], PACKET_MAX).map_err(|fault| violation(&self.name, &fault))? {
                Split::Incomplete { .. } => break,
                Split::Packet(frame) => {
                    let packet = decode(self.version, &frame).map_err(|fault| violation(&self.name, &fault))?;
                    if let Packet::Disconnect(disconnect) = packet {
                        return Err(violation(&self.name, &disconnect));
                    }
                    on_packet(self, packet)?;
                    at += frame.len;
                }
            }
        }
        input.drain(..at);
        self.input = input;
        if open {
            self.flush();
        } else {
            self.lose();
        }
        Ok(())
    }

    /// False if the other side has gone.
    fn fill(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return true };
        let mut scratch = [0; 16 << 10];
        // Bounded, or a reader that is slower than the broker would never look up.
        for _ in 0..16 {
            match stream.read(&mut scratch) {
                Ok(0) => return false,
                Ok(read) => self.input.extend_from_slice(&scratch[..read]),
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => return true,
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    pub(crate) fn flush(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut written = 0;
        while written < self.out.len() {
            match stream.write(&self.out[written..]) {
                Ok(count) => written += count,
                Err(fault) if fault.kind() == ErrorKind::Interrupted => {}
                // Full, or gone, which reading will tell.
                Err(_) => break,
            }
        }
        self.out.drain(..written);
    }
}
