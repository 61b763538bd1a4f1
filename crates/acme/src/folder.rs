//! The files of one certificate: the pair that listeners read, the account that it was ordered with, and what is to be known at the
//! next start.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use breakwater_transport::tls::self_made::put_secret;
use breakwater_transport::tls::{CertificateFacts, CertificateFiles, TlsConfigFault, TlsOptions, load_server};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Key and chain in one file, because only one file is replaced at once: there is never a key beside a certificate of another.
pub const PAIR: &str = "pair.pem";
const ACCOUNT: &str = "account.json";
const MEMORY: &str = "state.json";

/// One writes a pair at a time: who puts the self-made one there must not meet the thread that brings the other.
static WRITING: Mutex<()> = Mutex::new(());

/// Longest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The folder of one certificate.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// The account that was made at an authority.
#[derive(Serialize, Deserialize)]
pub(crate) struct KeptAccount {
    /// URL of the directory that it was made at.
    pub(crate) directory: String,
    /// What the authority knows as its address.
    #[serde(default)]
    pub(crate) email: String,
    /// With its private key.
    pub(crate) credentials: serde_json::Value,
}

/// What outlives a restart, so that a broker that is started again and again doesn't order again and again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Memory {
    /// What was asked for, in words: something else is tried at once.
    pub(crate) asked: String,
    /// Tries since the last one that succeeded.
    pub(crate) failures: u32,
    /// When the last one began, in seconds since 1970.
    pub(crate) last_try_s: i64,
    /// Why the last one failed.
    pub(crate) fault: Option<String>,
    /// Directory of the authority that the pair came from.
    pub(crate) issuer: Option<String>,
}

impl Folder {
    /// It need not exist.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The file with key and chain.
    #[must_use]
    pub fn pair(&self) -> PathBuf {
        self.0.join(PAIR)
    }

    /// What is in that file; none if there is none that could be shown, or none at all.
    #[must_use]
    pub fn facts(&self) -> Option<CertificateFacts> {
        check(&self.pair()).ok()
    }

    /// Puts the certificate that the broker made for itself where that of the authority will be, unless one is there: so the
    /// listeners work from the first moment on, and take the other one up as they do with any file that changes.
    ///
    /// # Errors
    /// The files can't be read or written.
    pub fn stand_in(&self, own: &CertificateFiles) -> Result<(), TlsConfigFault> {
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        if self.facts().is_some_and(|facts| !facts.self_made) {
            return Ok(());
        }
        let read = |path: &Path| {
            let fault =
                |error: io::Error| TlsConfigFault { file: Some(path.to_owned()), text: error.to_string().into() };
            fs::read(path).map_err(fault)
        };
        let pair = [read(&own.key)?, read(&own.certificate)?].concat();
        // A file that changes is read again by all who use it: only if there is something new in it.
        if fs::read(self.pair()).is_ok_and(|there| there == pair) {
            return Ok(());
        }
        put_secret(&self.pair(), &pair)
    }

    /// Takes a new pair into use: as a whole, or not at all if it could not be shown.
    pub(crate) fn put_pair(&self, key: &str, chain: &str) -> Result<CertificateFacts, String> {
        // Tried under another name first: what listeners look at is good.
        let trial = self.0.join("new.pem");
        let pair = format!("{}\n{}\n", key.trim_end(), chain.trim_end());
        let put = |path: &Path| put_secret(path, pair.as_bytes()).map_err(|fault| fault.to_string());
        put(&trial)?;
        let checked = check(&trial);
        let _ = fs::remove_file(&trial);
        let facts = checked?;
        let _alone = WRITING.lock().unwrap_or_else(PoisonError::into_inner);
        put(&self.pair())?;
        Ok(facts)
    }

    pub(crate) fn account(&self) -> Option<KeptAccount> {
        self.read(ACCOUNT)
    }

    pub(crate) fn put_account(&self, account: &KeptAccount) -> Result<(), String> {
        self.put(ACCOUNT, account)
    }

    /// The authority knows it no more.
    pub(crate) fn forget_account(&self) {
        let _ = fs::remove_file(self.0.join(ACCOUNT));
    }

    pub(crate) fn memory(&self) -> Memory {
        self.read(MEMORY).unwrap_or_default()
    }

    pub(crate) fn put_memory(&self, memory: &Memory) -> Result<(), String> {
        self.put(MEMORY, memory)
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let mut text = String::new();
        fs::File::open(self.0.join(name)).ok()?.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn put(&self, name: &str, value: &impl Serialize) -> Result<(), String> {
        let text = serde_json::to_vec_pretty(value).map_err(|fault| fault.to_string())?;
        put_secret(&self.0.join(name), &text).map_err(|fault| fault.to_string())
    }
}

/// What a pair says of itself, if a listener could show it.
fn check(pair: &Path) -> Result<CertificateFacts, String> {
    let files = CertificateFiles { certificate: pair.to_owned(), key: pair.to_owned(), ..CertificateFiles::default() };
    let options = TlsOptions { certificates: vec![files], ..TlsOptions::default() };
    let loaded = load_server(&options, 0);
    let words = |faults: Vec<TlsConfigFault>| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    loaded.map_err(words)?.certificates.into_iter().next().ok_or_else(|| "holds no certificate".to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
