//! `breakwater sub`: subscribes and prints what comes.

use std::time::Instant as Clock;

use breakwater_proto::{Disconnect, Instant, QoS, ReasonCode, SubscribeOptions, UserProperties, matches};
use clap::{ArgAction, Parser};

use crate::args::{ConnectArgs, Settings, check_filter, qos};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::Format;
use crate::link::{Link, Wire};
use crate::{Client, Event};

mod printer;

use printer::{Printed, Printer};

/// Subscribe to topics and print the messages
///
/// The flags are those of mosquitto_sub. As -h is the host, help is --help.
#[derive(Parser, Clone, Debug)]
#[command(name = "sub", disable_help_flag = true, args_override_self = true)]
#[command(after_help = AFTER_HELP)]
pub struct SubArgs {
    /// Topic filter to subscribe to; may be repeated
    #[arg(short, long, value_name = "FILTER", allow_hyphen_values = true)]
    pub topic: Vec<String>,
    /// Topic filter to unsubscribe from; may be repeated
    #[arg(short = 'U', long, value_name = "FILTER", allow_hyphen_values = true)]
    pub unsubscribe: Vec<String>,
    /// Topic filter to leave out; may be repeated
    #[arg(short = 'T', long, value_name = "FILTER", allow_hyphen_values = true)]
    pub filter_out: Vec<String>,
    /// Highest QoS to receive: 0, 1 or 2
    #[arg(short, long, value_name = "QOS", value_parser = qos, default_value = "0")]
    pub qos: QoS,
    /// End after this many messages
    #[arg(short = 'C', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after this many seconds, with exit code 27
    #[arg(short = 'W', value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
    /// End as soon as the server has answered the subscriptions
    #[arg(short = 'E')]
    pub exit_after_subscribe: bool,
    /// Print the topic before the payload
    #[arg(short, long)]
    pub verbose: bool,
    /// Print each message by this format; see below
    #[arg(short = 'F', value_name = "FORMAT", allow_hyphen_values = true)]
    pub format: Option<String>,
    /// Print JSON (%j, %J) on many lines
    #[arg(long)]
    pub pretty: bool,
    /// Print no line end after a message
    #[arg(short = 'N')]
    pub no_line_end: bool,
    /// Print no retained messages
    #[arg(short = 'R')]
    pub no_retained: bool,
    /// Print retained messages only, and end with the first other one
    #[arg(long, conflicts_with = "no_retained")]
    pub retained_only: bool,
    /// Clear each retained message that comes
    #[arg(long)]
    pub remove_retained: bool,
    /// Show the retain flag as the publisher set it (MQTT 5)
    #[arg(long)]
    pub retain_as_published: bool,
    /// Print this percentage of the messages, by chance
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub random_filter: Option<f64>,
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// Print this help
    #[arg(long, action = ArgAction::HelpLong)]
    pub help: Option<bool>,
}

const AFTER_HELP: &str = "\
Formats (-F):
  %t topic        %p payload           %x %X payload in hex   %l payload length
  %q QoS          %r retained          %m packet id           %% a percent sign
  %C content type %R response topic    %D correlation data    %P user properties
  %E expiry       %F payload format    %A topic alias         %S subscription ids
  %I time as in 2026-01-31T12:00:00+0000    %U Unix time      @Y a part of the time, as %Y in strftime(3); @N nanoseconds
  %j JSON, payload as text    %J JSON, payload as JSON        \\0 \\a \\e \\n \\r \\t \\v \\\\ special characters
  A width and a maximum may stand behind %, as in %20t, %-20.20t or %05l.

Examples:
  breakwater sub -t 'sensors/#' -v
  breakwater sub -t status -C 1 -W 5
  breakwater sub -t '#' -F '%I %t %j'";

/// What the run has come to after some events.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    GoOn,
    /// All that was asked for is done.
    Done,
}

/// One run. Connections come and go; this stays.
struct Subscriber<'a> {
    args: &'a SubArgs,
    settings: &'a Settings,
    printer: Printer,
    start: Clock,
    /// End of `-W`, from the first CONNACK on.
    until: Option<Instant>,
    was_connected: bool,
    awaits_suback: bool,
    awaits_unsuback: bool,
    printed: u64,
}

const RETRY_FIRST_MS: u64 = 1_000;
const RETRY_MAX_MS: u64 = 30_000;

pub fn run(args: &SubArgs) -> Exit {
    run_on(args, &mut Console::standard())
}

