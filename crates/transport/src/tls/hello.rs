//! What a ClientHello says that rustls' unbuffered connection does not tell: for the log and for what a client asked for.

/// Read from the first record of a connection. A hello that is spread over records tells nothing here: the handshake does
/// not depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hello {
    /// The name that the client asked for: letters, digits, `-`, `.` and `_` only.
    pub(crate) server_name: Option<Box<str>>,
    /// Newest version that it offers.
    pub(crate) newest: u16,
    /// Protocols that it offers, readable.
    pub(crate) alpn: Box<str>,
}

const EXTENSION_SERVER_NAME: u16 = 0;
const EXTENSION_ALPN: u16 = 16;
const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;
/// Bytes of offered protocols that are worth a log line.
const ALPN_TEXT_MAX: usize = 96;

impl Hello {
    /// Reads a whole record that begins with a ClientHello. `None`: there is none, or not all of it.
    pub(crate) fn read(record: &[u8]) -> Option<Self> {
        let mut reader = Reader(record);
        if reader.u8()? != 0x16 {
            return None;
        }
        reader.u16()?;
        let mut body = reader.nested16()?;
        if body.u8()? != 1 {
            return None;
        }
        let len = usize::from(body.u8()?) << 16 | usize::from(body.u16()?);
        let mut hello = Reader(body.take(len)?);
        let mut found = Self { newest: hello.u16()?, ..Self::default() };
        hello.take(32)?;
        hello.nested8()?;
        hello.nested16()?;
        hello.nested8()?;
        let Some(mut extensions) = hello.nested16() else { return Some(found) };
        while let Some(kind) = extensions.u16() {
            let content = extensions.nested16()?;
            match kind {
                EXTENSION_SERVER_NAME => found.server_name = server_name(content),
                EXTENSION_ALPN => found.alpn = protocols(content).unwrap_or_default(),
                EXTENSION_SUPPORTED_VERSIONS => found.newest = newest(content).unwrap_or(found.newest),
                _ => {}
            }
        }
        Some(found)
    }
}

fn server_name(mut content: Reader<'_>) -> Option<Box<str>> {
    let mut names = content.nested16()?;
    while let Some(kind) = names.u8() {
        let name = names.nested16()?.0;
        let clean = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        if kind == 0 && (1..=253).contains(&name.len()) && name.iter().all(clean) {
            return std::str::from_utf8(name).ok().map(|name| name.to_ascii_lowercase().into());
        }
    }
    None
}

fn protocols(mut content: Reader<'_>) -> Option<Box<str>> {
    let mut names = content.nested16()?;
    let mut text = String::new();
    while let Some(name) = names.nested8() {
        if text.len() + name.0.len() > ALPN_TEXT_MAX {
            text.push_str(", …");
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.extend(name.0.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }));
    }
    Some(text.into())
}

fn newest(mut content: Reader<'_>) -> Option<u16> {
    let mut versions = content.nested8()?;
    let mut newest = None;
    while let Some(version) = versions.u16() {
        // GREASE values are noise on purpose (RFC 8701).
        if version & 0x0f0f != 0x0a0a {
            newest = newest.max(Some(version));
        }
    }
    newest
}

/// Takes apart what may end anywhere.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn nested8(&mut self) -> Option<Self> {
        let len = self.u8()?;
        self.take(len.into()).map(Self)
    }

    fn nested16(&mut self) -> Option<Self> {
        let len = self.u16()?;
        self.take(len.into()).map(Self)
    }
}
