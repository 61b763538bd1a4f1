//! The links that are built in.

use std::sync::Arc;

use breakwater_contract::{AuthRequest, Principal, Token};
use breakwater_proto::ReasonCode;

use super::{Answer, Link, given};
use crate::desk::Desk;
use crate::hash::PASSWORD_BYTES_MAX;
use crate::roster::Roster;

/// Lets in who comes straight from this machine and says nothing about itself. A proxy on this machine speaks for others: what
/// came through one is not direct.
pub(crate) struct Loopback {
    pub(crate) allowed: bool,
}

impl Link for Loopback {
    fn judge(&self, request: &AuthRequest<'_>) -> Answer {
        let local = request.direct && request.peer.ip().to_canonical().is_loopback();
        // Whoever says who it is has to show it, from here too.
        let silent = given(request.username).is_none() && request.password.is_none_or(<[u8]>::is_empty);
        if self.allowed && local && silent { Answer::Allow(Principal::default()) } else { Answer::Ignore }
    }
}

/// Lets in whom a certificate names, where the listener takes names from certificates. The users file need not know it; if it
/// does, its flags count.
pub(crate) struct Certified {
    pub(crate) roster: Arc<Roster>,
}

impl Link for Certified {
    fn judge(&self, request: &AuthRequest<'_>) -> Answer {
        let Some(name) =
            given(request.username).filter(|_| request.username_certified && request.certificate.is_some())
        else {
            return Answer::Ignore;
        };
        let users = self.roster.users();
        let user = users.get(name);
        if user.is_some_and(|user| user.disabled) {
            return Answer::Deny(ReasonCode::NotAuthorized);
        }
        Answer::Allow(Principal { name: name.into(), superuser: user.is_some_and(|user| user.superuser) })
    }
}

/// Lets in whom the users file names, with the right password.
pub(crate) struct Named {
    pub(crate) roster: Arc<Roster>,
    pub(crate) desk: Arc<Desk>,
}

impl Link for Named {
    fn judge(&self, request: &AuthRequest<'_>) -> Answer {
        let Some(name) = given(request.username) else { return Answer::Ignore };
        let wrong = Answer::Deny(ReasonCode::BadUserNameOrPassword);
        let Some(password) = request.password.filter(|password| !password.is_empty()) else { return wrong };
        // Nobody has such a name or password, so this tells of nobody.
        if password.len() > PASSWORD_BYTES_MAX || crate::check_name(name).is_err() {
            return wrong;
        }
        let users = self.roster.users();
        let user = users.get(name);
        if self.roster.verified.knows(name, user, password)
            && let Some(user) = user
        {
            if user.disabled {
                return Answer::Deny(ReasonCode::NotAuthorized);
            }
            return Answer::Allow(Principal { name: name.into(), superuser: user.superuser });
        }
        self.desk.submit(request, name, password)
    }

    fn abandon(&self, token: Token) {
        self.desk.abandon(token);
    }
}
