//! MQTT over QUIC as a blocking stream of bytes: the control stream of one connection.
//!
//! A thread of its own does UDP, TLS and QUIC. What it has read and what it is to write waits in bounded channels.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, TransportErrorCode, VarInt};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::CertificateDer;
use tokio::runtime::{self, Handle};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;

/// A connection whose handshake is done.
pub struct Connected {
    /// What the server sends. May go to another thread.
    pub reader: Reader,
    /// To the server. Dropping it ends the connection in good order.
    pub writer: Writer,
    /// The server's chain, leaf first.
    pub certificates: Vec<CertificateDer<'static>>,
    /// As the handshake has shown it.
    pub round_trip: Duration,
}

/// Reads block; 0 bytes mean that the server has ended the stream.
pub struct Reader {
    inbox: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

/// Writes block while the channel is full: for so long as `stall` says, if it says so, and fail with
/// [`ErrorKind::TimedOut`] then, having taken nothing.
pub struct Writer {
    outbox: Option<Sender<Vec<u8>>>,
    runtime: Handle,
    /// See above.
    pub stall: Option<Duration>,
}

/// Chunks under way in each direction, of at most so many bytes.
const CHUNKS_MAX: usize = 16;
const CHUNK: usize = 64 * 1024;
/// Time in which the last words may arrive.
const GOODBYE: Duration = Duration::from_secs(1);

/// Connects. `server_name` is what the server's certificate has to be for; `tls` says which certificates are believed, and
/// its application protocol is set here.
///
/// # Errors
/// One line with what is wrong and what to look at.
pub fn connect(
    address: SocketAddr,
    server_name: &str,
    mut tls: rustls::ClientConfig,
    limit: Duration,
) -> io::Result<Connected> {
    tls.alpn_protocols = vec![b"mqtt".to_vec()];
    tls.enable_early_data = false;
    let initial = TLS13_AES_128_GCM_SHA256.tls13().and_then(|suite| suite.quic_suite());
    let initial = initial.expect("the provider has QUIC for the suite that QUIC requires");
    let crypto = QuicClientConfig::with_initial(Arc::new(tls), initial).map_err(io::Error::other)?;
    let config = ClientConfig::new(Arc::new(crypto));
    let runtime = runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (tell, told) = sync_channel(1);
    let server_name = server_name.to_owned();
    let body = move || runtime.block_on(live(address, &server_name, config, limit, &tell));
    thread::Builder::new().name("quic".into()).spawn(body)?;
    told.recv().map_err(|_| io::Error::other("the QUIC thread has ended"))?
}

/// All of a connection, on its thread.
async fn live(
    address: SocketAddr,
    server_name: &str,
    config: ClientConfig,
    limit: Duration,
    tell: &SyncSender<io::Result<Connected>>,
) {
    let (endpoint, connection, (send, recv)) = match open(address, server_name, config, limit).await {
        Ok(all) => all,
        Err(fault) => {
            // An error here: nobody waits any more.
            let _ = tell.send(Err(fault));
            return;
        }
    };
    let (into_inbox, inbox) = channel(CHUNKS_MAX);
    let (outbox, from_outbox) = channel(CHUNKS_MAX);
    let shown = connection.peer_identity().and_then(|any| any.downcast::<Vec<CertificateDer<'static>>>().ok());
    let connected = Connected {
        reader: Reader { inbox, chunk: Vec::new(), at: 0 },
        writer: Writer { outbox: Some(outbox), runtime: Handle::current(), stall: None },
        certificates: shown.map(|chain| *chain).unwrap_or_default(),
        round_trip: connection.rtt(),
    };
    if tell.send(Ok(connected)).is_err() {
        return;
    }
    let mut reading = tokio::spawn(read(recv, into_inbox));
    write(send, from_outbox).await;
    // The server has all, and ends its side too.
    let ended = timeout(GOODBYE, &mut reading).await.is_ok();
    connection.close(VarInt::from_u32(0), b"");
    if !ended {
        let _ = reading.await;
    }
    let _ = timeout(GOODBYE, endpoint.wait_idle()).await;
}

async fn open(
    address: SocketAddr,
    server_name: &str,
    config: ClientConfig,
    limit: Duration,
) -> io::Result<(Endpoint, Connection, (SendStream, RecvStream))> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let endpoint = Endpoint::client(SocketAddr::new(any, 0))?;
    let connecting = endpoint.connect_with(config, address, server_name).map_err(io::Error::other)?;
    let silent = || {
        let text = format!("{address} doesn't answer over QUIC: check the address, and that no firewall stops UDP");
        io::Error::new(ErrorKind::TimedOut, text)
    };
    let connection = match timeout(limit, connecting).await {
        Ok(Ok(connection)) => connection,
        Err(_) | Ok(Err(ConnectionError::TimedOut)) => return Err(silent()),
        Ok(Err(fault)) => return Err(io::Error::new(ErrorKind::ConnectionRefused, plain(&fault))),
    };
    let streams = connection.open_bi().await.map_err(|fault| io::Error::other(plain(&fault)))?;
    Ok((endpoint, connection, streams))
}

/// Why a connection has ended, in words. The server says why in the reason of its close.
fn plain(fault: &ConnectionError) -> String {
    match fault {
        ConnectionError::TransportError(fault) if fault.reason.contains("UnknownIssuer") => {
            "nobody whom we trust has signed the server's certificate: name its authority with --cafile".to_owned()
        }
        ConnectionError::TransportError(fault) if fault.reason.contains("certificate") => {
            format!("the server's certificate is not good: {}", fault.reason)
        }
        ConnectionError::ConnectionClosed(close) if close.error_code == TransportErrorCode::CONNECTION_REFUSED => {
            "the server lets nobody in here now: it is full, overloaded, or doesn't allow this address".to_owned()
        }
        ConnectionError::ConnectionClosed(close) if !close.reason.is_empty() => {
            format!(
                "the server has refused TLS ({}): does it want a client certificate (--cert, --key)?",
                String::from_utf8_lossy(&close.reason)
            )
        }
        ConnectionError::ApplicationClosed(close) if !close.reason.is_empty() => {
            format!("the server has closed the connection: {}", String::from_utf8_lossy(&close.reason))
        }
        ConnectionError::ApplicationClosed(_) => "the server has closed the connection".to_owned(),
        ConnectionError::TimedOut => "the server doesn't answer any more".to_owned(),
        other => format!("QUIC has failed: {other}"),
    }
}

async fn read(mut recv: RecvStream, inbox: Sender<io::Result<Vec<u8>>>) {
    loop {
        let chunk = match recv.read_chunk(CHUNK, true).await {
            Ok(Some(chunk)) => Ok(chunk.bytes.to_vec()),
            Ok(None) => return,
            Err(quinn::ReadError::ConnectionLost(ConnectionError::LocallyClosed)) => return,
            Err(quinn::ReadError::ConnectionLost(ConnectionError::ApplicationClosed(close)))
                if close.error_code == VarInt::from_u32(0) =>
            {
                return;
            }
            Err(quinn::ReadError::ConnectionLost(fault)) => Err(io::Error::other(plain(&fault))),
            Err(fault) => Err(io::Error::other(fault)),
        };
        let is_last = chunk.is_err();
        if inbox.send(chunk).await.is_err() || is_last {
            return;
        }
    }
}

/// Until the writer is dropped and all is written, or the connection is gone.
async fn write(mut send: SendStream, mut outbox: Receiver<Vec<u8>>) {
    while let Some(bytes) = outbox.recv().await {
        if send.write_all(&bytes).await.is_err() {
            return;
        }
    }
    if send.finish().is_ok() {
        let _ = timeout(GOODBYE, send.stopped()).await;
    }
}

impl Writer {
    /// Says that nothing more will come: what is written still goes out, and then the connection ends.
    pub fn end(&mut self) {
        self.outbox = None;
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.chunk.len() {
            match self.inbox.blocking_recv() {
                Some(chunk) => (self.chunk, self.at) = (chunk?, 0),
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.chunk.len() - self.at);
        buffer[..count].copy_from_slice(&self.chunk[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let count = bytes.len().min(CHUNK);
        let Some(outbox) = &self.outbox else { return Err(ErrorKind::BrokenPipe.into()) };
        let room = match self.stall {
            None => self.runtime.block_on(outbox.reserve()),
            Some(stall) => self
                .runtime
                .block_on(async { timeout(stall, outbox.reserve()).await })
                .map_err(|_| io::Error::from(ErrorKind::TimedOut))?,
        };
        room.map_err(|_| io::Error::from(ErrorKind::BrokenPipe))?.send(bytes[..count].to_vec());
        Ok(count)
    }

    /// Nothing to do: the thread writes as it can.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
