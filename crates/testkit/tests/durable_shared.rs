//! Shared groups over the ends of their members: what the store has for one that goes comes to another, once, over power cuts too.

use std::time::Duration;

use breakwater_proto::{QoS, ReasonCode, Version};
use breakwater_store::{Crash, Fault, FaultKind, SimulatedDisk};
use breakwater_testkit::{Broker, Client};

const MESSAGES: usize = 300;
const BEGUN: &[u8] = b"begun";

fn on(disk: &SimulatedDisk) -> Broker {
    Broker::new().shards(3).on_disk(disk)
}

/// Subscribes to the group, and goes.
fn join(broker: &Broker, id: &str, qos: QoS) {
    let mut member = broker.client(id).expiry(3600).connect();
    member.subscribe("$share/g/work/#", qos);
    member.disconnect();
}

fn names() -> Vec<Vec<u8>> {
    (0..MESSAGES).map(|number| format!("{number:04}").into_bytes()).collect()
}

fn publish(broker: &Broker, publisher: &mut Client, qos: QoS) {
    for payload in names() {
        assert!(!publisher.publish("work/1", qos, &payload).is_error());
    }
    broker.step();
}

/// Messages for the group, more than a queue has in memory, while `first` is its only member and takes none. It has begun to get
/// one, which does not count.
fn work_for(broker: &Broker, first: &str, qos: QoS) {
    let mut member = broker.client(first).expiry(3600).receive_maximum(1).connect();
    member.subscribe("$share/g/work/#", qos);
    let mut publisher = broker.client("publisher").connect();
    publisher.publish("work/1", qos, BEGUN);
    publish(broker, &mut publisher, qos);
    member.disconnect();
}

/// All that a client gets, answered.
fn take(broker: &Broker, client: &mut Client) -> Vec<Vec<u8>> {
    let mut got = Vec::new();
    let mut silent = 0;
    while silent < 4 {
        let more = client.payloads();
        silent = if more.is_empty() { silent + 1 } else { 0 };
        got.extend(more.into_iter().filter(|payload| *payload != BEGUN));
        broker.advance(Duration::from_millis(600));
    }
    got
}

fn resume(broker: &Broker, id: &str) -> Client {
    let (client, connack) = broker.client(id).expiry(3600).resume().attempt();
    assert!(connack.expect("CONNACK").connack().session_present);
    client
}

#[test]
fn what_a_member_had_in_the_store_alone_comes_to_another_one_when_its_session_ends() {
    for (end, qos) in ["clean start", "expiry", "operator"]
        .into_iter()
        .flat_map(|end| [QoS::AtLeastOnce, QoS::ExactlyOnce].map(|qos| (end, qos)))
    {
        let disk = SimulatedDisk::new();
        let broker = on(&disk);
        let ids: Vec<String> = (0..3).map(|shard| broker.id_at(shard, "member")).collect();
        work_for(&broker, &ids[0], qos);
        let mut other = broker.client(&ids[1]).expiry(36_000).connect();
        other.subscribe("$share/g/work/#", qos);
        other.expect_nothing();
        match end {
            "clean start" => drop(broker.client(&ids[0]).connect()),
            "expiry" => broker.advance(Duration::from_secs(3601)),
            _ => drop(broker.kick(&ids[0], ReasonCode::AdministrativeAction, true)),
        }
        let mut got = take(&broker, &mut other);
        got.sort();
        assert_eq!(got, names(), "{end} {qos:?}");
        broker.advance(Duration::from_secs(3));
        // One session is left in the store, and it has nothing more to say.
        let again = on(&disk.after(Crash::Nothing));
        assert_eq!(again.sessions(), 1, "{end}");
        assert_eq!(take(&again, &mut resume(&again, &ids[1])), Vec::<Vec<u8>>::new(), "{end} {qos:?}");
    }
}

#[test]
fn a_member_without_a_session_gets_them_too() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    work_for(&broker, "first", QoS::AtLeastOnce);
    let mut other = broker.client("other").version(Version::V311).connect();
    other.subscribe("$share/g/work/#", QoS::AtLeastOnce);
    drop(broker.client("first").connect());
    let mut got = take(&broker, &mut other);
    got.sort();
    assert_eq!(got, names());
}

#[test]
fn what_is_not_of_a_group_ends_with_the_session() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    let mut first = broker.client("first").expiry(3600).connect();
    first.subscribe("work/#", QoS::AtLeastOnce);
    first.disconnect();
    work_for(&broker, "second", QoS::AtLeastOnce);
    join(&broker, "first", QoS::AtLeastOnce);
    let mut other = broker.client("other").connect();
    other.subscribe("$share/another group/work/#", QoS::AtLeastOnce);
    drop(broker.client("first").connect());
    broker.advance(Duration::from_secs(3));
    assert_eq!(other.payloads(), Vec::<Vec<u8>>::new());
    assert_eq!(take(&broker, &mut resume(&broker, "second")).len(), MESSAGES);
}

#[test]
fn the_last_member_takes_its_messages_with_it() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    work_for(&broker, "only", QoS::AtLeastOnce);
    drop(broker.client("only").connect());
    broker.advance(Duration::from_secs(3));
    assert_eq!(on(&disk.after(Crash::Nothing)).sessions(), 0);
}

#[test]
fn a_disk_that_is_full_for_a_while_loses_none_of_them() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    work_for(&broker, "first", QoS::ExactlyOnce);
    join(&broker, "second", QoS::ExactlyOnce);
    drop(broker.client("first").connect());
    disk.set_faults(vec![Fault { first: disk.steps(), steps: u64::MAX / 2, kind: FaultKind::NoRoom }]);
    broker.advance(Duration::from_secs(5));
    disk.set_faults(Vec::new());
    broker.advance(Duration::from_secs(5));
    let mut got = take(&broker, &mut resume(&broker, "second"));
    got.sort();
    assert_eq!(got, names());
}

