//! What few connections have besides their socket.

use breakwater_contract::Identity;

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
    /// Through a pipe from another thread; there is no socket.
    Pipe(NearEnd),
}
