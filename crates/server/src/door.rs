//! Who may connect: the users file, and the chain that asks it.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use breakwater_auth::users::UsersFile;
use breakwater_auth::{Chain, ChainOptions, Notice, Roster, Voice};
use breakwater_config::Resolved;
use breakwater_net::Handle;

use crate::log::{Level, Log};
use crate::sources::Place;

/// Lives as long as the broker runs.
pub(crate) struct Door {
    pub(crate) chain: Arc<Chain>,
    pub(crate) roster: Arc<Roster>,
    mouth: Mouth,
}

/// Where the chain says what it has to say, once there is a log.
#[derive(Clone, Default)]
struct Mouth(Arc<Mutex<Option<Log>>>);

impl Door {
    /// Reads the users of a data directory.
    pub(crate) fn new(place: &Place, settings: &Resolved) -> Result<Self, Vec<String>> {
        let mouth = Mouth::default();
        let voice: Voice = {
            let mouth = mouth.clone();
            Arc::new(move |notice: Notice<'_>| mouth.say(notice))
        };
        let file = UsersFile::in_directory(&place.directory());
        let settings = settings.authentication;
        let remembered = settings.remembered_max as usize;
        let roster = Arc::new(Roster::open(file, remembered, Arc::clone(&voice)).map_err(|fault| fault.lines())?);
        let options = ChainOptions {
            allow_anonymous_loopback: settings.allow_anonymous_loopback,
            hashing_threads: settings.hashing_threads.map_or_else(hashing_threads, usize::from),
            advice_flags: place.flags().into(),
            ..ChainOptions::default()
        };
        Ok(Self { chain: Arc::new(Chain::new(&options, Arc::clone(&roster), voice)), roster, mouth })
    }

    /// Answers and commands go there, words go here.
    pub(crate) fn open(&self, node: &Handle, log: &Log) -> io::Result<()> {
        *self.mouth.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(log.clone());
        self.roster.connect(Arc::new(node.clone()));
        self.chain.start(Arc::new(node.clone()))
    }

    /// When no shard asks any longer.
    pub(crate) fn close(&self) {
        self.chain.stop();
        // The log ends when nobody holds it any more.
        *self.mouth.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Mouth {
    fn say(&self, notice: Notice<'_>) {
        if let Some(log) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            match notice {
                Notice::Warning(text) => log.say(Level::Warn, text),
                Notice::Fact(text) => log.say(Level::Info, text),
            }
        }
    }
}

/// A quarter of the cores: a flood of wrong passwords leaves the rest to messages.
fn hashing_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get() / 4).clamp(1, 4)
}
