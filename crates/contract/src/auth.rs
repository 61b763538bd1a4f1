//! Who is this, and may they?

use std::net::SocketAddr;

use breakwater_proto::{QoS, ReasonCode, Version};

use crate::Token;

/// What a client has told about itself. Borrowed from its CONNECT or AUTH packet.
#[derive(Clone, Copy, Debug)]
pub struct AuthRequest<'a> {
    /// Name of this question: goes back with the answer.
    pub token: Token,
    /// Client identifier, as sent or as assigned.
    pub client_id: &'a str,
    /// User name.
    pub username: Option<&'a str>,
    /// Password. Never to be logged.
    pub password: Option<&'a [u8]>,
    /// Authentication method of MQTT 5 enhanced authentication.
    pub method: Option<&'a str>,
    /// Its data.
    pub data: Option<&'a [u8]>,
    /// Where the client comes from.
    pub peer: SocketAddr,
    /// Listener that accepted it.
    pub listener: u16,
    /// It came straight from `peer`: no proxy in between, and no page of another host behind it.
    pub direct: bool,
    /// The certificate that it has proved to own, where the listener asked for one.
    pub certificate: Option<&'a Certificate>,
    /// The user name comes from that certificate: it is proved already.
    pub username_certified: bool,
    /// Protocol version.
    pub version: Version,
    /// Which step of the conversation this is.
    pub stage: AuthStage,
}

/// What a verified client certificate says. Every text is as the certificate has it: hostile until checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Common name of the subject; empty if there is none.
    pub common_name: Box<str>,
    /// Subject as RFC 4514 writes it.
    pub subject: Box<str>,
    /// Serial number in lower-case hexadecimal.
    pub serial: Box<str>,
    /// SHA-256 of the certificate in lower-case hexadecimal.
    pub fingerprint: Box<str>,
    /// Subject alternative names: DNS names, mail addresses, URIs and addresses.
    pub alternative_names: Vec<Box<str>>,
}

/// What a connection has shown before its CONNECT: its transport knows it, a shard asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: Certificate,
    /// Counts instead of the user name in CONNECT, if the listener says so.
    pub username: Option<Box<str>>,
    /// Counts instead of the client identifier in CONNECT, if the listener says so.
    pub client_id: Option<Box<str>>,
}

/// Step of an authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthStage {
    /// The CONNECT itself.
    Connect,
    /// An AUTH packet with reason 0x18 before CONNACK.
    Continue,
    /// An AUTH packet with reason 0x19 on a live connection.
    Reauthenticate,
    /// An AUTH packet with reason 0x18 that continues a re-authentication.
    ReauthenticateContinue,
}

/// Answer to an [`AuthRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthStep {
    /// Let in.
    Accept {
        /// Who it is.
        principal: Principal,
        /// Data for the client that end the exchange (enhanced authentication only).
        data: Option<Box<[u8]>>,
    },
    /// Another round: AUTH 0x18 with these data.
    Challenge {
        /// What the client has to answer.
        data: Option<Box<[u8]>>,
    },
    /// Turned away.
    Refuse {
        /// Code for CONNACK or DISCONNECT.
        reason: ReasonCode,
        /// Text for the client, where that is wise.
        text: Option<Box<str>>,
    },
    /// The answer will come as a completion.
    Later,
}

/// Who a connection is, once authenticated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// Name that rules refer to; empty for an anonymous client.
    pub name: Box<str>,
    /// May do everything.
    pub superuser: bool,
}

/// The authentication chain, seen from a shard.
pub trait Authenticator: Send + Sync {
    /// Judges at once, or answers [`AuthStep::Later`] and completes under the request's token.
    fn authenticate(&self, request: &AuthRequest<'_>) -> AuthStep;

    /// The connection of this token is gone: forget what is still under way for it.
    fn abandon(&self, token: Token);

    /// Whether this method of enhanced authentication is offered at all.
    fn offers(&self, method: &str) -> bool;
}

/// What a client wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action<'a> {
    /// Publish to this topic.
    Publish {
        /// Topic name.
        topic: &'a str,
        /// QoS of the publication.
        qos: QoS,
        /// RETAIN flag.
        retain: bool,
    },
    /// Subscribe with this filter (of a shared subscription: the filter behind the group).
    Subscribe {
        /// Topic filter.
        filter: &'a str,
        /// Requested QoS.
        qos: QoS,
    },
    /// Be sent a message of this topic.
    Receive {
        /// Topic name.
        topic: &'a str,
    },
}

/// Who asks to do it.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Name for the answer, if it comes later.
    pub token: Token,
    /// Client identifier.
    pub client_id: &'a str,
    /// Who it was authenticated as.
    pub principal: &'a Principal,
    /// Where it comes from.
    pub peer: SocketAddr,
}

/// May they?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allow,
    /// No, with this code.
    Deny(ReasonCode),
    /// Not known here: the answer comes as a completion, the connection waits.
    Ask,
}

/// Authorization: a check on a snapshot in memory.
pub trait Authorizer: Send + Sync {
    /// True when every check would answer `Allow`: lets the shard skip the question per message.
    fn allows_everything(&self) -> bool;

    /// Judges one action.
    fn check(&self, subject: &Subject<'_>, action: Action<'_>) -> Verdict;
}
