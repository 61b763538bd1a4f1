//! Certificates by ACME, from Pebble, the authority that Let's Encrypt tests clients with.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::broker::breakwater;
use crate::ports::{Folder, Ports};
use crate::program::{DEADLINE, Ended, Program, installed};

/// A port that was free a moment ago: Pebble can't choose one by itself and tell.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has ports").port()
}

/// A broker with a TLS port, and an authority that comes to it.
struct Site {
    ports: Ports,
    pebble: Program,
    directory: String,
    /// Where the authority's root is told.
    management: u16,
    /// Where the authority asks by HTTP.
    http: u16,
    publish: PathBuf,
}

const LISTENERS: &str = "[listeners]\ndefaults = false\n[listeners.tls.default]\nbind = \"127.0.0.1:0\"\n";

/// `rejected`: percentage of good nonces that the authority refuses, as real ones do now and then.
fn site(rejected: u8, further: &str) -> Option<Site> {
    let pebble = installed("pebble", "pebble")?;
    let publish = installed("mosquitto_pub", "mosquitto-clients")?;
    let ports = Ports::configured(Folder::new(), LISTENERS);
    let (listen, management, http) = (free_port(), free_port(), free_port());
    let file = |name: &str| ports.folder.file(name).display().to_string();
    let config = format!(
        "{{\"pebble\": {{\"listenAddress\": \"127.0.0.1:{listen}\", \"managementListenAddress\": \"127.0.0.1:{management}\", \
         \"certificate\": \"{}\", \"privateKey\": \"{}\", \"httpPort\": {http}, \"tlsPort\": {}, \
         \"ocspResponderURL\": \"\"{further}}}}}",
        file("tls/server.pem"),
        file("tls/server.key"),
        ports.port("tls"),
    );
    let config = ports.folder.write("pebble.json", &config);
    let mut command = Command::new(pebble);
    command.arg("-config").arg(config).current_dir(ports.folder.path());
    command.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", rejected.to_string());
    // It remembers proofs: then there would be nothing to prove at a renewal.
    command.env("PEBBLE_AUTHZREUSE", "0");
    let pebble = Program::start(&mut command);
    pebble.line(|line| line.contains("ACME directory available"));
    Some(Site { ports, pebble, directory: format!("https://localhost:{listen}/dir"), management, http, publish })
}

impl Site {
    /// Has the broker take up a section of this kind.
    fn order(&self, challenge: &str, domain: &str, further: &str) {
        self.order_for("", challenge, domain, further);
    }

    /// The same, with further settings of the listener.
    fn order_for(&self, listener: &str, challenge: &str, domain: &str, further: &str) {
        let text = format!(
            "{LISTENERS}{listener}tls.acme = \"office\"\n[acme.office]\ndirectory = \"{}\"\ndirectory_ca = \"tls/ca.pem\"\n\
             domains = \"{domain}\"\nterms_agreed = true\nchallenge = \"{challenge}\"\nbind = \"127.0.0.1:{}\"\n{further}",
            self.directory, self.http
        );
        self.ports.folder.write("breakwater.toml", &text);
        self.done(&["reload"]);
    }

    fn ask(&self, words: &[&str]) -> Ended {
        Program::start(breakwater().args(words).arg("--data").arg(self.ports.folder.path())).finish()
    }

    fn done(&self, words: &[&str]) -> Vec<String> {
        let ended = self.ask(words);
        assert!(ended.status.success(), "{words:?}: {:?}; {}", ended.lines, self.pebble.told());
        ended.lines
    }

    /// Waits until so many certificates were got and the listener shows the last one.
    fn got(&self, count: usize) {
        self.ports.log_lines(count, |line| line.contains("acme.office: got a certificate"));
        let (pair, until) = (self.pair(), Instant::now() + DEADLINE);
        while !pair.contains(&self.shown()) {
            assert!(Instant::now() < until, "the listener doesn't take up {pair}");
        }
    }

