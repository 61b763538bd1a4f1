//! Checks that bytes are one JSON value (RFC 8259) and copies it without blanks, or laid out for people. Numbers and
//! strings are copied as they stand, so nothing is rounded.

use super::new_line;

/// Deeper values are refused: a payload can't make the printer run out of stack.
const DEPTH_MAX: usize = 128;

/// Appends the value, or gives `None` when there is none.
pub(super) fn write(bytes: &[u8], pretty: bool, depth: usize, out: &mut Vec<u8>) -> Option<()> {
    std::str::from_utf8(bytes).ok()?;
    let mut copier = Copier { bytes, at: 0, pretty, depth, limit: depth + DEPTH_MAX, out };
    copier.value()?;
    copier.blanks();
    (copier.at == bytes.len()).then_some(())
}

struct Copier<'a> {
    bytes: &'a [u8],
    at: usize,
    pretty: bool,
    depth: usize,
    limit: usize,
    out: &'a mut Vec<u8>,
}

impl Copier<'_> {
    fn value(&mut self) -> Option<()> {
        self.blanks();
        match self.peek()? {
            b'{' => self.list(b'}', Self::member),
            b'[' => self.list(b']', Self::value),
            b'"' => self.string(),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => None,
        }
    }

    fn list(&mut self, end: u8, item: fn(&mut Self) -> Option<()>) -> Option<()> {
        if self.depth >= self.limit {
            return None;
        }
        self.copy(1);
        self.depth += 1;
        self.blanks();
        if self.peek()? != end {
            loop {
                if self.pretty {
                    new_line(self.depth, self.out);
                }
                item(self)?;
                self.blanks();
                match self.peek()? {
                    b',' => self.copy(1),
                    other if other == end => break,
                    _ => return None,
                }
            }
            if self.pretty {
                new_line(self.depth - 1, self.out);
            }
        }
        self.depth -= 1;
        self.copy(1);
        Some(())
    }

    fn member(&mut self) -> Option<()> {
        self.blanks();
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        self.blanks();
        if self.peek()? != b':' {
            return None;
        }
        self.copy(1);
        if self.pretty {
            self.out.push(b' ');
        }
        self.value()
    }

    fn string(&mut self) -> Option<()> {
        let start = self.at;
        self.at += 1;
        loop {
            match self.take()? {
                b'"' => break,
                b'\\' => match self.take()? {
                    b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => {}
                    b'u' => {
                        for _ in 0..4 {
                            self.take().filter(u8::is_ascii_hexdigit)?;
                        }
                    }
                    _ => return None,
                },
                0..=0x1f => return None,
                _ => {}
            }
        }
        self.out.extend_from_slice(&self.bytes[start..self.at]);
        Some(())
    }

    fn number(&mut self) -> Option<()> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.take()? {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.take().filter(u8::is_ascii_digit)?;
            self.digits();
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.take().filter(u8::is_ascii_digit)?;
            self.digits();
        }
        self.out.extend_from_slice(&self.bytes[start..self.at]);
        Some(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        if !self.bytes[self.at..].starts_with(word) {
            return None;
        }
        self.copy(word.len());
        Some(())
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Some(byte)
    }

    fn copy(&mut self, count: usize) {
        self.out.extend_from_slice(&self.bytes[self.at..self.at + count]);
        self.at += count;
    }
}
