//! `breakwater users`, and whom a broker lets in.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use breakwater_proto::{Connect, Version};

use crate::broker::{Broker, breakwater};
use crate::program::{DEADLINE, Ended, Program, Signal, absent, installed};

/// A data directory for one test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("breakwater-place-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Self(std::env::temp_dir().join(name))
    }

    fn flag(&self) -> &str {
        self.0.to_str().expect("it is text")
    }

    fn users(&self, words: &[&str], input: &str) -> Ended {
        let mut command = breakwater();
        command.arg("users").args(words).args(["--data", self.flag()]);
        Program::start_with_input(&mut command, input).finish()
    }

    /// A command that goes well. Answers what it says.
    fn does(&self, words: &[&str], input: &str) -> Vec<String> {
        let ended = self.users(words, input);
        assert!(ended.status.success(), "{words:?}: {:?}", ended.lines);
        assert!(input.is_empty() || ended.lines.iter().all(|line| !line.contains(input.trim())), "{:?}", ended.lines);
        ended.lines
    }

    /// A command that is refused, with this code. Answers why.
    fn refuses(&self, code: i32, words: &[&str], input: &str) -> String {
        let ended = self.users(words, input);
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {:?}", ended.lines);
        ended.lines.join("\n")
    }

    fn add(&self, name: &str, password: &str) {
        self.does(&["add", name, "--password-file", "-"], &format!("{password}\n"));
    }

    fn file(&self) -> PathBuf {
        self.0.join("users")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An address of this machine that is not loopback.
fn outside() -> Option<IpAddr> {
    // Nothing is sent: a datagram socket that is "connected" has only picked the address that it would send from.
    let picked = UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
        socket.connect("198.51.100.1:9")?;
        socket.local_addr()
    });
    let address = picked.ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
    if address.is_none() {
        absent("this machine has no address but loopback");
    }
    address
}

/// A broker that listens on loopback and on another address of this machine.
fn exposed(place: &Place, address: IpAddr) -> (Broker, SocketAddr) {
    let url = format!("tcp://{address}:0");
    let broker = Broker::start_with(&["--data", place.flag(), "--listen", &url]);
    let line = broker.logs(|line| line.contains("listening") && line.contains(&format!("tcp://{address}:")));
    let (_, rest) = line.split_once(&format!("tcp://{address}")).expect("the banner names the address");
    let rest = format!("{address}{rest}");
    let bound = rest.split_whitespace().next().and_then(|text| text.parse().ok()).expect("an address");
    (broker, bound)
}

/// Code of the CONNACK.
fn connect(address: SocketAddr, version: Version, username: Option<&str>, password: Option<&str>) -> u8 {
    connect_behind("", address, version, username, password)
}

/// With these words before anything of MQTT.
fn connect_behind(
    words: &str,
    address: SocketAddr,
    version: Version,
    username: Option<&str>,
    password: Option<&str>,
) -> u8 {
    let mut stream = dial(address);
    stream.write_all(words.as_bytes()).expect("it is read");
    stream.write_all(&packet(version, username, password)).expect("it is read");
    let mut head = [0; 4];
    stream.read_exact(&mut head).expect("CONNACK");
    assert_eq!(head[0], 0x20);
    head[3]
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("somebody listens");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    stream
}

fn packet(version: Version, username: Option<&str>, password: Option<&str>) -> Vec<u8> {
    let mut connect = Connect::new(version, "raw");
    (connect.clean_start, connect.username, connect.password) = (true, username, password.map(str::as_bytes));
    let mut bytes = Vec::new();
    connect.encode(version, &mut bytes);
    bytes
}

/// Code of the CONNACK to a WebSocket with these lines in its request; none if there is no WebSocket.
fn connect_over_websocket(address: SocketAddr, lines: &str, user: Option<(&str, &str)>) -> Option<u8> {
    let mut stream = dial(address);
    let request = format!(
        "GET /mqtt HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n{lines}\r\n"
    );
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    if !head.starts_with(b"HTTP/1.1 101") {
        return None;
    }
    let packet = packet(Version::V5, user.map(|user| user.0), user.map(|user| user.1));
    let length = u8::try_from(packet.len()).expect("short");
    // Masked, with a mask that changes nothing.
    let frame = [&[0x82, 0x80 | length, 0, 0, 0, 0][..], &packet].concat();
    stream.write_all(&frame).expect("it is read");
    let mut head = [0; 6];
    stream.read_exact(&mut head).expect("CONNACK in a frame");
    assert_eq!((head[0], head[2]), (0x82, 0x20));
    Some(head[5])
}

