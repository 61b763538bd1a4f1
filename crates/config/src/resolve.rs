//! Settings in the shape that each plane reads.

use std::time::Duration;

use breakwater_router::RouterOptions;
use breakwater_shard::Options;

/// All settings, resolved: defaults filled in, checked against each other.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    pub shard: Options,
    pub router: RouterOptions,
    pub net: breakwater_net::Options,
    /// How long a stop may take before connections that don't drain are cut.
    pub drain: Duration,
}

impl Resolved {
    /// Checks across settings; all faults at once.
    pub(crate) fn settle(&mut self) -> Vec<String> {
        let mut faults = Vec::new();
        let limits = &self.shard.limits;
        if limits.session_expiry_default_s > limits.session_expiry_max_s {
            faults.push("session.expiry_default is above session.expiry_max: raise one or lower the other".into());
        }
        if u64::from(limits.queue_bytes_max) > self.shard.memory_bytes {
            faults.push("queue.max_bytes is above limits.memory: one client could fill a shard; lower it".into());
        }
        // A smaller packet limit means a smaller one before CONNECT too, without having to say so.
        self.shard.connect_bytes_max = self.shard.connect_bytes_max.min(limits.packet_bytes_max);
        faults
    }
}
