//! The users as they are at this moment: a snapshot for who asks, renewed when the file changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use breakwater_contract::{Command, Control, Lost, Revoked};

use crate::chain::{Notice, Voice};
use crate::hash::PasswordHash;
use crate::users::{FileFault, Stamp, User, Users, UsersFile};
use crate::verified::Verified;

/// One for a process. A file that can't be read changes nothing: who was known stays known, nobody else becomes so.
pub struct Roster {
    file: UsersFile,
    users: RwLock<Arc<Users>>,
    /// State of the file that was looked at last, well-formed or not.
    seen: Mutex<Option<Stamp>>,
    pub(crate) verified: Verified,
    /// Held while users change and while a verdict goes out, but never by a shard: so a verdict that was found by the users of
    /// before is out before the word of the change.
    verdicts: Mutex<()>,
    /// Where to say whose connections end.
    control: OnceLock<Arc<dyn Control>>,
    voice: Voice,
}

/// Passwords that were hashed anew, by name: another hash, and the same password.
pub(crate) type Renewals = HashMap<Box<str>, PasswordHash>;

/// Names that one log line has.
const NAMED_MAX: usize = 5;

impl Roster {
    /// Reads the file. One that can't be read is refused: nothing is known that could be kept.
    pub fn open(file: UsersFile, verified_max: usize, voice: Voice) -> Result<Self, FileFault> {
        let (users, stamp) = file.load_stamped()?;
        let verified = Verified::new(verified_max);
        let (verdicts, control) = Default::default();
        Ok(Self {
            file,
            users: RwLock::new(Arc::new(users)),
            seen: Mutex::new(stamp),
            verified,
            verdicts,
            control,
            voice,
        })
    }

    /// From here on the connections of users who lose what let them in are ended there. It has to go the same way as the
    /// answers of the chain.
    pub fn connect(&self, control: Arc<dyn Control>) {
        let _ = self.control.set(control);
    }

    /// Holds the users still while a verdict by this state of one of them goes out. None: there is another state by now.
    pub(crate) fn still(&self, name: &str, judged: &User) -> Option<MutexGuard<'_, ()>> {
        let guard = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let users = self.users();
        let same = |user: &User| user.password == judged.password && user.disabled == judged.disabled;
        users.get(name).is_some_and(same).then_some(guard)
    }

    /// The users as they are now.
    #[must_use]
    pub fn users(&self) -> Arc<Users> {
        Arc::clone(&self.users.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &UsersFile {
        &self.file
    }

    /// Reads the file again if it has changed, and says so.
    pub fn refresh(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = self.file.stamp();
        if *seen == stamp {
            return;
        }
        *seen = stamp;
        let path = self.file.path().display();
        if stamp.is_none() {
            let text = format!("{path} is gone; the users that it named stay until the next start");
            (self.voice)(Notice::Warning(&text));
            return;
        }
        match self.file.load_stamped() {
            Ok((users, stamp)) => {
                *seen = stamp;
                let text = format!("users read from {path}: {} in all", users.len());
                (self.voice)(Notice::Fact(&text));
                self.take_over(users, &Renewals::new());
            }
            Err(fault) => {
                for line in fault.lines() {
                    (self.voice)(Notice::Warning(&format!("{line}; the users stay as they were")));
                }
            }
        }
    }

    /// Reads the file again because somebody says so.
    pub fn reload(&self) -> Result<usize, FileFault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (users, stamp) = self.file.load_stamped()?;
        *seen = stamp;
        let count = users.len();
        self.take_over(users, &Renewals::new());
        Ok(count)
    }

    /// Changes the file so that only hashes change and no password, and takes over what it holds then. `change` answers which.
    pub(crate) fn renew(&self, change: impl FnOnce(&mut Users) -> Result<Renewals, String>) -> Result<(), FileFault> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let renewals = self.file.change(change)?;
        let (users, stamp) = self.file.load_stamped()?;
        *seen = stamp;
        self.take_over(users, &renewals);
        Ok(())
    }

    fn take_over(&self, users: Users, renewals: &Renewals) {
        let users = Arc::new(users);
        let _still = self.verdicts.lock().unwrap_or_else(PoisonError::into_inner);
        let before = {
            let mut current = self.users.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::clone(&users))
        };
        self.verified.on_change(&before, &users);
        let revoked = lost(&before, &users, renewals);
        if let Some(control) = self.control.get().filter(|_| !revoked.is_empty()) {
            (self.voice)(Notice::Fact(&farewell(&revoked)));
            control.command(Command::Revoke(Arc::new(revoked)));
        }
    }
}

/// Who has lost what let its clients in.
fn lost(before: &Users, after: &Users, renewals: &Renewals) -> Revoked {
    let of = |name: &str, was: &User| match after.get(name) {
        Some(is) if is.disabled && !was.disabled => Some(Lost::Place),
        Some(is) if is.password != was.password && renewals.get(name) != Some(&is.password) => Some(Lost::Password),
        Some(_) => None,
        // A certificate that names it is as good as before.
        None => Some(Lost::Password),
    };
    before.iter().filter_map(|(name, was)| Some((name.into(), of(name, was)?))).collect()
}

/// What the log says of that.
fn farewell(revoked: &Revoked) -> String {
    let names: Vec<String> = revoked.keys().take(NAMED_MAX).map(|name| format!("{name:?}")).collect();
    let more = revoked.len() - names.len();
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!(
        "connections are ended of users that were disabled, removed or given another password: {}{more}",
        names.join(", ")
    )
}
