//! One connection: bytes in, bytes out, and how far it has come.

use breakwater_contract::{Principal, Verdict};
use breakwater_proto::{Instant, ReasonCode, Violation};
use breakwater_session::Link;

use crate::driver::Peer;
use crate::lifetime::Lifetime;
use crate::pace::Meter;

/// No session.
pub(crate) const NONE: u32 = u32::MAX;

/// Lives in a slot of its shard. Small, because most connections idle: buffers are held only while they hold bytes.
#[derive(Debug)]
pub(crate) struct Conn {
    /// Bytes for the client; `sent` of them are gone.
    pub(crate) out: Vec<u8>,
    pub(crate) sent: u32,
    /// Slot of its session once it is a client, [`NONE`] before.
    pub(crate) session: u32,
    /// Received and not yet processed: the part of a packet, or what a budget has left for later.
    pub(crate) tail: Vec<u8>,
    /// Length that `tail` must reach before it is worth looking at again.
    pub(crate) tail_need: u32,
    /// Low half of the time of the last bytes from the client, in milliseconds.
    pub(crate) last_seen: u32,
    /// Keep-alive with its multiplier, in milliseconds; 0 for none.
    pub(crate) keep_alive_ms: u32,
    /// Low half of the time since when no byte went out though some waited.
    pub(crate) stalled_since: u32,
    /// Unsent bytes that are in the shard's account.
    pub(crate) accounted: u32,
    /// Bytes of `tail`, and of a CONNECT that waits, that are in the shard's account.
    pub(crate) tail_accounted: u32,
    pub(crate) link: Link,
    pub(crate) peer: Peer,
    pub(crate) flags: Flags,
    /// Tick of its connect or keep-alive timer.
    pub(crate) timer_tick: u32,
    /// Large fan-outs under way on behalf of this publisher.
    pub(crate) jobs: u16,
    /// Row of its profile, once it is a client.
    pub(crate) profile: u16,
    pub(crate) phase: Phase,
    pub(crate) rare: Option<Box<Rare>>,
}

/// How far a connection has come.
#[derive(Debug)]
pub(crate) enum Phase {
    /// Nothing but a CONNECT is acceptable.
    Porch {
        /// Until when.
        deadline: Instant,
    },
    /// CONNECT is here; a verdict or the client's AUTH is awaited.
    Admission(Box<Admission>),
    /// A client.
    Ready,
    /// Everything has been said; only bytes that the socket did not take yet keep the connection.
    Leaving,
}

impl Phase {
    /// Bytes that are kept until there is a verdict.
    pub(crate) fn waiting_bytes(&self) -> usize {
        match self {
            Phase::Admission(admission) => size_of::<Admission>() + admission.connect.capacity(),
            Phase::Porch { .. } | Phase::Ready | Phase::Leaving => 0,
        }
    }
}

/// A CONNECT that waits for its verdict.
#[derive(Debug)]
pub(crate) struct Admission {
    /// The packet, whole: decoded again when the verdict is there.
    pub(crate) connect: Vec<u8>,
    /// Identifier that we gave, where the client gave none.
    pub(crate) assigned: Option<Box<str>>,
    /// The client owes us an AUTH packet; otherwise the authenticator owes us an answer.
    pub(crate) challenged: bool,
    /// The client's Maximum Packet Size; `u32::MAX` when it named none.
    pub(crate) maximum_packet_size: u32,
}

/// What few connections have.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub(crate) principal: Principal,
    /// Number of the admission that gave it its name: those that came before a change of the users can be told from later ones.
    pub(crate) admission: u64,
    /// Authentication method of CONNECT [MQTT-4.12.0-5].
    pub(crate) auth_method: Option<Box<str>>,
    /// A re-authentication is under way.
    pub(crate) reauthenticating: bool,
    /// What the packet at the front of `tail` waits for.
    pub(crate) questions: Questions,
    /// When it ends, if its listener bounds that.
    pub(crate) lifetime: Option<Box<Lifetime>>,
    /// What it may still send and be sent, if its listener bounds that.
    pub(crate) meter: Option<Box<Meter>>,
}

/// Authorization questions about one packet. Empty when no packet waits.
#[derive(Debug)]
pub(crate) struct Questions {
    /// Asked and not answered.
    pub(crate) open: u32,
    /// Answers, by number of the question within the packet.
    pub(crate) answers: Vec<(u32, Verdict)>,
    /// The deadline has passed: what is not answered is denied.
    pub(crate) overdue: bool,
    /// Until when answers are waited for.
    pub(crate) until: Instant,
    /// Sequence of the packet's first question: no two packets share one, so that an answer which comes too late can't
    /// pass for one to a later packet.
    pub(crate) first: u32,
}

