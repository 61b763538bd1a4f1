//! Which listener each connection of a shard came through, and what it has sent and received.
//!
//! 2 bytes per slot. Where a listener counts connections by address, 8 more in pages that have such connections.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::access::AddressKey;
use crate::roll::{Listener, Pass};

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;
/// No connection.
const NONE: u16 = u16::MAX;

struct Page {
    listeners: [u16; PAGE],
    addresses: Option<Box<[u64; PAGE]>>,
    used: u16,
}

/// A listener that has connections here, or had some lately.
struct Resident {
    listener: Arc<Listener>,
    /// Connections on this shard.
    here: u32,
    /// Since the last publication.
    bytes_in: u64,
    bytes_out: u64,
}

/// Owned by one shard.
#[derive(Default)]
pub(crate) struct Passes {
    pages: Vec<Option<Box<Page>>>,
    /// By number of the listener.
    residents: Vec<Option<Resident>>,
}

impl Passes {
    /// Keeps the pass of a connection while it has this slot.
    pub(crate) fn insert(&mut self, slot: u32, pass: Pass) {
        let (listener, address) = pass.into_parts();
        let (number, at) = place(slot);
        if number >= self.pages.len() {
            self.pages.resize_with(number + 1, || None);
        }
        let page = self.pages[number].get_or_insert_with(Page::new);
        debug_assert_eq!(page.listeners[at], NONE, "slot {slot} is taken");
        page.listeners[at] = listener.number;
        page.used += 1;
        if let Some(AddressKey(key)) = address {
            page.addresses.get_or_insert_with(|| Box::new([0; PAGE]))[at] = key.get();
        }
        let number = usize::from(listener.number);
        if number >= self.residents.len() {
            self.residents.resize_with(number + 1, || None);
        }
        let resident = self.residents[number].get_or_insert(Resident { listener, here: 0, bytes_in: 0, bytes_out: 0 });
        resident.here += 1;
    }

    /// The pass of a connection that leaves its slot.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Pass> {
        let (number, at) = place(slot);
        let entry = self.pages.get_mut(number)?;
        let page = entry.as_deref_mut()?;
        let listener = std::mem::replace(&mut page.listeners[at], NONE);
        let address = page.addresses.as_deref_mut().map_or(0, |addresses| std::mem::take(&mut addresses[at]));
        let resident = self.residents.get_mut(usize::from(listener))?.as_mut()?;
        page.used -= 1;
        // The first page stays, or a broker with one client would allocate at each visit.
        if page.used == 0 {
            page.addresses = None;
            if number != 0 {
                *entry = None;
            }
        }
        resident.here -= 1;
        Some(Pass::from_parts(Arc::clone(&resident.listener), NonZeroU64::new(address).map(AddressKey)))
    }

    /// Counts bytes from and to the peer of a connection.
    #[inline]
    pub(crate) fn count(&mut self, slot: u32, bytes_in: usize, bytes_out: usize) {
        let (number, at) = place(slot);
        if let Some(Some(page)) = self.pages.get(number)
            && let Some(Some(resident)) = self.residents.get_mut(usize::from(page.listeners[at]))
        {
            resident.bytes_in += bytes_in as u64;
            resident.bytes_out += bytes_out as u64;
        }
    }

    /// The listener that a connection came through.
    pub(crate) fn listener(&self, slot: u32) -> Option<&Arc<Listener>> {
        let (number, at) = place(slot);
        let listener = self.pages.get(number)?.as_deref()?.listeners[at];
        self.residents.get(usize::from(listener))?.as_ref().map(|resident| &resident.listener)
    }

    /// Connections of a listener on this shard.
    pub(crate) fn here(&self, listener: u16) -> u32 {
        self.residents.get(usize::from(listener)).and_then(Option::as_ref).map_or(0, |resident| resident.here)
    }

    /// Adds what was counted to what all can see, and forgets listeners that are closed.
    pub(crate) fn publish(&mut self) {
        for entry in &mut self.residents {
            let Some(resident) = entry else { continue };
            let standing = &resident.listener.standing;
            standing.bytes_in.fetch_add(std::mem::take(&mut resident.bytes_in), Ordering::Relaxed);
            standing.bytes_out.fetch_add(std::mem::take(&mut resident.bytes_out), Ordering::Relaxed);
            if resident.here == 0 && resident.listener.is_closed() {
                *entry = None;
            }
        }
    }
}

impl Page {
    fn new() -> Box<Self> {
        Box::new(Self { listeners: [NONE; PAGE], addresses: None, used: 0 })
    }
}

fn place(slot: u32) -> (usize, usize) {
    ((slot >> PAGE_BITS) as usize, slot as usize & (PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::ListenerOptions;
    use crate::roll::{Roll, Standing, Terms};

    #[test]
    fn a_listener_knows_its_connections_and_bytes_and_is_forgotten_when_it_is_closed() {
        let standing = Arc::new(Standing::new("tcp.test".into(), 0, Arc::default()));
        let mut roll = Roll::default();
        let listener = roll.enroll(&standing).expect("a number");
        let terms = Terms::new(ListenerOptions { connections_per_address_max: 9, ..ListenerOptions::default() });
        let mut passes = Passes::default();
        for slot in [0, 1023, 5000] {
            let mut pass = Pass::enter(&listener, &terms, 10).expect("room");
            pass.claim(&terms, [192, 0, 2, 1].into()).expect("room");
            passes.insert(slot, pass);
        }
        passes.count(5000, 7, 3);
        passes.count(4999, 100, 100);
        passes.count(1 << 20, 100, 100);
        assert_eq!((passes.here(0), passes.here(1)), (3, 0));
        listener.close();
        passes.publish();
        assert_eq!(standing.bytes_in.load(Ordering::Relaxed), 7);
        assert_eq!(standing.bytes_out.load(Ordering::Relaxed), 3);
        assert!(passes.remove(1).is_none());
        for slot in [0, 1023, 5000] {
            assert!(passes.remove(slot).is_some() && passes.remove(slot).is_none());
        }
        assert!(passes.pages[4].is_none(), "an empty page is freed");
        assert_eq!((passes.here(0), standing.open()), (0, 0));
        drop(listener);
        assert!(roll.find(0).is_some(), "its last bytes are not yet published");
        passes.publish();
        assert!(roll.find(0).is_none());
    }
}
