//! The store: opened before the sockets, given to the shards, closed when none of them is left.

mod lent;

use std::io;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use breakwater_config::StoreSettings;
use breakwater_contract::store::{Condition, Durability, Health};
use breakwater_contract::{Completion, Completions, Store};
use breakwater_net::{Handle, Origin};
use breakwater_router::Router;
use breakwater_shard::{Found, NOBODY, ReplayRule, Returning, Revived, revive};
use breakwater_store::{Embedded, Memory, Options, RealDisk};

use crate::log::{Level, Log};

use lent::Lent;

/// Sessions that a start reads ahead of those that are back.
const AHEAD: usize = 256;

/// Lives as long as the broker runs.
pub(crate) struct Keeper {
    /// Taken when the broker stops. Nobody but the shards has another reference, so that taking it closes it.
    store: Mutex<Option<Arc<dyn Store>>>,
    /// What a start was told to promise where no zone says something else.
    pub(crate) durability: Durability,
    /// Something outlasts the process.
    pub(crate) is_open: bool,
    pub(crate) lent: Lent,
    /// Where it is, if anywhere.
    folder: Option<PathBuf>,
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
    /// Opens the store in a data directory. The error says what to do.
    pub(crate) fn open(data: &Path, settings: &StoreSettings, origin: Origin, salt: u64) -> Result<Self, String> {
        let (relay, mouth) = (Arc::new(Relay::default()), Mouth::default());
        let StoreSettings { durability, is_open, .. } = *settings;
        if !is_open {
            mouth.say(Level::Info, "store: in memory: nothing outlasts this process (store.durability)");
            let store: Arc<dyn Store> = Arc::new(Memory::new(Arc::clone(&relay) as Arc<_>));
            let (store, lent) = (Mutex::new(Some(store)), Lent::nothing());
            return Ok(Self { store, folder: None, durability, is_open, lent, relay, mouth });
        }
        let folder = data.join("store");
        let failed = |what: &dyn std::fmt::Display| format!("store: {}: {what}", folder.display());
        let unwritable = |fault: io::Error| {
            failed(&format!(
                "{fault}; give the broker a data directory that it may write (--data DIR), or set store.durability to \
                 memory, here and in zones, so that nothing outlasts the process"
            ))
        };
        make(&folder).map_err(unwritable)?;
        let disk = RealDisk::new(&folder).map_err(unwritable)?;
        let speaks = mouth.clone();
        let tell = Box::new(move |text: &str| speaks.say(Level::Warn, &format!("store: {text}")));
        let completions = Arc::clone(&relay) as Arc<_>;
        let store = Embedded::open(Arc::new(disk), options(settings, origin, salt), completions, tell);
        let store = Arc::new(store.map_err(|fault| failed(&fault))?);
        let (lent, folder) = (Lent::new(&store), Some(folder));
        Ok(Self { store: Mutex::new(Some(store)), folder, durability, is_open, lent, relay, mouth })
    }

    /// Puts back what the store has kept: what is for the shards goes to `each`. The error says what kept it from that.
    ///
    /// A thread of its own reads, a little ahead: what it reads and lets go comes from an arena of the allocator of its own and
    /// leaves no holes among what stays, which would never fill again.
    pub(crate) fn revive(&self, router: &Router, origin: Origin, mut each: impl FnMut(Found)) -> io::Result<()> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let (store, now, began) = (self.store(), origin.now(), Instant::now());
        let (sender, receiver) = mpsc::sync_channel(AHEAD);
        let (kept, unix_ms) = (&*store, origin.unix_ms() + now.0);
        let revived = thread::scope(|scope| {
            let reader = scope.spawn(move || revive(kept, router, now, unix_ms, &mut |found| drop(sender.send(found))));
            receiver.into_iter().for_each(&mut each);
            reader.join().unwrap_or_else(|panic| resume_unwind(panic))
        });
        let failed = |fault| io::Error::other(format!("store: {}: {fault}", folder.display()));
        let (revived, health) = (revived.map_err(failed)?, store.health());
        let level = if health.damages > 0 || revived.refused > 0 { Level::Warn } else { Level::Info };
        self.mouth.say(level, &found(folder, &revived, &health, began.elapsed()));
        Ok(())
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
    let folder = folder.display();
    let mut text = format!("store: {retained} retained messages and {sessions} sessions restored from {folder}");
    if *delayed > 0 {
        text += &format!(", {delayed} messages wait to be published later");
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
fn make(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn make(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)
}
