//! TLS of an EMQX listener.

use super::super::place::{Entry, Place, Rule, list};
use super::super::{ciphers, written};

const PSK: &str = "keys shared beforehand (PSK) are not spoken by the TLS library; use certificates";

pub(super) const RULES: &[(&str, Rule)] = &[
    ("keyfile", Rule::By(key)),
    ("certfile", Rule::By(certificate)),
    ("cacertfile", Rule::Elsewhere),
    ("cacerts", Rule::Always(&["false"], "name the authorities of client certificates in client_authorities")),
    ("verify", Rule::By(verify)),
    ("fail_if_no_peer_cert", Rule::Elsewhere),
    ("password", Rule::By(password)),
    ("versions", Rule::By(versions)),
    ("ciphers", Rule::By(suites)),
    ("psk_ciphers", Rule::ToDo(PSK)),
    ("user_lookup_fun", Rule::None(PSK)),
    ("handshake_timeout", Rule::Span("handshake_timeout", written::millis)),
    ("depth", Rule::None("the length of a certificate chain is bounded by the TLS library")),
    ("dhfile", Rule::None("keys are agreed on by elliptic curves; no parameters are needed")),
    ("partial_chain", Rule::By(partial)),
    (
        "verify_peer_ext_key_usage",
        Rule::None(
            "client certificates always have to be meant for clients (extended key usage clientAuth), if they say at all",
        ),
    ),
    ("secure_renegotiate", Rule::None("a handshake is never done again on a connection")),
    ("client_renegotiation", Rule::None("a handshake is never done again on a connection")),
    ("reuse_sessions", Rule::Flag("tls.resumption")),
    (
        "session_tickets",
        Rule::Always(
            &["stateless", "stateful", "enabled"],
            "turn tickets and session identifiers off together with resumption = false, if they have to be off",
        ),
    ),
    ("honor_cipher_order", Rule::Always(&["true", "on"], "the listener's order of ciphers counts, not the client's")),
    ("hibernate_after", Rule::None("an idle connection holds no buffers anyway")),
    ("gc_after_handshake", Rule::None("there is no garbage collector")),
    ("log_level", Rule::None("what is logged is said by `serve --log`")),
    ("managed_certs", Rule::ToDo("name the files of certificate and key in [listener] (.tls)")),
    ("enable_ocsp_stapling", Rule::By(ocsp)),
    (
        "ocsp_responder_url",
        Rule::None(
            "the responder that the certificate names is asked; for another one, have its answer fetched into a file and set ocsp to its path",
        ),
    ),
    ("ocsp_issuer_pem", Rule::None("the issuer is taken from the chain in certificate; see that it stands there")),
    ("ocsp_refresh_interval", Rule::None("an answer is renewed in good time before it runs out")),
    ("ocsp_refresh_http_timeout", Rule::None("the responder has a fixed time to answer")),
    ("enable_crl_check", Rule::By(revocation)),
    (
        "crl_cache_urls",
        Rule::ToDo(
            "revocation lists are read from files: fetch them and name them in revocation_lists of [listener] (.tls)",
        ),
    ),
    ("peer_cert_as_username", Rule::By(username)),
    ("peer_cert_as_clientid", Rule::By(client_id)),
];

/// A path of EMQX, whose folders may have to be filled in.
fn file(place: &mut Place<'_>, entry: &Entry, ours: &str) {
    let text = entry.text();
    if text.is_empty() {
        return place.draft.mapped(entry.at);
    }
    if text.contains("-----BEGIN") {
        let what = format!(
            "the text itself stands there: put it into a file that only the broker may read, and name that in {ours}"
        );
        return place.draft.action(entry.at, &entry.key, what);
    }
    let path = expanded(&text);
    place.put(ours, path.as_str());
    note_path(place, entry, &text, &path);
}

/// The path with EMQX's own folders filled in, as its packages have them.
pub(in super::super) fn expanded(text: &str) -> String {
    let text = text.strip_prefix("file://").unwrap_or(text);
    text.replace("${EMQX_ETC_DIR}", "/etc/emqx")
        .replace("$EMQX_ETC_DIR", "/etc/emqx")
        .replace("{{ platform_etc_dir }}", "/etc/emqx")
}

fn note_path(place: &mut Place<'_>, entry: &Entry, text: &str, path: &str) {
    if path != text && text.contains("EMQX_ETC_DIR") {
        place.draft.changed(entry.at, &entry.key, "EMQX_ETC_DIR is taken for /etc/emqx, where EMQX's packages have it");
    } else if path.starts_with('/') {
        place.draft.mapped(entry.at);
    } else {
        let text = "the path is kept: here it starts at the folder of the configuration file, with EMQX at its own (etc/ is /etc/emqx/ in its packages); best write it out from /";
        place.draft.changed(entry.at, &entry.key, text);
    }
}

fn key(place: &mut Place<'_>, entry: &Entry) {
    file(place, entry, "tls.key");
}

fn certificate(place: &mut Place<'_>, entry: &Entry) {
    file(place, entry, "tls.certificate");
}

fn password(place: &mut Place<'_>, entry: &Entry) {
    let text = entry.text();
    match text.strip_prefix("file://") {
        _ if text.is_empty() => {}
        Some(path) => place.put("tls.key_password_file", expanded(path)),
        None => place.put("tls.key_password", text.as_str()),
    }
    place.draft.mapped(entry.at);
}

fn verify(place: &mut Place<'_>, entry: &Entry) {
    let required = place.field("fail_if_no_peer_cert").and_then(Entry::flag).unwrap_or(false);
    let word = match entry.text().as_str() {
        "verify_none" => "none",
        "verify_peer" if required => "required",
        "verify_peer" => "optional",
        _ => return place.draft.unreadable(entry.at, &entry.key, "verify_peer or verify_none"),
    };
    place.put("tls.client_certificate", word);
    place.draft.mapped(entry.at);
}

