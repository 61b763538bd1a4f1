//! The chain: links are asked in order, until one allows or denies.

mod links;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use breakwater_contract::auth::AuthStage;
use breakwater_contract::{AuthRequest, AuthStep, Authenticator, Completions, Principal, Token};
use breakwater_proto::ReasonCode;

use crate::desk::Desk;
use crate::refusals::{Refusals, Tell};
use crate::roster::Roster;
use links::{Certified, Loopback, Named};

/// What one link says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Let in.
    Allow(Principal),
    /// Turned away, with this code.
    Deny(ReasonCode),
    /// Not known here: the next link is asked.
    Ignore,
    /// It completes the request's token itself.
    Later,
}

/// One place that knows users.
pub trait Link: Send + Sync {
    /// Judges a CONNECT, without waiting for anything.
    fn judge(&self, request: &AuthRequest<'_>) -> Answer;

    /// The connection of this token is gone.
    fn abandon(&self, token: Token) {
        let _ = token;
    }
}

/// What the operator should hear. One line, never with a password.
#[derive(Clone, Copy, Debug)]
pub enum Notice<'a> {
    /// Something to act on.
    Warning(&'a str),
    /// Something that has happened as it should.
    Fact(&'a str),
}

/// Where notices go. Called on shards too: it must not wait.
pub type Voice = Arc<dyn Fn(Notice<'_>) + Send + Sync>;

/// How a chain is set up.
#[derive(Clone, Debug)]
pub struct ChainOptions {
    /// A direct peer on loopback needs no name.
    pub allow_anonymous_loopback: bool,
    /// Threads that hash. Each takes 19 MiB while it has work.
    pub hashing_threads: usize,
    /// Passwords that may wait for them.
    pub waiting_max: usize,
    /// Flags that `breakwater users` needs to find the file, such as ` --data DIR`; empty if it finds it anyway.
    pub advice_flags: Box<str>,
}

impl Default for ChainOptions {
    fn default() -> Self {
        Self { allow_anonymous_loopback: true, hashing_threads: 1, waiting_max: 1024, advice_flags: Box::default() }
    }
}

/// Who may connect. One for all shards.
///
/// Nobody who is denied, or whom no link knows, gets in. The client is told "not authorized" if it has shown nothing, and "bad
/// user name or password" if it has; the log is told more.
pub struct Chain {
    links: Vec<Box<dyn Link>>,
    desk: Arc<Desk>,
    witness: Arc<Witness>,
}

impl Chain {
    /// The links that are built in: anonymous clients on loopback, certificates, the users file.
    #[must_use]
    pub fn new(options: &ChainOptions, roster: Arc<Roster>, voice: Voice) -> Self {
        let witness = Arc::new(Witness { refusals: Refusals::default(), voice, flags: options.advice_flags.clone() });
        let desk = Arc::new(Desk::new(options, Arc::clone(&roster), Arc::clone(&witness)));
        let links: Vec<Box<dyn Link>> = vec![
            Box::new(Loopback { allowed: options.allow_anonymous_loopback }),
            Box::new(Certified { roster: Arc::clone(&roster) }),
            Box::new(Named { roster, desk: Arc::clone(&desk) }),
        ];
        Self { links, desk, witness }
    }

    /// Starts the threads that hash passwords and watch the users file. Questions that came before are answered then.
    pub fn start(&self, completions: Arc<dyn Completions>) -> io::Result<()> {
        self.desk.start(completions)
    }

    /// Ends these threads, and waits until what they have to write is written.
    pub fn stop(&self) {
        self.desk.stop();
        self.desk.join();
    }
}

impl Authenticator for Chain {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthStep {
        if request.stage != AuthStage::Connect {
            return AuthStep::Refuse { reason: ReasonCode::NotAuthorized, text: None };
        }
        for link in &self.links {
            match link.judge(request) {
                Answer::Allow(principal) => return AuthStep::Accept { principal, data: None },
                Answer::Later => return AuthStep::Later,
                Answer::Ignore => {}
                Answer::Deny(reason) => {
                    self.witness.on_refusal(request, Some(reason));
                    return AuthStep::Refuse { reason, text: None };
                }
            }
        }
        self.witness.on_refusal(request, None);
        let silent = given(request.username).is_none() && request.password.is_none_or(<[u8]>::is_empty);
        let reason = if silent { ReasonCode::NotAuthorized } else { ReasonCode::BadUserNameOrPassword };
        AuthStep::Refuse { reason, text: None }
    }

    fn abandon(&self, token: Token) {
        self.links.iter().for_each(|link| link.abandon(token));
    }

    fn offers(&self, _method: &str) -> bool {
        false
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        self.desk.stop();
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Chain").field("links", &self.links.len()).finish_non_exhaustive()
    }
}

/// A user name, unless it is empty.
fn given(username: Option<&str>) -> Option<&str> {
    username.filter(|name| !name.is_empty())
}

/// Tells the operator whom the chain has turned away, and what to do if that was wrong.
pub(crate) struct Witness {
    refusals: Refusals,
    pub(crate) voice: Voice,
    flags: Box<str>,
}

/// Why somebody was turned away.
pub(crate) enum Why<'a> {
    /// It has given no name.
    Nameless,
    /// It has given a name, and no password or a wrong one.
    Wrong { name: &'a str, known: bool },
    /// It is who it says it is.
    Disabled { name: &'a str },
}

impl Witness {
    fn on_refusal(&self, request: &AuthRequest<'_>, reason: Option<ReasonCode>) {
        let why = match (given(request.username), reason) {
            (None, _) => Why::Nameless,
            (Some(name), Some(ReasonCode::NotAuthorized)) => Why::Disabled { name },
            // Told by nobody's busyness: that is no refusal.
            (Some(_), Some(ReasonCode::ServerBusy)) => return,
            (Some(name), _) => Why::Wrong { name, known: false },
        };
        self.refused(request.peer, &why);
    }

    pub(crate) fn refused(&self, peer: std::net::SocketAddr, why: &Why<'_>) {
        let told = self.refusals.on_refusal(peer, Instant::now());
        if told == Tell::Nothing {
            return;
        }
        let flags = &self.flags;
        if told == Tell::Crowd {
            let text = "clients from more than 4096 addresses were refused within an hour: no more of them are named";
            return (self.voice)(Notice::Warning(text));
        }
        let address = peer.ip().to_canonical();
        let text = match why {
            Why::Nameless => {
                format!("{address} was refused: it gave no user name; to let it in: breakwater users add NAME{flags}")
            }
            Why::Wrong { name, known: true } => format!(
                "{address} was refused: wrong password for user {name:?}; for a new one: breakwater users passwd NAME{flags}"
            ),
            Why::Wrong { name, known: false } => format!(
                "{address} was refused: no user {name:?}, or no password; to let it in: breakwater users add NAME{flags}"
            ),
            Why::Disabled { name } => format!(
                "{address} was refused: user {name:?} is disabled; to let it in: breakwater users enable NAME{flags}"
            ),
        };
        (self.voice)(Notice::Warning(&text));
    }
}

#[cfg(test)]
mod tests;
