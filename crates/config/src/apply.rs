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
    /// Gives a listener other terms and places. If it fails, nothing has changed.
    fn change(&self, listener: &Listener, ending: Ending) -> Result<(), String>;
    fn close(&self, name: &str, ending: Ending) -> Result<(), String>;
}

/// Something that was done, and how to take it back.
enum Done<'a> {
    Opened(&'a Listener),
    Changed(&'a Listener),
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
    plan.renewed.iter().try_for_each(|listener| live.change(listener, Ending::Keep)).map_err(|fault| vec![fault])?;
    let mut done = Vec::new();
    for step in order(plan) {
        match carry_out(step, plan.ending(), live) {
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
fn order(plan: &Plan) -> Vec<&Step> {
    let waits = |step: &Step| {
        let leaving = plan.steps.iter().filter(|other| other.moves() && !std::ptr::eq(*other, step));
        !matches!(step, Step::Close(_)) && leaving.map(before).any(|other| overlap(step.listener(), other).is_some())
    };
    let makes_room = |step: &Step| {
        let taking = plan.steps.iter().filter(|other| !matches!(other, Step::Close(_)) && !std::ptr::eq(*other, step));
        step.moves() && taking.map(Step::listener).any(|other| overlap(before(step), other).is_some())
    };
    let rank = |step: &&Step| match (makes_room(step), waits(step), step) {
        (true, _, _) => 1,
        (false, true, _) => 2,
        (false, false, Step::Close(_)) => 3,
        (false, false, _) => 0,
    };
    let mut steps: Vec<&Step> = plan.steps.iter().collect();
    steps.sort_by_key(rank);
    steps
}

/// The listener as it is before a step.
fn before(step: &Step) -> &Listener {
    match step {
        Step::Change { before, .. } => before,
        step => step.listener(),
    }
}

fn carry_out<'a>(step: &'a Step, ending: Ending, live: &dyn Live) -> Result<Done<'a>, String> {
    match step {
        Step::Open(listener) => live.open(listener).map(|()| Done::Opened(listener)),
        Step::Change { before, after, .. } => live.change(after, ending).map(|()| Done::Changed(before)),
        Step::Close(listener) => live.close(&listener.options.name, ending).map(|()| Done::Closed(listener)),
    }
}

/// Takes back what was done, the last first. What can't be taken back is told.
fn undo(done: Vec<Done<'_>>, live: &dyn Live) -> Vec<String> {
    let back = |done| match done {
        Done::Opened(listener) => live.close(&listener.options.name, Ending::Cut),
        Done::Changed(before) => live.change(before, Ending::Keep),
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

        fn change(&self, listener: &Listener, ending: Ending) -> Result<(), String> {
            self.note(format!("change {} {} {ending:?}", listener.options.name, listener.options.connections_max))
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
    fn certificates_are_read_again_at_every_reload() {
        let (result, seen) = applied("", "", "");
        assert_eq!(result, Ok(()));
        assert!(seen.contains(&"prepare tls.default".into()) && seen.contains(&"change tls.default 0 Keep".into()));
        let (result, seen) = applied("", "", "prepare wss.default");
        assert!(result.is_err() && !seen.iter().any(|line| line.starts_with("change")));
    }
}
