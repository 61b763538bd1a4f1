//! Values as the other brokers write them.

use super::draft::Amount;

/// Reads one kind of value.
pub(super) type Reader = fn(&str) -> Option<Amount>;

/// `on`, `true`, `yes` and their opposites, in any case.
pub(super) fn flag(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "enable" | "enabled" => Some(true),
        "false" | "off" | "no" | "disable" | "disabled" => Some(false),
        _ => None,
    }
}

fn unlimited(text: &str) -> bool {
    matches!(text.to_ascii_lowercase().as_str(), "infinity" | "unlimited" | "never")
}

/// A plain number, or `infinity`.
pub(super) fn count(text: &str) -> Option<Amount> {
    let text = text.trim();
    if unlimited(text) { Some(Amount::Unlimited) } else { digits(text).map(Amount::Number) }
}

/// The same, where 0 is another word for no bound.
pub(super) fn count_or_zero(text: &str) -> Option<Amount> {
    count(text).map(|amount| if amount == Amount::Number(0) { Amount::Unlimited } else { amount })
}

/// `1MB`, `100KB`, `64kb`, plain bytes, or `infinity`.
pub(super) fn size(text: &str) -> Option<Amount> {
    let text = text.trim();
    if unlimited(text) { Some(Amount::Unlimited) } else { bytes(text).map(Amount::Number) }
}

/// `15s`, `1h30m`, `1w`, or `infinity`; a plain number counts in seconds.
pub(super) fn seconds(text: &str) -> Option<Amount> {
    span(text, 1000)
}

/// The same; a plain number counts in milliseconds.
pub(super) fn millis(text: &str) -> Option<Amount> {
    span(text, 1)
}

fn span(text: &str, plain_ms: u64) -> Option<Amount> {
    let text = text.trim();
    if unlimited(text) {
        return Some(Amount::Unlimited);
    }
    match digits(text) {
        Some(number) => number.checked_mul(plain_ms).map(Amount::Number),
        None => duration(text).map(Amount::Number),
    }
}

/// Milliseconds of `15s`, `1h30m`, `500ms`, `1w`.
pub(super) fn duration(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let (mut rest, mut total) = (text.as_str(), 0_u64);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(end);
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let factor: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 7 * 86_400_000,
            "f" => 14 * 86_400_000,
            _ => return None,
        };
        total = total.checked_add(digits(number)?.checked_mul(factor)?)?;
        rest = tail.trim_start();
    }
    (!text.is_empty()).then_some(total)
}

/// Bytes of `1MB`, `100KB`, `64kb`, `12`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" | "k" => 1 << 10,
        "mb" | "m" => 1 << 20,
        "gb" | "g" => 1 << 30,
        _ => return None,
    };
    digits(number)?.checked_mul(factor)
}

/// Digits and nothing else.
pub(super) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

/// So many per so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// Items or bytes.
    pub(super) amount: u64,
    /// Over so many milliseconds; not 0.
    pub(super) window_ms: u64,
}

impl Rate {
    /// Per second, rounded up: a rate of little is not none.
    pub(super) fn per_second(self) -> u64 {
        let exact = (u128::from(self.amount) * 1000).div_ceil(u128::from(self.window_ms));
        u64::try_from(exact).unwrap_or(u64::MAX)
    }

    /// What passes at once after a pause, if it is more than that.
    pub(super) fn burst(self) -> Option<u64> {
        (self.amount > self.per_second()).then_some(self.amount)
    }
}

/// `100,10s`, `100KB,10s`, `1000/s`, `1MB/10s`, `1000`. The inner `None` is no bound.
pub(super) fn rate(text: &str) -> Option<Option<Rate>> {
    let text = text.trim();
    if unlimited(text) {
        return Some(None);
    }
    let (amount, window) = text.split_once([',', '/']).unwrap_or((text, "1s"));
    let window = window.trim();
    let window_ms = match digits(window) {
        Some(seconds) => seconds.checked_mul(1000)?,
        None if window.starts_with(|c: char| c.is_ascii_digit()) => duration(window)?,
        None => duration(&format!("1{window}"))?,
    };
    let amount = bytes(amount)?;
    if amount == 0 {
        return Some(None);
    }
    (window_ms > 0).then_some(Some(Rate { amount, window_ms }))
}

/// Bytes as our file writes them.
pub(super) fn size_text(bytes: u64) -> String {
    for (unit, factor) in [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10)] {
        if bytes >= factor && bytes.is_multiple_of(factor) {
            return format!("{}{unit}", bytes / factor);
        }
    }
    format!("{bytes}B")
}

/// Milliseconds as our file writes them.
pub(super) fn span_text(ms: u64) -> String {
    for (unit, factor) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)] {
        if ms >= factor && ms.is_multiple_of(factor) {
            return format!("{}{unit}", ms / factor);
        }
    }
    format!("{ms}ms")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_in_emqx_spelling() {
        for (text, ms) in [
            ("15s", 15_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("500ms", 500),
            ("1w", 604_800_000),
            ("1H 5M", 3_900_000),
        ] {
            assert_eq!(duration(text), Some(ms), "{text}");
        }
        for text in ["", "s", "1.5h", "15", "-1s", "99999999999999999999d", "1x"] {
            assert_eq!(duration(text), None, "{text}");
        }
        assert_eq!((seconds("7"), millis("7")), (Some(Amount::Number(7000)), Some(Amount::Number(7))));
        assert_eq!(seconds("infinity"), Some(Amount::Unlimited));
    }

    #[test]
    fn rates_are_read_in_both_spellings() {
        let rate_of = |amount, window_ms| Some(Some(Rate { amount, window_ms }));
        for (text, expected) in [
            ("100,10s", rate_of(100, 10_000)),
            ("100KB,10s", rate_of(102_400, 10_000)),
            ("1000/s", rate_of(1000, 1000)),
            ("1MB/10s", rate_of(1 << 20, 10_000)),
            ("60/1m", rate_of(60, 60_000)),
            ("1000", rate_of(1000, 1000)),
            ("1000,1s", rate_of(1000, 1000)),
            ("1000, 10", rate_of(1000, 10_000)),
            ("infinity", Some(None)),
            ("0", Some(None)),
            ("", None),
            ("1/0s", None),
            ("x/s", None),
            ("1/x", None),
            ("18446744073709551615/18446744073709551615", None),
        ] {
            assert_eq!(rate(text), expected, "{text}");
        }
        let slow = Rate { amount: 100, window_ms: 10_000 };
        assert_eq!((slow.per_second(), slow.burst()), (10, Some(100)));
        assert_eq!(Rate { amount: 1, window_ms: 60_000 }.per_second(), 1);
    }

    #[test]
    fn flags_are_read_in_any_case() {
        assert_eq!((flag("on"), flag("TRUE"), flag("Off"), flag("maybe")), (Some(true), Some(true), Some(false), None));
    }
}
