//! The rules of the house are part of the test run.

#[test]
fn the_tree_is_tidy() {
    let report = xtask::tidy::check(&xtask::root(), false).expect("the tree can be read");
    assert!(report.faults.is_empty(), "\n{}", report.faults.join("\n"));
}
