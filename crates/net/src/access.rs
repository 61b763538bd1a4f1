//! Who may connect: rules over addresses, and how many connections one address has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use ipnet::IpNet;

use crate::listener::AccessRule;

/// Whether the first rule that fits lets this address in; without one it may.
///
/// An IPv4 address that comes in the dress of IPv6 is the IPv4 address, in the rules as well.
pub(crate) fn allows(rules: &[AccessRule], address: IpAddr) -> bool {
    let address = address.to_canonical();
    rules
        .iter()
        .find(|rule| rule.network.is_none_or(|network| contains(network, address)))
        .is_none_or(|rule| rule.allow)
}

/// Whether an address lies in a network, `::ffff:0:0/96` counting as IPv4.
pub(crate) fn contains(network: IpNet, address: IpAddr) -> bool {
    let address = address.to_canonical();
    if let (IpNet::V6(v6), IpAddr::V4(v4)) = (network, address)
        && v6.prefix_len() >= 96
        && v6.addr().to_ipv4_mapped().is_some()
    {
        return v6.contains(&v4.to_ipv6_mapped());
    }
    network.contains(&address)
}

/// Connections by address. Locked for one look-up at a time, and used only where a listener has such a bound: it stands at
/// the accept and the close of a connection, never at a read or write.
///
/// Never larger than the number of connections that are counted in it.
pub(crate) struct Addresses {
    parts: [Mutex<HashMap<AddressKey, u32>>; PARTS],
    /// Addresses are chosen by strangers: they can't choose the part.
    hash: RandomState,
}

/// An address as it is counted: an IPv4 address, or the /64 of an IPv6 one. Never 0, so that 0 can stand for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AddressKey(pub(crate) std::num::NonZeroU64);

const PARTS: usize = 16;

impl AddressKey {
    pub(crate) fn new(address: IpAddr) -> Self {
        let number = match address.to_canonical() {
            // 0:1::/32 is reserved: no IPv6 peer can pass for an IPv4 one.
            IpAddr::V4(v4) => 1 << 32 | u64::from(u32::from(v4)),
            IpAddr::V6(v6) => (u128::from(v6) >> 64) as u64,
        };
        // ::/64 holds `::1`.
        Self(std::num::NonZeroU64::new(number).unwrap_or(std::num::NonZeroU64::MIN))
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self { parts: std::array::from_fn(|_| Mutex::default()), hash: RandomState::new() }
    }
}

impl Addresses {
    /// Counts one more connection; `false`, and not counted, if that would be more than `most`.
    pub(crate) fn enter(&self, key: AddressKey, most: u32) -> bool {
        let mut part = self.part(key).lock().unwrap_or_else(PoisonError::into_inner);
        match part.entry(key) {
            Entry::Occupied(count) if *count.get() >= most => false,
            Entry::Occupied(mut count) => {
                *count.get_mut() += 1;
                true
            }
            Entry::Vacant(free) if most > 0 => {
                free.insert(1);
                true
            }
            Entry::Vacant(_) => false,
        }
    }

    /// Counts one less.
    pub(crate) fn leave(&self, key: AddressKey) {
        let mut part = self.part(key).lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = part.entry(key) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
        if part.len() * 8 < part.capacity() && part.capacity() > 64 {
            let kept = part.len() * 2;
            part.shrink_to(kept);
        }
    }

    fn part(&self, key: AddressKey) -> &Mutex<HashMap<AddressKey, u32>> {
        &self.parts[self.hash.hash_one(key) as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> AccessRule {
        let (verb, network) = text.split_once(' ').expect("two words");
        AccessRule { allow: verb == "allow", network: network.parse().ok() }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = ["deny 10.1.0.0/16", "allow 10.0.0.0/8", "allow 2001:db8::/32", "deny all"].map(rule);
        for (from, may) in [
            ("10.1.2.3", false),
            ("10.2.2.3", true),
            ("::ffff:10.2.2.3", true),
            ("::ffff:10.1.2.3", false),
            ("11.0.0.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
        ] {
            assert_eq!(allows(&rules, address(from)), may, "{from}");
        }
        assert!(allows(&[], address("192.0.2.1")), "nobody's rule means yes");
        assert!(allows(&[rule("deny 10.0.0.0/8")], address("192.0.2.1")));
    }

    #[test]
    fn an_ipv4_address_fits_a_mapped_rule_and_no_other_ipv6_rule() {
        for (network, inside) in [
            ("::ffff:10.0.0.0/104", true),
            ("::ffff:0.0.0.0/96", true),
            ("::/0", false),
            ("::ffff:11.0.0.0/104", false),
        ] {
            let network: IpNet = network.parse().expect("a network");
            for from in ["10.9.9.9", "::ffff:10.9.9.9"] {
                assert_eq!(contains(network, address(from)), inside, "{network} {from}");
            }
        }
    }

    #[test]
    fn an_address_has_so_many_connections_and_no_more() {
        let addresses = Addresses::default();
        let one = AddressKey::new(address("192.0.2.1"));
        assert!(addresses.enter(one, 2) && addresses.enter(one, 2) && !addresses.enter(one, 2));
        assert_eq!(one, AddressKey::new(address("::ffff:192.0.2.1")));
        assert!(addresses.enter(AddressKey::new(address("192.0.2.2")), 2));
        addresses.leave(one);
        assert!(addresses.enter(one, 2));
        addresses.leave(one);
        addresses.leave(one);
        addresses.leave(AddressKey::new(address("192.0.2.2")));
        assert!(addresses.parts.iter().all(|part| part.lock().expect("no panic").is_empty()), "who left is forgotten");
    }

    #[test]
    fn ipv6_counts_by_its_64() {
        let key = |text| AddressKey::new(address(text));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("::1"), key("0.0.0.0"));
        assert_ne!(key("::1"), key("127.0.0.1"));
    }
}
