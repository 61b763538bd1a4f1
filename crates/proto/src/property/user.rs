//! User Properties of packets that end here (acknowledgements, SUBSCRIBE, DISCONNECT …).

use super::{Properties, Property, write_user_property};
use crate::sink::Sink;

/// The User Properties among a packet's properties, in their order. A view; nothing is collected.
#[derive(Clone, Copy, Default)]
pub struct UserProperties<'a> {
    raw: &'a [u8],
}

impl<'a> UserProperties<'a> {
    pub const EMPTY: UserProperties<'static> = UserProperties { raw: &[] };

    /// From encoded properties that were checked before or written by [`write_user_property`]; others among them are
    /// skipped.
    #[inline]
    #[must_use]
    pub const fn from_encoded(raw: &'a [u8]) -> UserProperties<'a> {
        UserProperties { raw }
    }

    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        Properties::of(self.raw).filter_map(|property| match property {
            Property::UserProperty(name, value) => Some((name, value)),
            _ => None,
        })
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// Appends them in encoded form, nothing else with them.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (name, value) in self.iter() {
            write_user_property(name, value, out);
        }
    }

    pub(crate) fn write(&self, out: &mut impl Sink) {
        for (name, value) in self.iter() {
            Property::UserProperty(name, value).write(out);
        }
    }
}

impl PartialEq for UserProperties<'_> {
    fn eq(&self, other: &UserProperties<'_>) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for UserProperties<'_> {}

impl core::fmt::Debug for UserProperties<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
