//! Characters of a HOCON text: spaces, comments, quoted and bare words, and the line each stands in.

/// Where the reading of one file stands.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    pub(super) text: &'a str,
    pub(super) at: usize,
    pub(super) line: u32,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, line: 1 }
    }

    pub(super) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn starts(&self, with: &str) -> bool {
        self.rest().starts_with(with)
    }

    /// Goes on by so many bytes, which end a character.
    pub(super) fn advance(&mut self, bytes: usize) -> &'a str {
        let taken = &self.text[self.at..self.at + bytes];
        self.line += u32::try_from(taken.bytes().filter(|byte| *byte == b'\n').count()).unwrap_or(0);
        self.at += bytes;
        taken
    }

    /// Goes on over the word, if it stands here.
    pub(super) fn take(&mut self, word: &str) -> bool {
        let here = self.starts(word);
        if here {
            self.advance(word.len());
        }
        here
    }

    /// Spaces of one line.
    pub(super) fn spaces(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| !is_space(c)).unwrap_or(rest.len());
        self.advance(end)
    }

    /// Whether a comment starts here.
    pub(super) fn comment(&self) -> bool {
        self.starts("#") || self.starts("//")
    }

    /// The rest of the line.
    pub(super) fn skip_line(&mut self) {
        let rest = self.rest();
        self.advance(rest.find('\n').unwrap_or(rest.len()));
    }

    /// Spaces, line ends, comments, and commas if they are wanted.
    pub(super) fn between(&mut self, commas: bool) {
        loop {
            self.spaces();
            match self.peek() {
                Some('\n') => {
                    self.advance(1);
                }
                Some(',') if commas => {
                    self.advance(1);
                }
                Some(_) if self.comment() => self.skip_line(),
                _ => return,
            }
        }
    }

    /// A text in quotes, one or three; the cursor stands at the first.
    pub(super) fn quoted(&mut self) -> Result<String, String> {
        if self.starts("\"\"\"") {
            return self.long_text();
        }
        let line = self.line;
        self.advance(1);
        let mut text = String::new();
        loop {
            let Some(c) = self.peek() else { return Err(format!("line {line}: a quote is opened and never closed")) };
            match c {
                '"' => {
                    self.advance(1);
                    return Ok(text);
                }
                '\n' => return Err(format!("line {line}: a quote is opened and not closed in its line")),
                '\\' => {
                    self.advance(1);
                    text.push(self.escaped()?);
                }
                c => {
                    self.advance(c.len_utf8());
                    text.push(c);
                }
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let fault =
            Err(format!("line {}: a backslash in quotes stands before n, r, t, b, f, u, /, \\ or \"", self.line));
        let Some(c) = self.peek() else { return fault };
        self.advance(c.len_utf8());
        Ok(match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'b' => '\u{8}',
            'f' => '\u{c}',
            '"' | '\\' | '/' => c,
            'u' => {
                let Some(code) = self.rest().get(..4).and_then(|hex| u32::from_str_radix(hex, 16).ok()) else {
                    return fault;
                };
                self.advance(4);
                char::from_u32(code).unwrap_or('\u{fffd}')
            }
            _ => return fault,
        })
    }

    /// Three quotes: as it is, over several lines. A tilde behind them means that the indentation does not belong to the text.
    fn long_text(&mut self) -> Result<String, String> {
        let line = self.line;
        self.advance(3);
        let rest = self.rest();
        let Some(mut end) = rest.find("\"\"\"") else {
            return Err(format!("line {line}: three quotes are opened and never closed"));
        };
        // Of more than three quotes at the end, the first ones belong to the text.
        while rest[end + 3..].starts_with('"') {
            end += 1;
        }
        let text = self.advance(end);
        self.advance(3);
        Ok(match text.strip_prefix('~') {
            Some(block) => outdented(block),
            None => text.to_owned(),
        })
    }

    /// A word without quotes in a value: up to a space, a line end, or what has a meaning of its own.
    pub(super) fn bare(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| is_space(c) || matches!(c, '\n' | ',' | '{' | '}' | '[' | ']' | '"' | '#'));
        let end = end.unwrap_or(rest.len());
        // The brace of a reference is among those, its dollar is not.
        let end = if rest[end..].starts_with('{') && rest[..end].ends_with('$') { end - 1 } else { end };
        self.advance(end)
    }

    /// A part of a path without quotes.
    pub(super) fn bare_key(&mut self) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c: char| {
            is_space(c) || matches!(c, '\n' | '.' | '=' | ':' | ',' | '{' | '}' | '[' | ']' | '"' | '#' | '+' | '$')
        });
        self.advance(end.unwrap_or(rest.len()))
    }
}

fn is_space(c: char) -> bool {
    c != '\n' && (c.is_whitespace() || c == '\u{feff}')
}

fn outdented(block: &str) -> String {
    let block = block.strip_suffix('~').unwrap_or(block);
    let block = block.strip_prefix("\r\n").or_else(|| block.strip_prefix('\n')).unwrap_or(block);
    let lines: Vec<&str> = block.lines().collect();
    let indent = |line: &&str| line.len() - line.trim_start_matches(' ').len();
    let least = lines.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    let mut text = String::new();
    for (at, line) in lines.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        text.push_str(line.get(least..).unwrap_or_default());
    }
    text
}
