//! The listeners of a node while they live: numbers, terms, counters, and the passes of their connections.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use breakwater_proto::Instant;
use breakwater_transport::tls::{ServerTls, load_server};

use crate::access::{AddressKey, Addresses, allows};
use crate::bind_fault::{BindCause, BindFault};
use crate::listener::{ListenerOptions, Protocols};
use crate::ocsp::Stapler;
use crate::quic::Crypto;
use crate::rate::Bucket;
use crate::refusal::{Lately, Refusal};

/// What is counted of a listener as long as it has its name. Shared by all threads; nothing in it is touched per message.
pub(crate) struct Standing {
    pub(crate) name: Box<str>,
    /// Milliseconds of Unix time at which it was opened.
    pub(crate) since_unix_ms: u64,
    pub(crate) bucket: Bucket,
    pub(crate) accepted: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    open: AtomicU32,
    refused: [AtomicU64; Refusal::ALL.len()],
    /// Of those, the ones that a log line has told of.
    told: [AtomicU64; Refusal::ALL.len()],
    /// Whose refusals were told of lately.
    lately: Lately,
    addresses: Addresses,
    /// Connections of the whole node.
    node_open: Arc<AtomicUsize>,
}

/// A number under which a listener accepts. A listener that is changed so that its earlier connections end goes on under
/// another one.
pub(crate) struct Listener {
    /// Goes into [`Peer::listener`](breakwater_shard::Peer). Not given again while this value lives.
    pub(crate) number: u16,
    pub(crate) standing: Arc<Standing>,
    /// Connections under this number, those at the gate included.
    open: AtomicU32,
    /// No socket accepts under this number any more, or will.
    closed: AtomicBool,
}

/// What the accepting side has to know of a listener. Never changed: replaced as a whole.
pub(crate) struct Terms {
    pub(crate) options: ListenerOptions,
    /// A connection is MQTT from its first byte: it goes straight to the engine. Any other stands at the gate first.
    pub(crate) plain: bool,
    /// TLS, with the certificates as they stood in their files.
    pub(crate) tls: Option<ServerTls>,
    /// Keeps its stapled answers current, if any are to be fetched.
    pub(crate) stapler: Option<Stapler>,
    /// The same for QUIC.
    pub(crate) crypto: Option<Crypto>,
}

impl Terms {
    /// Without TLS.
    pub(crate) fn new(options: ListenerOptions) -> Self {
        let plain = options.proxy.is_none() && options.protocols == Protocols::MQTT;
        Self { options, plain, tls: None, stapler: None, crypto: None }
    }

    /// Reads the files of its TLS, if it has any. What clients have agreed on with `before` can be resumed, as far as that is
    /// wise.
    pub(crate) fn load(options: ListenerOptions, before: Option<&Self>) -> Result<Self, BindFault> {
        let fault =
            |faults| BindFault { listener: options.name.clone(), place: "".into(), cause: BindCause::Tls(faults) };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut tls = options.tls.as_ref().map(|tls| load_server(tls, now_s)).transpose().map_err(fault)?;
        if let (Some(tls), Some(before)) = (&mut tls, before.and_then(|before| before.tls.as_ref())) {
            tls.resume_from(before);
        }
        let crypto = match (&tls, &options.tls) {
            (Some(tls), Some(files)) if options.protocols.quic => {
                Some(Crypto::new(tls, files).map_err(|one| fault(vec![one]))?)
            }
            (None, _) if options.protocols.quic => return Err(fault(Vec::new())),
            _ => None,
        };
        // Without a thread for it TLS goes on as it does without an answer.
        let stapler = tls.as_ref().and_then(|tls| Stapler::start(tls.clone(), |_| {}).ok().flatten());
        Ok(Self { tls, stapler, crypto, ..Self::new(options) })
    }

    /// What is not well with its TLS, one line each: of its files, and of the answers that were to be fetched for them.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let files = self.tls.iter().flat_map(|tls| &tls.warnings).map(ToString::to_string);
        let notes = self.stapler.iter().flat_map(Stapler::notes);
        files.chain(notes.filter_map(|note| note.warning())).collect()
    }

    /// The address of the socket is not that of the client: who may come in is decided when that is known.
    pub(crate) fn is_proxied(&self) -> bool {
        self.options.proxy.is_some()
    }

    /// Asks the access rules.
    pub(crate) fn admits(&self, address: IpAddr) -> Result<(), Refusal> {
        if allows(&self.options.access, address) { Ok(()) } else { Err(Refusal::Denied) }
    }
}

