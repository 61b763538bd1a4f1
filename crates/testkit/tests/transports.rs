//! The shards behave the same whatever lies between them and their clients.

use breakwater_proto::{QoS, Version};
use breakwater_testkit::{Broker, Transport, simulation};

#[test]
fn messages_of_every_length_go_both_ways_over_every_transport() {
    for transport in Transport::ALL {
        for version in [Version::V311, Version::V5] {
            let broker = Broker::new().shards(2).over(transport);
            let mut reader = broker.client("reader").version(version).connect();
            reader.subscribe("t", QoS::AtLeastOnce);
            let mut writer = broker.client("writer").version(version).connect();
            let lengths = [0, 1, 100, 125, 126, 127, 5_000, 16_384, 65_535, 65_536, 300_000];
            for length in lengths {
                writer.publish("t", QoS::AtLeastOnce, &vec![7; length]);
                assert_eq!(reader.payloads(), [vec![7; length]], "{transport:?}");
            }
            // As one piece, and in as many as there are bytes.
            for length in lengths {
                writer.send_publish("t", QoS::AtMostOnce, false, &vec![8; length / 10]);
            }
            assert_eq!(reader.payloads(), lengths.map(|length| vec![8; length / 10]), "{transport:?}");
            for byte in [0x30, 4, 0, 1, b't'].into_iter().chain(version.is_v5().then_some(0)).chain([b'x']) {
                let length = if version.is_v5() { 5 } else { 4 };
                writer.send(&[if byte == 4 { length } else { byte }]);
                broker.step();
            }
            assert_eq!(reader.payloads(), [b"x"], "{transport:?}");
        }
    }
}

#[test]
fn what_a_full_socket_does_not_take_comes_later_and_whole() {
    for transport in Transport::ALL {
        let broker = Broker::new().over(transport);
        let mut reader = broker.client("reader").receive_maximum(1000).connect();
        reader.subscribe("t", QoS::AtLeastOnce);
        let mut writer = broker.client("writer").connect();
        reader.stop_reading();
        for number in 0..200_u32 {
            writer.publish("t", QoS::AtLeastOnce, &number.to_be_bytes().repeat(500));
        }
        let mut seen = Vec::new();
        for room in 0..400 {
            reader.window(1 + room);
            seen.append(&mut reader.payloads());
        }
        assert!(seen.len() > 10, "{transport:?}");
        reader.resume_reading();
        seen.append(&mut reader.payloads());
        let wanted: Vec<_> = (0..200_u32).map(|number| number.to_be_bytes().repeat(500)).collect();
        assert_eq!(seen.len(), wanted.len(), "{transport:?}");
        assert!(seen == wanted, "{transport:?}");
    }
}

/// The whole suite runs over each with `BREAKWATER_TRANSPORT`; these few seeds are for every run of the tests.
#[test]
fn seeds_of_the_simulation_break_no_promise_over_any_transport() {
    for seed in 0..24 {
        for transport in Transport::ALL {
            if let Err(failure) = simulation::run_over(seed, transport) {
                panic!("over {transport:?}: {failure}");
            }
        }
    }
}
