//! Each transport, with clients that we did not write.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::breakwater;
use crate::ports::{Folder, Ports};
use crate::program::{Program, absent, installed};
use crate::scripts::{mqtt_js_at, paho_at, repository};

/// Says with `openssl` what a certificate is to be.
struct Authority<'a> {
    folder: &'a Folder,
}

fn openssl(arguments: &[&str]) -> Vec<String> {
    Program::start(Command::new("openssl").args(arguments)).succeed()
}

impl<'a> Authority<'a> {
    fn new(folder: &'a Folder) -> Self {
        let path = |name: &str| folder.file(name).display().to_string();
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=Clients",
            "-keyout",
            &path("clients.key"),
            "-out",
            &path("clients.pem"),
        ]);
        Authority { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.file(name).display().to_string()
    }

    /// Key and certificate of a client, signed or not; `days` may be such that it has expired.
    fn client(&self, name: &str, extra: &[&str]) -> (PathBuf, PathBuf) {
        let (key, request, pem) =
            (self.path(&format!("{name}.key")), self.path(&format!("{name}.csr")), self.path(&format!("{name}.pem")));
        openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            &format!("/CN={name}"),
            "-keyout",
            &key,
            "-out",
            &request,
        ]);
        let extension = self.folder.write("client.ext", "extendedKeyUsage=clientAuth\n").display().to_string();
        let (ca, ca_key) = (self.path("clients.pem"), self.path("clients.key"));
        let mut command = vec![
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            &extension,
            "-out",
            &pem,
        ];
        command.extend(extra);
        openssl(&command);
        (pem.into(), key.into())
    }
}

