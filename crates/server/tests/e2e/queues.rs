//! Queues of offline clients as publishers meet them: with real clients, and a configuration that changes.

use std::process::Command;

use crate::broker::Broker;
use crate::program::{Program, Signal, installed};

/// What `mosquitto_pub` says of a message with QoS 1 or 2.
fn publish(program: &std::path::Path, port: &str, version: &str, qos: &str) -> String {
    let mut command = Command::new(program);
    command.args(["-h", "127.0.0.1", "-p", port, "-V", version, "-q", qos, "-t", "t", "-m", "m"]);
    Program::start(&mut command).finish().lines.join("\n")
}

#[test]
fn mosquitto_pub_is_told_that_a_queue_is_full_once_that_is_configured() {
    let (Some(publisher), Some(subscriber)) =
        (installed("mosquitto_pub", "mosquitto-clients"), installed("mosquitto_sub", "mosquitto-clients"))
    else {
        return;
    };
    let folder = std::env::temp_dir().join(format!("breakwater-e2e-queues-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder takes folders");
    let file = folder.join("b.toml");
    let configure = |rule: &str| {
        let text = format!("queue.max_messages = 2\nqueue.when_full = '{rule}'\n");
        std::fs::write(&file, text).expect("it takes files");
    };
    configure("drop_newest");
    let path = |path: &std::path::Path| path.display().to_string();
    let broker = Broker::start_with(&["--config", &path(&file), "--data", &path(&folder.join("data"))]);
    let port = broker.port.to_string();
    let come_back = |flags: &[&str]| {
        let mut command = Command::new(&subscriber);
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", "mqttv5", "-c", "-x", "3600", "-i", "away"]);
        Program::start(command.args(["-q", "2", "-t", "t"]).args(flags)).succeed()
    };
    come_back(&["-E"]);
    for _ in 0..3 {
        assert_eq!(publish(&publisher, &port, "mqttv5", "1"), "", "the newest is dropped, and nobody told");
    }
    configure("refuse");
    broker.signal(Signal::HUP);
    broker.logs(|line| line.contains("queue.when_full"));
    come_back(&["-C", "2"]);
    for qos in ["1", "2"] {
        assert_eq!(publish(&publisher, &port, "mqttv5", qos), "");
    }
    for qos in ["1", "2"] {
        let told = publish(&publisher, &port, "mqttv5", qos);
        assert!(told.contains("Quota exceeded"), "{told}");
        assert_eq!(publish(&publisher, &port, "mqttv311", qos), "", "who can't be told is acknowledged");
    }
    broker.kill();
    let _ = std::fs::remove_dir_all(&folder);
}
