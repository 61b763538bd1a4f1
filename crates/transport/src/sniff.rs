//! What is this? Told by the first bytes.

/// What the first bytes of a connection are the beginning of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// Too few to tell.
    More,
    /// An MQTT CONNECT.
    Mqtt,
    /// A TLS handshake.
    Tls,
    /// An HTTP request, which may ask for WebSocket.
    Http,
    /// A PROXY header of either version.
    Proxy,
    /// Nothing that is spoken here; what it looks like, in words.
    Unknown(&'static str),
}

/// Bytes that are enough to tell, whatever comes.
pub const ENOUGH: usize = 12;

/// Tells by the first bytes. Asks for more only while they fit more than one answer.
pub fn sniff(bytes: &[u8]) -> Sniffed {
    let Some(&first) = bytes.first() else { return Sniffed::More };
    match first {
        CONNECT => Sniffed::Mqtt,
        HANDSHAKE => match bytes.get(1) {
            None => Sniffed::More,
            Some(3) => Sniffed::Tls,
            Some(_) => NOTHING,
        },
        b'\r' => by_start(bytes, PROXY_2, Sniffed::Proxy),
        b'A'..=b'Z' => by_word(bytes),
        // Length of the record with its highest bit set, then the kind: a ClientHello of SSL 2.0.
        0x80.. if bytes.get(2) == Some(&1) => Sniffed::Unknown("SSL 2.0, which is not safe: use TLS 1.2 or 1.3"),
        0x80.. if bytes.len() < 3 => Sniffed::More,
        _ => NOTHING,
    }
}

const CONNECT: u8 = 0x10;
const HANDSHAKE: u8 = 0x16;
const PROXY_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const PROXY_1: &[u8] = b"PROXY ";

/// Methods that a browser, a tool or a proxy may begin with, and the preface of HTTP/2.
const METHODS: [&[u8]; 10] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"TRACE ", b"PATCH ", b"PRI "];

fn by_start(bytes: &[u8], start: &[u8], as_that: Sniffed) -> Sniffed {
    let seen = bytes.len().min(start.len());
    if bytes[..seen] != start[..seen] {
        NOTHING
    } else if seen < start.len() {
        Sniffed::More
    } else {
        as_that
    }
}

fn by_word(bytes: &[u8]) -> Sniffed {
    let answers = METHODS.iter().map(|method| by_start(bytes, method, Sniffed::Http));
    let mut unknown = NOTHING;
    for answer in answers.chain([by_start(bytes, PROXY_1, Sniffed::Proxy), by_start(bytes, b"SSH-", SSH)]) {
        match answer {
            Sniffed::Unknown(_) if answer != SSH => {}
            Sniffed::More => unknown = Sniffed::More,
            found => return found,
        }
    }
    unknown
}

const NOTHING: Sniffed = Sniffed::Unknown("neither an MQTT CONNECT nor TLS nor HTTP");
const SSH: Sniffed = Sniffed::Unknown("SSH");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        let unknown = NOTHING;
        for (bytes, what) in [
            (b"".as_slice(), Sniffed::More),
            (b"\x10", Sniffed::Mqtt),
            (b"\x16", Sniffed::More),
            (b"\x16\x03\x01", Sniffed::Tls),
            (b"\x16\x02", unknown),
            (b"P", Sniffed::More),
            (b"PR", Sniffed::More),
            (b"PUT", Sniffed::More),
            (b"PUT ", Sniffed::Http),
            (b"PROXY", Sniffed::More),
            (b"PROXY ", Sniffed::Proxy),
            (b"PROXYS", unknown),
            (b"GET / HTTP/1.1", Sniffed::Http),
            (b"OPTIONS * HTTP/1.1", Sniffed::Http),
            (b"PRI * HTTP/2.0", Sniffed::Http),
            (b"get /", unknown),
            (b"GETS ", unknown),
            (b"HELO mail", unknown),
            (b"SSH", Sniffed::More),
            (b"SSH-2.0-OpenSSH", SSH),
            (b"\r\n\r\n\0\r\nQUIT", Sniffed::More),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", Sniffed::Proxy),
            (b"\r\nGET", unknown),
            (b"\x80\x2e", Sniffed::More),
            (b"\x80\x2e\x01\x03\x01", Sniffed::Unknown("SSL 2.0, which is not safe: use TLS 1.2 or 1.3")),
            (b"\x30\x05hello", unknown),
            (b"\xC0\x00\x00", unknown),
            (b"\x00\x00", unknown),
        ] {
            assert_eq!(sniff(bytes), what, "{:?}", bytes.escape_ascii().to_string());
        }
    }

    #[test]
    fn a_few_bytes_are_always_enough() {
        let mut bytes = [0; ENOUGH];
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                (bytes[0], bytes[1]) = (first, second);
                assert_ne!(sniff(&bytes), Sniffed::More);
            }
        }
        for start in METHODS.iter().copied().chain([PROXY_1, PROXY_2, b"SSH-"]) {
            assert!(start.len() <= ENOUGH);
            assert!((1..start.len()).all(|cut| sniff(&start[..cut]) == Sniffed::More));
        }
    }
}
