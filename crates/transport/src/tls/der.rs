//! DER, as much as encrypted keys and OCSP need: one level at a time, definite lengths only.

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BITS: u8 = 0x03;
pub(crate) const OCTETS: u8 = 0x04;
pub(crate) const OID: u8 = 0x06;
pub(crate) const ENUMERATED: u8 = 0x0a;
pub(crate) const GENERALIZED_TIME: u8 = 0x18;
pub(crate) const SEQUENCE: u8 = 0x30;

/// Reads one value after the other.
#[derive(Clone, Copy)]
pub(crate) struct Der<'a>(pub(crate) &'a [u8]);

/// One value.
#[derive(Clone, Copy)]
pub(crate) struct Value<'a> {
    pub(crate) tag: u8,
    pub(crate) content: &'a [u8],
    /// With its tag and length.
    pub(crate) whole: &'a [u8],
}

impl<'a> Der<'a> {
    /// The next value, whatever it is.
    pub(crate) fn next(&mut self) -> Option<Value<'a>> {
        let (&tag, rest) = self.0.split_first()?;
        let (&short, rest) = rest.split_first()?;
        let (len, rest) = match short {
            0..=0x7f => (usize::from(short), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Value { tag, content, whole })
    }

    /// The content of the next value, if it has this tag; else nothing is taken.
    pub(crate) fn optional(&mut self, tag: u8) -> Option<&'a [u8]> {
        let before = self.0;
        match self.next() {
            Some(value) if value.tag == tag => Some(value.content),
            _ => {
                self.0 = before;
                None
            }
        }
    }

    /// The values in the next one, a SEQUENCE.
    pub(crate) fn sequence(&mut self) -> Option<Der<'a>> {
        self.optional(SEQUENCE).map(Der)
    }

    /// The next value, an INTEGER that is not negative and not huge.
    pub(crate) fn small_integer(&mut self) -> Option<u32> {
        let bytes = self.optional(INTEGER)?;
        let negative = bytes.first()? & 0x80 != 0;
        (!negative && bytes.len() <= 5).then_some(())?;
        let value = bytes.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
        u32::try_from(value).ok()
    }
}

/// `content` with tag and length in front.
pub(crate) fn encode(tag: u8, content: &[u8]) -> Vec<u8> {
    let len = content.len();
    let bytes = u32::try_from(len).expect("what is written here is short").to_be_bytes();
    let mut out = vec![tag];
    match bytes.iter().position(|byte| *byte != 0) {
        None => out.push(0),
        Some(3) if len < 0x80 => out.push(bytes[3]),
        Some(first) => {
            out.push(0x80 | (4 - first) as u8);
            out.extend_from_slice(&bytes[first..]);
        }
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_survive_being_written_and_read() {
        for len in [0, 1, 127, 128, 255, 256, 65_535, 65_536, 100_000] {
            let content = vec![7; len];
            let bytes = encode(OCTETS, &content);
            let mut der = Der(&bytes);
            assert!(der.optional(OCTETS) == Some(&content));
            assert!(der.0.is_empty());
            for cut in [0, 1, bytes.len() - 1] {
                assert!(Der(&bytes[..cut]).next().is_none());
            }
        }
    }

    #[test]
    fn what_is_not_der_is_nothing() {
        for bytes in [&[0x30, 0x80, 0, 0][..], &[0x30, 0x84, 0, 0, 0, 0], &[0x30, 0x82, 1], &[0x30]] {
            assert!(Der(bytes).next().is_none());
        }
        assert_eq!(Der(&[2, 1, 0x80]).small_integer(), None);
        assert_eq!(Der(&[2, 5, 0, 0xff, 0xff, 0xff, 0xff]).small_integer(), Some(u32::MAX));
        assert_eq!(Der(&[2, 5, 1, 0, 0, 0, 0]).small_integer(), None);
    }
}
