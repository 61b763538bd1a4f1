//! Every way in which a peer can break the protocol, in one table.

use crate::reason::ReasonCode;
use crate::version::Version;

macro_rules! violations {
    ($($(#[$doc:meta])* $name:ident => $reason:ident, $statement:literal, $text:literal;)*) => {
        /// The peer broke the specification: the connection ends.
        ///
        /// Counted, not logged above debug. The statement is the id of the normative statement in MQTT 5.0 (`MQTT-…`) or
        /// 3.1.1 (`MQTT3-…`), or the number of the section where the rule stands without an id.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Violation {
            $($(#[$doc])* $name,)*
        }

        impl Violation {
            pub const ALL: &[Violation] = &[$(Violation::$name,)*];

            /// What a DISCONNECT or CONNACK of MQTT 5.0 says about it.
            #[must_use]
            pub const fn reason(self) -> ReasonCode {
                match self {
                    $(Violation::$name => ReasonCode::$reason,)*
                }
            }

            #[must_use]
            pub const fn statement(self) -> &'static str {
                match self {
                    $(Violation::$name => $statement,)*
                }
            }

            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Violation::$name => $text,)*
                }
            }

            /// The variant's name, for counters and logs.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Violation::$name => stringify!($name),)*
                }
            }
        }
    };
}

