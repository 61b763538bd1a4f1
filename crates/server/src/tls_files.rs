//! Files of TLS that change while the broker runs: certificates that somebody renews, revocation lists that grow. They are read
//! again by themselves, whether or not the configuration is watched.

use std::collections::HashMap;

use breakwater_config::{Listener, Live, Resolved};
use breakwater_net::Ending;
use breakwater_transport::tls::{FilesStamp, load_stamp};

use crate::log::Level;
use crate::running::Running;

/// What the files of each listener look like, by its name.
#[derive(Default)]
pub(crate) struct TlsFiles {
    known: HashMap<Box<str>, Known>,
    looks: u32,
}

struct Known {
    /// When they were read.
    read: FilesStamp,
    /// At the last look: several files are seldom written at one moment, so only what looks the same twice is read.
    last: FilesStamp,
}

/// The certificate that the broker makes by itself is looked after at each so many looks: about once an hour.
const LOOKS_PER_CARE: u32 = 3600;

impl TlsFiles {
    /// Looks whether files have changed, and lets their listeners take them up.
    pub(crate) fn look(&mut self, running: &Running, resolved: &Resolved) {
        self.looks = self.looks.wrapping_add(1);
        self.known.retain(|name, _| resolved.listeners.iter().any(|listener| listener.options.name == *name));
        for listener in &resolved.listeners {
            let Some(tls) = &listener.options.tls else { continue };
            if listener.self_made && self.looks.is_multiple_of(LOOKS_PER_CARE) {
                // Renews it when its time comes; the look after next takes it up.
                say(running, listener, running.prepare(listener));
            }
            let stamp = load_stamp(tls);
            let known = self
                .known
                .entry(listener.options.name.clone())
                .or_insert_with(|| Known { read: stamp.clone(), last: stamp.clone() });
            if stamp != known.read && stamp == known.last {
                known.read = stamp.clone();
                take_up(running, listener);
            }
            known.last = stamp;
        }
    }
}

fn take_up(running: &Running, listener: &Listener) {
    let name = &listener.options.name;
    let done =
        running.prepare(listener).and_then(|()| running.change(&[listener], Ending::Keep).map_err(|fault| vec![fault]));
    if done.is_ok() {
        running.log.say(Level::Info, &format!("listener {name}: its TLS files have changed and were read again"));
        running.warn_of(name);
    }
    say(running, listener, done);
}

fn say(running: &Running, listener: &Listener, done: Result<(), Vec<String>>) {
    let faults = done.err().unwrap_or_default();
    for fault in &faults {
        running.log.say(Level::Error, fault);
    }
    if !faults.is_empty() {
        let name = &listener.options.name;
        running.log.say(Level::Error, &format!("listener {name}: what was read of its TLS files before stays in use"));
    }
}
