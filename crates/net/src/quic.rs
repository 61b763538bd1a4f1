//! MQTT over QUIC: one thread with all endpoints, and a pipe from each connection to its shard.
//!
//! The thread does all of UDP, TLS and QUIC; a shard sees bytes of MQTT only. It starts with the first listener that wants it.
//!
//! What a client has to know:
//!
//! - ALPN is `mqtt`. There is no 0-RTT: nothing that could be replayed is taken before the handshake is done.
//! - The first bidirectional stream that it opens is the control stream, and MQTT as on TCP. More of them are data streams
//!   (`mux.rs` has the rules). Unidirectional streams and datagrams are not taken.
//! - It may change its address: the connection, and with it the session, goes on. Access rules and counts stay with the address
//!   that it came from.
//! - A connection on which nothing arrives for the idle timeout (the smaller one of both sides) has ended, will and all. The
//!   broker sends no packets of its own to keep it alive: a client either pings, by MQTT or by QUIC, or means to go.
//!
//! What a connection costs: 46 KB of heap while it is idle (`examples/quic_memory.rs`), nearly all of it `quinn`'s and TLS's, 13 KB
//! of that a buffer for sending several datagrams at once. At most 256 KiB more are under way in each direction (`config.rs`), 260
//! KiB wait for the rest of their packets (`mux.rs`), and 64 KiB in each direction wait in the pipe.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::AtomicU16;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use tokio::runtime::{self, Runtime};
use tokio::sync::oneshot;

use crate::dock::Docks;
use crate::quic::door::{Door, Entrance};
use crate::roll::{Listener, Terms};

mod config;
mod door;
mod junction;
mod mux;

pub(crate) use config::Crypto;

/// QUIC of one node.
pub(crate) struct Quic {
    docks: Arc<Docks>,
    node_max: usize,
    /// The shard that the next connection goes to, for now: its client identifier decides where it stays.
    turn: Arc<AtomicU16>,
    running: Mutex<Option<Running>>,
    /// Where doors are, or have been while somebody is still there.
    doors: Mutex<Vec<(SocketAddr, Weak<Door>)>>,
}

/// The thread, once there is one.
struct Running {
    handle: runtime::Handle,
    stop: oneshot::Sender<Duration>,
    thread: JoinHandle<()>,
}

/// One UDP socket that is listened at.
pub(crate) struct QuicPlace {
    door: Arc<Door>,
}

/// A port of UDP.
pub(crate) enum Udp {
    /// It was free.
    Bound(UdpSocket),
    /// Connections of a listener that was closed still have it: that one is opened again.
    Again(Again),
}

/// A place that is closed and not yet gone.
pub(crate) struct Again {
    address: SocketAddr,
    door: Arc<Door>,
}

impl Quic {
    pub(crate) fn new(docks: Arc<Docks>, node_max: usize) -> Self {
        Self { docks, node_max, turn: Arc::default(), running: Mutex::new(None), doors: Mutex::default() }
    }

    /// Takes connections at a place.
    pub(crate) fn open(&self, udp: Udp, listener: &Arc<Listener>, terms: &Arc<Terms>) -> io::Result<QuicPlace> {
        let entrance = Entrance { listener: Arc::clone(listener), terms: Arc::clone(terms) };
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        doors.retain(|(_, door)| door.strong_count() > 0);
        let (address, door) = match udp {
            Udp::Bound(socket) => (socket.local_addr()?, self.door(socket, entrance)?),
            Udp::Again(Again { address, door }) => {
                if !door.reopen(entrance) {
                    // Gone in this moment.
                    return Err(io::ErrorKind::AddrInUse.into());
                }
                doors.retain(|(other, _)| *other != address);
                (address, door)
            }
        };
        doors.push((address, Arc::downgrade(&door)));
        Ok(QuicPlace { door })
    }

    /// The place at this address, if it is closed and its last connection not yet gone.
    pub(crate) fn again(&self, address: SocketAddr) -> Option<Again> {
        let doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = doors.iter().filter(|(other, _)| *other == address);
        let door = of_address.filter_map(|(_, door)| door.upgrade()).find(|door| door.is_closing())?;
        Some(Again { address, door })
    }

    fn door(&self, socket: UdpSocket, entrance: Entrance) -> io::Result<Arc<Door>> {
        let handle = self.runtime()?;
        let _entered = handle.enter();
        let config = config::server(&entrance.terms);
        let endpoint = Endpoint::new(EndpointConfig::default(), config, socket, Arc::new(TokioRuntime))?;
        let docks = Arc::clone(&self.docks);
        let door = Arc::new(Door::new(endpoint, docks, self.node_max, Arc::clone(&self.turn), entrance));
        handle.spawn(Arc::clone(&door).serve());
        Ok(door)
    }

    /// The thread's runtime, which is started if need be.
    fn runtime(&self) -> io::Result<runtime::Handle> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = &*running {
            return Ok(running.handle.clone());
        }
        let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("quic".into()).spawn(move || run(&runtime, stopped))?;
        *running = Some(Running { handle: handle.clone(), stop, thread });
        Ok(handle)
    }

    /// Ends the thread, after all shards have closed their connections: what they said last has this long to arrive.
    pub(crate) fn stop(&self, wait: Duration) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, thread, .. }) = running {
            // An error here: the thread has ended.
            let _ = stop.send(wait);
            let _ = thread.join();
        }
    }
}

/// The thread: runs tasks until it is told to stop, and then while there are some, for a while.
fn run(runtime: &Runtime, stopped: oneshot::Receiver<Duration>) {
    runtime.block_on(async {
        let wait = stopped.await.unwrap_or_default();
        let tasks = runtime.metrics();
        let step = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        while tasks.num_alive_tasks() > 0 && waited < wait {
            tokio::time::sleep(step).await;
            waited += step;
        }
    });
}

impl QuicPlace {
    /// Other terms, and other certificates, for those who come from here on.
    pub(crate) fn change(&self, listener: &Arc<Listener>, terms: &Arc<Terms>) {
        self.door.change(Entrance { listener: Arc::clone(listener), terms: Arc::clone(terms) });
    }
}

impl Drop for QuicPlace {
    /// Takes no more connections. The socket is closed when the last one has ended: QUIC has no other way to keep them.
    fn drop(&mut self) {
        self.door.close();
    }
}