impl Standing {
    pub(crate) fn new(name: Box<str>, since_unix_ms: u64, node_open: Arc<AtomicUsize>) -> Self {
        Self {
            name,
            since_unix_ms,
            bucket: Bucket::default(),
            accepted: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            open: AtomicU32::new(0),
            refused: Default::default(),
            told: Default::default(),
            lately: Lately::default(),
            addresses: Addresses::default(),
            node_open,
        }
    }

    /// Connections that it has.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    /// How many were turned away for this reason.
    pub(crate) fn refused(&self, refusal: Refusal) -> u64 {
        self.refused[refusal as usize].load(Ordering::Relaxed)
    }

    /// Counts one that is turned away. A number: it is time for a line in the log, which stands for so many of this reason,
    /// whoever they were.
    pub(crate) fn refuse(&self, refusal: Refusal, address: IpAddr, now: Instant) -> Option<u64> {
        let at = refusal as usize;
        let total = self.refused[at].fetch_add(1, Ordering::Relaxed) + 1;
        let due = self.lately.is_due(refusal, AddressKey::new(address), now);
        due.then(|| total.saturating_sub(self.told[at].swap(total, Ordering::Relaxed)))
    }
}

impl Listener {
    pub(crate) fn new(number: u16, standing: Arc<Standing>) -> Self {
        Self { number, standing, open: AtomicU32::new(0), closed: AtomicBool::new(false) }
    }

