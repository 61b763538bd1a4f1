//! QUIC, which brings its own sockets and TLS.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use rustls::ClientConfig;

use super::{Dialled, HANDSHAKE_TIMEOUT, Outgoing, Seen, Target, WRITE_STALL};
use crate::failure::Failure;
use crate::quic::{Connected, Writer, connect};

/// For an address that is not the last one of its host: nothing tells that nobody listens there.
const TRY_TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn dial(target: &Target, tls: ClientConfig) -> Result<Dialled, Failure> {
    let host = target.host.as_str();
    let addresses: Vec<SocketAddr> = (host, target.port)
        .to_socket_addrs()
        .map_err(|_| Failure::usage(format!("can't find the host {host:?}: check the name given with -h")))?
        .collect();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for (at, address) in addresses.iter().enumerate() {
        let limit = if at + 1 == addresses.len() { HANDSHAKE_TIMEOUT } else { TRY_TIMEOUT };
        match connect(*address, host, tls.clone(), limit) {
            Ok(connected) => return Ok(dialled(connected, *address)),
            Err(fault) => last = fault,
        }
    }
    Err(super::refused(target, &last))
}

fn dialled(connected: Connected, address: SocketAddr) -> Dialled {
    let Connected { reader, mut writer, certificates, .. } = connected;
    writer.stall = Some(WRITE_STALL);
    let seen = Seen {
        address: address.to_string(),
        cipher: Some("TLSv1_3 in QUIC".to_owned()),
        certificates: certificates.iter().map(|certificate| certificate.to_vec()).collect(),
        ..Seen::default()
    };
    Dialled { reader: Box::new(reader), writer: Box::new(writer), seen }
}

impl Outgoing for Writer {
    fn end(&mut self) -> io::Result<()> {
        Writer::end(self);
        Ok(())
    }

    fn cut(&mut self) {
        Writer::end(self);
    }
}
