//! What went wrong with a run, as one line for the user and a code for the script.

use breakwater_proto::{ConnAck, Disconnect, ReasonCode, Version};

use crate::console::Console;
use crate::exit::Exit;
use crate::{Fault, Refusal};

/// The end of a run before its work was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) text: String,
    /// Flags that can't be right are told even with `--quiet`.
    pub(crate) is_usage: bool,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Failure {
        Failure { exit: Exit::USAGE, text: text.into(), is_usage: true }
    }

    pub(crate) fn new(exit: Exit, text: impl Into<String>) -> Failure {
        Failure { exit, text: text.into(), is_usage: false }
    }

    pub(crate) fn lost() -> Failure {
        Failure::new(Exit::LOST, "the server closed the connection before everything was done")
    }

    pub(crate) fn no_answer() -> Failure {
        Failure::new(Exit::LOST, "the server closed the connection without an answer: is this an MQTT port?")
    }

    /// The exit code is the code in the packet, as each version numbers them.
    pub(crate) fn refused(connack: &ConnAck<'_>, version: Version) -> Failure {
        let reason = connack.reason;
        let code = if version.is_v5() { reason.as_u8() } else { reason.v3_return_code().unwrap_or(1) };
        let advice = match reason {
            ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized => ": check -u and -P",
            ReasonCode::ClientIdentifierNotValid => ": give another client id with -i",
            ReasonCode::UnsupportedProtocolVersion => ": choose another version with -V",
            ReasonCode::ServerUnavailable | ReasonCode::ServerBusy => ": try again later",
            _ => "",
        };
        let text = connack.reason_string.map(|text| format!(" ({text})")).unwrap_or_default();
        Failure::new(Exit(code), format!("the server refused the connection: {}{text}{advice}", reason.name()))
    }

    pub(crate) fn disconnected(disconnect: &Disconnect<'_>) -> Failure {
        let text = disconnect.reason_string.map(|text| format!(" ({text})")).unwrap_or_default();
        let exit = if disconnect.reason.is_error() { Exit(disconnect.reason.as_u8()) } else { Exit::LOST };
        Failure::new(exit, format!("the server ended the connection: {}{text}", disconnect.reason.name()))
    }

    pub(crate) fn report(&self, quiet: bool, console: &mut Console) -> Exit {
        if self.is_usage || !quiet {
            console.error(&self.text);
        }
        self.exit
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Failure {
        match fault {
            Fault::Violation(violation) => Failure::new(
                Exit::PROTOCOL,
                format!("the server doesn't keep to MQTT: {violation}; is this an MQTT port?"),
            ),
            Fault::ConnectTimeout => {
                Failure::new(Exit::LOST, "the server took the connection but doesn't answer: is this an MQTT port?")
            }
            Fault::PingTimeout => {
                Failure::new(Exit::KEEP_ALIVE, "the server doesn't answer any more: check the network")
            }
        }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        match refusal {
            Refusal::NotConnected => Failure::lost(),
            Refusal::NoPacketId => Failure::new(Exit::USAGE, "65,535 messages are without an answer: send slower"),
            Refusal::PacketTooLarge(max) => Failure::new(
                Exit::TOO_LARGE,
                format!("the message is larger than the {max} bytes that the server takes: send less at a time"),
            ),
            Refusal::QosNotSupported => {
                Failure::new(Exit::QOS_NOT_SUPPORTED, "the server doesn't take this QoS: give a lower one with -q")
            }
            Refusal::RetainNotSupported => {
                Failure::new(Exit::RETAIN_NOT_SUPPORTED, "the server doesn't retain messages: leave -r out")
            }
            Refusal::TopicAliasTooLarge => {
                Failure::new(Exit::PROTOCOL, "the server doesn't take this topic alias: give a lower one, or none")
            }
            Refusal::TooLong => Failure::usage("the message is too long: MQTT carries at most 256 MiB"),
        }
    }
}
