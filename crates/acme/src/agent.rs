//! The thread that looks after all certificates, one after the other.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use breakwater_transport::tls::Challenges;
use tokio::runtime::Builder;
use tokio::sync::Notify;

use crate::Options;
use crate::duty::{Duty, Workshop};

/// Looks after certificates until it is dropped. There is no thread as long as there is nothing to look after.
pub struct Agent {
    shared: Arc<Shared>,
    begin: Mutex<Option<Begin>>,
}

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Something has failed.
    pub bad: bool,
    /// One line.
    pub text: String,
}

/// How it stands with one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Name of its section.
    pub name: Box<str>,
    /// What it is for.
    pub domains: Vec<Box<str>>,
    /// Where it is ordered.
    pub directory: Box<str>,
    /// Last second of the one in use; none if there is none of an authority.
    pub not_after_s: Option<i64>,
    /// When it is ordered next, if nothing else happens.
    pub next_s: i64,
    /// Tries since the last one that succeeded.
    pub failures: u32,
    /// Why the last one failed.
    pub fault: Option<String>,
}

/// All settings, if they are others, and the names that somebody wants now.
type News = (Option<Vec<Options>>, BTreeSet<Box<str>>);

type Begin = Box<dyn FnOnce() -> io::Result<()> + Send>;

#[derive(Default)]
struct Shared {
    wanted: Mutex<Wanted>,
    news: Condvar,
    /// The same as `closed`, for what is under way.
    gone: Notify,
    statuses: Mutex<Vec<Status>>,
}

/// What the thread has not seen yet. Only the latest counts, so nothing piles up.
#[derive(Default)]
struct Wanted {
    settings: Option<Vec<Options>>,
    /// Names that are known, and those of them that somebody wants now.
    names: BTreeSet<Box<str>>,
    forced: BTreeSet<Box<str>>,
    closed: bool,
}

/// The wall clock may be set: it is looked at at least that often.
const NAP_MAX_S: i64 = 600;

impl Agent {
    /// `chance` spreads the tries of many brokers.
    pub fn new(challenges: Challenges, chance: u64, mut tell: impl FnMut(Note) + Send + 'static) -> Self {
        let shared = Arc::new(Shared::default());
        let body = Arc::clone(&shared);
        let begin = move || {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let run = move || {
                body.run(&Workshop { runtime: &runtime, challenges: &challenges, gone: &body.gone }, chance, &mut tell);
                // Whoever is told waits for the end of this: a name that is being looked up must not hold it up.
                drop(tell);
                runtime.shutdown_background();
            };
            thread::Builder::new().name("acme".into()).spawn(run).map(drop)
        };
        Self { shared, begin: Mutex::new(Some(Box::new(begin))) }
    }

    /// Names all certificates that are wanted; those that are no longer named are left alone.
    ///
    /// # Errors
    /// There is no thread to be had for it.
    pub fn set(&self, settings: Vec<Options>) -> io::Result<()> {
        let mut begin = self.begin.lock().unwrap_or_else(PoisonError::into_inner);
        if settings.is_empty() && begin.is_some() {
            return Ok(());
        }
        let mut wanted = self.shared.wanted();
        wanted.names = settings.iter().map(|options| options.name.clone()).collect();
        wanted.settings = Some(settings);
        drop(wanted);
        self.shared.news.notify_one();
        begin.take().map_or(Ok(()), |begin| begin())
    }

    /// Has one ordered now, whatever there is.
    ///
    /// # Errors
    /// There is none of this name; in words.
    pub fn renew(&self, name: &str) -> Result<(), String> {
        let mut wanted = self.shared.wanted();
        if !wanted.names.contains(name) {
            let known: Vec<&str> = wanted.names.iter().map(|name| &**name).collect();
            return Err(match known.is_empty() {
                true => "no certificate comes by ACME: write a section [acme.NAME]".into(),
                false => format!("there is no section [acme.{name}]; there are {}", known.join(", ")),
            });
        }
        wanted.forced.insert(name.into());
        drop(wanted);
        self.shared.news.notify_one();
        Ok(())
    }

    /// How it stands, in the order of the settings.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        self.shared.statuses.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // An order in the middle is left where it is.
        self.shared.wanted().closed = true;
        self.shared.news.notify_one();
        self.shared.gone.notify_one();
    }
}

impl Shared {
    fn wanted(&self) -> std::sync::MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, workshop: &Workshop<'_>, chance: u64, tell: &mut (dyn FnMut(Note) + Send)) {
        let mut duties: Vec<Duty> = Vec::new();
        let mut nap_s = 0;
        while let Some((settings, forced)) = self.wait(nap_s) {
            if let Some(settings) = settings {
                duties = taken_up(duties, settings, chance);
            }
            for duty in &mut duties {
                duty.forced |= forced.contains(&duty.options.name);
                duty.look();
            }
            self.publish(&duties);
            for at in 0..duties.len() {
                let now_s = unix_s();
                if duties[at].next_s(now_s) <= now_s && !self.wanted().closed {
                    duties[at].work(workshop, now_s, tell);
                    self.publish(&duties);
                }
            }
            let now_s = unix_s();
            let next_s = duties.iter().map(|duty| duty.next_s(now_s)).min().unwrap_or(i64::MAX);
            nap_s = next_s.saturating_sub(now_s).clamp(1, NAP_MAX_S);
        }
    }

    /// Waits for so many seconds, or for news. None: it is over.
    fn wait(&self, nap_s: i64) -> Option<News> {
        let nap = Duration::from_secs(nap_s.unsigned_abs());
        let quiet = |wanted: &mut Wanted| !wanted.closed && wanted.settings.is_none() && wanted.forced.is_empty();
        let waited = self.news.wait_timeout_while(self.wanted(), nap, quiet);
        let (mut wanted, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if wanted.closed { None } else { Some((wanted.settings.take(), std::mem::take(&mut wanted.forced))) }
    }

    fn publish(&self, duties: &[Duty]) {
        let now_s = unix_s();
        let statuses = duties.iter().map(|duty| duty.status(now_s)).collect();
        *self.statuses.lock().unwrap_or_else(PoisonError::into_inner) = statuses;
    }
}

/// Those of before go on where their settings are the same.
fn taken_up(mut before: Vec<Duty>, settings: Vec<Options>, chance: u64) -> Vec<Duty> {
    let one = |(number, options): (usize, Options)| match before.iter().position(|duty| duty.options == options) {
        Some(at) => before.swap_remove(at),
        None => {
            // Any two numbers that differ will do, so long as nobody else has the same.
            let spread = chance.wrapping_add(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            Duty::new(options, (spread >> 32) as u32)
        }
    };
    settings.into_iter().enumerate().map(one).collect()
}

fn unix_s() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
