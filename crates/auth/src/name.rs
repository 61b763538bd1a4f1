//! What may be the name of a user.

/// Longest name of a user, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// Checks the name of a user: what can stand in a line of the users file and in a log without being taken for something
/// else. Answers what is wrong with it, as the end of a sentence.
pub fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("is empty");
    }
    if name.len() > NAME_BYTES_MAX {
        return Err("is longer than 256 bytes");
    }
    if name.contains(':') {
        return Err("holds a colon, which ends a name in the users file");
    }
    if name.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    if name.starts_with('#') {
        return Err("starts with #, as a comment does in the users file");
    }
    if name.trim() != name {
        return Err("starts or ends with a space");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_pass_for_something_else_are_refused() {
        for name in ["a", "pump 7", "jürgen", "a@b.example", "x/y", "0", &"n".repeat(256)] {
            assert_eq!(check_name(name), Ok(()), "{name:?}");
        }
        for name in ["", "a:b", "a\nb", "a\0", "a\u{7f}", "a\u{85}", "#a", " a", "a ", "\u{a0}a", &"n".repeat(257)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
