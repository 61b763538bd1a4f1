//! Properties of MQTT 5.0: one table says each one's type, where it may stand, and whether it may repeat.

pub mod forward;
pub mod user;

use crate::cursor::Cursor;
use crate::sink::{self, Sink};
use crate::utf8;
use crate::violation::Violation;

/// One property with its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property<'a> {
    PayloadFormatIndicator(u8),
    MessageExpiryInterval(u32),
    ContentType(&'a str),
    ResponseTopic(&'a str),
    CorrelationData(&'a [u8]),
    SubscriptionIdentifier(u32),
    SessionExpiryInterval(u32),
    AssignedClientIdentifier(&'a str),
    ServerKeepAlive(u16),
    AuthenticationMethod(&'a str),
    AuthenticationData(&'a [u8]),
    RequestProblemInformation(u8),
    WillDelayInterval(u32),
    RequestResponseInformation(u8),
    ResponseInformation(&'a str),
    ServerReference(&'a str),
    ReasonString(&'a str),
    ReceiveMaximum(u16),
    TopicAliasMaximum(u16),
    TopicAlias(u16),
    MaximumQos(u8),
    RetainAvailable(u8),
    UserProperty(&'a str, &'a str),
    MaximumPacketSize(u32),
    WildcardSubscriptionAvailable(u8),
    SubscriptionIdentifierAvailable(u8),
    SharedSubscriptionAvailable(u8),
}

/// Where a property may stand: the packets of table 2-4, and the will inside CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Place {
    Connect = 1,
    Will = 1 << 1,
    ConnAck = 1 << 2,
    Publish = 1 << 3,
    /// PUBACK, PUBREC, PUBREL and PUBCOMP.
    Ack = 1 << 4,
    Subscribe = 1 << 5,
    /// SUBACK and UNSUBACK.
    SubAck = 1 << 6,
    Unsubscribe = 1 << 7,
    Disconnect = 1 << 8,
    Auth = 1 << 9,
}

const CONNECT: u16 = Place::Connect as u16;
const WILL: u16 = Place::Will as u16;
const CONNACK: u16 = Place::ConnAck as u16;
const PUBLISH: u16 = Place::Publish as u16;
const ACK: u16 = Place::Ack as u16;
const SUBSCRIBE: u16 = Place::Subscribe as u16;
const SUBACK: u16 = Place::SubAck as u16;
const UNSUBSCRIBE: u16 = Place::Unsubscribe as u16;
const DISCONNECT: u16 = Place::Disconnect as u16;
const AUTH: u16 = Place::Auth as u16;
const EVERYWHERE: u16 = CONNECT | WILL | CONNACK | PUBLISH | ACK | SUBSCRIBE | SUBACK | UNSUBSCRIBE | DISCONNECT | AUTH;

/// How the value of a property is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueKind {
    Byte,
    TwoByteInteger,
    FourByteInteger,
    VariableByteInteger,
    Utf8String,
    BinaryValue,
    Utf8StringPair,
}

/// A row of the property table.
#[derive(Clone, Copy, Debug)]
pub struct PropertyRow {
    pub id: u8,
    pub name: &'static str,
    pub kind: ValueKind,
    places: u16,
    repeats_in: u16,
}

impl PropertyRow {
    #[must_use]
    pub const fn allowed_in(&self, place: Place) -> bool {
        self.places & place as u16 != 0
    }

    #[must_use]
    pub const fn may_repeat_in(&self, place: Place) -> bool {
        self.repeats_in & place as u16 != 0
    }
}

macro_rules! property_table {
    ($($id:literal $variant:ident $kind:ident $places:expr, $repeats:expr, $name:literal;)*) => {
        /// Table 2-4, in the order of the identifiers.
        pub const PROPERTIES: &[PropertyRow] = &[$(PropertyRow {
            id: $id, name: $name, kind: ValueKind::$kind, places: $places, repeats_in: $repeats,
        },)*];

        /// The rows' places by identifier, for the walk: 0 is an identifier that does not exist.
        const PLACES: [u16; 64] = {
            let mut places = [0u16; 64];
            $(places[$id] = $places;)*
            places
        };

        const REPEATS: [u16; 64] = {
            let mut repeats = [0u16; 64];
            $(repeats[$id] = $repeats;)*
            repeats
        };

        impl<'a> Property<'a> {
            #[inline]
            #[must_use]
            pub const fn id(&self) -> u8 {
                match self {
                    $(Property::$variant { .. } => $id,)*
                }
            }

            #[must_use]
            pub const fn name(&self) -> &'static str {
                match self {
                    $(Property::$variant { .. } => $name,)*
                }
            }

            #[inline]
            fn read(id: u8, cursor: &mut Cursor<'a>) -> Result<Property<'a>, Violation> {
                match id {
                    $($id => property_table!(@read cursor $kind $variant),)*
                    _ => Err(Violation::PropertyUnknown),
                }
            }

            fn write_value(&self, out: &mut impl Sink) {
                match *self {
                    $(property_table!(@bind $kind $variant name value) => property_table!(@write out $kind name value),)*
                }
            }
        }
    };
    (@read $c:ident Byte $v:ident) => { $c.byte().map(Property::$v) };
    (@read $c:ident TwoByteInteger $v:ident) => { $c.u16().map(Property::$v) };
    (@read $c:ident FourByteInteger $v:ident) => { $c.u32().map(Property::$v) };
    (@read $c:ident VariableByteInteger $v:ident) => { $c.varint().map(Property::$v) };
    (@read $c:ident Utf8String $v:ident) => { $c.string().map(Property::$v) }; // [MQTT-3.3.2-13] [MQTT-3.3.2-19]
    (@read $c:ident BinaryValue $v:ident) => { $c.binary().map(Property::$v) };
    (@read $c:ident Utf8StringPair $v:ident) => {{
        let name = $c.string()?; // [MQTT-1.5.7-1]
        let value = $c.string()?;
        Ok(Property::$v(name, value))
    }};
    (@bind Utf8StringPair $v:ident $name:ident $value:ident) => { Property::$v($name, $value) };
    (@bind $kind:ident $v:ident $name:ident $value:ident) => { Property::$v($value) };
    (@write $o:ident Byte $n:ident $x:ident) => { $o.byte($x) };
    (@write $o:ident TwoByteInteger $n:ident $x:ident) => { $o.u16($x) };
    (@write $o:ident FourByteInteger $n:ident $x:ident) => { $o.u32($x) };
    (@write $o:ident VariableByteInteger $n:ident $x:ident) => { $o.varint($x as usize) };
    (@write $o:ident Utf8String $n:ident $x:ident) => { $o.string($x) };
    (@write $o:ident BinaryValue $n:ident $x:ident) => { $o.binary($x) };
    (@write $o:ident Utf8StringPair $n:ident $x:ident) => {{
        $o.string($n);
        $o.string($x);
    }};
}

property_table! {
    0x01 PayloadFormatIndicator Byte PUBLISH | WILL, 0, "Payload Format Indicator";
    0x02 MessageExpiryInterval FourByteInteger PUBLISH | WILL, 0, "Message Expiry Interval";
    0x03 ContentType Utf8String PUBLISH | WILL, 0, "Content Type";
    0x08 ResponseTopic Utf8String PUBLISH | WILL, 0, "Response Topic";
    0x09 CorrelationData BinaryValue PUBLISH | WILL, 0, "Correlation Data";
    0x0B SubscriptionIdentifier VariableByteInteger PUBLISH | SUBSCRIBE, PUBLISH, "Subscription Identifier";
    0x11 SessionExpiryInterval FourByteInteger CONNECT | CONNACK | DISCONNECT, 0, "Session Expiry Interval";
    0x12 AssignedClientIdentifier Utf8String CONNACK, 0, "Assigned Client Identifier";
    0x13 ServerKeepAlive TwoByteInteger CONNACK, 0, "Server Keep Alive";
    0x15 AuthenticationMethod Utf8String CONNECT | CONNACK | AUTH, 0, "Authentication Method";
    0x16 AuthenticationData BinaryValue CONNECT | CONNACK | AUTH, 0, "Authentication Data";
    0x17 RequestProblemInformation Byte CONNECT, 0, "Request Problem Information";
    0x18 WillDelayInterval FourByteInteger WILL, 0, "Will Delay Interval";
    0x19 RequestResponseInformation Byte CONNECT, 0, "Request Response Information";
    0x1A ResponseInformation Utf8String CONNACK, 0, "Response Information";
    0x1C ServerReference Utf8String CONNACK | DISCONNECT, 0, "Server Reference";
    0x1F ReasonString Utf8String CONNACK | ACK | SUBACK | DISCONNECT | AUTH, 0, "Reason String";
    0x21 ReceiveMaximum TwoByteInteger CONNECT | CONNACK, 0, "Receive Maximum";
    0x22 TopicAliasMaximum TwoByteInteger CONNECT | CONNACK, 0, "Topic Alias Maximum";
    0x23 TopicAlias TwoByteInteger PUBLISH, 0, "Topic Alias";
    0x24 MaximumQos Byte CONNACK, 0, "Maximum QoS";
    0x25 RetainAvailable Byte CONNACK, 0, "Retain Available";
    0x26 UserProperty Utf8StringPair EVERYWHERE, EVERYWHERE, "User Property";
    0x27 MaximumPacketSize FourByteInteger CONNECT | CONNACK, 0, "Maximum Packet Size";
    0x28 WildcardSubscriptionAvailable Byte CONNACK, 0, "Wildcard Subscription Available";
    0x29 SubscriptionIdentifierAvailable Byte CONNACK, 0, "Subscription Identifier Available";
    0x2A SharedSubscriptionAvailable Byte CONNACK, 0, "Shared Subscription Available";
}

impl Property<'_> {
    /// Refuses values that their type allows but their meaning does not.
    #[inline]
    fn check_value(&self) -> Result<(), Violation> {
        let switch = |value: u8, fault| if value > 1 { Err(fault) } else { Ok(()) };
        match *self {
            Property::PayloadFormatIndicator(value) => switch(value, Violation::PayloadFormatIndicatorInvalid),
            Property::RequestProblemInformation(value) => switch(value, Violation::RequestProblemInformationInvalid),
            Property::RequestResponseInformation(value) => switch(value, Violation::RequestResponseInformationInvalid),
            Property::MaximumQos(value) => switch(value, Violation::MaximumQosInvalid),
            Property::RetainAvailable(value) => switch(value, Violation::RetainAvailableInvalid),
            Property::WildcardSubscriptionAvailable(value) => {
                switch(value, Violation::WildcardSubscriptionAvailableInvalid)
            }
            Property::SubscriptionIdentifierAvailable(value) => {
                switch(value, Violation::SubscriptionIdentifierAvailableInvalid)
            }
            Property::SharedSubscriptionAvailable(value) => {
                switch(value, Violation::SharedSubscriptionAvailableInvalid)
            }
            Property::ReceiveMaximum(0) => Err(Violation::ReceiveMaximumZero),
            Property::MaximumPacketSize(0) => Err(Violation::MaximumPacketSizeZero),
            Property::SubscriptionIdentifier(0) => Err(Violation::SubscriptionIdentifierZero),
            Property::TopicAlias(0) => Err(Violation::TopicAliasZero), // [MQTT-3.3.2-8]
            Property::ResponseTopic(topic) if topic.is_empty() || utf8::check_topic(topic.as_bytes()).is_err() => {
                Err(Violation::ResponseTopicInvalid) // [MQTT-3.3.2-14] [MQTT-4.7.3-1]
            }
            _ => Ok(()),
        }
    }

    /// Whether the property travels with a message from publisher to subscribers.
    #[inline]
    #[must_use]
    pub const fn is_forwarded(&self) -> bool {
        is_forwarded(self.id())
    }

    /// Appends the property as it stands on the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.write(out);
    }

    pub(crate) fn write(&self, out: &mut impl Sink) {
        out.byte(self.id());
        self.write_value(out);
    }
}

#[inline]
pub(crate) const fn is_forwarded(id: u8) -> bool {
    matches!(id, 0x01 | 0x03 | 0x08 | 0x09 | 0x26)
}

/// Appends one User Property as it stands on the wire, to build a [`user::UserProperties`] or
/// [`forward::ForwardProperties`] from.
pub fn write_user_property(name: &str, value: &str, out: &mut Vec<u8>) {
    Property::UserProperty(name, value).encode(out);
}

/// Walks the property section of one packet and checks every property on the way.
///
/// One pass, whatever the count: what was seen is a bit per identifier (quadratic look-ups for repeated ones have been
/// an attack on other brokers).
pub(crate) struct PropertyWalk<'a> {
    cursor: Cursor<'a>,
    seen: u64,
    place: Place,
}

impl<'a> PropertyWalk<'a> {
    /// Takes the property length and the properties off `packet`, and starts the walk.
    #[inline]
    pub(crate) fn start(packet: &mut Cursor<'a>, place: Place) -> Result<PropertyWalk<'a>, Violation> {
        let len = packet.varint()?;
        let raw = packet.take(len as usize).map_err(|_| Violation::PropertyLengthTooLong)?;
        Ok(PropertyWalk { cursor: Cursor::new(raw), seen: 0, place })
    }

    /// The bytes that have not been walked yet.
    #[inline]
    pub(crate) fn raw(&self) -> &'a [u8] {
        self.cursor.rest()
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Property<'a>>, Violation> {
        if self.cursor.is_empty() {
            return Ok(None);
        }
        // Identifiers are variable byte integers, but all that exist take one byte.
        let id = self.cursor.varint().map_err(truncated)?;
        let id = u8::try_from(id).map_err(|_| Violation::PropertyUnknown)?;
        let places = PLACES.get(usize::from(id)).copied().unwrap_or(0);
        if places & self.place as u16 == 0 {
            return Err(if places == 0 { Violation::PropertyUnknown } else { Violation::PropertyNotAllowed });
        }
        let bit = 1u64 << (id & 63);
        if self.seen & bit != 0 && REPEATS.get(usize::from(id)).is_none_or(|r| r & self.place as u16 == 0) {
            return Err(Violation::PropertyRepeated);
        }
        self.seen |= bit;
        let property = Property::read(id, &mut self.cursor).map_err(truncated)?;
        property.check_value()?;
        Ok(Some(property))
    }
}

#[inline]
fn truncated(fault: Violation) -> Violation {
    if fault == Violation::Truncated { Violation::PropertyTruncated } else { fault }
}

/// Reads properties that were checked before; anything odd ends the walk.
#[derive(Clone, Debug)]
pub struct Properties<'a> {
    cursor: Cursor<'a>,
}

impl<'a> Properties<'a> {
    #[inline]
    pub(crate) fn of(raw: &'a [u8]) -> Properties<'a> {
        Properties { cursor: Cursor::new(raw) }
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    #[inline]
    fn next(&mut self) -> Option<Property<'a>> {
        let id = self.cursor.byte().ok()?;
        Property::read(id, &mut self.cursor).ok()
    }
}

/// Writes a property section: its length, then what `properties` puts out.
#[inline]
pub(crate) fn write_section<S: Sink>(out: &mut S, properties: &impl WriteProperties) {
    out.varint(sink::count(|count| properties.write_properties(count))); // [MQTT-2.2.2-1]
    properties.write_properties(out);
}

/// A packet part that has a property section.
pub(crate) trait WriteProperties {
    fn write_properties<S: Sink>(&self, out: &mut S);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_property_once_and_in_order() {
        assert_eq!(PROPERTIES.len(), 27);
        assert!(PROPERTIES.is_sorted_by_key(|row| row.id));
        for row in PROPERTIES {
            let repeats = [Place::Publish, Place::Subscribe, Place::Connect].map(|place| row.may_repeat_in(place));
            let expected = match row.id {
                0x26 => [true, true, true],
                0x0B => [true, false, false],
                _ => [false, false, false],
            };
            assert_eq!(repeats, expected, "{}", row.name);
            assert_eq!(row.allowed_in(Place::Unsubscribe), row.id == 0x26);
        }
    }
}
