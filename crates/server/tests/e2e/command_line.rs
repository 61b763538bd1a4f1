//! `mosquitto_pub` and `mosquitto_sub`, and our own `pub` and `sub`, which take the same flags.

use std::path::PathBuf;
use std::process::Command;

use crate::broker::{Broker, breakwater};
use crate::program::{Program, installed};

/// A pair of programs that publish and subscribe from the command line.
enum Tool {
    Mosquitto { publish: PathBuf, subscribe: PathBuf },
    Ours,
}

/// A tool, and the version of MQTT that it is asked to speak.
struct Client {
    tool: Tool,
    version: &'static str,
    broker: Broker,
}

impl Client {
    fn mosquitto(version: &'static str) -> Option<Client> {
        let publish = installed("mosquitto_pub", "mosquitto-clients")?;
        let subscribe = installed("mosquitto_sub", "mosquitto-clients")?;
        Some(Client { tool: Tool::Mosquitto { publish, subscribe }, version, broker: Broker::start() })
    }

    fn ours(version: &'static str) -> Client {
        Client { tool: Tool::Ours, version, broker: Broker::start() }
    }

    fn command(&self, subscribe: bool, flags: &[&str]) -> Command {
        let mut command = match &self.tool {
            Tool::Mosquitto { subscribe: program, .. } if subscribe => Command::new(program),
            Tool::Mosquitto { publish: program, .. } => Command::new(program),
            Tool::Ours => {
                let mut command = breakwater();
                command.arg(if subscribe { "sub" } else { "pub" });
                command
            }
        };
        let port = self.broker.port.to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", self.version]).args(flags);
        command
    }

    /// Publishes, and waits until that is done.
    fn publish(&self, flags: &[&str]) {
        Program::start(&mut self.command(false, flags)).succeed();
    }

    fn subscribe(&self, flags: &[&str]) -> Program {
        Program::start(&mut self.command(true, flags))
    }

    /// A subscriber whose subscriptions are in force. It prints `topic|QoS|retained|payload`.
    ///
    /// A retained message behind the filters in the same packet tells when that is so: the tools don't, as long as they
    /// write into a pipe.
    fn listen(&self, flags: &[&str]) -> Program {
        self.publish(&["-t", "ready", "-q", "1", "-r", "-m", "ready"]);
        let mut all = flags.to_vec();
        all.extend(["-F", "%t|%q|%r|%p", "-t", "ready"]);
        let listener = self.subscribe(&all);
        listener.line(|line| line.starts_with("ready|") && line.ends_with("|1|ready"));
        listener
    }

    /// Flags that keep the session of this client.
    fn durable<'a>(&self, id: &'a str) -> Vec<&'a str> {
        let mut flags = vec!["-c", "-i", id];
        if self.version == "mqttv5" {
            flags.extend(["-x", "600"]);
        }
        flags
    }
}

fn delivers_each_qos(client: &Client) {
    let listener = client.listen(&["-q", "2", "-t", "qos/+"]);
    for qos in ["0", "1", "2"] {
        client.publish(&["-q", qos, "-t", &format!("qos/{qos}"), "-m", "over"]);
        assert_eq!(listener.line(|line| line.starts_with(&format!("qos/{qos}"))), format!("qos/{qos}|{qos}|0|over"));
    }
    let granted_less = client.listen(&["-q", "1", "-t", "qos/+"]);
    client.publish(&["-q", "2", "-t", "qos/less", "-m", "over"]);
    assert_eq!(granted_less.line(|line| line.starts_with("qos/less")), "qos/less|1|0|over");
}

fn keeps_replaces_and_clears_retained(client: &Client) {
    client.publish(&["-r", "-q", "1", "-t", "kept/a", "-m", "old"]);
    client.publish(&["-r", "-q", "1", "-t", "kept/a", "-m", "new"]);
    client.publish(&["-r", "-q", "1", "-t", "kept/gone", "-m", "old"]);
    client.publish(&["-r", "-q", "1", "-t", "kept/gone", "-n"]);
    let listener = client.listen(&["-q", "1", "-t", "kept/#"]);
    client.publish(&["-r", "-q", "1", "-t", "kept/live", "-m", "end"]);
    listener.line(|line| line.starts_with("kept/live"));
    let all = listener.lines(2, |line| line.starts_with("kept/"));
    assert_eq!(all, ["kept/a|1|1|new", "kept/live|1|0|end"]);
}

