//! The flags `--set key=value` and `--listen scheme://address`.

use std::path::Path;

use crate::environment::word;
use crate::listener::{Scheme, read};
use crate::raw::{Entry, Fault, Origin, Raw};

/// Entries of `--set`, in their order.
pub(crate) fn set(pairs: &[String]) -> (Vec<Entry>, Vec<Fault>) {
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for pair in pairs {
        match pair.split_once('=') {
            Some((key, text)) => {
                let key = key.trim().split('.').map(Into::into).collect();
                entries.push(Entry { key, raw: word(text), origin: Origin::Set });
            }
            None => {
                let what = "write it as key=value, such as mqtt.max_packet_size=4MB".to_owned();
                faults.push(Fault { origin: Origin::Set, key: pair.clone(), what });
            }
        }
    }
    (entries, faults)
}

const SHAPE: &str = "write it as tcp://ADDRESS:PORT, such as tcp://127.0.0.1:1883, or tcp://0.0.0.0:1883 for every address of \
                     this machine; tls, ws, wss and quic go the same way, unix as unix:///PATH";

/// Entries of `--listen`: one listener `default` of each type that is named, on all the addresses named for it.
pub(crate) fn listen(urls: &[String]) -> (Vec<Entry>, Vec<Fault>) {
    let (mut entries, mut faults): (Vec<Entry>, Vec<Fault>) = (Vec::new(), Vec::new());
    let mut places: Vec<(Scheme, Vec<Raw>)> = Vec::new();
    for url in urls {
        let (kind, place, path) = match split(url) {
            Ok(found) => found,
            Err(what) => {
                faults.push(Fault { origin: Origin::Listen, key: url.clone(), what });
                continue;
            }
        };
        let word = Raw::Word(place.into());
        match places.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, list)) if list.contains(&word) => {
                let what = "this address is given twice; leave one out".to_owned();
                faults.push(Fault { origin: Origin::Listen, key: url.clone(), what });
            }
            Some((_, list)) => list.push(word),
            None => places.push((kind, vec![word])),
        }
        if let Some(path) = path {
            entries.push(entry(kind, &["websocket", "path"], Raw::Word(path.into())));
        }
    }
    for (kind, list) in places {
        entries.push(entry(kind, &["enabled"], Raw::Word("true".into())));
        entries.push(entry(kind, &["bind"], Raw::List(list)));
    }
    (entries, faults)
}

fn entry(kind: Scheme, key: &[&str], raw: Raw) -> Entry {
    let key = ["listeners", kind.name(), "default"].iter().chain(key).map(|part| (*part).into()).collect();
    Entry { key, raw, origin: Origin::Listen }
}

/// Type, place as `bind` takes it, and the path of a WebSocket.
fn split(url: &str) -> Result<(Scheme, String, Option<&str>), String> {
    let (scheme, rest) = url.split_once("://").unwrap_or(("tcp", url));
    let kind = Scheme::parse(scheme).ok_or_else(|| format!("{scheme} is not supported; {SHAPE}"))?;
    let web = kind.is_websocket();
    let (place, path) = match rest.find('/') {
        Some(at) if web => (&rest[..at], Some(&rest[at..]).filter(|path| *path != "/")),
        _ if kind == Scheme::Unix => (rest, None),
        _ => (rest.trim_end_matches('/'), None),
    };
    let place =
        if kind == Scheme::Unix || place.starts_with("systemd:") { place.to_owned() } else { port(place, kind)? };
    match read::bind(&place, kind, Path::new("/"), true) {
        Ok(_) => Ok((kind, place, path)),
        Err(fault) => Err(format!("{fault}; {SHAPE}")),
    }
}

/// An address with the port that everybody knows, if it names none.
fn port(place: &str, kind: Scheme) -> Result<String, String> {
    if place.is_empty() {
        return Err(SHAPE.into());
    }
    if place.contains(':') && !place.starts_with('[') && place.matches(':').count() > 1 {
        return Err("put an IPv6 address in brackets: tcp://[::1]:1883".into());
    }
    let bare = !place.contains(':') || place.ends_with(']');
    let digits = place.bytes().all(|byte| byte.is_ascii_digit());
    Ok(match kind.port() {
        Some(port) if bare && !digits => format!("{place}:{port}"),
        _ => place.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(urls: &[&str]) -> Result<Vec<String>, Vec<String>> {
        let (entries, faults) = listen(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>());
        let text = |raw: &Raw| match raw {
            Raw::List(items) => items.iter().filter_map(Raw::word).collect::<Vec<_>>().join(" "),
            raw => raw.word().unwrap_or_default().to_owned(),
        };
        let all = entries.iter().filter(|entry| !entry.name().ends_with("enabled"));
        let all = all.map(|entry| format!("{}={}", entry.key[1..].join("."), text(&entry.raw))).collect();
        if faults.is_empty() { Ok(all) } else { Err(faults.iter().map(Fault::to_string).collect()) }
    }

    #[test]
    fn addresses_are_read() {
        for (url, place) in [
            ("tcp://127.0.0.1:1883", "tcp.default.bind=127.0.0.1:1883"),
            ("tcp://0.0.0.0", "tcp.default.bind=0.0.0.0:1883"),
            ("mqtt://[::1]:2883/", "tcp.default.bind=[::1]:2883"),
            ("tls://[::]", "tls.default.bind=[::]:8883"),
            ("mqtts://localhost", "tls.default.bind=localhost:8883"),
            ("127.0.0.1:7", "tcp.default.bind=127.0.0.1:7"),
            ("quic://eth0:14567", "quic.default.bind=eth0:14567"),
            ("unix:///run/b.sock", "unix.default.bind=/run/b.sock"),
        ] {
            assert_eq!(places(&[url]), Ok(vec![place.to_owned()]), "{url}");
        }
        let all = places(&["ws://[::]:80/ws", "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"]).expect("fine");
        assert_eq!(
            all,
            ["ws.default.websocket.path=/ws", "ws.default.bind=[::]:80", "tcp.default.bind=127.0.0.1:1 127.0.0.1:2"]
        );
    }

    #[test]
    fn wrong_addresses_say_how_to_write_them() {
        for url in [
            "",
            "tcp://",
            "ftp://127.0.0.1:1",
            "tcp://127.0.0.1:port",
            "tcp://127.0.0.1:99999",
            "tcp://::1:1883",
            "unix://",
        ] {
            let faults = places(&[url]).expect_err(url);
            assert!(faults[0].contains("tcp://") && !faults[0].contains('\n'), "{url}: {faults:?}");
        }
        let faults = places(&["x://a", "tcp://127.0.0.1", "tcp://127.0.0.1:1883"]).expect_err("two faults");
        assert_eq!(faults.len(), 2);
        assert!(faults[1].contains("twice"));
    }
}