fn in_each(version: Version, v5: u8, v3: u8) -> u8 {
    if version.is_v5() { v5 } else { v3 }
}

#[test]
fn users_are_added_listed_changed_and_removed() {
    let place = Place::new();
    assert!(place.does(&["list"], "")[0].contains("no users"));
    place.does(&["add", "pump 7", "--password-file", "-"], "secret-1\n");
    place.does(&["add", "alice", "--password-file", "-", "--superuser"], "secret-2\r\nmore\n");
    let made = place.does(&["add", "bob", "--generate"], "");
    assert_eq!(made.iter().filter(|line| line.len() == 24 && !line.contains(' ')).count(), 1, "{made:?}");
    let listed = place.does(&["list"], "");
    assert!(listed[0].starts_with("NAME") && listed.len() == 4, "{listed:?}");
    assert!(listed[1].starts_with("alice") && listed[1].ends_with("superuser"), "{listed:?}");
    assert!(listed[2].starts_with("bob") && listed[3].starts_with("pump 7"), "{listed:?}");
    let text = fs::read_to_string(place.file()).expect("it is there");
    assert_eq!(text.matches("$argon2id$v=19$m=19456,t=2,p=1$").count(), 3);
    assert!(!text.contains("secret") && text.starts_with("breakwater-users 1\n"), "{text}");
    place.does(&["passwd", "bob", "--password-file", "-"], "secret-3\n");
    assert_ne!(fs::read_to_string(place.file()).expect("it is there"), text);
    place.does(&["disable", "bob"], "");
    assert!(place.does(&["list"], "")[2].ends_with("disabled"));
    place.does(&["enable", "bob"], "");
    place.does(&["remove", "bob"], "");
    assert_eq!(place.does(&["list"], "").len(), 3);
}

#[test]
fn wrong_use_of_users_is_told_and_changes_nothing() {
    let place = Place::new();
    place.add("alice", "secret");
    let text = fs::read_to_string(place.file()).expect("it is there");
    for (code, words, input, about) in [
        (2, &["add", "alice", "--password-file", "-"][..], "x\n", "exists already"),
        (2, &["add", "a:b", "--generate"], "", "colon"),
        (2, &["add", "", "--generate"], "", "empty"),
        (2, &["add", "x", "--password-file", "-"], "\n", "is empty"),
        (2, &["add", "x", "--password-file", "-"], &"p".repeat(1025), "longer than 1024"),
        (2, &["add", "x", "--password-file", "/no/such/file"], "", "can't read the password"),
        (2, &["add", "x", "--password-file", "-", "--generate"], "", "cannot be used with"),
        (2, &["passwd", "x", "--generate"], "", "no user"),
        (1, &["remove", "x"], "", "no user"),
        (1, &["disable", "x"], "", "no user"),
        (2, &["import", "/no/such/file"], "", "can't read"),
    ] {
        let said = place.refuses(code, words, input);
        assert!(said.contains(about), "{words:?}: {said}");
    }
    assert_eq!(fs::read_to_string(place.file()).expect("it is there"), text);
    fs::write(place.file(), &text[..text.len() - 10]).expect("it can be written");
    assert!(place.refuses(1, &["list"], "").contains("line 3: has no end"));
    assert!(place.refuses(1, &["add", "x", "--generate"], "").contains("line 3"));
}

#[test]
fn broker_does_not_start_with_a_users_file_that_it_cant_read() {
    let place = Place::new();
    place.add("alice", "secret");
    let text = fs::read_to_string(place.file()).expect("it is there");
    for half in [&text[..0], &text[..text.len() / 2], "breakwater-users 1\nalice::superuser:now\n"] {
        fs::write(place.file(), half).expect("it can be written");
        let mut command = breakwater();
        let ended =
            Program::start(command.args(["serve", "--listen", "tcp://127.0.0.1:0", "--data", place.flag()])).finish();
        assert_eq!(ended.status.code(), Some(1), "{:?}", ended.lines);
        assert!(ended.lines.iter().all(|line| line.contains("users: line ")), "{:?}", ended.lines);
    }
}

