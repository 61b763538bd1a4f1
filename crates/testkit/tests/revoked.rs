//! Clients of users who lose what let them in: which of them end, and how.

use std::sync::{Arc, Mutex};

use breakwater_contract::{
    AuthRequest, AuthStep, Authenticator, Completion, Identity, Lost, Metric, Principal, Revoked, Token,
};
use breakwater_proto::{QoS, ReasonCode, Version};
use breakwater_testkit::{Broker, Client, Connecting};

/// Lets everybody in under the name that he gives; who comes as "slow" has to wait.
#[derive(Default)]
struct Trusting {
    waiting: Mutex<Vec<Token>>,
}

fn accepted(name: &str) -> AuthStep {
    AuthStep::Accept { principal: Principal { name: name.into(), superuser: false }, data: None }
}

impl Authenticator for Trusting {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthStep {
        let name = request.username.unwrap_or_default();
        if name == "slow" {
            self.waiting.lock().expect("one thread").push(request.token);
            return AuthStep::Later;
        }
        accepted(name)
    }

    fn abandon(&self, _token: Token) {}

    fn offers(&self, _method: &str) -> bool {
        false
    }
}

fn broker() -> Broker {
    Broker::new().shards(3).authenticator(Arc::new(Trusting::default()))
}

fn named<'a>(broker: &'a Broker, client_id: &'a str, name: &'a str) -> Connecting<'a> {
    broker.client(client_id).set(|connect| connect.username = Some(name))
}

fn revoke(broker: &Broker, lost: &[(&str, Lost)]) {
    let revoked: Revoked = lost.iter().map(|(name, lost)| ((*name).into(), *lost)).collect();
    broker.revoke(&Arc::new(revoked));
    broker.step();
}

#[test]
fn all_clients_of_a_user_end_and_nobody_elses() {
    let broker = broker();
    let ids: Vec<String> = (0..20).map(|index| format!("c{index}")).collect();
    let mut gone: Vec<Client> = ids.iter().map(|id| named(&broker, id, "alice").connect()).collect();
    let mut bob = named(&broker, "bob", "bob").connect();
    let mut nameless = broker.client("nameless").connect();
    let old = named(&broker, "old", "alice").version(Version::V311).connect();
    revoke(&broker, &[("alice", Lost::Place), ("nobody", Lost::Place), ("", Lost::Place)]);
    gone.iter_mut().for_each(|client| client.expect_disconnect(ReasonCode::NotAuthorized));
    assert!(old.is_closed());
    bob.ping();
    nameless.ping();
    assert_eq!((broker.counter(Metric::ConnectionsRevoked), broker.connections()), (21, 2));
}

#[test]
fn a_client_that_loses_its_user_leaves_its_will_and_its_session() {
    let broker = broker();
    let mut watcher = broker.client("watcher").connect();
    watcher.subscribe("will", QoS::AtMostOnce);
    let mut goes = named(&broker, "goes", "alice").persistent().will("will", b"gone", QoS::AtMostOnce, false).connect();
    revoke(&broker, &[("alice", Lost::Password)]);
    goes.expect_disconnect(ReasonCode::NotAuthorized);
    assert_eq!(watcher.payloads(), [b"gone"]);
    let back = named(&broker, "goes", "alice").persistent().connect();
    assert!(back.connack.as_ref().is_some_and(|connack| connack.connack().session_present));
}

#[test]
fn who_is_let_in_after_a_loss_stays() {
    let broker = broker();
    revoke(&broker, &[("alice", Lost::Place)]);
    let mut later = named(&broker, "later", "alice").connect();
    revoke(&broker, &[("bob", Lost::Place)]);
    later.ping();
}

#[test]
fn an_answer_that_came_before_the_loss_lets_nobody_stay() {
    let authenticator = Arc::new(Trusting::default());
    let broker = Broker::new().shards(2).authenticator(Arc::clone(&authenticator) as Arc<_>);
    let mut early = named(&broker, "early", "slow").start();
    broker.step();
    let token = authenticator.waiting.lock().expect("one thread").pop().expect("it was asked");
    broker.complete(Completion::Auth { token, step: accepted("slow") });
    revoke(&broker, &[("slow", Lost::Password)]);
    assert_eq!(early.next_packet().connack().reason, ReasonCode::Success);
    early.expect_disconnect(ReasonCode::NotAuthorized);
}

#[test]
fn a_lost_password_is_no_matter_to_whom_a_certificate_let_in() {
    let broker = broker();
    let identity = || Identity { username: Some("alice".into()), ..Identity::default() };
    let mut certified = broker.client("certified").shows(identity()).connect();
    let mut by_password = named(&broker, "by password", "alice").connect();
    revoke(&broker, &[("alice", Lost::Password)]);
    by_password.expect_disconnect(ReasonCode::NotAuthorized);
    certified.ping();
    revoke(&broker, &[("alice", Lost::Place)]);
    certified.expect_disconnect(ReasonCode::NotAuthorized);
}

#[test]
fn where_nobody_is_asked_a_name_can_not_be_lost() {
    let broker = broker().profile(4, |profile| profile.authenticate = false);
    let mut open = named(&broker, "open", "alice").on(4).connect();
    revoke(&broker, &[("alice", Lost::Place)]);
    open.ping();
}
