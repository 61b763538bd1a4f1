use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use super::*;
use crate::tls::pki::{Authority, Scratch, handshake, openssl};
use crate::tls::{ClientTlsOptions, Tls, TlsOptions, load_client, load_server};

/// 2026-06-01.
const NOW_S: u64 = 1_780_272_000;

fn wanted(names: &[&str], addresses: &[&str]) -> Wanted {
    Wanted {
        names: names.iter().map(|name| Box::from(*name)).collect(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
    }
}

fn facts_of(path: &Path) -> CertificateFacts {
    CertificateFacts::of(&files::load_certificates(path).unwrap()[0]).unwrap()
}

fn content(directory: &Path) -> Vec<Vec<u8>> {
    ["ca.pem", "ca.key", "server.pem", "server.key"]
        .iter()
        .map(|name| fs::read(directory.join(name)).unwrap())
        .collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_first_start_makes_all_four_files_for_their_owner_only() {
    let scratch = Scratch::new();
    let directory = scratch.path("data/tls");
    let made =
        ensure(&directory, &wanted(&["Broker.example."], &["192.0.2.7", "2001:db8::1", "0.0.0.0"]), NOW_S).unwrap();
    assert_eq!(made.outcome, Outcome::Created);
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&made.server.key), 0o600);
    assert_eq!(mode(&directory.join("ca.key")), 0o600);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 4);
    assert_eq!(fs::read_dir(scratch.path("data")).unwrap().count(), 1);
    let (authority, server) = (facts_of(&made.authority), facts_of(&made.server.certificate));
    assert!(authority.self_made && authority.self_signed && server.self_made && !server.self_signed);
    assert_eq!(authority.days_left(NOW_S as i64), 3652);
    assert_eq!(server.days_left(NOW_S as i64), 824);
    assert_eq!(server.subject.split(',').next(), Some("CN=broker.example"));
    let names = ["localhost", "broker.example", "127.0.0.1", "::1", "192.0.2.7", "2001:db8::1"];
    assert_eq!(server.names, names.map(Box::from));
}

#[test]
fn what_is_good_is_left_untouched() {
    let scratch = Scratch::new();
    let directory = scratch.path("tls");
    let all = wanted(&["a.example", "b.example"], &["192.0.2.7"]);
    ensure(&directory, &all, NOW_S).unwrap();
    let before = content(&directory);
    for wanted in [
        &all,
        &wanted(&[], &[]),
        &wanted(&["B.EXAMPLE"], &["192.0.2.7"]),
        &wanted(&["not a host name", "größe"], &["::"]),
    ] {
        for days in [0, 400, 793] {
            assert_eq!(ensure(&directory, wanted, NOW_S + days * 86_400).unwrap().outcome, Outcome::Kept);
        }
    }
    assert!(content(&directory) == before);
}

#[test]
fn a_renewed_certificate_comes_from_the_same_authority_for_the_same_key() {
    let scratch = Scratch::new();
    let directory = scratch.path("tls");
    ensure(&directory, &wanted(&[], &[]), NOW_S).unwrap();
    let before = content(&directory);
    let with_more = ensure(&directory, &wanted(&["new.example"], &["192.0.2.9"]), NOW_S).unwrap();
    assert_eq!(with_more.outcome, Outcome::Renewed("it was not good for new.example".into()));
    let later = NOW_S + 796 * 86_400;
    let with_time = ensure(&directory, &wanted(&[], &[]), later).unwrap();
    assert_eq!(with_time.outcome, Outcome::Renewed("it had 28 days left".into()));
    let after = content(&directory);
    assert!(before[..2] == after[..2] && before[3] == after[3] && before[2] != after[2]);
    assert_eq!(facts_of(&with_time.server.certificate).days_left(later as i64), 824);
    // Never longer than its authority.
    let last_year = NOW_S + 3400 * 86_400;
    ensure(&directory, &wanted(&[], &[]), last_year).unwrap();
    assert_eq!(facts_of(&directory.join("server.pem")).not_after_s, facts_of(&directory.join("ca.pem")).not_after_s);
    let fault = ensure(&directory, &wanted(&[], &[]), NOW_S + 3640 * 86_400).unwrap_err().to_string();
    assert!(fault.contains("ca.pem: this authority is about to expire: delete the four files"), "{fault}");
}

