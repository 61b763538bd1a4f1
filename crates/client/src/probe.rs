//! `breakwater test`: really connects, subscribes and publishes, and says in plain words what works and what doesn't.

mod chain;

use std::time::{Duration, Instant as Clock};

use breakwater_proto::{
    ConnAck, Disconnect, ForwardProperties, Instant, OutPublish, QoS, ReasonCode, SubscribeOptions, UserProperties,
    Version,
};
use clap::{ArgAction, Parser};

use crate::args::{ConnectArgs, Settings};
use crate::client::{Client, Event, Options};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::link::{Link, Wire};

/// Try a port: connect, subscribe, publish, and see the message come back
///
/// Tries the URL, or what the flags of `pub` and `sub` say.
#[derive(Parser, Clone, Debug)]
#[command(name = "test", disable_help_flag = true, args_override_self = true)]
#[command(after_help = AFTER_HELP)]
pub struct TestArgs {
    /// What to try, such as mqtt://host:1883, mqtts://host, wss://host:8084/mqtt or unix:///path
    #[arg(value_name = "URL|LISTENER")]
    pub target: Option<String>,
    /// Topic under which the message is sent
    #[arg(short, long, value_name = "TOPIC", default_value = "breakwater/test")]
    pub topic: String,
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Print this help
    #[arg(long, action = ArgAction::HelpLong)]
    pub help: Option<bool>,
}

const AFTER_HELP: &str = "\
Examples:
  breakwater test mqtt://localhost
  breakwater test mqtts://broker.example --cafile ca.pem -u ann --pw secret
  breakwater test wss://broker.example:8084/mqtt";

/// For each step: an answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn run(args: &TestArgs) -> Exit {
    run_on(args, &mut Console::standard())
}

pub fn run_on(args: &TestArgs, console: &mut Console) -> Exit {
    let mut connect = args.connect.clone();
    if args.target.is_some() {
        connect.url.clone_from(&args.target);
    }
    // What there is to tell is in the properties of MQTT 5.
    connect.protocol_version.get_or_insert(crate::args::VersionArg(Version::V5));
    let outcome =
        connect.settings().map_err(Failure::usage).and_then(|settings| Probe::new(&settings, args).run(console));
    match outcome {
        Ok(()) => {
            say(console, "pass: this port works");
            Exit::OK
        }
        Err(failure) => {
            say(console, &format!("fail: {}", failure.text));
            failure.exit
        }
    }
}

fn say(console: &mut Console, line: &str) {
    // Nobody who reads it: not a reason to stop.
    let _ = writeln!(console.output, "{line}");
}

/// One try.
struct Probe<'a> {
    settings: &'a Settings,
    topic: String,
    start: Clock,
}

impl<'a> Probe<'a> {
    fn new(settings: &'a Settings, args: &TestArgs) -> Self {
        // A topic that nobody else uses: two tries at once don't see each other's message.
        let topic = format!("{}/{:x}", args.topic, crate::args::random());
        Self { settings, topic, start: Clock::now() }
    }

    fn run(&self, console: &mut Console) -> Result<(), Failure> {
        let target = &self.settings.target;
        say(console, &format!("target    {target}"));
        let before = Clock::now();
        let wire = Wire::open(self.settings)?;
        let seen = wire.seen.clone();
        let place = if seen.address.is_empty() { String::new() } else { format!(" to {}", seen.address) };
        say(console, &format!("connect   {} ms{place}", millis(before)));
        if let Some(cipher) = &seen.cipher {
            say(console, &format!("tls       {cipher}"));
            for (at, certificate) in seen.certificates.iter().enumerate() {
                say(console, &format!("  chain {at} {}", chain::line(certificate)));
            }
        } else {
            say(console, "tls       none: everything on this connection can be read on the way");
        }
        if let Some(subprotocol) = &seen.subprotocol {
            say(console, &format!("websocket subprotocol {subprotocol}"));
        }
        let client = Client::new(Options { clean_start: true, ..self.settings.options.clone() });
        let mut link = Link::start(wire, self.settings, client, self.start);
        self.converse(&mut link, console)?;
        link.client.disconnect(&Disconnect::default(), link.now());
        link.close(console);
        Ok(())
    }

