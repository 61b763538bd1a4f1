//! Behind HAProxy, as sites run it: with PROXY protocol, and with HAProxy ending TLS.

use std::net::TcpListener;
use std::process::Command;

use crate::ports::{Folder, Ports};
use crate::program::{Program, installed};

/// HAProxy in front of a broker whose listener expects PROXY headers of this version.
struct Front {
    ports: Ports,
    _haproxy: Program,
    plain: u16,
    secure: u16,
}

/// A port that was free a moment ago: HAProxy can't choose one by itself and tell.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback has ports").port()
}

fn front(version: &str) -> Option<Front> {
    let haproxy = installed("haproxy", "haproxy")?;
    let ports = Ports::configured(
        Folder::new(),
        "[listeners]\ndefaults = false\n[listeners.tcp.default]\nbind = \"127.0.0.1:0\"\nproxy_protocol = true\n\
         trusted_proxies = [\"127.0.0.1\"]\n[listeners.tls.default]\nbind = \"127.0.0.1:0\"\n",
    );
    let folder = &ports.folder;
    // One file with certificate and key, as HAProxy wants it.
    let read = |name: &str| std::fs::read_to_string(folder.file(name)).expect("made at the first start");
    let pem = folder.write("front.pem", &(read("tls/server.pem") + &read("tls/server.key")));
    let (plain, secure) = (free_port(), free_port());
    let broker = ports.address("tcp");
    let config = format!(
        "defaults\n  mode tcp\n  timeout connect 60s\n  timeout client 60s\n  timeout server 60s\n\
         frontend plain\n  bind 127.0.0.1:{plain}\n  default_backend broker\n\
         frontend secure\n  bind 127.0.0.1:{secure} ssl crt {}\n  default_backend broker\n\
         backend broker\n  server one {broker} {version}\n",
        pem.display()
    );
    let file = folder.write("haproxy.cfg", &config);
    let haproxy = Program::start(Command::new(haproxy).arg("-db").arg("-f").arg(file));
    wait_for(plain);
    Some(Front { ports, _haproxy: haproxy, plain, secure })
}

/// HAProxy says nothing when it is ready; its port does.
fn wait_for(port: u16) {
    let until = std::time::Instant::now() + crate::program::DEADLINE;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(std::time::Instant::now() < until, "haproxy does not listen on {port}");
        std::thread::yield_now();
    }
}

/// Who came through a proxy is not on this machine, whatever the proxy's address: it needs a name.
fn named(ports: &Ports) {
    let mut command = crate::broker::breakwater();
    command.args(["users", "add", "ann", "--password-file"]).arg(ports.folder.write("password", "correct horse"));
    Program::start(command.arg("--data").arg(ports.folder.path())).succeed();
}

fn check(version: &str) {
    let Some(front) = front(version) else { return };
    let Some(publish) = installed("mosquitto_pub", "mosquitto-clients") else { return };
    let (plain, secure) = (front.plain.to_string(), front.secure.to_string());
    let message = ["-t", "a", "-m", "b", "-q", "1"];
    let nobody = Program::start(Command::new(&publish).args(["-p", &plain]).args(message)).finish();
    assert!(!nobody.status.success(), "a peer behind a proxy is nobody's loopback");
    front.ports.logs(|line| line.contains("users add"));
    named(&front.ports);
    let user = ["-u", "ann", "-P", "correct horse"];
    Program::start(Command::new(&publish).args(["-p", &plain]).args(user).args(message)).succeed();
    let ca = front.ports.ca();
    let secure = ["-h", "localhost", "-p", &secure, "--cafile", ca.to_str().expect("a plain path")];
    Program::start(Command::new(&publish).args(secure).args(user).args(message)).succeed();
}

#[test]
fn clients_come_through_haproxy_with_proxy_protocol_1() {
    check("send-proxy");
}

#[test]
fn clients_come_through_haproxy_with_proxy_protocol_2_and_with_tls_ended_there() {
    check("send-proxy-v2");
}

#[test]
fn a_proxy_that_is_not_trusted_is_turned_away() {
    let Some(publish) = installed("mosquitto_pub", "mosquitto-clients") else { return };
    let ports = Ports::configured(
        Folder::new(),
        "[listeners]\ndefaults = false\n[listeners.tcp.default]\nbind = \"127.0.0.1:0\"\nproxy_protocol = true\n\
         trusted_proxies = [\"192.0.2.1\"]\n",
    );
    let ended = Program::start(Command::new(publish).args(["-p", &ports.port("tcp"), "-t", "a", "-m", "b"])).finish();
    assert!(!ended.status.success());
    ports.logs(|line| line.contains("trusted_proxies"));
}
