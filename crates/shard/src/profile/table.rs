//! Which listener has which profile, and which sessions still live by an older one.

use std::sync::Arc;

use breakwater_contract::store::Durability;
use breakwater_session::{Limits, QueueFull};

use crate::profile::{Profile, Rates};
use crate::rewrite::Rewriter;

/// Row of the profile that every listener has until it is given one.
pub(crate) const DEFAULT: u16 = 0;

/// Listener of the row of a zone, which stays as long as the shard.
const NO_LISTENER: u16 = u16::MAX;

/// The profiles of one shard.
///
/// A session names its row by number: two bytes, where a reference would be eight. What a client was told in CONNACK must
/// go on to hold, so that a listener with other limits gets another row; the old one lives on, without a listener, until
/// its last session has gone or has come back on the new terms.
#[derive(Debug)]
pub(crate) struct Profiles {
    rows: Vec<Row>,
    /// Row of each listener that has one of its own, by number.
    by_listener: Vec<u16>,
    /// Rows that nobody lives by.
    free: Vec<u16>,
}

#[derive(Debug)]
struct Row {
    /// Stands here too, because the profile is one look further away.
    limits: Arc<Limits>,
    /// The same while there is no memory for queues.
    no_queue: Box<Limits>,
    /// The same with bounds of its queue that hold for one message.
    bent: Option<Box<Limits>>,
    profile: Arc<Profile>,
    rewriter: Option<Box<Rewriter>>,
    listener: u16,
    /// New connections of the listener get it.
    current: bool,
    /// Not free.
    used: bool,
    sessions: u32,
}

impl Profiles {
    pub(crate) fn new(default: Arc<Profile>) -> Self {
        Self { rows: vec![Row::new(default, 0)], by_listener: Vec::new(), free: Vec::new() }
    }

    /// Those of zones, and those of listeners, by number; the others have these limits and this durability, and nothing else.
    pub(crate) fn of(
        limits: &Limits,
        durability: Durability,
        zones: Vec<Arc<Profile>>,
        listeners: Vec<(u16, Arc<Profile>)>,
    ) -> Self {
        let limits = Arc::new(limits.clone());
        let mut profiles = Self::new(Arc::new(Profile { limits, durability, ..Profile::default() }));
        for zone in zones {
            profiles.insert(Row::new(zone, NO_LISTENER));
        }
        for (listener, profile) in listeners {
            profiles.set(listener, profile);
        }
        profiles
    }

    /// Row for new connections of a listener.
    pub(crate) fn row_of(&self, listener: u16) -> u16 {
        self.by_listener.get(usize::from(listener)).copied().unwrap_or(DEFAULT)
    }

    #[inline]
    pub(crate) fn limits(&self, row: u16) -> &Limits {
        &self.row(row).limits
    }

    /// The row of a zone, for a session that a start finds. The default if there is no such zone any more.
    pub(crate) fn row_of_zone(&self, zone: &str) -> u16 {
        let is_it = |row: &Row| row.listener == NO_LISTENER && *row.profile.zone == *zone;
        self.rows.iter().position(is_it).map_or(DEFAULT, |row| row as u16)
    }

    /// Limits for new connections of a listener.
    pub(crate) fn limits_of(&self, listener: u16) -> &Limits {
        self.limits(self.row_of(listener))
    }

    pub(crate) fn shared_limits(&self, row: u16) -> &Arc<Limits> {
        &self.row(row).limits
    }

    /// The limits while there is no memory for queues.
    #[inline]
    pub(crate) fn no_queue(&self, row: u16) -> &Limits {
        &self.row(row).no_queue
    }

