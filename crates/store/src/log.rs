//! The log: every durable change, in the order in which it was made.
//!
//! A position is an offset in the log as one endless stream; segments are windows onto it. A segment is a file
//! `log/<serial>.seg` with a header (twice, so that one flipped bit costs nothing) and frames. A frame is the length of its body
//! (4 bytes), a CRC of salt, position, head and body (4), how far behind its start the log was certainly on the disk (4), and
//! the body: records. A frame holds in whole or not at all.
//!
//! A segment that begins at a position replaces whatever an earlier one holds from there on. So after a failed sync what was not
//! synced is written again into a new segment, at the same positions, and nobody has to know.

mod replay;
mod segment;

use std::io;
use std::sync::Arc;

use crate::disk::{Disk, DiskFile};

pub(crate) use replay::{Replay, replay};
pub(crate) use segment::{BODY_MAX, FOLDER, Span, offset_of, path_of};
pub(crate) use segment::{FRAME_HEAD, whole_of};
pub use segment::{Frame, read_frame};

use segment::{HEADER, Header, unfinished_path_of};

/// Where the log is written.
#[derive(Debug)]
pub(crate) struct Log {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    salt: u64,
    spans: Arc<[Span]>,
    active: Option<Active>,
    next_serial: u64,
    /// Position up to which the disk certainly has everything.
    synced: u64,
    /// Frames from there on.
    unsynced: Vec<u8>,
    /// Frames in front of that, as they were synced together.
    settled: Vec<u8>,
    /// How much of them the active segment has been given.
    written: usize,
    /// Start of the frame that is being made.
    open_frame: Option<usize>,
}

#[derive(Debug)]
struct Active {
    file: Arc<dyn DiskFile>,
    first: u64,
}

impl Log {
    /// Goes on behind what a replay found.
    pub(crate) fn new(disk: Arc<dyn Disk>, segment_bytes: u64, found: Replay) -> Log {
        Log {
            disk,
            segment_bytes,
            salt: found.salt,
            spans: found.spans.into(),
            active: None,
            next_serial: found.next_serial,
            synced: found.synced,
            unsynced: found.unsynced,
            settled: Vec::new(),
            written: 0,
            open_frame: None,
        }
    }

    /// Position behind the last frame.
    pub(crate) fn end(&self) -> u64 {
        self.synced + self.unsynced.len() as u64
    }

    pub(crate) fn unsynced_bytes(&self) -> usize {
        self.unsynced.len()
    }

    pub(crate) fn spans(&self) -> &Arc<[Span]> {
        &self.spans
    }

    /// Begins a frame. Answers the position of its body.
    pub(crate) fn begin(&mut self) -> u64 {
        self.open_frame = Some(self.unsynced.len());
        self.unsynced.extend_from_slice(&[0; FRAME_HEAD]);
        self.end()
    }

    /// Adds to the body of the frame.
    pub(crate) fn push(&mut self, records: &[u8]) {
        self.unsynced.extend_from_slice(records);
    }

    /// Ends the frame. Answers where it starts.
    pub(crate) fn finish(&mut self) -> u64 {
        let start = self.open_frame.take().expect("finish follows begin");
        let position = self.synced + start as u64;
        let synced_back = u32::try_from(start).unwrap_or(u32::MAX);
        let frame = Frame { position, synced_back, body: &self.unsynced[start + FRAME_HEAD..] };
        let head = frame.head(self.salt);
        self.unsynced[start..start + FRAME_HEAD].copy_from_slice(&head);
        position
    }

    /// Body of the frame that was finished last.
    pub(crate) fn body(&self, start: u64) -> &[u8] {
        let (bytes, from) = match start.checked_sub(self.synced) {
            Some(_) => (&self.unsynced, self.synced),
            None => (&self.settled, self.synced - self.settled.len() as u64),
        };
        segment::body_at(bytes, usize::try_from(start - from).expect("within what lies in memory"))
    }

    /// Forgets frames from a position on, which failed. They may lie on the disk, so the segment is not used any more.
    pub(crate) fn take_back(&mut self, start: u64) {
        self.unsynced.truncate(usize::try_from(start - self.synced).expect("within what lies in memory"));
        self.abandon();
    }

