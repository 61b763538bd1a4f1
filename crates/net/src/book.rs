//! Opening and closing listeners while the node runs; `book/change.rs` changes them.

mod change;

use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::sync::{Arc, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use breakwater_contract::{Command, Completion, Completions, Control, Kicked};
use breakwater_proto::ReasonCode;

use crate::accept::Ear;
use crate::bind_fault::{BindCause, BindFault};
use crate::listen::{BoundTo, Held, Listening, Place, bind_places};
use crate::listener::{Ending, ListenerOptions};
use crate::node::Handle;
use crate::orders::Order;
use crate::place::Wanted;
use crate::quic::QuicPlace;
use crate::refusal::Refusal;
use crate::roll::{Listener, Roll, Standing, Terms};
use crate::status::ListenerStatus;
#[cfg(unix)]
use crate::unix::SocketFile;

/// All listeners of a node, as its handle knows them. Locked while one of them is opened, changed or closed.
#[derive(Default)]
pub(crate) struct Book {
    roll: Roll,
    entries: Vec<Entry>,
    /// Closed, with connections that live on.
    closed: Vec<Closed>,
    next_place: u32,
}

struct Entry {
    listener: Arc<Listener>,
    terms: Arc<Terms>,
    places: Vec<Kept>,
}

/// What is left of a listener that was closed, while it has connections: they hold it, and this doesn't.
struct Closed {
    listener: Weak<Listener>,
    terms: Arc<Terms>,
}

/// A place that is listened at; its sockets live with the shards.
struct Kept {
    number: u32,
    wanted: Wanted,
    bound: BoundTo,
    quic: Option<QuicPlace>,
    #[cfg(unix)]
    _file: Option<SocketFile>,
}

/// Time that shards may take to carry out an order. A shard turns in milliseconds; a port that is free a moment later than
/// promised is better than a caller that hangs.
const WAIT: Duration = Duration::from_secs(5);

impl Handle {
    /// Opens a listener. It takes connections when this returns. Waits for the shards, as all of these do: not to be called on
    /// the thread of one.
    pub fn open(&self, options: ListenerOptions) -> Result<(), BindFault> {
        let mut book = self.book();
        if self.inner.stop.asked() {
            return Err(fault(&options.name, BindCause::Stopping));
        }
        if book.find(&options.name).is_some() {
            return Err(fault(&options.name, BindCause::NameTaken));
        }
        let terms = Terms::load(options, None)?;
        let places =
            bind_places(&terms.options, &[], &book.held(), self.shards(), &|address| self.inner.quic.again(address))?;
        self.admit(&mut book, Listening { terms, places })
    }

    /// Closes a listener. Its ports are free when this returns; what becomes of its connections is up to `ending`.
    pub fn close(&self, name: &str, ending: Ending) -> Result<(), BindFault> {
        let mut book = self.book();
        let Some(at) = book.find(name) else { return Err(fault(name, BindCause::NoSuchListener)) };
        let mut entry = book.entries.remove(at);
        let listener = Arc::clone(&entry.listener);
        listener.close();
        let places = std::mem::take(&mut entry.places);
        book.forget_gone();
        book.closed.push(Closed { listener: Arc::downgrade(&listener), terms: entry.terms });
        drop(book);
        self.silence(name, places, ending)?;
        if ending != Ending::Keep {
            self.tell(name, |_| Order::End(Arc::clone(&listener), ending))?;
        }
        Ok(())
    }

    /// Ends the connections that a listener has by now; it goes on to take others. [`Ending::Keep`] ends none.
    pub fn drain(&self, name: &str, ending: Ending) -> Result<(), BindFault> {
        let mut book = self.book();
        if ending == Ending::Keep {
            return Ok(());
        }
        let Some(at) = book.find(name) else {
            // It may be closed and have left its connections.
            let left: Vec<_> = book.closed.iter().filter_map(|closed| closed.listener.upgrade()).collect();
            drop(book);
            let mut left = left.into_iter().filter(|listener| &*listener.standing.name == name).peekable();
            left.peek().ok_or_else(|| fault(name, BindCause::NoSuchListener))?;
            return left.try_for_each(|listener| self.tell(name, |_| Order::End(Arc::clone(&listener), ending)));
        };
        let (before, terms) = (Arc::clone(&book.entries[at].listener), Arc::clone(&book.entries[at].terms));
        // Those who come from here on are not among those who are to go.
        let listener = book.roll.enroll(&before.standing).ok_or_else(|| fault(name, BindCause::NoNumber))?;
        self.set_terms(&listener, &terms)?;
        let entry = &mut book.entries[at];
        entry.places.iter().filter_map(|kept| kept.quic.as_ref()).for_each(|quic| quic.change(&listener, &terms));
        entry.listener = listener;
        before.close();
        drop(book);
        self.tell(name, |_| Order::End(Arc::clone(&before), ending))
    }

    /// Ends the connection of a client, and its session too if `discard`. Answers what there was; a shard that takes too long
    /// counts as one that knows nobody.
    pub fn kick(&self, client_id: &str, discard: bool) -> Kicked {
        let reason = ReasonCode::AdministrativeAction;
        let command = Command::Kick { client_id: client_id.into(), reason, discard };
        let (done, kicked) = mpsc::channel();
        self.leave_all(|_| Order::Command(command.clone(), Some(done.clone())));
        drop(done);
        let until = Instant::now() + WAIT;
        let next = || kicked.recv_timeout(until.saturating_duration_since(Instant::now())).ok();
        std::iter::from_fn(next).max().unwrap_or_default()
    }

    /// Lets a shard remove retained messages of these topics and revisions. Answers how many there were; none: the broker stops. A
    /// shard is busy with it for as long as with so many PUBLISH packets: hand them over in portions.
    pub fn unretain(&self, topics: Vec<(Box<str>, u64)>) -> Option<usize> {
        let (done, count) = mpsc::channel();
        let left = self.inner.orders.first()?.leave(Order::Unretain(topics, done));
        self.inner.bells.first()?.ring();
        left.then(|| count.recv_timeout(WAIT).ok()).flatten()
    }

    /// All listeners, in the order in which they were opened, and then closed ones that have connections left.
    pub fn listeners(&self) -> Vec<ListenerStatus> {
        let mut book = self.book();
        book.forget_gone();
        let open = book.entries.iter().map(|entry| status(&entry.listener, &entry.terms, &entry.places, true));
        let left = |closed: &Closed| Some((closed.listener.upgrade()?, Arc::clone(&closed.terms)));
        let closed = book.closed.iter().filter_map(left).map(|(listener, terms)| status(&listener, &terms, &[], false));
        open.chain(closed).collect()
    }

    /// Name of the listener that has this number, open or not.
    pub fn listener_name(&self, number: u16) -> Option<Box<str>> {
        self.book().roll.find(number).map(|listener| listener.standing.name.clone())
    }

    /// Takes a bound listener in: a number, and a socket for each shard.
    pub(crate) fn admit(&self, book: &mut Book, listening: Listening) -> Result<(), BindFault> {
        let Listening { terms, places } = listening;
        let (name, terms) = (terms.options.name.clone(), Arc::new(terms));
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let since = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        let standing = Arc::new(Standing::new(name.clone(), since, Arc::clone(&self.inner.open)));
        let listener = book.roll.enroll(&standing).ok_or_else(|| fault(&name, BindCause::NoNumber))?;
        self.set_terms(&listener, &terms)?;
        let places = self.listen(book, &listener, &terms, places)?;
        book.entries.push(Entry { listener, terms, places });
        Ok(())
    }

    /// Tells all shards the terms of a listener, and waits until they know: a connection that one of them accepts may reach
    /// any other at once.
    fn set_terms(&self, listener: &Arc<Listener>, terms: &Arc<Terms>) -> Result<(), BindFault> {
        let (done, known) = mpsc::channel();
        let order = |_| Order::Terms { listener: Arc::clone(listener), terms: Arc::clone(terms), done: done.clone() };
        self.tell(&terms.options.name, order)?;
        drop(done);
        if self.inner.running.load(Ordering::Acquire) {
            let _ = known.recv_timeout(WAIT);
        }
        Ok(())
    }

    /// Hands the sockets of places to the shards.
    fn listen(
        &self,
        book: &mut Book,
        listener: &Arc<Listener>,
        terms: &Arc<Terms>,
        places: Vec<Place>,
    ) -> Result<Vec<Kept>, BindFault> {
        let mut kept = Vec::new();
        for place in places {
            let number = book.next_place;
            book.next_place = number.wrapping_add(1);
            let quic = match place.udp {
                Some(udp) => Some(
                    self.inner.quic.open(udp, listener, terms).map_err(|io| fault(&terms.options.name, io.into()))?,
                ),
                None => {
                    let mut sockets = place.sockets.into_iter();
                    self.tell(&terms.options.name, |_| {
                        let socket = sockets.next().expect("one for each shard");
                        Order::Listen(Box::new(Ear::new(socket, Arc::clone(listener), Arc::clone(terms), number)))
                    })?;
                    None
                }
            };
            kept.push(Kept {
                number,
                wanted: place.wanted,
                bound: place.bound,
                quic,
                #[cfg(unix)]
                _file: place.file,
            });
        }
        Ok(kept)
    }

    /// Leaves places, and waits until their sockets are closed.
    fn silence(&self, name: &str, places: Vec<Kept>, ending: Ending) -> Result<(), BindFault> {
        if places.is_empty() {
            return Ok(());
        }
        let (done, closed) = mpsc::channel();
        let at_once = ending == Ending::Cut;
        for kept in places.iter().filter(|kept| kept.quic.is_none()) {
            self.tell(name, |_| Order::Silence { place: kept.number, at_once, done: done.clone() })?;
        }
        // Nobody finds a unix socket or an endpoint of QUIC from here on.
        drop(places);
        drop(done);
        let _ = closed.recv_timeout(WAIT);
        Ok(())
    }

    /// Leaves an order with each shard.
    fn tell(&self, name: &str, order: impl FnMut(usize) -> Order) -> Result<(), BindFault> {
        if self.leave_all(order) { Ok(()) } else { Err(fault(name, BindCause::Stopping)) }
    }

    /// The same; whether all have taken it.
    fn leave_all(&self, mut order: impl FnMut(usize) -> Order) -> bool {
        let mut all = true;
        for (shard, orders) in self.inner.orders.iter().enumerate() {
            all &= orders.leave(order(shard));
            self.inner.bells[shard].ring();
        }
        all
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        self.inner.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.inner.orders.len()).unwrap_or(u16::MAX)
    }
}

