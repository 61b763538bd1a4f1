//! Cipher suites: the names of OpenSSL, which the other brokers use, and those of the IANA registry, which we use.

/// Suites that exist here, as (OpenSSL, IANA).
pub(super) const SUITES: [(&str, &str); 9] = [
    ("TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384"),
    ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
    ("TLS_CHACHA20_POLY1305_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
    ("ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"),
    ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"),
];

/// The suites of TLS 1.3 are the first three.
pub(super) fn of_tls13() -> impl Iterator<Item = &'static str> {
    SUITES[..3].iter().map(|(_, iana)| *iana)
}

/// The suites of TLS 1.2 that exist here.
pub(super) fn of_tls12() -> impl Iterator<Item = &'static str> {
    SUITES[3..].iter().map(|(_, iana)| *iana)
}

/// What a list asks for, in its order, and what of it we don't have.
pub(super) fn translate<'a>(names: impl IntoIterator<Item = &'a str>) -> (Vec<&'static str>, Vec<&'a str>) {
    let (mut kept, mut left) = (Vec::new(), Vec::new());
    for name in names.into_iter().map(str::trim).filter(|name| !name.is_empty()) {
        let wanted = name.to_ascii_uppercase();
        // Erlang also knows the chacha suites by the hash that they imply.
        let wanted = wanted.strip_suffix("-POLY1305-SHA256").map_or(wanted.clone(), |stem| format!("{stem}-POLY1305"));
        match SUITES.iter().find(|(openssl, iana)| *openssl == wanted || *iana == wanted) {
            Some((_, iana)) if kept.contains(iana) => {}
            Some((_, iana)) => kept.push(*iana),
            None => left.push(name),
        }
    }
    (kept, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openssl_names_become_iana_names() {
        let (kept, left) = translate([
            "ECDHE-RSA-AES128-GCM-SHA256",
            "TLS_AES_256_GCM_SHA384",
            "AES128-SHA",
            " ecdhe-rsa-chacha20-poly1305 ",
            "",
        ]);
        let expected = [
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
            "TLS_AES_256_GCM_SHA384",
            "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        ];
        assert_eq!((kept.as_slice(), left.as_slice()), (expected.as_slice(), ["AES128-SHA"].as_slice()));
    }

    #[test]
    fn every_suite_is_one_that_rustls_has() {
        let known: Vec<String> = of_tls13().chain(of_tls12()).map(str::to_owned).collect();
        assert_eq!(known.len(), 9);
        assert!(of_tls13().all(|name| !name.contains("_WITH_")) && of_tls12().all(|name| name.contains("_WITH_")));
    }
}
