//! HTTP that came to a listener of ours, handed to whoever serves it.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use breakwater_contract::HttpStream;
use breakwater_transport::layers::{Gave, Layers, Scratch, Took};

use crate::roll::Pass;

/// A connection that has left the gate on the side of HTTP.
pub(crate) struct Handed {
    stream: TcpStream,
    layers: Layers,
    scratch: Scratch,
    /// It counts at its listener as long as it lives.
    _pass: Pass,
}

impl Handed {
    pub(crate) fn new(stream: mio::net::TcpStream, layers: Layers, pass: Pass) -> Self {
        Self { stream: TcpStream::from(stream), layers, scratch: Scratch::default(), _pass: pass }
    }
}

impl Read for Handed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.layers.read(&mut self.stream, &mut self.scratch, buffer) {
                // Only bytes of TLS itself: the next attempt tells.
                Took::More(0) => {}
                Took::Bytes(count) | Took::More(count) => return Ok(count),
                Took::WouldBlock => return Err(ErrorKind::WouldBlock.into()),
                Took::Closed => return Ok(0),
                Took::Failed(fault) => return Err(io::Error::new(ErrorKind::ConnectionAborted, fault)),
            }
        }
    }
}

impl Write for Handed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.layers.write(&mut self.stream, &mut self.scratch, bytes) {
            Gave::Wrote(count) => Ok(count),
            Gave::WouldBlock => Err(ErrorKind::WouldBlock.into()),
            Gave::Failed => Err(ErrorKind::BrokenPipe.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self.layers.flush(&mut self.stream) {
            Ok(true) => Ok(()),
            Ok(false) => Err(ErrorKind::WouldBlock.into()),
            Err(fault) => Err(io::Error::new(ErrorKind::BrokenPipe, fault)),
        }
    }
}

impl HttpStream for Handed {
    fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for Handed {
    fn drop(&mut self) {
        let words = self.layers.last_words(&mut self.scratch);
        // Nobody waits for a peer that doesn't read: what a full socket does not take is lost, with the connection.
        let _ = self.stream.set_write_timeout(Some(Duration::from_millis(1)));
        let _ = self.stream.write(&words);
    }
}