impl Completions for Handle {
    fn complete(&self, completion: Completion) {
        let (Completion::Auth { token, .. }
        | Completion::Authorized { token, .. }
        | Completion::Durable { token, .. }
        | Completion::Read { token, .. }) = &completion;
        let shard = usize::from(token.shard);
        // A shard that takes none any more has nobody who waits for one.
        if let Some(orders) = self.inner.orders.get(shard)
            && orders.leave(Order::Complete(completion))
        {
            self.inner.bells[shard].ring();
        }
    }
}

impl Control for Handle {
    fn command(&self, command: Command) {
        // A shard that takes none any more has nobody left to end.
        let _ = self.leave_all(|_| Order::Command(command.clone(), None));
    }
}

impl Book {
    fn find(&self, name: &str) -> Option<usize> {
        self.entries.iter().position(|entry| &*entry.listener.standing.name == name)
    }

    fn forget_gone(&mut self) {
        self.closed.retain(|closed| closed.listener.upgrade().is_some_and(|listener| listener.open() > 0));
    }

    fn held(&self) -> Vec<Held> {
        let of = |entry: &Entry| {
            let listener = entry.listener.standing.name.clone();
            let held = |kept: &Kept| Held { listener: listener.clone(), bound: kept.bound.clone() };
            entry.places.iter().map(held).collect::<Vec<_>>()
        };
        self.entries.iter().flat_map(of).collect()
    }