pub fn run_on(args: &SubArgs, console: &mut Console) -> Exit {
    let attempt = args.check().and_then(|(settings, format)| {
        let mut filters = args.topic.clone();
        filters.extend(settings.topic.clone());
        let args = SubArgs { topic: filters, ..args.clone() };
        args.check_filters()?;
        Subscriber {
            printer: Printer::new(&args, format),
            args: &args,
            settings: &settings,
            start: Clock::now(),
            until: None,
            was_connected: false,
            awaits_suback: false,
            awaits_unsuback: false,
            printed: 0,
        }
        .run(console)
    });
    match attempt {
        Ok(()) => Exit::OK,
        Err(failure) => failure.report(args.connect.quiet, console),
    }
}

impl SubArgs {
    fn check(&self) -> Result<(Settings, Option<Format>), Failure> {
        let settings = self.connect.settings().map_err(Failure::usage)?;
        let format = match &self.format {
            Some(text) => Some(Format::parse(text, self.pretty).map_err(|error| Failure::usage(error.to_string()))?),
            None => None,
        };
        Ok((settings, format))
    }

    fn check_filters(&self) -> Result<(), Failure> {
        if self.topic.is_empty() && self.unsubscribe.is_empty() {
            return Err(Failure::usage("nothing to subscribe to: give a topic filter with -t"));
        }
        for filter in self.topic.iter().chain(&self.unsubscribe).chain(&self.filter_out) {
            check_filter(filter).map_err(Failure::usage)?;
        }
        Ok(())
    }
}

