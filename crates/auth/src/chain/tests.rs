use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use breakwater_contract::{Certificate, Command, Completion, Control, Lost, Revoked};
use breakwater_proto::Version;

use super::*;
use crate::hash::{Cost, Hasher};
use crate::users::{User, UsersFile};

const LOOPBACK: &str = "127.0.0.1:5000";
const OUTSIDE: &str = "192.0.2.9:5000";

/// A chain over a file of its own, and what it says.
struct Bench {
    chain: Chain,
    roster: Arc<Roster>,
    answers: Receiver<(Token, AuthStep)>,
    into: Arc<Answers>,
    ended: Arc<Ended>,
    said: Arc<Mutex<Vec<String>>>,
    directory: PathBuf,
}

struct Answers(Sender<(Token, AuthStep)>);

impl Completions for Answers {
    fn complete(&self, completion: Completion) {
        if let Completion::Auth { token, step } = completion {
            let _ = self.0.send((token, step));
        }
    }
}

/// Takes note of whose connections end.
#[derive(Default)]
struct Ended(Mutex<Vec<Revoked>>);

impl Control for Ended {
    fn command(&self, command: Command) {
        if let Command::Revoke(revoked) = command {
            self.0.lock().expect("nobody panics").push(Revoked::clone(&revoked));
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Cheap passwords: what they cost is no matter here.
fn user(password: &str) -> User {
    let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
    let password = Hasher::default().hash_at(cost, password.as_bytes());
    User { password, superuser: false, disabled: false, created_s: 0 }
}

impl Bench {
    fn new(users: &[(&str, User)]) -> Self {
        Self::with(users, &ChainOptions::default())
    }

    fn with(users: &[(&str, User)], options: &ChainOptions) -> Self {
        static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("breakwater-chain-{}-{number}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        let file = UsersFile::in_directory(&directory);
        let add = |list: &mut crate::users::Users| {
            users.iter().for_each(|(name, user)| list.set(name, user.clone()));
            Ok(())
        };
        file.change(add).expect("it can be written");
        let said = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&said);
        let voice: Voice = Arc::new(move |notice: Notice<'_>| {
            let (Notice::Warning(text) | Notice::Fact(text)) = notice;
            lines.lock().expect("nobody panics").push(text.to_owned());
        });
        let roster = Arc::new(Roster::open(file, 100, Arc::clone(&voice)).expect("it is well-formed"));
        let chain = Chain::new(options, Arc::clone(&roster), voice);
        let (sender, answers) = channel();
        Self { chain, roster, answers, into: Arc::new(Answers(sender)), ended: Arc::default(), said, directory }
    }

    fn started(self) -> Self {
        self.start();
        self
    }

    fn start(&self) {
        self.roster.connect(Arc::clone(&self.ended) as Arc<_>);
        self.chain.start(Arc::clone(&self.into) as Arc<_>).expect("threads can be started");
    }

    /// The users file is changed, and the change is noticed.
    fn change(&self, change: impl FnOnce(&mut crate::users::Users)) {
        let change = |users: &mut crate::users::Users| {
            change(users);
            Ok(())
        };
        self.roster.file().change(change).expect("it can be written");
        self.roster.refresh();
    }

    /// Whose connections were ended since the last time.
    fn ended(&self) -> Vec<(String, Lost)> {
        let all = std::mem::take(&mut *self.ended.0.lock().expect("nobody panics"));
        all.into_iter().flatten().map(|(name, lost)| (name.into(), lost)).collect()
    }

    /// Asks and waits for the answer.
    fn ask(&self, request: &AuthRequest<'_>) -> AuthStep {
        match self.chain.authenticate(request) {
            AuthStep::Later => {
                let (token, step) = self.answers.recv_timeout(Duration::from_secs(60)).expect("an answer");
                assert_eq!(token, request.token);
                step
            }
            step => step,
        }
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().expect("nobody panics"))
    }
}

fn request<'a>(peer: &str, username: Option<&'a str>, password: Option<&'a str>) -> AuthRequest<'a> {
    AuthRequest {
        token: Token { shard: 0, slot: 1, generation: 2, sequence: 3 },
        client_id: "c",
        username,
        password: password.map(str::as_bytes),
        method: None,
        data: None,
        peer: peer.parse::<SocketAddr>().expect("an address"),
        listener: 0,
        direct: true,
        certificate: None,
        username_certified: false,
        version: Version::V5,
        stage: AuthStage::Connect,
    }
}

fn code(step: &AuthStep) -> Option<ReasonCode> {
    match step {
        AuthStep::Refuse { reason, .. } => Some(*reason),
        _ => None,
    }
}

fn principal(step: AuthStep) -> Principal {
    match step {
        AuthStep::Accept { principal, .. } => principal,
        step => panic!("not let in: {step:?}"),
    }
}

#[test]
fn direct_peers_on_loopback_may_be_anonymous_and_nobody_else() {
    let bench = Bench::new(&[]);
    for peer in [LOOPBACK, "127.255.255.254:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        for (username, password) in [(None, None), (Some(""), None), (None, Some("")), (Some(""), Some(""))] {
            assert_eq!(principal(bench.ask(&request(peer, username, password))), Principal::default(), "{peer}");
        }
        let through_a_proxy = AuthRequest { direct: false, ..request(peer, None, None) };
        assert_eq!(code(&bench.ask(&through_a_proxy)), Some(ReasonCode::NotAuthorized), "{peer}");
    }
    for peer in [OUTSIDE, "128.0.0.1:1", "[::2]:1", "[::ffff:192.0.2.1]:1", "0.0.0.0:1", "[::127.0.0.1]:1"] {
        assert_eq!(code(&bench.ask(&request(peer, None, None))), Some(ReasonCode::NotAuthorized), "{peer}");
    }
    let options = ChainOptions { allow_anonymous_loopback: false, ..ChainOptions::default() };
    let closed = Bench::with(&[], &options);
    assert_eq!(code(&closed.ask(&request(LOOPBACK, None, None))), Some(ReasonCode::NotAuthorized));
}

