//! Topic Filters: syntax, shared subscriptions, and the reference matcher.

/// A filter taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterKind<'a> {
    Plain(&'a str),
    /// `$share/group/filter`, or `$queue/filter` with the group "$queue".
    Shared {
        group: &'a str,
        filter: &'a str,
    },
}

/// Why a filter is not one; the answer in SUBACK is 0x8F (in 3.1.1 0x80).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FilterError {
    Empty,
    Nul,
    /// `#` not alone in its level, or not in the last one.
    MultiLevelWildcard,
    /// `+` not alone in its level.
    SingleLevelWildcard,
    /// A share name that is empty or holds `+`, `#` or `/`.
    ShareName,
    /// `$share/name` without a filter behind it.
    ShareWithoutFilter,
    /// A shared filter inside a shared filter.
    NestedShare,
}

/// The group of `$queue/filter`.
pub const QUEUE_GROUP: &str = "$queue";

/// Checks the syntax of a Topic Filter and takes a shared one apart.
pub fn parse_filter(filter: &str) -> Result<FilterKind<'_>, FilterError> {
    if let Some(inner) = filter.strip_prefix("$queue/") {
        return shared(QUEUE_GROUP, inner);
    }
    if let Some(behind) = filter.strip_prefix("$share/") {
        let Some((group, inner)) = behind.split_once('/') else {
            return Err(FilterError::ShareWithoutFilter); // [MQTT-4.8.2-2]
        };
        if group.is_empty() || group.contains(['+', '#', '\0']) {
            return Err(FilterError::ShareName); // [MQTT-4.8.2-1] [MQTT-4.8.2-2]
        }
        return shared(group, inner);
    }
    if filter == "$share" || filter == QUEUE_GROUP {
        return Err(FilterError::ShareWithoutFilter);
    }
    check_plain(filter)?;
    Ok(FilterKind::Plain(filter))
}

fn shared<'a>(group: &'a str, filter: &'a str) -> Result<FilterKind<'a>, FilterError> {
    if filter.is_empty() {
        return Err(FilterError::ShareWithoutFilter);
    }
    if ["$share", "$queue"].iter().any(|root| filter.split('/').next() == Some(root)) {
        return Err(FilterError::NestedShare);
    }
    check_plain(filter)?;
    Ok(FilterKind::Shared { group, filter })
}

fn check_plain(filter: &str) -> Result<(), FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty); // [MQTT-4.7.3-1] [MQTT3-4.7.3-1]
    }
    if filter.as_bytes().contains(&0) {
        return Err(FilterError::Nul); // [MQTT-4.7.3-2] [MQTT3-4.7.3-2]
    }
    let mut levels = filter.split('/');
    while let Some(level) = levels.next() {
        if level.contains('#') && (level != "#" || levels.next().is_some()) {
            return Err(FilterError::MultiLevelWildcard); // [MQTT-4.7.1-1] [MQTT3-4.7.1-2]
        }
        if level.contains('+') && level != "+" {
            return Err(FilterError::SingleLevelWildcard); // [MQTT-4.7.1-2] [MQTT3-4.7.1-3]
        }
    }
    Ok(())
}

/// What stands in front of a filter that a session wants for itself. No part of the specification.
const EXCLUSIVE: &str = "$exclusive/";

/// The filter behind `$exclusive/`; it is not checked.
#[must_use]
pub fn exclusive(filter: &str) -> Option<&str> {
    filter.strip_prefix(EXCLUSIVE)
}

/// Whether a checked filter (or the inner one of a shared filter) holds a wildcard.
#[inline]
#[must_use]
pub fn is_wildcard(filter: &str) -> bool {
    filter.bytes().any(|byte| byte == b'+' || byte == b'#')
}

/// Whether a plain filter matches a Topic Name. The yardstick for the router's faster ways; one pass, no recursion.
#[must_use]
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false; // [MQTT-4.7.2-1] [MQTT3-4.7.2-1]
    }
    let mut names = topic.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true; // the parent level too: "a/#" matches "a"
        }
        match names.next() {
            Some(name) if level == "+" || level == name => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_plain_shared_or_wrong() {
        let shared = |group, filter| Ok(FilterKind::Shared { group, filter });
        let cases = [
            ("a", Ok(FilterKind::Plain("a"))),
            ("/", Ok(FilterKind::Plain("/"))),
            ("#", Ok(FilterKind::Plain("#"))),
            ("+", Ok(FilterKind::Plain("+"))),
            ("+/+/#", Ok(FilterKind::Plain("+/+/#"))),
            ("a//+", Ok(FilterKind::Plain("a//+"))),
            ("$SYS/#", Ok(FilterKind::Plain("$SYS/#"))),
            ("$shared/g/f", Ok(FilterKind::Plain("$shared/g/f"))),
            ("$share/g/a/#", shared("g", "a/#")),
            ("$share/g//", shared("g", "/")),
            ("$share/g/$SYS/x", shared("g", "$SYS/x")),
            ("$queue/a", shared("$queue", "a")),
            ("", Err(FilterError::Empty)),
            ("a\0b", Err(FilterError::Nul)),
            ("a#", Err(FilterError::MultiLevelWildcard)),
            ("#/a", Err(FilterError::MultiLevelWildcard)),
            ("a/#/b", Err(FilterError::MultiLevelWildcard)),
            ("##", Err(FilterError::MultiLevelWildcard)),
            ("#/", Err(FilterError::MultiLevelWildcard)),
            ("a+", Err(FilterError::SingleLevelWildcard)),
            ("a/+b/c", Err(FilterError::SingleLevelWildcard)),
            ("++", Err(FilterError::SingleLevelWildcard)),
            ("+a/#", Err(FilterError::SingleLevelWildcard)),
        ];
        for (filter, expected) in cases {
            assert_eq!(parse_filter(filter), expected, "{filter:?}");
        }
    }

    #[test]
    fn filters_match_as_the_specification_shows() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("sport/#", "sports", false),
            ("#", "a/b", true),
            ("#", "/", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS", false),
            ("+/monitor/Clients", "$SYS/monitor/Clients", false),
            ("$SYS/#", "$SYS/", true),
            ("$SYS/monitor/+", "$SYS/monitor/Clients", true),
            ("a/+/c", "a/$x/c", true),
            ("a", "A", false),
            ("a/b", "a", false),
            ("a", "a/", false),
            ("a/+/#", "a", false),
            ("a/+/#", "a/b", true),
        ];
        for (filter, topic, expected) in cases {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }
}