/// One message by `mosquitto_pub`, awaited by `mosquitto_sub`, both with these flags.
fn mosquitto_round_trip(flags: &[&str]) {
    let (Some(publish), Some(subscribe)) =
        (installed("mosquitto_pub", "mosquitto-clients"), installed("mosquitto_sub", "mosquitto-clients"))
    else {
        return;
    };
    // Retained: what a subscriber that pipes its output has seen is known only when it has ended.
    let message = ["-t", "over/it", "-m", "works", "-q", "1", "-r"];
    Program::start(Command::new(publish).args(flags).args(message)).succeed();
    let wanted = ["-t", "over/#", "-q", "1", "-C", "1", "-v"];
    let lines = Program::start(Command::new(subscribe).args(flags).args(wanted)).succeed();
    assert!(lines.iter().any(|line| line == "over/it works"), "{lines:?}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

#[test]
fn mosquitto_clients_come_over_tls_with_the_authority_of_the_first_start() {
    let ports = Ports::open(&["tls"]);
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for tls in ["tlsv1.2", "tlsv1.3"] {
            let (port, ca) = (ports.port("tls"), ports.ca());
            mosquitto_round_trip(&[
                "-h",
                "localhost",
                "-p",
                &port,
                "--cafile",
                text(&ca),
                "-V",
                version,
                "--tls-version",
                tls,
            ]);
        }
    }
}

#[test]
fn a_client_that_does_not_trust_the_authority_is_told_of_in_the_log() {
    let ports = Ports::open(&["tls"]);
    let Some(publish) = installed("mosquitto_pub", "mosquitto-clients") else { return };
    let other = Folder::new();
    Authority::new(&other);
    let (port, ca) = (ports.port("tls"), other.file("clients.pem"));
    let ended = Program::start(Command::new(publish).args([
        "-h",
        "localhost",
        "-p",
        &port,
        "--cafile",
        text(&ca),
        "-t",
        "a",
        "-m",
        "b",
    ]))
    .finish();
    assert!(!ended.status.success());
    ports.logs(|line| line.contains("does not trust") || line.contains("doesn't trust"));
}

#[test]
fn client_certificates_are_asked_for_and_checked() {
    let Some(publish) = installed("mosquitto_pub", "mosquitto-clients") else { return };
    let folder = Folder::new();
    let authority = Authority::new(&folder);
    let good = authority.client("meter-7", &["-days", "30"]);
    let expired = authority.client("late", &["-days", "-1"]);
    let strangers = Folder::new();
    let stranger = Authority::new(&strangers).client("stranger", &["-days", "30"]);
    // A broker for each: what is refused again and again is told of only now and then.
    for (shown, refused) in [
        (Some(&good), None),
        (None, Some("has shown no certificate")),
        (Some(&expired), Some("expired")),
        (Some(&stranger), Some("certificate is refused")),
    ] {
        let configuration = format!(
            "[listeners]\ndefaults = false\n[listeners.tls.default]\nbind = \"127.0.0.1:0\"\n[listeners.tls.default.tls]\n\
             client_certificate = \"required\"\nclient_authorities = [\"{}\"]\nusername_from = \"cn\"\n",
            folder.file("clients.pem").display()
        );
        let ports = Ports::configured(Folder::new(), &configuration);
        let (port, ca) = (ports.port("tls"), ports.ca());
        let mut flags = vec!["-h", "localhost", "-p", &port, "--cafile", text(&ca)];
        if let Some((certificate, key)) = shown {
            flags.extend(["--cert", text(certificate), "--key", text(key)]);
        }
        if let Some(why) = refused {
            let ended = Program::start(Command::new(&publish).args(&flags).args(["-t", "a", "-m", "b"])).finish();
            assert!(!ended.status.success(), "{why}");
            ports.logs(|line| line.contains("refused") && line.contains(why));
        } else {
            mosquitto_round_trip(&flags);
            ports.logs(|line| line.contains("user=\"meter-7\""));
        }
    }
}

#[test]
fn paho_clients_come_over_tls_websocket_and_both() {
    let ports = Ports::open(&["tls", "ws", "wss"]);
    for scheme in ["tls", "ws", "wss"] {
        for (version, scenario) in [("3.1.1", "qos"), ("5", "qos"), ("5", "large"), ("3.1.1", "resume")] {
            paho_at(&ports.url(scheme), Some(&ports.ca()), version, scenario);
        }
    }
}

#[test]
fn mqtt_js_clients_come_over_tls_websocket_and_both() {
    let ports = Ports::open(&["tls", "ws", "wss"]);
    for scheme in ["tls", "ws", "wss"] {
        for (version, scenario) in [("3.1.1", "qos"), ("5", "qos"), ("5", "large"), ("3.1.1", "resume")] {
            mqtt_js_at(&ports.url(scheme), Some(&ports.ca()), version, scenario);
        }
    }
}

#[test]
fn a_thousand_mqtt_js_clients_come_over_tls() {
    let ports = Ports::open(&["tls"]);
    mqtt_js_at(&ports.url("tls"), Some(&ports.ca()), "5", "crowd");
}

#[test]
fn our_own_clients_come_over_every_transport() {
    let ports = Ports::open(&["tcp", "tls", "ws", "wss", "quic"]);
    for scheme in ["tcp", "tls", "ws", "wss", "quic"] {
        let url = ports.url(scheme);
        let ca = ports.ca();
        let tls: &[&str] = if matches!(scheme, "tls" | "wss" | "quic") { &["--cafile", text(&ca)] } else { &[] };
        let lines = Program::start(breakwater().arg("test").arg(&url).args(tls)).succeed();
        assert!(lines.iter().any(|line| line.starts_with("pass")), "{url}: {lines:?}");
        if !tls.is_empty() {
            assert!(lines.iter().any(|line| line.contains("TLSv1_3")), "{url}: {lines:?}");
        }
    }
}

#[test]
fn a_page_in_chromium_comes_from_this_host_and_not_from_another() {
    let Some(node) = installed("node", "nodejs") else { return };
    if !Path::new("/usr/bin/chromium").is_file() {
        return absent("chromium is not installed");
    }
    let ports = Ports::open(&["ws", "wss"]);
    let script = repository().join("tests/e2e/js/browser.mjs");
    let spki = server_key_hash(&ports.folder.file("tls/server.pem"));
    for (url, origin, expected) in [
        (format!("ws://localhost:{}/mqtt", ports.port("ws")), "localhost", "works"),
        (format!("wss://localhost:{}/mqtt", ports.port("wss")), "localhost", "works"),
        (format!("ws://localhost:{}/mqtt", ports.port("ws")), "elsewhere.example", "refused"),
    ] {
        let mut command = Command::new(&node);
        command.arg(&script).args([&url, origin, expected]).env("BREAKWATER_SPKI", &spki);
        Program::start(&mut command).succeed();
    }
}

/// As Chromium takes it: SHA-256 of the public key, in base64.
fn server_key_hash(certificate: &Path) -> String {
    let command = format!(
        "openssl x509 -in '{}' -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
        certificate.display()
    );
    Program::start(Command::new("sh").args(["-c", &command])).succeed().concat()
}

#[test]
fn only_safe_versions_and_ciphers_are_spoken() {
    let Some(scan) = installed("sslscan", "sslscan") else { return };
    let ports = Ports::open(&["tls"]);
    let lines = Program::start(Command::new(scan).args([
        "--no-colour",
        "--no-heartbleed",
        &format!("127.0.0.1:{}", ports.port("tls")),
    ]))
    .succeed();
    let told = |line: &&String| line.ends_with("enabled") || line.ends_with("disabled");
    let versions = |line: &&String| line.starts_with("SSLv") || line.starts_with("TLSv1");
    let protocols: Vec<&String> = lines.iter().filter(versions).filter(told).collect();
    for line in &protocols {
        let safe = line.starts_with("TLSv1.2") || line.starts_with("TLSv1.3");
        assert_eq!(line.contains("enabled"), safe, "{lines:#?}");
    }
    assert!(protocols.len() >= 4, "{lines:#?}");
    let ciphers: Vec<&String> =
        lines.iter().filter(|line| line.starts_with("Preferred") || line.starts_with("Accepted")).collect();
    assert!(ciphers.len() >= 5, "{lines:#?}");
    for line in ciphers {
        assert!(line.contains("GCM") || line.contains("CHACHA20"), "{line}");
    }
}

#[test]
fn openssl_finds_alpn_and_a_chain_that_it_can_check() {
    let ports = Ports::open(&["tls"]);
    let (address, ca) = (format!("localhost:{}", ports.port("tls")), ports.ca());
    let arguments = [
        "s_client",
        "-connect",
        &address,
        "-CAfile",
        text(&ca),
        "-verify_return_error",
        "-alpn",
        "mqtt",
        "-verify_hostname",
        "localhost",
    ];
    let lines = Program::start(Command::new("openssl").args(arguments)).succeed();
    assert!(lines.iter().any(|line| line.contains("ALPN protocol: mqtt")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("Verify return code: 0")), "{lines:#?}");
}

#[test]
fn wrong_protocols_are_told_of_and_harm_nobody() {
    let ports = Ports::open(&["tcp", "tls", "ws"]);
    let Some(publish) = installed("mosquitto_pub", "mosquitto-clients") else { return };
    let ca = ports.ca();
    // TLS at the plain port, plain MQTT at the TLS port, plain MQTT at the WebSocket port.
    for (port, flags, hint) in [
        (ports.port("tcp"), vec!["--cafile", text(&ca)], "TLS"),
        (ports.port("tls"), vec![], "plain MQTT"),
        (ports.port("ws"), vec![], "plain MQTT"),
    ] {
        let ended = Program::start(
            Command::new(&publish).args(["-h", "localhost", "-p", &port, "-t", "a", "-m", "b"]).args(flags),
        )
        .finish();
        assert!(!ended.status.success());
        ports.logs(|line| line.contains(hint));
    }
    mosquitto_round_trip(&["-h", "localhost", "-p", &ports.port("tls"), "--cafile", text(&ca)]);
}
