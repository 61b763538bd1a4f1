//! Names of sessions and of filters, and what a subscription grants.

use breakwater_proto::QoS;

/// Names one session: its shard, and slot and generation in that shard's slab, so that a stale name never hits the
/// session that took over the slot. Ordered by shard, slot, generation (the order of the fields): targets of one shard lie
/// together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subscriber {
    pub shard: u16,
    pub slot: u32,
    pub generation: u16,
}

impl Subscriber {
    /// Packed for an atomic or an opaque origin; orders by shard, slot, generation.
    pub const fn as_u64(self) -> u64 {
        ((self.shard as u64) << 48) | ((self.slot as u64) << 16) | self.generation as u64
    }

    pub const fn from_u64(packed: u64) -> Self {
        Self { shard: (packed >> 48) as u16, slot: (packed >> 16) as u32, generation: packed as u16 }
    }
}

/// What one subscription grants to its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    /// The session outlives its connection, so that QoS 1 and 2 messages must be kept for it.
    pub durable: bool,
    /// 0: none.
    pub subscription_id: u32,
}

/// A [`Grant`] in 8 bytes. The identifier needs 28 bits, the options 5.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PackedGrant {
    subscription_id: u32,
    options: u32,
}

const NO_LOCAL: u32 = 1 << 2;
const RETAIN_AS_PUBLISHED: u32 = 1 << 3;
const DURABLE: u32 = 1 << 4;

impl PackedGrant {
    pub const fn new(grant: Grant) -> Self {
        let mut options = grant.qos as u32;
        if grant.no_local {
            options |= NO_LOCAL;
        }
        if grant.retain_as_published {
            options |= RETAIN_AS_PUBLISHED;
        }
        if grant.durable {
            options |= DURABLE;
        }
        Self { subscription_id: grant.subscription_id, options }
    }

    #[inline]
    pub const fn qos(self) -> QoS {
        match self.options & 3 {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        }
    }

    #[inline]
    pub const fn no_local(self) -> bool {
        self.options & NO_LOCAL != 0
    }

    #[inline]
    pub const fn retain_as_published(self) -> bool {
        self.options & RETAIN_AS_PUBLISHED != 0
    }

    #[inline]
    pub const fn durable(self) -> bool {
        self.options & DURABLE != 0
    }

    /// 0: none.
    #[inline]
    pub const fn subscription_id(self) -> u32 {
        self.subscription_id
    }

    /// The same as a list: of one or none.
    #[inline]
    #[must_use]
    pub fn subscription_ids(&self) -> &[u32] {
        if self.subscription_id == 0 { &[] } else { core::slice::from_ref(&self.subscription_id) }
    }

    pub const fn unpack(self) -> Grant {
        Grant {
            qos: self.qos(),
            no_local: self.no_local(),
            retain_as_published: self.retain_as_published(),
            durable: self.durable(),
            subscription_id: self.subscription_id,
        }
    }

    /// Of two subscriptions of one session that match one message: highest QoS [MQTT-3.3.4-2], retain-as-published and
    /// durable if either is, no-local only if both are, the first identifier.
    #[must_use]
    pub(crate) const fn merged(self, other: Self) -> Self {
        let (a, b) = (self.options, other.options);
        let qos = if a & 3 > b & 3 { a & 3 } else { b & 3 };
        let either = (a | b) & (RETAIN_AS_PUBLISHED | DURABLE);
        let both = a & b & NO_LOCAL;
        let id = if self.subscription_id == 0 { other.subscription_id } else { self.subscription_id };
        Self { subscription_id: id, options: qos | either | both }
    }
}

impl From<Grant> for PackedGrant {
    fn from(grant: Grant) -> Self {
        Self::new(grant)
    }
}

impl std::fmt::Debug for PackedGrant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.unpack().fmt(f)
    }
}

/// One session that a message goes to, and on which terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    pub subscriber: Subscriber,
    pub grant: PackedGrant,
}

/// Names a filter (or a shared group of a filter) while it has at least one subscriber. Four bytes are all that a
/// session keeps per subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(pub(crate) u32);

impl FilterId {
    pub const fn as_u32(self) -> u32 {
        self.0
    }

    pub const fn from_u32(raw: u32) -> Self {
        Self(raw)
    }
}

/// Answer to a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribed {
    pub id: FilterId,
    /// False: the session had this subscription already and its grant was replaced [MQTT-3.8.4-3].
    pub new: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_takes_8_bytes_and_orders_as_its_packed_form() {
        assert_eq!((size_of::<Subscriber>(), size_of::<Target>()), (8, 16));
        let mut all = Vec::new();
        for shard in [0, 1, u16::MAX] {
            for slot in [0, 7, u32::MAX] {
                all.extend([0, 3, u16::MAX].map(|generation| Subscriber { shard, slot, generation }));
            }
        }
        assert!(all.iter().all(|who| Subscriber::from_u64(who.as_u64()) == *who));
        assert!(all.windows(2).all(|pair| pair[0] < pair[1] && pair[0].as_u64() < pair[1].as_u64()));
    }
}