/// Every mixture of user name and password: only the right pair gets in, also from loopback.
#[test]
fn only_the_right_password_of_a_known_user_gets_in() {
    let bench = Bench::new(&[("known", user("right"))]).started();
    let long = "p".repeat(70_000);
    for peer in [OUTSIDE, LOOPBACK] {
        for name in ["known", "Known", "unknown", "kn\0wn", " known", &"n".repeat(300)] {
            for password in [None, Some(""), Some("wrong"), Some("right\0"), Some("Right"), Some(&long)] {
                let step = bench.ask(&request(peer, Some(name), password));
                assert_eq!(code(&step), Some(ReasonCode::BadUserNameOrPassword), "{peer} {name:?}");
            }
        }
        let nameless = bench.ask(&request(peer, None, Some("right")));
        assert_eq!(code(&nameless), Some(ReasonCode::BadUserNameOrPassword));
        let step = bench.ask(&request(peer, Some("known"), Some("right")));
        assert_eq!(principal(step), Principal { name: "known".into(), superuser: false });
    }
    assert!(bench.said().iter().all(|line| !line.contains("right") && !line.contains("ppp")));
}

#[test]
fn flags_of_a_user_count() {
    let (boss, gone) = (User { superuser: true, ..user("b") }, User { disabled: true, ..user("g") });
    let bench = Bench::new(&[("boss", boss), ("gone", gone)]).started();
    assert!(principal(bench.ask(&request(OUTSIDE, Some("boss"), Some("b")))).superuser);
    assert!(principal(bench.ask(&request(OUTSIDE, Some("boss"), Some("b")))).superuser, "from memory, too");
    let disabled = bench.ask(&request(OUTSIDE, Some("gone"), Some("g")));
    assert_eq!(code(&disabled), Some(ReasonCode::NotAuthorized));
    let wrong = bench.ask(&request(OUTSIDE, Some("gone"), Some("x")));
    assert_eq!(code(&wrong), Some(ReasonCode::BadUserNameOrPassword));
}

#[test]
fn second_login_is_answered_at_once_until_the_password_changes() {
    let bench = Bench::new(&[("a", user("one"))]).started();
    let login = |password| bench.chain.authenticate(&request(OUTSIDE, Some("a"), Some(password)));
    assert!(bench.ask(&request(OUTSIDE, Some("a"), Some("one"))) != AuthStep::Later);
    assert!(matches!(login("one"), AuthStep::Accept { .. }), "no thread was asked");
    let set = |user: Option<User>| {
        let change = |users: &mut crate::users::Users| {
            match user {
                Some(user) => users.set("a", user),
                None => _ = users.remove("a"),
            }
            Ok(())
        };
        bench.roster.file().change(change).expect("it can be written");
        bench.roster.refresh();
    };
    set(Some(User { disabled: true, ..bench.roster.users().get("a").expect("known").clone() }));
    assert_eq!(code(&login("one")), Some(ReasonCode::NotAuthorized));
    set(Some(user("two")));
    assert_eq!(code(&bench.ask(&request(OUTSIDE, Some("a"), Some("one")))), Some(ReasonCode::BadUserNameOrPassword));
    principal(bench.ask(&request(OUTSIDE, Some("a"), Some("two"))));
    set(None);
    assert_eq!(code(&bench.ask(&request(OUTSIDE, Some("a"), Some("two")))), Some(ReasonCode::BadUserNameOrPassword));
}

