//! Which wills must be published, which must not, and which may go either way, as seen from the broker's log.

use std::collections::BTreeMap;

use breakwater_proto::{Instant, QoS};

use crate::event::Logged;
use crate::hands::Noted;

/// Timers are coarse, and turns come when they come: this close to a deadline both outcomes are right.
const SLACK_MS: u64 = 3000;

/// One connection as its player meant it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attempt {
    pub(crate) player: usize,
    pub(crate) incarnation: u32,
    pub(crate) will: Option<Will>,
    pub(crate) expiry_s: u32,
    pub(crate) clean: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Will {
    pub(crate) delay_s: u32,
    pub(crate) qos: QoS,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Must,
    Never,
    Either,
}

/// The client of one player, as the log shows it.
#[derive(Default)]
struct Standing {
    live: Option<u16>,
    /// Its will waits for its delay: incarnation, due.
    pending: Option<(Attempt, Instant)>,
    /// When its session was left, and how long it lasts.
    left: Option<(Instant, u32)>,
}

#[derive(Default)]
pub(crate) struct Wills {
    /// The broker has so little memory that it may have no room for a connection.
    small: bool,
    attempts: BTreeMap<u16, Attempt>,
    standings: BTreeMap<usize, Standing>,
    fates: BTreeMap<(usize, u32), (Fate, QoS)>,
}

impl Wills {
    pub(crate) fn new(small: bool) -> Self {
        Self { small, ..Self::default() }
    }

    pub(crate) fn attempt(&mut self, port: u16, attempt: Attempt) {
        self.attempts.insert(port, attempt);
    }

    /// Takes note of one event. `Some`: this player's session has begun anew.
    pub(crate) fn follow(&mut self, noted: &Noted) -> Result<Option<usize>, String> {
        let Some(attempt) = self.attempts.get(&noted.port).copied() else { return Ok(None) };
        let anew = matches!(noted.logged, Logged::Connected { session_present: false, .. });
        match &noted.logged {
            Logged::Connected { client, session_present, .. } => {
                self.on_connected(noted, client, attempt, *session_present)
            }
            Logged::Disconnected { client, reason, code, .. } if !client.is_empty() => {
                self.on_disconnected(noted, attempt, reason, *code)
            }
            Logged::Refused { client, reason, .. } => Err(format!("{client} was turned away: {reason}")),
            _ => Ok(()),
        }?;
        Ok(anew.then_some(attempt.player))
    }

    fn on_connected(&mut self, noted: &Noted, client: &str, attempt: Attempt, present: bool) -> Result<(), String> {
        let standing = self.standings.entry(attempt.player).or_default();
        if let Some(port) = standing.live {
            return Err(format!("{client} is connected twice: ports {port} and {}", noted.port)); // [MQTT-3.1.4-3]
        }
        standing.live = Some(noted.port);
        if let Some((left, due)) = standing.pending.take() {
            let fate = if noted.at.0 >= due.0 + SLACK_MS || attempt.clean {
                Fate::Must
            } else if noted.at.0 + SLACK_MS < due.0 {
                Fate::Never // [MQTT-3.1.3-9]
            } else {
                Fate::Either
            };
            if let Some(will) = left.will {
                self.fates.insert((left.player, left.incarnation), (fate, will.qos));
            }
        }
        let expected = match standing.left.take() {
            _ if attempt.clean => Some(false),
            None => Some(false),
            Some((_, 0)) => Some(false),
            Some((at, expiry_s)) => {
                let ends = at.0 + u64::from(expiry_s) * 1000;
                if noted.at.0 + SLACK_MS < ends {
                    Some(true)
                } else if noted.at.0 > ends + SLACK_MS {
                    Some(false)
                } else {
                    None
                }
            }
        };
        match expected {
            Some(expected) if expected != present => {
                Err(format!("{client}: session present is {present}, but it should be {expected}"))
            }
            _ => Ok(()),
        }
    }

    fn on_disconnected(&mut self, noted: &Noted, attempt: Attempt, reason: &str, code: u8) -> Result<(), String> {
        const EXPECTED: [u8; 7] = [0x00, 0x04, 0x80, 0x8D, 0x8E, 0x97, 0xA0];
        let standing = self.standings.entry(attempt.player).or_default();
        if standing.live.take() != Some(noted.port) {
            return Err(format!("port {} ends, but another connection of its client was live", noted.port));
        }
        let no_room = self.small && code == 0x89;
        if !EXPECTED.contains(&code) && !no_room {
            return Err(format!("a connection ended for a strange reason: {reason}"));
        }
        standing.left = Some((noted.at, attempt.expiry_s));
        let Some(will) = attempt.will else { return Ok(()) };
        let key = (attempt.player, attempt.incarnation);
        if code == 0 {
            self.fates.insert(key, (Fate::Never, will.qos)); // [MQTT-3.14.4-3]
        } else if will.delay_s == 0 || attempt.expiry_s == 0 {
            self.fates.insert(key, (Fate::Must, will.qos)); // [MQTT-3.1.2-8]
        } else {
            let due = noted.at.plus_s(will.delay_s.min(attempt.expiry_s));
            standing.pending = Some((attempt, due));
        }
        Ok(())
    }

    /// `seen`: how often the watcher was sent each will. `dropped`: some may have been dropped on their way.
    pub(crate) fn check(&mut self, seen: &BTreeMap<(usize, u32), u32>, dropped: bool) -> Result<(), String> {
        for standing in self.standings.values_mut() {
            if let Some((left, _)) = standing.pending.take()
                && let Some(will) = left.will
            {
                self.fates.insert((left.player, left.incarnation), (Fate::Must, will.qos));
            }
        }
        for (key, (fate, qos)) in &self.fates {
            let times = seen.get(key).copied().unwrap_or(0);
            match fate {
                Fate::Must if times == 0 && *qos != QoS::AtMostOnce && !dropped => {
                    return Err(format!("the will of player {} connection {} was not published", key.0, key.1));
                }
                Fate::Never if times > 0 => {
                    return Err(format!("the will of player {} connection {} was published", key.0, key.1));
                }
                _ if times > 1 => {
                    return Err(format!("the will of player {} connection {} came {times} times", key.0, key.1));
                }
                _ => {}
            }
        }
        match seen.keys().find(|key| !self.fates.contains_key(key)) {
            Some(key) => Err(format!("the will of player {} connection {} came while it lived", key.0, key.1)),
            None => Ok(()),
        }
    }
}
