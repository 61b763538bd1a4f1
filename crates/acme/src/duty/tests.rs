use std::fs;
use std::net::TcpListener;
use std::path::Path;

use tokio::runtime::Builder;

use super::*;
use crate::folder::tests::{Scratch, pair};

/// An authority that isn't there.
fn options(folder: &Path) -> Options {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
    let ca = folder.join("ca.pem");
    fs::write(&ca, pair("authority").1).unwrap();
    Options {
        name: "office".into(),
        folder: folder.join("office"),
        directory: format!("https://127.0.0.1:{port}/dir").into(),
        directory_ca: Some(ca),
        domains: vec!["a.example".into()],
        terms_agreed: true,
        ..Options::default()
    }
}

fn work(duty: &mut Duty, now_s: i64) -> Vec<Note> {
    let mut notes = Vec::new();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let workshop = Workshop { runtime: &runtime, challenges: &Challenges::default(), gone: &Notify::new() };
    duty.work(&workshop, now_s, &mut |note| notes.push(note));
    notes
}

const NOW: i64 = 1_800_000_000;

#[test]
fn a_try_that_fails_is_told_and_leaves_what_is_in_use() {
    let scratch = Scratch::new();
    let options = options(&scratch.0);
    let folder = Folder::new(&options.folder);
    let (key, chain) = pair("b.example");
    folder.put_pair(&key, &chain).unwrap();
    let before = fs::read(folder.pair()).unwrap();
    let mut duty = Duty::new(options, 0);
    assert_eq!(duty.next_s(NOW), 0, "the one that is there is for another name");
    let notes = work(&mut duty, NOW);
    assert!(notes[0].text.starts_with("acme.office: ordering a certificate for a.example") && !notes[0].bad);
    let told = &notes[1];
    for part in ["no certificate for a.example", "can't be reached", "stays in use", "next try in 10 minutes"] {
        assert!(told.bad && told.text.contains(part), "{part}: {told:?}");
    }
    assert_eq!(fs::read(folder.pair()).unwrap(), before);
    let status = duty.status(NOW);
    assert_eq!((status.failures, status.next_s), (1, NOW + 600));
    assert!(status.fault.is_some() && status.not_after_s.is_some());
    assert!(work(&mut duty, NOW + 599).is_empty(), "it is not its time");
    assert_eq!(work(&mut duty, NOW + 600).len(), 2);
}

#[test]
fn a_restart_forgets_no_failure_and_another_setting_all() {
    let scratch = Scratch::new();
    let options = options(&scratch.0);
    work(&mut Duty::new(options.clone(), 0), NOW);
    let again = Duty::new(options.clone(), 0);
    assert_eq!((again.status(NOW).failures, again.next_s(NOW)), (1, NOW + 600));
    let changed = Duty::new(Options { domains: vec!["c.example".into()], ..options }, 0);
    assert_eq!((changed.status(NOW).failures, changed.next_s(NOW)), (0, 0));
}

#[test]
fn a_certificate_counts_for_its_names_and_its_authority() {
    let scratch = Scratch::new();
    let options = options(&scratch.0);
    let folder = Folder::new(&options.folder);
    let (key, chain) = pair("A.example");
    let facts = folder.put_pair(&key, &chain).unwrap();
    let life = facts.not_after_s - facts.not_before_s;
    let renewal = facts.not_before_s + life / 3 * 2;
    assert_eq!(Duty::new(options.clone(), 0).next_s(NOW), renewal);
    let more = Options { domains: vec!["a.example".into(), "b.example".into()], ..options.clone() };
    assert_eq!(Duty::new(more, 0).next_s(NOW), 0);
    let memory = Memory { issuer: Some("https://elsewhere.example/".into()), ..Memory::default() };
    folder.put_memory(&memory).unwrap();
    assert_eq!(Duty::new(options, 0).next_s(NOW), 0, "it comes from the authority for trying out, say");
}

#[test]
fn somebody_who_wants_it_now_does_not_wait() {
    let scratch = Scratch::new();
    let options = options(&scratch.0);
    let (key, chain) = pair("a.example");
    Folder::new(&options.folder).put_pair(&key, &chain).unwrap();
    let mut duty = Duty::new(options, 0);
    assert!(duty.next_s(0) > 0);
    duty.forced = true;
    assert!(duty.next_s(0) <= 0);
    assert_eq!(work(&mut duty, NOW).len(), 2);
    assert!(!duty.forced);
}

#[test]
fn nothing_is_ordered_where_nothing_can_be_kept() {
    let scratch = Scratch::new();
    let options = options(&scratch.0);
    // A file where the folder should be.
    fs::write(&options.folder, "").unwrap();
    let notes = work(&mut Duty::new(options, 0), NOW);
    assert!(notes[1].bad && notes[1].text.contains("nothing is ordered"), "{notes:?}");
}
