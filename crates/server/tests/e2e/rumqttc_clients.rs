//! rumqttc, in this process.

mod client;

use std::rc::Rc;

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::sync::Barrier;
use tokio::task::LocalSet;

use self::client::{Client, Version};
use crate::broker::Broker;
use crate::program::DEADLINE;

/// Runs a scenario on one thread, with a deadline for all of it.
fn run(scenario: impl AsyncFnOnce(&Broker)) {
    let broker = Broker::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the system has pollers");
    runtime.block_on(async { tokio::time::timeout(DEADLINE, scenario(&broker)).await }).expect("done in time");
}

async fn delivers_each_qos(broker: &Broker, version: Version) {
    let mut subscriber = Client::connect(broker.port, version, "subscriber").await;
    let mut publisher = Client::connect(broker.port, version, "publisher").await;
    subscriber.subscribe("qos/+", 2).await;
    for qos in [0, 1, 2] {
        for number in 0..100 {
            publisher.publish(&format!("qos/{qos}"), &number.to_string(), qos, false).await;
        }
        for number in 0..100 {
            subscriber.expect(&format!("qos/{qos}"), &number.to_string(), qos, false).await;
        }
    }
}

async fn keeps_replaces_and_clears_retained(broker: &Broker, version: Version) {
    let mut publisher = Client::connect(broker.port, version, "publisher").await;
    publisher.publish("kept/a", "old", 1, true).await;
    publisher.publish("kept/a", "new", 2, true).await;
    publisher.publish("kept/gone", "old", 1, true).await;
    publisher.publish("kept/gone", "", 1, true).await;
    let mut subscriber = Client::connect(broker.port, version, "subscriber").await;
    subscriber.subscribe("kept/#", 2).await;
    subscriber.expect("kept/a", "new", 2, true).await;
    publisher.publish("kept/live", "now", 1, true).await;
    subscriber.expect("kept/live", "now", 1, false).await;
}

async fn publishes_the_will_of_a_client_that_is_cut(broker: &Broker, version: Version) {
    let mut watcher = Client::connect(broker.port, version, "watcher").await;
    watcher.subscribe("wills", 1).await;
    let holder = Client::connect_with_will(broker.port, version, "wills").await;
    drop(holder);
    watcher.expect("wills", "died", 1, false).await;
    Client::connect_with_will(broker.port, version, "wills").await.leave().await;
    Client::connect(broker.port, version, "last").await.publish("wills", "end", 1, false).await;
    watcher.expect("wills", "end", 1, false).await;
}

async fn shares_messages_among_members(broker: &Broker, version: Version) {
    let mut members = Vec::new();
    for name in ["a", "b", "c"] {
        let mut member = Client::connect(broker.port, version, name).await;
        member.subscribe("$share/group/work", 1).await;
        members.push(member);
    }
    let mut publisher = Client::connect(broker.port, version, "publisher").await;
    for number in 0..60 {
        publisher.publish("work", &number.to_string(), 1, false).await;
    }
    // One publisher: then taking turns is exact.
    let mut got = Vec::new();
    for member in &mut members {
        for _ in 0..20 {
            got.push(member.next().await.payload.parse::<u32>().expect("a number"));
        }
    }
    got.sort_unstable();
    assert_eq!(got, (0..60).collect::<Vec<u32>>());
}

async fn resumes_a_session_with_its_queue(broker: &Broker, version: Version) {
    let mut sleeper = Client::resume(broker.port, version, "sleeper").await;
    assert!(!sleeper.session_present);
    sleeper.subscribe("queue/#", 2).await;
    drop(sleeper);
    // The cut has come to the broker when it has logged it: until then it would send to the dead connection.
    broker.logs(|line| line.contains("disconnected") && line.contains("sleeper"));
    let mut publisher = Client::connect(broker.port, version, "publisher").await;
    for qos in [1, 2] {
        for number in 0..200 {
            publisher.publish(&format!("queue/{qos}"), &number.to_string(), qos, false).await;
        }
    }
    let mut sleeper = Client::resume(broker.port, version, "sleeper").await;
    assert!(sleeper.session_present);
    for qos in [1, 2] {
        for number in 0..200 {
            sleeper.expect(&format!("queue/{qos}"), &number.to_string(), qos, false).await;
        }
    }
}

