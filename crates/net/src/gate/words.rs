//! What is said about those who came to the wrong place: to the operator, and where it can be read, to them.

use breakwater_transport::sniff::Sniffed;

use crate::listener::Protocols;

/// What the listener speaks where something else came, and what to do about it.
pub(crate) fn wrong_protocol(what: Sniffed, protocols: Protocols) -> &'static str {
    let (tls, web) = (speaks_tls(protocols), protocols.ws || protocols.wss);
    match what {
        Sniffed::Tls => "TLS on a port without TLS: connect to the tls or wss listener, or use mqtt:// or ws://",
        Sniffed::Mqtt if tls && !protocols.ws => {
            "plain MQTT on a TLS port: use mqtts:// (--cafile with mosquitto), or the tcp listener"
        }
        Sniffed::Mqtt if web => "plain MQTT on a WebSocket port: use ws://, or the tcp listener",
        Sniffed::Mqtt => "plain MQTT on a port that does not speak it: use the tcp listener",
        Sniffed::Http if tls => "plain HTTP on a TLS port: use https:// or wss://",
        Sniffed::Http => "HTTP on an MQTT port: connect with an MQTT client, or to the ws listener",
        Sniffed::Proxy => {
            "a PROXY header on a listener without proxy_protocol: set proxy_protocol and trusted_proxies, or turn it off in \
             the proxy"
        }
        Sniffed::Unknown(what) => what,
        Sniffed::More => "",
    }
}

/// The same inside TLS.
pub(crate) fn wrong_inside(what: Sniffed) -> &'static str {
    match what {
        Sniffed::Mqtt => "MQTT in TLS on a port that speaks WebSocket in TLS: use wss://, or the tls listener",
        Sniffed::Http => "HTTP in TLS on a port that speaks MQTT in TLS: use mqtts://, or the wss listener",
        Sniffed::Tls => "TLS within TLS: something in front of the broker encrypts what is encrypted already",
        Sniffed::Proxy => "a PROXY header within TLS: it has to stand in front",
        Sniffed::Unknown(what) => what,
        Sniffed::More => "",
    }
}

/// For people, and programs that show it to them.
pub(crate) const NOT_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 63\r\n\r\nThis port speaks MQTT, not HTTP: connect with an MQTT client.\r\n";

/// The same, where TLS is missing.
pub(crate) const NOT_PLAIN_HTTP: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: text/plain\r\n\
    Content-Length: 46\r\n\r\nThis port speaks TLS: use https:// or wss://\r\n";

pub(crate) fn speaks_tls(protocols: Protocols) -> bool {
    protocols.mqtts || protocols.wss || protocols.https
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_as_long_as_they_say() {
        for answer in [NOT_HTTP, NOT_PLAIN_HTTP] {
            let text = std::str::from_utf8(answer).expect("text");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{} in {head}", body.len());
        }
    }
}
