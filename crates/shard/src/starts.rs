//! How many starts a store has seen: what makes the revisions of one start greater than those of all before, whatever a crash has
//! taken, and whatever was cleared since that nothing tells of any more.

use breakwater_contract::store::Change;

/// Where their number is kept.
const TABLE: &str = "broker";
const KEY: &[u8] = b"starts";

/// Bits for the revisions of one start: more than it can ever give.
const REVISIONS: u32 = 40;

/// The starts of a store, from what it restores. Whoever sets retained messages while no broker runs counts as one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Starts {
    counted: u64,
    revision: u64,
}

impl Starts {
    /// A retained message that the store has.
    pub fn see_revision(&mut self, revision: u64) {
        self.revision = self.revision.max(revision);
    }

    /// A value that the store has.
    pub fn see_value(&mut self, table: &str, key: &[u8], value: &[u8]) {
        if table == TABLE && key == KEY {
            self.counted = value.first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
        }
    }

    /// One more: what the store has to be told, and the first revision of this one.
    #[must_use]
    pub fn next(self) -> (Change, u64) {
        let start = self.counted.max(self.revision >> REVISIONS) + 1;
        let value = Some(start.to_be_bytes().into());
        (Change::Value { table: TABLE.into(), key: KEY.into(), value }, start << REVISIONS)
    }
}
