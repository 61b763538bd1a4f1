use super::*;
use crate::tests::good;

fn lines(old: &str, new: &str) -> Vec<String> {
    plan(&good(old), &good(new)).lines()
}

const BASE: &str = "listeners.defaults = false\n[listeners.tcp.a]\nbind = '127.0.0.1:1'\n";

#[test]
fn same_text_is_no_change() {
    let plan = plan(&good(""), &good("# a comment\n"));
    assert!(plan.is_empty());
    assert_eq!(
        plan.lines(),
        ["nothing has changed", "certificates read again: tls.default, wss.default, quic.default"]
    );
}

#[test]
fn listeners_come_and_go() {
    let more = format!("{BASE}[listeners.tcp.b]\nbind = '127.0.0.1:2'\n");
    assert_eq!(lines(BASE, &more), ["listener tcp.b: added on 127.0.0.1:2"]);
    assert_eq!(lines(&more, BASE), ["listener tcp.b: removed from 127.0.0.1:2; its connections stay"]);
    let cut = format!("reload.on_rebind = 'cut'\n{BASE}");
    assert!(lines(&more, &cut)[0].ends_with("its connections end"));
    let off = format!("{BASE}enabled = false\n");
    assert_eq!(lines(BASE, &off), ["listener tcp.a: removed from 127.0.0.1:1; its connections stay"]);
}

#[test]
fn changes_of_a_listener_say_from_when_on_they_count() {
    let new = format!("{BASE}max_connections = 5\nmountpoint = 'x/'\naccess = ['deny all']\n");
    assert_eq!(
        lines(BASE, &new),
        [
            "listener tcp.a: changed at once: max_connections: unlimited -> 5 (/etc/b/b.toml:4:1)",
            "listener tcp.a: changed for new connections, who is connected has to reconnect for it: \
             mountpoint: (none) -> x/ (/etc/b/b.toml:5:1); access: (none) -> deny all (/etc/b/b.toml:6:1)",
        ]
    );
}

#[test]
fn another_port_is_a_move_and_a_further_one_is_not() {
    let moved = BASE.replace(":1'", ":9'");
    assert_eq!(lines(BASE, &moved), ["listener tcp.a: moved from 127.0.0.1:1 to 127.0.0.1:9; its connections stay"]);
    let further = BASE.replace("'127.0.0.1:1'", "['127.0.0.1:1', '127.0.0.1:9']");
    assert_eq!(lines(BASE, &further), ["listener tcp.a: changed at once, listens on 127.0.0.1:1, 127.0.0.1:9"]);
}

#[test]
fn shared_settings_reach_the_listeners_whose_terms_they_are() {
    let zones = format!("{BASE}zone = 'z'\n[zones.z]\nmqtt.max_qos = 1\n[listeners.tcp.b]\nbind = '127.0.0.1:2'\n");
    let changed = zones.replace("max_qos = 1", "max_qos = 0");
    let plan = plan(&good(&zones), &good(&changed));
    let names: Vec<&str> = plan.steps.iter().map(|step| &*step.listener().options.name).collect();
    assert_eq!(names, ["tcp.a"]);
    assert_eq!(
        plan.lines(),
        [
            "listener tcp.a: new terms for new connections, from settings that it shares",
            "setting zones.z.mqtt.max_qos: 1 -> 0 (/etc/b/b.toml:6:6), for new connections",
        ]
    );
    let all = super::plan(&good(&zones), &good(&format!("mqtt.max_inflight = 9\n{zones}")));
    assert_eq!(all.steps.len(), 2);
}

#[test]
fn another_durability_holds_for_new_connections_unless_nothing_was_kept_before() {
    let zoned = |own: &str, broker: &str| {
        format!("store.durability = '{broker}'\n{BASE}zone = 'z'\n[zones.z.store]\ndurability = '{own}'\n")
    };
    let (old, new) = (good(&zoned("fsync", "fsync")), good(&zoned("memory", "os")));
    let changed = plan(&old, &new);
    assert_eq!((changed.steps.len(), changed.restarts().count()), (1, 0));
    assert!(changed.lines().iter().skip(1).all(|line| line.ends_with("for new connections")), "{:?}", changed.lines());

    let (old, new) = (good(&zoned("memory", "memory")), good(&zoned("fsync", "memory")));
    let changed = plan(&old, &new);
    let restarts: Vec<&str> = changed.restarts().map(|change| &*change.key).collect();
    assert_eq!(restarts, ["zones.z.store.durability"]);
    // It is named again until there is one.
    let running = new.clone().taken_up(&old);
    assert!(!running.store.is_open);
    assert_eq!(plan(&running, &new).restarts().count(), 1);
}

#[test]
fn what_holds_before_connect_needs_no_restart() {
    let plan =
        plan(&good(BASE), &good(&format!("mqtt.connect_timeout = '3s'\nmqtt.max_packet_size_connect = '1KB'\n{BASE}")));
    assert_eq!((plan.steps.len(), plan.restarts().count()), (1, 0));
    assert!(plan.lines().iter().skip(1).all(|line| line.ends_with("for new connections")), "{:?}", plan.lines());
}

#[test]
fn what_waits_for_a_restart_is_named_until_there_is_one() {
    let (old, new) = (good(BASE), good(&format!("limits.memory = '2GB'\n{BASE}")));
    let first = plan(&old, &new);
    assert!(first.steps.is_empty() && first.restarts().count() == 1);
    assert!(first.lines()[0].contains("limits.memory: 1GB -> 2GB") && first.lines()[0].contains("restart the broker"));
    let running = new.clone().taken_up(&old);
    assert_eq!(plan(&running, &new).restarts().count(), 1);
    assert_eq!(plan(&running, &old).restarts().count(), 0);
}

#[test]
fn secrets_do_not_appear_in_a_plan() {
    let base = "[listeners.tls.x]\nbind = 1\ntls.certificate = 'c'\ntls.key = 'k'\n";
    let one = format!("{base}tls.key_password = 'hunter2'\n");
    let other = format!("{base}tls.key_password = 'hunter3'\n");
    let plan = plan(&good(&one), &good(&other));
    assert_eq!(plan.steps.len(), 1);
    assert!(!format!("{plan:?} {:?}", plan.lines()).contains("hunter"), "{:?}", plan.lines());
}
