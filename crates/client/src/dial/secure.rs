//! TLS over a socket, one half for each of two threads.
//!
//! Both halves share the state of TLS behind a lock. The reading half waits for the socket without it, so that nobody waits
//! for somebody who waits.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::socket::Socket;
use super::{Outgoing, Seen, Target};
use crate::exit::Exit;
use crate::failure::Failure;

type Shared = Arc<Mutex<ClientConnection>>;

pub(super) struct Reader {
    tls: Shared,
    socket: Socket,
    cipher: Box<[u8]>,
    /// What of it TLS has not taken yet.
    from: usize,
    to: usize,
}

pub(super) struct Writer {
    tls: Shared,
    socket: Socket,
}

/// Bytes of TLS read at once.
const READ_BYTES: usize = 32 * 1024;

/// Agrees with the server on keys; says what was seen.
pub(super) fn handshake(
    socket: &Socket,
    target: &Target,
    config: Arc<ClientConfig>,
    seen: &mut Seen,
) -> Result<(Reader, Writer), Failure> {
    let name = ServerName::try_from(target.host.clone())
        .map_err(|_| Failure::usage(format!("{:?} is no name that a certificate could hold", target.host)))?;
    let mut tls = ClientConnection::new(config, name)
        .map_err(|fault| Failure::usage(format!("TLS can't be used like this: {fault}")))?;
    let io = |fault: io::Error| super::refused(target, &fault);
    let mut stream = socket.try_clone().map_err(io)?;
    while tls.is_handshaking() {
        if let Err(fault) = tls.complete_io(&mut stream) {
            return Err(explain(target, &fault));
        }
    }
    seen.cipher = match (tls.protocol_version(), tls.negotiated_cipher_suite()) {
        (Some(version), Some(suite)) => Some(format!("{version:?} {:?}", suite.suite())),
        _ => None,
    };
    seen.certificates =
        tls.peer_certificates().unwrap_or_default().iter().map(|certificate| certificate.to_vec()).collect();
    let tls = Arc::new(Mutex::new(tls));
    let reader = Reader {
        tls: Arc::clone(&tls),
        socket: socket.try_clone().map_err(io)?,
        cipher: vec![0; READ_BYTES].into_boxed_slice(),
        from: 0,
        to: 0,
    };
    Ok((reader, Writer { tls, socket: socket.try_clone().map_err(io)? }))
}

/// A handshake that failed, in words and with what to do.
fn explain(target: &Target, fault: &io::Error) -> Failure {
    use rustls::CertificateError as Bad;
    use rustls::Error;
    let inner = fault.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let text = match inner {
        Some(Error::InvalidCertificate(bad)) => match bad {
            Bad::UnknownIssuer => {
                "nobody whom we trust has signed the server's certificate: name its authority with --cafile".into()
            }
            Bad::NotValidForName | Bad::NotValidForNameContext { .. } => format!(
                "the server's certificate is for other names than {:?}: connect to one of its names, or renew it with this one",
                target.host
            ),
            Bad::Expired | Bad::ExpiredContext { .. } => "the server's certificate has expired".into(),
            Bad::NotValidYet | Bad::NotValidYetContext { .. } => {
                "the server's certificate is not valid yet: check the clocks of both machines".into()
            }
            other => format!("the server's certificate is not good: {other:?}"),
        },
        Some(Error::AlertReceived(alert)) => format!(
            "the server has refused TLS ({alert:?}): does it want a client certificate (--cert, --key), or another version?"
        ),
        Some(Error::InvalidMessage(_)) => "the server doesn't answer in TLS: is this its TLS port?".into(),
        Some(other) => other.to_string(),
        None if fault.kind() == ErrorKind::UnexpectedEof => {
            "the server closed the connection in the TLS handshake: is this its TLS port?".into()
        }
        None if matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            "the server doesn't answer the TLS handshake: is this its TLS port?".into()
        }
        None => fault.to_string(),
    };
    Failure::new(Exit::USAGE, format!("{target}: {text}"))
}

fn lock(tls: &Shared) -> MutexGuard<'_, ClientConnection> {
    tls.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends what TLS has to say, as far as the socket takes it now.
fn send(tls: &mut ClientConnection, socket: &mut Socket) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(socket)?;
    }
    Ok(())
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match lock(&self.tls).reader().read(buffer) {
                Err(fault) if fault.kind() == ErrorKind::WouldBlock => {}
                // Without close_notify: whatever MQTT makes of it.
                Err(fault) if fault.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                result => return result,
            }
            if self.from == self.to {
                self.from = 0;
                self.to = self.socket.read(&mut self.cipher)?;
            }
            let mut tls = lock(&self.tls);
            // It takes some at a time, so that what it has decrypted stays bounded; nothing at all is the end.
            self.from += tls.read_tls(&mut &self.cipher[self.from..self.to])?;
            if let Err(fault) = tls.process_new_packets() {
                // The alert that says why.
                let _ = send(&mut tls, &mut self.socket);
                return Err(io::Error::new(ErrorKind::InvalidData, fault));
            }
            match send(&mut tls, &mut self.socket) {
                // The writing half goes on with it.
                Err(fault) if matches!(fault.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                result => result?,
            }
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut tls = lock(&self.tls);
        send(&mut tls, &mut self.socket)?;
        tls.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        send(&mut lock(&self.tls), &mut self.socket)
    }
}

impl Outgoing for Writer {
    fn end(&mut self) -> io::Result<()> {
        lock(&self.tls).send_close_notify();
        self.flush()?;
        self.socket.end()
    }

    fn cut(&mut self) {
        self.socket.cut();
    }
}
