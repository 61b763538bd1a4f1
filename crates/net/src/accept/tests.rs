use std::net::TcpStream as Client;
use std::sync::mpsc;

use mio::Poll;
use mio::net::TcpListener;

use super::*;
use crate::listener::{AccessRule, ListenerOptions, ProxyOptions};
use crate::roll::{Roll, Standing};

/// An acceptor whose listeners have these options, one socket each, and their addresses.
fn acceptor(poll: &Poll, options: &[ListenerOptions]) -> (Acceptor, Vec<SocketAddr>) {
    let (mut acceptor, mut addresses, mut roll) = (Acceptor::new(100), Vec::new(), Roll::default());
    let node = Arc::default();
    for options in options {
        let socket = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        addresses.push(socket.local_addr().expect("bound"));
        let standing = Arc::new(Standing::new("tcp.test".into(), 0, Arc::clone(&node)));
        let listener = roll.enroll(&standing).expect("a number");
        let terms = Arc::new(Terms::new(options.clone()));
        let place = 70 + u32::from(listener.number);
        let ear = Ear::new(EarSocket::Tcp(socket), listener, terms, place);
        acceptor.add(ear, poll.registry()).expect("it can be watched");
    }
    (acceptor, addresses)
}

fn connect(address: SocketAddr) -> Client {
    Client::connect(address).expect("somebody listens")
}

fn peers(acceptor: &mut Acceptor, now: Instant) -> Vec<u16> {
    std::iter::from_fn(|| match acceptor.accept(now) {
        Accepted::Connection(arrival) => Some(arrival.peer.listener),
        _ => None,
    })
    .collect()
}

#[test]
fn listeners_take_turns() {
    let poll = Poll::new().expect("a poller");
    let (mut acceptor, at) = acceptor(&poll, &[ListenerOptions::default(), ListenerOptions::default()]);
    let _clients = [connect(at[0]), connect(at[0]), connect(at[0]), connect(at[1])];
    assert_eq!(peers(&mut acceptor, Instant(1)), [0, 1, 0, 0]);
}

#[test]
fn a_listener_rests_when_its_rate_is_reached_and_others_do_not() {
    let poll = Poll::new().expect("a poller");
    let slow = ListenerOptions { accept_rate: 10, accept_burst: 2, ..ListenerOptions::default() };
    let (mut acceptor, at) = acceptor(&poll, &[slow, ListenerOptions::default()]);
    let _clients: Vec<Client> = (0..10).map(|client| connect(at[client % 2])).collect();
    assert_eq!(peers(&mut acceptor, Instant(1000)), [0, 1, 0, 1, 1, 1, 1]);
    assert!(!acceptor.is_ready(Instant(1000)), "no busy loop");
    let next = acceptor.rested_until().expect("three wait");
    assert_eq!(next, Instant(1100));
    assert!(acceptor.is_ready(next));
    assert_eq!(peers(&mut acceptor, next), [0]);
}

#[test]
fn rules_and_bounds_turn_connections_away() {
    let poll = Poll::new().expect("a poller");
    let nobody = vec![AccessRule { allow: false, network: None }];
    let options = [
        ListenerOptions { access: nobody.clone(), ..ListenerOptions::default() },
        ListenerOptions { connections_max: 1, ..ListenerOptions::default() },
        ListenerOptions { connections_per_address_max: 1, ..ListenerOptions::default() },
        ListenerOptions { access: nobody, proxy: Some(ProxyOptions::default()), ..ListenerOptions::default() },
    ];
    let (mut acceptor, at) = acceptor(&poll, &options);
    for (address, expected) in
        at.into_iter().zip([Some(Refusal::Denied), Some(Refusal::ListenerFull), Some(Refusal::AddressFull), None])
    {
        (0..4).for_each(|ear| acceptor.edge(ear));
        let (_one, _two) = (connect(address), connect(address));
        let (mut held, mut refusals) = (Vec::new(), Vec::new());
        loop {
            match acceptor.accept(Instant(1)) {
                Accepted::Connection(arrival) => held.push(arrival),
                Accepted::Refused(_, _, _, refusal) => refusals.push(refusal),
                Accepted::Nothing | Accepted::Starved(_) => break,
            }
        }
        assert_eq!(refusals.first().copied(), expected);
        assert_eq!(held.len() + refusals.len(), 2);
        // Behind a proxy nobody is judged by the proxy's address.
        assert_eq!(held.iter().all(|arrival| arrival.terms.is_none()), expected.is_some());
    }
}

#[test]
fn what_has_queued_is_taken_before_a_socket_closes() {
    let poll = Poll::new().expect("a poller");
    let (mut acceptor, at) = acceptor(&poll, &[ListenerOptions::default()]);
    let _clients = [connect(at[0]), connect(at[0])];
    let (done, closed) = mpsc::channel();
    acceptor.silence(70, false, done);
    assert_eq!(peers(&mut acceptor, Instant(1)), [0, 0]);
    assert!(closed.recv().is_err(), "the socket is closed");
    assert!(Client::connect(at[0]).is_err());
}

#[test]
fn a_closed_place_at_the_poller_is_taken_again() {
    let poll = Poll::new().expect("a poller");
    let (mut acceptor, _) = acceptor(&poll, &[ListenerOptions::default(), ListenerOptions::default()]);
    let (done, closed) = mpsc::channel();
    acceptor.silence(70, true, done);
    assert!(closed.recv().is_err());
    let socket = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
    let address = socket.local_addr().expect("bound");
    let other = acceptor.ears[1].as_ref().expect("it listens");
    let ear = Ear::new(EarSocket::Tcp(socket), Arc::clone(&other.listener), Arc::clone(&other.terms), 8);
    acceptor.add(ear, poll.registry()).expect("it can be watched");
    assert_eq!(acceptor.ears.len(), 2);
    let _client = connect(address);
    assert_eq!(peers(&mut acceptor, Instant(1)), [1]);
}
