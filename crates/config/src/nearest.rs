//! What somebody may have meant who wrote a word that nobody knows.

/// The known key that takes the fewest edits, a right last part counting for much.
pub(crate) fn nearest<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> &'a str {
    let key: String = key.chars().take(KEY_CHARS).collect();
    let tail = |key: &str| key.rsplit('.').next().map(str::to_owned).unwrap_or_default();
    let distance = |known: &str| edits(&key, known).min(1 + edits(&tail(&key), &tail(known)));
    known.min_by_key(|known| distance(known)).unwrap_or_default()
}

/// What to ask somebody who wrote a key that nobody knows: whether they meant another, or where to look.
pub(crate) fn meant(key: &str, known: impl Iterator<Item = &'static str>) -> String {
    let nearest = nearest(key, known);
    let tail = |key: &str| key.rsplit('.').next().map(str::to_owned).unwrap_or_default();
    let far = |a: &str, b: &str| key.len() > KEY_CHARS || 2 * edits(a, b) > a.len().max(b.len());
    if far(key, nearest) && far(&tail(key), &tail(nearest)) {
        return "`breakwater config reference` lists all of them".into();
    }
    format!("did you mean {nearest}?")
}

/// No key is longer. What is longer costs no more to compare.
const KEY_CHARS: usize = 64;

/// Levenshtein distance in bytes.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_count_insertions_removals_and_replacements() {
        for (a, b, distance) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("abc", "abc", 0)] {
            assert_eq!(edits(a, b), distance, "{a} {b}");
        }
    }

    #[test]
    fn what_is_like_nothing_is_compared_with_nothing() {
        let known = || ["mqtt.max_qos", "sys.node"].into_iter();
        assert_eq!(meant("mqtt.max_qoss", known()), "did you mean mqtt.max_qos?");
        assert_eq!(meant("max_qos", known()), "did you mean mqtt.max_qos?");
        assert!(meant("a", known()).contains("config reference"));
    }

    #[test]
    fn a_right_last_part_counts_for_much() {
        let known = ["mqtt.max_inflight", "mqtt.max_packet_size", "shared.strategy"];
        for (key, meant) in [
            ("mqtt.max_inflght", "mqtt.max_inflight"),
            ("max_packet_size", "mqtt.max_packet_size"),
            ("mqtt.shared_strategy", "shared.strategy"),
        ] {
            assert_eq!(nearest(key, known.into_iter()), meant);
        }
    }
}
