//! What was published, acknowledged and received, and whether that is what was promised.
//!
//! Every topic has one publisher and one QoS, and its messages are numbered from 1. So each reader's share of a topic
//! is a sequence of numbers, and everything that may go wrong shows in it.

use std::fmt;

use breakwater_proto::QoS;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nobody has published it, or not to this topic.
    Invented {
        reader: String,
        topic: String,
        number: u32,
    },
    /// A later message of the topic came, and this one had not: it is lost, or would come out of order.
    Skipped {
        reader: String,
        topic: String,
        from: u32,
        to: u32,
    },
    /// It came for the first time behind a later one.
    Reordered {
        reader: String,
        topic: String,
        number: u32,
        behind: u32,
    },
    /// QoS 2: a second time. QoS 1: once more on one connection than it was sent.
    Repeated {
        reader: String,
        topic: String,
        number: u32,
        times: u32,
        connections: String,
    },
    WrongQos {
        reader: String,
        topic: String,
        number: u32,
        got: QoS,
        expected: QoS,
    },
    /// It was acknowledged, everything has come to rest, and it is not there.
    Lost {
        reader: String,
        topic: String,
        numbers: Vec<u32>,
    },
    /// A retained message that is older than an acknowledged one, or absent.
    Forgotten {
        topic: String,
        acknowledged: u32,
        found: u32,
    },
    /// Anything that a client may not be told.
    Protocol(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Invented { reader, topic, number } => write!(f, "{reader} got {topic} {number}, which nobody sent"),
            Fault::Skipped { reader, topic, from, to } => {
                write!(f, "{reader} did not get {topic} {from}..={to} before what comes behind them")
            }
            Fault::Reordered { reader, topic, number, behind } => {
                write!(f, "{reader} got {topic} {number} for the first time behind {behind}")
            }
            Fault::Repeated { reader, topic, number, times, connections } => {
                write!(f, "{reader} got {topic} {number} {times} times, {connections}")
            }
            Fault::WrongQos { reader, topic, number, got, expected } => {
                write!(f, "{reader} got {topic} {number} with {got:?} instead of {expected:?}")
            }
            Fault::Lost { reader, topic, numbers } => {
                let few: Vec<String> = numbers.iter().take(20).map(u32::to_string).collect();
                write!(f, "{reader} never got {} messages of {topic}: {} ...", numbers.len(), few.join(" "))
            }
            Fault::Forgotten { topic, acknowledged, found } => {
                write!(f, "{topic} is retained with {found}, but {acknowledged} was acknowledged")
            }
            Fault::Protocol(text) => f.write_str(text),
        }
    }
}

/// A topic by its place in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Topic(pub(crate) usize);

/// A reader by its place in the ledger: a session, or all members of a shared subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader(pub(crate) usize);

#[derive(Default)]
pub(crate) struct Ledger {
    topics: Vec<Written>,
    readers: Vec<Read>,
    pub(crate) counts: Counts,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) resent: u64,
    pub(crate) acknowledged: u64,
    pub(crate) received: u64,
    pub(crate) repeated_qos_1: u64,
    /// Shared subscriptions with QoS 2: another member may get what a member was sent.
    pub(crate) repeated_shared: u64,
}

struct Written {
    name: String,
    qos: QoS,
    /// By number - 1.
    messages: Vec<Sent>,
}

#[derive(Clone, Copy, Default)]
struct Sent {
    times: u32,
    acknowledged: bool,
}

struct Read {
    name: String,
    shared: bool,
    granted: QoS,
    topics: Vec<Topic>,
    /// By topic, by number - 1.
    seen: Vec<Vec<Seen>>,
    /// By topic: the highest number that came.
    last: Vec<u32>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    times: u32,
    /// The connection on which it came last, and how often on that one.
    connection: u32,
    there: u32,
}

impl Ledger {
    pub(crate) fn add_topic(&mut self, name: &str, qos: QoS) -> Topic {
        self.topics.push(Written { name: name.to_owned(), qos, messages: Vec::new() });
        Topic(self.topics.len() - 1)
    }