async fn carries_256_kib(broker: &Broker, version: Version) {
    let payload: String = (0..256 * 1024 / 8).map(|number| format!("{number:08x}")).collect();
    let mut subscriber = Client::connect(broker.port, version, "subscriber").await;
    let mut publisher = Client::connect(broker.port, version, "publisher").await;
    subscriber.subscribe("large", 2).await;
    for qos in [0, 1, 2] {
        publisher.publish("large", &payload, qos, false).await;
        subscriber.expect("large", &payload, qos, false).await;
    }
}

async fn holds_a_thousand_clients(broker: &Broker, version: Version) {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).expect("the soft limit may be raised to the hard one");
    let together = Rc::new(Barrier::new(CROWD));
    let crowd = LocalSet::new();
    let members: Vec<_> = (0..CROWD)
        .map(|number| crowd.spawn_local(be_one_of_many(broker.port, version, number, Rc::clone(&together))))
        .collect();
    let all = async {
        for member in members {
            member.await.expect("it is content");
        }
    };
    crowd.run_until(all).await;
}

const CROWD: usize = 1000;

async fn be_one_of_many(port: u16, version: Version, number: usize, together: Rc<Barrier>) {
    let mut client = Client::connect(port, version, &format!("crowd-{number}")).await;
    client.subscribe(&format!("to/{number}"), 1).await;
    client.subscribe("all", 1).await;
    together.wait().await;
    client.publish(&format!("to/{}", (number + 1) % CROWD), &number.to_string(), 1, false).await;
    if number == 0 {
        client.publish("all", "all", 1, false).await;
    }
    let mut got = [client.next().await, client.next().await].map(|message| (message.topic, message.payload));
    got.sort();
    let before = (number + CROWD - 1) % CROWD;
    assert_eq!(got, [("all".into(), "all".into()), (format!("to/{number}"), before.to_string())]);
    // Nobody leaves before the last has what it came for.
    together.wait().await;
}

#[test]
fn rumqttc_clients_of_5_are_told_that_the_server_shuts_down() {
    run(async |broker| {
        let client = Client::connect(broker.port, Version::Five, "client").await;
        broker.signal(crate::program::Signal::TERM);
        assert_eq!(client.last_words().await, Some(0x8B));
    });
}

#[test]
fn rumqttc_clients_of_3_1_1_exchange_messages_of_each_qos() {
    run(async |broker| delivers_each_qos(broker, Version::Three).await);
}

#[test]
fn rumqttc_clients_of_3_1_1_find_retained_messages() {
    run(async |broker| keeps_replaces_and_clears_retained(broker, Version::Three).await);
}

#[test]
fn rumqttc_clients_of_3_1_1_leave_a_will_when_cut() {
    run(async |broker| publishes_the_will_of_a_client_that_is_cut(broker, Version::Three).await);
}

#[test]
fn rumqttc_clients_of_3_1_1_share_a_subscription() {
    run(async |broker| shares_messages_among_members(broker, Version::Three).await);
}

#[test]
fn rumqttc_clients_of_3_1_1_resume_a_session_with_its_queue() {
    run(async |broker| resumes_a_session_with_its_queue(broker, Version::Three).await);
}

#[test]
fn rumqttc_clients_of_3_1_1_carry_256_kib() {
    run(async |broker| carries_256_kib(broker, Version::Three).await);
}

#[test]
fn rumqttc_clients_of_3_1_1_come_a_thousand_at_once() {
    run(async |broker| holds_a_thousand_clients(broker, Version::Three).await);
}

#[test]
fn rumqttc_clients_of_5_exchange_messages_of_each_qos() {
    run(async |broker| delivers_each_qos(broker, Version::Five).await);
}

#[test]
fn rumqttc_clients_of_5_find_retained_messages() {
    run(async |broker| keeps_replaces_and_clears_retained(broker, Version::Five).await);
}

#[test]
fn rumqttc_clients_of_5_leave_a_will_when_cut() {
    run(async |broker| publishes_the_will_of_a_client_that_is_cut(broker, Version::Five).await);
}

#[test]
fn rumqttc_clients_of_5_share_a_subscription() {
    run(async |broker| shares_messages_among_members(broker, Version::Five).await);
}

#[test]
fn rumqttc_clients_of_5_resume_a_session_with_its_queue() {
    run(async |broker| resumes_a_session_with_its_queue(broker, Version::Five).await);
}

#[test]
fn rumqttc_clients_of_5_carry_256_kib() {
    run(async |broker| carries_256_kib(broker, Version::Five).await);
}

#[test]
fn rumqttc_clients_of_5_come_a_thousand_at_once() {
    run(async |broker| holds_a_thousand_clients(broker, Version::Five).await);
}
