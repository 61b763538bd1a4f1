//! `-l`: the lines of the standard input, as they come.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use crate::console::Console;
use crate::link::Arrival;

/// Lines from a thread that reads while the main thread serves the connection.
pub(super) struct Lines {
    chunks: Receiver<io::Result<Vec<u8>>>,
    /// Read but not sent; lines from `at` on.
    buffer: Vec<u8>,
    at: usize,
    /// How far from `at` on there is no line end.
    scanned: usize,
    is_at_end: bool,
}

pub(super) enum Next<'a> {
    /// Without its line end.
    Line(&'a [u8]),
    /// None is complete.
    Wait,
    End,
    Failed(io::Error),
}

const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS_MAX: usize = 4;

impl Lines {
    pub(super) fn start(console: &mut Console, nudge: SyncSender<Arrival>) -> Lines {
        let input = std::mem::replace(&mut console.input, Box::new(io::empty()));
        let (sender, chunks) = sync_channel(CHUNKS_MAX);
        // Not joined: it may hang in a read of a terminal when the run ends.
        thread::spawn(move || {
            read(input, &sender, &nudge);
            // The end is news as well, and shows when the sender is gone.
            drop(sender);
            let _ = nudge.try_send(Arrival::Nudge);
        });
        Lines { chunks, buffer: Vec::new(), at: 0, scanned: 0, is_at_end: false }
    }

    pub(super) fn next(&mut self) -> Next<'_> {
        loop {
            let unscanned = &self.buffer[self.at + self.scanned..];
            if let Some(end) = unscanned.iter().position(|byte| *byte == b'\n') {
                let start = self.at;
                let end = start + self.scanned + end;
                self.at = end + 1;
                self.scanned = 0;
                return Next::Line(&self.buffer[start..end]);
            }
            self.scanned = self.buffer.len() - self.at;
            if self.is_at_end {
                // The last line may lack its end.
                let start = self.at;
                self.at = self.buffer.len();
                self.scanned = 0;
                return if start == self.at { Next::End } else { Next::Line(&self.buffer[start..]) };
            }
            match self.chunks.try_recv() {
                Ok(Ok(chunk)) => self.append(&chunk),
                Ok(Err(error)) => return Next::Failed(error),
                Err(TryRecvError::Empty) => return Next::Wait,
                Err(TryRecvError::Disconnected) => self.is_at_end = true,
            }
        }
    }

    fn append(&mut self, chunk: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(chunk);
    }
}

fn read(mut input: Box<dyn Read + Send>, chunks: &SyncSender<io::Result<Vec<u8>>>, nudge: &SyncSender<Arrival>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let chunk = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(len) => Ok(buffer[..len].to_vec()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = chunk.is_err();
        if chunks.send(chunk).is_err() || is_last {
            break;
        }
        // A full inbox keeps the main thread awake by itself.
        let _ = nudge.try_send(Arrival::Nudge);
    }
}
