//! What is exposed, how bad that is, and the exact change that mends it.
//!
//! [`examine`] is a pure function from facts to findings; gathering facts and printing findings stand beside it. A new
//! check is a function in [`checks`] and a row in its list.

mod checks;
mod gather;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use report::{Form, report};

use crate::sources::Place;
use crate::{complain, print};

/// `breakwater doctor`.
pub(crate) fn run(place: &Place, json: bool) -> ExitCode {
    let facts = match gather::gather(place) {
        Ok(facts) => facts,
        Err(faults) => {
            faults.iter().for_each(|fault| complain(fault));
            return ExitCode::FAILURE;
        }
    };
    let findings = examine(&facts);
    let text = report(&facts, &findings, if json { Form::Json } else { Form::Text });
    let printed = print(text.as_bytes());
    match findings.first() {
        Some(worst) if printed == ExitCode::SUCCESS => ExitCode::from(worst.severity.exit_code()),
        _ => printed,
    }
}

/// How bad a finding is. The exit code of `breakwater doctor` is that of its worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    /// Good to know.
    Note,
    /// Not safe against somebody who tries.
    Warning,
    /// Somebody on the network can read, write or stop things.
    Serious,
    /// Anybody can, now.
    Critical,
}

impl Severity {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Serious => "serious",
            Self::Critical => "critical",
        }
    }

    /// 1 and 2 mean that the doctor itself could not do its work.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Note => 0,
            Self::Warning => 3,
            Self::Serious => 4,
            Self::Critical => 5,
        }
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// Stable name of the check, for scripts.
    pub(crate) check: &'static str,
    pub(crate) severity: Severity,
    /// What it concerns: a listener, a file, the node.
    pub(crate) subject: String,
    /// What is wrong, in a sentence.
    pub(crate) what: String,
    /// The changes that mend it, each a command or lines for the configuration; one is enough.
    pub(crate) mend: Vec<String>,
}

/// From where an address can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exposure {
    Loopback,
    Private,
    Public,
}

/// Everything that the checks look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    pub(crate) listeners: Vec<ListenerFacts>,
    /// Certificates that are ordered from an authority.
    pub(crate) ordered: Vec<OrderedFacts>,
    /// Users that are named; none: it could not be read.
    pub(crate) users: Option<Vec<UserFacts>>,
    /// Access rules for topics exist.
    pub(crate) has_access_rules: bool,
    /// Direct peers on loopback may be anonymous.
    pub(crate) loopback_anonymous: bool,
    /// What outlasts the process.
    pub(crate) store: StoreFacts,
    /// Files that hold secrets, with what they are for.
    pub(crate) secrets: Vec<FileFacts>,
    /// Programs on this machine that pass connections on, by name.
    pub(crate) reverse_proxies: Vec<String>,
    /// The node was asked; otherwise only files were read.
    pub(crate) running: bool,
    /// Seconds since 1970.
    pub(crate) now_unix_s: i64,
}

/// The store.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreFacts {
    /// The disk has no room.
    pub(crate) full: bool,
    /// The disk fails.
    pub(crate) failing: bool,
    /// What went wrong last, and what to do.
    pub(crate) fault: Option<String>,
    /// Things that were lost or set aside since the start.
    pub(crate) damages: u64,
    /// Where it lies.
    pub(crate) folder: PathBuf,
}

/// One listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerFacts {
    pub(crate) name: String,
    /// Its widest exposure.
    pub(crate) exposure: Option<Exposure>,
    /// Port of the first place, for advice.
    pub(crate) port: u16,
    /// Takes MQTT that is not encrypted.
    pub(crate) plain: bool,
    /// Certificates that it shows; empty without TLS.
    pub(crate) certificates: Vec<CertificateFacts>,
    /// What is weak about its TLS, in words.
    pub(crate) weak_tls: Vec<String>,
    /// Clients are asked who they are.
    pub(crate) authentication: bool,
    /// Only some addresses may connect, by rules of the listener.
    pub(crate) has_address_rules: bool,
    /// Some bound on connections or their rate is set.
    pub(crate) has_limits: bool,
    /// The real address comes from a proxy that is trusted.
    pub(crate) behind_proxy: bool,
    /// Connections since it was opened; none: not known.
    pub(crate) accepted: Option<u64>,
    /// Seconds since it was opened.
    pub(crate) open_for_s: u64,
}

/// One certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct CertificateFacts {
    pub(crate) subject: String,
    pub(crate) names: Vec<String>,
    pub(crate) self_made: bool,
    /// Seconds since 1970.
    pub(crate) not_before: i64,
    /// Seconds since 1970.
    pub(crate) not_after: i64,
}

/// One certificate that is ordered from an authority.
#[derive(Clone, Debug, Default)]
pub(crate) struct OrderedFacts {
    /// Name of its section.
    pub(crate) name: String,
    pub(crate) domains: Vec<String>,
    /// Seconds since 1970; none: there is none yet.
    pub(crate) not_after: Option<i64>,
    /// Orders since the last one that succeeded.
    pub(crate) failures: u32,
    /// Why the last one failed.
    pub(crate) fault: Option<String>,
}

/// One user.
#[derive(Clone, Debug, Default)]
pub(crate) struct UserFacts {
    pub(crate) name: String,
    /// Its password is one of those that everybody tries first.
    pub(crate) guessed: bool,
}

/// One file that holds a secret.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileFacts {
    pub(crate) path: PathBuf,
    /// What it is: a private key, the users, the control socket.
    pub(crate) purpose: &'static str,
    /// Permission bits.
    pub(crate) mode: u32,
}

/// All findings, the worst first, otherwise in the order of the checks.
pub(crate) fn examine(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = checks::ALL.iter().flat_map(|check| check(facts)).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

#[cfg(test)]
mod tests;
