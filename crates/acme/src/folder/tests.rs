use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicU32, Ordering};

use breakwater_transport::tls::self_made::{Wanted, ensure};
use rcgen::{CertificateParams, KeyPair};

use super::*;

/// A directory that goes with its value.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("breakwater-acme-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Key and certificate, as an authority would have given it.
pub(crate) fn pair(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (key.serialize_pem(), certificate.pem())
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_pair_is_one_file_for_its_owner_alone() {
    let scratch = Scratch::new();
    let folder = Folder::new(&scratch.0.join("tls/acme/office"));
    let (key, chain) = pair("a.example");
    let facts = folder.put_pair(&key, &chain).unwrap();
    assert_eq!(facts.names, ["a.example".into()]);
    assert_eq!(folder.facts(), Some(CertificateFacts { file: folder.pair(), ..facts }));
    assert_eq!((mode(&folder.pair()), mode(&folder.0)), (0o600, 0o700));
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 1, "nothing else is left there");
}

#[test]
fn a_pair_that_could_not_be_shown_leaves_the_old_one() {
    let scratch = Scratch::new();
    let folder = Folder::new(&scratch.0);
    let (key, chain) = pair("a.example");
    folder.put_pair(&key, &chain).unwrap();
    let before = fs::read(folder.pair()).unwrap();
    let (other, _) = pair("a.example");
    for (key, chain) in [(other.as_str(), chain.as_str()), (key.as_str(), "no chain"), ("no key", chain.as_str())] {
        assert!(folder.put_pair(key, chain).is_err());
        assert_eq!(fs::read(folder.pair()).unwrap(), before);
    }
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 1);
}

#[test]
fn a_pair_is_replaced_by_another_file_and_never_written_over() {
    use std::os::unix::fs::MetadataExt as _;
    let scratch = Scratch::new();
    let folder = Folder::new(&scratch.0);
    let (key, chain) = pair("a.example");
    folder.put_pair(&key, &chain).unwrap();
    let (number, open) = (fs::metadata(folder.pair()).unwrap().ino(), fs::File::open(folder.pair()).unwrap());
    let (new_key, new_chain) = pair("a.example");
    folder.put_pair(&new_key, &new_chain).unwrap();
    assert_ne!(fs::metadata(folder.pair()).unwrap().ino(), number);
    // Who has begun to read the old one reads it to its end.
    let mut text = String::new();
    (&open).read_to_string(&mut text).unwrap();
    assert!(text.contains(key.trim()) && text.contains(chain.trim()));
}

#[test]
fn a_write_that_was_cut_short_leaves_the_old_pair() {
    let scratch = Scratch::new();
    let folder = Folder::new(&scratch.0);
    let (key, chain) = pair("a.example");
    folder.put_pair(&key, &chain).unwrap();
    // What a process that died in the middle leaves behind.
    fs::write(scratch.0.join(".pair.pem.new"), &chain[..40]).unwrap();
    fs::write(scratch.0.join("new.pem"), "half").unwrap();
    assert!(folder.facts().is_some());
    let (key, chain) = pair("b.example");
    assert_eq!(folder.put_pair(&key, &chain).unwrap().names, ["b.example".into()]);
}

#[test]
fn the_self_made_certificate_stands_in_until_there_is_another() {
    let scratch = Scratch::new();
    let own = ensure(&scratch.0.join("tls"), &Wanted::default(), 1_800_000_000).unwrap().server;
    let folder = Folder::new(&scratch.0.join("tls/acme/office"));
    folder.stand_in(&own).unwrap();
    assert!(folder.facts().unwrap().self_made);
    assert_eq!(mode(&folder.pair()), 0o600);
    let before = fs::metadata(folder.pair()).unwrap().modified().unwrap();
    folder.stand_in(&own).unwrap();
    assert_eq!(fs::metadata(folder.pair()).unwrap().modified().unwrap(), before, "nothing new, nothing written");
    let (key, chain) = pair("a.example");
    folder.put_pair(&key, &chain).unwrap();
    folder.stand_in(&own).unwrap();
    assert!(!folder.facts().unwrap().self_made);
}

#[test]
fn what_is_damaged_is_as_good_as_absent() {
    let scratch = Scratch::new();
    let folder = Folder::new(&scratch.0);
    for name in [PAIR, ACCOUNT, MEMORY] {
        fs::write(scratch.0.join(name), "{\"failures\": \"many\"").unwrap();
    }
    assert!(folder.facts().is_none() && folder.account().is_none());
    assert_eq!(folder.memory(), Memory::default());
}
