//! When to try. Pure: time comes in as seconds since 1970.

/// What the next try depends on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct View {
    /// First and last second of the certificate that is in use; none if there is none that does.
    pub(crate) valid: Option<(i64, i64)>,
    /// When the authority would like it to be renewed (ARI, RFC 9773).
    pub(crate) window: Option<(i64, i64)>,
    /// Tries since the last one that succeeded.
    pub(crate) failures: u32,
    /// When the last one began, whatever came of it; 0 for never.
    pub(crate) last_try_s: i64,
    /// What spreads the tries of many brokers: any number, of 2^32.
    pub(crate) chance: u32,
}

/// Pause after the first failure; each further one doubles it. Let's Encrypt allows five failures per hour, account and name:
/// 10, 20 and 40 minutes make it four at the most.
const PAUSE_S: i64 = 600;
/// Longest pause: a name that leads here again some day is not kept waiting for more.
const PAUSE_MAX_S: i64 = 6 * 3600;
/// After a success nothing is ordered for that long, whatever an authority or a clock says; less for a certificate that doesn't
/// live long enough.
const AFTER_SUCCESS_S: i64 = 3600;

/// When the next try is to be made.
pub(crate) fn due_s(view: &View) -> i64 {
    let of = |span: i64| ((i128::from(span) * i128::from(view.chance)) >> 32) as i64;
    let Some((from, to)) = view.valid else { return floor_s(view, of) };
    let life = to.saturating_sub(from).max(0);
    let renewal = from.saturating_add(life / 3 * 2).saturating_add(of(life / 30));
    let wanted = match view.window {
        // A window behind the end is a mistake, and one before it may be a revocation that is to come.
        Some((start, end)) if start <= end && start < to => {
            (start + of(end - start)).min(from.saturating_add(life / 10 * 9))
        }
        _ => renewal,
    };
    wanted.max(floor_s(view, of))
}

/// Before that nothing is tried at all.
fn floor_s(view: &View, of: impl Fn(i64) -> i64) -> i64 {
    if view.last_try_s == 0 {
        return 0;
    }
    let pause = match view.failures {
        0 => {
            let life = view.valid.map_or(i64::MAX, |(from, to)| to.saturating_sub(from));
            AFTER_SUCCESS_S.min(life / 3)
        }
        failures => {
            let pause = PAUSE_S << i64::from(failures.min(16) - 1);
            let pause = pause.min(PAUSE_MAX_S);
            pause + of(pause / 4)
        }
    };
    view.last_try_s.saturating_add(pause)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400;
    /// A certificate of ninety days.
    const VALID: Option<(i64, i64)> = Some((1000 * DAY, 1090 * DAY));

    #[test]
    fn without_a_certificate_the_first_try_is_made_at_once() {
        assert_eq!(due_s(&View::default()), 0);
    }

    #[test]
    fn renewal_begins_at_two_thirds_of_the_life_and_a_little_later_for_some() {
        for (chance, day) in [(0, 1060), (u32::MAX / 2, 1061), (u32::MAX, 1062)] {
            assert_eq!(due_s(&View { valid: VALID, chance, ..View::default() }) / DAY, day, "{chance}");
        }
        // Six days, as short ones have.
        let short = View { valid: Some((0, 6 * DAY)), ..View::default() };
        assert_eq!(due_s(&short), 4 * DAY);
    }

    #[test]
    fn the_window_of_the_authority_counts_where_it_makes_sense() {
        let at = |window, chance| due_s(&View { valid: VALID, window: Some(window), chance, ..View::default() });
        assert_eq!(at((1010 * DAY, 1012 * DAY), 0), 1010 * DAY);
        assert_eq!(at((1010 * DAY, 1012 * DAY), 1 << 31), 1011 * DAY);
        assert_eq!(at((900 * DAY, 901 * DAY), 0), 900 * DAY, "it is about to be revoked");
        assert_eq!(at((2000 * DAY, 2001 * DAY), 0), 1060 * DAY, "after its end");
        assert_eq!(at((1012 * DAY, 1010 * DAY), 0), 1060 * DAY, "turned around");
        assert_eq!(at((1080 * DAY, i64::MAX), u32::MAX), 1081 * DAY, "never so late that it could run out");
    }

    #[test]
    fn failures_are_followed_by_ever_longer_pauses() {
        let pause = |failures, chance| due_s(&View { failures, chance, last_try_s: 5000, ..View::default() }) - 5000;
        let pauses: Vec<i64> = (1..=8).map(|failures| pause(failures, 0) / 60).collect();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 360, 360]);
        assert_eq!(pause(u32::MAX, u32::MAX), PAUSE_MAX_S / 4 * 5 - 1);
        // In any hour there are fewer than the five that Let's Encrypt allows.
        let mut now = 1;
        let tries: Vec<i64> = (1..40)
            .map(|failures| {
                now = due_s(&View { failures, last_try_s: now, ..View::default() });
                now
            })
            .collect();
        assert!(tries.windows(5).all(|five| five[4] - five[0] > 3600));
    }

    #[test]
    fn a_failed_renewal_waits_for_its_pause_and_not_longer() {
        let now = 1061 * DAY;
        let failed = View { valid: VALID, failures: 2, last_try_s: now, ..View::default() };
        assert_eq!(due_s(&failed), now + 2 * PAUSE_S);
    }

    #[test]
    fn an_authority_that_always_wants_a_renewal_is_not_asked_all_the_time() {
        let view = View { valid: VALID, window: Some((0, 1)), last_try_s: 1000 * DAY, ..View::default() };
        assert_eq!(due_s(&view), 1000 * DAY + AFTER_SUCCESS_S);
        let short = View { valid: Some((1000, 1030)), last_try_s: 1000, ..View::default() };
        assert_eq!(due_s(&short), 1020);
    }

    #[test]
    fn no_time_makes_it_overflow() {
        for edge in [i64::MIN / 4, 0, i64::MAX / 4] {
            for other in [i64::MIN / 4, 0, i64::MAX / 4] {
                let view = View {
                    valid: Some((edge, other)),
                    window: Some((edge, other)),
                    failures: 7,
                    last_try_s: edge,
                    chance: u32::MAX,
                };
                let _ = due_s(&view);
            }
        }
    }
}