    fn converse(&self, link: &mut Link, console: &mut Console) -> Result<(), Failure> {
        let version = self.settings.options.version;
        let before = Clock::now();
        let lines = await_event(link, console, "CONNECT", |event| match event {
            Event::Connected(connack) => Some(Ok(granted(connack))),
            Event::Refused(connack) => Some(Err(Failure::refused(connack, version))),
            _ => None,
        })?;
        say(console, &format!("mqtt      {} accepted in {} ms", version.name(), millis(before)));
        lines.iter().for_each(|line| say(console, &format!("  {line}")));
        let before = Clock::now();
        let options = SubscribeOptions { qos: QoS::AtLeastOnce, ..SubscribeOptions::default() };
        let filters = [(self.topic.as_str(), options)];
        let now = link.now();
        link.client.subscribe(filters, None, UserProperties::EMPTY, now)?;
        await_event(link, console, "SUBSCRIBE", |event| match event {
            // Codes from 0x80 on are refusals.
            Event::Subscribed(suback) => Some(match suback.codes.iter().find(|code| **code >= 0x80) {
                None => Ok(()),
                Some(code) => {
                    let name = ReasonCode::from_u8(*code).map_or("an unknown reason", ReasonCode::name);
                    let text = format!("the subscription was refused: {name}; may this user subscribe here?");
                    Err(Failure::new(Exit(*code), text))
                }
            }),
            _ => None,
        })?;
        say(console, &format!("subscribe {} ms", millis(before)));
        let before = Clock::now();
        let publish = OutPublish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            packet_id: 0,
            topic: &self.topic,
            topic_alias: 0,
            expiry: None,
            subscription_ids: &[],
            properties: ForwardProperties::from_stripped(&[]),
            payload: b"it works",
        };
        let now = link.now();
        link.client.publish(&publish, now)?;
        await_event(link, console, "PUBLISH", |event| match event {
            Event::Published { reason, .. } if reason.is_error() => Some(Err(Failure::new(
                Exit(reason.as_u8()),
                format!("the message was refused: {}; may this user publish here?", reason.name()),
            ))),
            Event::Message(message) if message.topic == self.topic => Some(Ok(())),
            _ => None,
        })?;
        say(console, &format!("publish   and back in {} ms", millis(before)));
        Ok(())
    }
}

/// Milliseconds since then, to the tenth.
fn millis(since: Clock) -> String {
    let tenths = since.elapsed().as_micros() / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// Goes on until the event comes that is waited for, and gives what was made of it.
fn await_event<R>(
    link: &mut Link,
    console: &mut Console,
    step: &str,
    mut wanted: impl FnMut(&Event<'_>) -> Option<Result<R, Failure>>,
) -> Result<R, Failure> {
    let until = Instant(link.now().0 + u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX));
    while link.now() < until {
        while let Some(event) = link.next_event()? {
            if let Event::Disconnected(disconnect) = &event {
                return Err(Failure::disconnected(disconnect));
            }
            if let Some(result) = wanted(&event) {
                return result;
            }
        }
        if !link.turn(Some(until), console)? {
            let gone = if step == "CONNECT" { Failure::no_answer() } else { Failure::lost() };
            return Err(gone);
        }
    }
    Err(Failure::new(Exit::LOST, format!("the server has not answered {step} within {} s", PATIENCE.as_secs())))
}

/// What the server grants, as far as it says so.
fn granted(connack: &ConnAck<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut tell = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            lines.push(format!("{name}: {value}"));
        }
    };
    tell("assigned client id", connack.assigned_client_id.map(str::to_owned));
    tell("server keep alive", connack.server_keep_alive.map(|seconds| format!("{seconds} s")));
    tell("session expiry", connack.session_expiry.map(|seconds| format!("{seconds} s")));
    tell("receive maximum", connack.receive_maximum.map(|count| count.to_string()));
    tell("maximum packet size", connack.maximum_packet_size.map(|bytes| format!("{bytes} bytes")));
    tell("topic alias maximum", connack.topic_alias_maximum.map(|count| count.to_string()));
    tell("maximum qos", connack.maximum_qos.map(|qos| qos.to_string()));
    tell("reason", connack.reason_string.map(str::to_owned));
    lines
}