    /// Hands everything to the operating system; to the disk too, with `sync`. What fails is tried once more, in a new segment.
    ///
    /// # Errors
    /// The second one. Nothing more is known of any frame that was not synced.
    pub(crate) fn write(&mut self, sync: bool) -> io::Result<Option<io::Error>> {
        let first = match self.try_write(sync) {
            Ok(()) => return Ok(None),
            Err(fault) => fault,
        };
        self.abandon();
        self.try_write(true).inspect_err(|_| self.abandon())?;
        Ok(Some(first))
    }

    fn try_write(&mut self, sync: bool) -> io::Result<()> {
        // A full segment is left behind only when all of it is on the disk.
        let full = |active: &Active, synced: u64| synced - active.first >= self.segment_bytes;
        if self.active.as_ref().is_some_and(|active| full(active, self.synced)) && self.written == 0 {
            self.active = None;
        }
        if self.active.is_none() {
            return self.open_segment();
        }
        let active = self.active.as_ref().expect("looked at above");
        let offset = HEADER as u64 + (self.synced - active.first);
        active.file.write_at(&self.unsynced[self.written..], offset + self.written as u64)?;
        self.written = self.unsynced.len();
        if sync {
            active.file.sync()?;
            self.all_synced();
        }
        Ok(())
    }

    /// A new segment with all that is not synced. It gets its name when it is whole: what it replaces may have been on the disk
    /// before a crash, and been answered.
    fn open_segment(&mut self) -> io::Result<()> {
        let span = Span { first: self.synced, serial: self.next_serial };
        self.next_serial += 1;
        let (path, unfinished) = (path_of(span.serial), unfinished_path_of(span.serial));
        let file = self.disk.create(&unfinished)?;
        let mut bytes = Header { serial: span.serial, first: span.first, salt: self.salt }.bytes();
        bytes.extend_from_slice(&self.unsynced);
        let written = file.write_at(&bytes, 0).and_then(|()| file.sync());
        if let Err(fault) = written.and_then(|()| self.disk.rename(&unfinished, &path)) {
            // If it stays, the next start removes it.
            let _ = self.disk.remove(&unfinished);
            return Err(fault);
        }
        // With its name not certain it is not used. The next one begins where it does, and replaces it if it comes back.
        self.disk.sync_folder(FOLDER).inspect_err(|_| drop(self.disk.remove(&path)))?;
        // A segment that held nothing certain is replaced.
        let kept = self.spans.iter().filter(|old| old.first < span.first).copied();
        self.spans = kept.chain([span]).collect();
        self.active = Some(Active { file, first: span.first });
        self.all_synced();
        Ok(())
    }

    fn all_synced(&mut self) {
        self.synced += self.unsynced.len() as u64;
        std::mem::swap(&mut self.unsynced, &mut self.settled);
        self.unsynced.clear();
        self.unsynced.shrink_to(UNSYNCED_KEPT);
        self.written = 0;
    }

    fn abandon(&mut self) {
        self.active = None;
        self.written = 0;
    }

    /// Removes segments that end before `covered` and that `is_needed` does not want. Answers whether any went.
    pub(crate) fn collect(&mut self, covered: u64, is_needed: impl Fn(Span) -> bool) -> bool {
        let ends = self.spans.iter().skip(1).map(|next| next.first);
        let (mut kept, mut gone) = (Vec::new(), false);
        for (span, end) in self.spans.iter().zip(ends.chain([u64::MAX])) {
            if end <= covered && !is_needed(*span) && self.disk.remove(&path_of(span.serial)).is_ok() {
                gone = true;
            } else {
                kept.push(*span);
            }
        }
        if gone {
            self.spans = kept.into();
            // What comes back after a crash is found again, and needed as little.
            let _ = self.disk.sync_folder(FOLDER);
        }
        gone
    }
}

/// Capacity that stays for the next frames.
const UNSYNCED_KEPT: usize = 1 << 20;
