//! Other brokers' configuration files, read as they are.
//!
//! Text goes in; our own configuration comes out, and a remark for each line that has no place in it or says something else there.
//! Nothing is dropped in silence: [`Imported::fates`] says of every line what became of it.

mod ciphers;
mod detect;
mod draft;
mod emqx;
mod emqx4;
mod emqx5;
mod hocon;
mod mosquitto;
mod place;
mod written;

use std::fmt;

use toml_edit::DocumentMut;

pub use detect::{detect, is_toml};

/// A format of configuration files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own.
    Breakwater,
    /// EMQX 4: a line per key, `listener.ssl.external = 8883`.
    Emqx4,
    /// EMQX 5 and 6: HOCON, `listeners.ssl.default { bind = 8883 }`.
    Emqx5,
    /// Mosquitto: a line per option, `listener 8883`.
    Mosquitto,
}

impl Format {
    /// All of them, by the names that the command line knows.
    pub const ALL: [(&str, Self); 4] = [
        ("breakwater", Self::Breakwater),
        ("emqx4", Self::Emqx4),
        ("emqx5", Self::Emqx5),
        ("mosquitto", Self::Mosquitto),
    ];

    /// The name that the command line knows.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, format)| *format == self).map_or("", |(name, _)| name)
    }

    /// The program whose format it is.
    pub fn program(self) -> &'static str {
        match self {
            Self::Breakwater => "Breakwater",
            Self::Emqx4 => "EMQX 4",
            Self::Emqx5 => "EMQX 5",
            Self::Mosquitto => "Mosquitto",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

/// What was read, in our own words.
#[derive(Debug)]
pub struct Imported {
    /// Our configuration.
    pub toml: DocumentMut,
    /// What it doesn't say, or says differently; by file and line.
    pub remarks: Vec<Remark>,
    /// What became of each line of each file that was read, the first being the one that was asked for.
    pub fates: Vec<(Option<Box<str>>, Vec<Fate>)>,
}

/// A word to whoever moves: about one line of the file, or a few that stand together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remark {
    /// The file, if it is an included one.
    pub file: Option<Box<str>>,
    /// First line that it concerns, from 1; 0 for the whole file.
    pub line: u32,
    /// Last line that it concerns.
    pub last_line: u32,
    /// The key as it is written there.
    pub key: Box<str>,
    /// What about it, and what to do. Never holds a secret.
    pub text: String,
    /// How much it matters.
    pub severity: Severity,
}

/// How much a remark matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is in the result, but not word for word.
    Changed,
    /// It has no counterpart, and nothing is lost that clients would miss at once.
    NotMapped,
    /// Something has to be done by hand.
    Action,
}

impl Severity {
    /// In words.
    pub fn in_words(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::NotMapped => "not mapped",
            Self::Action => "to do",
        }
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{file}, ")?;
        }
        match (self.line, self.last_line) {
            (0, _) => {}
            (line, last) if last > line => write!(f, "lines {line} to {last}: ")?,
            (line, _) => write!(f, "line {line}: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}: {}", self.severity.in_words(), self.text)
    }
}

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Empty, or a comment.
    Blank,
    /// Holds others together: a brace, the name of a block.
    Structure,
    /// In the result.
    Mapped,
    /// Spoken of in a remark; it may be in the result all the same.
    Remarked,
    /// Nobody looked at it. Never in a result.
    Unread,
}

/// Where further files come from: what `include` and `include_dir` name. The caller decides what may be read.
pub trait Files {
    /// The text of a file.
    ///
    /// # Errors
    ///
    /// Says in a few words why it can't be had.
    fn read(&mut self, name: &str) -> Result<String, String>;

    /// Names of the files in a folder, such as [`Files::read`] takes them.
    ///
    /// # Errors
    ///
    /// Says in a few words why they can't be had.
    fn list(&mut self, folder: &str) -> Result<Vec<String>, String>;
}

/// No further files.
#[derive(Clone, Copy, Debug)]
pub struct Alone;

impl Files for Alone {
    fn read(&mut self, _name: &str) -> Result<String, String> {
        Err("other files are not read here".into())
    }

    fn list(&mut self, _folder: &str) -> Result<Vec<String>, String> {
        Err("other files are not read here".into())
    }
}

/// Bytes that are read at most, all files together. Real files have some 100 KB with their comments.
pub const BYTES_MAX: usize = 1 << 20;

/// Reads a file of another broker, and what it includes.
///
/// # Errors
///
/// The file as a whole can't be read: too large, or no file of that format. One line each.
pub fn import(format: Format, text: &str, files: &mut dyn Files) -> Result<Imported, Vec<String>> {
    if text.len() > BYTES_MAX {
        return Err(vec![format!(
            "{} bytes are too many for a configuration: at most {BYTES_MAX} are read",
            text.len()
        )]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut draft = draft::Draft::new(text);
    match format {
        Format::Breakwater => {
            return Err(vec!["this is a file of Breakwater's own; there is nothing to import".into()]);
        }
        Format::Emqx4 => emqx4::read(text, &mut draft),
        Format::Emqx5 => emqx5::read(text, files, &mut draft).map_err(|fault| vec![draft::clean(&fault, 600)])?,
        Format::Mosquitto => mosquitto::read(text, files, &mut draft),
    }
    Ok(draft.finish(format))
}

#[cfg(test)]
mod tests;
