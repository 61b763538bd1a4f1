//! From sources to the plain options of each plane. All faults at once.

mod effective;
mod listeners;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use breakwater_router::{RetainedLife, RouterOptions};
use breakwater_session::Limits;
use breakwater_shard::{AutoSubscribe, Durability, Options, ReplayRule, Rewrite};

use crate::gather::{Gathered, Given, Section};
use crate::listener::Listener;
use crate::raw::{Fault, Origin};
use crate::setting::Store;
use crate::surroundings::Surroundings;
use crate::table::TABLE;
use crate::{acme, document, environment, flags};

pub use effective::Effective;
pub(crate) use listeners::{overlap, place};

/// What the configuration is made of, the weakest first.
#[derive(Clone, Default)]
pub struct Sources {
    /// The file and its text.
    pub file: Option<(Arc<Path>, String)>,
    /// Environment variables; those that aren't ours are left alone.
    pub environment: Vec<(String, String)>,
    /// `--set`.
    pub set: Vec<String>,
    /// `--listen`.
    pub listen: Vec<String>,
}

/// All settings, resolved: defaults filled in, checked against each other.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    pub shard: Options,
    pub router: RouterOptions,
    pub net: breakwater_net::Options,
    /// How long a stop may take before connections that don't drain are cut.
    pub drain: Duration,
    pub authentication: Authentication,
    pub store: StoreSettings,
    /// Those that are written down, by name.
    pub zones: Vec<Zone>,
    pub reload: Reload,
    /// What the clients of all listeners get.
    pub terms: Terms,
    /// How long retained messages live.
    pub retained: RetainedLife,
    /// What is kept for replays.
    pub replay: Vec<ReplayRule>,
    /// The default listeners exist without being written down.
    pub defaults: bool,
    pub when_unavailable: WhenUnavailable,
    /// Certificates that are ordered, by name.
    pub acme: Vec<breakwater_acme::Options>,
    /// Those that are enabled, by type and name.
    pub listeners: Vec<Listener>,
    /// Every value with where it comes from.
    pub values: Vec<Effective>,
    /// What is not wrong, but should be known: one line each.
    pub remarks: Vec<String>,
}

/// What is the same for the clients of all listeners.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What becomes of the topics that they name.
    pub rewrite: Arc<Rewrite>,
    /// What they are subscribed to when they connect.
    pub auto_subscribe: Arc<AutoSubscribe>,
}

/// Who may connect to the listeners that ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Authentication {
    /// A direct peer on loopback needs no name.
    pub allow_anonymous_loopback: bool,
    /// Threads that check passwords; none for as many as suit the machine.
    pub hashing_threads: Option<u16>,
    /// Users whose right password is remembered.
    pub remembered_max: u32,
}

/// What outlasts the process, and how much room that may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StoreSettings {
    /// Where no zone says something else.
    pub durability: Durability,
    /// Something outlasts the process: here, or in a zone.
    pub is_open: bool,
    /// How long the first change waits for others.
    pub commit_delay_ms: u64,
    pub segment_bytes: u64,
    /// For what is not in the index yet.
    pub memory_bytes: u64,
    /// For what the index has read.
    pub cache_bytes: u64,
    /// What may wait to be written.
    pub waiting_bytes: u64,
}

/// Terms for the clients of some listeners.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Of its section; empty for what holds without one.
    pub name: Box<str>,
    pub limits: Arc<Limits>,
    /// What acknowledgements promise.
    pub durability: Durability,
}

/// How a changed file is taken up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reload {
    pub watch: bool,
    pub on_rebind: OnRebind,
    pub drain_over_ms: u64,
}

/// What becomes of the connections of a listener that is removed or gets other sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRebind {
    #[default]
    Keep,
    Drain,
    Cut,
}

/// What a start does when a listener can't be opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenUnavailable {
    #[default]
    Stop,
    Skip,
}