#[test]
fn only_who_has_a_name_is_let_in_from_outside() {
    let Some(address) = outside() else { return };
    let place = Place::new();
    let (broker, bound) = exposed(&place, address);
    let local = SocketAddr::from(([127, 0, 0, 1], broker.port));
    for version in Version::ALL {
        assert_eq!(connect(local, version, None, None), 0);
        assert_eq!(connect(local, version, Some("pump"), Some("secret")), in_each(version, 0x86, 4));
        assert_eq!(connect(bound, version, None, None), in_each(version, 0x87, 5));
        assert_eq!(connect(bound, version, Some("pump"), Some("secret")), in_each(version, 0x86, 4));
    }
    place.add("pump", "secret");
    for version in Version::ALL {
        assert_eq!(connect(bound, version, Some("pump"), Some("secret")), 0, "no restart was needed");
        assert_eq!(connect(bound, version, Some("pump"), Some("wrong")), in_each(version, 0x86, 4));
        assert_eq!(connect(bound, version, Some("pump"), None), in_each(version, 0x86, 4));
        assert_eq!(connect(bound, version, None, None), in_each(version, 0x87, 5));
        assert_eq!(connect(local, version, Some("pump"), Some("secret")), 0);
    }
    place.does(&["passwd", "pump", "--password-file", "-"], "changed-7\n");
    assert_eq!(connect(bound, Version::V5, Some("pump"), Some("changed-7")), 0);
    assert_eq!(connect(bound, Version::V5, Some("pump"), Some("secret")), 0x86);
    broker.signal(Signal::TERM);
    let lines = broker.finish().lines;
    let about = |ip: &str| lines.iter().filter(|line| line.contains(&format!("{ip} was refused"))).collect::<Vec<_>>();
    let told = about(&address.to_string());
    assert_eq!(told.len(), 1, "once for each address: {told:?}");
    assert!(told[0].contains("breakwater users add NAME --data"), "{told:?}");
    assert_eq!(about("127.0.0.1").len(), 1, "once for each address");
    assert!(lines.iter().all(|line| !line.contains("secret") && !line.contains("changed-7")), "no password is logged");
}

/// Loopback is no back door: what comes through a proxy, or from a page of another host, comes from elsewhere.
#[test]
fn only_what_comes_straight_from_this_machine_needs_no_name() {
    let place = Place::new();
    place.add("pump", "secret");
    let config = place.0.join("breakwater.toml");
    let text = "listeners.defaults = false\n\
                [listeners.tcp.default]\nbind = '127.0.0.1:0'\nproxy_protocol = true\ntrusted_proxies = ['127.0.0.0/8']\n\
                [listeners.ws.default]\nbind = '127.0.0.1:0'\n[listeners.ws.default.websocket]\norigins = ['*']\n";
    fs::write(&config, text).expect("it can be written");
    let mut command = breakwater();
    command.args(["serve", "--shards", "2", "--data", place.flag(), "--config"]).arg(&config);
    let broker = Program::start(&mut command);
    let local = |start: &str| {
        let line = broker.line(|line| line.contains("listening") && line.contains(start));
        let (_, port) = line.split_once(start).expect("just looked for");
        let port =
            port.split_whitespace().next().and_then(|port| port.parse().ok()).expect("a port behind the address");
        SocketAddr::from(([127, 0, 0, 1], port))
    };
    let (proxied, web) = (local("tcp://127.0.0.1:"), local("ws://127.0.0.1:"));
    for header in ["PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", "PROXY TCP6 ::1 ::1 1 2\r\n", "PROXY UNKNOWN\r\n"] {
        assert_eq!(connect_behind(header, proxied, Version::V5, None, None), 0x87, "{header}");
        assert_eq!(connect_behind(header, proxied, Version::V5, Some("pump"), Some("secret")), 0, "{header}");
    }
    let own = format!("Origin: http://{web}\r\n");
    for lines in ["", &own, "Origin: http://localhost:8080\r\n"] {
        assert_eq!(connect_over_websocket(web, lines, None), Some(0), "{lines}");
    }
    for lines in ["Origin: https://elsewhere.example\r\n", "X-Forwarded-For: 127.0.0.1\r\n", "X-Forwarded-For: ::1\r\n"]
    {
        assert_eq!(connect_over_websocket(web, lines, None), Some(0x87), "{lines}");
        assert_eq!(connect_over_websocket(web, lines, Some(("pump", "secret"))), Some(0), "{lines}");
    }
}

