//! A plan is carried out as a whole or not at all.

use breakwater_net::Ending;

use crate::listener::Listener;
use crate::plan::{Plan, Step};
use crate::resolve::{OnRebind, overlap};

/// The running listeners.
pub trait Live {
    /// Reads and checks all that a listener needs besides sockets: certificates, keys, lists. Nothing changes by it.
    fn prepare(&self, listener: &Listener) -> Result<(), Vec<String>>;
    fn open(&self, listener: &Listener) -> Result<(), String>;
    /// Gives listeners other terms and places, which may be each other's. If it fails, nothing has changed.
    fn change(&self, listeners: &[&Listener], ending: Ending) -> Result<(), String>;
    fn close(&self, name: &str, ending: Ending) -> Result<(), String>;
}

/// Something that was done, and how to take it back.
enum Done<'a> {
    Opened(&'a Listener),
    Changed(Vec<&'a Listener>),
    Closed(&'a Listener),
}

/// Carries a plan out. What fails is told, one line each, and then everything is as it was.
///
/// Only a port that one listener hands to another makes an exception: its connections may have been ended by then.
pub fn apply(plan: &Plan, live: &dyn Live) -> Result<(), Vec<String>> {
    let opened = plan.steps.iter().filter(|step| !matches!(step, Step::Close(_))).map(Step::listener);
    let faults: Vec<String> =
        opened.chain(&plan.renewed).filter_map(|listener| live.prepare(listener).err()).flatten().collect();
    if !faults.is_empty() {
        return Err(faults);
    }
    // First, because there is nothing to undo: what fails here is as it was.
    plan.renewed.iter().try_for_each(|listener| live.change(&[listener], Ending::Keep)).map_err(|fault| vec![fault])?;
    let mut done = Vec::new();
    for group in order(plan) {
        match carry_out(&group, plan.ending(), live) {
            Ok(made) => done.push(made),
            Err(fault) => {
                let mut faults = vec![fault];
                faults.extend(undo(done, live));
                return Err(faults);
            }
        }
    }
    Ok(())
}

impl Plan {
    fn ending(&self) -> Ending {
        match self.on_rebind {
            OnRebind::Keep => Ending::Keep,
            OnRebind::Drain => Ending::Drain { over_ms: self.drain_over_ms },
            OnRebind::Cut => Ending::Cut,
        }
    }
}

/// What may fail comes first and what can't come last, but for ports that have to be free before somebody else takes them.
/// Those who wait for each other's ports are one group.
fn order(plan: &Plan) -> Vec<Vec<&Step>> {
    let takes = |step: &Step, from: &Step| {
        let other = !std::ptr::eq(step, from) && from.moves() && !matches!(step, Step::Close(_));
        other && overlap(step.listener(), before(from)).is_some()
    };
    let rank = |step: &Step, left: &[&Step]| {
        let makes_room = left.iter().any(|other| takes(other, step));
        let waits = plan.steps.iter().any(|other| takes(step, other));
        match (makes_room, waits, step) {
            (true, _, _) => 1,
            (false, true, _) => 2,
            (false, false, Step::Close(_)) => 3,
            (false, false, _) => 0,
        }
    };
    let (mut left, mut groups) = (plan.steps.iter().collect::<Vec<_>>(), Vec::new());
    while !left.is_empty() {
        let is_free = |step: &&Step| left.iter().all(|other| !takes(step, other));
        let next = left.iter().copied().filter(is_free).min_by_key(|step| rank(step, &left));
        let group = next.map_or_else(|| circle(&left, takes), |step| vec![step]);
        left.retain(|step| group.iter().all(|done| !std::ptr::eq(*done, *step)));
        groups.push(group);
    }
    groups
}

/// Of steps that all wait for others: those that are waited for in a circle.
fn circle<'a>(all: &[&'a Step], takes: impl Fn(&Step, &Step) -> bool) -> Vec<&'a Step> {
    let mut circle = all.to_vec();
    loop {
        let before = circle.len();
        let awaited: Vec<&Step> =
            circle.iter().copied().filter(|step| circle.iter().any(|other| takes(other, step))).collect();
        circle = awaited;
        if circle.len() == before {
            return circle;
        }
    }
}

/// The listener as it is before a step.
fn before(step: &Step) -> &Listener {
    match step {
        Step::Change { before, .. } => before,
        step => step.listener(),
    }
}

fn carry_out<'a>(group: &[&'a Step], ending: Ending, live: &dyn Live) -> Result<Done<'a>, String> {
    match group {
        [Step::Open(listener)] => live.open(listener).map(|()| Done::Opened(listener)),
        [Step::Close(listener)] => live.close(&listener.options.name, ending).map(|()| Done::Closed(listener)),
        steps => {
            let (before, after): (Vec<_>, Vec<_>) = steps.iter().map(|step| (before(step), step.listener())).unzip();
            let names: Vec<&str> = after.iter().map(|listener| &*listener.options.name).collect();
            live.change(&after, ending).map(|()| Done::Changed(before)).map_err(|fault| match &names[..] {
                [_] => fault,
                _ => format!("{fault}; {} take each other's places: do it in two steps", names.join(", ")),
            })
        }
    }
}

