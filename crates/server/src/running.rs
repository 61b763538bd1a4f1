//! The broker that runs, and changes of its configuration.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use breakwater_acme::{Agent, Folder};
use breakwater_config::{Edit, Listener, Live, Plan, Resolved, apply, plan};
use breakwater_net::{Ending, Handle, Origin};
use breakwater_router::Router;
use breakwater_shard::{Pages, Returning};
use breakwater_transport::tls::self_made::{Wanted, ensure};
use breakwater_transport::tls::{TlsConfigFault, load_server};

use crate::clock::now_s;
use crate::config;
use crate::keeper::Keeper;
use crate::log::{Level, Log};
use crate::service;
use crate::sources::{Overrides, Places};
use crate::tls_files::TlsFiles;

/// Where the configuration of this process comes from, and what of it is in force.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) places: Places,
    pub(crate) overrides: Overrides,
    pub(crate) log: Log,
    /// Orders certificates.
    pub(crate) agent: Agent,
    pub(crate) shards: u16,
    /// What the shards show of themselves.
    pub(crate) pages: Arc<Pages>,
    pub(crate) router: Arc<Router>,
    /// What the shards know of what is kept.
    pub(crate) returning: Arc<Returning>,
    /// The clock of its shards.
    pub(crate) origin: Origin,
    /// What outlasts the process.
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) started: Instant,
    /// Held while a change is under way: they come one after the other.
    pub(crate) resolved: Mutex<Resolved>,
    /// What the file looked like before it was read last.
    pub(crate) read: Mutex<Stamp>,
}

impl Running {
    /// Reads the configuration again and takes up what has changed, as a whole or not at all. All faults at once.
    pub(crate) fn reload(&self) -> Result<Plan, Vec<String>> {
        service::reloading();
        let done = self.take_up();
        service::ready(&self.handle);
        done
    }

    fn take_up(&self) -> Result<Plan, Vec<String>> {
        let mut resolved = self.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        *self.read.lock().unwrap_or_else(PoisonError::into_inner) = stamp(&self.places);
        let wanted = self.places.resolve(&self.overrides);
        let done = wanted.and_then(|wanted| {
            let plan = plan(&resolved, &wanted);
            apply(&plan, self)?;
            *resolved = wanted.taken_up(&resolved);
            self.router.set_retained_life(Arc::new(resolved.retained.clone()));
            self.keeper.keep_for_replays(&self.returning, &resolved.replay, &self.router);
            self.order(&resolved);
            Ok(plan)
        });
        self.tell(&done);
        done
    }

    /// Changes the file, and takes the change up. If it can't be taken up, the file is as it was.
    pub(crate) fn edit(&self, edits: &[Edit]) -> Result<Plan, Vec<String>> {
        let file = self.places.file();
        let before = file.as_deref().and_then(|file| crate::sources::read(file).ok());
        let (file, _) = config::change(&self.places, edits)?;
        self.reload().map_err(|mut faults| {
            match (before, crate::sources::read(&file)) {
                (Some(before), Ok(after)) => {
                    let back =
                        config::put(&self.places, &file, Some(&after), &before, "taken back, it could not be applied");
                    faults.extend(back.err().unwrap_or_default());
                }
                // It was made for this change.
                (None, _) => _ = std::fs::remove_file(&file),
                (Some(_), Err(_)) => {}
            }
            faults
        })
    }

    /// Names the certificates that are to be ordered.
    pub(crate) fn order(&self, resolved: &Resolved) {
        if let Err(fault) = self.agent.set(resolved.acme.clone()) {
            self.log.say(Level::Error, &format!("acme: no certificate is ordered: no thread can be started: {fault}"));
        }
    }

    /// How long a stop may take.
    pub(crate) fn drain(&self) -> Duration {
        self.resolved.lock().unwrap_or_else(PoisonError::into_inner).drain
    }

    /// Logs what is not well with the listeners and yet no reason to refuse them.
    pub(crate) fn warn(&self) {
        self.warn_of("");
    }

    /// The same for one listener; for all without a name.
    pub(crate) fn warn_of(&self, name: &str) {
        for listener in self.handle.listeners() {
            if !name.is_empty() && *listener.options.name != *name {
                continue;
            }
            for warning in &listener.warnings {
                self.log.say(Level::Warn, &format!("listener {}: {warning}", listener.options.name));
            }
        }
    }

    fn tell(&self, done: &Result<Plan, Vec<String>>) {
        match done {
            Ok(plan) => {
                let restart = plan.restarts().count() > 0;
                let level = if restart { Level::Warn } else { Level::Info };
                plan.lines().iter().for_each(|line| self.log.say(level, &format!("reload: {line}")));
                self.warn();
            }
            Err(faults) => {
                faults.iter().for_each(|fault| self.log.say(Level::Error, &format!("reload: {fault}")));
                self.log.say(Level::Error, "reload: nothing was changed");
            }
        }
    }
}