#[test]
fn a_power_cut_while_they_are_handed_over_loses_and_repeats_none() {
    let seeds = 40;
    let mut cut = 0;
    for seed in 0..seeds {
        let disk = SimulatedDisk::new();
        let broker = on(&disk).seed(seed);
        let (first, second) = (broker.id_at(0, "first"), broker.id_at((seed % 3) as u16, "second"));
        work_for(&broker, &first, QoS::ExactlyOnce);
        join(&broker, &second, QoS::ExactlyOnce);
        broker.advance(Duration::from_secs(2));
        disk.set_faults(vec![Fault { first: disk.steps() + seed, steps: u64::MAX / 2, kind: FaultKind::Power }]);
        drop(broker.client(&first).start());
        broker.advance(Duration::from_millis(1500));
        disk.set_faults(Vec::new());
        let crash = if seed % 2 == 0 { Crash::Scattered(seed) } else { Crash::Torn(seed) };
        let disk = disk.after(crash);
        let broker = on(&disk);
        cut += usize::from(broker.sessions() == 2);
        // If it was not known that the session has ended, it ends now.
        drop(broker.client(&first).connect());
        broker.advance(Duration::from_secs(4));
        let mut got = take(&broker, &mut resume(&broker, &second));
        got.sort();
        assert_eq!(got, names(), "seed {seed}");
    }
    println!("{cut} of {seeds} were cut before the session had ended");
    assert!(cut < seeds as usize);
}

#[test]
fn the_member_that_comes_back_first_gets_what_came_while_all_were_away() {
    for (qos, lasting) in [QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().flat_map(|qos| [(qos, false), (qos, true)]) {
        for first in 0..3 {
            let disk = SimulatedDisk::new();
            let broker = on(&disk);
            let ids: Vec<String> = (0..3).map(|shard| broker.id_at(shard, "member")).collect();
            ids.iter().for_each(|id| join(&broker, id, qos));
            let mut publisher = broker.client("publisher").expiry(if lasting { 100 } else { 0 }).connect();
            publish(&broker, &mut publisher, qos);
            // A power cut in between changes nothing.
            let broker = if first == 1 { on(&disk.after(Crash::Nothing)) } else { broker };
            let mut got = take(&broker, &mut resume(&broker, &ids[first]));
            got.sort();
            assert_eq!(got, names(), "{qos:?} {lasting} {first}");
            for id in &ids {
                assert_eq!(take(&broker, &mut resume(&broker, id)), Vec::<Vec<u8>>::new());
            }
        }
    }
}

#[test]
fn a_new_member_gets_what_waits_for_its_group() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    join(&broker, "away", QoS::AtLeastOnce);
    publish(&broker, &mut broker.client("publisher").connect(), QoS::AtLeastOnce);
    let mut new = broker.client("new").connect();
    new.subscribe("$share/g/work/#", QoS::AtLeastOnce);
    let mut got = take(&broker, &mut new);
    got.sort();
    assert_eq!(got, names());
}

#[test]
fn what_a_group_waits_for_is_gone_with_its_last_member() {
    let disk = SimulatedDisk::new();
    let broker = on(&disk);
    join(&broker, "only", QoS::AtLeastOnce);
    publish(&broker, &mut broker.client("publisher").connect(), QoS::AtLeastOnce);
    drop(broker.client("only").connect());
    (0..70).for_each(|_| broker.advance(Duration::from_secs(1)));
    let mut new = broker.client("new").connect();
    new.subscribe("$share/g/work/#", QoS::AtLeastOnce);
    assert_eq!(take(&broker, &mut new), Vec::<Vec<u8>>::new());
}

#[test]
fn a_pool_that_is_full_leaves_the_rest_to_members_that_are_away() {
    let disk = SimulatedDisk::new();
    let broker = Broker::with(|options, _| options.limits.queue_messages_max = 200).shards(3).on_disk(&disk);
    join(&broker, "away", QoS::AtLeastOnce);
    publish(&broker, &mut broker.client("publisher").connect(), QoS::AtLeastOnce);
    let mut got = take(&broker, &mut resume(&broker, "away"));
    got.sort();
    assert_eq!(got, names());
}

#[test]
fn a_power_cut_while_a_group_gets_what_waited_loses_and_repeats_none() {
    for seed in 0..40 {
        let disk = SimulatedDisk::new();
        let broker = on(&disk).seed(seed);
        let ids: Vec<String> = (0..3).map(|shard| broker.id_at(shard, "member")).collect();
        ids.iter().for_each(|id| join(&broker, id, QoS::ExactlyOnce));
        let mut publisher = broker.client("publisher").expiry(if seed % 2 == 0 { 100 } else { 0 }).connect();
        publish(&broker, &mut publisher, QoS::ExactlyOnce);
        broker.advance(Duration::from_secs(2));
        disk.set_faults(vec![Fault { first: disk.steps() + seed, steps: u64::MAX / 2, kind: FaultKind::Power }]);
        let _takes_none = broker.client(&ids[(seed % 3) as usize]).expiry(3600).receive_maximum(1).resume().start();
        broker.advance(Duration::from_millis(1500));
        disk.set_faults(Vec::new());
        let crash = if seed % 2 == 0 { Crash::Scattered(seed) } else { Crash::Torn(seed) };
        let broker = on(&disk.after(crash)).seed(seed);
        let mut members: Vec<Client> = ids.iter().map(|id| resume(&broker, id)).collect();
        let mut got: Vec<Vec<u8>> = members.iter_mut().flat_map(|member| take(&broker, member)).collect();
        got.sort();
        assert_eq!(got, names(), "seed {seed}");
    }
}