/// What only counts together with others.
pub(super) fn together(place: &mut Place<'_>) {
    let asked = place.field("verify").is_some_and(|entry| entry.text() == "verify_peer");
    if let Some(entry) = place.field("fail_if_no_peer_cert").cloned() {
        match entry.flag() {
            Some(true) if !asked => {
                place.draft.changed(
                    entry.at,
                    &entry.key,
                    "without verify = verify_peer no client is asked for a certificate",
                );
            }
            Some(_) => place.draft.mapped(entry.at),
            None => place.draft.unreadable(entry.at, &entry.key, "true or false"),
        }
    }
    let authorities = place.field("cacertfile").cloned();
    match authorities {
        Some(entry) if asked => {
            let text = entry.text();
            let path = expanded(&text);
            place.put("tls.client_authorities", list([path.clone()]));
            note_path(place, &entry, &text, &path);
        }
        Some(entry) => {
            let text = "no client certificates are asked for, so no authorities are needed; if the file completes the chain of your own certificate, append it to certificate";
            place.draft.not_mapped(entry.at, &entry.key, text);
        }
        None if asked => {
            if let Some(entry) = place.field("verify").cloned() {
                let text = format!(
                    "name the authorities of the clients' certificates: client_authorities in {}",
                    place.table()
                );
                place.draft.action(entry.at, &entry.key, text);
            }
        }
        None => {}
    }
}

fn versions(place: &mut Place<'_>, entry: &Entry) {
    let (mut kept, mut old) = (Vec::new(), Vec::new());
    for part in entry.parts() {
        match part.trim().to_ascii_lowercase().as_str() {
            "tlsv1.3" => kept.push("1.3".to_owned()),
            "tlsv1.2" => kept.push("1.2".to_owned()),
            _ => old.push(part),
        }
    }
    kept.sort();
    kept.dedup();
    if kept.is_empty() {
        let text = "TLS 1.2 and 1.3 are spoken; older versions are broken and not spoken, so clients that know only those can't connect by TLS";
        return place.draft.action(entry.at, &entry.key, text);
    }
    place.put("tls.versions", list(kept));
    if old.is_empty() {
        place.draft.mapped(entry.at);
    } else {
        let text = format!(
            "{} is not spoken, only TLS 1.2 and 1.3; clients that know nothing newer can't connect by TLS",
            old.join(", ")
        );
        place.draft.changed(entry.at, &entry.key, text);
    }
}

fn suites(place: &mut Place<'_>, entry: &Entry) {
    let parts = entry.parts();
    let parts: Vec<&str> = parts.iter().flat_map(|part| part.split([',', ':'])).collect();
    let (kept, left) = ciphers::translate(parts);
    if kept.is_empty() {
        return match left.is_empty() {
            true => place.draft.mapped(entry.at),
            false => place.draft.action(
                entry.at,
                &entry.key,
                "none of these ciphers is still safe and spoken here; the safe default stands",
            ),
        };
    }
    place.put("tls.ciphers", list(kept.into_iter().map(str::to_owned)));
    if left.is_empty() {
        place.draft.mapped(entry.at);
    } else {
        let text = format!("left out, as they are not spoken here: {}", left.join(", "));
        place.draft.changed(entry.at, &entry.key, text);
    }
}

fn partial(place: &mut Place<'_>, entry: &Entry) {
    match entry.text().as_str() {
        "" | "false" | "off" => place.draft.mapped(entry.at),
        _ => {
            let text = "a client's chain may end at any certificate in client_authorities: put the intermediate authority there alone";
            place.draft.action(entry.at, &entry.key, text);
        }
    }
}

fn ocsp(place: &mut Place<'_>, entry: &Entry) {
    match entry.flag() {
        Some(on) => {
            place.put("tls.ocsp", if on { "fetch" } else { "off" });
            place.draft.mapped(entry.at);
        }
        None => place.draft.unreadable(entry.at, &entry.key, "true or false"),
    }
}

fn revocation(place: &mut Place<'_>, entry: &Entry) {
    match entry.flag() {
        Some(false) => place.draft.mapped(entry.at),
        _ => {
            let text = format!(
                "revocation lists are read from files: fetch them and name them in revocation_lists of {} (.tls)",
                place.table()
            );
            place.draft.action(entry.at, &entry.key, text);
        }
    }
}

fn username(place: &mut Place<'_>, entry: &Entry) {
    from_certificate(place, entry, "tls.username_from");
}

fn client_id(place: &mut Place<'_>, entry: &Entry) {
    from_certificate(place, entry, "tls.client_id_from");
}

pub(super) fn from_certificate(place: &mut Place<'_>, entry: &Entry, ours: &str) {
    match entry.text().as_str() {
        "disabled" | "false" | "off" | "" => place.draft.mapped(entry.at),
        _ if !place.has_tls() => {
            let text = "only a listener with TLS sees a certificate; a name that a proxy passes on is not read";
            place.draft.action(entry.at, &entry.key, text);
        }
        field @ ("cn" | "dn") => {
            place.put(ours, field);
            place.draft.mapped(entry.at);
        }
        "md5" => {
            place.put(ours, "fingerprint");
            place.draft.action(
                entry.at,
                &entry.key,
                "the fingerprint is SHA-256, not MD5: names that were made from it change",
            );
        }
        _ => place.draft.action(
            entry.at,
            &entry.key,
            format!("{ours} can be cn, dn, san, serial or fingerprint, not the whole certificate"),
        ),
    }
}
