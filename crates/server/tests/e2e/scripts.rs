//! Paho (Python) and MQTT.js (Node): scripts in `tests/e2e`, one run of the script for each fact.
//!
//! A script gets the port, the version and the name of a scenario, ends with code 0 if all was as it should be, and else
//! says what was not.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::broker::Broker;
use crate::program::{Program, absent, installed};

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a scenario with Paho against a broker of its own.
fn paho(version: &str, scenario: &str) {
    let broker = Broker::start();
    paho_at(&format!("tcp://{}", broker.address()), None, version, scenario);
}

/// Runs a scenario with Paho at this URL.
pub(crate) fn paho_at(url: &str, ca: Option<&Path>, version: &str, scenario: &str) {
    let python = repository().join(".cache/venv/bin/python");
    if !python.is_file() {
        return absent(&format!("{} does not exist", python.display()));
    }
    let mut command = Command::new(python);
    command.arg(repository().join("tests/e2e/paho/scenarios.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    run(&mut command, url, ca, version, scenario);
}

/// Runs a scenario with MQTT.js against a broker of its own.
fn mqtt_js(version: &str, scenario: &str) {
    let broker = Broker::start();
    mqtt_js_at(&format!("tcp://{}", broker.address()), None, version, scenario);
}

/// Runs a scenario with MQTT.js at this URL.
pub(crate) fn mqtt_js_at(url: &str, ca: Option<&Path>, version: &str, scenario: &str) {
    let Some(node) = installed("node", "nodejs") else { return };
    let module = repository().join("tests/e2e/node_modules/mqtt");
    if !module.is_dir() {
        return absent(&format!("{} does not exist", module.display()));
    }
    let mut command = Command::new(node);
    command.arg(repository().join("tests/e2e/js/scenarios.mjs"));
    run(&mut command, url, ca, version, scenario);
}

fn run(command: &mut Command, url: &str, ca: Option<&Path>, version: &str, scenario: &str) {
    if let Some(ca) = ca {
        command.env("BREAKWATER_CA", ca);
    }
    Program::start(command.args([url, version, scenario])).succeed();
}

#[test]
fn paho_clients_of_3_1_1_exchange_messages_of_each_qos() {
    paho("3.1.1", "qos");
}

#[test]
fn paho_clients_of_3_1_1_find_retained_messages() {
    paho("3.1.1", "retained");
}

#[test]
fn paho_clients_of_3_1_1_leave_a_will_when_killed() {
    paho("3.1.1", "will");
}

#[test]
fn paho_clients_of_3_1_1_share_a_subscription() {
    paho("3.1.1", "shared");
}

#[test]
fn paho_clients_of_3_1_1_resume_a_session_with_its_queue() {
    paho("3.1.1", "resume");
}

#[test]
fn paho_clients_of_3_1_1_carry_256_kib() {
    paho("3.1.1", "large");
}

#[test]
fn paho_clients_of_3_1_1_come_a_thousand_at_once() {
    paho("3.1.1", "crowd");
}

#[test]
fn paho_clients_of_5_exchange_messages_of_each_qos() {
    paho("5", "qos");
}

#[test]
fn paho_clients_of_5_find_retained_messages() {
    paho("5", "retained");
}

#[test]
fn paho_clients_of_5_leave_a_will_when_killed() {
    paho("5", "will");
}

#[test]
fn paho_clients_of_5_share_a_subscription() {
    paho("5", "shared");
}

#[test]
fn paho_clients_of_5_resume_a_session_with_its_queue() {
    paho("5", "resume");
}

#[test]
fn paho_clients_of_5_carry_256_kib() {
    paho("5", "large");
}

#[test]
fn paho_clients_of_5_come_a_thousand_at_once() {
    paho("5", "crowd");
}

#[test]
fn mqtt_js_clients_of_3_1_1_exchange_messages_of_each_qos() {
    mqtt_js("3.1.1", "qos");
}

#[test]
fn mqtt_js_clients_of_3_1_1_find_retained_messages() {
    mqtt_js("3.1.1", "retained");
}

#[test]
fn mqtt_js_clients_of_3_1_1_leave_a_will_when_killed() {
    mqtt_js("3.1.1", "will");
}

#[test]
fn mqtt_js_clients_of_3_1_1_share_a_subscription() {
    mqtt_js("3.1.1", "shared");
}

#[test]
fn mqtt_js_clients_of_3_1_1_resume_a_session_with_its_queue() {
    mqtt_js("3.1.1", "resume");
}

#[test]
fn mqtt_js_clients_of_3_1_1_carry_256_kib() {
    mqtt_js("3.1.1", "large");
}

#[test]
fn mqtt_js_clients_of_3_1_1_come_a_thousand_at_once() {
    mqtt_js("3.1.1", "crowd");
}

#[test]
fn mqtt_js_clients_of_5_exchange_messages_of_each_qos() {
    mqtt_js("5", "qos");
}

#[test]
fn mqtt_js_clients_of_5_find_retained_messages() {
    mqtt_js("5", "retained");
}

#[test]
fn mqtt_js_clients_of_5_leave_a_will_when_killed() {
    mqtt_js("5", "will");
}

#[test]
fn mqtt_js_clients_of_5_share_a_subscription() {
    mqtt_js("5", "shared");
}

#[test]
fn mqtt_js_clients_of_5_resume_a_session_with_its_queue() {
    mqtt_js("5", "resume");
}

#[test]
fn mqtt_js_clients_of_5_carry_256_kib() {
    mqtt_js("5", "large");
}

#[test]
fn mqtt_js_clients_of_5_come_a_thousand_at_once() {
    mqtt_js("5", "crowd");
}
