use std::path::PathBuf;

use rcgen::{DnType, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::version::{TLS12, TLS13};

use super::*;
use crate::tls::pki::{Authority, Leaf, Scratch, chmod, handshake, openssl, provider};
use crate::tls::{CertificateField, CertificateFiles, ClientCertificate, KeyPassword, TlsFault, facts, identity};

/// 2026-01-01.
const NOW_S: u64 = 1_767_225_600;

/// A server certificate on disk.
struct Place {
    scratch: Scratch,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        Self { scratch: Scratch::new(), authority: Authority::new("servers") }
    }

    fn put(&self, name: &str, leaf: &Leaf) -> CertificateFiles {
        CertificateFiles {
            certificate: self.scratch.write(&format!("{name}.pem"), &leaf.pem),
            key: self.scratch.write(&format!("{name}.key"), leaf.key.serialize_pem()),
            ..CertificateFiles::default()
        }
    }

    fn options(&self) -> TlsOptions {
        let files = self.put("server", &self.authority.issue(&["localhost"], |_| {}));
        TlsOptions { certificates: vec![files], ..TlsOptions::default() }
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.client_of(&[&TLS13, &TLS12], None)
    }

    fn client_of(&self, versions: &[&'static SupportedProtocolVersion], show: Option<Vec<&Leaf>>) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(self.authority.roots());
        let mut config = match show {
            None => builder.with_no_client_auth(),
            Some(chain) => {
                let certificates = chain.iter().map(|leaf| leaf.certificate.clone()).collect();
                builder.with_client_auth_cert(certificates, chain[0].key_der()).unwrap()
            }
        };
        config.resumption = Resumption::disabled();
        Arc::new(config)
    }
}

fn load(options: &TlsOptions) -> ServerTls {
    match load_server(options, NOW_S) {
        Ok(server) => server,
        Err(faults) => panic!("{faults:?}"),
    }
}

fn faults(options: &TlsOptions) -> Vec<String> {
    match load_server(options, NOW_S) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

fn only_fault(options: &TlsOptions) -> String {
    let faults = faults(options);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(!faults[0].contains('\n'));
    faults[0].clone()
}

#[test]
fn facts_of_a_certificate_are_known() {
    let place = Place::new();
    let server = load(&place.options());
    assert_eq!(server.warnings, []);
    let facts = &server.certificates[0];
    assert_eq!(facts.file, place.scratch.path("server.pem"));
    assert_eq!(&*facts.names[0], "localhost");
    assert_eq!(&*facts.issuer, "CN=servers");
    assert_eq!(&*facts.key, "ECDSA P-256");
    assert_eq!(facts.fingerprint.len(), 64);
    assert!(!facts.self_made && !facts.self_signed);
    assert!(facts.days_left(NOW_S as i64) > 1000);
    assert!(handshake(&server.config, &place.client(), "localhost").is_ok());
}

#[test]
fn all_faults_are_told_at_once() {
    let place = Place::new();
    let good = place.options().certificates[0].clone();
    let other = place.put("other", &place.authority.issue(&["other"], |_| {}));
    let options = TlsOptions {
        certificates: vec![
            CertificateFiles {
                certificate: PathBuf::from("/nowhere/server.pem"),
                key: "/nowhere/server.key".into(),
                ..CertificateFiles::default()
            },
            CertificateFiles { key: other.key.clone(), ..good },
        ],
        client_certificate: ClientCertificate::Required,
        client_authorities: vec!["/nowhere/ca.pem".into()],
        revocation_lists: vec!["/nowhere/list.pem".into()],
        cipher_suites: vec!["TLS_AES_256_GCM_SHA385".into()],
        ..TlsOptions::default()
    };
    let faults = faults(&options);
    assert_eq!(faults.len(), 6, "{faults:#?}");
    assert_eq!(
        faults[0],
        "unknown cipher suite \"TLS_AES_256_GCM_SHA385\" in tls.ciphers: the nearest is TLS_AES_256_GCM_SHA384"
    );
    assert_eq!(faults[1], "/nowhere/server.pem: no such file: check the path");
    assert_eq!(faults[2], "/nowhere/server.key: no such file: check the path");
    assert!(faults[3].contains("other.key: this key does not belong to the first certificate in "), "{}", faults[3]);
    assert_eq!(faults[4], "/nowhere/ca.pem: no such file: check the path");
    assert_eq!(faults[5], "/nowhere/list.pem: no such file: check the path");
}

#[test]
fn what_a_file_holds_instead_is_said() {
    let place = Place::new();
    let good = place.options().certificates[0].clone();
    let der = place.authority.issue(&["x"], |_| {}).certificate;
    let key = std::fs::read(&good.key).unwrap();
    let pem = std::fs::read(&good.certificate).unwrap();
    let table: [(&[u8], &str); 6] = [
        (b"", "is empty"),
        (b"hello", "has no PEM inside"),
        (&der, "is DER, not PEM"),
        (&key, "has no certificate inside, only PRIVATE KEY"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "can't be decoded"),
        (b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n", "its PEM is damaged"),
    ];
    for (content, expected) in table {
        let certificate = place.scratch.write("bad.pem", content);
        let fault = only_fault(&TlsOptions {
            certificates: vec![CertificateFiles { certificate, ..good.clone() }],
            ..TlsOptions::default()
        });
        assert!(fault.contains(expected) && fault.contains("bad.pem: "), "{fault}");
    }
    let table: [(&[u8], &str); 4] = [
        (&pem, "has no private key inside, only CERTIFICATE"),
        (b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "this key can't be used"),
        (b"-----BEGIN DSA PRIVATE KEY-----\nAAAA\n-----END DSA PRIVATE KEY-----\n", "holds a DSA PRIVATE KEY"),
        (
            b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
            "holds a OPENSSH PRIVATE KEY",
        ),
    ];
    for (content, expected) in table {
        let key = place.scratch.write("bad.key", content);
        let fault = only_fault(&TlsOptions {
            certificates: vec![CertificateFiles { key, ..good.clone() }],
            ..TlsOptions::default()
        });
        assert!(fault.contains(expected) && fault.contains("bad.key: "), "{fault}");
    }
    let certificate = place.scratch.path("");
    let fault = only_fault(&TlsOptions {
        certificates: vec![CertificateFiles { certificate, ..good }],
        ..TlsOptions::default()
    });
    assert!(fault.contains("is a directory"), "{fault}");
}

#[test]
fn settings_that_contradict_each_other_are_faults() {
    let place = Place::new();
    let good = place.options();
    assert_eq!(only_fault(&TlsOptions::default()), "no certificate is set: set certificate and key");
    let fault = only_fault(&TlsOptions { username_from: Some(CertificateField::CommonName), ..good.clone() });
    assert!(fault.contains("set client_certificate to required"), "{fault}");
    let fault = only_fault(&TlsOptions { client_certificate: ClientCertificate::Optional, ..good.clone() });
    assert!(fault.contains("set client_authorities"), "{fault}");
    let fault = only_fault(&TlsOptions {
        versions: vec![TlsVersion::Tls12],
        cipher_suites: vec!["TLS_AES_128_GCM_SHA256".into()],
        ..good
    });
    assert!(fault.contains("is one of TLS 1.2"), "{fault}");
}

#[test]
fn what_is_unwell_is_a_warning() {
    let place = Place::new();
    let expired =
        place.put("old", &place.authority.issue(&["old"], |params| params.not_after = date_time_ymd(2025, 12, 1)));
    let early =
        place.put("new", &place.authority.issue(&["new"], |params| params.not_before = date_time_ymd(2027, 1, 1)));
    let soon =
        place.put("soon", &place.authority.issue(&["soon"], |params| params.not_after = date_time_ymd(2026, 1, 20)));
    let nameless = place.put("nameless", &place.authority.issue(&[], |_| {}));
    chmod(&nameless.key, 0o644);
    let options = TlsOptions { certificates: vec![expired, early, soon, nameless], ..TlsOptions::default() };
    let warnings: Vec<String> = load(&options).warnings.iter().map(ToString::to_string).collect();
    for (warning, expected) in warnings.iter().zip([
        "old.pem: this certificate expired 31 days ago",
        "new.pem: this certificate is not valid yet",
        "soon.pem: this certificate expires in 19 days",
        "nameless.key: this private key can be read by everybody on this host: chmod o-rwx ",
        "nameless.pem: this certificate has no subject alternative name",
    ]) {
        assert!(warning.contains(expected), "{warning}");
    }
    assert_eq!(warnings.len(), 5, "{warnings:#?}");
}

#[test]
fn every_kind_of_key_serves() {
    let place = Place::new();
    for (arguments, kind) in [
        ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048", "RSA 2048"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256", "ECDSA P-256"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384", "ECDSA P-384"),
        ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-521", "ECDSA P-521"),
        ("genpkey -algorithm ED25519", "Ed25519"),
    ] {
        let pem = openssl(arguments, b"");
        let key = KeyPair::from_pem(std::str::from_utf8(&pem).unwrap()).unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let leaf = place.authority.issue_for(key, params);
        let mut files = place.put("server", &leaf);
        let mut forms = vec![pem.clone()];
        if kind.starts_with("RSA") {
            forms.push(openssl("rsa -traditional", &pem));
        } else if kind.starts_with("ECDSA") {
            forms.push(openssl("ec", &pem));
        }
        for form in forms {
            files.key = place.scratch.write("server.key", form);
            let server = load(&TlsOptions { certificates: vec![files.clone()], ..TlsOptions::default() });
            assert_eq!(&*server.certificates[0].key, kind);
            for version in [&TLS12, &TLS13] {
                assert!(handshake(&server.config, &place.client_of(&[version], None), "localhost").is_ok(), "{kind}");
            }
        }
    }
}

#[test]
fn a_key_that_is_too_weak_or_of_another_kind_is_named() {
    let place = Place::new();
    let good = place.options().certificates[0].clone();
    for arguments in [
        "genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024",
        "genpkey -algorithm ED448",
        "genpkey -algorithm EC -pkeyopt ec_paramgen_curve:secp256k1",
    ] {
        let key = place.scratch.write("odd.key", openssl(arguments, b""));
        let fault = only_fault(&TlsOptions {
            certificates: vec![CertificateFiles { key, ..good.clone() }],
            ..TlsOptions::default()
        });
        assert!(fault.contains("odd.key: this key can't be used") && fault.contains("make one of ECDSA"), "{fault}");
    }
}

#[test]
fn an_encrypted_key_opens_with_its_password_only() {
    let place = Place::new();
    let good = place.options().certificates[0].clone();
    let clear = std::fs::read(&good.key).unwrap();
    let with = |content: &[u8], password: Option<&str>| {
        let key = place.scratch.write("sealed.key", content);
        let key_password = password.map(|text| KeyPassword(text.into()));
        TlsOptions {
            certificates: vec![CertificateFiles { key, key_password, ..good.clone() }],
            ..TlsOptions::default()
        }
    };
    for scheme in
        ["-v2 aes256", "-v2 aes-128-cbc -v2prf hmacWithSHA1", "-v2 aes-192-cbc -v2prf hmacWithSHA512 -iter 10"]
    {
        let sealed = openssl(&format!("pkcs8 -topk8 {scheme} -passout pass:geheim"), &clear);
        assert!(handshake(&load(&with(&sealed, Some("geheim"))).config, &place.client(), "localhost").is_ok());
        assert!(only_fault(&with(&sealed, None)).contains("sealed.key: is encrypted and no password is set"));
        for wrong in ["", "geheim\n", "Geheim"] {
            let fault = only_fault(&with(&sealed, Some(wrong)));
            assert!(fault.contains("the password does not open it") && !fault.contains("eheim"), "{fault}");
        }
    }
    for scheme in ["-scrypt", "-v2 des3", "-v1 PBE-SHA1-3DES"] {
        let sealed = openssl(&format!("pkcs8 -topk8 {scheme} -passout pass:geheim"), &clear);
        let fault = only_fault(&with(&sealed, Some("geheim")));
        assert!(fault.contains("not supported: convert it with openssl pkcs8 -topk8 -v2 aes256 -in "), "{fault}");
    }
    let legacy = openssl("ec -aes256 -passout pass:geheim", &clear);
    let fault = only_fault(&with(&legacy, Some("geheim")));
    assert!(fault.contains("OpenSSL's old format") && fault.contains("openssl pkcs8 -topk8"), "{fault}");
    let sealed = openssl("pkcs8 -topk8 -v2 aes256 -passout pass:geheim", &clear);
    let mut container = pem::parse(&sealed).unwrap().into_contents();
    for at in 0..container.len() {
        container[at] ^= 0xff;
        let damaged = pem::encode(&pem::Pem::new("ENCRYPTED PRIVATE KEY", container.clone()));
        let _ = load_server(&with(damaged.as_bytes(), Some("geheim")), NOW_S);
        container[at] ^= 0xff;
    }
}

#[test]
fn a_client_gets_the_certificate_for_the_name_it_asks_for() {
    let place = Place::new();
    let issue = |name: &str, names: &[&str]| place.put(name, &place.authority.issue(names, |_| {}));
    let options = TlsOptions {
        certificates: vec![
            issue("first", &["first.example", "localhost"]),
            issue("wild", &["*.example.org"]),
            issue("exact", &["exact.example.org", "UPPER.example.net"]),
        ],
        ..TlsOptions::default()
    };
    let server = load(&options);
    // The client takes whatever comes: only what is shown counts here.
    for (asked, shown) in [
        ("localhost", "first.pem"),
        ("first.example", "first.pem"),
        ("a.example.org", "wild.pem"),
        ("EXACT.example.org", "exact.pem"),
        ("upper.example.net", "exact.pem"),
        ("example.org", "first.pem"),
        ("a.b.example.org", "first.pem"),
        ("127.0.0.1", "first.pem"),
    ] {
        let shown_now = shown_to(&server, asked);
        let facts = server.certificates.iter().find(|facts| facts.fingerprint == shown_now).unwrap();
        assert!(facts.file.ends_with(shown), "{asked}: {}", facts.file.display());
    }
}

fn shown_to(server: &ServerTls, name: &str) -> Box<str> {
    let config =
        crate::tls::load_client(&crate::tls::ClientTlsOptions { insecure: true, ..Default::default() }).unwrap();
    let (_, client) = handshake(&server.config, &config, name).unwrap();
    facts::fingerprint(&client.peer_certificates().unwrap()[0])
}

#[test]
fn versions_and_suites_can_be_chosen() {
    let place = Place::new();
    let good = place.options();
    let server = load(&TlsOptions { versions: vec![TlsVersion::Tls13], ..good.clone() });
    assert_eq!(
        handshake(&server.config, &place.client_of(&[&TLS12], None), "localhost").err(),
        Some(TlsFault::Version { newest: 0x303 })
    );
    let server = load(&TlsOptions {
        cipher_suites: vec![
            "tls-ecdhe-ecdsa-with-chacha20-poly1305-sha256".into(),
            "TLS_CHACHA20_POLY1305_SHA256".into(),
        ],
        ..good.clone()
    });
    for (version, suite) in
        [(&TLS12, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"), (&TLS13, "TLS_CHACHA20_POLY1305_SHA256")]
    {
        let (tls, _) = handshake(&server.config, &place.client_of(&[version], None), "localhost").unwrap();
        assert_eq!(tls.cipher(), Some(suite));
    }
    let server = load(&TlsOptions {
        cipher_suites: vec!["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256".into()],
        versions: vec![TlsVersion::Tls12],
        ..good
    });
    let fault = handshake(&server.config, &place.client_of(&[&TLS12], None), "localhost").err();
    assert_eq!(fault, Some(TlsFault::CipherSuite));
}

#[test]
fn names_of_suites_that_are_not_known_lead_to_the_nearest() {
    for (wrong, nearest) in [
        ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
        ("TLS_AES_128_GCM_SHA265", "TLS_AES_128_GCM_SHA256"),
        ("TLS_CHACHA_POLY_SHA256", "TLS_CHACHA20_POLY1305_SHA256"),
    ] {
        let mut faults = Vec::new();
        assert!(suites::parse(&[wrong.into()], &mut faults).is_empty());
        assert!(faults[0].to_string().ends_with(&format!("the nearest is {nearest}")), "{}", faults[0]);
    }
}

#[test]
fn resumption_can_be_turned_off() {
    let place = Place::new();
    for no_resumption in [false, true] {
        let server = load(&TlsOptions { no_resumption, ..place.options() });
        for version in [&TLS12, &TLS13] {
            let mut client = ClientConfig::clone(&place.client_of(&[version], None));
            client.resumption = Resumption::in_memory_sessions(4);
            let client = Arc::new(client);
            for round in 0..3 {
                let (tls, _) = handshake(&server.config, &client, "localhost").unwrap();
                assert_eq!(tls.resumed(), round > 0 && !no_resumption);
            }
        }
    }
}

/// Whether a client that began a session with one server resumes it with the next one.
fn resumes(before: &ServerTls, after: &ServerTls, client: &Arc<ClientConfig>) -> bool {
    let mut client = ClientConfig::clone(client);
    client.resumption = Resumption::in_memory_sessions(4);
    let client = Arc::new(client);
    handshake(&before.config, &client, "localhost").unwrap();
    handshake(&after.config, &client, "localhost").unwrap().0.resumed()
}

#[test]
fn sessions_outlive_a_reload_unless_the_rules_have_changed() {
    let place = Place::new();
    let clients = Authority::new("clients");
    let leaf = client_leaf(&clients, |_| {});
    let open = place.options();
    let asks = TlsOptions {
        client_certificate: ClientCertificate::Required,
        client_authorities: vec![place.scratch.write("clients.pem", clients.issuer.pem())],
        ..open.clone()
    };
    let after = |before: &ServerTls, options: &TlsOptions| {
        let mut server = load(options);
        server.resume_from(before);
        server
    };
    let none =
        clients.revoke(&[&client_leaf(&clients, |params| params.not_after = date_time_ymd(2030, 1, 1)).certificate]);
    let list = |text: String| TlsOptions { revocation_lists: vec![place.scratch.write("l.crl", text)], ..asks.clone() };
    for version in [&TLS12, &TLS13] {
        let client = place.client_of(&[version], Some(vec![&leaf]));
        let (from_open, from_asks) = (load(&open), load(&asks));
        assert!(!resumes(&from_asks, &load(&asks), &client), "each listener has keys of its own");
        // Twice over: what was taken over can be taken over.
        assert!(resumes(&from_open, &after(&after(&from_open, &open), &open), &client));
        assert!(resumes(&from_asks, &after(&from_asks, &asks), &client));
        // Another certificate of the server is no matter.
        let other = place.put("other", &place.authority.issue(&["localhost"], |_| {}));
        assert!(resumes(
            &from_asks,
            &after(&from_asks, &TlsOptions { certificates: vec![other], ..asks.clone() }),
            &client
        ));
        let optional = TlsOptions { client_certificate: ClientCertificate::Optional, ..asks.clone() };
        let authorities = [clients.issuer.pem(), Authority::new("more").issuer.pem()].concat();
        let more = vec![place.scratch.write("more.pem", authorities)];
        let suites = ["TLS_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"].map(Into::into).into();
        let listed = list(none.clone());
        for (what, changed) in [
            ("mode", optional),
            ("nobody is asked", open.clone()),
            ("authorities", TlsOptions { client_authorities: more, ..asks.clone() }),
            ("lists", listed.clone()),
            ("versions", TlsOptions { versions: vec![TlsVersion::Tls12, TlsVersion::Tls13], ..asks.clone() }),
            ("suites", TlsOptions { cipher_suites: suites, ..asks.clone() }),
        ] {
            assert!(!resumes(&from_asks, &after(&from_asks, &changed), &client), "{what}");
        }
        assert!(!resumes(&from_open, &after(&from_open, &asks), &client), "now it is asked");
        let from_listed = load(&listed);
        assert!(resumes(&from_listed, &after(&from_listed, &list(none.clone())), &client), "the same list, read again");
    }
}

/// Client certificates of all sorts.
fn client_leaf(authority: &Authority, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Leaf {
    authority.issue(&[], |params| {
        params.distinguished_name.push(DnType::CommonName, "device 7");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(params);
    })
}

#[test]
fn client_certificates_are_judged_in_every_way() {
    let place = Place::new();
    let clients = Authority::new("clients");
    let middle = clients.under("middle");
    let lost = clients.under("lost");
    let stranger = Authority::new("clients");
    let good = client_leaf(&clients, |_| {});
    let revoked = client_leaf(&clients, |_| {});
    let expired = client_leaf(&clients, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = client_leaf(&clients, |params| params.not_before = date_time_ymd(2090, 1, 1));
    let purpose =
        client_leaf(&clients, |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let unknown = client_leaf(&Authority::new("others"), |_| {});
    let forged = client_leaf(&stranger, |_| {});
    let below = client_leaf(&middle, |_| {});
    let below_lost = client_leaf(&lost, |_| {});
    let self_signed = {
        let params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Leaf { pem: certificate.pem(), certificate: certificate.der().clone(), key }
    };
    let as_leaf = |authority: &Authority| Leaf {
        pem: String::new(),
        certificate: authority.issuer.der().clone(),
        key: KeyPair::generate().unwrap(),
    };
    let (middle_leaf, lost_leaf) = (as_leaf(&middle), as_leaf(&lost));
    let options = TlsOptions {
        client_certificate: ClientCertificate::Required,
        client_authorities: vec![place.scratch.write("clients.pem", clients.issuer.pem())],
        revocation_lists: vec![
            place.scratch.write("clients.crl", clients.revoke(&[&revoked.certificate, lost.issuer.der()])),
        ],
        ..place.options()
    };
    let optional = TlsOptions { client_certificate: ClientCertificate::Optional, ..options.clone() };
    type Row<'a> = (Option<Vec<&'a Leaf>>, Option<TlsFault>, bool);
    let table: [Row<'_>; 11] = [
        (None, Some(TlsFault::CertificateMissing), true),
        (Some(vec![&good]), None, false),
        (Some(vec![&below, &middle_leaf]), None, false),
        (Some(vec![&below]), Some(TlsFault::CertificateAuthorityUnknown), false),
        (Some(vec![&below_lost, &lost_leaf]), Some(TlsFault::CertificateRevoked), false),
        (Some(vec![&revoked]), Some(TlsFault::CertificateRevoked), false),
        (Some(vec![&expired]), Some(TlsFault::CertificateExpired), false),
        (Some(vec![&early]), Some(TlsFault::CertificateNotYetValid), false),
        (Some(vec![&purpose]), Some(TlsFault::CertificatePurpose), false),
        (Some(vec![&unknown]), Some(TlsFault::CertificateAuthorityUnknown), false),
        (Some(vec![&self_signed]), Some(TlsFault::CertificateAuthorityUnknown), false),
    ];
    let (required, optional) = (load(&options), load(&optional));
    for version in [&TLS12, &TLS13] {
        for (row, (chain, fault, fine_if_optional)) in table.iter().enumerate() {
            let client = place.client_of(&[version], chain.clone());
            let outcome = handshake(&required.config, &client, "localhost");
            assert_eq!(outcome.as_ref().err(), fault.as_ref(), "row {row}");
            let lenient = handshake(&optional.config, &client, "localhost");
            assert_eq!(lenient.is_ok(), fault.is_none() || *fine_if_optional, "row {row}");
            if let Ok((tls, _)) = outcome {
                let who = identity(tls.peer_certificates().unwrap(), &options).unwrap();
                assert_eq!(&*who.certificate.common_name, "device 7");
            }
        }
        let client = place.client_of(&[version], Some(vec![&forged]));
        let fault = handshake(&required.config, &client, "localhost").err().unwrap();
        assert!(matches!(fault, TlsFault::CertificateBad(_) | TlsFault::CertificateAuthorityUnknown), "{fault:?}");
    }
}

#[test]
fn a_list_for_one_authority_does_not_shut_out_the_clients_of_another() {
    let place = Place::new();
    let (listed, silent) = (Authority::new("listed"), Authority::new("silent"));
    let options = TlsOptions {
        client_certificate: ClientCertificate::Required,
        client_authorities: vec![place.scratch.write("both.pem", listed.issuer.pem() + &silent.issuer.pem())],
        revocation_lists: vec![place.scratch.write("listed.crl", listed.revoke(&[]))],
        ..place.options()
    };
    let server = load(&options);
    for authority in [&listed, &silent] {
        let leaf = client_leaf(authority, |_| {});
        assert!(handshake(&server.config, &place.client_of(&[&TLS13], Some(vec![&leaf])), "localhost").is_ok());
    }
}

#[test]
fn a_live_connection_is_judged_again_under_new_lists() {
    let place = Place::new();
    let clients = Authority::new("clients");
    let (good, bad) =
        (client_leaf(&clients, |_| {}), client_leaf(&clients, |params| params.not_after = date_time_ymd(2030, 1, 1)));
    let mut options = TlsOptions {
        client_certificate: ClientCertificate::Required,
        client_authorities: vec![place.scratch.write("clients.pem", clients.issuer.pem())],
        ..place.options()
    };
    let before = load(&options);
    let client = place.client_of(&[&TLS13], Some(vec![&bad]));
    let (tls, _) = handshake(&before.config, &client, "localhost").unwrap();
    let chain = tls.peer_certificates().unwrap();
    let check = |server: &ServerTls, chain: &[_], now_s| server.client_check().unwrap().check(chain, now_s);
    assert_eq!(check(&before, chain, NOW_S), Ok(()));
    assert_eq!(check(&before, chain, NOW_S + 5 * 366 * 86_400), Err(TlsFault::CertificateExpired));
    options.revocation_lists = vec![place.scratch.write("clients.crl", clients.revoke(&[&bad.certificate]))];
    let after = load(&options);
    assert_eq!(check(&after, chain, NOW_S), Err(TlsFault::CertificateRevoked));
    assert_eq!(check(&after, std::slice::from_ref(&good.certificate), NOW_S), Ok(()));
    options.client_authorities = vec![place.scratch.write("clients.pem", Authority::new("new").issuer.pem())];
    options.revocation_lists.clear();
    assert_eq!(check(&load(&options), chain, NOW_S), Err(TlsFault::CertificateAuthorityUnknown));
    assert!(load(&place.options()).client_check().is_none());
}

#[test]
fn authorities_may_stand_in_a_directory() {
    let place = Place::new();
    let clients = Authority::new("clients");
    std::fs::create_dir(place.scratch.path("ca")).unwrap();
    let directory = place.scratch.path("ca");
    let mut options = TlsOptions {
        client_certificate: ClientCertificate::Required,
        client_authorities: vec![directory],
        ..place.options()
    };
    assert!(only_fault(&options).contains("is a directory without certificates"));
    place.scratch.write("ca/readme.txt", "not one");
    place.scratch.write("ca/clients.crt", clients.issuer.pem());
    let leaf = client_leaf(&clients, |_| {});
    assert!(handshake(&load(&options).config, &place.client_of(&[&TLS13], Some(vec![&leaf])), "localhost").is_ok());
    options.revocation_lists = vec![place.scratch.write("no.crl", "nothing")];
    assert!(only_fault(&options).contains("has no PEM inside"));
    options.revocation_lists = vec![place.scratch.write("no.crl", clients.issuer.pem())];
    assert!(only_fault(&options).contains("has no revocation list inside"));
}
