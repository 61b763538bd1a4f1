use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use breakwater_transport::tls::{CertificateFiles, OcspSource, Tls, TlsOptions, load_server};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair, SerialNumber,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::*;

#[test]
fn addresses_of_responders_are_taken_apart() {
    for (url, expected) in [
        ("http://ocsp.example", Ok(("ocsp.example", "/"))),
        ("http://ocsp.example:81/a/b?c", Ok(("ocsp.example:81", "/a/b?c"))),
        ("http://[::1]:81/", Ok(("[::1]:81", "/"))),
        ("https://ocsp.example", Err(())),
        ("http:///x", Err(())),
        ("http://user@host/", Err(())),
        ("http://a/\r\nX: y", Err(())),
        ("http://a b/", Err(())),
    ] {
        assert_eq!(split_url(url).map_err(|_| ()), expected, "{url}");
    }
}

#[test]
fn an_answer_ends_where_it_says_or_where_the_connection_ends() {
    let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabcd";
    for cut in 0..whole.len() - 1 {
        assert_eq!(content(&whole[..cut], false), Ok(None));
        assert!(content(&whole[..cut], true).is_err());
    }
    assert_eq!(content(whole, false), Ok(Some(b"abc".as_slice())));
    let endless = b"HTTP/1.0 200 OK\r\nDate: x\r\n\r\nabcd";
    assert_eq!(content(endless, false), Ok(None));
    assert_eq!(content(endless, true), Ok(Some(b"abcd".as_slice())));
    for bad in [
        "HTTP/1.1 404 Not Found\r\n\r\n",
        "SSH-2.0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        assert!(content(bad.as_bytes(), false).is_err(), "{bad}");
    }
}

/// `openssl ocsp` on a port of its own choice; ends with its value.
struct Responder {
    child: Child,
    port: u16,
}

impl Responder {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new("openssl")
            .args("ocsp -port 0 -ndays 2 -index index -CA ca.pem -rsigner ca.pem -rkey ca.key".split(' '))
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is installed");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split_whitespace().nth(1).expect("ACCEPT address PID");
        let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        Self { child, port }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An authority and a certificate that names a responder on `port`.
fn certificates(place: &Path, authority: &CertifiedIssuer<'_, KeyPair>, port: u16) -> CertificateFiles {
    let url = format!("http://127.0.0.1:{port}/");
    let access = [&[0x06, 8, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 0x86, url.len() as u8], url.as_bytes()].concat();
    let nested = [&[0x30, access.len() as u8 + 2, 0x30, access.len() as u8], access.as_slice()].concat();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.serial_number = Some(SerialNumber::from(0x1234));
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], nested)];
    let key = KeyPair::generate().unwrap();
    let leaf = params.signed_by(&key, authority).unwrap();
    std::fs::write(place.join("server.pem"), leaf.pem() + &authority.pem()).unwrap();
    std::fs::write(place.join("server.key"), key.serialize_pem()).unwrap();
    CertificateFiles {
        certificate: place.join("server.pem"),
        key: place.join("server.key"),
        ocsp: Some(OcspSource::Fetch),
        ..CertificateFiles::default()
    }
}

/// Remembers what was stapled, and believes everything.
#[derive(Debug, Default)]
struct Curious(Mutex<Vec<u8>>);

impl ServerCertVerifier for Curious {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.0.lock().unwrap() = ocsp.to_vec();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}

/// What a client of `server` gets stapled.
fn stapled(server: &ServerTls) -> Vec<u8> {
    let curious = Arc::new(Curious::default());
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(curious.clone())
        .with_no_client_auth();
    let mut client = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut tls = Tls::server(server.config.clone()).unwrap();
    let (mut flight, mut reply) = (Vec::new(), Vec::new());
    client.write_tls(&mut flight).unwrap();
    tls.on_bytes(&mut flight, &mut Vec::new(), &mut reply).unwrap();
    let mut reply = reply.as_slice();
    while !reply.is_empty() {
        client.read_tls(&mut reply).unwrap();
        client.process_new_packets().unwrap();
    }
    let bytes = curious.0.lock().unwrap();
    bytes.clone()
}

#[test]
fn an_answer_is_fetched_from_a_responder_and_shown_to_clients() {
    let place = Place(std::env::temp_dir().join(format!("breakwater-ocsp-{}", std::process::id())));
    std::fs::create_dir_all(&place.0).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "servers");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    std::fs::write(place.0.join("ca.pem"), authority.pem()).unwrap();
    std::fs::write(place.0.join("ca.key"), authority.key().serialize_pem()).unwrap();
    for (index, good) in [
        ("V\t350101000000Z\t\t1234\tunknown\t/CN=x\n", true),
        ("R\t350101000000Z\t250101000000Z\t1234\tunknown\t/CN=x\n", false),
    ] {
        std::fs::write(place.0.join("index"), index).unwrap();
        let responder = Responder::start(&place.0);
        let files = certificates(&place.0, &authority, responder.port);
        let options = TlsOptions { certificates: vec![files.clone()], ..TlsOptions::default() };
        let server = load_server(&options, unix_s().unsigned_abs()).map_err(|faults| format!("{faults:?}")).unwrap();
        assert_eq!(stapled(&server), b"");
        let (tell, told) = mpsc::channel();
        let stapler = Stapler::start(server.clone(), move |note| tell.send(note).unwrap()).unwrap().unwrap();
        let note = told.recv_timeout(Duration::from_secs(60)).unwrap();
        assert_eq!(note.certificate, files.certificate);
        assert_eq!(stapler.notes(), std::slice::from_ref(&note));
        assert_eq!(note.warning().is_none(), good);
        if good {
            assert!(note.outcome.unwrap() > unix_s() + 86_400);
            assert!(stapled(&server).len() > 100);
        } else {
            assert!(note.outcome.unwrap_err().contains("REVOKED"));
            assert_eq!(stapled(&server), b"");
        }
        drop(stapler);
        // The thread goes, and its sender with it.
        assert!(told.recv().is_err());
    }
}

#[test]
fn a_responder_that_is_away_is_named_and_asked_again_later() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let why = post(&format!("http://127.0.0.1:{port}/"), b"x").unwrap_err();
    assert!(why.contains(&format!("127.0.0.1:{port} can't be reached")), "{why}");
}

#[test]
fn nothing_to_ask_needs_no_thread() {
    let place = Place(std::env::temp_dir().join(format!("breakwater-ocsp-none-{}", std::process::id())));
    std::fs::create_dir_all(&place.0).unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(place.0.join("a.pem"), made.cert.pem()).unwrap();
    std::fs::write(place.0.join("a.key"), made.signing_key.serialize_pem()).unwrap();
    let files = CertificateFiles {
        certificate: place.0.join("a.pem"),
        key: place.0.join("a.key"),
        ..CertificateFiles::default()
    };
    let options = TlsOptions { certificates: vec![files], ..TlsOptions::default() };
    let server = load_server(&options, unix_s().unsigned_abs()).map_err(|faults| format!("{faults:?}")).unwrap();
    assert!(Stapler::start(server, |_| {}).unwrap().is_none());
}
