//! Topic aliases of one connection, one table for each direction. [MQTT-3.3.2-7]: both die with the link.

/// Topic names that the client registered; index is alias - 1.
#[derive(Debug, Default)]
pub(crate) struct AliasesIn {
    topics: Vec<String>,
}

impl AliasesIn {
    pub(crate) fn register(&mut self, alias: u16, topic: &str) {
        let index = usize::from(alias) - 1;
        if index >= self.topics.len() {
            self.topics.resize_with(index + 1, String::new);
        }
        let slot = &mut self.topics[index];
        slot.clear();
        slot.push_str(topic);
    }

    /// `None`: nothing was registered under it.
    pub(crate) fn topic(&self, alias: u16) -> Option<&str> {
        let topic = self.topics.get(usize::from(alias).checked_sub(1)?)?;
        (!topic.is_empty()).then_some(topic)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        self.topics.capacity() * size_of::<String>() + self.topics.iter().map(String::capacity).sum::<usize>()
    }
}

/// Topic names that we registered with the client. The least recently used gives way.
///
/// While there are free aliases every topic gets one at once. After that only a topic that is seen for the second time
/// while its hash is still remembered: a stream of topics that never repeat would otherwise pay three bytes and a copy for
/// each of them, and push out the ones that do.
#[derive(Debug)]
pub(crate) struct AliasesOut {
    hashes: Vec<u32>,
    used: Vec<u32>,
    topics: Vec<String>,
    /// Counts uses; a slot's `used` is the count at its last use.
    clock: u32,
    max: u16,
    seen: [u32; SEEN],
}

const SEEN: usize = 32;

/// A shorter topic costs no more than the alias property itself.
const TOPIC_BYTES_MIN: usize = 4;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AliasChoice {
    /// Send the topic in full, without an alias.
    None,
    /// The client knows this alias.
    Known(u16),
    /// Send the topic with this alias, then call `assign`.
    New(u16),
}

impl AliasesOut {
    pub(crate) fn new(max: u16) -> AliasesOut {
        AliasesOut { hashes: Vec::new(), used: Vec::new(), topics: Vec::new(), clock: 0, max, seen: [0; SEEN] }
    }

    #[inline]
    pub(crate) fn choose(&mut self, topic: &str) -> AliasChoice {
        if topic.len() < TOPIC_BYTES_MIN {
            return AliasChoice::None;
        }
        let hash = hash(topic.as_bytes());
        for (index, known) in self.hashes.iter().enumerate() {
            if *known == hash && self.topics[index] == topic {
                self.clock = self.clock.wrapping_add(1);
                self.used[index] = self.clock;
                return AliasChoice::Known(index as u16 + 1); // [MQTT-3.3.2-8]: never 0
            }
        }
        // [MQTT-3.1.2-26] [MQTT-3.3.2-11]: at most `max`
        if self.topics.len() < usize::from(self.max) {
            return AliasChoice::New(self.topics.len() as u16 + 1);
        }
        let seen = &mut self.seen[hash as usize % SEEN];
        if *seen != hash {
            *seen = hash;
            return AliasChoice::None;
        }
        AliasChoice::New(self.oldest())
    }

    /// The client has been told that `alias` means `topic`.
    pub(crate) fn assign(&mut self, alias: u16, topic: &str) {
        let index = usize::from(alias) - 1;
        if index >= self.topics.len() {
            debug_assert_eq!(index, self.topics.len(), "slots are taken in order");
            self.topics.push(String::new());
            self.hashes.push(0);
            self.used.push(0);
        }
        self.clock = self.clock.wrapping_add(1);
        self.hashes[index] = hash(topic.as_bytes());
        self.used[index] = self.clock;
        self.topics[index].clear();
        self.topics[index].push_str(topic);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        (self.hashes.capacity() + self.used.capacity()) * 4
            + self.topics.capacity() * size_of::<String>()
            + self.topics.iter().map(String::capacity).sum::<usize>()
    }

