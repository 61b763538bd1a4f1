//! Some hundred seeds of the simulation; `cargo xtask simulate` plays more.

use breakwater_testkit::simulation;

#[test]
fn no_seed_breaks_a_promise() {
    let mut played = simulation::Summary::default();
    for seed in 0..300 {
        match simulation::run(seed) {
            Ok(summary) => {
                played.messages += summary.messages;
                played.deliveries += summary.deliveries;
                played.wills += summary.wills;
                played.pauses += summary.pauses;
            }
            Err(failure) => panic!("{failure}"),
        }
    }
    // A simulation in which nothing happens proves nothing.
    assert!(played.messages > 10_000 && played.deliveries > 10_000, "{played:?}");
    assert!(played.wills > 100 && played.pauses > 0, "{played:?}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 2, 3, 4, 5] {
        let [first, second] =
            [simulation::run(seed), simulation::run(seed)].map(|run| run.map_err(|failure| failure.what));
        assert_eq!(first, second);
    }
}

#[test]
fn no_seed_breaks_a_promise_while_acknowledgements_wait_for_a_disk() {
    for seed in 0..100 {
        if let Err(failure) = simulation::run_stored(seed) {
            panic!("{failure}");
        }
    }
}
