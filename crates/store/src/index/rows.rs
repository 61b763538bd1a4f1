//! Rows of the index that are packed.

use crate::bytes::{Reader, put_number};
use crate::overlay::Entry;

/// A row with its CRC behind it.
pub(crate) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes
}

/// What was read of a row.
pub(crate) enum Row<'a> {
    Sound(&'a [u8]),
    Damaged,
}

/// What [`seal`] closed.
pub(crate) fn open_row(row: &[u8]) -> Row<'_> {
    match row.split_last_chunk::<4>() {
        Some((bytes, crc)) if crc32c::crc32c(bytes) == u32::from_le_bytes(*crc) => Row::Sound(bytes),
        _ => Row::Damaged,
    }
}

/// A row of a queue: of each entry how far it is behind the one before (the first: behind the key), its length, and its terms.
pub(crate) fn pack(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * 4 + 4);
    let mut last = entries.first().map_or(0, |entry| entry.position);
    for entry in entries {
        put_number(&mut bytes, entry.position - last);
        put_number(&mut bytes, u64::from(entry.len));
        put_number(&mut bytes, u64::from(entry.terms));
        last = entry.position;
    }
    seal(bytes)
}

/// Entries of a row of a queue; `None` if it is damaged.
pub(crate) fn queue_entries(first: u64, row: &[u8]) -> Option<Vec<Entry>> {
    let Row::Sound(bytes) = open_row(row) else { return None };
    let mut reader = Reader(bytes);
    let (mut entries, mut last) = (Vec::with_capacity(bytes.len() / 4), first);
    while !reader.0.is_empty() {
        last = last.checked_add(reader.number()?)?;
        entries.push(Entry { position: last, len: reader.small()?, terms: reader.small()? });
    }
    Some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_a_queue_comes_back_unless_a_bit_of_it_flipped() {
        let entries =
            [Entry { position: 900, len: 80, terms: 0 }, Entry { position: 1002, len: 1 << 20, terms: u32::MAX }];
        let row = pack(&entries);
        assert_eq!(queue_entries(900, &row).unwrap(), entries);
        for bit in 0..row.len() * 8 {
            let mut row = row.clone();
            row[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(queue_entries(900, &row), None, "bit {bit}");
        }
    }
}