    pub(crate) fn open(&self) -> u32 {
        self.open.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// One connection's place in all counts that it stands in: leaves them when it is dropped, wherever that happens.
pub(crate) struct Pass {
    /// Always there, but for a pass that was taken apart.
    listener: Option<Arc<Listener>>,
    address: Option<AddressKey>,
}

impl Pass {
    /// Counts a connection at its listener and its node.
    pub(crate) fn enter(listener: &Arc<Listener>, terms: &Terms, node_max: usize) -> Result<Self, Refusal> {
        let standing = &listener.standing;
        let most = match terms.options.connections_max {
            0 => u32::MAX,
            most => most,
        };
        if standing.open.fetch_add(1, Ordering::Relaxed) >= most {
            standing.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::ListenerFull);
        }
        if standing.node_open.fetch_add(1, Ordering::Relaxed) >= node_max {
            standing.node_open.fetch_sub(1, Ordering::Relaxed);
            standing.open.fetch_sub(1, Ordering::Relaxed);
            return Err(Refusal::NodeFull);
        }
        listener.open.fetch_add(1, Ordering::Relaxed);
        Ok(Self { listener: Some(Arc::clone(listener)), address: None })
    }

    /// Whether a client of this address may come in, by the access rules and by what its address has already. Asked once its
    /// address is known for good, and again if it turns out to be another.
    pub(crate) fn claim(&mut self, terms: &Terms, address: IpAddr) -> Result<(), Refusal> {
        terms.admits(address)?;
        self.count(terms, address)
    }

    /// Counts it at its address, where the listener has a bound for that.
    pub(crate) fn count(&mut self, terms: &Terms, address: IpAddr) -> Result<(), Refusal> {
        self.forget_address();
        let most = terms.options.connections_per_address_max;
        if most == 0 {
            return Ok(());
        }
        let key = AddressKey::new(address);
        if !self.listener().standing.addresses.enter(key, most) {
            return Err(Refusal::AddressFull);
        }
        self.address = Some(key);
        Ok(())
    }

    pub(crate) fn listener(&self) -> &Arc<Listener> {
        self.listener.as_ref().expect("only a pass that was taken apart has none, and that is gone")
    }

    /// Takes it apart, to be kept in less space. It still counts.
    pub(crate) fn into_parts(mut self) -> (Arc<Listener>, Option<AddressKey>) {
        let listener = self.listener.take().expect("a pass is taken apart once");
        (listener, self.address.take())
    }

    /// Puts it together again.
    pub(crate) fn from_parts(listener: Arc<Listener>, address: Option<AddressKey>) -> Self {
        Self { listener: Some(listener), address }
    }

    fn forget_address(&mut self) {
        if let (Some(key), Some(listener)) = (self.address.take(), &self.listener) {
            listener.standing.addresses.leave(key);
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.forget_address();
        if let Some(listener) = &self.listener {
            listener.open.fetch_sub(1, Ordering::Relaxed);
            listener.standing.open.fetch_sub(1, Ordering::Relaxed);
            listener.standing.node_open.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Numbers of listeners that are in use.
#[derive(Default)]
pub(crate) struct Roll(Vec<Weak<Listener>>);

impl Roll {
    /// Gives the lowest number that nobody has; none if all are taken.
    pub(crate) fn enroll(&mut self, standing: &Arc<Standing>) -> Option<Arc<Listener>> {
        let at = self.0.iter().position(|weak| weak.strong_count() == 0).unwrap_or(self.0.len());
        let number = u16::try_from(at).ok().filter(|number| *number < u16::MAX)?;
        let listener = Arc::new(Listener::new(number, Arc::clone(standing)));
        match self.0.get_mut(at) {
            Some(free) => *free = Arc::downgrade(&listener),
            None => self.0.push(Arc::downgrade(&listener)),
        }
        Some(listener)
    }

    /// The listener of a number.
    pub(crate) fn find(&self, number: u16) -> Option<Arc<Listener>> {
        self.0.get(usize::from(number))?.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Arc<Standing> {
        Arc::new(Standing::new("tcp.test".into(), 0, Arc::default()))
    }

    fn terms(connections_max: u32, connections_per_address_max: u32) -> Terms {
        Terms::new(ListenerOptions { connections_max, connections_per_address_max, ..ListenerOptions::default() })
    }

    #[test]
    fn a_pass_counts_everywhere_until_it_is_dropped() {
        let standing = standing();
        let listener = Roll::default().enroll(&standing).expect("a number");
        let terms = terms(2, 1);
        let client = IpAddr::from([192, 0, 2, 1]);
        let mut first = Pass::enter(&listener, &terms, 10).expect("room");
        assert_eq!(first.claim(&terms, client), Ok(()));
        let mut second = Pass::enter(&listener, &terms, 10).expect("room");
        assert_eq!(second.claim(&terms, client), Err(Refusal::AddressFull));
        assert_eq!(second.claim(&terms, [192, 0, 2, 2].into()), Ok(()), "its address turned out to be another");
        assert!(matches!(Pass::enter(&listener, &terms, 10), Err(Refusal::ListenerFull)));
        let (listener, address) = first.into_parts();
        assert_eq!((listener.open(), standing.open()), (2, 2));
        drop(Pass::from_parts(listener, address));
        assert_eq!(standing.open(), 1);
        assert!(matches!(Pass::enter(second.listener(), &terms, 1), Err(Refusal::NodeFull)));
        assert_eq!(second.claim(&terms, client), Ok(()), "the first one has left");
        drop(second);
        assert_eq!((standing.open(), standing.node_open.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn a_number_is_not_given_again_while_anybody_holds_it() {
        let (mut roll, standing) = (Roll::default(), standing());
        let zero = roll.enroll(&standing).expect("a number");
        let one = roll.enroll(&standing).expect("a number");
        let pass = Pass::enter(&zero, &terms(0, 0), 10).expect("room");
        drop(zero);
        assert_eq!(roll.enroll(&standing).map(|two| two.number), Some(2));
        drop(pass);
        assert_eq!(roll.enroll(&standing).map(|again| again.number), Some(0));
        assert!(roll.find(0).is_none() && roll.find(1).is_some_and(|found| found.number == one.number));
    }

    #[test]
    fn refusals_are_told_once_in_a_while_and_none_is_lost() {
        let standing = standing();
        let [one, other] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let refuse = |refusal, address, at| standing.refuse(refusal, address, Instant(at));
        assert_eq!(refuse(Refusal::Denied, one, 5), Some(1));
        assert_eq!(refuse(Refusal::Denied, one, 6), None);
        assert_eq!(refuse(Refusal::ListenerFull, one, 6), Some(1), "each reason for itself");
        assert_eq!(
            refuse(Refusal::Denied, other, 7),
            Some(2),
            "each address for itself, and with the one that was not told"
        );
        assert_eq!(refuse(Refusal::Denied, one, 10_005), Some(1));
        assert_eq!((standing.refused(Refusal::Denied), standing.refused(Refusal::ListenerFull)), (4, 1));
    }
}
