//! Packets by hand, for what no well-behaved encoder would write.

use breakwater_proto::Version;

/// A packet: first byte, remaining length, body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    let mut rest = body.len();
    loop {
        let low = (rest % 128) as u8;
        rest /= 128;
        out.push(if rest > 0 { low | 0x80 } else { low });
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(body);
    out
}

/// A string or binary field: two bytes of length, then the bytes, whatever they are.
pub(crate) fn field(bytes: &[u8]) -> Vec<u8> {
    let mut out = u16::try_from(bytes.len()).expect("short").to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// Fields in a row.
pub(crate) fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// "No properties", where the version has properties at all.
pub(crate) fn no_properties(version: Version) -> &'static [u8] {
    if version.is_v5() { &[0] } else { &[] }
}

/// The variable header of a CONNECT without properties, up to the payload; keep-alive 0.
pub(crate) fn connect_header(version: Version, flags: u8) -> Vec<u8> {
    let name: &[u8] = if version == Version::V31 { b"MQIsdp" } else { b"MQTT" };
    join(&[&field(name), &[version as u8, flags, 0, 0], no_properties(version)])
}

/// A CONNECT by its flags and the fields of its payload.
pub(crate) fn connect(version: Version, flags: u8, payload: &[&[u8]]) -> Vec<u8> {
    let fields: Vec<Vec<u8>> = payload.iter().map(|bytes| field(bytes)).collect();
    packet(0x10, &join(&[&connect_header(version, flags), &fields.concat()]))
}

/// A PUBLISH without properties; `id` is left out with QoS 0.
pub(crate) fn publish(version: Version, first: u8, topic: &[u8], id: u16, payload: &[u8]) -> Vec<u8> {
    let id = if first & 6 == 0 { Vec::new() } else { id.to_be_bytes().to_vec() };
    packet(first, &join(&[&field(topic), &id, no_properties(version), payload]))
}

/// A PUBLISH of QoS 0 with these encoded properties (5.0).
pub(crate) fn publish_with(topic: &[u8], properties: &[u8], payload: &[u8]) -> Vec<u8> {
    packet(0x30, &join(&[&field(topic), &section(properties), payload]))
}

/// A property section: its length and the properties.
pub(crate) fn section(properties: &[u8]) -> Vec<u8> {
    packet(0, properties)[1..].to_vec()
}

/// A SUBSCRIBE to one filter.
pub(crate) fn subscribe(version: Version, id: u16, filter: &[u8], options: u8) -> Vec<u8> {
    packet(0x82, &join(&[&id.to_be_bytes(), no_properties(version), &field(filter), &[options]]))
}

/// An UNSUBSCRIBE from one filter.
pub(crate) fn unsubscribe(version: Version, id: u16, filter: &[u8]) -> Vec<u8> {
    packet(0xA2, &join(&[&id.to_be_bytes(), no_properties(version), &field(filter)]))
}

/// A User Property, encoded.
pub(crate) fn user_property(name: &[u8], value: &[u8]) -> Vec<u8> {
    join(&[&[0x26], &field(name), &field(value)])
}
