//! The sockets of one shard, by slot.
//!
//! Pages, so that a million connections never make one copy, and freed pages give their memory back. 5 bytes per slot:
//! the descriptor and a few flags.

use mio::net::TcpStream;

/// The poller watches the socket.
pub(crate) const WATCHED: u8 = 1;
/// Reading has come to its end: there is no unread input that could turn a close into a reset.
pub(crate) const ENDED: u8 = 2;
/// Bytes were written since the last read, or that read left some behind: a close might lose them to a reset.
pub(crate) const LAST_WORDS: u8 = 8;
/// The socket could not be watched: reads and writes fail.
pub(crate) const BROKEN: u8 = 4;

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

struct Page {
    streams: [Option<TcpStream>; PAGE],
    flags: [u8; PAGE],
    used: u16,
}

/// Owned by one shard.
#[derive(Default)]
pub(crate) struct Connections {
    pages: Vec<Option<Box<Page>>>,
}

impl Connections {
    /// Puts a connection into an empty slot.
    pub(crate) fn insert(&mut self, slot: u32, stream: TcpStream) {
        let (page, at) = place(slot);
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, || None);
        }
        let page = self.pages[page].get_or_insert_with(Page::new);
        let before = page.streams[at].replace(stream);
        debug_assert!(before.is_none(), "slot {slot} is taken");
        page.used += u16::from(before.is_none());
        page.flags[at] = 0;
    }

    /// The connection of a slot and its flags.
    #[inline]
    pub(crate) fn get(&mut self, slot: u32) -> Option<(&mut TcpStream, &mut u8)> {
        let (page, at) = place(slot);
        let page = self.pages.get_mut(page)?.as_deref_mut()?;
        Some((page.streams[at].as_mut()?, &mut page.flags[at]))
    }

    /// Empties a slot.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<(TcpStream, u8)> {
        let (number, at) = place(slot);
        let entry = self.pages.get_mut(number)?;
        let page = entry.as_deref_mut()?;
        let stream = page.streams[at].take()?;
        let flags = page.flags[at];
        page.used -= 1;
        // The first page stays, or a broker with one client would allocate at each visit.
        if page.used == 0 && number != 0 {
            *entry = None;
        }
        Some((stream, flags))
    }
}

impl Page {
    fn new() -> Box<Self> {
        Box::new(Self { streams: [const { None }; PAGE], flags: [0; PAGE], used: 0 })
    }
}

fn place(slot: u32) -> (usize, usize) {
    ((slot >> PAGE_BITS) as usize, slot as usize & (PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

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
            connections.insert(slot, stream(&listener));
        }
        let (_, flags) = connections.get(5000).expect("just inserted");
        *flags |= ENDED;
        assert!(connections.get(4999).is_none() && connections.get(1 << 20).is_none());
        assert!(matches!(connections.remove(5000), Some((_, ENDED))));
        assert!(connections.remove(5000).is_none());
        assert!(connections.pages[4].is_none(), "an empty page is freed");
        assert!(connections.remove(0).is_some() && connections.remove(1023).is_some());
        assert!(connections.pages[0].is_some(), "the first page stays");
    }

    #[cfg(all(target_os = "linux", not(debug_assertions)))]
    #[test]
    fn a_connection_costs_a_descriptor() {
        assert_eq!(size_of::<Option<TcpStream>>(), 4);
    }
}
