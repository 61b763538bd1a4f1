//! What a connection has shown before its CONNECT, and counts for more than what CONNECT claims.

use breakwater_proto::utf8::has_control_chars;
use breakwater_proto::{Connect, ReasonCode};

use crate::driver::Driver;

/// Longest name that is taken from a certificate, in bytes: a long distinguished name, and nothing that fills a log.
const NAME_BYTES_MAX: usize = 1024;

/// Names that the listener has taken from a certificate. Empty for nearly all connections.
#[derive(Debug, Default)]
pub(crate) struct Papers {
    username: Option<Box<str>>,
    client_id: Option<Box<str>>,
}

impl Papers {
    pub(crate) fn of<D: Driver>(driver: &D, slot: u32) -> Self {
        driver.identity(slot).map_or_else(Self::default, |identity| Self {
            username: identity.username.clone(),
            client_id: identity.client_id.clone(),
        })
    }

    /// Puts them in the place of what the client has written there.
    pub(crate) fn fill_in<'a>(&'a self, connect: &mut Connect<'a>) {
        if let Some(name) = &self.username {
            connect.username = Some(name);
        }
        if let Some(id) = &self.client_id {
            connect.client_id = id;
        }
    }

    /// Code and words for names that are not to be used. A certificate may say what no CONNECT may, or nothing.
    pub(crate) fn fault(&self) -> Option<(ReasonCode, &'static str)> {
        let unfit = |name: &str| name.is_empty() || name.len() > NAME_BYTES_MAX || has_control_chars(name);
        if self.username.as_deref().is_some_and(unfit) {
            return Some((
                ReasonCode::NotAuthorized,
                "the user name in the certificate is empty, too long, or holds control characters",
            ));
        }
        self.client_id.as_deref().is_some_and(unfit).then_some((
            ReasonCode::ClientIdentifierNotValid,
            "the client identifier in the certificate is empty, too long, or holds control characters",
        ))
    }
}
