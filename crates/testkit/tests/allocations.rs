//! What a message costs in allocations. One test: the counters are the process's.

use std::alloc::System;

use breakwater_proto::{QoS, Version};
use breakwater_testkit::{Broker, Client, out_publish};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Messages between two looks.
const MESSAGES: usize = 1000;

fn batch(version: Version, count: usize, topics: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in 0..count {
        let topic = format!("site/{}/temperature", number % topics);
        out_publish(&topic, QoS::AtMostOnce, false, 0, &[7; 64]).encode(version, &mut bytes);
    }
    bytes
}

/// Allocations per round of messages, once warm.
fn allocations(broker: &Broker, publisher: &mut Client, readers: &mut [Client], bytes: &[u8]) -> usize {
    let mut round = |publisher: &mut Client| {
        publisher.send(bytes);
        broker.step();
        readers.iter_mut().map(Client::discard).sum::<usize>()
    };
    for _ in 0..20 {
        assert!(round(publisher) > 0, "the messages arrive");
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..20 {
        round(publisher);
    }
    let change = region.change();
    change.allocations + change.reallocations
}

#[test]
fn a_qos_0_message_allocates_nothing_once_warm_on_one_shard_and_across() {
    for (shards, reader_version) in [(1, Version::V5), (1, Version::V311), (2, Version::V5), (2, Version::V311)] {
        for topics in [1, 10] {
            let broker = Broker::new().shards(shards);
            broker.forget_events();
            let mut publisher = broker.client(&broker.id_at(0, "publisher")).connect();
            let mut readers: Vec<Client> = (0..5)
                .map(|number| {
                    let id = broker.id_at(shards - 1, &format!("reader{number}-"));
                    let mut reader = broker.client(&id).version(reader_version).connect();
                    reader.subscribe("site/+/temperature", QoS::AtMostOnce);
                    reader
                })
                .collect();
            let bytes = batch(Version::V5, MESSAGES, topics);
            let count = allocations(&broker, &mut publisher, &mut readers, &bytes);
            assert_eq!(count, 0, "{shards} shards, readers of {reader_version}, {topics} topics");
        }
    }
}
