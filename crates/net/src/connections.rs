//! The sockets of one shard, by slot.
//!
//! Pages, so that a million connections never make one copy, and freed pages give their memory back. 5 bytes per slot:
//! the descriptor and a few flags. What few connections have besides stands in a side page, which exists while one of its
//! slots needs it.

use mio::net::TcpStream;

use crate::extra::Extra;

/// The poller watches the socket.
pub(crate) const WATCHED: u8 = 1;
/// Reading has come to its end: there is no unread input that could turn a close into a reset.
pub(crate) const ENDED: u8 = 2;
/// Bytes were written since the last read, or that read left some behind: a close might lose them to a reset.
pub(crate) const LAST_WORDS: u8 = 8;
/// The socket could not be watched: reads and writes fail.
pub(crate) const BROKEN: u8 = 4;
/// The slot has an entry in the side page.
pub(crate) const BESIDE: u8 = 16;

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

struct Page {
    streams: [Option<TcpStream>; PAGE],
    flags: [u8; PAGE],
    used: u16,
    beside: Option<Box<Beside>>,
}

struct Beside {
    extras: [Option<Box<Extra>>; PAGE],
    used: u16,
}

/// All that a slot holds: a socket, or something else that carries bytes, or both.
pub(crate) struct Held {
    pub(crate) stream: Option<TcpStream>,
    pub(crate) extra: Option<Box<Extra>>,
    pub(crate) flags: u8,
}

/// Owned by one shard.
#[derive(Default)]
pub(crate) struct Connections {
    pages: Vec<Option<Box<Page>>>,
}

impl Connections {
    /// Puts a connection into an empty slot.
    pub(crate) fn insert(&mut self, slot: u32, stream: Option<TcpStream>, extra: Option<Box<Extra>>) {
        let (page, at) = place(slot);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(Page::new);
        debug_assert!(page.is_free(at), "slot {slot} is taken");
        page.used += 1;
        page.streams[at] = stream;
        page.flags[at] = 0;
        if let Some(extra) = extra {
            page.flags[at] = BESIDE;
            let beside = page.beside.get_or_insert_with(Beside::new);
            beside.extras[at] = Some(extra);
            beside.used += 1;
        }
    }

    /// The socket of a slot and its flags; none if the slot is empty, or has no socket.
    #[inline]
    pub(crate) fn get(&mut self, slot: u32) -> Option<(&mut TcpStream, &mut u8)> {
        let (page, at) = place(slot);
        let page = self.pages.get_mut(page)?.as_deref_mut()?;
        Some((page.streams[at].as_mut()?, &mut page.flags[at]))
    }

    /// What a slot has besides its socket, with both.
    pub(crate) fn get_beside(&mut self, slot: u32) -> Option<(Option<&mut TcpStream>, &mut u8, &mut Extra)> {
        let (page, at) = place(slot);
        let page = self.pages.get_mut(page)?.as_deref_mut()?;
        let extra = page.beside.as_deref_mut()?.extras[at].as_deref_mut()?;
        Some((page.streams[at].as_mut(), &mut page.flags[at], extra))
    }

    /// The same, to look at.
    pub(crate) fn extra(&self, slot: u32) -> Option<&Extra> {
        let (page, at) = place(slot);
        self.pages.get(page)?.as_deref()?.beside.as_deref()?.extras[at].as_deref()
    }

    /// What all slots have besides their sockets.
    pub(crate) fn extras(&self) -> impl Iterator<Item = &Extra> {
        let pages = self.pages.iter().flatten().filter_map(|page| page.beside.as_deref());
        pages.flat_map(|beside| beside.extras.iter().flatten().map(Box::as_ref))
    }

    /// The first slot from `from` on that has something besides its socket.
    pub(crate) fn next_beside(&self, from: u32) -> Option<u32> {
        let (first, at) = place(from);
        for (number, page) in self.pages.iter().enumerate().skip(first) {
            let Some(beside) = page.as_deref().and_then(|page| page.beside.as_deref()) else { continue };
            let start = if number == first { at } else { 0 };
            if let Some(found) = beside.extras[start..].iter().position(Option::is_some) {
                return u32::try_from(number * PAGE + start + found).ok();
            }
        }
        None
    }

