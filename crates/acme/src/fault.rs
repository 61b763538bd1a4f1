//! Why no certificate was had, and what to do about it.

use std::fmt;

use instant_acme::{Error, Problem};

use crate::{Challenge, Options};

/// Why a try has failed. Its `Display` is one line for the log.
#[derive(Debug)]
pub(crate) struct Fault {
    text: String,
    /// The authority knows the account no more.
    pub(crate) account_gone: bool,
}

/// What an authority says goes into a log: so much of it.
const DETAIL_CHARS_MAX: usize = 400;

impl Fault {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), account_gone: false }
    }

    /// Of the library: something the authority says, or nothing that could be understood.
    pub(crate) fn of(error: &Error, options: &Options) -> Self {
        match error {
            Error::Api(problem) => Self::said(problem, options, None),
            Error::Timeout(_) => {
                Self::new(format!("{} has not decided in time; it is asked again later", options.directory))
            }
            other => Self::new(plain(&deepest(other))),
        }
    }

    /// What the authority says is wrong; `domain` is the name that it is about, if it is about one.
    pub(crate) fn said(problem: &Problem, options: &Options, domain: Option<&str>) -> Self {
        let kind = problem.r#type.as_deref().unwrap_or_default();
        let kind = kind.strip_prefix("urn:ietf:params:acme:error:").unwrap_or(kind);
        let mut detail = problem.detail.clone().unwrap_or_else(|| kind.to_owned());
        for part in &problem.subproblems {
            detail.push_str("; ");
            detail.push_str(part.detail.as_deref().unwrap_or_default());
        }
        let name = domain.map_or_else(|| options.domains.join(", "), str::to_owned);
        let mut text = domain.map_or_else(String::new, |domain| format!("{domain}: "));
        text.push_str(&plain(&detail));
        if let Some(advice) = advice(kind, options, &name) {
            text.push_str("; ");
            text.push_str(&advice);
        }
        Self { text, account_gone: kind == "accountDoesNotExist" }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What to do about a kind of problem.
fn advice(kind: &str, options: &Options, name: &str) -> Option<String> {
    let section = format!("acme.{}", options.name);
    Some(match (kind, options.challenge) {
        ("connection", Challenge::Http01) => format!(
            "{name} has to lead to this machine, and the authority has to reach port 80 there: look at DNS and the firewall, and \
             forward the port to {section}.bind ({}) if that is another one",
            options.bind
        ),
        ("connection" | "tls", Challenge::TlsAlpn01) => format!(
            "{name} has to lead to this machine, and the authority has to reach port 443 there: look at DNS and the firewall, and \
             have a TLS listener of this broker there or forward the port to one, without ending TLS in between"
        ),
        ("dns", _) => format!("{name} needs an A or AAAA record that leads to this machine"),
        ("unauthorized" | "incorrectResponse", Challenge::Http01) => format!(
            "something else than this broker answers at port 80 of {name}: see where its DNS records lead, and forward \
             /.well-known/acme-challenge/ to {section}.bind"
        ),
        ("unauthorized" | "incorrectResponse", Challenge::TlsAlpn01) => format!(
            "something else than this broker answers at port 443 of {name}: see where its DNS records lead, and have a TLS listener \
             of this broker there"
        ),
        ("caa", _) => format!("a CAA record of {name} forbids this authority: change it, or {section}.directory"),
        ("rateLimited", _) => {
            "the authority's limit is met; it is tried again later, which `breakwater acme` shows".into()
        }
        ("rejectedIdentifier" | "unsupportedIdentifier", _) => {
            format!("this authority gives no certificate for {name}: change {section}.domains or {section}.directory")
        }
        ("externalAccountRequired", _) => {
            format!(
                "this authority wants an account to bind to: set {section}.eab_key_id and {section}.eab_hmac_file as it tells them"
            )
        }
        ("userActionRequired", _) => "the authority's terms have changed: agree to them as it says".into(),
        ("invalidContact" | "unsupportedContact", _) => format!("give another {section}.email"),
        _ => return None,
    })
}

/// The cause at the bottom: what is above it says little but where it was noticed.
fn deepest(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = inner.to_string();
        cause = inner.source();
    }
    text
}

/// One line, harmless to a terminal, and not longer than anybody reads.
fn plain(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    let mut short: String = text.chars().map(clean).take(DETAIL_CHARS_MAX).collect();
    if text.chars().nth(DETAIL_CHARS_MAX).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(kind: &str, detail: &str) -> Problem {
        let kind = format!("urn:ietf:params:acme:error:{kind}");
        serde_json::from_value(serde_json::json!({ "type": kind, "detail": detail })).unwrap()
    }

    fn options(challenge: Challenge) -> Options {
        let domains = vec!["a.example".into()];
        Options { name: "office".into(), domains, challenge, bind: "80".into(), ..Options::default() }
    }

    #[test]
    fn each_kind_of_problem_says_what_to_do() {
        for (kind, challenge, word) in [
            ("connection", Challenge::Http01, "reach port 80 there"),
            ("connection", Challenge::TlsAlpn01, "reach port 443 there"),
            ("tls", Challenge::TlsAlpn01, "reach port 443 there"),
            ("dns", Challenge::Http01, "A or AAAA record"),
            ("unauthorized", Challenge::Http01, "acme.office.bind"),
            ("caa", Challenge::Http01, "acme.office.directory"),
            ("externalAccountRequired", Challenge::Http01, "acme.office.eab_key_id"),
            ("rateLimited", Challenge::Http01, "later"),
        ] {
            let fault = Fault::said(&problem(kind, "it says so"), &options(challenge), Some("a.example"));
            let text = fault.to_string();
            assert!(text.starts_with("a.example: it says so; ") && text.contains(word), "{kind}: {text}");
        }
        assert!(Fault::said(&problem("accountDoesNotExist", "who?"), &options(Challenge::Http01), None).account_gone);
    }

    #[test]
    fn what_an_authority_says_is_one_short_line() {
        let said = problem("other", &"\u{1b}[2J\n".repeat(500));
        let text = Fault::said(&said, &options(Challenge::Http01), None).to_string();
        assert!(!text.chars().any(char::is_control) && text.chars().count() <= DETAIL_CHARS_MAX + 1);
    }
}
