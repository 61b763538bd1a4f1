//! Reading certificates, keys and revocation lists, with faults that say what to do.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use pem::Pem;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};

use crate::tls::pbes2::{self, Closed};
use crate::tls::{CertificateFiles, KeyPassword};

/// What is wrong with the TLS settings of a listener; its `Display` is one line that names the file and the cure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfigFault {
    /// The file, if it is about one.
    pub file: Option<PathBuf>,
    /// What is wrong and what mends it.
    pub text: Box<str>,
}

impl TlsConfigFault {
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self { file: None, text: text.into() }
    }

    pub(crate) fn at(file: &Path, text: impl Into<Box<str>>) -> Self {
        Self { file: Some(file.to_owned()), text: text.into() }
    }
}

impl fmt::Display for TlsConfigFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}: {}", file.display(), self.text),
            None => f.write_str(&self.text),
        }
    }
}

impl std::error::Error for TlsConfigFault {}

/// Larger files are not what they should be. The lists of authorities of public systems are below 300 KiB.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads a file, and says in words why it can't.
pub(crate) fn load_bytes(path: &Path) -> Result<Vec<u8>, TlsConfigFault> {
    let fault = |error: &io::Error| {
        TlsConfigFault::at(
            path,
            match error.kind() {
                io::ErrorKind::NotFound => "no such file: check the path".into(),
                io::ErrorKind::PermissionDenied => {
                    "may not be read by this user: change its owner, or give the group that the broker runs as read access".into()
                }
                io::ErrorKind::IsADirectory => "is a directory: name a file in it".into(),
                _ => format!("can't be read: {error}"),
            },
        )
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| fault(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(TlsConfigFault::at(path, "is larger than 16 MiB: not a file of certificates or keys"));
    }
    Ok(bytes)
}

/// All PEM sections of a file.
pub(crate) fn load_pem(path: &Path) -> Result<Vec<Pem>, TlsConfigFault> {
    let bytes = load_bytes(path)?;
    let sections = pem::parse_many(&bytes).map_err(|error| {
        TlsConfigFault::at(path, format!("its PEM is damaged ({error}): copy the file again, as text"))
    })?;
    if !sections.is_empty() {
        return Ok(sections);
    }
    let text = match bytes.first() {
        None => "is empty",
        Some(0x30) => {
            "is DER, not PEM: convert it, e.g. openssl x509 -inform der -in FILE -out FILE.pem (keys: openssl pkey)"
        }
        Some(_) => "has no PEM inside (no line like -----BEGIN CERTIFICATE-----)",
    };
    Err(TlsConfigFault::at(path, text))
}

/// The certificates of a file, in its order.
pub(crate) fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsConfigFault> {
    let sections = load_pem(path)?;
    let found: Vec<_> = sections
        .iter()
        .filter(|section| matches!(section.tag(), "CERTIFICATE" | "X509 CERTIFICATE"))
        .map(|section| CertificateDer::from(section.contents().to_vec()))
        .collect();
    if found.is_empty() {
        let inside = sections.iter().map(Pem::tag).collect::<Vec<_>>().join(", ");
        return Err(TlsConfigFault::at(
            path,
            format!("has no certificate inside, only {inside}: are certificate and key mixed up?"),
        ));
    }
    Ok(found)
}

/// The certificates of several files or directories.
pub(crate) fn load_authorities(
    paths: &[PathBuf],
    faults: &mut Vec<TlsConfigFault>,
) -> Vec<(PathBuf, CertificateDer<'static>)> {
    let mut found = Vec::new();
    for path in paths {
        for (file, required) in expand(path, faults) {
            match load_certificates(&file) {
                Ok(certificates) => found.extend(certificates.into_iter().map(|each| (file.clone(), each))),
                // A directory may hold other things too.
                Err(fault) if required => faults.push(fault),
                Err(_) => {}
            }
        }
    }
    found
}

/// A file as it is, of a directory what looks like certificates.
fn expand(path: &Path, faults: &mut Vec<TlsConfigFault>) -> Vec<(PathBuf, bool)> {
    if !path.is_dir() {
        return vec![(path.to_owned(), true)];
    }
    let wanted =
        |name: &Path| name.extension().is_some_and(|kind| ["pem", "crt", "cer"].iter().any(|each| kind == *each));
    match std::fs::read_dir(path) {
        Ok(entries) => {
            let mut files: Vec<_> = entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|file| wanted(file))
                .map(|file| (file, false))
                .collect();
            files.sort();
            if files.is_empty() {
                faults.push(TlsConfigFault::at(path, "is a directory without certificates (*.pem, *.crt, *.cer)"));
            }
            files
        }
        Err(error) => {
            faults.push(TlsConfigFault::at(path, format!("can't be listed: {error}")));
            Vec::new()
        }
    }
}