impl Live for Running {
    fn prepare(&self, listener: &Listener) -> Result<(), Vec<String>> {
        let faults = prepare(listener);
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    fn open(&self, listener: &Listener) -> Result<(), String> {
        self.handle.open(listener.options.clone()).map_err(|fault| fault.to_string())
    }

    fn change(&self, listeners: &[&Listener], ending: Ending) -> Result<(), String> {
        let options = listeners.iter().map(|listener| listener.options.clone()).collect();
        self.handle.change_together(options, ending).map_err(|fault| fault.to_string())
    }

    fn close(&self, name: &str, ending: Ending) -> Result<(), String> {
        self.handle.close(name, ending).map_err(|fault| fault.to_string())
    }
}

/// Makes what the broker makes by itself for a listener, and checks what it needs besides sockets. All faults at once.
pub(crate) fn prepare(listener: &Listener) -> Vec<String> {
    if let Err(fault) = make(listener) {
        return vec![format!("listener {}: {fault}", listener.options.name)];
    }
    check_files(listener)
}

fn make(listener: &Listener) -> Result<(), TlsConfigFault> {
    let Some(folder) = made_in(listener) else { return Ok(()) };
    if listener.self_made {
        return ensure(folder, &own_names(), now_s()).map(drop);
    }
    // That of an authority comes later, or is there: until then clients meet the self-made one.
    let Some(own) = folder.ancestors().nth(2).filter(|_| listener.acme.is_some()) else { return Ok(()) };
    let ordered = Folder::new(folder);
    if ordered.facts().is_some_and(|facts| !facts.self_made) {
        return Ok(());
    }
    ordered.stand_in(&ensure(own, &own_names(), now_s())?.server)
}

/// Checks the files of a listener, but for those that the broker makes by itself and that may not be there yet.
pub(crate) fn check_files(listener: &Listener) -> Vec<String> {
    let Some(tls) = &listener.options.tls else { return Vec::new() };
    let made = listener.self_made || listener.acme.is_some();
    if made && !tls.certificates.first().is_some_and(|files| files.certificate.exists()) {
        return Vec::new();
    }
    let faults = load_server(tls, now_s()).err().unwrap_or_default();
    faults.iter().map(|fault| format!("listener {}: {fault}", listener.options.name)).collect()
}

/// The folder of the certificate that the broker makes or orders by itself.
fn made_in(listener: &Listener) -> Option<&std::path::Path> {
    listener.options.tls.as_ref()?.certificates.first()?.certificate.parent()
}

/// What clients may call this machine.
fn own_names() -> Wanted {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    let names = if name.is_empty() { Vec::new() } else { vec![name.into()] };
    Wanted { names, ..Wanted::default() }
}

/// Time between two looks at the file.
const LOOK: Duration = Duration::from_secs(1);

/// Reloads when the file has changed, as long as `reload.watch` says so. An editor may write in several steps: only a file that
/// looks the same twice is read. Files of TLS are watched in any case.
pub(crate) fn watch(running: &Arc<Running>) -> std::io::Result<()> {
    // As they were when the listeners were opened: what changes in the first second is seen too.
    let mut tls_files = TlsFiles::default();
    tls_files.look(running, &running.resolved.lock().unwrap_or_else(PoisonError::into_inner));
    let running = Arc::downgrade(running);
    let body = move || {
        let mut last = None;
        loop {
            thread::sleep(LOOK);
            let Some(running) = running.upgrade() else { return };
            let resolved = running.resolved.lock().unwrap_or_else(PoisonError::into_inner);
            tls_files.look(&running, &resolved);
            let watch = resolved.reload.watch;
            drop(resolved);
            if !watch {
                last = None;
                continue;
            }
            let seen = stamp(&running.places);
            let read = *running.read.lock().unwrap_or_else(PoisonError::into_inner);
            if seen == last && seen != read && seen.is_some() {
                // It has told already.
                let _ = running.reload();
            }
            last = seen;
        }
    };
    thread::Builder::new().name("watch".into()).spawn(body)?;
    Ok(())
}

/// What a file looks like from the outside.
pub(crate) type Stamp = Option<(SystemTime, u64, u64)>;

pub(crate) fn stamp(places: &Places) -> Stamp {
    let metadata = std::fs::metadata(places.file()?).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let inode = 0;
    Some((metadata.modified().ok()?, metadata.len(), inode))
}