fn publishes_the_will_of_a_killed_client(client: &Client) {
    let listener = client.listen(&["-q", "1", "-t", "wills"]);
    let will = ["--will-topic", "wills", "--will-payload", "died", "--will-qos", "1", "-t", "idle"];
    client.listen(&will).kill();
    assert_eq!(listener.line(|line| line.starts_with("wills")), "wills|1|0|died");
}

fn shares_messages_among_members(client: &Client) {
    let members: Vec<Program> = (0..3).map(|_| client.listen(&["-q", "1", "-t", "$share/group/work"])).collect();
    let all = client.listen(&["-q", "1", "-t", "work"]);
    let expected: Vec<String> = (10..22).map(|number| format!("work|1|0|{number}")).collect();
    let input: Vec<String> = (10..22).map(|number| number.to_string()).collect();
    // One publisher: then taking turns is exact.
    let mut command = client.command(false, &["-q", "1", "-t", "work", "-l"]);
    Program::start_with_input(&mut command, &input.join("\n")).succeed();
    assert_eq!(all.lines(12, |line| line.starts_with("work")), expected);
    let mut shared: Vec<String> =
        members.iter().flat_map(|member| member.lines(4, |line| line.starts_with("work"))).collect();
    shared.sort();
    assert_eq!(shared, expected, "each message reaches one member, and each member gets as many");
}

fn resumes_a_session_with_its_queue(client: &Client) {
    let session = [&client.durable("sleeper")[..], &["-q", "2", "-t", "queue/#"]].concat();
    client.subscribe(&[&session[..], &["-E"]].concat()).succeed();
    for qos in ["1", "2"] {
        for number in ["a", "b", "c"] {
            client.publish(&["-q", qos, "-t", &format!("queue/{qos}"), "-m", number]);
        }
    }
    let mut lines = client.subscribe(&[&session[..], &["-C", "6", "-F", "%t|%q|%p"]].concat()).succeed();
    // Each message had a publisher of its own: nothing is promised about the order.
    lines.sort();
    assert_eq!(lines, ["queue/1|1|a", "queue/1|1|b", "queue/1|1|c", "queue/2|2|a", "queue/2|2|b", "queue/2|2|c"]);
}

fn carries_256_kib(client: &Client) {
    let payload: String = (0..256 * 1024 / 8).map(|number| format!("{number:08x}")).collect();
    let file = std::env::temp_dir().join(format!("breakwater-e2e-{}", client.broker.port));
    std::fs::write(&file, &payload).expect("the temporary folder takes files");
    let listener = client.listen(&["-q", "2", "-t", "large/#"]);
    for qos in ["0", "1", "2"] {
        client.publish(&["-q", qos, "-t", &format!("large/{qos}"), "-f", &file.to_string_lossy()]);
        let line = listener.line(|line| line.starts_with(&format!("large/{qos}|")));
        assert!(line.ends_with(&format!("|{payload}")), "{} bytes with QoS {qos}", line.len());
    }
    std::fs::remove_file(&file).expect("it was made above");
}

#[test]
fn mosquitto_clients_of_3_1_exchange_messages_of_each_qos() {
    Client::mosquitto("mqttv31").iter().for_each(delivers_each_qos);
}

#[test]
fn mosquitto_clients_of_3_1_resume_a_session_with_its_queue() {
    Client::mosquitto("mqttv31").iter().for_each(resumes_a_session_with_its_queue);
}

#[test]
fn mosquitto_clients_of_3_1_1_exchange_messages_of_each_qos() {
    Client::mosquitto("mqttv311").iter().for_each(delivers_each_qos);
}

#[test]
fn mosquitto_clients_of_3_1_1_find_retained_messages() {
    Client::mosquitto("mqttv311").iter().for_each(keeps_replaces_and_clears_retained);
}

#[test]
fn mosquitto_clients_of_3_1_1_leave_a_will_when_killed() {
    Client::mosquitto("mqttv311").iter().for_each(publishes_the_will_of_a_killed_client);
}

