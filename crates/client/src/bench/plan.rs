//! Who publishes to whom in a run, resolved from the flags and checked.

use std::net::SocketAddr;
use std::time::Duration;

use super::Fault;
use super::cover::Covers;
use super::options::{Load, Target};
use super::usage;
use super::wire::Stamp;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shape {
    Pair,
    FanOut,
    FanIn,
    Publish,
    Subscribe,
}

impl Shape {
    pub(super) fn name(self) -> &'static str {
        match self {
            Shape::Pair => "pair",
            Shape::FanOut => "fan-out",
            Shape::FanIn => "fan-in",
            Shape::Publish => "pub",
            Shape::Subscribe => "sub",
        }
    }
}

/// One client of the run.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) id: String,
    pub(super) topic: String,
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) shape: Shape,
    pub(super) load: Load,
    pub(super) target: Target,
    pub(super) address: SocketAddr,
    pub(super) covers: Covers,
    pub(super) publishers: Vec<Client>,
    pub(super) subscribers: Vec<Client>,
}

impl Plan {
    pub(super) fn new(load: &Load, shape: Shape) -> Result<Plan, Fault> {
        check(load)?;
        let address = load.target.address()?;
        let n = usize::try_from(load.clients).expect("checked by its range");
        let (publishing, subscribing) = match shape {
            Shape::Pair => (n, n),
            Shape::FanOut => (1, n),
            Shape::FanIn => (n, 1),
            Shape::Publish => (n, 0),
            Shape::Subscribe => (0, n),
        };
        let mut plan = Plan {
            shape,
            target: load.target.clone(),
            load: load.clone(),
            address,
            covers: load.target.covers()?,
            publishers: clients(load, shape, "p", publishing),
            subscribers: clients(load, shape, "s", subscribing),
        };
        plan.name_pairs()?;
        plan.check_open_files()?;
        Ok(plan)
    }

    /// Deliveries that one published message causes.
    pub(super) fn fan_out(&self) -> u64 {
        match self.shape {
            Shape::Pair | Shape::FanIn => 1,
            Shape::FanOut => u64::from(self.load.clients),
            Shape::Publish | Shape::Subscribe => 0,
        }
    }

    /// Publishers that subscriber `index` hears: the first one and how many (`None`: not known before the run).
    pub(super) fn heard_by(&self, index: usize) -> (u32, Option<usize>) {
        let first = self.load.first_publisher;
        match self.shape {
            Shape::Pair => (first + u32::try_from(index).expect("clients fit a u32"), Some(1)),
            Shape::FanOut | Shape::FanIn => (first, Some(self.publishers.len())),
            Shape::Publish | Shape::Subscribe => (0, None),
        }
    }

    /// Deliveries that one publisher may have under way in a saturating run; `None` is no bound.
    pub(super) fn outstanding_each(&self) -> Option<u64> {
        let publishers = u64::try_from(self.publishers.len()).expect("few").max(1);
        (self.load.outstanding > 0 && self.fan_out() > 0).then(|| (self.load.outstanding / publishers).max(1))
    }

    pub(super) fn rest(&self) -> Duration {
        let connections = self.publishers.len() + self.subscribers.len();
        Duration::from_micros(self.load.rest_us.unwrap_or(if connections >= 50 { 1000 } else { 50 }))
    }

    fn name_pairs(&mut self) -> Result<(), Fault> {
        let Some(names) = &self.load.pair_ids else { return Ok(()) };
        for (i, pair) in names.split(',').enumerate() {
            let (publisher, subscriber) = pair
                .split_once(':')
                .ok_or_else(|| Fault::new(format!("--pair-ids: '{pair}' is not publisher:subscriber")))?;
            if let Some(client) = self.publishers.get_mut(i) {
                publisher.clone_into(&mut client.id);
            }
            if let Some(client) = self.subscribers.get_mut(i) {
                subscriber.clone_into(&mut client.id);
            }
        }
        Ok(())
    }