#[test]
fn certificate_that_names_its_user_needs_no_password() {
    let (boss, gone) = (User { superuser: true, ..user("b") }, User { disabled: true, ..user("g") });
    let bench = Bench::new(&[("boss", boss), ("gone", gone)]);
    let certificate = Certificate::default();
    let ask = |name, certified, shown: bool| {
        let shown = shown.then_some(&certificate);
        let request = AuthRequest { certificate: shown, username_certified: certified, ..request(OUTSIDE, name, None) };
        bench.ask(&request)
    };
    assert_eq!(principal(ask(Some("CN=pump"), true, true)), Principal { name: "CN=pump".into(), superuser: false });
    assert!(principal(ask(Some("boss"), true, true)).superuser);
    assert_eq!(code(&ask(Some("gone"), true, true)), Some(ReasonCode::NotAuthorized));
    // The listener takes no names from certificates, or there is none.
    assert_eq!(code(&ask(Some("boss"), false, true)), Some(ReasonCode::BadUserNameOrPassword));
    assert_eq!(code(&ask(Some("boss"), true, false)), Some(ReasonCode::BadUserNameOrPassword));
    assert_eq!(code(&ask(None, false, true)), Some(ReasonCode::NotAuthorized));
    assert_eq!(code(&ask(Some(""), true, true)), Some(ReasonCode::NotAuthorized));
}

#[test]
fn refusal_is_told_once_for_each_address_with_what_to_do() {
    let options = ChainOptions { advice_flags: " --data /d".into(), ..ChainOptions::default() };
    let bench = Bench::with(&[("known", user("p"))], &options).started();
    bench.ask(&request("192.0.2.1:1", None, None));
    bench.ask(&request("192.0.2.1:2", Some("x"), Some("y")));
    bench.ask(&request("[::ffff:192.0.2.1]:2", None, None));
    bench.ask(&request("192.0.2.2:1", Some("x\ny"), Some("y")));
    bench.ask(&request("192.0.2.3:1", Some("known"), Some("y")));
    assert_eq!(
        bench.said(),
        [
            "192.0.2.1 was refused: it gave no user name; to let it in: breakwater users add NAME --data /d",
            "192.0.2.2 was refused: no user \"x\\ny\", or no password; to let it in: breakwater users add NAME --data /d",
            "192.0.2.3 was refused: wrong password for user \"known\"; for a new one: breakwater users passwd NAME --data /d",
        ]
    );
}

#[test]
fn user_is_let_in_the_moment_after_it_was_added() {
    let bench = Bench::new(&[]).started();
    let attempt = || bench.ask(&request(OUTSIDE, Some("new"), Some("p")));
    assert_eq!(code(&attempt()), Some(ReasonCode::BadUserNameOrPassword));
    let add = |users: &mut crate::users::Users| {
        users.set("new", user("p"));
        Ok(())
    };
    bench.roster.file().change(add).expect("it can be written");
    principal(attempt());
}

#[test]
fn file_that_turns_unreadable_changes_nothing() {
    let bench = Bench::new(&[("a", user("p"))]).started();
    let path = bench.roster.file().path().to_owned();
    let whole = std::fs::read(&path).expect("it is there");
    for half in [&whole[..0], &whole[..whole.len() / 2], b"breakwater-users 1\na::superuser:\n"] {
        std::fs::write(&path, half).expect("it can be written");
        bench.roster.refresh();
        assert!(bench.said().iter().any(|line| line.contains("line") && line.contains("stay as they were")));
        assert_eq!(bench.roster.users().len(), 1);
        assert_eq!(code(&bench.ask(&request(OUTSIDE, None, None))), Some(ReasonCode::NotAuthorized));
        assert!(bench.roster.reload().is_err());
    }
    std::fs::remove_file(&path).expect("it is there");
    bench.roster.refresh();
    assert!(bench.said().iter().any(|line| line.contains("is gone")));
    principal(bench.ask(&request(OUTSIDE, Some("a"), Some("p"))));
    bench.roster.refresh();
    assert!(bench.said().is_empty(), "told once");
}

