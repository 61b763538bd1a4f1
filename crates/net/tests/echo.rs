//! The loop over real sockets, with an engine that echoes instead of a shard.
#![forbid(unsafe_code)]

#[path = "echo/engine.rs"]
mod engine;
#[path = "echo/listeners.rs"]
mod listeners;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use breakwater_net::Options;
use engine::{connect, echo, serve};

#[test]
fn every_connection_is_served_on_whichever_shard_it_lands() {
    let (node, address, _) = serve(3, &Options::default(), false);
    let mut streams: Vec<TcpStream> = (0..40).map(|_| connect(address)).collect();
    for round in 0..3_u8 {
        for stream in &mut streams {
            echo(stream, &[round; 100]);
        }
    }
    drop(streams);
    node.stop(Duration::from_secs(20));
    node.join();
}

#[test]
fn last_words_arrive_although_input_is_left_unread() {
    let (node, address, _) = serve(1, &Options::default(), false);
    let mut stream = connect(address);
    // One write: all of it is in the socket when the first bytes are read.
    stream.write_all(&[b'q'; 20_000]).expect("the node reads");
    let mut last = Vec::new();
    stream.read_to_end(&mut last).expect("no reset");
    assert_eq!(last, b"bye");
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn last_words_arrive_although_input_goes_on() {
    let options = Options { linger_ms: u64::from(u32::MAX), ..Options::default() };
    let (node, address, _) = serve(1, &options, false);
    let mut stream = connect(address);
    stream.write_all(b"q").expect("the node reads");
    stream.set_nodelay(true).expect("a TCP socket");
    let mut first = [0];
    stream.read_exact(&mut first).expect("no reset");
    // The node has said all it has to say, and takes what comes as long as the peer hasn't seen that.
    for _ in 0..100 {
        stream.write_all(&[0; 20_000]).expect("no reset");
    }
    let mut last = Vec::new();
    stream.read_to_end(&mut last).expect("no reset");
    assert_eq!(last, b"ye");
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn who_never_closes_is_cut_in_the_end() {
    let options = Options { linger_ms: 1, ..Options::default() };
    let (node, address, _) = serve(1, &options, false);
    let mut stream = connect(address);
    stream.write_all(b"q").expect("the node reads");
    let mut last = Vec::new();
    stream.read_to_end(&mut last).expect("no reset");
    assert_eq!(last, b"bye");
    // The deadline of the test is that of the run: sooner or later a write meets a closed socket.
    while stream.write_all(b"more").is_ok() {
        std::thread::yield_now();
    }
    node.stop(Duration::ZERO);
    node.join();
}

#[test]
fn a_stop_says_good_bye_and_closes_the_port() {
    let (node, address, _) = serve(2, &Options::default(), false);
    let mut streams: Vec<TcpStream> = (0..10).map(|_| connect(address)).collect();
    streams.iter_mut().for_each(|stream| echo(stream, b"here"));
    node.stop(Duration::from_secs(20));
    for stream in &mut streams {
        let mut last = Vec::new();
        stream.read_to_end(&mut last).expect("an orderly end");
        assert_eq!(last, b"bye");
    }
    node.join();
    assert!(TcpStream::connect(address).is_err(), "nobody listens");
}

#[test]
fn those_who_stay_are_cut_when_the_time_is_over() {
    let (node, address, _) = serve(2, &Options::default(), true);
    let mut stream = connect(address);
    echo(&mut stream, b"here");
    node.stop(Duration::from_millis(50));
    node.join();
    let mut last = Vec::new();
    let _ = stream.read_to_end(&mut last);
    assert!(last.is_empty());
}

#[test]
fn a_full_node_closes_what_is_too_much_and_says_so() {
    let options = Options { connections_max: 2, ..Options::default() };
    let (node, address, lines) = serve(1, &options, false);
    let mut kept: Vec<TcpStream> = (0..2).map(|_| connect(address)).collect();
    kept.iter_mut().for_each(|stream| echo(stream, b"here"));
    let mut refused = connect(address);
    let mut rest = Vec::new();
    let _ = refused.read_to_end(&mut rest);
    assert!(rest.is_empty());
    assert!(lines.0.lock().expect("lines").iter().any(|line| line.contains("limits.connections")));
    // One leaves, the next gets its place.
    let mut gone = kept.pop().expect("two are there");
    gone.write_all(b"q").expect("it is served");
    gone.read_to_end(&mut rest).expect("an orderly end");
    echo(&mut connect(address), b"next");
    node.stop(Duration::ZERO);
    node.join();
}
