//! Listeners come, change and go by the thousand beside clients of another one: not one of their messages is lost.
//!
//! Alone in its process, because it counts the descriptors of all of it.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use breakwater_auth::Open;
use breakwater_net::{Bind, BoundTo, Ending, Handle, Journal, ListenerOptions, Node, Options, Transport};
use breakwater_router::Router;
use breakwater_shard::{Event, Pages, Profile, Setup, Shard};

const CYCLES: u32 = 1000;
const SHARDS: u16 = 2;
/// Publishes that go out before their acknowledgements are awaited.
const WINDOW: u64 = 50;
/// The last message.
const END: u64 = u64::MAX;

struct Silent;

impl Journal for Silent {
    fn event(&mut self, _: u64, _: &Event<'_>) {}
    fn end_of_turn(&mut self) {}
}

fn listener(name: &str, address: [u8; 4]) -> ListenerOptions {
    let profile = Arc::new(Profile { name: name.into(), ..Profile::default() });
    let bind = vec![Bind::Address((address, 0).into())];
    ListenerOptions { name: name.into(), bind, profile, ..ListenerOptions::default() }
}

fn node() -> Node {
    let (listening, faults) = breakwater_net::bind(vec![listener("tcp.first", [127, 0, 0, 1])], SHARDS);
    assert!(faults.is_empty(), "{faults:?}");
    let setup = Setup {
        id: 0,
        shards: SHARDS,
        options: Arc::default(),
        profiles: Vec::new(),
        zones: Vec::new(),
        router: Arc::new(Router::new(breakwater_router::RouterOptions { shards: SHARDS, ..Default::default() })),
        seed: 7,
        authenticator: Arc::new(Open),
        authorizer: Arc::new(Open),
        pages: Arc::new(Pages::new(SHARDS)),
        store: Arc::new(breakwater_store::Memory::default()),
        returning: Arc::new(breakwater_shard::Returning::new(SHARDS)),
    };
    let engine = move |id, now| Shard::<Transport>::new(Setup { id, ..setup.clone() }, now);
    breakwater_net::start(listening, SHARDS, &Options::default(), engine, |_| Box::new(Silent)).expect("threads")
}

fn address(handle: &Handle, name: &str) -> SocketAddr {
    let listeners = handle.listeners();
    let listener = listeners.iter().find(|listener| &*listener.options.name == name).expect("it is open");
    match listener.bound[..] {
        [BoundTo::Address(address)] => address,
        _ => panic!("{:?}", listener.bound),
    }
}

/// A client of 3.1.1 that was let in.
fn client(address: SocketAddr, name: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    stream.set_nodelay(true).expect("a TCP socket");
    let length = u8::try_from(name.len()).expect("short");
    let mut connect = vec![0x10, 12 + length, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, length];
    connect.extend_from_slice(name.as_bytes());
    stream.write_all(&connect).expect("it reads");
    let mut accepted = [0; 4];
    stream.read_exact(&mut accepted).expect("CONNACK");
    assert_eq!(accepted, [0x20, 2, 0, 0]);
    stream
}

/// Publishes numbers with QoS 1 until it is over, then [`END`]. Gives how many there were. It never is far ahead of those who
/// receive: what they are slow to take, the broker may drop.
fn publish(mut stream: TcpStream, over: &AtomicBool, received: &[AtomicU64]) -> u64 {
    let mut next = 0;
    loop {
        while received.iter().any(|received| received.load(Ordering::Relaxed) < next) {
            thread::yield_now();
        }
        let last = over.load(Ordering::Relaxed);
        let mut bytes = Vec::new();
        for at in 0..WINDOW {
            let number = if last && at + 1 == WINDOW { END } else { next + at };
            bytes.extend_from_slice(b"\x32\x12\x00\x06load/x");
            bytes.extend_from_slice(&u16::try_from(at + 1).expect("few").to_be_bytes());
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        stream.write_all(&bytes).expect("it reads");
        let mut acknowledged = [0; 4 * WINDOW as usize];
        stream.read_exact(&mut acknowledged).expect("PUBACKs");
        assert!(acknowledged.chunks(4).all(|packet| packet[..2] == [0x40, 2]));
        next += WINDOW;
        if last {
            return next - 1;
        }
    }
}

/// Checks that every number comes once and in order, with this QoS. Gives how many there were before [`END`].
fn receive(mut stream: TcpStream, qos: u8, received: &AtomicU64) -> u64 {
    let mut expected = 0;
    let mut packet = vec![0; if qos == 0 { 18 } else { 20 }];
    loop {
        stream.read_exact(&mut packet).expect("a PUBLISH");
        assert_eq!(packet[0], 0x30 | qos << 1);
        if qos > 0 {
            stream.write_all(&[0x40, 2, packet[10], packet[11]]).expect("it reads");
        }
        let at = packet.len() - 8;
        match u64::from_be_bytes(packet[at..].try_into().expect("eight")) {
            END => return expected,
            number => assert_eq!(number, expected),
        }
        expected += 1;
        received.store(expected, Ordering::Relaxed);
    }
}

fn subscribe(stream: &mut TcpStream, qos: u8) {
    stream.write_all(&[b"\x82\x0b\x00\x01\x00\x06load/#", &[qos][..]].concat()).expect("it reads");
    let mut granted = [0; 5];
    stream.read_exact(&mut granted).expect("SUBACK");
    assert_eq!(granted, [0x90, 3, 0, 1, qos]);
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("this is Linux").count()
}

/// One listener from its start to its end, with clients.
fn cycle(handle: &Handle, number: u32) {
    let name = format!("tcp.churn-{number}");
    let ending = match number % 3 {
        0 => Ending::Keep,
        1 => Ending::Drain { over_ms: 5 },
        _ => Ending::Cut,
    };
    handle.open(listener(&name, [127, 0, 0, 1])).expect("a free port");
    let mut guest = client(address(handle, &name), &format!("guest-{number}"));
    handle.change(listener(&name, [127, 0, 0, 2]), ending).expect("a free port");
    let mut other = client(address(handle, &name), &format!("other-{number}"));
    handle.close(&name, ending).expect("it is open");
    if ending == Ending::Keep {
        for stream in [&mut guest, &mut other] {
            stream.write_all(b"\xc0\x00").expect("it reads");
            let mut pong = [0; 2];
            stream.read_exact(&mut pong).expect("PINGRESP");
            assert_eq!(pong, [0xd0, 0]);
        }
    } else {
        for stream in [&mut guest, &mut other] {
            assert_eq!(stream.read_to_end(&mut Vec::new()).expect("an orderly end"), 0);
        }
    }
}

#[test]
fn a_thousand_listeners_come_and_go_and_another_one_loses_no_message() {
    let node = node();
    let (handle, over) = (node.handle(), Arc::new(AtomicBool::new(false)));
    // Both shards have begun when this is done. Those of this one who stay are the first to be seen to have gone.
    cycle(&handle, CYCLES.next_multiple_of(3));
    while handle.listeners().len() > 1 {
        thread::yield_now();
    }
    let (first, before) = (address(&handle, "tcp.first"), descriptors());
    let mut receivers = Vec::new();
    let received: Arc<[AtomicU64; 3]> = Arc::default();
    for (at, (name, qos)) in [("a", 1), ("b", 1), ("c", 0)].into_iter().enumerate() {
        let (mut stream, received) = (client(first, name), Arc::clone(&received));
        subscribe(&mut stream, qos);
        receivers.push(thread::spawn(move || receive(stream, qos, &received[at])));
    }
    let publisher = thread::spawn({
        let (stream, over) = (client(first, "publisher"), Arc::clone(&over));
        move || publish(stream, &over, &*received)
    });
    (0..CYCLES).for_each(|number| cycle(&handle, number));
    over.store(true, Ordering::Relaxed);
    let published = publisher.join().expect("all were acknowledged");
    for receiver in receivers {
        assert_eq!(receiver.join().expect("all came in order"), published);
    }
    println!("{CYCLES} cycles beside {published} messages to each of 3 subscribers");
    // What the last ones said lingers for a moment.
    while descriptors() > before || handle.listeners().len() > 1 {
        thread::yield_now();
    }
    assert_eq!(descriptors(), before);
    let status = &handle.listeners()[0];
    assert!(status.refused.is_empty() && status.accepted == 4 && status.connections == 0);
    node.stop(Duration::ZERO);
    node.join();
}
