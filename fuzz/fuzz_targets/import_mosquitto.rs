//! Any text as a file of Mosquitto: nothing panics, every line is accounted for, and the result is one that can be read.
#![no_main]

mod imported;

use breakwater_config::import::Format;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| imported::alone(Format::Mosquitto, text));