#[test]
fn half_present_files_are_refused_with_what_is_missing() {
    let names = ["ca.pem", "ca.key", "server.pem", "server.key"];
    let scratch = Scratch::new();
    let directory = scratch.path("tls");
    ensure(&directory, &wanted(&[], &[]), NOW_S).unwrap();
    let whole = content(&directory);
    for mask in 1..15u32 {
        for (at, name) in names.iter().enumerate() {
            let path = directory.join(name);
            if mask & 1 << at == 0 {
                fs::remove_file(&path).unwrap_or(())
            } else {
                fs::write(&path, &whole[at]).unwrap()
            }
        }
        let outcome = ensure(&directory, &wanted(&[], &[]), NOW_S);
        match mask {
            // A good pair of the server stays, a good authority makes one.
            0b1100..=0b1110 => assert_eq!(outcome.unwrap().outcome, Outcome::Kept),
            0b0011 => assert!(matches!(outcome.unwrap().outcome, Outcome::Renewed(_))),
            _ => {
                let fault = outcome.unwrap_err().to_string();
                assert!(fault.contains("put back what is missing, or delete all four"), "{fault}");
            }
        }
    }
    for (at, name) in names.iter().enumerate() {
        fs::write(directory.join(name), &whole[at]).unwrap();
    }
    fs::remove_file(directory.join("ca.key")).unwrap();
    let fault = ensure(&directory, &wanted(&["new.example"], &[]), NOW_S).unwrap_err().to_string();
    assert!(
        fault.contains("has ca.pem, server.pem, server.key but not ca.key, and ca.key is needed to renew"),
        "{fault}"
    );
}

#[test]
fn an_authority_with_another_key_issues_nothing() {
    let scratch = Scratch::new();
    let (directory, other) = (scratch.path("tls"), scratch.path("other"));
    ensure(&directory, &wanted(&[], &[]), NOW_S).unwrap();
    ensure(&other, &wanted(&[], &[]), NOW_S).unwrap();
    fs::copy(other.join("ca.key"), directory.join("ca.key")).unwrap();
    let before = content(&directory);
    let fault = ensure(&directory, &wanted(&["new.example"], &[]), NOW_S).unwrap_err().to_string();
    assert!(fault.contains("ca.key: does not belong to ca.pem"), "{fault}");
    assert!(content(&directory) == before);
}

#[test]
fn a_certificate_of_the_operator_is_never_replaced() {
    let scratch = Scratch::new();
    let directory = scratch.path("tls");
    ensure(&directory, &wanted(&[], &[]), NOW_S).unwrap();
    let leaf =
        Authority::new("company").issue(&["only.example"], |params| params.not_after = date_time_ymd(2026, 6, 2));
    fs::write(directory.join("server.pem"), leaf.pem).unwrap();
    fs::write(directory.join("server.key"), leaf.key.serialize_pem()).unwrap();
    let before = content(&directory);
    assert_eq!(ensure(&directory, &wanted(&["new.example"], &[]), NOW_S).unwrap().outcome, Outcome::Kept);
    assert!(content(&directory) == before);
}

#[test]
fn a_start_that_was_cut_off_leaves_nothing_in_the_way() {
    let scratch = Scratch::new();
    let directory = scratch.path("tls");
    fs::create_dir(scratch.path("tls.new")).unwrap();
    scratch.write("tls.new/ca.key", "half a key");
    assert_eq!(ensure(&directory, &wanted(&[], &[]), NOW_S).unwrap().outcome, Outcome::Created);
    assert!(!scratch.path("tls.new").exists());
    // A directory that is there already keeps what else it holds.
    let busy = scratch.path("busy");
    fs::create_dir(&busy).unwrap();
    scratch.write("busy/notes", "mine");
    scratch.write("busy/.ca.key.new", "half a key");
    assert_eq!(ensure(&busy, &wanted(&[], &[]), NOW_S).unwrap().outcome, Outcome::Created);
    assert_eq!(mode(&busy.join("ca.key")), 0o600);
    assert_eq!(fs::read_dir(&busy).unwrap().count(), 5);
}

