//! Whether files have changed since they were loaded, without reading them again.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::tls::{OcspSource, TlsOptions};

/// What is known of the files that some [`TlsOptions`] name, at one moment. Another value later: they have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilesStamp(Vec<(PathBuf, Option<Trace>)>);

/// What a change of content leaves behind: a file that is replaced gets another number even if its time was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trace {
    modified: Option<SystemTime>,
    len: u64,
    number: u64,
}

/// Looks at all files that `options` name: a few system calls, so that it can be done every few seconds.
#[must_use]
pub fn load_stamp(options: &TlsOptions) -> FilesStamp {
    let mut stamp = FilesStamp(Vec::new());
    for files in &options.certificates {
        stamp.add(&files.certificate);
        stamp.add(&files.key);
        if let Some(OcspSource::File(path)) = &files.ocsp {
            stamp.add(path);
        }
    }
    for path in options.client_authorities.iter().chain(&options.revocation_lists) {
        stamp.add(path);
    }
    stamp
}

impl FilesStamp {
    /// A file, or all that is in a directory. Links are followed: what they lead to is what counts.
    fn add(&mut self, path: &Path) {
        let entries = if path.is_dir() { fs::read_dir(path).ok() } else { None };
        let mut inside: Vec<PathBuf> = entries.into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        inside.sort();
        self.0.push((path.to_owned(), Trace::of(path)));
        self.0.extend(inside.into_iter().map(|path| {
            let trace = Trace::of(&path);
            (path, trace)
        }));
    }
}

impl Trace {
    fn of(path: &Path) -> Option<Self> {
        let found = fs::metadata(path).ok()?;
        #[cfg(unix)]
        let number = std::os::unix::fs::MetadataExt::ino(&found);
        #[cfg(not(unix))]
        let number = 0;
        Some(Self { modified: found.modified().ok(), len: found.len(), number })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::CertificateFiles;
    use crate::tls::pki::Scratch;

    #[test]
    fn every_kind_of_change_shows() {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("ca")).unwrap();
        let options = TlsOptions {
            certificates: vec![CertificateFiles {
                certificate: scratch.write("a.pem", "one"),
                key: scratch.write("a.key", "one"),
                ocsp: Some(OcspSource::File(scratch.path("a.ocsp"))),
                ..CertificateFiles::default()
            }],
            client_authorities: vec![scratch.path("ca")],
            revocation_lists: vec![scratch.path("link")],
            ..TlsOptions::default()
        };
        let mut before = load_stamp(&options);
        assert_eq!(load_stamp(&options), before);
        let changes: [&dyn Fn(); 6] = [
            &|| drop(scratch.write("a.pem", "longer")),
            // Replaced as a whole by a file of the same length and time.
            &|| {
                let old = fs::metadata(scratch.path("a.key")).unwrap().modified().unwrap();
                let new = scratch.write("a.key.new", "two");
                fs::File::options().write(true).open(&new).unwrap().set_modified(old).unwrap();
                fs::rename(new, scratch.path("a.key")).unwrap();
            },
            &|| drop(scratch.write("a.ocsp", "answer")),
            &|| drop(scratch.write("ca/x.pem", "authority")),
            &|| std::os::unix::fs::symlink(scratch.path("a.pem"), scratch.path("link")).unwrap(),
            &|| fs::remove_file(scratch.path("link")).unwrap(),
        ];
        for (number, change) in changes.iter().enumerate() {
            change();
            let after = load_stamp(&options);
            assert_ne!(after, before, "change {number}");
            before = after;
        }
    }
}
