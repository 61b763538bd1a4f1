//! The table of a listener's settings, in the order of the reference page.

use std::path::Path;

use breakwater_proto::Version;
use breakwater_session::Versions;
use breakwater_transport::tls::{
    CertificateField, CertificateFiles, ClientCertificate, KeyPassword, OcspSource, TlsVersion,
};

use super::draft::Draft;
use super::read;
use crate::setting::Applies::{Live, NewConnections, Rebind};
use crate::{Kind, Setting, Value};

/// Stores a value of a listener's section; paths in it are relative to the directory.
pub(crate) type ListenerStore = fn(&mut Draft, &Value, &Path) -> Result<(), String>;

/// Versions of MQTT by the words for them.
pub(crate) const VERSIONS: [(&str, Version); 3] =
    [("3.1", Version::V31), ("3.1.1", Version::V311), ("5.0", Version::V5)];
pub(crate) const VERSION_WORDS: [&str; 3] = ["3.1", "3.1.1", "5.0"];

const PROTOCOL_WORDS: [&str; 6] = ["mqtt", "mqtts", "ws", "wss", "http", "https"];

const FIELDS: [(&str, CertificateField); 5] = [
    ("cn", CertificateField::CommonName),
    ("dn", CertificateField::Subject),
    ("san", CertificateField::AlternativeName),
    ("serial", CertificateField::Serial),
    ("fingerprint", CertificateField::Fingerprint),
];
const FIELD_WORDS: [&str; 6] = ["none", "cn", "dn", "san", "serial", "fingerprint"];

const COUNT: Kind = Kind::Count { min: 1, max: u32::MAX as u64 };
const RATE: Kind = Kind::Rate { bytes: false };
const BYTE_RATE: Kind = Kind::Rate { bytes: true };
const BURST: Kind = Kind::Bytes { min: 1, max: 1 << 40 };
const BUFFER: Kind = Kind::Bytes { min: 1024, max: 1 << 30 };
const PATH: Kind = Kind::Shape("a path");
const PATHS: Kind = Kind::List("paths");
const NETWORKS: Kind = Kind::List("networks, such as 10.0.0.0/8");

const fn seconds(min: u64, max: u64) -> Kind {
    Kind::Duration { min_ms: min * 1000, max_ms: max * 1000 }
}

/// Versions of MQTT that a set of bits stands for.
pub(crate) fn versions(value: &Value) -> Versions {
    let chosen = VERSIONS.iter().enumerate().filter(|(at, _)| value.number() & (1 << at) != 0);
    chosen.fold(Versions::NONE, |set, (_, (_, version))| set.with(*version))
}

fn number32(value: &Value) -> u32 {
    u32::try_from(value.number()).unwrap_or(u32::MAX)
}

/// The field that a word stands for; none for the first, `none`.
fn field(value: &Value) -> Option<CertificateField> {
    let at = usize::try_from(value.number()).unwrap_or(0);
    FIELDS.get(at.wrapping_sub(1)).map(|(_, field)| *field)
}

/// A path, none for the empty one.
fn path(value: &Value, base: &Path) -> Option<std::path::PathBuf> {
    (!value.text().is_empty()).then(|| read::path(value.text(), base))
}

fn certificates(value: &Value, base: &Path) -> Result<Vec<CertificateFiles>, String> {
    let one = |table: &Vec<(Box<str>, Box<str>)>| {
        let get = |name: &str| table.iter().find(|(key, _)| **key == *name).map(|(_, text)| &**text);
        let file = |name: &str| get(name).filter(|text| !text.is_empty()).map(|text| read::path(text, base));
        match (file("certificate"), file("key")) {
            (Some(certificate), Some(key)) => Ok(CertificateFiles {
                certificate,
                key,
                key_password: get("key_password").map(|text| KeyPassword(text.into())),
                ocsp: get("ocsp").and_then(|text| ocsp(text, base)),
            }),
            _ => Err("has a table without certificate or without key; each needs both".to_owned()),
        }
    };
    value.tables().iter().map(one).collect()
}

fn ocsp(text: &str, base: &Path) -> Option<OcspSource> {
    match text {
        "" | "off" => None,
        "fetch" => Some(OcspSource::Fetch),
        file => Some(OcspSource::File(read::path(file, base))),
    }
}

fn tls_versions(value: &Value) -> Vec<TlsVersion> {
    let known = [(1, TlsVersion::Tls12), (2, TlsVersion::Tls13)];
    known.into_iter().filter(|(bit, _)| value.number() & bit != 0).map(|(_, version)| version).collect()
}

