//! Reading the log at a start: what holds, what is the torn end of a crash, and what is damage.
//!
//! A frame that does not read may be one that a crash kept from the disk, and then so is all behind it; or it was on the
//! disk and is damaged, and then what is behind it holds. The frames behind it tell: each says how far the log was synced when it
//! was made.

use std::io;

use super::segment::{
    BadHeader, FOLDER, FRAME_HEAD, HEADER, Header, Span, UNFINISHED, claimed_len, path_of, read_frame, serial_of,
};
use crate::disk::Disk;
use crate::findings::{Findings, OpenFault};

/// Bytes that are looked at to find a frame behind damage. More is behind it only if a client put much into its payloads that
/// looks like heads of frames.
const SEARCH_BYTES: usize = 1 << 30;

/// What a replay found.
#[derive(Debug)]
pub(crate) struct Replay {
    pub spans: Vec<Span>,
    pub salt: u64,
    pub next_serial: u64,
    /// Up to here the disk certainly has everything.
    pub synced: u64,
    /// Frames behind that, to be written again.
    pub unsynced: Vec<u8>,
}

/// Reads the log behind `covered` and calls `each` with every frame: the position of its body, its body, up to where the
/// disk certainly had the log when it was made, and the segments.
///
/// # Errors
/// Those of the disk, and a format that is later than this one.
pub(crate) fn replay(
    disk: &dyn Disk,
    covered: u64,
    salt: u64,
    findings: &mut Findings,
    mut each: impl FnMut(u64, &[u8], u64, &[Span]),
) -> Result<Replay, OpenFault> {
    let (headers, next_serial) = headers(disk, findings)?;
    let salt = headers.last().map_or(salt, |header| header.salt);
    let spans = spans(disk, &headers);
    let mut end = spans.first().map_or(covered, |span| span.first.min(covered));
    let (mut synced, mut unsynced) = (covered, Vec::new());
    for (at, span) in spans.iter().enumerate() {
        let limit = spans.get(at + 1).map_or(u64::MAX, |next| next.first);
        let from = span.first.max(covered);
        if limit <= covered {
            end = limit;
            continue;
        }
        if from > end && end >= covered {
            findings.lost(FOLDER, &format!("the log has nothing from position {end} to {from}: segments are missing"));
        }
        let bytes = read_span(disk, *span, from, limit)?;
        let mut walk =
            Walk { bytes: &bytes, from, salt, synced: synced.max(span.first), findings, path: path_of(span.serial) };
        end = walk.run(disk, &mut |position, body, proven| each(position, body, proven, &spans));
        synced = walk.synced;
        if limit == u64::MAX {
            // Also the start of the segment: it was made when everything before it was on the disk.
            let start = usize::try_from(synced.max(from) - from).unwrap_or(usize::MAX).min(bytes.len());
            let stop = usize::try_from(end.max(from) - from).unwrap_or(0).max(start);
            unsynced = bytes[start..stop.min(bytes.len())].to_vec();
        } else if end < limit {
            let path = path_of(span.serial);
            findings.lost(&path, &format!("{path} has nothing that reads from position {end} to {limit}"));
            end = limit;
        }
    }
    synced = synced.max(covered).max(end - unsynced.len() as u64);
    Ok(Replay { spans, salt, next_serial, synced, unsynced })
}

fn headers(disk: &dyn Disk, findings: &mut Findings) -> Result<(Vec<Header>, u64), OpenFault> {
    let (mut headers, mut next_serial) = (Vec::new(), 1);
    for name in disk.list(FOLDER)? {
        if name.ends_with(UNFINISHED) {
            // If it stays, it is no more than in the way.
            let _ = disk.remove(&format!("{FOLDER}/{name}"));
            let serial = serial_of(name.trim_end_matches(UNFINISHED)).unwrap_or(0);
            next_serial = next_serial.max(serial.saturating_add(1));
            continue;
        }
        let Some(serial) = serial_of(&name) else { continue };
        next_serial = next_serial.max(serial.saturating_add(1));
        let path = path_of(serial);
        let file = disk.open(&path)?;
        let len = file.len()?;
        let mut bytes = vec![0; HEADER.min(usize::try_from(len).unwrap_or(HEADER))];
        file.read_at(&mut bytes, 0)?;
        match Header::read(&bytes) {
            Ok(header) if header.serial == serial => headers.push(header),
            Err(BadHeader::Newer(version)) => return Err(OpenFault::Newer { path, version }),
            // Made, and not yet used for anything, when the process ended.
            _ if len <= HEADER as u64 => drop(disk.remove(&path)),
            _ => findings.set_aside(disk, &path, "header", "its header does not read")?,
        }
    }
    headers.sort_by_key(|header| header.serial);
    Ok((headers, next_serial))
}

/// Segments that hold something: one that begins where another did, or before it, replaces that.
fn spans(disk: &dyn Disk, headers: &[Header]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::with_capacity(headers.len());
    for header in headers {
        while let Some(replaced) = spans.pop_if(|last| last.first >= header.first) {
            // If it stays it is found, and replaced, once more.
            let _ = disk.remove(&path_of(replaced.serial));
        }
        spans.push(Span { first: header.first, serial: header.serial });
    }
    spans
}

fn read_span(disk: &dyn Disk, span: Span, from: u64, limit: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(&path_of(span.serial))?;
    let offset = HEADER as u64 + (from - span.first);
    let there = file.len()?.saturating_sub(offset).min(limit - from);
    if there == 0 {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; usize::try_from(there).map_err(|_| io::ErrorKind::OutOfMemory)?];
    file.read_at(&mut bytes, offset)?;
    Ok(bytes)
}

struct Walk<'a> {
    bytes: &'a [u8],
    from: u64,
    salt: u64,
    synced: u64,
    findings: &'a mut Findings,
    path: String,
}

impl Walk<'_> {
    /// Answers the position where what holds ends.
    fn run(&mut self, disk: &dyn Disk, each: &mut impl FnMut(u64, &[u8], u64)) -> u64 {
        let mut at = 0;
        while at < self.bytes.len() {
            let position = self.from + at as u64;
            if let Some(frame) = read_frame(&self.bytes[at..], position, self.salt) {
                self.synced = self.synced.max(position - u64::from(frame.synced_back));
                each(position + FRAME_HEAD as u64, frame.body, self.synced);
                at += frame.len();
                continue;
            }
            let Some(next) = self.proven_behind(at) else { break };
            let (first, last) = (position, self.from + next as u64);
            self.findings.keep_bytes(disk, &self.path, first, &self.bytes[at..next]);
            self.findings.lost(&self.path, &format!("{} is damaged from position {first} to {last}", self.path));
            at = next;
        }
        self.from + at as u64
    }

    /// Offset of the next frame behind damage that was on the disk before that frame was made.
    fn proven_behind(&self, damage: usize) -> Option<usize> {
        let mut budget = SEARCH_BYTES;
        for at in damage + 1..self.bytes.len() {
            let rest = &self.bytes[at..];
            let claimed = claimed_len(rest).filter(|len| *len <= rest.len());
            let Some(claimed) = claimed else { continue };
            budget = budget.checked_sub(claimed)?;
            let position = self.from + at as u64;
            let Some(frame) = read_frame(rest, position, self.salt) else { continue };
            let proof = position.saturating_sub(u64::from(frame.synced_back));
            if proof > self.from + damage as u64 {
                return Some(at);
            }
        }
        None
    }
}