#[test]
fn mosquitto_clients_and_ours_are_let_in_with_a_password() {
    let Some(address) = outside() else { return };
    let place = Place::new();
    place.add("pump", "secret");
    let (broker, bound) = exposed(&place, address);
    let (host, port) = (bound.ip().to_string(), bound.port().to_string());
    let mut tools = vec![None];
    let known = |name| installed(name, "mosquitto-clients");
    tools.extend(known("mosquitto_pub").zip(known("mosquitto_sub")).map(Some));
    for tool in &tools {
        for version in ["mqttv311", "mqttv5"] {
            let command = |publish: bool, flags: &[&str]| {
                let mut command = match tool {
                    Some((publisher, subscriber)) => Command::new(if publish { publisher } else { subscriber }),
                    None => {
                        let mut command = breakwater();
                        command.arg(if publish { "pub" } else { "sub" });
                        command
                    }
                };
                command.args(["-h", &host, "-p", &port, "-V", version]).args(flags);
                command
            };
            let user = ["-u", "pump", "-P", "secret"];
            let publish = |flags: &[&str]| Program::start(&mut command(true, flags)).finish();
            assert!(!publish(&["-t", "t", "-m", "m"]).status.success(), "{version}: nobody");
            let wrong = ["-u", "pump", "-P", "wrong", "-t", "t", "-m", "m"];
            assert!(!publish(&wrong).status.success(), "{version}: a wrong password");
            let kept = [&user[..], &["-t", "t", "-r", "-q", "1", "-m", version]].concat();
            assert!(publish(&kept).status.success(), "{version}");
            let reader = Program::start(&mut command(false, &[&user[..], &["-t", "t", "-C", "1"]].concat()));
            assert_eq!(reader.succeed(), [version]);
            // From this machine nobody needs a name.
            let (host, port) = ("127.0.0.1".to_owned(), broker.port.to_string());
            let mut local = breakwater();
            local.args(["sub", "-h", &host, "-p", &port, "-t", "t", "-C", "1"]);
            assert_eq!(Program::start(&mut local).succeed(), [version]);
        }
    }
}

#[test]
fn users_of_mosquitto_are_taken_over_and_hashed_anew() {
    let Some(mosquitto_passwd) = installed("mosquitto_passwd", "mosquitto") else { return };
    let place = Place::new();
    fs::create_dir_all(&place.0).expect("a directory");
    let old = place.0.join("passwd");
    fs::write(&old, "").expect("it can be written");
    let old = old.to_str().expect("it is text");
    Program::start(Command::new(&mosquitto_passwd).args(["-b", old, "anna", "secret-a"])).succeed();
    Program::start(Command::new(&mosquitto_passwd).args(["-H", "sha512", "-b", old, "bert", "secret-b"])).succeed();
    place.does(&["import", old], "");
    assert!(place.refuses(1, &["import", old], "").contains("exists already"));
    let listed = place.does(&["list"], "");
    assert!(listed[1].starts_with("anna") && listed[1].contains("hashed anew"), "{listed:?}");
    let broker = Broker::start_with(&["--data", place.flag()]);
    let local = SocketAddr::from(([127, 0, 0, 1], broker.port));
    for (name, password) in [("anna", "secret-a"), ("bert", "secret-b")] {
        assert_eq!(connect(local, Version::V5, Some(name), Some("wrong")), 0x86);
        assert_eq!(connect(local, Version::V5, Some(name), Some(password)), 0);
    }
    // What is still to be written is written on the way down.
    broker.signal(Signal::TERM);
    broker.finish();
    let text = fs::read_to_string(place.file()).expect("it is there");
    assert_eq!(text.matches("$argon2id$v=19$m=19456,t=2,p=1$").count(), 2, "{text}");
    let broker = Broker::start_with(&["--data", place.flag()]);
    let local = SocketAddr::from(([127, 0, 0, 1], broker.port));
    assert_eq!(connect(local, Version::V311, Some("anna"), Some("secret-a")), 0);
}
