//! Version 2: binary, with extensions behind the addresses.

use std::net::{IpAddr, SocketAddr};

use super::{Origin, Proxied, ProxyFault, v4, v6};

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
pub(super) const HEADER: usize = 16;
/// Bytes behind the header, at most: addresses of unix sockets, which are the longest, leave 320 for extensions.
pub(super) const BODY_MAX: usize = 536;

/// Extension that holds a checksum over the whole header.
const CHECKSUM: u8 = 3;

/// An extension: its type and its value.
pub type Tlv<'a> = (u8, &'a [u8]);

pub(super) fn parse(bytes: &[u8]) -> Result<Option<Proxied>, ProxyFault> {
    let seen = bytes.len().min(SIGNATURE.len());
    if bytes[..seen] != SIGNATURE[..seen] {
        return Err(ProxyFault::Absent);
    }
    let Some(&[command, family, high, low]) = bytes.get(12..HEADER).and_then(|rest| rest.first_chunk()) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if length > BODY_MAX {
        return Err(ProxyFault::TooLong);
    }
    if command >> 4 != 2 || command & 0xF > 1 || family >> 4 > 3 || family & 0xF > 2 {
        return Err(ProxyFault::Kind);
    }
    let used = HEADER + length;
    let Some(body) = bytes.get(HEADER..used) else { return Ok(None) };
    // What a proxy says of itself is not looked at.
    if command & 0xF == 0 {
        return Ok(Some(Proxied { used, origin: Origin::Proxy }));
    }
    let (origin, extensions) = addresses(family, body).ok_or(ProxyFault::Addresses)?;
    check_extensions(&bytes[..used], used - extensions.len())?;
    Ok(Some(Proxied { used, origin }))
}

/// Reads the addresses; what stands behind them is left.
fn addresses(family: u8, body: &[u8]) -> Option<(Origin, &[u8])> {
    const STREAM: u8 = 1;
    const UNIX: usize = 2 * 108;
    let (origin, rest) = match family >> 4 {
        1 => {
            let (source, rest) = body.split_first_chunk::<4>()?;
            let (destination, rest) = rest.split_first_chunk::<4>()?;
            let (from, rest) = rest.split_first_chunk::<2>()?;
            let (to, rest) = rest.split_first_chunk::<2>()?;
            (Origin::Client { source: v4(*source, *from), destination: v4(*destination, *to) }, rest)
        }
        2 => {
            let (source, rest) = body.split_first_chunk::<16>()?;
            let (destination, rest) = rest.split_first_chunk::<16>()?;
            let (from, rest) = rest.split_first_chunk::<2>()?;
            let (to, rest) = rest.split_first_chunk::<2>()?;
            (Origin::Client { source: v6(*source, *from), destination: v6(*destination, *to) }, rest)
        }
        3 => (Origin::Unknown, body.get(UNIX..)?),
        // Of unknown layout, and so are its extensions.
        _ => return Some((Origin::Unknown, &[])),
    };
    // A datagram can't have brought a stream.
    Some((if family & 0xF == STREAM { origin } else { Origin::Unknown }, rest))
}

/// Extensions fill the rest exactly; a checksum among them is right.
fn check_extensions(header: &[u8], mut at: usize) -> Result<(), ProxyFault> {
    while at < header.len() {
        let Some(&[kind, high, low]) = header[at..].first_chunk() else { return Err(ProxyFault::Tlv) };
        let value = at + 3..at + 3 + usize::from(u16::from_be_bytes([high, low]));
        let given = header.get(value.clone()).ok_or(ProxyFault::Tlv)?;
        if kind == CHECKSUM {
            let given = u32::from_be_bytes(given.try_into().map_err(|_| ProxyFault::Tlv)?);
            let (before, behind) = (&header[..value.start], &header[value.end..]);
            if checksum(before.iter().chain(&[0; 4]).chain(behind)) != given {
                return Err(ProxyFault::Checksum);
            }
        }
        at = value.end;
    }
    Ok(())
}

/// CRC-32C, bit by bit: one short header per connection is not worth a table.
fn checksum<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    const REVERSED_POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut sum = !0_u32;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ if sum & 1 == 1 { REVERSED_POLYNOMIAL } else { 0 };
        }
    }
    !sum
}

/// Appends a header; without addresses it is that of the proxy itself. A checksum is filled in where an extension of that
/// type with four bytes is given.
pub fn put_v2(out: &mut Vec<u8>, addresses: Option<(SocketAddr, SocketAddr)>, extensions: &[Tlv<'_>]) {
    let start = out.len();
    out.extend_from_slice(SIGNATURE);
    let mut body = Vec::new();
    let family = match addresses.map(|(source, destination)| (source, source.ip(), destination, destination.ip())) {
        None => 0x00,
        Some((source, IpAddr::V4(from), destination, IpAddr::V4(to))) => {
            body.extend_from_slice(&[from.octets(), to.octets()].concat());
            body.extend_from_slice(&[source.port().to_be_bytes(), destination.port().to_be_bytes()].concat());
            0x11
        }
        Some((source, from, destination, to)) => {
            for address in [from, to] {
                let wide = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => address,
                };
                body.extend_from_slice(&wide.octets());
            }
            body.extend_from_slice(&[source.port().to_be_bytes(), destination.port().to_be_bytes()].concat());
            0x21
        }
    };
    let mut sum_at = None;
    for (kind, value) in extensions {
        body.push(*kind);
        body.extend_from_slice(&(value.len() as u16).to_be_bytes());
        if *kind == CHECKSUM && value.len() == 4 {
            sum_at = Some(start + HEADER + body.len());
        }
        body.extend_from_slice(value);
    }
    out.extend_from_slice(&[if addresses.is_some() { 0x21 } else { 0x20 }, family]);
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(&body);
    if let Some(at) = sum_at {
        out[at..at + 4].fill(0);
        let sum = checksum(out[start..].iter());
        out[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    }
}
