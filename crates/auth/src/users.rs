//! The users file: who has a name here, as lines that people can read.
//!
//! ```text
//! breakwater-users 1
//! # the pumps in hall 2
//! pump-7:$argon2id$v=19$m=19456,t=2,p=1$…$…::2026-01-31T12:00:00Z
//! alice:$argon2id$v=19$m=19456,t=2,p=1$…$…:superuser:2026-01-31T12:00:00Z
//! ```
//!
//! The first line that is neither empty nor a comment (`#`) names the format and its version. Then a line for each user, in
//! four fields with colons between: its name, its hashed password ([`PasswordHash`]), its flags with commas between
//! (`superuser`, `disabled`, or nothing), and when it was added. The file is UTF-8 with Unix line ends, and its last line has
//! one too: a file that was cut off is not taken for a whole one. What can't be read is a fault with its line, and a file with
//! a fault is not used at all.

mod file;
mod import;

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr as _;

use crate::date;
use crate::hash::PasswordHash;
use crate::name::check_name;

pub(crate) use file::Stamp;
pub use file::{FileFault, UsersFile};
pub use import::{Imported, import};

/// First line of the format.
const HEADER: &str = "breakwater-users 1";

/// Largest file, in bytes: some hundred thousand users.
pub const FILE_BYTES_MAX: usize = 64 << 20;

/// Longest line, in bytes: what the longest name and the longest hash need, and room for a comment.
const LINE_BYTES_MAX: usize = 1024;

/// Faults that are told of one file.
const FAULTS_MAX: usize = 20;

/// One user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Password.
    pub password: PasswordHash,
    /// May do everything.
    pub superuser: bool,
    /// Is not let in.
    pub disabled: bool,
    /// When it was added, in seconds of Unix time.
    pub created_s: u64,
}

impl User {
    /// When it was added, as the file has it.
    #[must_use]
    pub fn created(&self) -> String {
        date::written(self.created_s)
    }
}

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// Number of the line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub text: String,
}

impl fmt::Display for LineFault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "line {}: {}", self.line, self.text)
    }
}

/// A users file in memory, with its comments and the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    lines: Vec<Line>,
    by_name: HashMap<Box<str>, User>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Line {
    /// A comment, an empty line or the header.
    Kept(Box<str>),
    User(Box<str>),
}

impl Users {
    /// Reads a file; at most 20 faults at once.
    pub fn parse(bytes: &[u8]) -> Result<Self, Vec<LineFault>> {
        if bytes.len() > FILE_BYTES_MAX {
            return Err(vec![LineFault { line: 1, text: "the file is larger than 64 MiB".into() }]);
        }
        let (mut users, mut faults, mut headed) = (Self::default(), Vec::new(), false);
        let mut last = 0;
        for (at, bytes) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
            last = at + 1;
            match line_in(bytes).and_then(|line| users.take_in(line, &mut headed)) {
                Ok(()) => {}
                Err(_) if faults.len() == FAULTS_MAX => break,
                Err(text) => faults.push(LineFault { line: last, text }),
            }
        }
        if !headed && faults.is_empty() {
            let text = format!("the file should start with `{HEADER}`; it may be cut off, or no users file");
            faults.push(LineFault { line: last.max(1), text });
        }
        if faults.is_empty() { Ok(users) } else { Err(faults) }
    }

    /// Takes in the next line.
    fn take_in(&mut self, line: &str, headed: &mut bool) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            self.lines.push(Line::Kept(line.into()));
            return Ok(());
        }
        if !*headed {
            *headed = true;
            self.lines.push(Line::Kept(line.into()));
            return if line == HEADER { Ok(()) } else { Err(format!("should be `{HEADER}`")) };
        }
        let (name, user) = user_in(line)?;
        if self.by_name.insert(name.into(), user).is_some() {
            return Err(format!("user {name:?} has a line above already"));
        }
        self.lines.push(Line::User(name.into()));
        Ok(())
    }

    /// A user.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// All of them, in the order of their lines.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &User)> {
        self.lines.iter().filter_map(|line| match line {
            Line::User(name) => self.by_name.get_key_value(name).map(|(name, user)| (&**name, user)),
            Line::Kept(_) => None,
        })
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Nobody has a name.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Enters a user, or changes it where it stands.
    pub fn set(&mut self, name: &str, user: User) {
        if self.by_name.insert(name.into(), user).is_none() {
            self.lines.push(Line::User(name.into()));
        }
    }

    /// Strikes a user off.
    pub fn remove(&mut self, name: &str) -> Option<User> {
        let user = self.by_name.remove(name)?;
        self.lines.retain(|line| !matches!(line, Line::User(other) if **other == *name));
        Some(user)
    }

    /// The file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let headed = self.lines.iter().any(|line| matches!(line, Line::Kept(line) if **line == *HEADER));
        if !headed {
            text.push_str(HEADER);
            text.push_str("\n# name:password:flags:created; written by `breakwater users`\n");
        }
        for line in &self.lines {
            match line {
                Line::Kept(line) => text.push_str(line),
                Line::User(name) => {
                    let Some(user) = self.by_name.get(name) else { continue };
                    write_user(&mut text, name, user);
                }
            }
            text.push('\n');
        }
        text
    }
}

fn write_user(text: &mut String, name: &str, user: &User) {
    let flags = [(user.superuser, "superuser"), (user.disabled, "disabled")];
    let flags: Vec<&str> = flags.into_iter().filter_map(|(set, flag)| set.then_some(flag)).collect();
    for (at, field) in [name, &user.password.to_string(), &flags.join(","), &user.created()].into_iter().enumerate() {
        if at > 0 {
            text.push(':');
        }
        text.push_str(field);
    }
}

/// One line without its end.
fn line_in(bytes: &[u8]) -> Result<&str, String> {
    let Some(bytes) = bytes.strip_suffix(b"\n") else {
        return Err("has no end: the file may be cut off; end it with a line feed if it is not".into());
    };
    if bytes.len() > LINE_BYTES_MAX {
        return Err(format!("is longer than {LINE_BYTES_MAX} bytes"));
    }
    let line = str::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    if line.ends_with('\r') {
        return Err("ends in a carriage return: save the file with Unix line ends".into());
    }
    if line.chars().any(|char| char.is_control() && char != '\t') {
        return Err("holds a control character".into());
    }
    Ok(line)
}

fn user_in(line: &str) -> Result<(&str, User), String> {
    let mut fields = line.splitn(4, ':');
    let (Some(name), Some(password), Some(flags), Some(created)) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Err("should have four fields: name:password:flags:created".into());
    };
    check_name(name).map_err(|fault| format!("the name {fault}"))?;
    let password = PasswordHash::from_str(password).map_err(|fault| format!("the password {fault}"))?;
    let created_s = date::read(created).ok_or("the time should be written as 2026-01-31T12:00:00Z")?;
    let mut user = User { password, superuser: false, disabled: false, created_s };
    for flag in flags.split(',').filter(|_| !flags.is_empty()) {
        match flag {
            "superuser" if !user.superuser => user.superuser = true,
            "disabled" if !user.disabled => user.disabled = true,
            _ => return Err("the flags should be `superuser`, `disabled`, both with a comma between, or none".into()),
        }
    }
    Ok((name, user))
}

#[cfg(test)]
mod tests;