    /// The certificate that the listener shows.
    fn shown(&self) -> String {
        certificate(&self.openssl(&["-connect", &self.ports.address("tls"), "-servername", "localhost"], ""))
    }

    fn openssl(&self, words: &[&str], input: &str) -> Vec<String> {
        let openssl = installed("openssl", "openssl").expect("the keys of these tests come from it");
        Program::start_with_input(Command::new(openssl).arg("s_client").args(words), input).finish().lines
    }

    /// The authority's root, which nobody knows before it has started.
    fn root(&self) -> PathBuf {
        let place = format!("127.0.0.1:{}", self.management);
        let answer = self.openssl(&["-quiet", "-connect", &place], "GET /roots/0 HTTP/1.0\r\n\r\n");
        self.ports.folder.write("root.pem", &(certificate(&answer) + "\n"))
    }

    /// Whether a client that trusts this authority alone gets in.
    fn lets_in(&self, authority: &PathBuf) -> bool {
        let mut command = Command::new(&self.publish);
        command.args(["-h", "localhost", "-p", &self.ports.port("tls"), "-t", "a", "-m", "b", "-q", "1", "--cafile"]);
        Program::start(command.arg(authority)).finish().status.success()
    }

    fn pair(&self) -> String {
        std::fs::read_to_string(self.ports.folder.file("tls/acme/office/pair.pem")).expect("it is there")
    }
}

/// The first certificate in a text.
fn certificate(lines: &[String]) -> String {
    let begin = lines.iter().position(|line| line.starts_with("-----BEGIN CERTIFICATE"));
    let end = lines.iter().position(|line| line.starts_with("-----END CERTIFICATE"));
    let (Some(begin), Some(end)) = (begin, end) else { panic!("no certificate in {lines:#?}") };
    lines[begin..=end].join("\n")
}

