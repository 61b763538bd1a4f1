//! PROXY protocol, versions 1 and 2: who stands behind a load balancer.
//!
//! Read strictly. Whoever may send such a header may name any address, so a header that is wrong anywhere is believed nowhere.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

mod v1;
mod v2;

pub use v2::{Tlv, put_v2};

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxied {
    /// Length of the header: what stands behind it came from the client.
    pub used: usize,
    /// The client.
    pub origin: Origin,
}

/// Who is behind the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This client, which had connected to that address.
    Client {
        /// Its address.
        source: SocketAddr,
        /// The address of the proxy that it had connected to.
        destination: SocketAddr,
    },
    /// The proxy itself, for instance to see whether we live.
    Proxy,
    /// The proxy doesn't say, or names something that is no IP address, such as a unix socket.
    Unknown,
}

/// A header that is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// Something else stands there.
    Absent,
    /// Longer than the bound of its version.
    TooLong,
    /// Version 1: not the line that the protocol asks for.
    Line,
    /// Version 2: neither version 2, nor a known command, nor a known family.
    Kind,
    /// Version 2: too short for its addresses.
    Addresses,
    /// Version 2: what stands behind the addresses doesn't fit in.
    Tlv,
    /// Version 2: the checksum is another.
    Checksum,
}

/// Reads a header at the front of `bytes`; none as long as more bytes are needed to tell.
///
/// Asks for no more than [`HEADER_MAX`] bytes.
pub fn parse(bytes: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
    if bytes.first() == Some(&v2::SIGNATURE[0]) { v2::parse(bytes) } else { v1::parse(bytes) }
}

/// Longest header that is read.
pub const HEADER_MAX: usize = v2::HEADER + v2::BODY_MAX;

pub use v1::put_v1;

impl ProxyFault {
    /// In words, for the log.
    pub fn text(self) -> &'static str {
        match self {
            Self::Absent => {
                "no PROXY header, but this listener has proxy_protocol on: let the proxy send one (HAProxy: send-proxy-v2), or \
                 turn proxy_protocol off"
            }
            Self::TooLong => "PROXY header that is too long",
            Self::Line => "PROXY header of version 1 that is malformed",
            Self::Kind => "PROXY header of version 2 with an unknown version, command or family",
            Self::Addresses => "PROXY header of version 2 that is too short for its addresses",
            Self::Tlv => "PROXY header of version 2 with an extension that does not fit in",
            Self::Checksum => "PROXY header of version 2 with a wrong checksum",
        }
    }
}

impl fmt::Display for ProxyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for ProxyFault {}

fn v4(address: [u8; 4], port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::from(address)), u16::from_be_bytes(port))
}

/// An IPv4 address in the clothes of an IPv6 one counts as what it is.
fn v6(address: [u8; 16], port: [u8; 2]) -> SocketAddr {
    SocketAddr::new(Ipv6Addr::from(address).to_canonical(), u16::from_be_bytes(port))
}

#[cfg(test)]
mod tests;