violations! {
    // Framing and data representation
    ReservedPacketType => MalformedPacket, "2.1.2", "packet type that this protocol version reserves";
    FixedHeaderFlags => MalformedPacket, "MQTT-2.1.3-1", "reserved flags of the fixed header are wrong";
    VariableByteIntegerTooLong => MalformedPacket, "1.5.5", "variable byte integer of more than four bytes";
    VariableByteIntegerNotShortest => MalformedPacket, "MQTT-1.5.5-1", "variable byte integer is not in its shortest form";
    PacketTooLarge => PacketTooLarge, "MQTT-3.2.2-15", "packet is larger than the maximum packet size";
    Truncated => MalformedPacket, "4.13.1", "packet ends inside a field";
    TrailingBytes => MalformedPacket, "4.13.1", "bytes after the last field of the packet";
    InvalidUtf8 => MalformedPacket, "MQTT-1.5.4-1", "string is not valid UTF-8";
    NulInString => MalformedPacket, "MQTT-1.5.4-2", "string holds U+0000";
    PacketIdZero => ProtocolError, "MQTT-2.2.1-3", "packet identifier is 0";

    // Properties
    PropertyUnknown => MalformedPacket, "2.2.2.2", "unknown property identifier";
    PropertyNotAllowed => MalformedPacket, "2.2.2.2", "property is not allowed in this packet";
    PropertyRepeated => ProtocolError, "2.2.2.2", "property that may appear once appears again";
    PropertyTruncated => MalformedPacket, "2.2.2.1", "property length ends inside a property";
    PropertyLengthTooLong => MalformedPacket, "2.2.2.1", "property length runs past the end of the packet";
    PayloadFormatIndicatorInvalid => ProtocolError, "3.3.2.3.2", "payload format indicator is neither 0 nor 1";
    ResponseTopicInvalid => ProtocolError, "MQTT-3.3.2-14", "response topic is empty or holds a wildcard";
    SubscriptionIdentifierZero => ProtocolError, "3.8.2.1.2", "subscription identifier is 0";
    ReceiveMaximumZero => ProtocolError, "3.1.2.11.3", "receive maximum is 0";
    MaximumPacketSizeZero => ProtocolError, "3.1.2.11.4", "maximum packet size is 0";
    RequestProblemInformationInvalid => ProtocolError, "3.1.2.11.7", "request problem information is neither 0 nor 1";
    RequestResponseInformationInvalid => ProtocolError, "3.1.2.11.6", "request response information is neither 0 nor 1";
    MaximumQosInvalid => ProtocolError, "3.2.2.3.4", "maximum QoS is neither 0 nor 1";
    RetainAvailableInvalid => ProtocolError, "3.2.2.3.5", "retain available is neither 0 nor 1";
    WildcardSubscriptionAvailableInvalid => ProtocolError, "3.2.2.3.11", "wildcard subscription available is neither 0 nor 1";
    SubscriptionIdentifierAvailableInvalid => ProtocolError, "3.2.2.3.12", "subscription identifiers available is neither 0 nor 1";
    SharedSubscriptionAvailableInvalid => ProtocolError, "3.2.2.3.13", "shared subscription available is neither 0 nor 1";

    // CONNECT
    ProtocolNameUnknown => UnsupportedProtocolVersion, "MQTT-3.1.2-1", "protocol name is neither MQTT nor MQIsdp";
    /// The level lies below 5: answer with return code 1 in the form of 3.1.1.
    ProtocolLevelUnsupported => UnsupportedProtocolVersion, "MQTT3-3.1.2-2", "protocol level is not supported";
    /// The level lies above 5, so the client knows the CONNACK of 5.0: answer 0x84 in that form.
    ProtocolLevelAboveFive => UnsupportedProtocolVersion, "MQTT-3.1.2-2", "protocol level is newer than 5.0";
    ConnectReservedFlag => MalformedPacket, "MQTT-3.1.2-3", "reserved connect flag is set";
    WillQosWithoutWill => MalformedPacket, "MQTT-3.1.2-11", "will QoS is set without a will";
    WillRetainWithoutWill => MalformedPacket, "MQTT-3.1.2-13", "will retain is set without a will";
    WillQosInvalid => MalformedPacket, "MQTT-3.1.2-12", "will QoS is 3";
    WillTopicInvalid => TopicNameInvalid, "MQTT-4.7.0-1", "will topic is empty or holds a wildcard";
    PasswordWithoutUserName => MalformedPacket, "MQTT3-3.1.2-22", "password without a user name";
    AuthenticationDataWithoutMethod => ProtocolError, "3.1.2.11.10", "authentication data without a method";

    // CONNACK
    ConnAckFlagsReserved => MalformedPacket, "MQTT-3.2.2-1", "reserved connect acknowledge flag is set";
    SessionPresentOnRefusal => ProtocolError, "MQTT-3.2.2-6", "session present beside a refusal";

    // PUBLISH
    PublishQosInvalid => MalformedPacket, "MQTT-3.3.1-4", "QoS is 3";
    DupOnQos0 => MalformedPacket, "MQTT-3.3.1-2", "DUP is set on QoS 0";
    TopicNameWildcard => TopicNameInvalid, "MQTT-3.3.2-2", "topic name holds a wildcard";
    TopicNameEmpty => ProtocolError, "MQTT-4.7.3-1", "topic name is empty and there is no topic alias";
    TopicAliasZero => TopicAliasInvalid, "MQTT-3.3.2-8", "topic alias is 0";

    // Acknowledgements and AUTH
    ReasonCodeUnknown => MalformedPacket, "2.4", "reason code does not exist";
    ReasonCodeNotAllowed => ProtocolError, "2.4", "reason code is not allowed in this packet";
    AuthenticationMethodMissing => ProtocolError, "3.15.2.2.2", "AUTH without an authentication method";

    // SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK
    SubscribeWithoutFilter => ProtocolError, "MQTT-3.8.3-2", "SUBSCRIBE without a topic filter";
    SubscribeOptionsReserved => MalformedPacket, "MQTT-3.8.3-5", "reserved bits of the subscription options are set";
    SubscribeQosInvalid => ProtocolError, "3.8.3.1", "requested QoS is 3";
    RetainHandlingInvalid => ProtocolError, "3.8.3.1", "retain handling is 3";
    NoLocalOnShared => ProtocolError, "MQTT-3.8.3-4", "no local on a shared subscription";
    UnsubscribeWithoutFilter => ProtocolError, "MQTT-3.10.3-2", "UNSUBSCRIBE without a topic filter";
    SubAckWithoutCode => MalformedPacket, "MQTT-3.8.4-6", "SUBACK or UNSUBACK without a reason code";

    // What a session holds against well-formed packets
    FirstPacketNotConnect => ProtocolError, "MQTT-3.1.0-1", "first packet was not CONNECT";
    SecondConnect => ProtocolError, "MQTT-3.1.0-2", "second CONNECT on one connection";
    WrongDirection => ProtocolError, "4.13.1", "packet that only the other side may send";
    PacketBeforeConnAck => ProtocolError, "MQTT-3.1.2-30", "only AUTH and DISCONNECT may come before CONNACK";
    ReceiveMaximumExceeded => ReceiveMaximumExceeded, "MQTT-3.3.4-7", "more QoS 1 and 2 publishes than the receive maximum";
    PublishQosNotSupported => QosNotSupported, "MQTT-3.2.2-11", "QoS is above the maximum QoS";
    WillQosNotSupported => QosNotSupported, "MQTT-3.2.2-12", "will QoS is above the maximum QoS";
    RetainNotSupported => RetainNotSupported, "MQTT-3.2.2-14", "retain is not available";
    TopicAliasTooLarge => TopicAliasInvalid, "MQTT-3.3.2-9", "topic alias is above the topic alias maximum";
    TopicAliasUnknown => ProtocolError, "3.3.2.3.4", "topic alias has no topic name yet";
    TopicTooLarge => TopicNameInvalid, "4.7.3", "topic name has too many bytes or levels";
    TooManyUserProperties => QuotaExceeded, "3.3.2.3.7", "too many user properties";
    SubscriptionIdentifierFromClient => ProtocolError, "MQTT-3.3.4-6", "PUBLISH to the server with a subscription identifier";
    SharedSubscriptionsNotSupported => SharedSubscriptionsNotSupported, "3.2.2.3.13", "shared subscriptions are not available";
    WildcardSubscriptionsNotSupported => WildcardSubscriptionsNotSupported, "3.2.2.3.11", "wildcard subscriptions are not available";
    SubscriptionIdentifiersNotSupported => SubscriptionIdentifiersNotSupported, "3.2.2.3.12", "subscription identifiers are not available";
    SessionExpiryRaisedFromZero => ProtocolError, "3.14.2.2.2", "session expiry was 0 in CONNECT and is not in DISCONNECT";
    AuthWithoutMethodInConnect => ProtocolError, "MQTT-4.12.0-7", "AUTH although CONNECT had no authentication method";
    AuthMethodChanged => ProtocolError, "MQTT-4.12.0-5", "authentication method differs from the one in CONNECT";
    AuthUnexpected => ProtocolError, "4.12", "AUTH out of turn";
    PacketIdInUse => ProtocolError, "MQTT-2.2.1-3", "packet identifier is in use for another kind of exchange";
    KeepAliveTimeout => KeepAliveTimeout, "MQTT-3.1.2-22", "nothing came within one and a half times the keep alive";
}

impl Violation {
    /// In which form a CONNACK that refuses an unknown protocol is to be written; `None` for every other violation (then
    /// the version of the CONNECT itself decides, see [`crate::peek_version`]).
    #[must_use]
    pub const fn connack_version(self) -> Option<Version> {
        match self {
            Violation::ProtocolLevelUnsupported => Some(Version::V311),
            Violation::ProtocolLevelAboveFive => Some(Version::V5),
            _ => None,
        }
    }
}

impl core::fmt::Display for Violation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} [{}]", self.text(), self.statement())
    }
}

impl core::error::Error for Violation {}