    /// Asks for topics that were added before.
    pub(crate) fn add_reader(&mut self, name: &str, shared: bool, granted: QoS, topics: &[Topic]) -> Reader {
        let seen = vec![Vec::new(); self.topics.len()];
        let last = vec![0; self.topics.len()];
        self.readers.push(Read { name: name.to_owned(), shared, granted, topics: topics.to_vec(), seen, last });
        Reader(self.readers.len() - 1)
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Topic> {
        self.topics.iter().position(|topic| topic.name == name).map(Topic)
    }

    /// The number of the next message.
    pub(crate) fn on_published(&mut self, topic: Topic) -> u32 {
        self.counts.published += 1;
        let messages = &mut self.topics[topic.0].messages;
        messages.push(Sent { times: 1, acknowledged: false });
        u32::try_from(messages.len()).expect("a game is shorter")
    }

    pub(crate) fn on_resent(&mut self, topic: Topic, number: u32) {
        self.counts.resent += 1;
        self.topics[topic.0].messages[number as usize - 1].times += 1;
    }

    /// The broker has taken it over: PUBACK, or PUBREC.
    pub(crate) fn on_acknowledged(&mut self, topic: Topic, number: u32) {
        let sent = &mut self.topics[topic.0].messages[number as usize - 1];
        self.counts.acknowledged += u64::from(!sent.acknowledged);
        sent.acknowledged = true;
    }

    pub(crate) fn on_received(
        &mut self,
        reader: Reader,
        connection: u32,
        (topic, number): (Topic, u32),
        qos: QoS,
    ) -> Result<(), Fault> {
        self.counts.received += 1;
        let (read, written) = (&mut self.readers[reader.0], &self.topics[topic.0]);
        let (name, topic_name) = (read.name.clone(), written.name.clone());
        let sent = (number as usize).checked_sub(1).and_then(|at| written.messages.get(at));
        let Some(sent) = sent.filter(|_| read.topics.contains(&topic)) else {
            return Err(Fault::Invented { reader: name, topic: topic_name, number });
        };
        let expected = written.qos.min(read.granted);
        if qos != expected {
            return Err(Fault::WrongQos { reader: name, topic: topic_name, number, got: qos, expected });
        }
        let seen = &mut read.seen[topic.0];
        seen.resize(seen.len().max(number as usize), Seen::default());
        let seen = &mut seen[number as usize - 1];
        let before = *seen;
        seen.there = if before.times > 0 && before.connection == connection { before.there + 1 } else { 1 };
        (seen.times, seen.connection) = (before.times + 1, connection);
        if before.times > 0 {
            // What the publisher sent again with QoS 1 is another message to the broker; with QoS 2 it is not.
            let allowed = if written.qos == QoS::ExactlyOnce { 1 } else { sent.times };
            if read.shared {
                *(if expected == QoS::ExactlyOnce {
                    &mut self.counts.repeated_shared
                } else {
                    &mut self.counts.repeated_qos_1
                }) += 1;
            } else if expected == QoS::ExactlyOnce || seen.there > allowed {
                let connections = format!("on its connections {} and {connection}", before.connection);
                return Err(Fault::Repeated {
                    reader: name,
                    topic: topic_name,
                    number,
                    times: seen.times,
                    connections,
                });
            } else {
                self.counts.repeated_qos_1 += 1;
            }
            return Ok(());
        }
        let last = read.last[topic.0];
        read.last[topic.0] = last.max(number);
        if read.shared {
            return Ok(());
        }
        if number < last {
            return Err(Fault::Reordered { reader: name, topic: topic_name, number, behind: last });
        }
        if number > last + 1 {
            return Err(Fault::Skipped { reader: name, topic: topic_name, from: last + 1, to: number - 1 });
        }
        Ok(())
    }

    /// What was acknowledged and has not come.
    pub(crate) fn missing(&self) -> Vec<Fault> {
        let mut missing = Vec::new();
        for read in &self.readers {
            for topic in &read.topics {
                let written = &self.topics[topic.0];
                let came = |at: usize| read.seen[topic.0].get(at).is_some_and(|seen| seen.times > 0);
                let numbers: Vec<u32> = (0..written.messages.len())
                    .filter(|at| written.messages[*at].acknowledged && !came(*at))
                    .map(|at| at as u32 + 1)
                    .collect();
                if !numbers.is_empty() {
                    missing.push(Fault::Lost { reader: read.name.clone(), topic: written.name.clone(), numbers });
                }
            }
        }
        missing
    }
}

/// A retained message with this number was found, 0 for none; `sent` is the last one that left.
pub(crate) fn check_retained(topic: &str, acknowledged: u32, sent: u32, found: u32) -> Result<(), Fault> {
    let topic = topic.to_owned();
    if found > sent {
        return Err(Fault::Invented { reader: "a new subscriber".into(), topic, number: found });
    }
    if found < acknowledged { Err(Fault::Forgotten { topic, acknowledged, found }) } else { Ok(()) }
}

mod tests {
    use super::*;

    /// Five messages, all acknowledged, and one reader.
    fn five(qos: QoS, granted: QoS, shared: bool) -> (Ledger, Topic, Reader) {
        let mut ledger = Ledger::default();
        let topic = ledger.add_topic("a", qos);
        let reader = ledger.add_reader("r", shared, granted, &[topic]);
        for number in 1..=5 {
            assert_eq!(ledger.on_published(topic), number);
            ledger.on_acknowledged(topic, number);
        }
        (ledger, topic, reader)
    }

    /// Numbers with the connections on which they come.
    fn play(qos: QoS, granted: QoS, shared: bool, came: &[(u32, u32)]) -> Result<Ledger, Fault> {
        let (mut ledger, topic, reader) = five(qos, granted, shared);
        for (connection, number) in came {
            ledger.on_received(reader, *connection, (topic, *number), qos.min(granted))?;
        }
        Ok(ledger)
    }

