//! No questions asked.

use breakwater_contract::auth::Subject;
use breakwater_contract::{Action, AuthRequest, AuthStep, Authenticator, Authorizer, Principal, Token, Verdict};

/// Lets everybody in and allows everything. For ports that only this machine can reach.
#[derive(Clone, Copy, Debug, Default)]
pub struct Open;

impl Authenticator for Open {
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthStep {
        let name = request.username.unwrap_or_default().into();
        AuthStep::Accept { principal: Principal { name, superuser: false }, data: None }
    }

    fn abandon(&self, _token: Token) {}

    fn offers(&self, _method: &str) -> bool {
        false
    }
}

impl Authorizer for Open {
    fn allows_everything(&self) -> bool {
        true
    }

    fn check(&self, _subject: &Subject<'_>, _action: Action<'_>) -> Verdict {
        Verdict::Allow
    }
}