impl Questions {
    /// Those about the next packet.
    pub(crate) fn next(&self) -> Self {
        // A packet has fewer questions than that: filters are counted in 16 bits.
        Self { first: self.first.wrapping_add(1 << 16), ..Self::default() }
    }
}

impl Default for Questions {
    fn default() -> Self {
        Self { open: 0, answers: Vec::new(), overdue: false, until: Instant(0), first: 0 }
    }
}

/// Plain bits of a connection.
#[derive(Clone, Copy, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not a state")]
pub(crate) struct Flags {
    /// In the dirty list.
    pub(crate) dirty: bool,
    /// The socket took less than offered: an edge will come.
    pub(crate) blocked: bool,
    /// An edge came and the socket has not been read to its end.
    pub(crate) readable: bool,
    /// The peer has closed its sending side: read on to the end.
    pub(crate) read_closed: bool,
    /// In the ready-again list.
    pub(crate) again: bool,
    /// Why nothing is read: bits of [`hold`].
    pub(crate) holds: Bits,
    /// `tail` starts with a whole packet.
    pub(crate) tail_ready: bool,
    /// The session may have more to send.
    pub(crate) pump: bool,
    /// What few connections are: bits of [`mark`].
    pub(crate) marks: Bits,
}

/// Up to eight facts in a byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bits(u8);

impl Bits {
    #[inline]
    pub(crate) fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }

    #[inline]
    pub(crate) fn any(self) -> bool {
        self.0 != 0
    }

    #[inline]
    pub(crate) fn put(&mut self, bit: u8, on: bool) {
        if on { self.0 |= bit } else { self.0 &= !bit }
    }
}

/// Why a connection is not read from.
pub(crate) mod hold {
    /// It has to wait for memory or mailbox room.
    pub(crate) const PAUSED: u8 = 1;
    /// It waits for an answer.
    pub(crate) const PARKED: u8 = 2;
    /// It has sent more than its rate allows.
    pub(crate) const THROTTLED: u8 = 4;
    /// As many of its publishes as it may have under way are not acknowledged yet.
    pub(crate) const UNACKNOWLEDGED: u8 = 8;
    /// What stands in its out buffer promises something that the store does not have yet. Nothing is written either.
    pub(crate) const UNSTORED: u8 = 16;
}

/// What few connections are.
pub(crate) mod mark {
    /// `tail_accounted` is in the part of those who are not clients yet.
    pub(crate) const STRANGER: u8 = 1;
    /// The client is a bridge.
    pub(crate) const BRIDGE: u8 = 2;
    /// A stall timer is set.
    pub(crate) const STALL_TIMER: u8 = 4;
    /// It has a meter: see `pace.rs`.
    pub(crate) const METERED: u8 = 8;
    /// Each of its publications is looked at by itself, and none goes into a run.
    pub(crate) const SINGLE: u8 = 16;
    /// It has been sent as much as its rate allows.
    pub(crate) const SLOWED: u8 = 32;
}

impl Conn {
    pub(crate) fn new(peer: Peer, link: Link, now: Instant, deadline: Instant) -> Self {
        Self {
            out: Vec::new(),
            sent: 0,
            session: NONE,
            tail: Vec::new(),
            tail_need: 0,
            last_seen: now.0 as u32,
            keep_alive_ms: 0,
            stalled_since: now.0 as u32,
            accounted: 0,
            tail_accounted: 0,
            link,
            peer,
            flags: Flags::default(),
            timer_tick: 0,
            jobs: 0,
            profile: 0,
            phase: Phase::Porch { deadline },
            rare: None,
        }
    }

