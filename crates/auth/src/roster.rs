//! The users as they are at this moment: a snapshot for who asks, renewed when the file changes.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::chain::{Notice, Voice};

use crate::users::{FileFault, Stamp, Users, UsersFile};
use crate::verified::Verified;

/// One for a process. A file that can't be read changes nothing: who was known stays known, nobody else becomes so.
pub struct Roster {
    file: UsersFile,
    users: RwLock<Arc<Users>>,
    /// State of the file that was looked at last, well-formed or not.
    seen: Mutex<Option<Stamp>>,
    pub(crate) verified: Verified,
    voice: Voice,
}

impl Roster {
    /// Reads the file. One that can't be read is refused: nothing is known that could be kept.
    pub fn open(file: UsersFile, verified_max: usize, voice: Voice) -> Result<Self, FileFault> {
        let (users, stamp) = file.load_stamped()?;
        let verified = Verified::new(verified_max);
        Ok(Self { file, users: RwLock::new(Arc::new(users)), seen: Mutex::new(stamp), verified, voice })
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
                self.take_over(users);
                (self.voice)(Notice::Fact(&text));
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
        self.take_over(users);
        Ok(count)
    }

    fn take_over(&self, users: Users) {
        let users = Arc::new(users);
        let before = {
            let mut current = self.users.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *current, Arc::clone(&users))
        };
        self.verified.on_change(&before, &users);
    }
}
