//! `breakwater pub`: publishes one message, or one per line.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::time::Instant as Clock;

use breakwater_proto::{Disconnect, ForwardProperties, Instant, OutPublish, QoS, UserProperties, Version};
use clap::{ArgAction, Parser};

use crate::args::{ConnectArgs, Settings, check_topic, qos};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::link::{Link, Wire};
use crate::{Client, Event};

mod lines;

use lines::Lines;

/// Publish a message
///
/// The flags are those of mosquitto_pub. As -h is the host, help is --help.
#[derive(Parser, Clone, Debug)]
#[command(name = "pub", disable_help_flag = true, args_override_self = true)]
#[command(
    after_help = "Examples:\n  breakwater pub -t greeting -m hello\n  breakwater pub -t state -q 1 -r -f state.json\n  \
                        tail -f log | breakwater pub -t log -l"
)]
pub struct PubArgs {
    /// Topic to publish to
    #[arg(short, long, value_name = "TOPIC", allow_hyphen_values = true)]
    pub topic: Option<String>,
    /// Text to send
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true)]
    pub message: Option<OsString>,
    /// Send the contents of a file
    #[arg(short, long, value_name = "FILE")]
    pub file: Option<std::path::PathBuf>,
    /// Send each line of the standard input as a message, as it comes
    #[arg(short = 'l', long)]
    pub stdin_line: bool,
    /// Send the whole standard input as one message
    #[arg(short = 's', long)]
    pub stdin_file: bool,
    /// Send an empty message
    #[arg(short, long)]
    pub null_message: bool,
    /// QoS: 0, 1 or 2
    #[arg(short, long, value_name = "QOS", value_parser = qos, default_value = "0")]
    pub qos: QoS,
    /// Let the server retain the message
    #[arg(short, long)]
    pub retain: bool,
    /// Send the message this many times
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..), default_value_t = 1)]
    pub repeat: u64,
    /// Seconds to wait between the messages of --repeat
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "0")]
    pub repeat_delay: u64,
    /// Messages of QoS 1 and 2 under way at a time [default: 1000, or 20 with QoS 2 before MQTT 5]
    #[arg(short = 'M', value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..))]
    pub max_inflight: Option<u16>,
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Print this help
    #[arg(long, action = ArgAction::HelpLong)]
    pub help: Option<bool>,
}

/// Where the messages come from.
enum Source {
    /// The same message, so many times more, with a pause in milliseconds.
    Same {
        payload: Vec<u8>,
        left: u64,
        delay_ms: u64,
        next_at: Instant,
    },
    Lines(Lines),
}

/// One run, from CONNACK on.
struct Publisher<'a> {
    args: &'a PubArgs,
    settings: &'a Settings,
    topic: &'a str,
    source: Source,
    link: Link,
    sent: u64,
    shown_at: Option<Instant>,
}

/// Output that is not written yet holds further lines back.
const OUTPUT_MAX: usize = 256 * 1024;
const PROGRESS_MS: u64 = 500;

pub fn run(args: &PubArgs) -> Exit {
    run_on(args, &mut Console::standard())
}

pub fn run_on(args: &PubArgs, console: &mut Console) -> Exit {
    match attempt(args, console) {
        Ok(()) => Exit::OK,
        Err(failure) => failure.report(args.connect.quiet, console),
    }
}

