//! A small notation for packets: hex bytes, `'text'` for a string with its two-byte length, `{ … }` for a part with its
//! variable byte length in front.

/// A whole packet: first byte, remaining length, body.
pub(crate) fn packet(first: u8, body: &str) -> Vec<u8> {
    let body = bytes(body);
    let mut out = vec![first];
    varint(body.len(), &mut out);
    out.extend_from_slice(&body);
    out
}

pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut rest = text.chars().peekable();
    let out = part(&mut rest);
    assert_eq!(rest.next(), None, "unbalanced brace in {text}");
    out
}

fn part(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(&c) = rest.peek() {
        if c == '}' {
            break;
        }
        rest.next();
        match c {
            ' ' | '\n' => {}
            '\'' => {
                let text: String = rest.by_ref().take_while(|c| *c != '\'').collect();
                out.extend_from_slice(&(text.len() as u16).to_be_bytes());
                out.extend_from_slice(text.as_bytes());
            }
            '{' => {
                let inner = part(rest);
                assert_eq!(rest.next(), Some('}'));
                varint(inner.len(), &mut out);
                out.extend_from_slice(&inner);
            }
            high => {
                let low = rest.next().expect("hex digits come in pairs");
                out.push(u8::from_str_radix(&format!("{high}{low}"), 16).expect("a hex byte"));
            }
        }
    }
    out
}

pub(crate) fn varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