    /// Limits of a row for one message, with other bounds of the queue: see [`Profiles::bent`].
    pub(crate) fn bend(&mut self, row: u16, (messages_max, bytes_max): (u32, u32), full: QueueFull) {
        let row = if usize::from(row) < self.rows.len() { usize::from(row) } else { 0 };
        let Row { limits, bent, .. } = &mut self.rows[row];
        let bent = bent.get_or_insert_with(|| Box::new(Limits::clone(limits)));
        (bent.queue_messages_max, bent.queue_bytes_max, bent.queue_full) = (messages_max, bytes_max, full);
    }

    /// What [`Profiles::bend`] has made of the limits.
    pub(crate) fn bent(&self, row: u16) -> &Limits {
        let row = self.row(row);
        row.bent.as_deref().unwrap_or(&row.limits)
    }

    #[inline]
    pub(crate) fn profile(&self, row: u16) -> &Arc<Profile> {
        &self.row(row).profile
    }

    /// What is promised to those who live by a row.
    #[inline]
    pub(crate) fn durability(&self, row: u16) -> Durability {
        self.row(row).profile.durability
    }

    pub(crate) fn rates(&self, row: u16) -> &Rates {
        &self.row(row).profile.rates
    }

    /// Whether topics are rewritten for those who live by a row.
    #[inline]
    pub(crate) fn rewrites(&self, row: u16) -> bool {
        self.row(row).rewriter.is_some()
    }

    pub(crate) fn rewriter(&mut self, row: u16) -> Option<&mut Rewriter> {
        self.rows.get_mut(usize::from(row))?.rewriter.as_deref_mut()
    }

    #[inline]
    fn row(&self, row: u16) -> &Row {
        // Rows in use are never freed; whoever held a wrong number would get the terms of nobody in particular.
        self.rows.get(usize::from(row)).unwrap_or(&self.rows[0])
    }

    /// A session begins to live by a row.
    pub(crate) fn hold(&mut self, row: u16) {
        if let Some(row) = self.rows.get_mut(usize::from(row)) {
            row.sessions += 1;
        }
    }

    /// A session has ended or lives by another row.
    pub(crate) fn release(&mut self, row: u16) {
        if let Some(held) = self.rows.get_mut(usize::from(row)) {
            held.sessions = held.sessions.saturating_sub(1);
            self.free_if_idle(row);
        }
    }

    /// Gives a listener its profile. Rates, lifetime and name hold at once for all who came through it; limits, durability and
    /// mountpoint for those who come from here on.
    pub(crate) fn set(&mut self, listener: u16, profile: Arc<Profile>) {
        for row in self.rows.iter_mut().skip(1).filter(|row| row.used && row.listener == listener) {
            row.retune(&profile);
        }
        let old = self.row_of(listener);
        let held = &mut self.rows[usize::from(old)];
        if old != DEFAULT && held.goes_on_with(&profile) {
            held.take(profile);
            return;
        }
        let index = usize::from(listener);
        if self.by_listener.len() <= index {
            self.by_listener.resize(index + 1, DEFAULT);
        }
        self.by_listener[index] = self.insert(Row::new(profile, listener));
        self.retire(old);
    }

    /// A listener is gone: its number may come back with another meaning.
    pub(crate) fn forget(&mut self, listener: u16) {
        let old = self.row_of(listener);
        if let Some(row) = self.by_listener.get_mut(usize::from(listener)) {
            *row = DEFAULT;
        }
        self.retire(old);
    }

    fn insert(&mut self, row: Row) -> u16 {
        if let Some(index) = self.free.pop() {
            self.rows[usize::from(index)] = row;
            return index;
        }
        // Sixty thousand generations of listeners whose sessions all live on: the newest get the default.
        let Ok(index) = u16::try_from(self.rows.len()) else { return DEFAULT };
        self.rows.push(row);
        index
    }

    fn retire(&mut self, row: u16) {
        if row != DEFAULT
            && let Some(old) = self.rows.get_mut(usize::from(row))
        {
            old.current = false;
            self.free_if_idle(row);
        }
    }

