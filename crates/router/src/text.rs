//! Texts that are stored by the million.

/// A text that lies inline up to `ROOM` bytes (at most 255): no allocation, and no cache miss of its own when compared.
pub(crate) enum Text<const ROOM: usize> {
    Inline { len: u8, bytes: [u8; ROOM] },
    Heap(Box<str>),
}

impl<const ROOM: usize> Text<ROOM> {
    pub(crate) fn new(text: &str) -> Self {
        match u8::try_from(text.len()) {
            Ok(len) if text.len() <= ROOM => {
                let mut bytes = [0; ROOM];
                bytes[..text.len()].copy_from_slice(text.as_bytes());
                Self::Inline { len, bytes }
            }
            _ => Self::Heap(text.into()),
        }
    }

    #[inline]
    pub(crate) fn is(&self, text: &str) -> bool {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)) == Some(text.as_bytes()),
            Self::Heap(own) => **own == *text,
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Inline { len, bytes } => {
                str::from_utf8(&bytes[..usize::from(*len)]).expect("made of a whole text, and not changed since")
            }
            Self::Heap(own) => own,
        }
    }
}

impl<const ROOM: usize> Default for Text<ROOM> {
    fn default() -> Self {
        Self::Inline { len: 0, bytes: [0; ROOM] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_itself_inline_and_on_the_heap() {
        for length in [0, 1, 21, 22, 23, 255, 256, 300] {
            let text = "ä".repeat(length / 2) + if length % 2 == 1 { "x" } else { "" };
            let own = Text::<22>::new(&text);
            assert_eq!(matches!(own, Text::Inline { .. }), length <= 22);
            assert_eq!(own.as_str(), text);
            assert!(own.is(&text) && !own.is(&(text + "y")));
        }
    }

    #[test]
    fn tag_and_length_take_two_bytes() {
        assert_eq!(size_of::<Text<22>>(), 24);
        assert_eq!(size_of::<Text<38>>(), 40);
    }
}
