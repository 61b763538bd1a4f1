//! Mountpoints: clients of some listeners live below a prefix of their own, and don't see it.
//!
//! Inside the broker every topic and filter is whole. The prefix is put in front where a client names one, and taken off
//! where a packet is written to it ([`breakwater_session::Link`]). What does not begin with the prefix has no name for such
//! a client, and what begins with `$` below a prefix has none either: a wildcard at the front must not meet it
//! [MQTT-4.7.2-1]. Only the broker's own `$SYS` is the same for all.
//!
//! Names inside of properties, such as a response topic, are the clients' affair and stay as they are. Rules of
//! authorization see names as the client says them.

use std::borrow::Cow;

use breakwater_proto::{ReasonCode, TopicLimits, is_wildcard, topic};

use crate::publish::is_reserved;
use crate::shard::Shard;
use crate::sys::is_sys;

/// What a placeholder stands for.
#[derive(Clone, Copy)]
enum Part {
    ClientId,
    Username,
}

const PLACEHOLDERS: [(&str, Part); 4] =
    [("%c", Part::ClientId), ("${clientid}", Part::ClientId), ("%u", Part::Username), ("${username}", Part::Username)];

/// Why a mountpoint in the settings can't be one, and what to write instead; `None`: it can.
#[must_use]
pub fn mountpoint_fault(template: &str) -> Option<&'static str> {
    let mut rest = template;
    while let Some((at, text, _)) = next_placeholder(rest) {
        rest = &rest[at + text.len()..];
        if !rest.starts_with('/') {
            return Some(
                "a placeholder in a mountpoint is followed by '/', as in \"clients/%c/\": names would run together",
            );
        }
    }
    if template.contains(['+', '#', '\0']) {
        return Some("a mountpoint holds neither '+' nor '#': it is the front of a topic, such as \"site/\"");
    }
    if is_reserved(template) {
        return Some("a mountpoint does not begin with $SYS, $share or $queue: these belong to the broker");
    }
    let known = template.matches("${clientid}").count() + template.matches("${username}").count();
    if template.matches("${").count() > known {
        return Some("a mountpoint knows the placeholders %c, ${clientid}, %u and ${username}");
    }
    None
}

/// The first placeholder of a template: where it begins, its text, and what it stands for.
fn next_placeholder(template: &str) -> Option<(usize, &'static str, Part)> {
    PLACEHOLDERS.iter().filter_map(|(text, part)| Some((template.find(text)?, *text, *part))).min_by_key(|(at, ..)| *at)
}

/// The prefix of one client. `Err`: it can't have one, and is refused.
pub(crate) fn prefix(
    template: &str,
    client_id: &str,
    username: Option<&str>,
    limits: TopicLimits,
) -> Result<Option<Box<str>>, (ReasonCode, &'static str)> {
    if template.is_empty() {
        return Ok(None);
    }
    let (mut prefix, mut rest) = (String::with_capacity(template.len() + client_id.len()), template);
    while let Some((at, text, part)) = next_placeholder(rest) {
        prefix.push_str(&rest[..at]);
        rest = &rest[at + text.len()..];
        let (name, reason) = match part {
            Part::ClientId => (client_id, ReasonCode::ClientIdentifierNotValid),
            Part::Username => (username.unwrap_or_default(), ReasonCode::BadUserNameOrPassword),
        };
        if name.is_empty() {
            return Err((reason, "the mountpoint of the listener needs a name that the client has not given"));
        }
        if name.contains(['+', '#', '/']) {
            return Err((reason, "a name that goes into the mountpoint of the listener holds '+', '#' or '/'"));
        }
        prefix.push_str(name);
    }
    prefix.push_str(rest);
    if is_reserved(&prefix) {
        return Err((
            ReasonCode::NotAuthorized,
            "the mountpoint of the listener would lead into the broker's own topics",
        ));
    }
    if is_wildcard(&prefix) || !topic::within(&prefix, &limits) {
        return Err((ReasonCode::ImplementationSpecificError, "the mountpoint of the listener can't begin a topic"));
    }
    Ok(Some(prefix.into()))
}

