use super::*;
use crate::listener::Bind;

fn at(addresses: &[SocketAddr]) -> ListenerOptions {
    ListenerOptions { bind: addresses.iter().copied().map(Bind::Address).collect(), ..ListenerOptions::default() }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn one(options: ListenerOptions, shards: u16) -> Listening {
    let (mut bound, faults) = bind(vec![options], shards);
    assert!(faults.is_empty(), "{faults:?}");
    bound.remove(0)
}

fn address(listening: &Listening) -> SocketAddr {
    match listening.places[0].bound {
        BoundTo::Address(address) => address,
        BoundTo::Unix(_) => panic!("it has an address"),
    }
}

fn told(options: ListenerOptions) -> String {
    let (bound, faults) = bind(vec![options], 1);
    assert!(bound.is_empty(), "{bound:?}");
    let text = faults[0].to_string();
    assert!(!text.contains('\n'));
    text
}

#[test]
fn all_shards_listen_on_the_port_that_was_found() {
    let bound = one(at(&[any_port()]), 3);
    assert_ne!(address(&bound).port(), 0);
    assert_eq!(bound.places[0].sockets.len(), 3);
    for socket in &bound.places[0].sockets {
        let EarSocket::Tcp(socket) = socket else { panic!("it is TCP") };
        assert_eq!(socket.local_addr().expect("bound"), address(&bound));
    }
}

#[test]
fn a_port_that_another_broker_shares_is_taken() {
    let first = one(at(&[any_port()]), 2);
    let text = told(at(&[address(&first)]));
    assert!(text.contains("taken by another program") && text.contains("ss -lnp"), "{text}");
}

#[test]
fn a_listener_that_has_the_port_is_named_and_the_others_come_nevertheless() {
    let free = std::net::TcpListener::bind(any_port()).expect("a free port").local_addr().expect("bound");
    let named = |name: &str, address| ListenerOptions { name: name.into(), ..at(&[address]) };
    let everywhere = SocketAddr::from(([0, 0, 0, 0], free.port()));
    let all = vec![named("tcp.a", free), named("tcp.b", everywhere), named("tcp.c", any_port()), named("tcp.a", free)];
    let (bound, faults) = bind(all, 1);
    assert_eq!(bound.len(), 2);
    assert!(matches!(&faults[0].cause, BindCause::Taken { by: Some(by), .. } if &**by == "tcp.a"), "{faults:?}");
    assert!(matches!(&faults[1].cause, BindCause::NameTaken), "{faults:?}");
}

#[test]
fn an_address_of_another_machine_is_told() {
    // One for documentation only.
    let text = told(at(&[SocketAddr::from(([192, 0, 2, 1], 0))]));
    assert!(text.contains("no such address"), "{text}");
}

#[test]
fn a_privileged_port_says_which_right_is_missing() {
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let text = BindCause::of(denied, SocketAddr::from(([0, 0, 0, 0], 443)), None).to_string();
    for way in ["CAP_NET_BIND_SERVICE", "setcap", "systemd:", "net.ipv4.ip_unprivileged_port_start=443"] {
        assert!(text.contains(way), "{text}");
    }
}

#[test]
fn both_families_listen_on_one_port() {
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let v4 = one(at(&[SocketAddr::from(([0, 0, 0, 0], 0))]), 1);
    let port = address(&v4).port();
    drop(v4);
    let both =
        one(at(&[format!("[::]:{port}").parse().expect("an address"), SocketAddr::from(([0, 0, 0, 0], port))]), 2);
    assert_eq!(both.places.len(), 2);
    for client in ["127.0.0.1", "::1"] {
        let ip: std::net::IpAddr = client.parse().expect("an address");
        assert!(std::net::TcpStream::connect((ip, port)).is_ok());
    }
}

#[cfg(unix)]
#[test]
fn a_machine_without_ipv6_is_told_from_other_faults() {
    let address = SocketAddr::from(([0; 16], 1883));
    let of = |code: rustix::io::Errno| BindCause::of(code.into(), address, None).is_missing_family();
    assert!(of(rustix::io::Errno::AFNOSUPPORT) && of(rustix::io::Errno::ADDRNOTAVAIL));
    assert!(!of(rustix::io::Errno::ADDRINUSE) && !of(rustix::io::Errno::ACCESS));
}

#[test]
fn a_port_is_free_again_when_the_listener_is_dropped() {
    let first = one(at(&[any_port()]), 2);
    let address = address(&first);
    drop(first);
    one(at(&[address]), 2);
}

#[cfg(target_os = "linux")]
#[test]
fn accepted_connections_inherit_what_the_listener_says() {
    let socket = SocketOptions { keep_alive: Some((61, 11, 3)), nodelay: true, ..SocketOptions::default() };
    let mut bound = one(ListenerOptions { socket, ..at(&[any_port()]) }, 1);
    let _client = std::net::TcpStream::connect(address(&bound)).expect("it listens");
    let ear = bound.places[0].sockets.remove(0);
    let stream = loop {
        match ear.accept() {
            Ok((stream, _)) => break stream,
            Err(fault) => assert_eq!(fault.kind(), io::ErrorKind::WouldBlock),
        }
    };
    let stream = SockRef::from(&stream);
    assert!(stream.tcp_nodelay().expect("an option") && stream.keepalive().expect("an option"));
    assert_eq!(stream.tcp_keepalive_time().expect("an option").as_secs(), 61);
    assert_eq!(stream.tcp_keepalive_retries().expect("an option"), 3);
    ear.adjust(&SocketOptions { nodelay: false, ..SocketOptions::default() }).expect("it listens");
    let EarSocket::Tcp(ear) = &ear else { panic!("it is TCP") };
    assert!(
        !SockRef::from(ear).tcp_nodelay().expect("an option") && !SockRef::from(ear).keepalive().expect("an option")
    );
}
