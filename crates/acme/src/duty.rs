//! One certificate: what there is of it, and whether something is to be done.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use breakwater_transport::tls::{CertificateFacts, Challenges};
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::fault::Fault;
use crate::folder::{Folder, Memory};
use crate::order::{order, window};
use crate::schedule::{View, due_s};
use crate::{Note, Options, Status};

/// For a whole order: whatever hangs, other certificates have their turn.
const PATIENCE: Duration = Duration::from_secs(600);
/// The authority is asked for its window no more and no less often than that, whatever it says.
const ASK_MIN_S: i64 = 3600;
const ASK_MAX_S: i64 = 86_400;

/// What an order is worked at with.
pub(crate) struct Workshop<'a> {
    pub(crate) runtime: &'a Runtime,
    pub(crate) challenges: &'a Challenges,
    /// Told when all is over.
    pub(crate) gone: &'a Notify,
}

impl Workshop<'_> {
    /// Runs something to its end. None: all is over.
    fn run<T>(&self, work: impl Future<Output = Result<T, Fault>>) -> Option<Result<T, Fault>> {
        let bounded = async { timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(Fault::new("it took too long"))) };
        self.runtime.block_on(async {
            let (mut work, mut gone) = (pin!(bounded), pin!(self.gone.notified()));
            poll_fn(|context| match gone.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(None),
                Poll::Pending => work.as_mut().poll(context).map(Some),
            })
            .await
        })
    }
}

pub(crate) struct Duty {
    pub(crate) options: Options,
    folder: Folder,
    memory: Memory,
    facts: Option<CertificateFacts>,
    window: Option<(i64, i64)>,
    ask_s: i64,
    chance: u32,
    /// Somebody wants it now.
    pub(crate) forced: bool,
}

impl Duty {
    /// With what an earlier run has left behind.
    pub(crate) fn new(options: Options, chance: u32) -> Self {
        let folder = Folder::new(&options.folder);
        let mut memory = folder.memory();
        let asked = asked(&options);
        if memory.asked != asked {
            // Something was changed, maybe what was wrong.
            (memory.failures, memory.last_try_s, memory.fault) = (0, 0, None);
            memory.asked = asked;
        }
        let mut duty = Self { options, folder, memory, facts: None, window: None, ask_s: 0, chance, forced: false };
        duty.look();
        duty
    }

    /// Sees what lies in the folder: somebody may have removed it.
    pub(crate) fn look(&mut self) {
        self.facts = self.folder.facts().filter(|facts| !facts.self_made);
    }

    /// When something is to be done.
    pub(crate) fn next_s(&self, now_s: i64) -> i64 {
        if self.forced {
            return i64::MIN;
        }
        let due = due_s(&self.view(now_s));
        if self.asks() { due.min(self.ask_s) } else { due }
    }

    /// Does what is to be done.
    pub(crate) fn work(&mut self, workshop: &Workshop<'_>, now_s: i64, tell: &mut dyn FnMut(Note)) {
        if self.asks() && self.ask_s <= now_s && !self.forced {
            // An authority that doesn't know of such a thing is no fault.
            let (window, again_s) = match workshop.run(window(&self.options, &self.folder)) {
                Some(Ok((window, again_s))) => (Some(window), again_s),
                Some(Err(_)) => (None, ASK_MAX_S / 2),
                None => return,
            };
            self.window = window;
            self.ask_s = now_s.saturating_add(again_s.clamp(ASK_MIN_S, ASK_MAX_S));
        }
        if !self.forced && due_s(&self.view(now_s)) > now_s {
            return;
        }
        self.forced = false;
        let (name, domains) = (&self.options.name, self.options.domains.join(", "));
        let note = |bad, text| Note { bad, text: format!("acme.{name}: {text}") };
        let meanwhile = if self.facts.is_none() { "; until it is there listeners show the self-made one" } else { "" };
        tell(note(false, format!("ordering a certificate for {domains} from {}{meanwhile}", self.options.directory)));
        // Written down before it: a process that dies of a try has made one.
        let before = self.memory.clone();
        self.memory.failures = self.memory.failures.saturating_add(1);
        self.memory.last_try_s = now_s;
        if let Err(fault) = self.folder.put_memory(&self.memory) {
            // Without it a broker that restarts often would order often, and without a folder there is no place for what comes.
            self.memory.fault = Some(fault.clone());
            return tell(note(true, format!("nothing is ordered: {fault}")));
        }
        match workshop.run(order(&self.options, &self.folder, workshop.challenges, self.window.is_some())) {
            // Somebody stops the broker: that says nothing about the authority.
            None => self.memory = before,
            Some(Ok(facts)) => {
                let days = facts.days_left(now_s);
                self.memory.failures = 0;
                self.memory.fault = None;
                self.memory.issuer = Some(self.options.directory.to_string());
                (self.window, self.ask_s) = (None, now_s.saturating_add(ASK_MIN_S));
                self.facts = Some(facts);
                tell(note(false, format!("got a certificate for {domains}, good for {days} days")));
            }
            Some(Err(fault)) => {
                self.memory.fault = Some(fault.to_string());
                let stays = match &self.facts {
                    Some(facts) => {
                        format!("the present one stays in use, good for {} more days", facts.days_left(now_s))
                    }
                    None => "the self-made one stays in use".into(),
                };
                let minutes = (due_s(&self.view(now_s)) - now_s).div_euclid(60).max(1);
                tell(note(
                    true,
                    format!("no certificate for {domains}: {fault}; {stays}; next try in {minutes} minutes"),
                ));
            }
        }
        // What it doesn't know at the next start is only the outcome.
        if let Err(fault) = self.folder.put_memory(&self.memory) {
            tell(Note { bad: true, text: format!("acme.{}: {fault}", self.options.name) });
        }
    }

    pub(crate) fn status(&self, now_s: i64) -> Status {
        Status {
            name: self.options.name.clone(),
            domains: self.options.domains.clone(),
            directory: self.options.directory.clone(),
            not_after_s: self.facts.as_ref().map(|facts| facts.not_after_s),
            next_s: due_s(&self.view(now_s)).max(now_s),
            failures: self.memory.failures,
            fault: self.memory.fault.clone(),
        }
    }

    /// A certificate is there whose authority may be asked when it wants it to be renewed.
    fn asks(&self) -> bool {
        self.facts.is_some() && self.folder.account().is_some()
    }

    fn view(&self, now_s: i64) -> View {
        let here =
            |name: &str, facts: &CertificateFacts| facts.names.iter().any(|known| known.eq_ignore_ascii_case(name));
        let issuer = self.memory.issuer.as_deref();
        let fits = |facts: &&CertificateFacts| {
            self.options.domains.iter().all(|name| here(name, facts))
                && issuer.is_none_or(|issuer| *issuer == *self.options.directory)
        };
        View {
            valid: self.facts.as_ref().filter(fits).map(|facts| (facts.not_before_s, facts.not_after_s)),
            window: self.window,
            failures: self.memory.failures,
            // A clock that was set back must not keep it waiting.
            last_try_s: self.memory.last_try_s.min(now_s),
            chance: self.chance,
        }
    }
}

/// All that an order depends on, in words. No secrets.
fn asked(options: &Options) -> String {
    let Options { directory, directory_ca, email, domains, challenge, bind, external_account, .. } = options;
    let account = external_account.as_ref().map(|(id, _)| id);
    format!("{directory} {directory_ca:?} {email} {domains:?} {challenge:?} {bind} {account:?}")
}

#[cfg(test)]
mod tests;
