//! Passwords that were judged right before, so that a storm of reconnecting clients is let in at once instead of at the pace
//! of Argon2id.
//!
//! Kept is not the password but an HMAC of it, with a key that this process has drawn for itself, over user name, hash and
//! password. So an entry is worth nothing once the user's hash has changed, and nothing to whoever sees it without the key.
//! Whoever can read the memory of the process finds both, and can try passwords at the speed of SHA-256; but there he also
//! finds the passwords of clients that connect.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hmac, rand};

use crate::users::{User, Users};

/// One entry for each user at most. Shared by shards, which ask, and hashing threads, which enter.
pub(crate) struct Verified {
    key: hmac::Key,
    entries: RwLock<Entries>,
    most: usize,
}

#[derive(Default)]
struct Entries {
    by_name: HashMap<Arc<str>, Entry>,
    /// Names in the order in which they came: the first goes when there are too many. One whose number is not that of its
    /// entry is out of date.
    order: VecDeque<(u64, Arc<str>)>,
    next: u64,
}

struct Entry {
    number: u64,
    tag: hmac::Tag,
}

impl Verified {
    pub(crate) fn new(most: usize) -> Self {
        let mut key = [0; 32];
        rand::fill(&mut key).expect("the system has random numbers");
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key), entries: RwLock::default(), most }
    }

    /// Whether this was judged right before. An unknown user takes as long as a known one. Never waits: while somebody writes
    /// nothing is known, and the password is hashed once more.
    pub(crate) fn knows(&self, name: &str, user: Option<&User>, password: &[u8]) -> bool {
        let tag = self.tag(name, user, password);
        let entries = match self.entries.try_read() {
            Ok(entries) => entries,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let entry = entries.by_name.get(name).map_or(&[0; 32][..], |entry| entry.tag.as_ref());
        verify_slices_are_equal(entry, tag.as_ref()).is_ok() && user.is_some()
    }

    /// It was judged right.
    pub(crate) fn enter(&self, name: &str, user: &User, password: &[u8]) {
        if self.most == 0 {
            return;
        }
        let tag = self.tag(name, Some(user), password);
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.by_name.get_mut(name) {
            entry.tag = tag;
            return;
        }
        let Entries { by_name, order, next } = &mut *entries;
        let is_current = |by_name: &HashMap<Arc<str>, Entry>, number: u64, name: &str| {
            by_name.get(name).is_some_and(|entry| entry.number == number)
        };
        while by_name.len() >= self.most
            && let Some((number, oldest)) = order.pop_front()
        {
            if is_current(by_name, number, &oldest) {
                by_name.remove(&oldest);
            }
        }
        if order.len() >= 2 * self.most {
            order.retain(|(number, name)| is_current(by_name, *number, name));
        }
        let (name, number): (Arc<str>, u64) = (name.into(), *next);
        *next += 1;
        order.push_back((number, Arc::clone(&name)));
        by_name.insert(name, Entry { number, tag });
    }

    /// Drops what belongs to users that are gone or have another password.
    pub(crate) fn on_change(&self, before: &Users, after: &Users) {
        let same = |name: &str| match (before.get(name), after.get(name)) {
            (Some(before), Some(after)) => before.password == after.password,
            _ => false,
        };
        // Looked for beside those who read; only what is dropped keeps them waiting.
        let gone: Vec<Arc<str>> = {
            let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
            entries.by_name.keys().filter(|name| !same(name)).cloned().collect()
        };
        if !gone.is_empty() {
            let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            gone.iter().for_each(|name| _ = entries.by_name.remove(name));
        }
    }

    fn tag(&self, name: &str, user: Option<&User>, password: &[u8]) -> hmac::Tag {
        let (salt, hash) = user.map_or((&[0; 16][..], &[0; 32][..]), |user| user.password.secret());
        let mut context = hmac::Context::with_key(&self.key);
        for part in [name.as_bytes(), salt, hash, password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part);
        }
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(salt: u8) -> User {
        let password = format!("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRz{}Wx0$AAAAAAAAAAAAAAAAAAAAAA", char::from(salt));
        User { password: password.parse().expect("a hash"), superuser: false, disabled: false, created_s: 0 }
    }

    #[test]
    fn only_what_was_judged_right_is_known() {
        let verified = Verified::new(10);
        assert!(!verified.knows("a", Some(&user(b'A')), b"p"));
        verified.enter("a", &user(b'A'), b"p");
        assert!(verified.knows("a", Some(&user(b'A')), b"p"));
        for (name, user, password) in [
            ("a", Some(user(b'A')), &b"q"[..]),
            ("a", Some(user(b'A')), b""),
            ("a", Some(user(b'B')), b"p"),
            ("a", None, b"p"),
            ("b", Some(user(b'A')), b"p"),
        ] {
            assert!(!verified.knows(name, user.as_ref(), password), "{name} {password:?}");
        }
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let verified = Verified::new(2);
        for name in ["a", "b", "a", "c"] {
            verified.enter(name, &user(b'A'), b"p");
        }
        let known = |name| verified.knows(name, Some(&user(b'A')), b"p");
        assert_eq!(["a", "b", "c"].map(known), [false, true, true]);
        let none = Verified::new(0);
        none.enter("a", &user(b'A'), b"p");
        assert!(!none.knows("a", Some(&user(b'A')), b"p"));
    }

    #[test]
    fn a_change_drops_what_it_concerns() {
        let verified = Verified::new(10);
        let (mut before, mut after) = (Users::default(), Users::default());
        for name in ["same", "changed", "gone"] {
            before.set(name, user(b'A'));
            verified.enter(name, &user(b'A'), b"p");
        }
        after.set("same", User { superuser: true, ..user(b'A') });
        after.set("changed", user(b'B'));
        verified.on_change(&before, &after);
        {
            let entries = verified.entries.read().expect("one thread");
            assert_eq!(entries.by_name.keys().map(|name| &**name).collect::<Vec<_>>(), ["same"]);
        }
        for _ in 0..100 {
            verified.enter("changed", &user(b'B'), b"p");
            verified.on_change(&before, &after);
        }
        assert!(verified.entries.read().expect("one thread").order.len() <= 20, "bounded");
    }
}