    fn free_if_idle(&mut self, row: u16) {
        let default = Arc::clone(&self.rows[0].profile);
        if row != DEFAULT
            && let Some(idle) = self.rows.get_mut(usize::from(row))
            && idle.used
            && idle.sessions == 0
            && !idle.current
        {
            *idle = Row { used: false, current: false, ..Row::new(default, 0) };
            self.free.push(row);
        }
    }
}

impl Row {
    fn new(profile: Arc<Profile>, listener: u16) -> Self {
        let limits = Arc::clone(&profile.limits);
        let (queue_messages_max, queue_full) = (0, QueueFull::DropNewest);
        let no_queue = Box::new(Limits { queue_messages_max, queue_full, ..Limits::clone(&limits) });
        let rewriter = Rewriter::new(&profile.rewrite);
        Self { limits, no_queue, bent: None, profile, rewriter, listener, current: true, used: true, sessions: 0 }
    }

    /// Whether those who live by it were promised what this profile says.
    fn goes_on_with(&self, profile: &Profile) -> bool {
        let Profile { zone, mountpoint, durability, .. } = &*self.profile;
        self.limits == profile.limits
            && (zone, mountpoint, durability) == (&profile.zone, &profile.mountpoint, &profile.durability)
    }

    /// A profile with the same limits.
    fn take(&mut self, profile: Arc<Profile>) {
        if profile.rewrite != self.profile.rewrite {
            self.rewriter = Rewriter::new(&profile.rewrite);
        }
        self.profile = profile;
    }

    /// What may change under a session changes.
    fn retune(&mut self, to: &Profile) {
        let Profile { zone, mountpoint, durability, .. } = &*self.profile;
        let (zone, mountpoint, durability) = (zone.clone(), mountpoint.clone(), *durability);
        let limits = Arc::clone(&self.limits);
        self.take(Arc::new(Profile { limits, zone, mountpoint, durability, ..to.clone() }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(name: &str, queue: u32, lifetime_ms: u64) -> Arc<Profile> {
        let limits = Arc::new(Limits { queue_messages_max: queue, ..Limits::default() });
        Arc::new(Profile { name: name.into(), limits, lifetime_ms, ..Profile::default() })
    }

    fn table() -> Profiles {
        Profiles::new(Arc::new(Profile::default()))
    }

    #[test]
    fn a_listener_without_a_profile_has_the_default() {
        let mut table = table();
        table.set(3, profile("a", 1, 0));
        assert_eq!((table.row_of(0), table.row_of(2), table.row_of(9)), (DEFAULT, DEFAULT, DEFAULT));
        assert_eq!(table.limits(table.row_of(3)).queue_messages_max, 1);
        assert_eq!(table.no_queue(table.row_of(3)).queue_messages_max, 0);
    }

    #[test]
    fn a_session_keeps_its_limits_and_gets_the_new_lifetime() {
        let mut table = table();
        table.set(0, profile("a", 1, 0));
        let old = table.row_of(0);
        table.hold(old);
        table.set(0, profile("a", 2, 7));
        assert_ne!(table.row_of(0), old);
        assert_eq!((table.limits(old).queue_messages_max, table.profile(old).lifetime_ms), (1, 7));
        assert_eq!(table.limits(table.row_of(0)).queue_messages_max, 2);
        table.set(0, profile("a", 2, 8));
        assert_eq!(table.profile(old).lifetime_ms, 8);
    }

    #[test]
    fn a_row_is_used_again_once_nobody_lives_by_it() {
        let mut table = table();
        for round in 0..1000 {
            table.set(1, profile("a", round, 0));
            let row = table.row_of(1);
            table.hold(row);
            table.set(1, profile("a", round + 1, 0));
            table.release(row);
            table.forget(1);
        }
        assert!(table.rows.len() <= 4, "{}", table.rows.len());
        assert_eq!(table.rows.len() - table.free.len(), 1);
        assert_eq!(table.row_of(1), DEFAULT);
    }
}
