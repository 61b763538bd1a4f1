//! Listeners that come, change and go.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use breakwater_net::{
    AccessRule, Bind, BindCause, Ending, Handle, ListenerOptions, ListenerStatus, Options, Protocols, Refusal,
};

use crate::engine::{addresses, connect, echo, listener, rest, serve};

/// The only status of this name.
fn status(handle: &Handle, name: &str) -> ListenerStatus {
    let mut all = handle.listeners();
    all.retain(|listener| &*listener.options.name == name);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

/// The peer sees the end, in good order or not.
fn is_turned_away(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    rest.is_empty()
}

#[test]
fn a_listener_comes_and_goes_and_others_do_not_notice() {
    let (node, first, _) = serve(2, &Options::default(), false);
    let handle = node.handle();
    let mut constant = connect(first);
    echo(&mut constant, b"before");
    handle.open(listener("tcp.second", [127, 0, 0, 1])).expect("a free port");
    let second = addresses(&handle, "tcp.second")[0];
    let mut stays = connect(second);
    echo(&mut stays, b"here");
    assert!(
        matches!(handle.open(listener("tcp.second", [127, 0, 0, 1])), Err(fault) if matches!(fault.cause, BindCause::NameTaken))
    );
    handle.close("tcp.second", Ending::Keep).expect("it is open");
    assert!(TcpStream::connect(second).is_err(), "nobody listens");
    echo(&mut stays, b"still here");
    let closed = status(&handle, "tcp.second");
    assert!(!closed.open && closed.connections == 1 && closed.accepted == 1);
    assert_eq!(handle.listener_name(closed.number).as_deref(), Some("tcp.second"));
    stays.write_all(b"q").expect("it is served");
    assert_eq!(rest(&mut stays), b"bye");
    drop(stays);
    while handle.listeners().len() > 1 {
        std::thread::yield_now();
    }
    assert!(
        matches!(handle.close("tcp.second", Ending::Keep), Err(fault) if matches!(fault.cause, BindCause::NoSuchListener))
    );
    echo(&mut constant, b"after");
    node.stop(Duration::ZERO);
    node.join();
}

#[cfg(target_os = "linux")]
#[test]
fn a_changed_place_is_listened_at_before_the_old_one_is_left() {
    let (node, first, _) = serve(2, &Options::default(), false);
    let handle = node.handle();
    let mut stays = connect(first);
    echo(&mut stays, b"here");
    handle.change(listener("tcp.first", [127, 0, 0, 2]), Ending::Keep).expect("a free port");
    let second = addresses(&handle, "tcp.first");
    assert_eq!(second.len(), 1);
    assert_ne!(second[0], first);
    assert!(TcpStream::connect(first).is_err(), "nobody listens");
    echo(&mut stays, b"still here");
    let mut newer = connect(second[0]);
    echo(&mut newer, b"here too");
    // The next change sends those away who are there, and not those who come.
    handle.change(listener("tcp.first", [127, 0, 0, 1]), Ending::Cut).expect("a free port");
    let mut newest = connect(addresses(&handle, "tcp.first")[0]);
    echo(&mut newest, b"here now");
    assert_eq!((rest(&mut stays), rest(&mut newer)), (b"bye".to_vec(), b"bye".to_vec()));
    echo(&mut newest, b"and now");
    assert_eq!(status(&handle, "tcp.first").accepted, 3, "it is still the same listener");
    node.stop(Duration::ZERO);
    node.join();
}

#[cfg(target_os = "linux")]
#[test]
fn a_port_is_widened_to_all_addresses_without_a_gap() {
    let (node, first, _) = serve(2, &Options::default(), false);
    let handle = node.handle();
    let wide = |ip: [u8; 4]| {
        let bind = vec![Bind::Address((ip, first.port()).into())];
        ListenerOptions { bind, ..listener("tcp.first", [0; 4]) }
    };
    for ip in [[0; 4], [127, 0, 0, 1]] {
        handle.change(wide(ip), Ending::Keep).expect("its own port is no obstacle");
        echo(&mut connect(first), b"here");
        let elsewhere = TcpStream::connect(("127.0.0.2", first.port()));
        assert_eq!(elsewhere.is_ok(), ip == [0; 4]);
    }
    node.stop(Duration::ZERO);
    node.join();
}

#[cfg(target_os = "linux")]
#[test]
fn two_listeners_change_places_while_clients_come_to_both() {
    let (node, first, _) = serve(2, &Options::default(), false);
    let handle = node.handle();
    handle.open(listener("tcp.second", [127, 0, 0, 1])).expect("a free port");
    let second = addresses(&handle, "tcp.second")[0];
    let at = |name: &str, address| ListenerOptions { bind: vec![Bind::Address(address)], ..listener(name, [0; 4]) };
    let together =
        |one, other| handle.change_together(vec![at("tcp.first", one), at("tcp.second", other)], Ending::Keep);
    together(first, second).expect("each has its port already");
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let come = |address| {
            let mut rounds = 0_u64;
            while !over.load(Ordering::Relaxed) || rounds == 0 {
                echo(&mut connect(address), b"let in all the while");
                rounds += 1;
            }
            rounds
        };
        let clients = [first, second].map(|address| scope.spawn(move || come(address)));
        let mut stays = connect(first);
        for round in 0..100_u8 {
            let swapped = round % 2 == 0;
            let (one, other) = if swapped { (second, first) } else { (first, second) };
            together(one, other).expect("they change places");
            assert_eq!((addresses(&handle, "tcp.first"), addresses(&handle, "tcp.second")), (vec![one], vec![other]));
            echo(&mut stays, &[round | 0x80]);
        }
        over.store(true, Ordering::Relaxed);
        let came: u64 = clients.into_iter().map(|client| client.join().expect("nobody was turned away")).sum();
        let accepted = |name| status(&handle, name).accepted;
        assert_eq!(accepted("tcp.first") + accepted("tcp.second"), came + 1);
    });
    // The places are really those of the other one.
    together(second, first).expect("they change places");
    let before = status(&handle, "tcp.second").accepted;
    echo(&mut connect(first), b"at the second one");
    assert_eq!(status(&handle, "tcp.second").accepted, before + 1);
    // One that can't be had leaves both as they are.
    let nowhere = at("tcp.second", ([192, 0, 2, 1], 0).into());
    handle.change_together(vec![at("tcp.first", first), nowhere], Ending::Cut).expect_err("no such address");
    assert_eq!((addresses(&handle, "tcp.first"), addresses(&handle, "tcp.second")), (vec![second], vec![first]));
    // Who has come by then may be sent away.
    let mut goes = connect(first);
    echo(&mut goes, b"here");
    let back = vec![at("tcp.first", first), at("tcp.second", second)];
    handle.change_together(back, Ending::Cut).expect("they change places");
    assert_eq!(rest(&mut goes), b"bye");
    echo(&mut connect(first), b"here");
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn a_change_that_fails_changes_nothing() {
    let (node, first, _) = serve(1, &Options::default(), false);
    let handle = node.handle();
    let elsewhere = ListenerOptions { connections_max: 1, ..listener("tcp.first", [192, 0, 2, 1]) };
    let fault = handle.change(elsewhere, Ending::Cut).expect_err("an address for documentation only");
    assert!(
        fault
            .to_string()
            .starts_with("listener tcp.first can't listen on 192.0.2.1:0: this machine has no such address")
    );
    let udp = ListenerOptions {
        protocols: Protocols { quic: true, ..Protocols::NONE },
        ..listener("tcp.first", [127, 0, 0, 1])
    };
    assert!(matches!(handle.change(udp, Ending::Cut), Err(fault) if matches!(fault.cause, BindCause::Unsupported(_))));
    let (mut one, mut two) = (connect(first), connect(first));
    echo(&mut one, b"one");
    echo(&mut two, b"two");
    assert_eq!(status(&handle, "tcp.first").options.connections_max, 0);
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn a_drain_ends_all_in_the_end_and_a_cut_at_once() {
    for ending in [Ending::Drain { over_ms: 60 }, Ending::Cut] {
        let (node, first, _) = serve(2, &Options::default(), false);
        let mut streams: Vec<TcpStream> = (0..20).map(|_| connect(first)).collect();
        streams.iter_mut().for_each(|stream| echo(stream, b"here"));
        node.handle().close("tcp.first", ending).expect("it is open");
        assert!(streams.iter_mut().all(|stream| rest(stream) == b"bye"));
        drop(streams);
        node.stop(Duration::ZERO);
        node.join();
    }
}

#[test]
fn a_listener_lets_its_clients_go_and_stays_open() {
    let (node, first, _) = serve(2, &Options::default(), false);
    let handle = node.handle();
    let mut streams: Vec<TcpStream> = (0..10).map(|_| connect(first)).collect();
    streams.iter_mut().for_each(|stream| echo(stream, b"here"));
    handle.drain("tcp.first", Ending::Drain { over_ms: 40 }).expect("it is open");
    let mut newer = connect(first);
    assert!(streams.iter_mut().all(|stream| rest(stream) == b"bye"));
    echo(&mut newer, b"back again");
    assert_eq!(status(&handle, "tcp.first").connections, 1);
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn who_is_turned_away_is_counted_by_reason_and_told_once() {
    let (node, first, lines) = serve(2, &Options::default(), false);
    let handle = node.handle();
    let same_place = |options: ListenerOptions| ListenerOptions { name: "tcp.first".into(), ..options };
    let base = || listener("tcp.first", [127, 0, 0, 1]);
    let deny = vec![AccessRule { allow: false, network: "127.0.0.0/8".parse().ok() }];
    handle.change(same_place(ListenerOptions { access: deny, ..base() }), Ending::Keep).expect("no new place");
    // Orders are taken before connections are: who comes after the change meets it.
    for _ in 0..3 {
        assert!(is_turned_away(&mut connect(first)));
    }
    handle.change(ListenerOptions { connections_max: 1, ..base() }, Ending::Keep).expect("no new place");
    let mut only = connect(first);
    echo(&mut only, b"here");
    assert!(is_turned_away(&mut connect(first)));
    handle.change(ListenerOptions { connections_per_address_max: 1, ..base() }, Ending::Keep).expect("no new place");
    let mut second = connect(first);
    echo(&mut second, b"the first one that is counted by its address");
    assert!(is_turned_away(&mut connect(first)));
    let listener = status(&handle, "tcp.first");
    assert_eq!(listener.refused, [(Refusal::Denied, 3), (Refusal::ListenerFull, 1), (Refusal::AddressFull, 1)]);
    assert_eq!((listener.connections, listener.accepted), (2, 2));
    for refusal in [Refusal::Denied, Refusal::ListenerFull, Refusal::AddressFull] {
        assert_eq!(lines.about(refusal.text()), 1, "one line for each reason");
    }
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn an_accept_rate_makes_the_rest_wait_and_loses_nobody() {
    let (node, first, _) = serve(2, &Options::default(), false);
    let slow = ListenerOptions { accept_rate: 50, accept_burst: 1, ..listener("tcp.first", [127, 0, 0, 1]) };
    node.handle().change(slow, Ending::Keep).expect("no new place");
    let mut streams: Vec<TcpStream> = (0..10).map(|_| connect(first)).collect();
    streams.iter_mut().for_each(|stream| echo(stream, b"here"));
    assert_eq!(status(&node.handle(), "tcp.first").accepted, 10);
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn a_connection_that_is_not_plain_mqtt_does_not_reach_the_engine() {
    let (node, _, _) = serve(1, &Options::default(), false);
    let handle = node.handle();
    let protocols = Protocols { ws: true, mqtt: false, ..Protocols::NONE };
    handle.open(ListenerOptions { protocols, ..listener("ws.test", [127, 0, 0, 1]) }).expect("a free port");
    let mut stream = connect(addresses(&handle, "ws.test")[0]);
    let _ = stream.write_all(b"q");
    assert!(is_turned_away(&mut stream));
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn a_node_that_stops_opens_nothing() {
    let (node, _, _) = serve(1, &Options::default(), false);
    let handle = node.handle();
    node.stop(Duration::ZERO);
    node.join();
    let fault = handle.open(listener("tcp.late", [127, 0, 0, 1])).expect_err("nobody would listen");
    assert!(matches!(fault.cause, BindCause::Stopping));
    assert!(handle.close("tcp.first", Ending::Cut).is_err());
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_served_like_a_port_and_its_file_goes_with_it() {
    use std::os::unix::net::UnixStream;

    let folder = std::env::temp_dir().join(format!("breakwater-net-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("socket");
    let (node, _, lines) = serve(2, &Options::default(), false);
    let handle = node.handle();
    // Rules over addresses don't concern those who have none.
    let access = vec![AccessRule { allow: false, network: None }];
    let at = |mode| ListenerOptions {
        bind: vec![Bind::Unix { path: path.clone(), mode }],
        access: access.clone(),
        ..listener("unix.test", [127, 0, 0, 1])
    };
    handle.open(at(0o600)).expect("a free path");
    let again = ListenerOptions { name: "unix.other".into(), ..at(0o600) };
    assert!(matches!(handle.open(again), Err(fault) if matches!(fault.cause, BindCause::Live)));
    for mode in [0o600, 0o660] {
        handle.change(at(mode), Ending::Keep).expect("its own file is no obstacle");
        let mode_found = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).expect("it is there"));
        assert_eq!(mode_found & 0o777, mode);
        let mut stream = UnixStream::connect(&path).expect("it listens");
        stream.write_all(b"here").expect("the node reads");
        let mut back = [0; 4];
        stream.read_exact(&mut back).expect("the node echoes");
        assert_eq!(&back, b"here");
        stream.write_all(b"q").expect("the node reads");
        let mut last = Vec::new();
        stream.read_to_end(&mut last).expect("an orderly end");
        assert_eq!(last, b"bye");
    }
    assert_eq!(lines.about("Fault"), 0);
    handle.close("unix.test", Ending::Keep).expect("it is open");
    assert!(!path.exists());
    handle.open(at(0o600)).expect("a free path");
    node.stop(Duration::ZERO);
    node.join();
    assert!(!path.exists(), "the file goes with the node");
    std::fs::remove_dir_all(&folder).expect("an empty folder");
}

#[test]
fn bytes_are_counted_by_listener() {
    let (node, first, _) = serve(1, &Options::default(), false);
    let handle = node.handle();
    handle.open(listener("tcp.idle", [127, 0, 0, 1])).expect("a free port");
    let mut stream = connect(first);
    let mut sent = 0;
    // A shard shows what it has counted once a second, in a turn.
    while status(&handle, "tcp.first").bytes_in == 0 {
        echo(&mut stream, b"counted");
        sent += 7;
    }
    let first = status(&handle, "tcp.first");
    assert!(first.bytes_in <= sent && first.bytes_out <= sent);
    assert_eq!(status(&handle, "tcp.idle").bytes_in, 0);
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn an_answer_of_a_slow_plane_reaches_the_shard_that_asked() {
    use breakwater_contract::{Completion, Completions as _, Token};

    let (node, first, lines) = serve(3, &Options::default(), false);
    let handle = node.handle();
    // All shards sleep, or will: none has anything to do.
    echo(&mut connect(first), b"here");
    for (shard, slot) in [(0, 10), (2, 11), (2, 12), (9, 13)] {
        let token = Token { shard, slot, generation: 0, sequence: 0 };
        handle.complete(Completion::Durable { token, stored: true, positions: Box::default() });
    }
    while lines.about("durable") < 3 {
        std::thread::yield_now();
    }
    for line in ["durable 10 at 0", "durable 11 at 2", "durable 12 at 2"] {
        assert_eq!(lines.about(line), 1);
    }
    node.stop(Duration::ZERO);
    node.join();
}
