//! How a segment is laid out.

use std::io;

use crate::disk::Disk;

/// Where segments lie.
pub(crate) const FOLDER: &str = "log";

/// Of each frame, in front of its body.
pub(crate) const FRAME_HEAD: usize = 12;

/// Of a file: twice the same.
pub(crate) const HEADER: usize = 2 * ONE_HEADER;
const ONE_HEADER: usize = 36;

const MAGIC: [u8; 4] = *b"BWLG";

/// Version of the format. A store does not touch a folder with a later one.
pub(crate) const VERSION: u32 = 1;

/// Largest body of a frame.
pub(crate) const BODY_MAX: usize = 320 << 20;

/// Where a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub first: u64,
    pub serial: u64,
}

/// Where a position lies in the file of its segment.
pub(crate) fn offset_of(span: Span, position: u64) -> u64 {
    HEADER as u64 + position.saturating_sub(span.first)
}

/// All frames of a segment that ends at a position.
pub(crate) fn whole_of(disk: &dyn Disk, span: Span, end: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(&path_of(span.serial))?;
    let there = file.len()?.saturating_sub(HEADER as u64).min(end - span.first);
    let mut bytes = vec![0; usize::try_from(there).map_err(|_| io::ErrorKind::OutOfMemory)?];
    // A crash may have left the header in part.
    if there > 0 {
        file.read_at(&mut bytes, HEADER as u64)?;
    }
    Ok(bytes)
}

/// Path of a segment.
pub(crate) fn path_of(serial: u64) -> String {
    format!("{FOLDER}/{serial:010}.seg")
}

/// Path of a segment that is being made.
pub(crate) fn unfinished_path_of(serial: u64) -> String {
    path_of(serial) + UNFINISHED
}

/// Behind the name of a file that is being made.
pub(crate) const UNFINISHED: &str = ".new";

/// The serial number in a name.
pub(crate) fn serial_of(name: &str) -> Option<u64> {
    name.strip_suffix(".seg")?.parse().ok()
}

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub serial: u64,
    pub first: u64,
    pub salt: u64,
}

/// Why a header can't be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    Damaged,
    /// Of a later version, intact.
    Newer(u32),
}

impl Header {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut one = Vec::with_capacity(HEADER);
        one.extend_from_slice(&MAGIC);
        one.extend_from_slice(&VERSION.to_le_bytes());
        one.extend_from_slice(&self.serial.to_le_bytes());
        one.extend_from_slice(&self.first.to_le_bytes());
        one.extend_from_slice(&self.salt.to_le_bytes());
        one.extend_from_slice(&crc32c::crc32c(&one).to_le_bytes());
        one.repeat(2)
    }

    pub(crate) fn read(bytes: &[u8]) -> Result<Header, BadHeader> {
        let mut answer = Err(BadHeader::Damaged);
        for one in bytes.chunks_exact(ONE_HEADER).take(2) {
            answer = Header::read_one(one);
            if answer != Err(BadHeader::Damaged) {
                break;
            }
        }
        answer
    }

    fn read_one(one: &[u8]) -> Result<Header, BadHeader> {
        let number =
            |at: usize| one.get(at..at + 8).and_then(|bytes| bytes.first_chunk()).map(|b| u64::from_le_bytes(*b));
        let small =
            |at: usize| one.get(at..at + 4).and_then(|bytes| bytes.first_chunk()).map(|b| u32::from_le_bytes(*b));
        let read = || {
            let (body, crc) = (one.get(..ONE_HEADER - 4)?, small(ONE_HEADER - 4)?);
            let sound = one.starts_with(&MAGIC) && crc32c::crc32c(body) == crc;
            let header = Header { serial: number(8)?, first: number(16)?, salt: number(24)? };
            sound.then_some((small(4)?, header))
        };
        match read() {
            Some((VERSION, header)) => Ok(header),
            Some((version, _)) => Err(BadHeader::Newer(version)),
            None => Err(BadHeader::Damaged),
        }
    }
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Where it starts in the log.
    pub position: u64,
    /// How far in front of its start the log was certainly on the disk.
    pub synced_back: u32,
    /// Its records.
    pub body: &'a [u8],
}

impl Frame<'_> {
    /// Bytes on disk.
    #[must_use]
    pub fn len(&self) -> usize {
        FRAME_HEAD + self.body.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The head in front of the body.
    #[must_use]
    pub fn head(&self, salt: u64) -> [u8; FRAME_HEAD] {
        let len = u32::try_from(self.body.len()).expect("a body is at most BODY_MAX");
        let mut head = [0; FRAME_HEAD];
        head[..4].copy_from_slice(&len.to_le_bytes());
        head[4..8].copy_from_slice(&crc(salt, self).to_le_bytes());
        head[8..].copy_from_slice(&self.synced_back.to_le_bytes());
        head
    }
}

/// The CRC knows where the frame lies and in which store, so that old bytes of another place are no frame, and neither is what a
/// client puts into a payload.
fn crc(salt: u64, frame: &Frame<'_>) -> u32 {
    let crc = crc32c::crc32c(&salt.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &frame.position.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &(frame.body.len() as u64).to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &frame.synced_back.to_le_bytes());
    crc32c::crc32c_append(crc, frame.body)
}

/// The frame at the front of `bytes`, if there is a whole and sound one.
#[must_use]
pub fn read_frame(bytes: &[u8], position: u64, salt: u64) -> Option<Frame<'_>> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let word = |at: usize| head[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let body = rest.get(..word(0)? as usize)?;
    let frame = Frame { position, synced_back: word(8)?, body };
    (body.len() <= BODY_MAX && crc(salt, &frame) == word(4)?).then_some(frame)
}

/// Length that the bytes at the front claim, head included.
pub(crate) fn claimed_len(bytes: &[u8]) -> Option<usize> {
    let len = bytes.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))?;
    (len as usize).checked_add(FRAME_HEAD)
}

/// Body of the frame at an offset of bytes that we wrote ourselves.
pub(crate) fn body_at(bytes: &[u8], offset: usize) -> &[u8] {
    let len = claimed_len(&bytes[offset..]).unwrap_or(0);
    &bytes[offset + FRAME_HEAD..offset + len]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_any_flipped_bit() {
        let header = Header { serial: 7, first: 1 << 40, salt: 99 };
        let bytes = header.bytes();
        assert_eq!(bytes.len(), HEADER);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&bytes), Ok(header), "bit {bit}");
        }
        assert_eq!(Header::read(&bytes[..10]), Err(BadHeader::Damaged));
    }

    #[test]
    fn a_frame_is_nothing_elsewhere_or_with_any_flipped_bit_or_byte_less() {
        let frame = Frame { position: 77, synced_back: 3, body: b"records" };
        let bytes = [frame.head(5).as_slice(), frame.body].concat();
        assert_eq!(read_frame(&bytes, 77, 5), Some(frame));
        assert_eq!(read_frame(&bytes, 78, 5), None);
        assert_eq!(read_frame(&bytes, 77, 6), None);
        for len in 0..bytes.len() {
            assert_eq!(read_frame(&bytes[..len], 77, 5), None, "{len} bytes");
        }
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read_frame(&bytes, 77, 5), None, "bit {bit}");
        }
    }
}
