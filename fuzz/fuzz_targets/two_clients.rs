//! Two peers send what they like into a broker of two shards; a third client is none the worse for it.
//!
//! The input is a script: pieces of bytes for one peer or the other, raw or behind a good CONNECT, and what a network
//! does (half-closes, resets, full sockets, time).
#![no_main]

use std::time::Duration;

use breakwater_proto::{Connect, QoS, Version};
use breakwater_testkit::{Broker, Client};
use libfuzzer_sys::fuzz_target;

/// Above this something piles up that should not: both peers together can't have sent 64 KiB.
const HELD_MAX: u64 = 4 << 20;

fuzz_target!(|script: &[u8]| {
    if script.len() > 64 * 1024 {
        return;
    }
    let broker = Broker::with(|options, _| {
        options.memory_bytes = 1 << 20;
        options.sys_for_all = true;
    })
    .shards(2);
    broker.forget_events();
    let mut bystander = broker.client("bystander").connect();
    bystander.subscribe("#", QoS::AtMostOnce);
    let mut peers = [broker.connect_at(0), broker.connect_at(1)];
    let mut rest = script;
    while let Some((&order, behind)) = rest.split_first() {
        rest = behind;
        let which = usize::from(order & 1);
        act(&broker, &mut peers[which], which, order >> 1, &mut rest);
        assert!(broker.held_bytes() < HELD_MAX, "{} bytes held", broker.held_bytes());
    }
    broker.advance(Duration::from_secs(1));
    let _ = bystander.receive();
    bystander.ping();
    drop(peers);
});

fn act(broker: &Broker, peer: &mut Client, which: usize, order: u8, rest: &mut &[u8]) {
    match order % 16 {
        0 => peer.half_close(),
        1 => peer.reset(),
        2 => {
            let (shard, version) = (u16::from(order) >> 4 & 1, Version::ALL[usize::from(order >> 5) % 3]);
            *peer = broker.connect_at(shard);
            let id = ["a", "b"][which ^ usize::from(order >> 6 & 1)];
            let mut bytes = Vec::new();
            Connect { clean_start: order & 0x10 == 0, keep_alive_s: 5, ..Connect::new(version, id) }
                .encode(version, &mut bytes);
            peer.send(&bytes);
        }
        3 => *peer = broker.connect_at(u16::from(order) >> 4 & 1),
        4 => peer.window(usize::from(order) << 3),
        5 => peer.resume_reading(),
        6 => broker.advance(Duration::from_millis(u64::from(order) << 6)),
        7 => broker.step(),
        8 => peer.nudge(),
        9 => {
            peer.discard();
        }
        // Bytes: the next one says how many.
        _ => {
            let Some((&count, behind)) = rest.split_first() else { return };
            let count = usize::from(count).min(behind.len());
            peer.send(&behind[..count]);
            *rest = &behind[count..];
            if order & 0x10 != 0 {
                broker.step();
            }
        }
    }
}
