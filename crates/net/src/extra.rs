//! What few connections have besides their socket.

use breakwater_contract::Identity;
use breakwater_transport::layers::Layers;
use breakwater_transport::tls::{ClientCheck, Tls, TlsFault};
use rustls::pki_types::CertificateDer;

use crate::pipe::NearEnd;

/// Stands in the side page of a connection that needs it: a plain TCP connection has none, and pays nothing for it.
pub(crate) struct Extra {
    /// What the client has shown before its CONNECT.
    pub(crate) identity: Option<Box<Identity>>,
    /// How its bytes travel.
    pub(crate) via: Via,
}

/// How the bytes of a connection travel.
pub(crate) enum Via {
    /// Through its socket, in TLS, WebSocket or both.
    Layers(Layers),
    /// Through a pipe from another thread; there is no socket.
    Pipe(Piped),
}

/// A pipe, and what the client at its end has shown in the handshake: whoever reads the pipe knows nothing of TLS.
pub(crate) struct Piped {
    pub(crate) near: NearEnd,
    /// Leaf first; empty if it was asked for none.
    pub(crate) chain: Vec<CertificateDer<'static>>,
    /// The certificate does not count any more.
    pub(crate) fault: Option<Box<TlsFault>>,
}

impl Extra {
    /// Its layers have bytes for a socket that did not take them.
    pub(crate) fn owes(&self) -> bool {
        matches!(&self.via, Via::Layers(layers) if layers.owes())
    }

    /// Judges the certificate of its client again; one that does not count fails at its next read. None: there is none.
    pub(crate) fn judge(&mut self, check: &ClientCheck, now_s: u64) -> Option<bool> {
        match &mut self.via {
            Via::Layers(layers) => {
                let judged = check.check(layers.tls().and_then(Tls::peer_certificates)?, now_s);
                let counts = judged.is_ok();
                judged.err().into_iter().for_each(|fault| layers.condemn(fault));
                Some(counts)
            }
            Via::Pipe(piped) if !piped.chain.is_empty() => {
                if let Err(fault) = check.check(&piped.chain, now_s) {
                    piped.near.condemn();
                    piped.fault = Some(Box::new(fault));
                }
                Some(piped.fault.is_none())
            }
            Via::Pipe(_) => None,
        }
    }

    /// Memory that its layers hold for buffers.
    pub(crate) fn buffer_bytes(&self) -> usize {
        match &self.via {
            Via::Layers(layers) => layers.buffer_bytes(),
            Via::Pipe(_) => 0,
        }
    }
}