    /// Empties a slot.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Held> {
        let (number, at) = place(slot);
        let entry = self.pages.get_mut(number)?;
        let page = entry.as_deref_mut()?;
        if page.is_free(at) {
            return None;
        }
        let flags = std::mem::take(&mut page.flags[at]);
        let held = Held { stream: page.streams[at].take(), extra: page.take_beside(at, flags), flags };
        page.used -= 1;
        // The first page stays, or a broker with one client would allocate at each visit.
        if page.used == 0 && number != 0 {
            *entry = None;
        }
        Some(held)
    }
}

impl Page {
    fn new() -> Box<Self> {
        Box::new(Self { streams: [const { None }; PAGE], flags: [0; PAGE], used: 0, beside: None })
    }

    fn is_free(&self, at: usize) -> bool {
        self.streams[at].is_none() && self.flags[at] & BESIDE == 0
    }

    fn take_beside(&mut self, at: usize, flags: u8) -> Option<Box<Extra>> {
        if flags & BESIDE == 0 {
            return None;
        }
        let beside = self.beside.as_deref_mut()?;
        let extra = beside.extras[at].take();
        beside.used -= 1;
        if beside.used == 0 {
            self.beside = None;
        }
        extra
    }
}

impl Beside {
    fn new() -> Box<Self> {
        Box::new(Self { extras: [const { None }; PAGE], used: 0 })
    }
}

fn place(slot: u32) -> (usize, usize) {
    ((slot >> PAGE_BITS) as usize, slot as usize & (PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use breakwater_transport::layers::Layers;

    use crate::extra::Via;

    fn stream(listener: &std::net::TcpListener) -> TcpStream {
        let stream = std::net::TcpStream::connect(listener.local_addr().expect("address")).expect("connect");
        TcpStream::from_std(stream)
    }

    #[test]
    fn slots_are_found_in_any_page_and_empty_pages_are_freed() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut connections = Connections::default();
        for slot in [0, 1023, 1024, 5000] {
            assert!(connections.get(slot).is_none());
            connections.insert(slot, Some(stream(&listener)), None);
        }
        let (_, flags) = connections.get(5000).expect("just inserted");
        *flags |= ENDED;
        assert!(connections.get(4999).is_none() && connections.get(1 << 20).is_none());
        assert!(matches!(connections.remove(5000), Some(Held { stream: Some(_), extra: None, flags: ENDED })));
        assert!(connections.remove(5000).is_none());
        assert!(connections.pages[4].is_none(), "an empty page is freed");
        assert!(connections.remove(0).is_some() && connections.remove(1023).is_some());
        assert!(connections.pages[0].is_some(), "the first page stays");
    }

    #[test]
    fn the_side_page_lives_while_a_slot_needs_it() {
        let via = || Via::Layers(Layers::new(None, None, Vec::new()));
        let extra = || Some(Box::new(Extra { identity: Some(Box::default()), via: via() }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut connections = Connections::default();
        connections.insert(1, Some(stream(&listener)), None);
        assert!(connections.get_beside(1).is_none() && connections.pages[0].as_ref().expect("a page").beside.is_none());
        connections.insert(2, Some(stream(&listener)), extra());
        // No socket at all: something else carries its bytes.
        connections.insert(3, None, extra());
        assert!(connections.get(2).is_some() && connections.get(3).is_none());
        assert!(connections.extra(2).is_some() && connections.extra(1).is_none());
        assert_eq!(
            [0, 2, 3, 4, 5000].map(|from| connections.next_beside(from)),
            [Some(2), Some(2), Some(3), None, None]
        );
        assert!(matches!(connections.get_beside(3), Some((None, &mut BESIDE, _))));
        assert!(matches!(connections.remove(3), Some(Held { stream: None, extra: Some(_), flags: BESIDE })));
        assert!(connections.remove(3).is_none());
        assert!(matches!(connections.remove(2), Some(Held { stream: Some(_), extra: Some(_), .. })));
        assert!(connections.pages[0].as_ref().expect("a page").beside.is_none());
        assert!(connections.get(1).is_some());
    }

    #[cfg(all(target_os = "linux", not(debug_assertions)))]
    #[test]
    fn a_connection_costs_a_descriptor() {
        assert_eq!(size_of::<Option<TcpStream>>(), 4);
    }
}