fn attempt(args: &PubArgs, console: &mut Console) -> Result<(), Failure> {
    let settings = args.connect.settings().map_err(Failure::usage)?;
    let topic = args.topic.as_deref().or(settings.topic.as_deref());
    let topic = topic.ok_or_else(|| Failure::usage("no topic: give one with -t TOPIC"))?;
    check_topic(topic).map_err(Failure::usage)?;
    args.check_mode()?;
    let payload = if args.stdin_line { None } else { Some(args.payload(console)?) };

    let mut options = settings.options.clone();
    options.in_flight_max = args.in_flight_max(options.version);
    let wire = Wire::open(&settings)?;
    let mut link = Link::start(wire, &settings, Client::new(options), Clock::now());
    if !connected(&mut link, console)? {
        return Ok(()); // stopped
    }
    let source = match payload {
        Some(payload) => {
            Source::Same { payload, left: args.repeat, delay_ms: args.repeat_delay, next_at: Instant::default() }
        }
        None => Source::Lines(Lines::start(console, link.nudge())),
    };
    Publisher { args, settings: &settings, topic, source, link, sent: 0, shown_at: None }.run(console)
}

/// Waits for CONNACK. `false`: asked to stop.
fn connected(link: &mut Link, console: &mut Console) -> Result<bool, Failure> {
    let version = link.client.options().version;
    loop {
        match link.next_event()? {
            Some(Event::Connected(_)) => return Ok(true),
            Some(Event::Refused(connack)) => return Err(Failure::refused(&connack, version)),
            Some(Event::Disconnected(disconnect)) => return Err(Failure::disconnected(&disconnect)),
            Some(_) => continue,
            None if console.is_stopped() => return Ok(false),
            None => {}
        }
        if !link.turn(None, console)? {
            return Err(Failure::no_answer());
        }
    }
}

impl PubArgs {
    /// Before MQTT 5 a server can't say how much of QoS 2 it takes; Mosquitto closes the connection above 20.
    fn in_flight_max(&self, version: Version) -> u16 {
        let default = if self.qos == QoS::ExactlyOnce && !version.is_v5() { 20 } else { 1000 };
        self.max_inflight.unwrap_or(default)
    }

    fn check_mode(&self) -> Result<(), Failure> {
        let modes = [self.message.is_some(), self.file.is_some(), self.stdin_line, self.stdin_file, self.null_message];
        match modes.into_iter().filter(|given| *given).count() {
            0 => Err(Failure::usage("nothing to send: give -m TEXT, -f FILE, -l or -s for the standard input, or -n")),
            1 => Ok(()),
            _ => Err(Failure::usage("only one kind of message at a time: give one of -m, -f, -l, -s and -n")),
        }
    }

    fn payload(&self, console: &mut Console) -> Result<Vec<u8>, Failure> {
        if let Some(text) = &self.message {
            return Ok(text.clone().into_encoded_bytes());
        }
        if let Some(path) = &self.file {
            return std::fs::read(path)
                .map_err(|error| Failure::usage(format!("can't read {}: {error}", path.display())));
        }
        let mut payload = Vec::new();
        if self.stdin_file {
            let read = console.input.read_to_end(&mut payload);
            read.map_err(|error| Failure::usage(format!("can't read the standard input: {error}")))?;
            if payload.is_empty() {
                return Err(Failure::usage("the standard input is empty: give -n to send an empty message"));
            }
        }
        Ok(payload)
    }
}

