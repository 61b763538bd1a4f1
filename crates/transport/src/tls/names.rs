//! Names in certificates, as text.

use x509_parser::asn1_rs::{Any, Oid, Tag};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

/// Longest text that is taken from a certificate. A longer one is left out, never cut: a cut name could be somebody else's.
const TEXT_MAX: usize = 1024;
/// Alternative names that are taken from a certificate.
const NAMES_MAX: usize = 64;

/// Short names of attributes: those of RFC 4514, and what OpenSSL and others add to them.
const ATTRIBUTES: [(&[u64], &str); 16] = [
    (&[2, 5, 4, 3], "CN"),
    (&[2, 5, 4, 7], "L"),
    (&[2, 5, 4, 8], "ST"),
    (&[2, 5, 4, 10], "O"),
    (&[2, 5, 4, 11], "OU"),
    (&[2, 5, 4, 6], "C"),
    (&[2, 5, 4, 9], "street"),
    (&[0, 9, 2342, 19_200_300, 100, 1, 25], "DC"),
    (&[0, 9, 2342, 19_200_300, 100, 1, 1], "UID"),
    (&[1, 2, 840, 113_549, 1, 9, 1], "emailAddress"),
    (&[2, 5, 4, 4], "SN"),
    (&[2, 5, 4, 42], "GN"),
    (&[2, 5, 4, 12], "title"),
    (&[2, 5, 4, 5], "serialNumber"),
    (&[2, 5, 4, 46], "dnQualifier"),
    (&[2, 5, 4, 43], "initials"),
];

/// A distinguished name as RFC 4514 writes it: last part first. Empty if it is beyond all bounds.
pub(crate) fn distinguished(name: &X509Name<'_>) -> Box<str> {
    let part = |part: &RelativeDistinguishedName<'_>| {
        let mut pairs: Vec<String> = part.iter().map(attribute).collect();
        // Any order will do; this is OpenSSL's, and so that of names which others have written down.
        pairs.reverse();
        pairs.join("+")
    };
    let mut parts: Vec<String> = name.iter_rdn().map(part).collect();
    parts.reverse();
    bounded(parts.join(",")).unwrap_or_default()
}

fn attribute(pair: &AttributeTypeAndValue<'_>) -> String {
    let short = pair.attr_type().iter().and_then(|arcs| {
        let arcs: Vec<u64> = arcs.collect();
        ATTRIBUTES.iter().find(|(known, _)| *known == arcs).map(|(_, short)| *short)
    });
    match (short, text_of(pair.attr_value())) {
        (Some(short), Some(text)) => format!("{short}={}", escape(&text)),
        (short, _) => {
            let kind = short.map_or_else(|| dotted(pair.attr_type()), str::to_owned);
            format!("{kind}=#{}", hex(pair.attr_value().data))
        }
    }
}

fn dotted(oid: &Oid<'_>) -> String {
    oid.to_id_string()
}

/// RFC 4514, 2.4. Control characters are written in hexadecimal too, which it permits: they have no business in a log.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, letter) in text.chars().enumerate() {
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => out.extend(['\\', letter]),
            ' ' if at == 0 || at == last => out.push_str("\\ "),
            '#' if at == 0 => out.push_str("\\#"),
            letter if letter.is_control() => {
                let mut bytes = [0; 4];
                for byte in letter.encode_utf8(&mut bytes).bytes() {
                    out.push_str(&format!("\\{byte:02X}"));
                }
            }
            letter => out.push(letter),
        }
    }
    out
}

/// The text of an attribute, if it is one and well formed.
fn text_of(value: &Any<'_>) -> Option<String> {
    let bytes = value.data;
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            std::str::from_utf8(bytes).ok().map(str::to_owned)
        }
        // In practice Latin 1.
        Tag::TeletexString => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let pairs = bytes.chunks_exact(2);
            let whole = pairs.remainder().is_empty();
            let units: Vec<u16> = pairs.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            if whole { String::from_utf16(&units).ok() } else { None }
        }
        _ => None,
    }
}

/// The common name; empty if there is none, or more than one (nobody knows which of them counts).
pub(crate) fn common_name(name: &X509Name<'_>) -> Box<str> {
    let mut found = name.iter_common_name();
    match (found.next(), found.next()) {
        (Some(only), None) => text_of(only.attr_value()).and_then(bounded).unwrap_or_default(),
        _ => Box::default(),
    }
}

/// Alternative names: DNS names, mail addresses, URIs and addresses, in their order.
pub(crate) fn alternative(certificate: &X509Certificate<'_>) -> Vec<Box<str>> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(text) | GeneralName::RFC822Name(text) | GeneralName::URI(text) => Some((*text).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(text).filter_map(bounded).take(NAMES_MAX).collect()
}

fn address(bytes: &[u8]) -> Option<String> {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return Some(std::net::Ipv4Addr::from(v4).to_string());
    }
    <[u8; 16]>::try_from(bytes).ok().map(|v6| std::net::Ipv6Addr::from(v6).to_string())
}

fn bounded(text: String) -> Option<Box<str>> {
    (text.len() <= TEXT_MAX).then(|| text.into())
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
