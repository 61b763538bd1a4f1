//! What few connections have besides their socket.

use breakwater_contract::Identity;
use breakwater_transport::layers::Layers;

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
    /// Through its socket, as they are.
    #[cfg_attr(not(test), expect(dead_code, reason = "for what only adds an identity"))]
    Socket,
    /// Through its socket, in TLS, WebSocket or both.
    Layers(Layers),
    /// Through a pipe from another thread; there is no socket.
    Pipe(NearEnd),
}

impl Extra {
    /// Its layers have bytes for a socket that did not take them.
    pub(crate) fn owes(&self) -> bool {
        matches!(&self.via, Via::Layers(layers) if layers.owes())
    }

    /// Memory that its layers hold for buffers.
    pub(crate) fn buffer_bytes(&self) -> usize {
        match &self.via {
            Via::Layers(layers) => layers.buffer_bytes(),
            _ => 0,
        }
    }
}