#[test]
fn a_clock_that_was_never_set_makes_certificates_that_count_later() {
    let scratch = Scratch::new();
    let directory = scratch.path("tls");
    let made = ensure(&directory, &wanted(&[], &[]), 100_000).unwrap();
    for path in [&made.authority, &made.server.certificate] {
        let facts = facts_of(path);
        assert!(facts.not_before_s < 100_000 && facts.days_left(CLOCK_FLOOR_S) >= 824);
    }
    assert_eq!(ensure(&directory, &wanted(&[], &[]), NOW_S).unwrap().outcome, Outcome::Kept);
}

#[test]
fn a_place_that_can_not_be_written_is_named() {
    let scratch = Scratch::new();
    let file = scratch.write("file", "");
    let fault = ensure(&file.join("tls"), &wanted(&[], &[]), NOW_S).unwrap_err().to_string();
    assert!(fault.contains("file/tls: can't be written: "), "{fault}");
}

#[test]
fn openssl_is_strict_and_content() {
    let scratch = Scratch::new();
    let directory = scratch.path("tls");
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for round in 0..2 {
        let more: &[&str] = if round == 0 { &[] } else { &["renewed.example"] };
        let made = ensure(&directory, &wanted(more, &["192.0.2.7"]), now_s).unwrap();
        let (authority, server) = (made.authority.display(), made.server.certificate.display());
        for check in ["-verify_hostname localhost", "-verify_ip 127.0.0.1", "-verify_ip ::1", "-verify_ip 192.0.2.7"] {
            openssl(&format!("verify -x509_strict -purpose sslserver -CAfile {authority} {check} {server}"), b"");
        }
        openssl(&format!("verify -x509_strict -CAfile {authority} {authority}"), b"");
        let options = TlsOptions { certificates: vec![made.server.clone()], ..TlsOptions::default() };
        let server = load_server(&options, now_s).map_err(|faults| format!("{faults:?}")).unwrap();
        assert_eq!(server.warnings, []);
        let client =
            load_client(&ClientTlsOptions { authorities: vec![made.authority], ..Default::default() }).unwrap();
        for name in ["localhost", "127.0.0.1", "192.0.2.7"] {
            assert!(handshake(&server.config, &client, name).is_ok());
        }
    }
}

/// One client of a broker that knows just enough MQTT 3.1.1 to be published to. Answers all that it said.
fn serve_one(listener: &TcpListener, options: &TlsOptions) -> Vec<u8> {
    let config = load_server(options, NOW_S).map_err(|faults| format!("{faults:?}")).unwrap().config;
    let (mut socket, _) = listener.accept().unwrap();
    let mut tls = Tls::server(config).unwrap();
    let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let count = socket.read(&mut buffer).unwrap();
        let mut reply = Vec::new();
        let before = said.len();
        let progress = tls.on_bytes(&mut buffer[..count], &mut said, &mut reply).unwrap();
        if before == 0 && said.first() == Some(&0x10) {
            tls.encrypt(&[0x20, 2, 0, 0], &mut reply).unwrap();
        }
        if count == 0 || progress.closed {
            return said;
        }
        socket.write_all(&reply).unwrap();
    }
}

#[test]
fn mosquitto_pub_accepts_the_certificate() {
    let scratch = Scratch::new();
    let now_s = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let made = ensure(&scratch.path("tls"), &wanted(&[], &[]), now_s).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    for version in ["tlsv1.2", "tlsv1.3"] {
        let client = Command::new("mosquitto_pub")
            .args(["-h", "localhost", "-p", &port, "-t", "t", "-m", "hello", "--tls-version", version, "--cafile"])
            .arg(&made.authority)
            .spawn()
            .expect("mosquitto_pub is installed");
        let options = TlsOptions { certificates: vec![made.server.clone()], ..TlsOptions::default() };
        let said = serve_one(&listener, &options);
        assert!(client.wait_with_output().unwrap().status.success());
        assert!(said.windows(5).any(|window| window == b"hello"));
    }
}