macro_rules! table {
    ($($key:literal, $kind:expr, $(word $word:literal = $special:expr,)? $default:literal, $applies:expr, $meaning:literal,
       |$to:ident, $value:ident $(, $base:ident)?| $store:expr;)*) => {
        /// Every setting of a listener.
        pub(crate) const LISTENER_TABLE: &[Setting<ListenerStore>] = &[$(Setting {
            key: $key,
            kind: $kind,
            word: table!(@word $($word, $special)?),
            default: $default,
            applies: $applies,
            meaning: $meaning,
            store: table!(@store $to, $value, [$($base)?], $store),
        }),*];
    };
    (@store $to:ident, $value:ident, [], $store:expr) => { |$to: &mut Draft, $value: &Value, _: &Path| { $store; Ok(()) } };
    (@store $to:ident, $value:ident, [$base:ident], $store:expr) => {
        |$to: &mut Draft, $value: &Value, $base: &Path| { $store; Ok(()) }
    };
    (@word) => { None };
    (@word $word:literal, $special:expr) => { Some(($word, $special)) };
}

table! {
"enabled", Kind::Flag, "true", Live,
    "Whether it exists: the way to be rid of one of the default listeners.",
    |to, value| to.enabled = value.number() != 0;
"bind", Kind::List("places: a port, ADDRESS:PORT, [IPV6]:PORT, INTERFACE:PORT, the path of a unix socket, or systemd:NAME"), "", Rebind,
    "Where it listens. A bare port means every address of the machine, of both versions of IP. The listeners `default` have \
     the ports 1883 (`tcp`), 8883 (`tls`), 8083 (`ws`), 8084 (`wss`) and 14567 (`quic`).",
    |to, value, base| {
        let mut places = Vec::new();
        for item in value.items() {
            places.extend(read::bind(item.trim(), to.kind, base, to.ipv6)?);
        }
        if places.is_empty() {
            return Err("names no place to listen; to switch the listener off, say enabled = false".into());
        }
        to.bind = places;
    };
"protocols", Kind::Several(&PROTOCOL_WORDS), "", NewConnections,
    "What it speaks, if that is more than its type says: one port for several protocols, told apart by their first bytes.",
    |to, value| {
        if to.kind == super::Scheme::Quic {
            return Err("can't be chosen for QUIC; leave it out".into());
        }
        let has = |at: u32| value.number() & (1 << at) != 0;
        let protocols = &mut to.protocols;
        (protocols.mqtt, protocols.mqtts, protocols.ws) = (has(0), has(1), has(2));
        (protocols.wss, protocols.http, protocols.https) = (has(3), has(4), has(5));
    };
"max_connections", COUNT, word "unlimited" = 0, "unlimited", Live,
    "Connections that it holds at most, besides `limits.connections` for all listeners together.",
    |to, value| to.connections_max = number32(value);
"max_connections_per_address", COUNT, word "unlimited" = 0, "unlimited", Live,
    "The same for one address of peers; IPv6 peers count by their /64.",
    |to, value| to.connections_per_address_max = number32(value);
"accept_rate", RATE, word "unlimited" = 0, "unlimited", Live,
    "Connections accepted per second.",
    |to, value| to.accept_rate = number32(value);
"accept_burst", COUNT, word "rate" = 0, "rate", Live,
    "Connections accepted at once after a pause.",
    |to, value| to.accept_burst = number32(value);
"versions", Kind::Several(&VERSION_WORDS), "", NewConnections,
    "Protocol versions that may connect here; without it, those of `mqtt.versions`.",
    |to, value| to.versions = Some(versions(value));
"mountpoint", Kind::Text { bytes_max: 1024 }, "", NewConnections,
    "Put in front of every topic and filter of its clients, and taken off what they are sent.",
    |to, value| to.mountpoint = read::mountpoint(value.text())?;
"authentication", Kind::Flag, "true", NewConnections,
    "Whether clients are asked who they are. Without, everybody may connect under any name.",
    |to, value| to.authenticate = value.number() != 0;
"access", Kind::List("rules, such as \"allow 10.0.0.0/8\" or \"deny all\""), "", NewConnections,
    "Who may connect: the first rule that fits decides, and who fits none may.",
    |to, value| to.access = value.items().iter().map(|item| read::access(item)).collect::<Result<_, _>>()?;
"proxy_protocol", Kind::Flag, "false", NewConnections,
    "A PROXY header (version 1 or 2) stands in front of every connection.",
    |to, value| to.proxy = value.number() != 0;
"trusted_proxies", NETWORKS, "", NewConnections,
    "Proxies whose PROXY header is believed. Anybody else is turned away.",
    |to, value| to.trusted = read::networks(value.items())?;
"zone", Kind::Text { bytes_max: 64 }, "", NewConnections,
    "Section `[zones.NAME]` whose limits its clients get.",
    |to, value| to.zone = value.text().into();
"messages_rate_in", RATE, word "unlimited" = 0, "unlimited", Live,
    "Messages that one client may publish per second. Faster ones are read more slowly.",
    |to, value| to.rates.messages_in.per_second = value.number();
"messages_rate_in_burst", COUNT, word "rate" = 0, "rate", Live,
    "Messages that may come at once after a pause.",
    |to, value| to.rates.messages_in.burst = value.number();
"messages_rate_out", RATE, word "unlimited" = 0, "unlimited", Live,
    "Messages that one client is sent per second.",
    |to, value| to.rates.messages_out.per_second = value.number();
"messages_rate_out_burst", COUNT, word "rate" = 0, "rate", Live,
    "Messages that may go at once after a pause.",
    |to, value| to.rates.messages_out.burst = value.number();
"bytes_rate_in", BYTE_RATE, word "unlimited" = 0, "unlimited", Live,
    "Bytes that one client may send per second.",
    |to, value| to.rates.bytes_in.per_second = value.number();
"bytes_rate_in_burst", BURST, word "rate" = 0, "rate", Live,
    "Bytes that may come at once after a pause.",
    |to, value| to.rates.bytes_in.burst = value.number();
"bytes_rate_out", BYTE_RATE, word "unlimited" = 0, "unlimited", Live,
    "Bytes that one client is sent per second.",
    |to, value| to.rates.bytes_out.per_second = value.number();
"bytes_rate_out_burst", BURST, word "rate" = 0, "rate", Live,
    "Bytes that may go at once after a pause.",
    |to, value| to.rates.bytes_out.burst = value.number();
"handshake_timeout", seconds(1, 600), "10s", NewConnections,
    "Time for all that comes before MQTT: PROXY header, TLS handshake and WebSocket upgrade together.",
    |to, value| to.handshake_timeout_ms = value.number();
"max_lifetime", seconds(1, 10 * 365 * 86_400), word "never" = 0, "never", Live,
    "A connection is ended after that long, whatever it does.",
    |to, value| to.lifetime_ms = value.number();
"backlog", Kind::Count { min: 1, max: 65_535 }, "", NewConnections,
    "Connections that the kernel holds until they are accepted; without it, `net.backlog`.",
    |to, value| to.socket.backlog = value.number() as i32;
"nodelay", Kind::Flag, "", NewConnections,
    "Send small packets at once (TCP_NODELAY); without it, `net.nodelay`.",
    |to, value| to.socket.nodelay = value.number() != 0;
"keep_alive", Kind::Shape("off, or idle time, interval and probes, such as 60s,10s,5"), "off", NewConnections,
    "TCP keep-alive. MQTT's own finds dead clients already.",
    |to, value| to.socket.keep_alive = read::keep_alive(value.text())?;
"receive_buffer", BUFFER, word "system" = 0, "system", NewConnections,
    "Receive buffer of each socket in the kernel.",
    |to, value| to.socket.receive_buffer = number32(value);
"send_buffer", BUFFER, word "system" = 0, "system", NewConnections,
    "Send buffer of each socket in the kernel.",
    |to, value| to.socket.send_buffer = number32(value);
"unix_mode", Kind::Shape("permissions in octal, such as \"0660\""), "0660", Rebind,
    "Permissions of a unix socket.",
    |to, value| to.unix_mode = read::mode(value.text())?;

"tls.certificate", PATH, "", NewConnections,
    "The certificate with its chain, leaf first (PEM). Without it, the one that the broker makes by itself in its data directory.",
    |to, value, base| to.certificate.certificate = path(value, base);
"tls.key", PATH, "", NewConnections,
    "The private key of the certificate (PEM: PKCS #8, PKCS #1 or SEC1).",
    |to, value, base| to.certificate.key = path(value, base);
"tls.key_password", Kind::Secret, "", NewConnections,
    "Password of the key, if it is encrypted. Better in a file: `tls.key_password_file`.",
    |to, value| to.certificate.password = Some(KeyPassword(value.text().into()));
"tls.key_password_file", PATH, "", NewConnections,
    "A file that holds the password of the key.",
    |to, value, base| to.certificate.password_file = path(value, base);
"tls.acme", Kind::Text { bytes_max: 32 }, "", NewConnections,
    "Section `[acme.NAME]` that the certificate is ordered by, instead of `tls.certificate` and `tls.key`.",
    |to, value| to.certificate.acme = (!value.text().is_empty()).then(|| value.text().into());
"tls.certificates", Kind::Tables(&["certificate", "key", "key_password", "ocsp"]), "", NewConnections,
    "Further certificates, chosen by the name that a client asks for (SNI).",
    |to, value, base| to.tls.certificates = certificates(value, base)?;
"tls.client_certificate", Kind::Choice(&["none", "optional", "required"]), "none", NewConnections,
    "Whether clients show a certificate of their own (mutual TLS).",
    |to, value| {
        use ClientCertificate::{None, Optional, Required};
        to.tls.client_certificate = match value.number() { 0 => None, 1 => Optional, _ => Required };
    };
"tls.client_authorities", PATHS, "", NewConnections,
    "Authorities that client certificates have to come from (PEM).",
    |to, value, base| to.tls.client_authorities = read::paths(value.items(), base)?;
"tls.revocation_lists", PATHS, "", NewConnections,
    "Revocation lists for client certificates (PEM or DER). Read again at each reload, also for those who are connected.",
    |to, value, base| to.tls.revocation_lists = read::paths(value.items(), base)?;
"tls.versions", Kind::Several(&["1.2", "1.3"]), "1.2,1.3", NewConnections,
    "Versions of TLS. QUIC always has 1.3.",
    |to, value| to.tls.versions = tls_versions(value);
"tls.ciphers", Kind::List("cipher suites by their IANA names"), "", NewConnections,
    "Cipher suites in order of preference; without it, a safe choice.",
    |to, value| to.tls.cipher_suites = value.items().to_vec();
"tls.ocsp", Kind::Shape("off, fetch, or the path of an OCSP answer (DER)"), "off", NewConnections,
    "Where the stapled OCSP answer comes from.",
    |to, value, base| to.certificate.ocsp = ocsp(value.text(), base);
"tls.username_from", Kind::Choice(&FIELD_WORDS), "none", NewConnections,
    "Field of the client's certificate that counts as its user name.",
    |to, value| to.tls.username_from = field(value);
"tls.client_id_from", Kind::Choice(&FIELD_WORDS), "none", NewConnections,
    "Field of the client's certificate that counts as its client identifier.",
    |to, value| to.tls.client_id_from = field(value);
"tls.resumption", Kind::Flag, "true", NewConnections,
    "Let clients that come back skip the costly part of the handshake.",
    |to, value| to.tls.no_resumption = value.number() == 0;

"websocket.path", Kind::Shape("a path such as /mqtt"), "/mqtt", NewConnections,
    "Path of the upgrade request.",
    |to, value| to.websocket.path = read::web_path(value.text())?;
"websocket.origins", Kind::List("origins such as https://example.org, or *"), "", NewConnections,
    "Pages that may connect, besides those of this host and loopback.",
    |to, value| to.websocket.origins = value.items().to_vec();
"websocket.allow_no_subprotocol", Kind::Flag, "false", NewConnections,
    "Let clients in that don't name the subprotocol `mqtt`.",
    |to, value| to.websocket.allow_no_subprotocol = value.number() != 0;
"websocket.trusted_forwarders", NETWORKS, "", NewConnections,
    "Proxies whose `X-Forwarded-For` is believed.",
    |to, value| to.websocket.trusted_forwarders = read::networks(value.items())?;
"websocket.max_frame_size", Kind::Bytes { min: 125, max: 1 << 28 }, "1MB", NewConnections,
    "Largest frame. An MQTT packet may come in several.",
    |to, value| to.websocket.frame_bytes_max = number32(value);

"quic.idle_timeout", seconds(1, 3600), "60s", NewConnections,
    "A QUIC connection without any packet for that long has ended.",
    |to, value| to.quic.idle_timeout_ms = number32(value);
"quic.max_streams", Kind::Count { min: 1, max: 1024 }, "64", NewConnections,
    "Streams that one connection may have open, the control stream included.",
    |to, value| to.quic.streams_max = value.number() as u16;
"quic.retry_above", Kind::Count { min: 0, max: 1 << 20 }, "256", NewConnections,
    "Handshakes under way above which clients have to prove their address first.",
    |to, value| to.quic.retry_above = number32(value);
}
