//! Listeners come, change and go by the thousand: nobody else notices, and nothing is left of them.
//!
//! Alone in its process, because it counts the descriptors of all of it.
#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

#[path = "echo/engine.rs"]
mod engine;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use breakwater_net::{Ending, ListenerOptions, Options};
use engine::{addresses, connect, echo, listener, serve};

const CYCLES: u32 = 1000;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("this is Linux").count()
}

#[test]
fn a_thousand_listeners_come_and_go_without_loss_elsewhere_and_without_a_trace() {
    let (node, first, lines) = serve(2, &Options::default(), false);
    let handle = node.handle();
    let (over, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    // All shards have begun when they have closed one.
    handle.open(listener("tcp.none", [127, 0, 0, 1])).expect("a free port");
    handle.close("tcp.none", Ending::Keep).expect("it is open");
    let before = descriptors();
    let clients: Vec<_> = (0..4_u8)
        .map(|client| {
            let (over, rounds) = (Arc::clone(&over), Arc::clone(&rounds));
            std::thread::spawn(move || {
                let mut stream = connect(first);
                while !over.load(Ordering::Relaxed) {
                    let sent: Vec<u8> = (0..200).map(|at| at ^ (client << 4) | 0x80).collect();
                    echo(&mut stream, &sent);
                    // New connections of this listener are let in all the while, too.
                    echo(&mut connect(first), b"new");
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let endings = [Ending::Keep, Ending::Drain { over_ms: 5 }, Ending::Cut];
    for cycle in 0..CYCLES {
        let name = format!("tcp.churn-{cycle}");
        let ending = endings[cycle as usize % endings.len()];
        handle.open(listener(&name, [127, 0, 0, 1])).expect("a free port");
        let mut guest = connect(addresses(&handle, &name)[0]);
        echo(&mut guest, b"guest");
        handle
            .change(ListenerOptions { connections_max: 9, ..listener(&name, [127, 0, 0, 2]) }, ending)
            .expect("a port");
        let mut other = connect(addresses(&handle, &name)[0]);
        echo(&mut other, b"other");
        handle.close(&name, ending).expect("it is open");
    }
    over.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("every byte came back");
    }
    println!("{CYCLES} cycles beside {} rounds of echoes", rounds.load(Ordering::Relaxed));
    assert!(rounds.load(Ordering::Relaxed) > 0);
    // What the guests have left behind lingers for a moment.
    while descriptors() > before || handle.listeners().len() > 1 || lines.profiles().len() > 2 {
        std::thread::yield_now();
    }
    assert_eq!(descriptors(), before);
    assert_eq!(lines.profiles().iter().copied().collect::<Vec<_>>(), [(0, 0), (1, 0)], "one at each shard");
    let left = handle.listeners();
    assert_eq!((left.len(), left[0].refused.len()), (1, 0));
    assert_eq!(lines.about("Fault"), 0);
    node.stop(Duration::ZERO);
    node.join();
}