#[test]
fn mosquitto_clients_of_3_1_1_share_a_subscription() {
    Client::mosquitto("mqttv311").iter().for_each(shares_messages_among_members);
}

#[test]
fn mosquitto_clients_of_3_1_1_resume_a_session_with_its_queue() {
    Client::mosquitto("mqttv311").iter().for_each(resumes_a_session_with_its_queue);
}

#[test]
fn mosquitto_clients_of_3_1_1_carry_256_kib() {
    Client::mosquitto("mqttv311").iter().for_each(carries_256_kib);
}

#[test]
fn our_clients_of_3_1_1_exchange_messages_of_each_qos() {
    delivers_each_qos(&Client::ours("mqttv311"));
}

#[test]
fn our_clients_of_3_1_1_find_retained_messages() {
    keeps_replaces_and_clears_retained(&Client::ours("mqttv311"));
}

#[test]
fn our_clients_of_3_1_1_leave_a_will_when_killed() {
    publishes_the_will_of_a_killed_client(&Client::ours("mqttv311"));
}

#[test]
fn our_clients_of_3_1_1_share_a_subscription() {
    shares_messages_among_members(&Client::ours("mqttv311"));
}

#[test]
fn our_clients_of_3_1_1_resume_a_session_with_its_queue() {
    resumes_a_session_with_its_queue(&Client::ours("mqttv311"));
}

#[test]
fn our_clients_of_3_1_1_carry_256_kib() {
    carries_256_kib(&Client::ours("mqttv311"));
}

#[test]
fn mosquitto_clients_of_5_exchange_messages_of_each_qos() {
    Client::mosquitto("mqttv5").iter().for_each(delivers_each_qos);
}

#[test]
fn mosquitto_clients_of_5_find_retained_messages() {
    Client::mosquitto("mqttv5").iter().for_each(keeps_replaces_and_clears_retained);
}

#[test]
fn mosquitto_clients_of_5_leave_a_will_when_killed() {
    Client::mosquitto("mqttv5").iter().for_each(publishes_the_will_of_a_killed_client);
}

#[test]
fn mosquitto_clients_of_5_share_a_subscription() {
    Client::mosquitto("mqttv5").iter().for_each(shares_messages_among_members);
}

#[test]
fn mosquitto_clients_of_5_resume_a_session_with_its_queue() {
    Client::mosquitto("mqttv5").iter().for_each(resumes_a_session_with_its_queue);
}

#[test]
fn mosquitto_clients_of_5_carry_256_kib() {
    Client::mosquitto("mqttv5").iter().for_each(carries_256_kib);
}

#[test]
fn our_clients_of_5_exchange_messages_of_each_qos() {
    delivers_each_qos(&Client::ours("mqttv5"));
}

#[test]
fn our_clients_of_5_find_retained_messages() {
    keeps_replaces_and_clears_retained(&Client::ours("mqttv5"));
}

#[test]
fn our_clients_of_5_leave_a_will_when_killed() {
    publishes_the_will_of_a_killed_client(&Client::ours("mqttv5"));
}

#[test]
fn our_clients_of_5_share_a_subscription() {
    shares_messages_among_members(&Client::ours("mqttv5"));
}

#[test]
fn our_clients_of_5_resume_a_session_with_its_queue() {
    resumes_a_session_with_its_queue(&Client::ours("mqttv5"));
}

#[test]
fn our_clients_of_5_carry_256_kib() {
    carries_256_kib(&Client::ours("mqttv5"));
}

#[test]
fn bench_accounts_for_every_message_of_each_scenario() {
    let broker = Broker::start();
    let port = broker.port.to_string();
    for scenario in [&["pair", "-n", "3"][..], &["fan-out", "-n", "5"], &["fan-in", "-n", "5"]] {
        let mut command = breakwater();
        command.arg("bench").args(scenario).args(["-p", &port, "-q", "1", "--rate", "500", "--json"]);
        let lines = Program::start(command.args(["--duration", "0.2", "--warmup", "0.1"])).succeed();
        let report = lines.join("\n");
        for part in [r#""lost":0"#, r#""duplicates":0"#, r#""out_of_order":0"#, r#""unacknowledged":0"#, r#""p99_us":"#]
        {
            assert!(report.contains(part), "{scenario:?}: {part}: {report}");
        }
    }
}
