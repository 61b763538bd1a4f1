//! Messages from their segments.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use breakwater_contract::store::{Position, Queued};

use super::Unread;
use crate::disk::DiskFile;
use crate::index::Moved;
use crate::log::{offset_of, path_of};
use crate::overlay::Entry;
use crate::record::{Stamped, message_head, stored_message, unpack_terms};
use crate::shared::{Moment, Shared};

/// Files that stay open.
const FILES_MAX: usize = 64;
/// What is read ahead: messages of a queue often lie side by side.
const AHEAD: usize = 32 << 10;

pub(super) struct Messages {
    shared: Arc<Shared>,
    files: HashMap<u64, Arc<dyn DiskFile>>,
    ahead: Vec<u8>,
    /// Segment and offset of `ahead`.
    ahead_at: (u64, u64),
}

impl Messages {
    pub(super) fn new(shared: Arc<Shared>) -> Messages {
        Messages { shared, files: HashMap::new(), ahead: Vec::new(), ahead_at: (0, 0) }
    }

    /// An entry of a queue, without its message if that is not there any more or is not what was written.
    pub(super) fn read(&mut self, moment: &Moment, moved: &Moved, entry: Entry) -> Result<Queued, Unread> {
        let Entry { position: name, len, terms } = entry;
        let copy = moved.get(name)?.map(|row| row.value().0);
        let position = copy.unwrap_or(name);
        let wanted = message_head(len, copy.map(|_| name)) + len as usize;
        let behind = moment.spans.partition_point(|span| span.first <= position);
        let lost = Queued { position: Position(name), unix_ms: 0, terms: unpack_terms(terms), message: None };
        let Some(span) = behind.checked_sub(1).map(|at| moment.spans[at]) else { return Ok(lost) };
        let offset = offset_of(span, position);
        let epoch = self.shared.epoch;
        match self.bytes(moment, span.serial, offset, wanted) {
            Ok(bytes) => {
                let Some(Stamped { unix_ms, message }) = stored_message(bytes) else { return Ok(lost) };
                Ok(Queued { unix_ms, message: epoch.back(message), ..lost })
            }
            Err(fault) if matches!(fault.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => Ok(lost),
            Err(fault) => Err(fault.into()),
        }
    }

    fn bytes(&mut self, moment: &Moment, serial: u64, offset: u64, wanted: usize) -> io::Result<&[u8]> {
        let start = offset.checked_sub(self.ahead_at.1).and_then(|start| usize::try_from(start).ok());
        if let Some(start) = start
            && self.ahead_at.0 == serial
            && start.checked_add(wanted).is_some_and(|end| end <= self.ahead.len())
        {
            return Ok(&self.ahead[start..start + wanted]);
        }
        let file = self.file(moment, serial)?;
        // What is read of a segment does not change, but for the end, which grows.
        let there = usize::try_from(file.len()?.saturating_sub(offset)).unwrap_or(usize::MAX);
        self.ahead_at = (0, 0);
        self.ahead.resize(wanted.max(AHEAD.min(there)), 0);
        self.ahead.shrink_to(AHEAD);
        file.read_at(&mut self.ahead, offset)?;
        self.ahead_at = (serial, offset);
        Ok(&self.ahead[..wanted])
    }

    fn file(&mut self, moment: &Moment, serial: u64) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = self.files.get(&serial) {
            return Ok(Arc::clone(file));
        }
        // An open file that was removed still takes its room.
        self.files.retain(|open, _| moment.spans.iter().any(|span| span.serial == *open));
        if self.files.len() >= FILES_MAX {
            self.files.clear();
        }
        let file = self.shared.disk.open(&path_of(serial))?;
        self.files.insert(serial, Arc::clone(&file));
        Ok(file)
    }
}
