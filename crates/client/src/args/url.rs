//! `-L`: transport, address, credentials and topic in one word.

use std::path::PathBuf;

use crate::dial::Scheme;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Url {
    pub scheme: Scheme,
    pub username: Option<String>,
    pub password: Option<String>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub topic: Option<String>,
    /// Path of a WebSocket upgrade.
    pub path: Option<String>,
    /// Path of a unix socket.
    pub socket: Option<PathBuf>,
}

/// Reads `mqtt://[user[:password]@]host[:port]/topic`. User and password may be percent-encoded; the topic is taken as it
/// stands, because `#` and `?` have their own meaning in it.
///
/// What stands behind the address of `ws://` and `wss://` is the path of the upgrade, and what stands behind `unix://` is the
/// path of the socket: these hold no topic.
pub fn parse(text: &str) -> Result<Url, String> {
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(format!("{text:?} is no URL: write mqtt://[user[:password]@]host[:port]/topic"));
    };
    let Some(scheme) = Scheme::parse(scheme) else {
        return Err(format!(
            "a URL starts with mqtt://, mqtts://, ws://, wss://, quic:// or unix://, not with {scheme}://"
        ));
    };
    if scheme == Scheme::Unix {
        let socket = (!rest.is_empty()).then(|| rest.into());
        let socket = socket.ok_or("the URL has no path: write unix:///path/of/socket")?;
        return Ok(Url { scheme, socket: Some(socket), ..Url::default() });
    }
    let (authority, behind) = rest.split_once('/').unwrap_or((rest, ""));
    let behind = (!behind.is_empty()).then_some(behind);
    let (topic, path) = match scheme {
        Scheme::Ws | Scheme::Wss => (None, behind.map(|path| format!("/{path}"))),
        _ => (behind.map(str::to_owned), None),
    };
    let (credentials, address) = match authority.rsplit_once('@') {
        Some((credentials, address)) => (Some(credentials), address),
        None => (None, authority),
    };
    let (username, password) = match credentials.map(|both| both.split_once(':').ok_or(both)) {
        None => (None, None),
        Some(Err(username)) => (Some(decode(username)?), None),
        Some(Ok((username, password))) => (Some(decode(username)?), Some(decode(password)?)),
    };
    let (host, port) = address_parts(address)?;
    if host.is_empty() {
        return Err("the URL has no host: write mqtt://host[:port]/topic".into());
    }
    Ok(Url { scheme, username, password, host: Some(host.into()), port, topic, path, socket: None })
}

fn address_parts(address: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match address.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => (host, None),
        Some((host, rest)) => (host, Some(rest.strip_prefix(':').unwrap_or(rest))),
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let Some(text) = port else {
        return Ok((host, None));
    };
    match text.parse() {
        Ok(port) if port > 0 => Ok((host, Some(port))),
        _ => Err(format!("the URL's port {text:?} is no number from 1 to 65535")),
    }
}

fn decode(text: &str) -> Result<String, String> {
    let bad = || format!("{text:?} in the URL is not percent-encoded text: write % as %25");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        rest = behind;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, behind) = rest.split_at_checked(2).ok_or_else(bad)?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = behind;
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_gives_its_parts() {
        let some = |text: &str| Some(text.to_owned());
        for (text, username, password, host, port, topic) in [
            ("mqtt://h/t", None, None, "h", None, some("t")),
            ("mqtt://h", None, None, "h", None, None),
            ("mqtt://h:1884/a/b/#", None, None, "h", Some(1884), some("a/b/#")),
            ("mqtt://u@h/t", some("u"), None, "h", None, some("t")),
            ("mqtt://u:p%40x@h:1/t", some("u"), some("p@x"), "h", Some(1), some("t")),
            ("mqtt://u:p@x@h/t", some("u"), some("p@x"), "h", None, some("t")),
            ("mqtt://[::1]:1883/t", None, None, "::1", Some(1883), some("t")),
            ("mqtt://[::1]/t", None, None, "::1", None, some("t")),
        ] {
            let url = Url { username, password, host: some(host), port, topic, ..Url::default() };
            assert_eq!(parse(text), Ok(url), "{text}");
        }
    }

    #[test]
    fn the_scheme_says_what_stands_behind_the_address() {
        let path = |url: &Url| url.path.clone().unwrap_or_default();
        for (text, scheme, expected) in
            [("ws://h/mqtt", Scheme::Ws, "/mqtt"), ("wss://h:1/a/b", Scheme::Wss, "/a/b"), ("wss://h", Scheme::Wss, "")]
        {
            let url = parse(text).expect(text);
            assert_eq!((url.scheme, path(&url).as_str(), &url.topic), (scheme, expected, &None), "{text}");
        }
        let url = parse("quic://h/t").expect("as mqtt");
        assert_eq!((url.scheme, url.topic.as_deref()), (Scheme::Quic, Some("t")));
        let url = parse("unix:///run/x.sock").expect("a path");
        assert_eq!((url.scheme, url.socket), (Scheme::Unix, Some("/run/x.sock".into())));
    }

    #[test]
    fn a_wrong_url_says_what_to_write() {
        for (text, expected) in [
            ("h/t", "mqtt://"),
            ("http://h/t", "not with http://"),
            ("mqtt:///t", "no host"),
            ("unix://", "no path"),
            ("mqtt://h:0/t", "port"),
            ("mqtt://h:70000/t", "port"),
            ("mqtt://%zz@h/t", "percent"),
            ("mqtt://%e9@h/t", "percent"),
            ("mqtt://%4@h/t", "percent"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