/// The revocation lists of a file: PEM, or one in DER.
pub(crate) fn load_revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsConfigFault> {
    let bytes = load_bytes(path)?;
    if bytes.first() == Some(&0x30) {
        return Ok(vec![bytes.into()]);
    }
    let found: Vec<_> = load_pem(path)?
        .into_iter()
        .filter(|section| section.tag() == "X509 CRL")
        .map(|section| section.into_contents().into())
        .collect();
    if found.is_empty() {
        return Err(TlsConfigFault::at(path, "has no revocation list inside (-----BEGIN X509 CRL-----)"));
    }
    Ok(found)
}

/// The private key of `files`.
pub(crate) fn load_key(files: &CertificateFiles) -> Result<PrivateKeyDer<'static>, TlsConfigFault> {
    let path = &files.key;
    let sections = load_pem(path)?;
    let Some(section) = sections.iter().find(|section| section.tag().ends_with("PRIVATE KEY")) else {
        let inside = sections.iter().map(Pem::tag).collect::<Vec<_>>().join(", ");
        return Err(TlsConfigFault::at(
            path,
            format!("has no private key inside, only {inside}: are certificate and key mixed up?"),
        ));
    };
    if section.headers().get("Proc-Type").is_some_and(|value| value.contains("ENCRYPTED")) {
        return Err(TlsConfigFault::at(
            path,
            format!(
                "is encrypted in OpenSSL's old format, which is too weak to be supported: convert it with openssl pkcs8 -topk8 -v2 aes256 -in {0} -out {0}.new",
                path.display()
            ),
        ));
    }
    let bytes = section.contents().to_vec();
    match section.tag() {
        "PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs8(bytes.into())),
        "RSA PRIVATE KEY" => Ok(PrivateKeyDer::Pkcs1(bytes.into())),
        "EC PRIVATE KEY" => Ok(PrivateKeyDer::Sec1(bytes.into())),
        "ENCRYPTED PRIVATE KEY" => open_key(path, &bytes, files.key_password.as_ref()),
        other => Err(TlsConfigFault::at(
            path,
            format!("holds a {other}, which TLS here can't use: make an ECDSA, RSA or Ed25519 key in PKCS #8"),
        )),
    }
}

fn open_key(
    path: &Path,
    bytes: &[u8],
    password: Option<&KeyPassword>,
) -> Result<PrivateKeyDer<'static>, TlsConfigFault> {
    let Some(password) = password else {
        return Err(TlsConfigFault::at(
            path,
            "is encrypted and no password is set: set key_password_file (or key_password)",
        ));
    };
    match pbes2::open(bytes, &password.0) {
        Ok(key) => Ok(PrivateKeyDer::Pkcs8(key.into())),
        Err(Closed::WrongPassword) => Err(TlsConfigFault::at(
            path,
            "is encrypted and the password does not open it: check key_password_file (a blank or line end too many?)",
        )),
        Err(Closed::Damaged) => {
            Err(TlsConfigFault::at(path, "is damaged: its encryption can't be read, copy it again"))
        }
        Err(Closed::Unsupported(what)) => Err(TlsConfigFault::at(
            path,
            format!(
                "is encrypted with {what}, which is not supported: convert it with openssl pkcs8 -topk8 -v2 aes256 -in {0} -out {0}.new",
                path.display()
            ),
        )),
    }
}

/// A warning if everybody on this host can read the file.
pub(crate) fn world_readable(path: &Path) -> Option<TlsConfigFault> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).ok()?.permissions().mode();
        if mode & 0o004 != 0 {
            return Some(TlsConfigFault::at(
                path,
                format!("this private key can be read by everybody on this host: chmod o-rwx {}", path.display()),
            ));
        }
    }
    None
}