/// Whether a topic that matched below a prefix of that length has a name for the client.
pub(crate) fn has_name(topic: &str, mount: u16) -> bool {
    is_sys(topic) || topic.as_bytes().get(usize::from(mount)).is_some_and(|first| *first != b'$')
}

/// Whether a client that has a mountpoint may not publish to this topic.
pub(crate) fn is_nameless(name: &str) -> bool {
    name.starts_with('$')
}

impl<T: Send> Shard<T> {
    /// The prefix of a session, empty for most.
    pub(crate) fn mount_of(&self, session: u32) -> &str {
        match self.sessions.get(session) {
            Some(resident) if resident.mount > 0 => self.mounts.get(&session).map_or("", |prefix| prefix),
            _ => "",
        }
    }

    /// A filter as the router knows it. `None`: it has no meaning below the client's prefix.
    pub(crate) fn mounted_filter<'a>(&self, session: u32, filter: &'a str) -> Option<Cow<'a, str>> {
        let prefix = self.mount_of(session);
        if prefix.is_empty() || is_sys(filter) {
            return Some(Cow::Borrowed(filter));
        }
        // Without a '/' in between a wildcard would not have its level for itself.
        if filter.starts_with('$') || (filter.starts_with(['+', '#']) && !prefix.ends_with('/')) {
            return None;
        }
        Some(Cow::Owned(format!("{prefix}{filter}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix_of(template: &str, client_id: &str, username: Option<&str>) -> Result<String, ReasonCode> {
        prefix(template, client_id, username, TopicLimits { bytes_max: 20, levels_max: 5 })
            .map(|prefix| prefix.map_or(String::new(), Into::into))
            .map_err(|(reason, _)| reason)
    }

    #[test]
    fn placeholders_become_the_clients_names() {
        let cases = [
            ("", "c", None, ""),
            ("site/", "c", None, "site/"),
            ("%c/", "c", None, "c/"),
            ("a/${clientid}/b/", "c", None, "a/c/b/"),
            ("%u/%c/", "c", Some("u"), "u/c/"),
            ("${username}/${clientid}", "c", Some("%c"), "%c/c"),
        ];
        for (template, client_id, username, wanted) in cases {
            assert_eq!(prefix_of(template, client_id, username).as_deref(), Ok(wanted), "{template}");
        }
    }

    #[test]
    fn names_that_would_break_out_of_the_mountpoint_are_refused() {
        for name in ["a/b", "+", "#", "a#", "/"] {
            assert_eq!(prefix_of("%c/", name, None), Err(ReasonCode::ClientIdentifierNotValid), "{name}");
            assert_eq!(prefix_of("%u/", "c", Some(name)), Err(ReasonCode::BadUserNameOrPassword), "{name}");
            assert!(prefix_of("site/", name, Some(name)).is_ok());
        }
        assert_eq!(prefix_of("%u/", "c", None), Err(ReasonCode::BadUserNameOrPassword));
        assert_eq!(prefix_of("%u/", "c", Some("")), Err(ReasonCode::BadUserNameOrPassword));
        for name in ["$SYS", "$share", "$queue"] {
            assert_eq!(prefix_of("%c/", name, None), Err(ReasonCode::NotAuthorized), "{name}");
        }
        assert_eq!(prefix_of("%c/", "a-name-of-21-characters", None), Err(ReasonCode::ImplementationSpecificError));
        assert_eq!(prefix_of("a/+/", "c", None), Err(ReasonCode::ImplementationSpecificError));
    }

    #[test]
    fn mountpoints_in_settings_are_checked() {
        for good in ["", "site/", "site", "%c/", "a/%u/%c/b/", "${username}/x/", "/", "100%/"] {
            assert_eq!(mountpoint_fault(good), None, "{good}");
        }
        for bad in ["%c", "%c%u/", "a/%u", "a/+/", "#", "$SYS/", "$share/g/", "${host}/", "%cc/"] {
            assert!(mountpoint_fault(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn only_what_lies_below_the_prefix_has_a_name() {
        for (topic, named) in [("p/a", true), ("p/", false), ("p", false), ("p/$a", false), ("p//", true)] {
            assert_eq!(has_name(topic, 2), named, "{topic}");
        }
        assert!(has_name("$SYS/broker", 2) && !has_name("$SYSTEM", 20));
    }
}