#[test]
fn full_queue_says_busy_and_serves_other_addresses() {
    let options = ChainOptions { waiting_max: 4, ..ChainOptions::default() };
    let bench = Bench::with(&[("a", user("p"))], &options);
    let ask = |peer, slot| {
        let token = Token { shard: 0, slot, generation: 0, sequence: 0 };
        bench.chain.authenticate(&AuthRequest { token, ..request(peer, Some("a"), Some("p")) })
    };
    for (peer, slots) in [("192.0.2.1:1", 0..5), ("192.0.2.2:1", 5..6)] {
        slots.for_each(|slot| _ = ask(peer, slot));
    }
    bench.chain.abandon(Token { shard: 0, slot: 0, generation: 0, sequence: 0 });
    bench.start();
    let mut answers: Vec<_> =
        (0..5).map(|_| bench.answers.recv_timeout(Duration::from_secs(60)).expect("one")).collect();
    let busy: Vec<_> = answers.extract_if(.., |(_, step)| code(step) == Some(ReasonCode::ServerBusy)).collect();
    assert_eq!(busy.iter().map(|(token, _)| token.slot).collect::<Vec<_>>(), [4, 3]);
    assert!(bench.said().iter().filter(|line| line.contains("busy")).count() == 1);
    assert_eq!(answers.iter().map(|(token, _)| token.slot).collect::<Vec<_>>(), [1, 5, 2]);
    assert!(answers.into_iter().all(|(_, step)| matches!(step, AuthStep::Accept { .. })));
}

#[test]
fn passwords_of_other_brokers_are_hashed_anew_at_login() {
    let line = "u:$7$101$3sqOy4vbHWbZptYj$1R259uIT3Vw82qbsN3mHpMP2vgTIGIf9PkA8koKc3dgM76ei260m8mBFPh4+ywdVNTkt5Xfu6Dvme27nfue67A==";
    let imported = crate::users::import(line.as_bytes(), 0).users.remove(0).1;
    let bench = Bench::new(&[("u", imported)]).started();
    assert!(!bench.roster.users().get("u").expect("known").password.is_ours());
    principal(bench.ask(&request(OUTSIDE, Some("u"), Some("secret"))));
    let Bench { chain, roster, .. } = &bench;
    chain.desk.write_renewed();
    roster.refresh();
    let users = roster.file().load().expect("it is well-formed");
    assert!(users.get("u").expect("known").password.is_ours());
    assert_eq!(*roster.users(), users);
    principal(bench.ask(&request(OUTSIDE, Some("u"), Some("secret"))));
    assert_eq!(bench.ended(), [], "it is the same password");
}

#[test]
fn who_loses_what_let_him_in_is_ended_and_nobody_else() {
    let names = ["same", "other password", "gone", "disabled", "disabled before", "raised"];
    let mut users: Vec<_> = names.map(|name| (name, user("p"))).into();
    users[4].1.disabled = true;
    let bench = Bench::new(&users).started();
    assert_eq!(bench.ended(), []);
    bench.change(|users| {
        users.set("other password", user("q"));
        users.remove("gone");
        users.set("disabled", User { disabled: true, ..users.get("disabled").expect("known").clone() });
        users.set("disabled before", User { disabled: false, ..users.get("disabled before").expect("known").clone() });
        users.set("raised", User { superuser: true, ..users.get("raised").expect("known").clone() });
        users.set("new", user("p"));
    });
    let ended = [("disabled", Lost::Place), ("gone", Lost::Password), ("other password", Lost::Password)];
    assert_eq!(bench.ended(), ended.map(|(name, lost)| (name.to_owned(), lost)));
    assert!(bench.said().iter().any(|line| line.contains(r#""disabled", "gone", "other password""#)));
}

#[test]
fn nothing_but_connect_is_answered() {
    let bench = Bench::new(&[]);
    for stage in [AuthStage::Continue, AuthStage::Reauthenticate, AuthStage::ReauthenticateContinue] {
        let request = AuthRequest { stage, ..request(LOOPBACK, None, None) };
        assert_eq!(code(&bench.ask(&request)), Some(ReasonCode::NotAuthorized));
    }
    assert!(!bench.chain.offers("SCRAM-SHA-256") && !bench.chain.offers(""));
}
