use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use breakwater_transport::tls::self_made::{Wanted, ensure};
use breakwater_transport::tls::{TlsOptions, load_server};
use rcgen::{BasicConstraints, IsCa, Issuer};

use super::*;
use crate::folder::tests::Scratch;

/// An authority that tells when certificates are to be renewed, and nothing else. Answers its port, and the paths that it was
/// asked for.
fn authority(scratch: &Scratch, answer: &'static str) -> (u16, mpsc::Receiver<String>) {
    let own = ensure(&scratch.0.join("tls"), &Wanted::default(), now_s()).unwrap().server;
    let options = TlsOptions { certificates: vec![own], ..TlsOptions::default() };
    let config = load_server(&options, now_s()).unwrap().config;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, asked) = mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = BufReader::new(rustls::StreamOwned::new(connection, stream.unwrap()));
            let mut line = String::new();
            // A client that doesn't trust us says no more.
            if stream.read_line(&mut line).is_err() {
                continue;
            }
            let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
            while line.trim() != "" {
                line.clear();
                stream.read_line(&mut line).unwrap();
            }
            let body = match path.as_str() {
                "/dir" => format!(
                    "{{\"newNonce\": \"x\", \"newAccount\": \"x\", \"newOrder\": \"x\", \"revokeCert\": \"x\", \
                     \"keyChange\": \"x\", \"renewalInfo\": \"https://localhost:{port}/ari\"}}"
                ),
                _ => answer.to_owned(),
            };
            let head = "HTTP/1.1 200 OK\r\nRetry-After: 21600\r\nTransfer-Encoding: chunked";
            let _ = write!(stream.get_mut(), "{head}\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
            if tell.send(path).is_err() {
                return;
            }
        }
    });
    (port, asked)
}

fn now_s() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// With an account and a certificate of that authority.
fn kept(scratch: &Scratch, port: u16) -> (Options, Folder) {
    let options = Options {
        directory: format!("https://localhost:{port}/dir").into(),
        directory_ca: Some(scratch.0.join("tls/ca.pem")),
        domains: vec!["a.example".into()],
        ..Options::default()
    };
    let folder = Folder::new(&scratch.0.join("office"));
    let key = KeyPair::generate().unwrap();
    let key_pkcs8 = base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, key.serialize_der());
    let credentials = serde_json::json!({ "id": "x", "key_pkcs8": key_pkcs8, "directory": options.directory });
    folder
        .put_account(&KeptAccount { directory: options.directory.to_string(), email: String::new(), credentials })
        .unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(params, KeyPair::generate().unwrap());
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(vec![0x12, 0x34].into());
    let certificate = params.signed_by(&key, &issuer).unwrap();
    folder.put_pair(&key.serialize_pem(), &certificate.pem()).unwrap();
    (options, folder)
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

#[test]
fn an_authority_says_when_it_wants_a_certificate_to_be_renewed() {
    let scratch = Scratch::new();
    let window_json = "{\"suggestedWindow\": {\"start\": \"2027-01-02T00:00:00Z\", \"end\": \"2027-01-03T00:00:00Z\"}}";
    let (port, asked) = authority(&scratch, window_json);
    let (options, folder) = kept(&scratch, port);
    let ((start, end), again_s) = run(window(&options, &folder)).unwrap();
    assert_eq!((start, end), (1_798_848_000, 1_798_934_400));
    assert!((21_000..=21_600).contains(&again_s), "{again_s}");
    assert_eq!(asked.recv().unwrap(), "/dir");
    // The serial number, as RFC 9773 writes it.
    assert!(asked.recv().unwrap().ends_with(".EjQ"));
}

#[test]
fn an_answer_that_makes_no_sense_is_a_fault_and_no_more() {
    for answer in ["", "{}", "{\"suggestedWindow\": {\"start\": \"soon\", \"end\": \"later\"}}", "\u{0}"] {
        let scratch = Scratch::new();
        let (port, _asked) = authority(&scratch, answer);
        let (options, folder) = kept(&scratch, port);
        assert!(run(window(&options, &folder)).is_err(), "{answer:?}");
    }
}

#[test]
fn an_answer_without_end_is_cut_at_its_bound() {
    let scratch = Scratch::new();
    let answer: &'static str = Box::leak("x".repeat(300 * 1024).into_boxed_str());
    let (port, _asked) = authority(&scratch, answer);
    let (options, folder) = kept(&scratch, port);
    let fault = run(window(&options, &folder)).unwrap_err().to_string();
    assert!(fault.contains("can't be reached") && fault.contains("limit"), "{fault}");
}

#[test]
fn an_authority_whose_own_certificate_is_not_trusted_is_not_spoken_to() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let (port, asked) = authority(&scratch, "{}");
    let (options, folder) = kept(&scratch, port);
    ensure(&other.0.join("tls"), &Wanted::default(), now_s()).unwrap();
    let options = Options { directory_ca: Some(other.0.join("tls/ca.pem")), ..options };
    let fault = run(window(&options, &folder)).unwrap_err().to_string();
    assert!(fault.contains("certificate") && fault.contains("acme.NAME.directory_ca"), "{fault}");
    assert!(asked.try_recv().is_err());
}
