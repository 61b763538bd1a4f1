use std::net::{IpAddr, Ipv4Addr};

use super::*;

const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const RANDOM: [u8; 16] = *b"the sample nonce";

fn rules() -> Rules<'static> {
    Rules { path: "/mqtt", origins: &[], allow_no_subprotocol: false, trusted: &|_| false }
}

/// A good request, with lines replaced or added; one with an empty value is left out.
fn request(changes: &[(&str, &str)]) -> Vec<u8> {
    let mut lines = vec![
        ("Host", "broker.example:8083"),
        ("Upgrade", "websocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Protocol", "mqtt"),
    ];
    let mut first = "GET /mqtt HTTP/1.1";
    for (name, value) in changes {
        match lines.iter_mut().find(|line| line.0 == *name) {
            _ if name.is_empty() => first = value,
            Some(line) => line.1 = value,
            None => lines.push((name, value)),
        }
    }
    let lines: String =
        lines.iter().filter(|line| !line.1.is_empty()).map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{first}\r\n{lines}\r\n").into_bytes()
}

fn accepted(bytes: &[u8], rules: &Rules<'_>) -> Accepted {
    match read(bytes, PEER, rules) {
        Request::Accepted(accepted) => accepted,
        other => panic!("{other:?} to {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn text(accepted: &Accepted) -> &str {
    std::str::from_utf8(&accepted.answer).expect("HTTP is text")
}

#[test]
fn an_upgrade_is_granted_as_the_rfc_shows_it() {
    let mut bytes = request(&[("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]);
    let length = bytes.len();
    for cut in 0..length {
        assert_eq!(read(&bytes[..cut], PEER, &rules()), Request::More);
    }
    bytes.extend_from_slice(b"\x82\x80frame");
    let accepted = accepted(&bytes, &rules());
    assert_eq!((accepted.used, accepted.forwarded, accepted.direct), (length, None, true));
    assert_eq!(
        text(&accepted),
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
    );
}

#[test]
fn variants_of_an_upgrade_that_mean_the_same_are_granted() {
    for (name, value) in [
        ("", "GET /mqtt?token=1 HTTP/1.1"),
        ("", "GET /mqtt/ HTTP/1.1"),
        ("", "GET http://broker.example/mqtt HTTP/1.1"),
        ("Upgrade", "h2c, WebSocket"),
        ("Connection", "upgrade"),
        ("Origin", "http://broker.example"),
        ("Origin", "http://localhost:18083"),
    ] {
        accepted(&request(&[(name, value)]), &rules());
    }
}

/// [MQTT-6.0.0-3] [MQTT-6.0.0-4] [MQTT3-6.0.0-3] [MQTT3-6.0.0-4]
#[test]
fn the_subprotocol_of_the_standard_is_chosen_wherever_it_is_offered() {
    for (offered, chosen) in [
        ("mqtt", "mqtt"),
        ("mqttv3.1, mqtt", "mqtt"),
        ("chat,mqttv3.1", "mqttv3.1"),
        ("mqtt-v5,mqtt-v3.1.1", "mqtt-v3.1.1"),
        ("MQTT", "mqtt"),
    ] {
        let accepted = accepted(&request(&[("Sec-WebSocket-Protocol", offered)]), &rules());
        assert!(text(&accepted).contains(&format!("Sec-WebSocket-Protocol: {chosen}\r\n")), "{offered}");
    }
    let none = request(&[("Sec-WebSocket-Protocol", "")]);
    assert_eq!(read(&none, PEER, &rules()), Request::Refused(Refusal::NoSubprotocol));
    let accepted = accepted(&none, &Rules { allow_no_subprotocol: true, ..rules() });
    assert!(!text(&accepted).contains("Sec-WebSocket-Protocol"));
}

#[test]
fn what_is_no_upgrade_is_told_why() {
    let many: String = (0..65).map(|at| format!("X-{at}: y\r\n")).collect();
    let many = format!("GET /mqtt HTTP/1.1\r\n{many}\r\n").into_bytes();
    let long = [b"GET /mqtt HTTP/1.1\r\nX: ".as_slice(), &[b'y'; HEAD_MAX]].concat();
    let malformed = |text| Refusal::Malformed(text);
    for (bytes, refusal, status) in [
        (request(&[("Upgrade", "")]), Refusal::NotUpgrade, "426"),
        (request(&[("Connection", "keep-alive")]), Refusal::NotUpgrade, "426"),
        (request(&[("", "POST /mqtt HTTP/1.1")]), Refusal::NotUpgrade, "426"),
        (request(&[("Sec-WebSocket-Version", "8")]), Refusal::Version, "426"),
        (request(&[("Sec-WebSocket-Protocol", "chat, soap")]), Refusal::Subprotocol, "400"),
        (request(&[("Origin", "http://evil.example")]), Refusal::Origin, "403"),
        (request(&[("Origin", "null")]), Refusal::Origin, "403"),
        (
            request(&[("Content-Length", "5")]),
            malformed("A WebSocket upgrade is a GET of HTTP/1.1 without a body"),
            "400",
        ),
        (
            request(&[("", "GET /mqtt HTTP/1.0")]),
            malformed("A WebSocket upgrade is a GET of HTTP/1.1 without a body"),
            "400",
        ),
        (
            request(&[("Sec-WebSocket-Key", "c2hvcnQ=")]),
            malformed("Sec-WebSocket-Key is not 16 bytes in Base64"),
            "400",
        ),
        (
            request(&[("Sec-WebSocket-Key", "")]),
            malformed("The WebSocket upgrade needs one Sec-WebSocket-Key header"),
            "400",
        ),
        (request(&[("Host", "")]), malformed("The HTTP request needs one Host header"), "400"),
        (request(&[("host", "second")]), malformed("The HTTP request needs one Host header"), "400"),
        (b"GET /mqtt HTTP/1.1\r\nno colon\r\n\r\n".to_vec(), malformed("The HTTP request is malformed"), "400"),
        (
            b"GET /mqtt HTTP/1.1\n\nX: y\r\n\r\n".to_vec(),
            malformed("The line ends of the HTTP request are mixed"),
            "400",
        ),
        (many, Refusal::TooLarge, "431"),
        (long, Refusal::TooLarge, "431"),
    ] {
        assert_eq!(read(&bytes, PEER, &rules()), Request::Refused(refusal), "{}", String::from_utf8_lossy(&bytes));
        let answer = String::from_utf8(refusal.answer("/mqtt")).expect("text");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{answer}");
        assert_eq!(refusal.text().lines().count(), 1);
    }
    assert_eq!(read(&request(&[("", "GET / HTTP/1.1")]), PEER, &rules()), Request::Elsewhere);
    let wrong_path = String::from_utf8(Refusal::WrongPath.answer("/mqtt")).expect("text");
    assert!(wrong_path.starts_with("HTTP/1.1 404 ") && wrong_path.ends_with("at path /mqtt.\n"), "{wrong_path}");
    let plain = String::from_utf8(Refusal::NotUpgrade.answer("/mqtt")).expect("text");
    assert!(plain.contains("Upgrade: websocket\r\n") && plain.contains("path /mqtt, subprotocol mqtt"), "{plain}");
}

#[test]
fn who_comes_through_a_proxy_or_from_a_page_of_another_host_is_not_direct() {
    let any: &[Box<str>] = &["*".into()];
    let open = Rules { origins: any, ..rules() };
    for (name, value, direct) in [
        ("Origin", "", true),
        ("Origin", "http://127.0.0.1:18083", true),
        ("Origin", "http://broker.example", false),
        ("Origin", "http://other.example", false),
        ("X-Forwarded-For", "192.0.2.1", false),
        ("Forwarded", "for=192.0.2.1", false),
        ("X-Real-IP", "192.0.2.1", false),
        ("Via", "1.1 proxy", false),
    ] {
        let accepted = accepted(&request(&[(name, value)]), &open);
        assert_eq!((accepted.direct, accepted.forwarded), (direct, None), "{name}: {value}");
    }
}

#[test]
fn a_trusted_proxy_names_the_client() {
    let bytes = request(&[("X-Forwarded-For", "192.0.2.9, 192.0.2.1")]);
    let trusting = Rules { trusted: &|address| address == PEER, ..rules() };
    assert_eq!(accepted(&bytes, &trusting).forwarded, "192.0.2.1".parse().ok());
    assert_eq!(accepted(&bytes, &rules()).forwarded, None);
}

#[test]
fn both_ends_agree() {
    let mut asked = Vec::new();
    put_request(&mut asked, "broker.example:8083", "/mqtt", "mqtt", RANDOM);
    let mut answer = accepted(&asked, &rules()).answer;
    let length = answer.len();
    for cut in 0..length {
        assert_eq!(check_answer(&answer[..cut], "mqtt", RANDOM), Ok(None));
    }
    answer.extend_from_slice(b"\x82\x01x");
    assert_eq!(check_answer(&answer, "mqtt", RANDOM), Ok(Some(Answer { used: length })));
    assert_eq!(check_answer(&answer, "mqttv3.1", RANDOM), Err(AnswerFault::Subprotocol));
    assert_eq!(check_answer(&answer, "mqtt", [0; 16]), Err(AnswerFault::Headers));
}

#[test]
fn an_answer_that_is_no_upgrade_is_told() {
    let said = AnswerFault::Status(404, "Nothing is here. MQTT over WebSocket is at path /mqtt.".into());
    assert_eq!(check_answer(&Refusal::WrongPath.answer("/mqtt"), "mqtt", RANDOM), Err(said.clone()));
    assert!(said.to_string().contains("404"));
    for bytes in [&b"\x20\x02\0\0"[..], &[b"HTTP/1.1 ".as_slice(), &[b'x'; HEAD_MAX]].concat()] {
        assert_eq!(check_answer(bytes, "mqtt", RANDOM), Err(AnswerFault::NotHttp));
    }
    let compressed =
        b"HTTP/1.1 101 OK\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Extensions: x\r\n\r\n";
    assert_eq!(check_answer(compressed, "mqtt", RANDOM), Err(AnswerFault::Headers));
}