    const ONE: QoS = QoS::AtLeastOnce;
    const TWO: QoS = QoS::ExactlyOnce;
    const ALL: [(u32, u32); 5] = [(1, 1), (1, 2), (1, 3), (2, 4), (2, 5)];

    #[test]
    fn what_comes_once_and_in_order_is_right() {
        for (qos, granted) in [(ONE, ONE), (ONE, TWO), (TWO, ONE), (TWO, TWO)] {
            let ledger = play(qos, granted, false, &ALL).unwrap();
            assert_eq!(ledger.missing(), []);
            assert_eq!((ledger.counts.acknowledged, ledger.counts.received), (5, 5));
        }
    }

    #[test]
    fn a_lost_message_is_found_at_the_next_one() {
        let fault = play(ONE, ONE, false, &[(1, 1), (1, 3)]).err().unwrap();
        assert!(matches!(fault, Fault::Skipped { from: 2, to: 2, .. }), "{fault}");
    }

    #[test]
    fn a_lost_message_at_the_end_is_found_at_the_end() {
        for qos in [ONE, TWO] {
            let ledger = play(qos, qos, false, &ALL[..3]).unwrap();
            assert!(matches!(&ledger.missing()[..], [Fault::Lost { numbers, .. }] if numbers == &[4, 5]));
        }
    }

    #[test]
    fn what_nobody_acknowledged_may_be_absent() {
        let mut ledger = play(ONE, ONE, false, &ALL).unwrap();
        ledger.on_published(Topic(0));
        assert_eq!(ledger.missing(), []);
    }

    #[test]
    fn a_message_that_comes_twice_with_qos_2_is_found() {
        for came in [[(1, 1), (1, 1)], [(1, 1), (2, 1)]] {
            let fault = play(TWO, TWO, false, &came).err().unwrap();
            assert!(matches!(fault, Fault::Repeated { number: 1, times: 2, .. }), "{fault}");
        }
    }

    #[test]
    fn a_repetition_with_qos_1_needs_another_connection_or_a_publisher_that_sent_it_again() {
        let ledger = play(ONE, ONE, false, &[(1, 1), (1, 2), (2, 1), (2, 2), (2, 3)]).unwrap();
        assert_eq!(ledger.counts.repeated_qos_1, 2);
        let fault = play(ONE, ONE, false, &[(1, 1), (1, 1)]).err().unwrap();
        assert!(matches!(fault, Fault::Repeated { .. }), "{fault}");
        for (qos, right) in [(ONE, true), (TWO, false)] {
            let (mut ledger, topic, reader) = five(qos, ONE, false);
            ledger.on_resent(topic, 1);
            ledger.on_received(reader, 1, (topic, 1), ONE).unwrap();
            assert_eq!(ledger.on_received(reader, 1, (topic, 1), ONE).is_ok(), right, "{qos:?}");
        }
    }

    #[test]
    fn a_message_behind_a_later_one_is_found() {
        let (mut ledger, topic, reader) = five(TWO, TWO, false);
        ledger.on_received(reader, 1, (topic, 1), TWO).unwrap();
        ledger.on_received(reader, 1, (topic, 3), TWO).unwrap_err();
        let fault = ledger.on_received(reader, 1, (topic, 2), TWO).unwrap_err();
        assert!(matches!(fault, Fault::Reordered { number: 2, behind: 3, .. }), "{fault}");
    }

    #[test]
    fn members_of_a_group_share_what_comes_in_any_order() {
        let ledger = play(ONE, ONE, true, &[(1, 2), (2, 1), (1, 5), (1, 3), (2, 3)]).unwrap();
        assert!(matches!(&ledger.missing()[..], [Fault::Lost { numbers, .. }] if numbers == &[4]));
    }

    #[test]
    fn what_nobody_sent_and_what_has_another_qos_is_found() {
        assert!(matches!(play(ONE, ONE, false, &[(1, 6)]), Err(Fault::Invented { number: 6, .. })));
        assert!(matches!(play(ONE, ONE, false, &[(1, 0)]), Err(Fault::Invented { number: 0, .. })));
        let (mut ledger, topic, reader) = five(TWO, ONE, false);
        assert!(matches!(ledger.on_received(reader, 1, (topic, 1), TWO), Err(Fault::WrongQos { .. })));
    }

    #[test]
    fn a_retained_message_may_be_younger_than_what_was_acknowledged_but_not_older() {
        assert!((5..=7).all(|found| check_retained("k", 5, 7, found).is_ok()));
        assert!(matches!(check_retained("k", 5, 7, 4), Err(Fault::Forgotten { .. })));
        assert!(matches!(check_retained("k", 5, 7, 0), Err(Fault::Forgotten { .. })));
        assert!(matches!(check_retained("k", 5, 7, 8), Err(Fault::Invented { .. })));
    }
}