impl Subscriber<'_> {
    fn run(mut self, console: &mut Console) -> Result<(), Failure> {
        let mut client = Client::new(self.settings.options.clone());
        let mut retry_ms = RETRY_FIRST_MS;
        loop {
            let wire = match Wire::open(self.settings) {
                Ok(wire) => wire,
                Err(failure) if !self.was_connected => return Err(failure),
                Err(_) => {
                    if !self.pause(retry_ms, console)? {
                        return Ok(());
                    }
                    retry_ms = (retry_ms * 2).min(RETRY_MAX_MS);
                    continue;
                }
            };
            let link = Link::start(wire, self.settings, client, self.start);
            match self.serve(link, console)? {
                None => return Ok(()),
                Some(returned) => client = returned,
            }
            retry_ms = RETRY_FIRST_MS;
            if !self.pause(retry_ms, console)? {
                return Ok(());
            }
        }
    }

    /// Uses one connection until it ends. Gives the client back when the connection is worth another try.
    fn serve(&mut self, mut link: Link, console: &mut Console) -> Result<Option<Client>, Failure> {
        loop {
            let step = self.take_events(&mut link, console);
            self.printer.flush(console)?;
            match step {
                Ok(Step::GoOn) if console.is_stopped() => return self.end(link, console),
                Ok(Step::GoOn) => {}
                Ok(Step::Done) => return self.end(link, console),
                Err(failure) if self.may_retry(&failure) => return Ok(Some(link.leave())),
                Err(failure) => {
                    link.close(console); // a DISCONNECT may say why
                    return Err(failure);
                }
            }
            if self.until.is_some_and(|until| until <= link.now()) {
                self.end(link, console)?;
                return Err(self.timed_out());
            }
            match link.turn(self.until, console) {
                Ok(true) => {}
                Ok(false) if self.was_connected => return Ok(Some(link.leave())),
                Ok(false) => return Err(Failure::no_answer()),
                Err(failure) if self.may_retry(&failure) => return Ok(Some(link.leave())),
                Err(failure) => return Err(failure),
            }
        }
    }

    /// What a network or a restarting server does is worth another try; what a server says about this client is not.
    fn may_retry(&self, failure: &Failure) -> bool {
        let passing = [ReasonCode::ServerShuttingDown, ReasonCode::ServerBusy, ReasonCode::KeepAliveTimeout];
        let is_passing = passing.into_iter().any(|reason| failure.exit == Exit(reason.as_u8()));
        self.was_connected && (is_passing || failure.exit == Exit::LOST || failure.exit == Exit::KEEP_ALIVE)
    }

    fn take_events(&mut self, link: &mut Link, console: &mut Console) -> Result<Step, Failure> {
        loop {
            let now = link.now();
            let version = link.client.options().version;
            let Some(event) = link.next_event()? else {
                return Ok(Step::GoOn);
            };
            let step = match event {
                Event::Connected(_) => {
                    self.on_connected(link, now)?;
                    Step::GoOn
                }
                Event::Refused(connack) => return Err(Failure::refused(&connack, version)),
                Event::Disconnected(disconnect) => return Err(Failure::disconnected(&disconnect)),
                Event::Subscribed(suback) => {
                    self.awaits_suback = false;
                    self.on_codes(suback.codes, console)
                }
                Event::Unsubscribed(_) => {
                    self.awaits_unsuback = false;
                    self.answered()
                }
                Event::Message(publish) => {
                    let printed = self.printer.on_message(&publish, self.args, console);
                    let clear = (printed.clear_retained).then(|| publish.topic.to_owned());
                    self.on_printed(&printed, clear, link, now)?
                }
                Event::Published { .. } | Event::Auth(_) => Step::GoOn,
            };
            if step == Step::Done {
                return Ok(step);
            }
            if self.printer.is_full() {
                self.printer.flush(console)?;
            }
        }
    }

    fn on_connected(&mut self, link: &mut Link, now: Instant) -> Result<(), Failure> {
        if !self.was_connected {
            self.was_connected = true;
            self.until = self.args.timeout.map(|seconds| now.plus_s(seconds));
        }
        let properties = &self.settings.properties;
        if !self.args.topic.is_empty() {
            let options = SubscribeOptions {
                retain_as_published: self.args.retain_as_published,
                ..SubscribeOptions::new(self.args.qos)
            };
            link.client.subscribe(
                self.args.topic.iter().map(|filter| (filter.as_str(), options)),
                properties.subscribe.subscription_id,
                UserProperties::from_encoded(&properties.subscribe.user_properties),
                now,
            )?;
            self.awaits_suback = true;
        }
        if !self.args.unsubscribe.is_empty() {
            let filters = self.args.unsubscribe.iter().map(String::as_str);
            link.client.unsubscribe(filters, UserProperties::from_encoded(&properties.unsubscribe), now)?;
            self.awaits_unsuback = true;
        }
        Ok(())
    }

    fn on_codes(&self, codes: &[u8], console: &mut Console) -> Step {
        let mut denied = 0;
        for (filter, code) in self.args.topic.iter().zip(codes).filter(|(_, code)| **code >= 0x80) {
            denied += 1;
            if !self.args.connect.quiet {
                let reason = ReasonCode::from_u8(*code).map_or("unknown reason", ReasonCode::name);
                console.warning(&format!("the server denied the subscription to {filter:?}: {reason}"));
            }
        }
        // Nothing can come any more.
        if denied == codes.len() { Step::Done } else { self.answered() }
    }

    fn answered(&self) -> Step {
        let ends = self.args.exit_after_subscribe || self.args.topic.is_empty();
        if ends && !self.awaits_suback && !self.awaits_unsuback { Step::Done } else { Step::GoOn }
    }

    fn on_printed(
        &mut self,
        printed: &Printed,
        clear: Option<String>,
        link: &mut Link,
        now: Instant,
    ) -> Result<Step, Failure> {
        if let Some(topic) = clear {
            printer::clear_retained(&topic, &mut link.client, now)?;
        }
        if printed.ends_run {
            return Ok(Step::Done);
        }
        self.printed += u64::from(printed.counts);
        let is_enough = self.args.count.is_some_and(|count| self.printed >= count);
        Ok(if is_enough { Step::Done } else { Step::GoOn })
    }

    fn end(&mut self, mut link: Link, console: &mut Console) -> Result<Option<Client>, Failure> {
        let properties = &self.settings.properties.disconnect;
        let disconnect = Disconnect {
            session_expiry: properties.session_expiry,
            user_properties: UserProperties::from_encoded(&properties.user_properties),
            ..Disconnect::default()
        };
        let now = link.now();
        link.client.disconnect(&disconnect, now);
        link.close(console);
        Ok(None)
    }

    /// Waits before the next connection. `false`: asked to stop.
    fn pause(&self, ms: u64, console: &mut Console) -> Result<bool, Failure> {
        if !self.args.connect.quiet {
            console.warning(&format!("no connection: trying again in {} s", ms / 1000));
        }
        let now = || Instant(u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX));
        let until = now().plus_ms(ms);
        while now() < until {
            if console.is_stopped() {
                return Ok(false);
            }
            if self.until.is_some_and(|until| until <= now()) {
                return Err(self.timed_out());
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        Ok(true)
    }

    fn timed_out(&self) -> Failure {
        let seconds = self.args.timeout.unwrap_or_default();
        Failure::new(Exit::TIMED_OUT, format!("timed out after {seconds} s: that is the time given with -W"))
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(percent) if (0.1..=100.0).contains(&percent) => Ok(percent),
        _ => Err("give a percentage from 0.1 to 100".into()),
    }
}

/// Whether a message on this topic is left out by `-T`.
fn is_left_out(topic: &str, args: &SubArgs) -> bool {
    args.filter_out.iter().any(|filter| matches(filter, topic))
}