    /// The alias that was used least recently.
    fn oldest(&self) -> u16 {
        let age = |used: &u32| self.clock.wrapping_sub(*used);
        let oldest = (0..self.used.len()).max_by_key(|index| age(&self.used[*index])).unwrap_or(0);
        oldest as u16 + 1
    }
}

/// Finds candidates; equality of the text decides, so that colliding topics cost speed and nothing else.
#[inline]
fn hash(bytes: &[u8]) -> u32 {
    let mut state = bytes.len() as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let mut chunks = bytes.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        state = (state ^ word).wrapping_mul(0x9FB2_1C65_1E98_DF25).rotate_left(29);
    }
    let tail = chunks.remainder().iter().fold(0, |tail, byte| tail << 8 | u64::from(*byte));
    state = (state ^ tail).wrapping_mul(0x9FB2_1C65_1E98_DF25);
    (state >> 32) as u32 | 1 // 0 marks an empty slot
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(aliases: &mut AliasesOut, topic: &str) -> AliasChoice {
        let choice = aliases.choose(topic);
        if let AliasChoice::New(alias) = choice {
            aliases.assign(alias, topic);
        }
        choice
    }

    #[test]
    fn a_topic_gets_a_free_alias_at_once() {
        let mut aliases = AliasesOut::new(2);
        assert_eq!(tell(&mut aliases, "a/long/topic"), AliasChoice::New(1));
        assert_eq!(tell(&mut aliases, "a/long/topic"), AliasChoice::Known(1));
        assert_eq!(tell(&mut aliases, "another"), AliasChoice::New(2));
    }

    #[test]
    fn the_least_recently_used_alias_gives_way_to_a_topic_seen_twice() {
        let mut aliases = AliasesOut::new(2);
        for topic in ["first", "second", "first"] {
            tell(&mut aliases, topic);
        }
        assert_eq!(tell(&mut aliases, "third"), AliasChoice::None);
        assert_eq!(tell(&mut aliases, "third"), AliasChoice::New(2));
        assert_eq!(tell(&mut aliases, "third"), AliasChoice::Known(2));
        assert_eq!(tell(&mut aliases, "first"), AliasChoice::Known(1));
    }

    #[test]
    fn an_alias_is_never_above_the_maximum_and_never_wrong() {
        let mut aliases = AliasesOut::new(3);
        let mut client = [const { String::new() }; 3];
        let mut state = 1_u64;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let topic = format!("topic/{}", (state >> 60));
            match tell(&mut aliases, &topic) {
                AliasChoice::None => {}
                AliasChoice::New(alias) => client[usize::from(alias) - 1] = topic,
                AliasChoice::Known(alias) => assert_eq!(client[usize::from(alias) - 1], topic),
            }
        }
    }

    #[test]
    fn topics_with_the_same_hash_are_kept_apart() {
        let mut seen = std::collections::BTreeMap::new();
        let (one, other) = (0..1_000_000)
            .find_map(|number| {
                let topic = format!("topic/{number}");
                let earlier = seen.insert(hash(topic.as_bytes()), topic.clone())?;
                Some((earlier, topic))
            })
            .expect("a million topics share 2 to the power of 31 hashes");
        let mut aliases = AliasesOut::new(2);
        assert_eq!(tell(&mut aliases, &one), AliasChoice::New(1));
        assert_eq!(tell(&mut aliases, &other), AliasChoice::New(2));
        assert_eq!(tell(&mut aliases, &one), AliasChoice::Known(1));
    }

    #[test]
    fn a_registered_alias_can_be_moved_to_another_topic() {
        let mut aliases = AliasesIn::default();
        aliases.register(2, "one");
        assert_eq!(aliases.topic(1), None);
        assert_eq!(aliases.topic(2), Some("one"));
        aliases.register(2, "two");
        assert_eq!(aliases.topic(2), Some("two"));
        assert_eq!(aliases.topic(3), None);
    }
}