impl Publisher<'_> {
    fn run(mut self, console: &mut Console) -> Result<(), Failure> {
        loop {
            let source_is_done = console.is_stopped() || self.send_what_is_due()?;
            if source_is_done && (self.link.client.unacknowledged() == 0 || console.is_stopped()) {
                break;
            }
            self.show_progress(console);
            let until = self.next_send();
            if !self.link.turn(until, console)? {
                self.take_events(console)?;
                return Err(Failure::lost());
            }
            self.take_events(console)?;
        }
        self.clear_progress(console);
        self.say_goodbye(console);
        Ok(())
    }

    /// Publishes what may go now. `true`: nothing more will come.
    fn send_what_is_due(&mut self) -> Result<bool, Failure> {
        let now = self.link.now();
        loop {
            let is_full = self.link.client.unacknowledged() >= usize::from(self.link.client.options().in_flight_max)
                || self.link.client.output().len() >= OUTPUT_MAX;
            let message = OutPublish {
                dup: false,
                qos: self.args.qos,
                retain: self.args.retain,
                packet_id: 0,
                topic: self.topic,
                topic_alias: self.settings.properties.publish.topic_alias.unwrap_or(0),
                expiry: self.settings.properties.publish.expiry,
                subscription_ids: &[],
                properties: ForwardProperties::from_stripped(&self.settings.properties.publish.forward),
                payload: &[],
            };
            match &mut self.source {
                Source::Same { left: 0, .. } => return Ok(true),
                Source::Same { payload, left, delay_ms, next_at } => {
                    // The next repetition waits until the one before has arrived.
                    if is_full || self.link.client.unacknowledged() > 0 || now < *next_at {
                        return Ok(false);
                    }
                    self.link.client.publish(&OutPublish { payload, ..message }, now)?;
                    *left -= 1;
                    *next_at = now.plus_ms(*delay_ms);
                }
                Source::Lines(_) if is_full => return Ok(false),
                Source::Lines(lines) => match lines.next() {
                    lines::Next::Line(payload) => {
                        self.link.client.publish(&OutPublish { payload, ..message }, now)?;
                    }
                    lines::Next::Wait => return Ok(false),
                    lines::Next::End => return Ok(true),
                    lines::Next::Failed(error) => {
                        return Err(Failure::usage(format!("can't read the standard input: {error}")));
                    }
                },
            }
            self.sent += 1;
        }
    }

    /// When a repetition is due that only the clock holds back.
    fn next_send(&mut self) -> Option<Instant> {
        match &self.source {
            // Lines that were held back only until the output is written.
            Source::Lines(_) if self.link.client.output().len() >= OUTPUT_MAX => Some(self.link.now()),
            Source::Same { left, next_at, .. } if *left > 0 && self.link.client.unacknowledged() == 0 => Some(*next_at),
            _ => None,
        }
    }

    fn take_events(&mut self, console: &mut Console) -> Result<(), Failure> {
        while let Some(event) = self.link.next_event()? {
            match event {
                Event::Published { packet_id, reason } if reason.is_error() && !self.args.connect.quiet => {
                    console.warning(&format!("the server didn't take message {packet_id}: {}", reason.name()));
                }
                Event::Disconnected(disconnect) => return Err(Failure::disconnected(&disconnect)),
                _ => {}
            }
        }
        Ok(())
    }

    fn say_goodbye(mut self, console: &mut Console) {
        let properties = &self.settings.properties.disconnect;
        let disconnect = Disconnect {
            session_expiry: properties.session_expiry,
            user_properties: UserProperties::from_encoded(&properties.user_properties),
            ..Disconnect::default()
        };
        let now = self.link.now();
        self.link.client.disconnect(&disconnect, now);
        self.link.close(console);
    }

    /// Only for a person, and only when there is something to wait for.
    fn show_progress(&mut self, console: &mut Console) {
        let is_long = self.args.stdin_line || self.args.repeat > 1;
        if !is_long || !console.diagnostics_is_terminal || self.args.connect.quiet || self.args.connect.debug {
            return;
        }
        let now = self.link.now();
        if self.shown_at.is_some_and(|shown_at| now.ms_since(shown_at) < PROGRESS_MS) {
            return;
        }
        self.shown_at = Some(now);
        let waiting = self.link.client.unacknowledged();
        let _ = write!(console.diagnostics, "\r\x1b[K{} sent, {waiting} not acknowledged", self.sent);
        let _ = console.diagnostics.flush();
    }

    fn clear_progress(&mut self, console: &mut Console) {
        if self.shown_at.is_some() {
            let _ = write!(console.diagnostics, "\r\x1b[K");
        }
    }
}

/// Seconds with decimals, in milliseconds.
fn seconds(text: &str) -> Result<u64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=31_536_000.0).contains(&seconds) => Ok((seconds * 1000.0).round() as u64),
        _ => Err("give seconds, such as 0.5".into()),
    }
}
