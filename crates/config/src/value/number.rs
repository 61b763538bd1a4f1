//! Numbers as people write them: sizes, time spans, factors and rates.

const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

/// Units of time, longest first, in milliseconds.
pub(super) const TIMES: [(&str, u64); 5] = [("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)];

/// Units of size, largest first.
pub(super) const SIZES: [(&str, u64); 4] = [("GB", 1 << 30), ("MB", 1 << 20), ("KB", 1 << 10), ("B", 1)];

pub(super) fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

pub(super) fn size(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor = match unit.trim_start().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" | "kib" => 1 << 10,
        "m" | "mb" | "mib" => 1 << 20,
        "g" | "gb" | "gib" => 1 << 30,
        _ => return None,
    };
    digits(number)?.checked_mul(factor)
}

/// `15s`, `500ms`, `1h30m`; a plain `0` needs no unit.
pub(super) fn duration(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let (mut rest, mut total, mut any) = (text, 0_u64, false);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let factor = TIMES.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)?;
        total = total.checked_add(digits(number)?.checked_mul(factor)?)?;
        (rest, any) = (tail, true);
    }
    any.then_some(total)
}

pub(super) fn hundredths(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let scale = match fraction.len() {
        1 => 10,
        2 => 1,
        _ => return None,
    };
    digits(whole)?.checked_mul(100)?.checked_add(digits(fraction)? * scale)
}

pub(super) fn bits(words: &[&str], text: &str) -> Option<u64> {
    let mut set = 0;
    for part in text.split(',') {
        set |= 1 << words.iter().position(|word| *word == part.trim())?;
    }
    Some(set)
}

pub(super) fn in_units(number: u64, units: &[(&str, u64)], zero: &str) -> String {
    match units.iter().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor)) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => format!("{number}{zero}"),
    }
}

/// `100/s`, or `1MB/s` where bytes are counted.
pub(super) fn rate(text: &str, bytes: bool) -> Option<u64> {
    let number = text.strip_suffix("/s").unwrap_or(text).trim_end();
    if bytes { size(number) } else { digits(number) }
}
