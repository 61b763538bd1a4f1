//! Text of strangers in our lines: nothing of it may move a cursor, colour a terminal or begin a new line.

use std::fmt::Write as _;

/// Appends a string in quotes that JSON readers understand, with everything that can't be seen escaped.
pub(super) fn quoted(out: &mut String, text: &str) {
    out.push('"');
    // Nearly every name is plain, and lines come in storms.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        out.push_str(text);
        out.push('"');
        return;
    }
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(character),
            _ if is_hidden(character) => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

/// Control characters, and those that turn the direction of text or can't be seen.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff0}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}'
            | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn nothing_that_cannot_be_seen_gets_through() {
        for (text, expected) in [
            ("sensor-1", r#""sensor-1""#),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("\u{1b}[31mred\u{7}", r#""\u001b[31mred\u0007""#),
            ("a\r\nINFO fake", r#""a\r\nINFO fake""#),
            ("\u{9b}2J\u{202e}\u{7f}", r#""\u009b2J\u202e\u007f""#),
            ("Zürich 温度", r#""Zürich 温度""#),
            ("\u{e0041}", r#""\udb40\udc41""#),
        ] {
            let mut out = String::new();
            quoted(&mut out, text);
            assert_eq!(out, expected);
        }
    }
}
