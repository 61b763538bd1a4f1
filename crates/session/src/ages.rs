//! Since when the messages of a queue wait, where their age is bounded.

use std::collections::VecDeque;

/// Messages that came within one second are one run, so that what is 32 bytes in a queue does not become 40. Seconds of the clock of the
/// process; below 0 lies what came before it began.
#[derive(Debug, Default)]
pub(crate) struct Ages(VecDeque<Run>);

#[derive(Clone, Copy, Debug)]
struct Run {
    came_s: i32,
    messages: u32,
}

impl Ages {
    /// Of a queue that so many messages are in, of which it is not known when they came: now, then.
    pub(crate) fn begin(messages: usize, now_s: i32) -> Self {
        let mut ages = Self::default();
        if messages > 0 {
            ages.0.push_back(Run { came_s: now_s, messages: messages as u32 });
        }
        ages
    }

    pub(crate) fn push(&mut self, came_s: i32) {
        match self.0.back_mut() {
            Some(last) if last.came_s == came_s => last.messages += 1,
            _ => self.0.push_back(Run { came_s, messages: 1 }),
        }
    }

    pub(crate) fn pop(&mut self) {
        let Some(first) = self.0.front_mut() else { return };
        first.messages -= 1;
        if first.messages == 0 {
            self.0.pop_front();
        }
    }

    /// When the front of the queue came.
    pub(crate) fn first(&self) -> Option<i32> {
        self.0.front().map(|run| run.came_s)
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.0.capacity() * size_of::<Run>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_the_second_in_which_it_came() {
        let mut ages = Ages::begin(2, -3);
        for came_s in [-3, 4, 4, 9] {
            ages.push(came_s);
        }
        for expected in [-3, -3, -3, 4, 4, 9] {
            assert_eq!(ages.first(), Some(expected));
            ages.pop();
        }
        assert_eq!(ages.first(), None);
        ages.pop();
        assert_eq!(Ages::begin(0, 1).first(), None);
    }
}
