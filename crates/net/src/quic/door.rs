//! Who comes in over QUIC: decided by the first packet, then by the handshake.
//!
//! Nothing is kept for a client before it is let in. When many handshakes are under way, a client has to show first that it
//! hears what we send to its address (Retry); when there are far too many, it is turned away with one small packet.

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use breakwater_contract::Identity;
use breakwater_shard::Peer;
use breakwater_transport::tls::{ServerTls, identity};
use quinn::{Connecting, Connection, ConnectionError, Endpoint, Incoming, RecvStream, SendStream, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::sync::Notify;

use super::{config, junction};
use crate::dock::{Docks, Turned};
use crate::pipe::pipe;
use crate::refusal::Refusal;
use crate::roll::{Listener, Pass, Terms};
use crate::sockets::Sockets;

/// Handshakes under way beyond which clients are turned away, as a multiple of where Retry begins, and at least so many.
const OVERLOAD_FACTOR: u32 = 8;
const OVERLOAD_MIN: u32 = 64;

/// Reason code of MQTT 5.0, as the error code of the QUIC connection.
const BUSY: u32 = 0x89;

/// Phases of a door: people are let in; they are turned away while the last ones are still there; nobody is there.
const OPEN: u8 = 0;
const CLOSING: u8 = 1;
const GONE: u8 = 2;

/// The door of one place.
pub(super) struct Door {
    endpoint: Endpoint,
    docks: Arc<Docks>,
    node_max: usize,
    turn: Arc<AtomicU16>,
    /// Handshakes under way, and connections that have not yet opened their control stream.
    under_way: AtomicU32,
    now: Mutex<Arc<Entrance>>,
    phase: AtomicU8,
    closing: Notify,
}

/// What holds for those who come in. Replaced as a whole.
pub(super) struct Entrance {
    pub(super) listener: Arc<Listener>,
    pub(super) terms: Arc<Terms>,
}

/// One that is coming in.
struct Guest {
    door: Arc<Door>,
    entrance: Arc<Entrance>,
    address: SocketAddr,
}

/// What a client has shown.
type Shown = (Option<Box<Identity>>, Vec<CertificateDer<'static>>);

impl Door {
    pub(super) fn new(
        endpoint: Endpoint,
        docks: Arc<Docks>,
        node_max: usize,
        turn: Arc<AtomicU16>,
        entrance: Entrance,
    ) -> Self {
        let now = Mutex::new(Arc::new(entrance));
        let (phase, closing) = (AtomicU8::new(OPEN), Notify::new());
        Self { endpoint, docks, node_max, turn, under_way: AtomicU32::new(0), now, phase, closing }
    }

    /// Other terms, and other certificates, for those who come from here on.
    pub(super) fn change(&self, entrance: Entrance) {
        self.endpoint.set_server_config(config::server(&entrance.terms));
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(entrance);
    }

    /// Turns away all who come from here on.
    pub(super) fn close(&self) {
        self.phase.store(CLOSING, Ordering::SeqCst);
        self.closing.notify_one();
    }

    /// It is closed, and somebody who came in before is still there.
    pub(super) fn is_closing(&self) -> bool {
        self.phase.load(Ordering::SeqCst) == CLOSING
    }

    /// Lets people in again, if its last one has not gone yet.
    pub(super) fn reopen(&self, entrance: Entrance) -> bool {
        self.change(entrance);
        self.phase.compare_exchange(CLOSING, OPEN, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Runs until the door is closed and the last one who came in is gone.
    pub(super) async fn serve(self: Arc<Self>) {
        let mut over = pin!(async {
            loop {
                self.closing.notified().await;
                self.endpoint.wait_idle().await;
                if self.phase.compare_exchange(CLOSING, GONE, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    return;
                }
            }
        });
        loop {
            let mut accept = pin!(self.endpoint.accept());
            let incoming = poll_fn(|cx| match over.as_mut().poll(cx) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => accept.as_mut().poll(cx),
            });
            let Some(incoming) = incoming.await else { return };
            if self.phase.load(Ordering::SeqCst) != OPEN {
                incoming.refuse();
                continue;
            }
            let address = incoming.remote_address();
            let address = SocketAddr::new(address.ip().to_canonical(), address.port());
            let entrance = Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner));
            Guest { door: Arc::clone(&self), entrance, address }.knock(incoming);
        }
    }
}

impl Guest {
    /// The first packet of a connection.
    fn knock(self, incoming: Incoming) {
        let under_way = self.door.under_way.load(Ordering::Relaxed);
        let retry_above = self.entrance.terms.options.quic.retry_above;
        if under_way >= retry_above.saturating_mul(OVERLOAD_FACTOR).max(OVERLOAD_MIN) {
            incoming.refuse();
            return self.refuse(Refusal::Overload, "");
        }
        if let Err(refusal) = self.entrance.terms.admits(self.address.ip()) {
            incoming.refuse();
            return self.refuse(refusal, "");
        }
        if under_way >= retry_above && !incoming.remote_address_validated() {
            // It may be retried: its address is not validated.
            let _ = incoming.retry();
            return;
        }
        match self.pass().and_then(|pass| Ok((pass, incoming.accept().map_err(|_| Refusal::Tls)?))) {
            Ok((pass, connecting)) => {
                let step = UnderWay::enter(&self.door);
                tokio::spawn(self.welcome(connecting, pass, step));
            }
            Err(refusal) => self.refuse(refusal, ""),
        }
    }

    fn pass(&self) -> Result<Pass, Refusal> {
        let Entrance { listener, terms, .. } = &*self.entrance;
        let mut pass = Pass::enter(listener, terms, self.door.node_max)?;
        pass.count(terms, self.address.ip())?;
        Ok(pass)
    }

    /// The rest of its life.
    async fn welcome(self, connecting: Connecting, pass: Pass, step: UnderWay) {
        let limit = Duration::from_millis(self.entrance.terms.options.handshake_timeout_ms);
        let (connection, control) = match tokio::time::timeout(limit, handshake(connecting)).await {
            Ok(Ok(both)) => both,
            Ok(Err(fault)) => return self.refuse(refusal_of(&fault), &fault.to_string()),
            Err(_) => return self.refuse(Refusal::TimedOut, ""),
        };
        drop(step);
        let (identity, chain) = match self.identity(&connection) {
            Ok(shown) => shown,
            Err(fault) => {
                connection.close(VarInt::from_u32(junction::NOT_AUTHORIZED), fault.as_bytes());
                return self.refuse(Refusal::Tls, &fault);
            }
        };
        let docks = Arc::clone(&self.door.docks);
        let (near, far) = pipe(Arc::clone(&docks));
        let transport = Sockets::transport_of_pipe(near, identity, chain, pass);
        let shard = self.door.turn.fetch_add(1, Ordering::Relaxed) % docks.shards();
        if !docks.arrive(shard, self.peer(), transport) {
            connection.close(VarInt::from_u32(BUSY), b"the broker has no room for more connections");
            return self.refuse(Refusal::NoRoom, "");
        }
        drop(self);
        junction::run(connection, control, far).await;
    }

    /// What the client's certificate says, checked as it stands today: the handshake may have been an abbreviated one. With
    /// its chain, which is to be looked at again.
    fn identity(&self, connection: &Connection) -> Result<Shown, String> {
        let nothing = (None, Vec::new());
        let Some(check) = self.entrance.terms.tls.as_ref().and_then(ServerTls::client_check) else {
            return Ok(nothing);
        };
        let shown = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
        let Some(chain) = shown.filter(|chain| !chain.is_empty()) else { return Ok(nothing) };
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        check.check(&chain, now_s).map_err(|fault| fault.to_string())?;
        let Some(options) = &self.entrance.terms.options.tls else { return Ok(nothing) };
        let identity = identity(&chain, options).map_err(|fault| fault.to_string())?;
        Ok((Some(Box::new(identity)), *chain))
    }

    fn peer(&self) -> Peer {
        Peer { address: self.address, listener: self.entrance.listener.number, direct: true }
    }

    /// Has it counted and told by a shard, which has the journal.
    fn refuse(&self, refusal: Refusal, detail: &str) {
        let standing = Arc::clone(&self.entrance.listener.standing);
        self.door.docks.turned(Turned { standing, peer: self.peer(), refusal, detail: detail.into() });
    }
}

/// Until the client has opened its control stream.
async fn handshake(connecting: Connecting) -> Result<(Connection, (SendStream, RecvStream)), ConnectionError> {
    let connection = connecting.await?;
    let control = connection.accept_bi().await?;
    Ok((connection, control))
}

fn refusal_of(fault: &ConnectionError) -> Refusal {
    match fault {
        ConnectionError::TimedOut => Refusal::TimedOut,
        ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => Refusal::Tls,
        _ => Refusal::Left,
    }
}

/// Counts one handshake.
struct UnderWay(Arc<Door>);

impl UnderWay {
    fn enter(door: &Arc<Door>) -> Self {
        door.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(door))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}
