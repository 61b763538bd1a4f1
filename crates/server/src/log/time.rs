//! Moments in UTC, as RFC 3339 writes them.

use std::fmt::Write as _;

/// Writes moments, and keeps the second that it wrote last: in a storm of lines most fall into the same one.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: u64,
    text: String,
}

impl Stamp {
    /// Appends milliseconds since 1970 as `2026-11-22T12:00:00.123Z`.
    pub(super) fn write(&mut self, out: &mut String, unix_ms: u64) {
        let (second, ms) = (unix_ms / 1000, unix_ms % 1000);
        if self.second != second || self.text.is_empty() {
            self.second = second;
            self.text.clear();
            let (year, month, day) = date(second / 86_400);
            let (hour, minute, second) = (second / 3600 % 24, second / 60 % 60, second % 60);
            let _ = write!(self.text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.");
        }
        out.push_str(&self.text);
        for digit in [ms / 100, ms / 10 % 10, ms % 10] {
            out.push(char::from(b'0' + digit as u8));
        }
        out.push('Z');
    }
}

/// Days since 1970 to a date. Years begin in March here, so that the leap day is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::Stamp;

    #[test]
    fn moments_are_written_in_utc() {
        let mut stamp = Stamp::default();
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_795_348_800_000, "2026-11-22T12:00:00.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            for _ in 0..2 {
                let mut out = String::new();
                stamp.write(&mut out, ms);
                assert_eq!(out, text);
            }
        }
    }
}