/// Resolves all settings. No input makes it panic; all faults of all sources come at once.
pub fn resolve(sources: &Sources, around: &Surroundings) -> Result<Resolved, Vec<Fault>> {
    let mut gathered = Gathered::default();
    if let Some((path, text)) = &sources.file {
        gathered.take(document::entries(path, text));
    }
    gathered.take(environment::entries(&sources.environment));
    gathered.take(flags::set(&sources.set));
    gathered.take(flags::listen(&sources.listen));

    let mut faults = std::mem::take(&mut gathered.faults);
    let mut resolved = Resolved::default();
    for (row, setting) in TABLE.iter().enumerate() {
        let default = setting.default_value();
        let given = gathered.settings.given(row).iter().map(|given| (&given.value, given.origin.clone()));
        for (value, origin) in default.iter().map(|value| (value, Origin::Default)).chain(given) {
            let stored = match setting.store {
                Store::Limits(store) => {
                    store(&mut resolved.shard.limits, value);
                    Ok(())
                }
                Store::Durability(store) => {
                    store(&mut resolved.store.durability, value);
                    Ok(())
                }
                Store::Node(store) => store(&mut resolved, value),
            };
            if let Err(what) = stored {
                faults.push(Fault { origin, key: setting.key.into(), what });
            }
        }
    }
    check_limits(&resolved.shard.limits, &resolved, &gathered.settings, "", &mut faults);
    bound_connect(&mut resolved.shard.limits);
    resolved.net.mailbox_bytes = resolved.shard.mailbox_bytes as usize;
    let zones = zones(&gathered, &resolved, &mut faults);
    let base = sources.file.as_ref().and_then(|(path, _)| path.parent()).unwrap_or(Path::new(""));
    let base = around.directory.join(base);
    for (name, section) in &gathered.acme {
        resolved.acme.push(acme::finish(name, section, around, &base, &mut faults));
    }
    let drafts = listeners::drafts(&gathered, &resolved, around, &base, &mut faults);
    let lasts = |zone: &Zone| zone.durability > Durability::Memory;
    resolved.store.is_open = resolved.store.durability > Durability::Memory || zones.values().any(lasts);
    listeners::finish(drafts, &gathered, &zones, around, &mut resolved, &mut faults);
    if !faults.is_empty() {
        return Err(faults);
    }
    resolved.values = effective::all(&gathered, &resolved);
    resolved.zones = zones.into_values().filter(|zone| !zone.name.is_empty()).collect();
    Ok(resolved)
}

/// Each zone by its name: the terms of the broker, with what the zone has of its own.
pub(crate) type Zones = BTreeMap<Box<str>, Zone>;

fn zones(gathered: &Gathered, resolved: &Resolved, faults: &mut Vec<Fault>) -> Zones {
    let durability = resolved.store.durability;
    let base = Zone { name: "".into(), limits: Arc::new(resolved.shard.limits.clone()), durability };
    let mut zones: Zones = std::iter::once(("".into(), base)).collect();
    for (name, section) in &gathered.zones {
        let (mut limits, mut durability) = (resolved.shard.limits.clone(), durability);
        for (row, given) in &section.given {
            let Some(Given { value, .. }) = given.last() else { continue };
            match TABLE[*row].store {
                Store::Limits(store) => store(&mut limits, value),
                Store::Durability(store) => store(&mut durability, value),
                Store::Node(_) => {}
            }
        }
        check_limits(&limits, resolved, section, &format!("zones.{name}."), faults);
        bound_connect(&mut limits);
        zones.insert(name.clone(), Zone { name: name.clone(), limits: Arc::new(limits), durability });
    }
    zones
}

/// A smaller packet limit means a smaller one before CONNECT too, without having to say so.
fn bound_connect(limits: &mut Limits) {
    limits.connect_bytes_max = limits.connect_bytes_max.min(limits.packet_bytes_max);
}

/// Checks of limits against each other.
fn check_limits(limits: &Limits, resolved: &Resolved, section: &Section, prefix: &str, faults: &mut Vec<Fault>) {
    let mut fault = |key: &str, what: &str| {
        let row = TABLE.iter().position(|setting| setting.key == key).unwrap_or_default();
        let origin = section.given(row).last().map(|given| given.origin.clone());
        // Of a zone: one of both stands there, or the fault is the broker's own and told once.
        let origin = origin.or_else(|| section.origin.clone()).unwrap_or(Origin::Default);
        faults.push(Fault { origin, key: format!("{prefix}{key}"), what: what.into() });
    };
    if limits.session_expiry_default_s > limits.session_expiry_max_s {
        fault("session.expiry_default", "is above session.expiry_max: raise one or lower the other");
    }
    if u64::from(limits.queue_bytes_max) > resolved.shard.memory_bytes {
        fault("queue.max_bytes", "is above limits.memory: one client could fill a shard; lower it");
    }
}
