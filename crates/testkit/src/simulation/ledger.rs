//! What was published, and what is owed for it.

use breakwater_proto::{QoS, matches};

use crate::simulation::player::Player;

/// One message that a player has published.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) publisher: usize,
    pub(crate) topic: String,
    pub(crate) qos: QoS,
    /// Position among its publisher's messages of this topic and QoS.
    pub(crate) seq: u32,
    /// Logical time of the first sending.
    pub(crate) at: u64,
    /// The broker has taken it over.
    pub(crate) acknowledged: bool,
    /// Times that its publisher has sent it.
    pub(crate) transmissions: u32,
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) messages: Vec<Sent>,
}

impl Ledger {
    /// At the end: everything that was promised has happened. `dropped`: the broker had to drop some, and has counted it.
    pub(crate) fn check(&self, players: &[Player], dropped: bool) -> Result<(), String> {
        for (number, message) in self.messages.iter().enumerate() {
            let number = number as u32;
            if !message.acknowledged || message.qos == QoS::AtMostOnce {
                continue;
            }
            let mut group_owed = None;
            let mut group_times = 0;
            for (index, player) in players.iter().enumerate() {
                let times = player.seen.get(&number).map_or(0, |seen| seen.times);
                let owed = player.subscriptions.iter().any(|(filter, held)| {
                    let own = held.no_local && message.publisher == index;
                    !filter.starts_with('$')
                        && !own
                        && held.qos > QoS::AtMostOnce
                        && held.since.is_some_and(|since| since < message.at)
                        && matches(filter, &message.topic)
                });
                if owed && times == 0 && !dropped {
                    return Err(format!("{} never got message {number}: {message:?}", player.id));
                }
                let member = player.subscriptions.iter().find(|(filter, held)| {
                    held.since.is_some_and(|since| since < message.at)
                        && filter.strip_prefix("$share/g/").is_some_and(|filter| matches(filter, &message.topic))
                });
                if member.is_some() && player.role.durable {
                    group_owed = Some(&player.id);
                }
                group_times += times;
            }
            // What was begun with QoS 2 ends with the member that it was begun with [MQTT-4.8.2-5], and what a member has
            // when it leaves the group stays with it, also if its session ends later.
            let left = players.iter().any(|player| player.left_group);
            if message.topic.starts_with("s/")
                && message.qos == QoS::AtLeastOnce
                && let Some(member) = group_owed
                && group_times == 0
                && !dropped
                && !left
            {
                return Err(format!("nobody of the group with {member} got message {number}: {message:?}"));
            }
            if message.topic.starts_with("s/") && message.qos == QoS::ExactlyOnce && group_times > 1 {
                return Err(format!("message {number} came {group_times} times to a shared group: {message:?}"));
            }
        }
        Ok(())
    }
}
