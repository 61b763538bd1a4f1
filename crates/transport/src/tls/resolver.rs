//! Which certificate a client gets to see.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// Certificates of one listener. Asked in handshakes only, which run beside the shards: so there may be a lock, taken for
/// writing only when a stapled answer is renewed.
#[derive(Debug)]
pub(crate) struct Resolver {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    /// DNS names in lower case; `*.` in front for all names one label below.
    names: Vec<Box<str>>,
    certified: RwLock<Arc<CertifiedKey>>,
}

/// How well a certificate fits a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Default,
    Wildcard,
    Exact,
}

impl Resolver {
    /// The first entry is the default.
    pub(crate) fn new(entries: Vec<(Vec<Box<str>>, CertifiedKey)>) -> Self {
        let entry = |(names, certified): (Vec<Box<str>>, CertifiedKey)| Entry {
            names: names.iter().map(|name| name.to_ascii_lowercase().into()).collect(),
            certified: RwLock::new(Arc::new(certified)),
        };
        Self { entries: entries.into_iter().map(entry).collect() }
    }

    /// Staples `answer` to the certificate at `index`, or nothing any more.
    pub(crate) fn staple(&self, index: usize, answer: Option<Vec<u8>>) {
        if let Some(entry) = self.entries.get(index) {
            let mut slot = entry.certified.write().unwrap_or_else(PoisonError::into_inner);
            let mut renewed = CertifiedKey::clone(&slot);
            renewed.ocsp = answer;
            *slot = Arc::new(renewed);
        }
    }

    /// The best fit among those whose key the client can verify: `usable` says which. Without any that it can verify, the
    /// best fit anyhow, so that the fault names the schemes and not the name.
    fn choose(&self, name: Option<&str>, usable: impl Fn(&CertifiedKey) -> bool) -> Option<Arc<CertifiedKey>> {
        let mut best: Option<((bool, Fit), Arc<CertifiedKey>)> = None;
        for entry in &self.entries {
            let certified = entry.certified.read().unwrap_or_else(PoisonError::into_inner).clone();
            let fit = name.map_or(Fit::Default, |name| entry.fit(name));
            let rank = (usable(&certified), fit);
            // The earlier one wins a tie, so that the order in the settings counts.
            if best.as_ref().is_none_or(|(best, _)| rank > *best) {
                best = Some((rank, certified));
            }
        }
        best.map(|(_, certified)| certified)
    }
}

impl Entry {
    fn fit(&self, name: &str) -> Fit {
        let name = name.strip_suffix('.').unwrap_or(name);
        let one = |pattern: &str| match pattern.strip_prefix("*.") {
            None if pattern.eq_ignore_ascii_case(name) => Fit::Exact,
            Some(parent)
                if name
                    .split_once('.')
                    .is_some_and(|(label, rest)| !label.is_empty() && rest.eq_ignore_ascii_case(parent)) =>
            {
                Fit::Wildcard
            }
            _ => Fit::Default,
        };
        self.names.iter().map(|pattern| one(pattern)).max().unwrap_or(Fit::Default)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        self.choose(hello.server_name(), |certified| certified.key.choose_scheme(schemes).is_some())
    }
}