    fn check_open_files(&self) -> Result<(), Fault> {
        check_open_files(self.publishers.len() + self.subscribers.len())
    }
}

/// Fails early where the run would end half-way with "too many open files".
pub(super) fn check_open_files(connections: usize) -> Result<(), Fault> {
    const OWN: u64 = 32; // standard streams, poller, timer, libraries
    let needed = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OWN);
    match usage::open_files_max() {
        Some(max) if needed > max => Err(Fault::new(format!(
            "{connections} connections need {needed} open files but the limit is {max}: raise it with 'ulimit -n'"
        ))),
        _ => Ok(()),
    }
}

fn check(load: &Load) -> Result<(), Fault> {
    if load.size < Stamp::LEN {
        return Err(Fault::new(format!("--size is at least {} (time, publisher, sequence number)", Stamp::LEN)));
    }
    if load.size > 64 << 20 {
        return Err(Fault::new("--size is at most 64 MiB"));
    }
    if load.rate == Some(0) {
        return Err(Fault::new("--rate is at least 1; leave it out to saturate"));
    }
    for seconds in [load.duration, load.warmup, load.drain] {
        if !(0.0..=1e7).contains(&seconds) {
            return Err(Fault::new("durations are seconds, 0 or more"));
        }
    }
    if load.topic.len() + load.target.id_prefix.len() > 60_000 {
        return Err(Fault::new("--topic and --id-prefix are too long"));
    }
    Ok(())
}

/// One topic for fan-out and fan-in, one per pair otherwise. Names have equal lengths so that packets have, too.
fn clients(load: &Load, shape: Shape, role: &str, count: usize) -> Vec<Client> {
    let first = usize::try_from(load.first_publisher).expect("fits");
    (first..first + count)
        .map(|i| Client {
            id: format!("{}-{role}-{i:05}", load.target.id_prefix),
            topic: match shape {
                Shape::FanOut | Shape::FanIn => format!("{}/{}", load.topic, shape.name()),
                Shape::Subscribe if load.topic.contains(['+', '#']) => load.topic.clone(),
                Shape::Pair | Shape::Publish | Shape::Subscribe => format!("{}/{i:05}", load.topic),
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::options::{BenchArgs, Scenario};
    use super::*;
    use clap::Parser;

    fn plan(shape: Shape, flags: &[&str]) -> Result<Plan, Fault> {
        let words = ["bench", "pair"].into_iter().chain(flags.iter().copied());
        let Scenario::Pair(load) = BenchArgs::try_parse_from(words).unwrap().scenario else { unreachable!() };
        Plan::new(&load, shape)
    }

    #[test]
    fn the_bound_on_what_is_under_way_is_shared_by_the_publishers() {
        assert_eq!(plan(Shape::FanIn, &["-n", "1000"]).unwrap().outstanding_each(), Some(100));
        assert_eq!(plan(Shape::FanOut, &["-n", "1000"]).unwrap().outstanding_each(), Some(100_000));
        assert_eq!(plan(Shape::Pair, &["--outstanding", "0"]).unwrap().outstanding_each(), None);
        assert_eq!(plan(Shape::Publish, &[]).unwrap().outstanding_each(), None);
    }

    #[test]
    fn pair_ids_replace_the_numbered_ones() {
        let plan = plan(Shape::Pair, &["-n", "3", "--pair-ids", "a:b,c:d"]).unwrap();
        let ids: Vec<_> = plan.publishers.iter().chain(&plan.subscribers).map(|c| c.id.as_str()).collect();
        assert_eq!(ids, ["a", "c", "bench-p-00002", "b", "d", "bench-s-00002"]);
    }

    #[test]
    fn a_payload_too_small_for_its_stamp_is_refused() {
        assert!(plan(Shape::Pair, &["--size", "15"]).is_err());
    }
}
