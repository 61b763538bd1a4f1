use std::fs;
use std::net::TcpListener;
use std::sync::mpsc;

use super::*;
use crate::folder::tests::{Scratch, pair};

/// Far beyond what a slow machine needs, and below the time that an authority gets for an answer.
const DEADLINE: Duration = Duration::from_secs(45);

fn agent() -> (Agent, mpsc::Receiver<Note>) {
    let (tell, told) = mpsc::channel();
    (Agent::new(Challenges::default(), 7, move |note| _ = tell.send(note)), told)
}

/// With an authority that takes connections and says nothing.
fn silent(scratch: &Scratch) -> (TcpListener, Options) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ca = scratch.0.join("ca.pem");
    fs::write(&ca, pair("authority").1).unwrap();
    let options = Options {
        name: "office".into(),
        folder: scratch.0.join("office"),
        directory: format!("https://{}/dir", listener.local_addr().unwrap()).into(),
        directory_ca: Some(ca),
        domains: vec!["a.example".into()],
        terms_agreed: true,
        ..Options::default()
    };
    (listener, options)
}

#[test]
fn an_end_does_not_wait_for_an_order_and_counts_it_as_none() {
    let scratch = Scratch::new();
    let (listener, options) = silent(&scratch);
    let (agent, told) = agent();
    agent.set(vec![options.clone()]).unwrap();
    assert!(told.recv_timeout(DEADLINE).unwrap().text.contains("ordering"));
    let _connection = listener.accept().unwrap();
    drop(agent);
    // What it tells with is dropped with its thread.
    assert_eq!(told.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected));
    let duty = Duty::new(options, 0);
    assert_eq!((duty.status(1).failures, duty.next_s(1)), (0, 0), "the next start tries at once");
}

#[test]
fn without_certificates_to_order_there_is_no_thread() {
    let (agent, told) = agent();
    agent.set(Vec::new()).unwrap();
    assert!(agent.begin.lock().unwrap().is_some());
    assert!(agent.renew("office").unwrap_err().contains("write a section [acme.NAME]"));
    drop(agent);
    assert_eq!(told.recv_timeout(DEADLINE), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn what_is_not_named_any_more_is_left_alone() {
    let scratch = Scratch::new();
    let (_listener, options) = silent(&scratch);
    let duties = taken_up(Vec::new(), vec![options.clone()], 1);
    let other = Options { name: "other".into(), folder: scratch.0.join("other"), ..options.clone() };
    let duties = taken_up(duties, vec![other.clone(), options.clone()], 1);
    let names: Vec<&str> = duties.iter().map(|duty| &*duty.options.name).collect();
    assert_eq!(names, ["other", "office"]);
    assert_eq!(taken_up(duties, vec![other], 1).len(), 1);
}
