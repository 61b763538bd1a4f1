//! Names of what a shard's poller watches.
//!
//! All of them fit into 32 bits and no two kinds can meet, whatever comes and goes while the node runs: connections take
//! the lower half, those that stand at the gate a quarter, listening sockets the rest, and the bell the last number.

use mio::Token;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// A connection of the shard, by slot.
    Connection(u32),
    /// One at the gate, by its place there.
    Gate(u32),
    /// A listening socket.
    Ear(u32),
    /// The bell: somebody has left something.
    Bell,
}

const GATE: u32 = 1 << 31;
const EARS: u32 = GATE | 1 << 30;
const BELL: u32 = u32::MAX;
/// Numbers of listening sockets, and of places at the gate, lie below.
const PER_KIND: u32 = 1 << 30;

impl Watched {
    /// Its name at the poller.
    pub(crate) fn token(self) -> Token {
        let number = match self {
            Self::Connection(slot) => {
                debug_assert!(slot < GATE, "more connections than descriptors");
                slot
            }
            Self::Gate(place) => GATE | (place & (PER_KIND - 1)),
            Self::Ear(ear) => EARS | (ear & (PER_KIND - 1)),
            Self::Bell => BELL,
        };
        Token(number as usize)
    }

    /// What the name stands for.
    #[inline]
    pub(crate) fn of(Token(token): Token) -> Self {
        // No larger number was ever handed out.
        let number = u32::try_from(token).unwrap_or(BELL);
        if number < GATE {
            Self::Connection(number)
        } else if number < EARS {
            Self::Gate(number - GATE)
        } else if number < BELL {
            Self::Ear(number - EARS)
        } else {
            Self::Bell
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_as_itself() {
        for watched in [
            Watched::Connection(0),
            Watched::Connection(GATE - 1),
            Watched::Gate(0),
            Watched::Gate(PER_KIND - 1),
            Watched::Ear(0),
            Watched::Ear(PER_KIND - 2),
            Watched::Bell,
        ] {
            assert_eq!(Watched::of(watched.token()), watched);
        }
    }
}
