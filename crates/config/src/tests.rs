use crate::{TABLE, edits, nearest, reference, resolve};

fn faults(pairs: &[&str]) -> Vec<String> {
    resolve(pairs.iter().copied()).expect_err("these settings are wrong")
}

#[test]
fn every_default_is_inside_its_bounds() {
    for setting in TABLE {
        setting.parse(setting.default).unwrap_or_else(|fault| panic!("{}: {fault}", setting.key));
    }
}

#[test]
fn defaults_are_those_of_the_planes() {
    let resolved = resolve([]).expect("defaults hold together");
    let planes = breakwater_shard::Options::default();
    assert_eq!(format!("{:?}", resolved.shard), format!("{planes:?}"));
    let planes = breakwater_router::RouterOptions::default();
    assert_eq!(format!("{:?}", resolved.router.retained), format!("{:?}", planes.retained));
    assert_eq!(resolved.net, breakwater_net::Options::default());
}

#[test]
fn keys_are_unique_and_grouped() {
    let mut groups = Vec::new();
    for setting in TABLE {
        let (group, rest) = setting.key.split_once('.').expect("a key has a group");
        assert!(!rest.is_empty());
        if groups.last() != Some(&group) {
            assert!(!groups.contains(&group), "{group} stands in two places");
            groups.push(group);
        }
        assert_eq!(TABLE.iter().filter(|other| other.key == setting.key).count(), 1, "{}", setting.key);
        assert!(setting.meaning.ends_with('.') && !setting.meaning.contains('|'), "{}", setting.key);
    }
}

#[test]
fn later_value_of_a_key_counts() {
    let resolved = resolve(["mqtt.max_inflight=7", "mqtt.max_inflight = 9"]).expect("both are fine");
    assert_eq!(resolved.shard.limits.inflight_max, 9);
}

#[test]
fn unknown_key_names_the_nearest_one() {
    assert_eq!(nearest("mqtt.max_inflght"), "mqtt.max_inflight");
    assert_eq!(nearest("max_packet_size"), "mqtt.max_packet_size");
    assert_eq!(nearest("mqtt.shared_strategy"), "shared.strategy");
    assert!(faults(&["mqtt.max_inflght=3"])[0].contains("mqtt.max_inflight?"));
}

#[test]
fn all_faults_are_told_at_once() {
    let faults = faults(&["nonsense", "mqtt.max_qos=3", "queue.when_full=explode", "mqtt.max_inflight=1"]);
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[0].contains("key=value"));
    assert!(faults[1].contains("0 to 2"));
    assert!(faults[2].contains("drop_oldest, drop_newest"));
}

#[test]
fn settings_are_checked_against_each_other() {
    assert_eq!(faults(&["session.expiry_default=8d"]).len(), 1);
    assert!(resolve(["session.expiry_default=8d", "session.expiry_max=never"]).is_ok());
    let small = resolve(["mqtt.max_packet_size=1KB"]).expect("a small limit alone is fine");
    assert_eq!(small.shard.connect_bytes_max, 1024);
}

#[test]
fn special_words_stand_for_their_numbers() {
    let resolved = resolve(["session.expiry_max=never", "sys.interval=never"]).expect("words are known");
    assert_eq!(resolved.shard.limits.session_expiry_max_s, u32::MAX);
    assert_eq!(resolved.shard.sys_interval_s, 0);
}

#[test]
fn reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == reference(), "docs/configuration.md: run `breakwater docs settings > docs/configuration.md`");
}

#[test]
fn edits_count_insertions_removals_and_replacements() {
    for (a, b, distance) in [("", "", 0), ("a", "", 1), ("kitten", "sitting", 3), ("abc", "abc", 0)] {
        assert_eq!(edits(a, b), distance, "{a} {b}");
    }
}
