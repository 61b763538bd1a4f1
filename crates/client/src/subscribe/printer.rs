//! From a received message to bytes on the standard output.

use std::io::{ErrorKind, Write};

use breakwater_proto::{ForwardProperties, Instant, OutPublish, Property, Publish, QoS};
use jiff::Zoned;

use super::{SubArgs, is_left_out};
use crate::Client;
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::format::{Format, Received};

/// Collects text until the network has nothing more, so that a busy topic costs few writes.
pub(super) struct Printer {
    format: Option<Format>,
    now: Zoned,
    text: Vec<u8>,
    /// State of the dice for `--random-filter`.
    dice: u64,
}

/// What is to be done about a message besides printing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Printed {
    pub(super) counts: bool,
    pub(super) clear_retained: bool,
    pub(super) ends_run: bool,
}

const TEXT_MAX: usize = 64 * 1024;

impl Printer {
    pub(super) fn new(args: &SubArgs, format: Option<Format>) -> Printer {
        // Verbose output takes its colour from the console, which is known with the first message.
        let format = format.or_else(|| (!args.verbose).then(Format::payload));
        let now = Zoned::now();
        let dice = now.timestamp().as_nanosecond() as u64 | 1;
        Printer { format, now, text: Vec::new(), dice }
    }

    pub(super) fn on_message(&mut self, publish: &Publish<'_>, args: &SubArgs, console: &mut Console) -> Printed {
        let mut printed = Printed::default();
        if args.retained_only && !publish.retain {
            printed.ends_run = true;
            return printed;
        }
        if is_left_out(publish.topic, args) {
            return printed;
        }
        // An empty one is the echo of our own clearing.
        printed.clear_retained = args.remove_retained && publish.retain && !publish.payload.is_empty();
        if args.no_retained && publish.retain || args.random_filter.is_some_and(|percent| !self.falls(percent)) {
            return printed;
        }
        printed.counts = true;
        let format = self.format.get_or_insert_with(|| Format::verbose(console.output_is_terminal));
        if format.needs_time() {
            self.now = Zoned::now();
        }
        match format.write(&received(publish), &self.now, &mut self.text) {
            Ok(()) if args.no_line_end => {}
            Ok(()) => self.text.push(b'\n'),
            Err(_) if args.connect.quiet => {}
            Err(_) => console.warning(&format!("the payload on topic {} is not JSON: print it with %j", publish.topic)),
        }
        printed
    }

    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= TEXT_MAX
    }

    pub(super) fn flush(&mut self, console: &mut Console) -> Result<(), Failure> {
        if self.text.is_empty() {
            return Ok(());
        }
        let written = console.output.write_all(&self.text).and_then(|()| console.output.flush());
        self.text.clear();
        match written {
            Ok(()) => Ok(()),
            // The reader of a pipe has seen enough, as `head` does.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                console.stop.store(true, std::sync::atomic::Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(Failure::new(Exit::USAGE, format!("can't write the output: {error}"))),
        }
    }

    /// Whether a message is printed that is to be printed with this chance (xorshift64).
    fn falls(&mut self, percent: f64) -> bool {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        (self.dice % 1000) as f64 / 10.0 < percent
    }
}

/// `--remove-retained`: an empty retained message clears the topic.
pub(super) fn clear_retained(topic: &str, client: &mut Client, now: Instant) -> Result<(), Failure> {
    let publish = OutPublish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: true,
        packet_id: 0,
        topic,
        topic_alias: 0,
        expiry: None,
        subscription_ids: &[],
        properties: ForwardProperties::EMPTY,
        payload: &[],
    };
    client.publish(&publish, now)?;
    Ok(())
}

fn received<'a>(publish: &Publish<'a>) -> Received<'a> {
    let mut received = Received {
        topic: publish.topic,
        payload: publish.payload,
        qos: publish.qos.as_u8(),
        retain: publish.retain,
        packet_id: publish.packet_id,
        topic_alias: publish.topic_alias,
        expiry: publish.expiry,
        ..Received::default()
    };
    for property in publish.properties.received() {
        match property {
            Property::PayloadFormatIndicator(format) => received.payload_format = Some(format),
            Property::ContentType(text) => received.content_type = Some(text),
            Property::ResponseTopic(topic) => received.response_topic = Some(topic),
            Property::CorrelationData(correlation) => received.correlation = Some(correlation),
            Property::SubscriptionIdentifier(id) => received.subscription_ids.push(id),
            Property::UserProperty(name, value) => received.user_properties.push((name, value)),
            _ => {}
        }
    }
    received
}