#[test]
fn a_certificate_comes_by_tls_alpn_01_and_nobody_is_disconnected_for_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let Some(site) = site(0, "") else { return };
    let own = site.ports.ca();
    let url = format!("mqtts://localhost:{}", site.ports.port("tls"));
    let mut stays = breakwater();
    stays.args(["sub", "-L", &(url.clone() + "/stays"), "-C", "2", "-d", "--cafile"]).arg(&own);
    let stays = Program::start(&mut stays);
    stays.line(|line| line.contains("SUBACK"));
    site.order("tls-alpn-01", "localhost", "");
    site.got(1);
    let root = site.root();
    assert!(site.lets_in(&root) && !site.lets_in(&own), "the new certificate is shown, and not the self-made one");
    let say = |text: &str, authority: &PathBuf| {
        let mut command = Command::new(&site.publish);
        command.args(["-h", "localhost", "-p", &site.ports.port("tls"), "-t", "stays", "-m", text, "--cafile"]);
        Program::start(command.arg(authority)).succeed();
        stays.line(|line| line == text);
    };
    say("all along", &root);

    let first = site.pair();
    site.done(&["acme", "renew", "office"]);
    site.got(2);
    assert_ne!(site.pair(), first);
    assert!(site.lets_in(&root));
    say("and on", &root);
    for name in ["pair.pem", "account.json", "state.json"] {
        let path = site.ports.folder.file("tls/acme/office").join(name);
        let mode = std::fs::metadata(path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let shown = site.done(&["acme"]).join("\n");
    assert!(shown.contains("office: localhost from https://") && shown.contains("good for"), "{shown}");
    assert!(site.ask(&["acme", "renew", "nobody"]).lines.concat().contains("there are office"));
}

#[test]
fn a_certificate_comes_by_http_01_from_an_authority_that_refuses_nonces() {
    let Some(site) = site(15, "") else { return };
    site.order("http-01", "localhost", "");
    // Three refusals in a row are a failure, and that is as it should be: the next try comes later, or when somebody wants it.
    for tries in 1.. {
        let is_end = |line: &str| line.contains("acme.office: got") || line.contains("acme.office: no certificate");
        let ends = site.ports.log_lines(tries, is_end);
        if ends.iter().any(|line| line.contains("acme.office: got")) {
            break;
        }
        assert!(ends.iter().all(|line| line.contains("nonce")), "{ends:#?}");
        site.done(&["acme", "renew", "office"]);
    }
    site.got(1);
    assert!(site.lets_in(&site.root()));
    let gone = std::net::TcpStream::connect(("127.0.0.1", site.http));
    assert!(gone.is_err(), "the responder is open only while it is needed");
}

#[test]
fn a_failed_order_leaves_the_certificate_and_says_what_to_do() {
    let Some(mut site) = site(0, "") else { return };
    site.order("tls-alpn-01", "localhost", "");
    site.got(1);
    let before = site.pair();
    // The responder listens where the authority doesn't come.
    site.http = free_port();
    site.order("http-01", "localhost", "");
    site.done(&["acme", "renew", "office"]);
    let line = site.ports.logs(|line| line.contains("no certificate for localhost"));
    for part in ["port 80", "firewall", "acme.office.bind", "the present one stays in use", "next try in"] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert_eq!(site.pair(), before);
    assert!(before.contains(&site.shown()) && site.lets_in(&site.root()));
    let shown = site.done(&["acme"]).join("\n");
    assert!(shown.contains("last failure localhost: ") && shown.contains("failures in a row: 1"), "{shown}");
    let found = site.ask(&["doctor"]).lines.join("\n");
    assert!(found.contains("acme.office: the certificate could not be ordered"), "{found}");
    assert!(found.contains("breakwater acme renew office"), "{found}");
}

#[test]
fn an_account_is_bound_to_another_where_the_authority_wants_that() {
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let further =
        format!(", \"externalAccountBindingRequired\": true, \"externalAccountMACKeys\": {{\"kid-1\": \"{key}\"}}");
    let Some(site) = site(0, &further) else { return };
    site.order("tls-alpn-01", "localhost", "");
    site.ports.logs(|line| line.contains("no certificate for localhost") && line.contains("acme.office.eab_key_id"));
    site.ports.folder.write("eab", key);
    site.order("tls-alpn-01", "localhost", "eab_key_id = \"kid-1\"\neab_hmac_file = \"eab\"\n");
    site.got(1);
    assert!(!site.ports.log_lines(0, |_| true).concat().contains(key), "no secret is logged");
}

#[test]
fn a_listener_that_demands_certificates_of_clients_still_proves_its_name() {
    let Some(site) = site(0, "") else { return };
    let demands = "tls.client_certificate = \"required\"\ntls.client_authorities = \"tls/ca.pem\"\n";
    site.order_for(demands, "tls-alpn-01", "localhost", "");
    site.got(1);
    // Without a proof under way the same hello is for nobody.
    let place = site.ports.address("tls");
    let refused = site.openssl(&["-connect", &place, "-servername", "localhost", "-alpn", "acme-tls/1"], "");
    assert!(!refused.iter().any(|line| line.contains("BEGIN CERTIFICATE")), "{refused:#?}");
    assert!(refused.iter().any(|line| line.contains("no application protocol")), "{refused:#?}");
}

#[test]
fn a_restart_orders_nothing_that_is_there() {
    let Some(mut site) = site(0, "") else { return };
    site.order("tls-alpn-01", "localhost", "");
    site.got(1);
    let before = site.pair();
    site.ports = site.ports.killed_and_started();
    assert!(before.contains(&site.shown()), "it is shown from the first moment on");
    assert!(site.lets_in(&site.root()));
    let shown = loop {
        // Its thread has only begun.
        let shown = site.done(&["acme"]).join("\n");
        if shown.contains("good for") {
            break shown;
        }
    };
    assert!(shown.contains("next order   in") && shown.contains("days"), "{shown}");
    assert_eq!(site.pair(), before);
    assert!(site.ports.log_lines(0, |line| line.contains("acme.office")).is_empty());
}
