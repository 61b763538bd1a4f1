use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConnection, Resumption};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion};

use super::*;
use crate::tls::pki::{openssl, pair};
use crate::tls::{Tls, TlsFault};

const DIGEST: [u8; 32] = [7; 32];
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// Looks at nothing: the critical extension is one that an ordinary client may not accept.
#[derive(Debug)]
struct Blind;

impl ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519, SignatureScheme::RSA_PSS_SHA256]
    }
}

/// A client that offers these protocols.
fn client(alpn: &[&str]) -> Arc<ClientConfig> {
    let (_, pair) = pair(&BOTH);
    let mut config = Arc::unwrap_or_clone(pair);
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config.resumption = Resumption::disabled();
    config.dangerous().set_certificate_verifier(Arc::new(Blind));
    Arc::new(config)
}

/// What the client has seen: the certificate and the protocol.
fn meet(
    challenges: &Challenges,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<(Vec<u8>, Option<Vec<u8>>), TlsFault> {
    let (server, _) = pair(&BOTH);
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = Tls::server(server).unwrap().answering(challenges.clone());
    while client.wants_write() {
        let (mut flight, mut reply) = (Vec::new(), Vec::new());
        client.write_tls(&mut flight).unwrap();
        // In small parts, as a slow line brings them.
        for part in flight.chunks_mut(50) {
            server.on_bytes(part, &mut Vec::new(), &mut reply)?;
        }
        let mut reply = reply.as_slice();
        while !reply.is_empty() {
            client.read_tls(&mut reply).unwrap();
            client.process_new_packets().unwrap();
        }
    }
    assert!(!server.is_handshaking());
    let leaf = client.peer_certificates().unwrap()[0].to_vec();
    Ok((leaf, client.alpn_protocol().map(<[u8]>::to_vec)))
}

#[test]
fn the_certificate_of_a_proof_holds_its_digest_in_a_critical_extension() {
    let challenges = Challenges::default();
    let _proof = challenges.prove("MQTT.example", &DIGEST).unwrap();
    let (leaf, protocol) = meet(&challenges, &client(&[ACME_PROTOCOL]), "mqtt.example").unwrap();
    assert_eq!(protocol.as_deref(), Some(ACME_PROTOCOL.as_bytes()));
    let text = String::from_utf8(openssl("x509 -inform der -noout -text", &leaf)).unwrap();
    let extension = text.split("1.3.6.1.5.5.7.1.31").nth(1).unwrap();
    assert!(extension.trim_start_matches(':').trim_start().starts_with("critical"), "{text}");
    assert!(text.contains("DNS:MQTT.example"), "{text}");
    // An octet string of 32 bytes.
    let content = [&[0x04, 0x20][..], &DIGEST].concat();
    assert!(leaf.windows(content.len()).any(|window| window == content));
}

#[test]
fn nobody_else_is_shown_the_certificate_of_a_proof() {
    let challenges = Challenges::default();
    let proof = challenges.prove("localhost", &DIGEST).unwrap();
    let (challenge, _) = meet(&challenges, &client(&[ACME_PROTOCOL]), "localhost").unwrap();
    for alpn in [&["mqtt"][..], &[], &["mqtt", ACME_PROTOCOL], &[ACME_PROTOCOL, "mqtt"]] {
        let (leaf, protocol) = meet(&challenges, &client(alpn), "localhost").unwrap();
        assert_ne!(leaf, challenge, "{alpn:?}");
        assert_ne!(protocol.as_deref(), Some(ACME_PROTOCOL.as_bytes()), "{alpn:?}");
    }
    let elsewhere = meet(&challenges, &client(&[ACME_PROTOCOL]), "other.example");
    assert!(matches!(elsewhere, Err(TlsFault::ApplicationProtocol(_))), "{elsewhere:?}");
    drop(proof);
    let later = meet(&challenges, &client(&[ACME_PROTOCOL]), "localhost");
    assert!(matches!(later, Err(TlsFault::ApplicationProtocol(_))), "{later:?}");
}

#[test]
fn the_latest_proof_of_a_name_counts_and_each_ends_by_itself() {
    let challenges = Challenges::default();
    let first = challenges.prove("localhost", &DIGEST).unwrap();
    let (one, _) = meet(&challenges, &client(&[ACME_PROTOCOL]), "localhost").unwrap();
    let second = challenges.prove("localhost", &[8; 32]).unwrap();
    let (two, _) = meet(&challenges, &client(&[ACME_PROTOCOL]), "localhost").unwrap();
    assert_ne!(one, two);
    drop(first);
    assert_eq!(meet(&challenges, &client(&[ACME_PROTOCOL]), "localhost").unwrap().0, two);
    drop(second);
    assert!(meet(&challenges, &client(&[ACME_PROTOCOL]), "localhost").is_err());
}

#[test]
fn a_name_that_no_certificate_can_hold_is_a_fault() {
    assert!(Challenges::default().prove("größe", &DIGEST).is_err());
}

#[test]
fn a_damaged_hello_is_refused_and_never_more_than_that() {
    let challenges = Challenges::default();
    let _proof = challenges.prove("localhost", &DIGEST).unwrap();
    let (server, _) = pair(&BOTH);
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client(&[ACME_PROTOCOL]), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    for at in 0..hello.len() {
        for damage in [0x01, 0x80, 0xff] {
            let mut damaged = hello.clone();
            damaged[at] ^= damage;
            let mut tls = Tls::server(server.clone()).unwrap().answering(challenges.clone());
            let mut plain = Vec::new();
            let _ = tls.on_bytes(&mut damaged, &mut plain, &mut Vec::new());
            assert!(tls.is_handshaking() && plain.is_empty(), "byte {at}");
        }
        let mut tls = Tls::server(server.clone()).unwrap().answering(challenges.clone());
        let progress = tls.on_bytes(&mut hello[..at].to_vec(), &mut Vec::new(), &mut Vec::new());
        assert!(progress.is_ok_and(|progress| !progress.handshaken), "cut at {at}");
    }
}
