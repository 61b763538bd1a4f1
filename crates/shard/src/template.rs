//! Names of topics with places for what a client is called: written in the settings, filled in for each client.

use std::fmt::Write as _;
use std::net::SocketAddr;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    ClientId,
    Username,
    Host,
    Port,
    /// What a group of an expression has matched.
    Group(usize),
}

/// A template, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

/// What a client is called.
pub(crate) struct Names<'a> {
    pub(crate) client_id: &'a str,
    /// Empty if it has none.
    pub(crate) username: &'a str,
    pub(crate) address: SocketAddr,
}

const PLACEHOLDERS: [(&str, Part); 7] = [
    ("%c", Part::ClientId),
    ("${clientid}", Part::ClientId),
    ("%u", Part::Username),
    ("${username}", Part::Username),
    ("%h", Part::Host),
    ("${host}", Part::Host),
    ("${port}", Part::Port),
];

/// The number behind a `$`, as `$1` or `${1}`, and how long it is written.
fn group(text: &str) -> Option<(usize, usize)> {
    let (open, rest) = match text.strip_prefix("${") {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('$')?),
    };
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 || (open && !rest[digits..].starts_with('}')) {
        return None;
    }
    // So many groups nobody has; the number only has to be told from those that exist.
    Some((rest[..digits].parse().unwrap_or(usize::MAX), text.len() - rest.len() + digits + usize::from(open)))
}

impl Template {
    /// Reads one. `groups`: how many the expression beside it has, if there is one.
    pub(crate) fn read(text: &str, groups: Option<usize>) -> Result<Self, String> {
        let (mut parts, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(first) = rest.chars().next() {
            let known = PLACEHOLDERS.iter().find(|(name, _)| rest.starts_with(name));
            let (part, length) = match (known, group(rest).filter(|_| groups.is_some())) {
                (Some((name, part)), _) => (part.clone(), name.len()),
                (None, Some((number, length))) => {
                    let most = groups.unwrap_or(0);
                    if !(1..=most).contains(&number) {
                        let written = &rest[..length];
                        return Err(format!(
                            "names {written}, but the expression has {most} groups in parentheses; digits behind a \
                             group are told apart by braces, as in ${{1}}0"
                        ));
                    }
                    (Part::Group(number), length)
                }
                (None, None) if rest.starts_with("${") => {
                    return Err(format!(
                        "has a placeholder that nobody knows; there are %c, ${{clientid}}, %u, ${{username}}, %h, ${{host}} \
                         and ${{port}}{}",
                        if groups.is_some() { ", and $1 for what the first group has matched" } else { "" }
                    ));
                }
                (None, None) => {
                    plain.push(first);
                    rest = &rest[first.len_utf8()..];
                    continue;
                }
            };
            if !plain.is_empty() {
                parts.push(Part::Text(std::mem::take(&mut plain).into()));
            }
            parts.push(part);
            rest = &rest[length..];
        }
        if !plain.is_empty() {
            parts.push(Part::Text(plain.into()));
        }
        Ok(Self(parts))
    }

    /// Appends the template as it is for a client. False: it can't be, and `out` holds only a part. A name that holds a
    /// separator or a wildcard would reach into the topics of others; `most` bounds `out`.
    pub(crate) fn fill<'a>(
        &self,
        names: &Names<'_>,
        group: impl Fn(usize) -> &'a str,
        most: usize,
        out: &mut String,
    ) -> bool {
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::ClientId | Part::Username => {
                    let name = if *part == Part::ClientId { names.client_id } else { names.username };
                    if name.is_empty() || name.contains(['+', '#', '/']) {
                        return false;
                    }
                    out.push_str(name);
                }
                Part::Host => {
                    let _ = write!(out, "{}", names.address.ip().to_canonical());
                }
                Part::Port => {
                    let _ = write!(out, "{}", names.address.port());
                }
                Part::Group(number) => out.push_str(group(*number)),
            }
            if out.len() > most {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, groups: Option<usize>, client_id: &str, username: &str) -> Option<String> {
        let template = Template::read(text, groups).expect("a template");
        let names = Names { client_id, username, address: ([192, 0, 2, 7], 1234).into() };
        let mut out = String::new();
        template.fill(&names, |number| ["", "one", "two"][number], 40, &mut out).then_some(out)
    }

    #[test]
    fn places_are_filled_in() {
        let cases = [
            ("a/b", "a/b"),
            ("%c/${clientid}/%u/${username}", "c/c/u/u"),
            ("%h/${host}/${port}", "192.0.2.7/192.0.2.7/1234"),
            ("$2/$1/${1}0", "two/one/one0"),
            ("$delayed/5/$1", "$delayed/5/one"),
            ("100%/$/ü%%c", "100%/$/ü%c"),
        ];
        for (template, wanted) in cases {
            assert_eq!(filled(template, Some(2), "c", "u").as_deref(), Some(wanted), "{template}");
        }
        assert_eq!(filled("$1", None, "c", "u").as_deref(), Some("$1"), "there is no expression");
    }

    #[test]
    fn names_that_reach_into_other_topics_are_not_filled_in() {
        for name in ["", "a/b", "+", "#", "a#"] {
            assert_eq!(filled("%c", None, name, "u"), None, "{name}");
            assert_eq!(filled("%u", None, "c", name), None, "{name}");
            assert!(filled("a", None, name, name).is_some());
        }
        assert_eq!(filled("%c%c", None, &"c".repeat(21), "u"), None, "too long");
    }

    #[test]
    fn places_for_what_is_not_there_are_faults() {
        for text in ["$3", "$0", "${3}", "$10", "${name}", "${", "$99999999999999999999"] {
            assert!(Template::read(text, Some(2)).is_err(), "{text}");
        }
    }
}
