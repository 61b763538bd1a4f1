//! An authenticator and an authorizer that do as they are told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use breakwater_contract::auth::{AuthStage, Subject};
use breakwater_contract::{
    Action, AuthRequest, AuthStep, Authenticator, Authorizer, Certificate, Principal, Token, Verdict,
};
use breakwater_proto::ReasonCode;

/// What the authenticator was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) token: Token,
    pub(crate) stage: AuthStage,
    pub(crate) client_id: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) method: Option<String>,
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) username_certified: bool,
}

/// Offers the method "SCRIPT"; answers with the next step of the script, and accepts at its end.
#[derive(Default)]
pub(crate) struct Script {
    steps: Mutex<VecDeque<AuthStep>>,
    asked: Mutex<Vec<Asked>>,
    abandoned: Mutex<Vec<Token>>,
}

impl Script {
    pub(crate) fn of(steps: impl IntoIterator<Item = AuthStep>) -> Arc<Script> {
        Arc::new(Script { steps: Mutex::new(steps.into_iter().collect()), ..Script::default() })
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("one thread").clone()
    }

    pub(crate) fn last(&self) -> Asked {
        self.asked().pop().expect("it was asked")
    }

    pub(crate) fn abandoned(&self) -> Vec<Token> {
        self.abandoned.lock().expect("one thread").clone()
    }
}

impl Authenticator for Script {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthStep {
        self.asked.lock().expect("one thread").push(Asked {
            token: request.token,
            stage: request.stage,
            client_id: request.client_id.to_owned(),
            username: request.username.map(str::to_owned),
            password: request.password.map(<[u8]>::to_vec),
            method: request.method.map(str::to_owned),
            data: request.data.map(<[u8]>::to_vec),
            certificate: request.certificate.cloned(),
            username_certified: request.username_certified,
        });
        self.steps.lock().expect("one thread").pop_front().unwrap_or_else(accept)
    }

    fn abandon(&self, token: Token) {
        self.abandoned.lock().expect("one thread").push(token);
    }

    fn offers(&self, method: &str) -> bool {
        method == "SCRIPT"
    }
}

pub(crate) fn accept() -> AuthStep {
    accept_with(None)
}

pub(crate) fn accept_with(data: Option<&[u8]>) -> AuthStep {
    AuthStep::Accept { principal: Principal { name: "it".into(), superuser: false }, data: data.map(Into::into) }
}

pub(crate) fn challenge(data: &[u8]) -> AuthStep {
    AuthStep::Challenge { data: Some(data.into()) }
}

pub(crate) fn refuse(reason: ReasonCode) -> AuthStep {
    AuthStep::Refuse { reason, text: Some("not today".into()) }
}

/// Judges by the topic or filter: "denied…" no, "asked…" later, "boom…" not at all, everything else yes.
#[derive(Default)]
pub(crate) struct Rules {
    questions: Mutex<Vec<Token>>,
}

impl Rules {
    pub(crate) fn questions(&self) -> Vec<Token> {
        std::mem::take(&mut self.questions.lock().expect("one thread"))
    }
}

impl Authorizer for Rules {
    fn allows_everything(&self) -> bool {
        false
    }

    fn check(&self, subject: &Subject<'_>, action: Action<'_>) -> Verdict {
        let (Action::Publish { topic: name, .. }
        | Action::Subscribe { filter: name, .. }
        | Action::Receive { topic: name }) = action;
        if name.starts_with("denied") {
            return Verdict::Deny(ReasonCode::NotAuthorized);
        }
        if name.starts_with("asked") {
            self.questions.lock().expect("one thread").push(subject.token);
            return Verdict::Ask;
        }
        assert!(!name.starts_with("boom"), "what an authorizer must not do");
        Verdict::Allow
    }
}