    /// Leaves the files of unix sockets: the node has stopped.
    pub(crate) fn leave_places(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.places.clear());
    }

    /// Everything that is listened at.
    pub(crate) fn bound(&self) -> Vec<BoundTo> {
        self.entries.iter().flat_map(|entry| &entry.places).map(|kept| kept.bound.clone()).collect()
    }
}

fn status(listener: &Listener, terms: &Terms, places: &[Kept], open: bool) -> ListenerStatus {
    let standing = &listener.standing;
    let refused = |refusal| (refusal, standing.refused(refusal));
    let tls = terms.tls.as_ref();
    ListenerStatus {
        number: listener.number,
        open,
        options: terms.options.clone(),
        bound: places.iter().map(|kept| kept.bound.clone()).collect(),
        certificates: tls.map(|tls| tls.certificates.clone()).unwrap_or_default(),
        warnings: terms.warnings(),
        connections: standing.open(),
        accepted: standing.accepted.load(Ordering::Relaxed),
        refused: Refusal::ALL.into_iter().map(refused).filter(|(_, count)| *count > 0).collect(),
        bytes_in: standing.bytes_in.load(Ordering::Relaxed),
        bytes_out: standing.bytes_out.load(Ordering::Relaxed),
        since_unix_ms: standing.since_unix_ms,
    }
}

fn fault(name: &str, cause: BindCause) -> BindFault {
    BindFault { listener: name.into(), place: "".into(), cause }
}