/// Takes back what was done, the last first. What can't be taken back is told.
fn undo(done: Vec<Done<'_>>, live: &dyn Live) -> Vec<String> {
    let back = |done| match done {
        Done::Opened(listener) => live.close(&listener.options.name, Ending::Cut),
        Done::Changed(before) => live.change(&before, Ending::Keep),
        Done::Closed(listener) => live.open(listener),
    };
    done.into_iter()
        .rev()
        .filter_map(|done| back(done).err())
        .map(|fault| format!("can't be undone: {fault}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::plan::plan;
    use crate::tests::good;

    /// Writes down what is asked of it, and fails where it is told to.
    #[derive(Default)]
    struct Recorder {
        fails: &'static str,
        seen: RefCell<Vec<String>>,
    }

    impl Recorder {
        fn note(&self, line: String) -> Result<(), String> {
            let fails = line == self.fails;
            self.seen.borrow_mut().push(line.clone());
            if fails { Err(format!("no {line}")) } else { Ok(()) }
        }
    }

    impl Live for Recorder {
        fn prepare(&self, listener: &Listener) -> Result<(), Vec<String>> {
            self.note(format!("prepare {}", listener.options.name)).map_err(|fault| vec![fault])
        }

        fn open(&self, listener: &Listener) -> Result<(), String> {
            self.note(format!("open {}", listener.options.name))
        }

        fn change(&self, listeners: &[&Listener], ending: Ending) -> Result<(), String> {
            let one = |listener: &&Listener| format!("{} {} ", listener.options.name, listener.options.connections_max);
            self.note(format!("change {}{ending:?}", listeners.iter().map(one).collect::<String>()))
        }

        fn close(&self, name: &str, ending: Ending) -> Result<(), String> {
            self.note(format!("close {name} {ending:?}"))
        }
    }

    const OLD: &str = "listeners.defaults = false\n[listeners.tcp.a]\nbind = '127.0.0.1:1'\n\
                       [listeners.tcp.b]\nbind = '127.0.0.1:2'\n";
    const NEW: &str = "listeners.defaults = false\n[listeners.tcp.b]\nbind = '127.0.0.1:2'\nmax_connections = 5\n\
                       [listeners.tls.c]\nbind = '127.0.0.1:3'\n";

    fn applied(old: &str, new: &str, fails: &'static str) -> (Result<(), Vec<String>>, Vec<String>) {
        let recorder = Recorder { fails, ..Recorder::default() };
        let result = apply(&plan(&good(old), &good(new)), &recorder);
        (result, recorder.seen.into_inner())
    }

    #[test]
    fn what_can_fail_is_done_before_anything_is_closed() {
        let (result, seen) = applied(OLD, NEW, "");
        assert_eq!(result, Ok(()));
        let order = ["prepare tcp.b", "prepare tls.c", "change tcp.b 5 Keep", "open tls.c", "close tcp.a Keep"];
        assert_eq!(seen, order);
    }

    #[test]
    fn nothing_is_touched_if_something_can_not_be_prepared() {
        let (result, seen) = applied(OLD, NEW, "prepare tls.c");
        assert_eq!((result, seen.len()), (Err(vec!["no prepare tls.c".into()]), 2));
    }

    #[test]
    fn what_was_done_is_undone_when_a_later_step_fails() {
        let (result, seen) = applied(OLD, NEW, "open tls.c");
        assert_eq!(result, Err(vec!["no open tls.c".into()]));
        assert_eq!(seen[2..], ["change tcp.b 5 Keep", "open tls.c", "change tcp.b 0 Keep"]);
        let (result, seen) = applied(OLD, NEW, "close tcp.a Keep");
        assert!(result.is_err());
        assert_eq!(seen[4..], ["close tcp.a Keep", "close tls.c Cut", "change tcp.b 0 Keep"]);
    }

    #[test]
    fn a_port_is_left_before_another_listener_takes_it() {
        let handed = "listeners.defaults = false\n[listeners.tcp.b]\nbind = '127.0.0.1:2'\n\
                      [listeners.tcp.c]\nbind = '127.0.0.1:1'\n";
        let (result, seen) = applied(OLD, handed, "");
        assert_eq!(result, Ok(()));
        assert_eq!(seen, ["prepare tcp.c", "close tcp.a Keep", "open tcp.c"]);
        let (_, seen) = applied(OLD, handed, "open tcp.c");
        assert_eq!(seen[1..], ["close tcp.a Keep", "open tcp.c", "open tcp.a"]);
    }

    #[test]
    fn ports_are_left_in_the_order_in_which_they_are_taken() {
        let at = |ports: [u16; 3]| {
            let one = |(name, port)| format!("[listeners.tcp.{name}]\nbind = '127.0.0.1:{port}'\n");
            let all: String = ["a", "b", "c"].into_iter().zip(ports).map(one).collect();
            format!("listeners.defaults = false\n{all}")
        };
        let (result, seen) = applied(&at([1, 2, 3]), &at([2, 3, 4]), "");
        assert_eq!(result, Ok(()));
        assert_eq!(seen[3..], ["change tcp.c 0 Keep", "change tcp.b 0 Keep", "change tcp.a 0 Keep"]);
        // Two that change places, and one that waits for neither.
        let (result, seen) = applied(&at([1, 2, 3]), &at([2, 1, 4]), "");
        assert_eq!(result, Ok(()));
        assert_eq!(seen[3..], ["change tcp.c 0 Keep", "change tcp.a 0 tcp.b 0 Keep"]);
        let (result, seen) = applied(&at([1, 2, 3]), &at([2, 3, 1]), "change tcp.a 0 tcp.b 0 tcp.c 0 Keep");
        let told = result.expect_err("it fails");
        assert!(told[0].contains("tcp.a, tcp.b, tcp.c take each other's places"), "{told:?}");
        assert_eq!(seen.len(), 4, "nothing was done, nothing is undone");
    }

    #[test]
    fn certificates_are_read_again_at_every_reload() {
        let (result, seen) = applied("", "", "");
        assert_eq!(result, Ok(()));
        assert!(seen.contains(&"prepare tls.default".into()) && seen.contains(&"change tls.default 0 Keep".into()));
        let (result, seen) = applied("", "", "prepare wss.default");
        assert!(result.is_err() && !seen.iter().any(|line| line.starts_with("change")));
    }
}
