//! The store: opened before the sockets, given to the shards, closed when none of them is left.

mod lent;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use breakwater_config::StoreSettings;
use breakwater_contract::store::{Condition, Durability, Health};
use breakwater_contract::{Completion, Completions, Store};
use breakwater_net::{Handle, Origin};
use breakwater_router::Router;
use breakwater_shard::{NOBODY, ReplayRule, Returning, Revived, revive};
use breakwater_store::{Embedded, Memory, Options, RealDisk};

use crate::log::{Level, Log};

use lent::Lent;

/// Lives as long as the broker runs.
pub(crate) struct Keeper {
    /// Taken when the broker stops. Nobody but the shards has another reference, so that taking it closes it.
    store: Mutex<Option<Arc<dyn Store>>>,
    /// What a start was told to promise where no zone says something else.
    pub(crate) durability: Durability,
    /// Something outlasts the process.
    pub(crate) is_open: bool,
    pub(crate) lent: Lent,
    /// What was found, until the shards take it.
    revived: Mutex<Revived>,
    relay: Arc<Relay>,
    mouth: Mouth,
}

/// Where answers go once there are shards.
#[derive(Default)]
struct Relay(OnceLock<Option<Handle>>);

/// Where the store says what it has to say; kept until there is a log.
#[derive(Clone, Default)]
struct Mouth(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    log: Option<Log>,
    before: Vec<(Level, String)>,
}

impl Keeper {
    /// Opens the store in a data directory, and puts back what it has kept. The error says what to do.
    pub(crate) fn open(
        data: &Path,
        settings: &StoreSettings,
        origin: Origin,
        salt: u64,
        router: &Router,
    ) -> Result<Self, String> {
        let (relay, mouth) = (Arc::new(Relay::default()), Mouth::default());
        let StoreSettings { durability, is_open, .. } = *settings;
        if !is_open {
            mouth.say(Level::Info, "store: in memory: nothing outlasts this process (store.durability)");
            let store: Arc<dyn Store> = Arc::new(Memory::new(Arc::clone(&relay) as Arc<_>));
            let (store, lent, revived) = (Mutex::new(Some(store)), Lent::nothing(), Mutex::default());
            return Ok(Self { store, durability, is_open, lent, revived, relay, mouth });
        }
        let folder = data.join("store");
        let failed = |what: &dyn std::fmt::Display| format!("store: {}: {what}", folder.display());
        let unwritable = |fault: std::io::Error| {
            failed(&format!(
                "{fault}; give the broker a data directory that it may write (--data DIR), or set store.durability to \
                 memory, here and in zones, so that nothing outlasts the process"
            ))
        };
        let began = Instant::now();
        make(&folder).map_err(unwritable)?;
        let disk = RealDisk::new(&folder).map_err(unwritable)?;
        let speaks = mouth.clone();
        let tell = Box::new(move |text: &str| speaks.say(Level::Warn, &format!("store: {text}")));
        let completions = Arc::clone(&relay) as Arc<_>;
        let store = Embedded::open(Arc::new(disk), options(settings, origin, salt), completions, tell);
        let store = store.map_err(|fault| failed(&fault))?;
        let now = origin.now();
        let revived = revive(&store, router, now, origin.unix_ms() + now.0).map_err(|fault| failed(&fault))?;
        let level = if store.health().damages > 0 || revived.refused > 0 { Level::Warn } else { Level::Info };
        mouth.say(level, &found(&folder, &revived, &store.health(), began.elapsed()));
        let revived = Mutex::new(revived);
        let store = Arc::new(store);
        let lent = Lent::new(&store);
        Ok(Self { store: Mutex::new(Some(store)), durability, is_open, lent, revived, relay, mouth })
    }

    /// What was found; the first who asks gets it.
    pub(crate) fn revived(&self) -> Revived {
        std::mem::take(&mut self.revived.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For the shards.
    pub(crate) fn store(&self) -> Arc<dyn Store> {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map_or_else(|| Arc::new(Memory::default()) as Arc<_>, Arc::clone)
    }

    /// What is kept for replays from here on: nothing, where nothing outlasts the process.
    pub(crate) fn keep_for_replays(&self, returning: &Returning, rules: &[ReplayRule], router: &Router) {
        if !self.store().is_volatile() {
            returning.set_replay_rules(rules, router);
        }
    }

    /// Words go there.
    pub(crate) fn speak(&self, log: &Log) {
        let mut said = self.mouth.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.before.drain(..).for_each(|(level, text)| log.say(level, &text));
        said.log = Some(log.clone());
    }

    /// Answers go there: there are shards.
    pub(crate) fn connect(&self, node: &Handle) {
        let _ = self.relay.0.set(Some(node.clone()));
    }

    /// How the store is.
    pub(crate) fn health(&self) -> Health {
        let store = self.store.lock().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map_or_else(Health::default, |store| store.health())
    }

    /// When no shard is left: everything that was submitted is written, or it is said that it could not be.
    pub(crate) fn close(&self) {
        let _ = self.relay.0.set(None);
        let Some(store) = self.store.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        self.lent.end();
        if store.health().condition != Condition::Well {
            let text = "store: not everything could be written; see what it said before";
            self.mouth.say(Level::Error, text);
        }
        drop(store);
        // The log ends when nobody holds it any more.
        self.mouth.0.lock().unwrap_or_else(PoisonError::into_inner).log = None;
    }
}

/// For a start that ends on the way.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.close();
    }
}

impl Completions for Relay {
    fn complete(&self, completion: Completion) {
        let (Completion::Auth { token, .. }
        | Completion::Authorized { token, .. }
        | Completion::Durable { token, .. }
        | Completion::Read { token, .. }) = &completion;
        if token.shard == NOBODY {
            return;
        }
        // A shard asked, so that the handle is there in a moment.
        if let Some(node) = self.0.wait() {
            node.complete(completion);
        }
    }
}

impl Mouth {
    fn say(&self, level: Level, text: &str) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &said.log {
            Some(log) => log.say(level, text),
            None => said.before.push((level, text.to_owned())),
        }
    }
}

fn options(settings: &StoreSettings, origin: Origin, salt: u64) -> Options {
    let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Options {
        segment_bytes: settings.segment_bytes,
        fold_bytes: size(settings.memory_bytes),
        cache_bytes: size(settings.cache_bytes),
        waiting_bytes_max: size(settings.waiting_bytes),
        commit_delay: Duration::from_millis(settings.commit_delay_ms),
        epoch_unix_ms: origin.unix_ms(),
        salt,
        ..Options::default()
    }
}

/// One line on what a start has found.
fn found(folder: &Path, revived: &Revived, health: &Health, took: Duration) -> String {
    let Revived { sessions, delayed, retained, expired, refused } = revived;
    let (sessions, folder) = (sessions.iter().filter(|back| back.is_a_clients()).count(), folder.display());
    let mut text = format!("store: {retained} retained messages and {sessions} sessions restored from {folder}");
    if !delayed.is_empty() {
        text += &format!(", {} messages wait to be published later", delayed.len());
    }
    if *expired > 0 {
        text += &format!(", {expired} messages had expired");
    }
    if *refused > 0 {
        text += &format!(", {refused} left where they are because of the limits retained.*");
    }
    match health.damages {
        0 => text += ", nothing damaged",
        damages => text += &format!(", {damages} things lost or set aside (said above)"),
    }
    text + &format!(", in {} ms", took.as_millis())
}

/// What clients have sent is nobody else's business.
#[cfg(unix)]
fn make(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)
}
