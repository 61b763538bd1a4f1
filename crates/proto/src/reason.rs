//! Reason codes of MQTT 5.0 and their shadow in the older versions.

use crate::frame::PacketKind;

const CONNACK: u16 = 1 << PacketKind::ConnAck as u8;
const PUBACK: u16 = 1 << PacketKind::PubAck as u8 | 1 << PacketKind::PubRec as u8;
const PUBREL: u16 = 1 << PacketKind::PubRel as u8 | 1 << PacketKind::PubComp as u8;
const SUBACK: u16 = 1 << PacketKind::SubAck as u8;
const UNSUBACK: u16 = 1 << PacketKind::UnsubAck as u8;
const DISCONNECT: u16 = 1 << PacketKind::Disconnect as u8;
const AUTH: u16 = 1 << PacketKind::Auth as u8;

macro_rules! reason_codes {
    ($($(#[$attr:meta])* $name:ident = $code:literal, $words:literal, $kinds:expr;)*) => {
        /// Why a packet was refused, a connection ended, or what was granted.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum ReasonCode {
            $($(#[$attr])* $name = $code,)*
        }

        impl ReasonCode {
            pub const ALL: &[ReasonCode] = &[$(ReasonCode::$name,)*];

            #[inline]
            #[must_use]
            pub const fn from_u8(code: u8) -> Option<ReasonCode> {
                match code {
                    $($code => Some(ReasonCode::$name),)*
                    _ => None,
                }
            }

            /// The name of the code in words, as the specification has it, in lower case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(ReasonCode::$name => $words,)*
                }
            }

            /// Whether a packet of this kind may carry the code (the table of section 2.4).
            #[inline]
            #[must_use]
            pub const fn allowed_in(self, kind: PacketKind) -> bool {
                let kinds: u16 = match self {
                    $(ReasonCode::$name => $kinds,)*
                };
                kinds >> (kind as u8) & 1 != 0
            }
        }
    };
}

reason_codes! {
    #[default]
    Success = 0x00, "success", CONNACK | PUBACK | PUBREL | SUBACK | UNSUBACK | DISCONNECT | AUTH;
    GrantedQos1 = 0x01, "granted QoS 1", SUBACK;
    GrantedQos2 = 0x02, "granted QoS 2", SUBACK;
    DisconnectWithWill = 0x04, "disconnect with will message", DISCONNECT;
    NoMatchingSubscribers = 0x10, "no matching subscribers", PUBACK;
    NoSubscriptionExisted = 0x11, "no subscription existed", UNSUBACK;
    ContinueAuthentication = 0x18, "continue authentication", AUTH;
    ReAuthenticate = 0x19, "re-authenticate", AUTH;
    UnspecifiedError = 0x80, "unspecified error", CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT;
    MalformedPacket = 0x81, "malformed packet", CONNACK | DISCONNECT;
    ProtocolError = 0x82, "protocol error", CONNACK | DISCONNECT;
    ImplementationSpecificError = 0x83, "implementation specific error", CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT;
    UnsupportedProtocolVersion = 0x84, "unsupported protocol version", CONNACK;
    ClientIdentifierNotValid = 0x85, "client identifier not valid", CONNACK;
    BadUserNameOrPassword = 0x86, "bad user name or password", CONNACK;
    NotAuthorized = 0x87, "not authorized", CONNACK | PUBACK | SUBACK | UNSUBACK | DISCONNECT;
    ServerUnavailable = 0x88, "server unavailable", CONNACK;
    ServerBusy = 0x89, "server busy", CONNACK | DISCONNECT;
    Banned = 0x8A, "banned", CONNACK;
    ServerShuttingDown = 0x8B, "server shutting down", DISCONNECT;
    BadAuthenticationMethod = 0x8C, "bad authentication method", CONNACK | DISCONNECT;
    KeepAliveTimeout = 0x8D, "keep alive timeout", DISCONNECT;
    SessionTakenOver = 0x8E, "session taken over", DISCONNECT;
    TopicFilterInvalid = 0x8F, "topic filter invalid", SUBACK | UNSUBACK | DISCONNECT;
    TopicNameInvalid = 0x90, "topic name invalid", CONNACK | PUBACK | DISCONNECT;
    PacketIdentifierInUse = 0x91, "packet identifier in use", PUBACK | SUBACK | UNSUBACK;
    PacketIdentifierNotFound = 0x92, "packet identifier not found", PUBREL;
    ReceiveMaximumExceeded = 0x93, "receive maximum exceeded", DISCONNECT;
    TopicAliasInvalid = 0x94, "topic alias invalid", DISCONNECT;
    PacketTooLarge = 0x95, "packet too large", CONNACK | DISCONNECT;
    MessageRateTooHigh = 0x96, "message rate too high", DISCONNECT;
    QuotaExceeded = 0x97, "quota exceeded", CONNACK | PUBACK | SUBACK | DISCONNECT;
    AdministrativeAction = 0x98, "administrative action", DISCONNECT;
    PayloadFormatInvalid = 0x99, "payload format invalid", CONNACK | PUBACK | DISCONNECT;
    RetainNotSupported = 0x9A, "retain not supported", CONNACK | DISCONNECT;
    QosNotSupported = 0x9B, "QoS not supported", CONNACK | DISCONNECT;
    UseAnotherServer = 0x9C, "use another server", CONNACK | DISCONNECT;
    ServerMoved = 0x9D, "server moved", CONNACK | DISCONNECT;
    SharedSubscriptionsNotSupported = 0x9E, "shared subscriptions not supported", SUBACK | DISCONNECT;
    ConnectionRateExceeded = 0x9F, "connection rate exceeded", CONNACK | DISCONNECT;
    MaximumConnectTime = 0xA0, "maximum connect time", DISCONNECT;
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription identifiers not supported", SUBACK | DISCONNECT;
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard subscriptions not supported", SUBACK | DISCONNECT;
}

impl ReasonCode {
    /// Code 0 as DISCONNECT names it.
    pub const NORMAL_DISCONNECTION: ReasonCode = ReasonCode::Success;
    /// Code 0 as SUBACK names it.
    pub const GRANTED_QOS_0: ReasonCode = ReasonCode::Success;

    #[inline]
    #[must_use]
    pub const fn as_u8(self) -> u8 {
        self as u8
    }

    #[inline]
    #[must_use]
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// This code, or the nearest that a packet of this kind may carry: only CONNACK and DISCONNECT need it, which pass on
    /// codes from elsewhere [MQTT-3.2.2-8] [MQTT-3.14.2-1].
    #[must_use]
    pub const fn nearest_in(self, kind: PacketKind) -> ReasonCode {
        if self.allowed_in(kind) {
            return self;
        }
        match (kind, self) {
            (PacketKind::ConnAck, ReasonCode::ServerShuttingDown) => ReasonCode::ServerUnavailable,
            (PacketKind::Disconnect, ReasonCode::ServerUnavailable) => ReasonCode::ServerBusy,
            (PacketKind::Disconnect, ReasonCode::BadUserNameOrPassword | ReasonCode::Banned) => {
                ReasonCode::NotAuthorized
            }
            // A second CONNECT that can't even be read.
            (PacketKind::Disconnect, ReasonCode::UnsupportedProtocolVersion | ReasonCode::ClientIdentifierNotValid) => {
                ReasonCode::ProtocolError
            }
            _ => ReasonCode::UnspecifiedError,
        }
    }

    /// The CONNACK return code of 3.1 and 3.1.1 that comes nearest. `None`: close without a CONNACK, because none of the
    /// five codes would be true [MQTT3-3.2.2-6].
    #[must_use]
    pub const fn v3_return_code(self) -> Option<u8> {
        match self {
            ReasonCode::Success => Some(0),
            ReasonCode::UnsupportedProtocolVersion => Some(1),
            ReasonCode::ClientIdentifierNotValid => Some(2),
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::ServerShuttingDown
            | ReasonCode::QuotaExceeded
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved => Some(3),
            ReasonCode::BadUserNameOrPassword => Some(4),
            ReasonCode::NotAuthorized | ReasonCode::Banned | ReasonCode::BadAuthenticationMethod => Some(5),
            _ => None,
        }
    }

    /// What a 3.1 or 3.1.1 CONNACK return code means; `None` for the reserved ones.
    #[must_use]
    pub const fn from_v3_return_code(code: u8) -> Option<ReasonCode> {
        match code {
            0 => Some(ReasonCode::Success),
            1 => Some(ReasonCode::UnsupportedProtocolVersion),
            2 => Some(ReasonCode::ClientIdentifierNotValid),
            3 => Some(ReasonCode::ServerUnavailable),
            4 => Some(ReasonCode::BadUserNameOrPassword),
            5 => Some(ReasonCode::NotAuthorized),
            _ => None,
        }
    }
}

impl From<ReasonCode> for u8 {
    #[inline]
    fn from(code: ReasonCode) -> u8 {
        code as u8
    }
}

impl core::fmt::Display for ReasonCode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_their_numbers_go_both_ways() {
        let known = (0..=255).filter_map(ReasonCode::from_u8).collect::<Vec<_>>();
        assert_eq!(known, ReasonCode::ALL);
        assert_eq!(known.len(), 43);
        assert!(ReasonCode::ALL.iter().all(|code| ReasonCode::from_u8(code.as_u8()) == Some(*code)));
    }

    #[test]
    fn every_code_has_a_packet_that_may_carry_it() {
        for code in ReasonCode::ALL {
            assert!(PacketKind::ALL.iter().any(|kind| code.allowed_in(*kind)), "{code}");
        }
        let counts = PacketKind::ALL.map(|kind| ReasonCode::ALL.iter().filter(|code| code.allowed_in(kind)).count());
        assert_eq!(counts, [0, 22, 0, 9, 9, 2, 2, 0, 12, 0, 7, 0, 0, 30, 3]);
    }
}