    /// Bytes that wait to be written.
    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.out.len() - self.sent as usize
    }

    /// Bytes that may still be appended to the out buffer.
    #[inline]
    pub(crate) fn room(&self, bound: u32) -> usize {
        (bound as usize).saturating_sub(self.unsent())
    }

    /// Reading has to wait for something.
    #[inline]
    pub(crate) fn held(&self) -> bool {
        self.flags.holds.any() || self.jobs > 0 || self.is_leaving()
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Leaving)
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client said goodbye; its will goes unpublished.
    Disconnect,
    /// The client said goodbye and wants its will published, or closed with an error of its own.
    DisconnectWith(ReasonCode),
    /// The peer closed the connection without a word.
    PeerClosed,
    /// The network broke.
    NetworkFailed,
    /// The peer broke the protocol.
    Violation(Violation),
    /// Well-formed, not permitted, and there is no acknowledgement to say so in.
    NotPermitted(ReasonCode, &'static str),
    /// Nothing came for longer than the keep-alive allows.
    KeepAlive,
    /// No CONNECT in time, or no verdict.
    ConnectTimeout,
    /// Bytes for the client could not be sent for too long.
    Stalled,
    /// The same client identifier has connected again.
    TakenOver,
    /// CONNECT was answered with an error.
    Refused(ReasonCode),
    /// Re-authentication failed.
    AuthFailed(ReasonCode),
    /// An operator ended it.
    Kicked(ReasonCode),
    /// Its user has lost what let it in.
    Revoked,
    /// Its listener closes, or is emptied by an operator.
    Drained,
    /// It has lasted as long as its listener allows.
    Lifetime,
    /// The broker stops.
    Shutdown,
    /// No descriptor, slot or memory for it.
    NoRoom,
    /// A bug of ours.
    Panic,
}

impl Cause {
    /// Code that the client is told, and that the log shows.
    #[must_use]
    pub fn reason(&self) -> ReasonCode {
        match self {
            Cause::Disconnect => ReasonCode::Success,
            Cause::DisconnectWith(reason)
            | Cause::NotPermitted(reason, _)
            | Cause::Refused(reason)
            | Cause::AuthFailed(reason)
            | Cause::Kicked(reason) => *reason,
            Cause::PeerClosed | Cause::NetworkFailed | Cause::Panic => ReasonCode::UnspecifiedError,
            Cause::Violation(violation) => violation.reason(),
            Cause::KeepAlive => ReasonCode::KeepAliveTimeout,
            Cause::ConnectTimeout => ReasonCode::MaximumConnectTime,
            Cause::Stalled => ReasonCode::QuotaExceeded,
            Cause::TakenOver => ReasonCode::SessionTakenOver,
            Cause::Revoked => ReasonCode::NotAuthorized,
            Cause::Drained => ReasonCode::AdministrativeAction,
            Cause::Lifetime => ReasonCode::MaximumConnectTime,
            Cause::Shutdown => ReasonCode::ServerShuttingDown,
            Cause::NoRoom => ReasonCode::ServerBusy,
        }
    }

    /// The broker ends it, so that a version 5 client is told why.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        !matches!(
            self,
            Cause::Disconnect
                | Cause::DisconnectWith(_)
                | Cause::PeerClosed
                | Cause::NetworkFailed
                | Cause::Refused(_)
                | Cause::ConnectTimeout
        )
    }

    /// Statement of the specification that was broken, or empty.
    #[must_use]
    pub fn statement(&self) -> &'static str {
        match self {
            Cause::Violation(violation) => violation.statement(),
            _ => "",
        }
    }

    /// In words.
    #[must_use]
    pub fn text(&self) -> &'static str {
        match self {
            Cause::Disconnect => "the client disconnected",
            Cause::DisconnectWith(ReasonCode::DisconnectWithWill) => "the client disconnected and left its will",
            Cause::DisconnectWith(_) => "the client disconnected with an error",
            Cause::PeerClosed => "the client closed the connection without DISCONNECT",
            Cause::NetworkFailed => "the network connection broke",
            Cause::Violation(violation) => violation.text(),
            Cause::NotPermitted(_, text) => text,
            Cause::KeepAlive => "nothing came within the keep-alive time",
            Cause::ConnectTimeout => "no CONNECT came in time",
            Cause::Stalled => "the client did not read what was sent to it",
            Cause::TakenOver => "the same client identifier connected again",
            Cause::Refused(reason) | Cause::AuthFailed(reason) | Cause::Kicked(reason) => reason.name(),
            Cause::Revoked => "the user was disabled, removed or given another password",
            Cause::Drained => "the listener lets its clients go: connect again",
            Cause::Lifetime => "the connection has lasted as long as its listener allows",
            Cause::Shutdown => "the broker is shutting down",
            Cause::NoRoom => "the broker has no room for more connections",
            Cause::Panic => "an error inside the broker (please report it)",
        }
    }
}

impl From<Violation> for Cause {
    fn from(violation: Violation) -> Self {
        Cause::Violation(violation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an idle client costs, apart from its names and subscriptions.
    #[test]
    fn a_connection_and_its_session_stay_small() {
        assert!(size_of::<Conn>() <= 192, "{}", size_of::<Conn>());
        assert!(size_of::<crate::shard::Resident>() <= 128, "{}", size_of::<crate::shard::Resident>());
    }
}
