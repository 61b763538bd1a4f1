//! What a log-in costs: with a password that has to be hashed, with one that was right before, and for one good client while
//! another address floods; and the memory that it takes at most.
//!
//!     cargo run --release -p breakwater-auth --example logins [THREADS]
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "that is its purpose")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use breakwater_auth::users::{User, UsersFile};
use breakwater_auth::{Chain, ChainOptions, Hasher, Notice, Roster, Voice};
use breakwater_contract::auth::AuthStage;
use breakwater_contract::{AuthRequest, AuthStep, Authenticator as _, Completion, Completions, Token};
use breakwater_proto::{ReasonCode, Version};

/// Users, each with a password of its own.
const USERS: u32 = 100;
/// Log-ins that are judged from memory.
const AGAIN: u32 = 200_000;
/// Log-ins of the flooding address.
const FLOOD: u32 = 50_000;

/// Addresses that guess together.
const GUESSERS: u32 = 200;

/// Their questions start here.
const GUESSER: u32 = 1 << 30;

struct Answers(Sender<(Token, AuthStep)>);

impl Completions for Answers {
    fn complete(&self, completion: Completion) {
        if let Completion::Auth { token, step } = completion {
            let _ = self.0.send((token, step));
        }
    }
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let directory = std::env::temp_dir().join(format!("breakwater-logins-{}", std::process::id()));
    let file = UsersFile::in_directory(&directory);
    let mut hasher = Hasher::default();
    let hashed: Vec<User> = (0..USERS)
        .map(|number| User {
            password: hasher.hash(password(number).as_bytes()),
            superuser: false,
            disabled: false,
            created_s: 0,
        })
        .collect();
    drop(hasher);
    file.change(|users| {
        hashed.into_iter().zip(0..).for_each(|(user, number): (User, u32)| users.set(&name(number), user));
        Ok(())
    })
    .expect("the directory for temporary files can be written");
    let voice: Voice = Arc::new(|_: Notice<'_>| {});
    let roster = Arc::new(Roster::open(file, 100_000, Arc::clone(&voice)).expect("we wrote it"));
    let options = ChainOptions { hashing_threads: threads, ..ChainOptions::default() };
    let chain = Chain::new(&options, roster, voice);
    let (sender, answers) = channel();
    chain.start(Arc::new(Answers(sender))).expect("threads can be started");
    println!("{threads} hashing threads, {} passwords may wait", options.waiting_max);
    memory("idle");
    first(&chain, &answers);
    memory("after hashing");
    again(&chain);
    flood(&chain, &answers);
    guess(&chain, &answers);
    memory("after the floods");
    let _ = std::fs::remove_dir_all(directory);
}

fn first(chain: &Chain, answers: &Receiver<(Token, AuthStep)>) {
    let start = Instant::now();
    for number in 0..USERS {
        assert_eq!(ask(chain, "192.0.2.1:1", number, number, &password(number)), AuthStep::Later);
    }
    for _ in 0..USERS {
        let (_, step) = answers.recv().expect("an answer for each");
        assert!(matches!(step, AuthStep::Accept { .. }));
    }
    rate("first log-in, hashed", USERS, start.elapsed());
}

fn again(chain: &Chain) {
    let start = Instant::now();
    for number in 0..AGAIN {
        let user = number % USERS;
        assert!(matches!(ask(chain, "192.0.2.1:1", number, user, &password(user)), AuthStep::Accept { .. }));
    }
    rate("again, from memory", AGAIN, start.elapsed());
}

/// One address asks without end with wrong passwords, until every place is taken; then a good client of another comes, whose
/// password was never seen.
fn flood(chain: &Chain, answers: &Receiver<(Token, AuthStep)>) {
    let start = Instant::now();
    let busy = AuthStep::Refuse { reason: ReasonCode::ServerBusy, text: None };
    let turned_away =
        (0..FLOOD).filter(|number| ask(chain, "203.0.113.1:1", *number, *number, "wrong") == busy).count();
    rate("flood, turned away", FLOOD, start.elapsed());
    let start = Instant::now();
    let good = u32::MAX;
    // Any password: what it waits for is the verdict.
    assert_eq!(ask(chain, "198.51.100.1:1", good, 0, "new password"), AuthStep::Later);
    while answers.recv().expect("an answer for each").0.slot != good {}
    println!("{turned_away} of {FLOOD} turned away as busy; the other address waited {:.0?}", start.elapsed());
}

/// Many addresses guess together. After their first wrong password they are suspects.
fn guess(chain: &Chain, answers: &Receiver<(Token, AuthStep)>) {
    let round = || {
        let asked = (0..GUESSERS).map(|number| {
            let address = format!("10.0.{}.{}:1", number / 250, number % 250);
            ask(chain, &address, GUESSER + number, number, "wrong")
        });
        asked.filter(|step| *step == AuthStep::Later).count()
    };
    // What is left of the flood before comes in between.
    let mut judged = round();
    while judged > 0 {
        judged -= usize::from(answers.recv().expect("an answer for each").0.slot >= GUESSER);
    }
    let waiting: usize = (0..5).map(|_| round()).sum();
    let start = Instant::now();
    let good = u32::MAX;
    assert_eq!(ask(chain, "198.51.100.2:1", good, 0, "another new password"), AuthStep::Later);
    while answers.recv().expect("an answer for each").0.slot != good {}
    println!("{waiting} passwords of {GUESSERS} other addresses waited; the good one waited {:.0?}", start.elapsed());
}

fn ask(chain: &Chain, peer: &str, slot: u32, user: u32, password: &str) -> AuthStep {
    chain.authenticate(&AuthRequest {
        token: Token { shard: 0, slot, generation: 0, sequence: 0 },
        client_id: "c",
        username: Some(&name(user)),
        password: Some(password.as_bytes()),
        method: None,
        data: None,
        peer: peer.parse::<SocketAddr>().expect("an address"),
        listener: 0,
        direct: true,
        certificate: None,
        username_certified: false,
        version: Version::V5,
        stage: AuthStage::Connect,
    })
}

fn name(number: u32) -> String {
    format!("user-{number}")
}

fn password(number: u32) -> String {
    format!("password-{number}")
}

fn rate(what: &str, count: u32, time: Duration) {
    let each = time / count;
    println!("{what:24} {:>10.0}/s  {each:.1?} each", f64::from(count) / time.as_secs_f64());
}

fn memory(when: &str) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
    };
    println!(
        "memory {when:17} {:>7.1} MiB, {:.1} at most so far",
        kib("VmRSS:") as f64 / 1024.0,
        kib("VmHWM:") as f64 / 1024.0
    );
}
