pub(crate) mod chance;
mod hostile;

use std::io;
use std::path::{Path, PathBuf};

use crate::acme::ACME_TABLE;
use crate::listener::LISTENER_TABLE;
use breakwater_shard::Durability;

use crate::{Listener, Origin, Resolved, Sources, Surroundings, TABLE, read_bounded, reference, resolve};

/// A machine with one file in it.
pub(crate) fn around() -> Surroundings {
    let read = |path: &Path, _: usize| match path.to_str() {
        Some("/etc/b/password") => Ok(b"hunter2\n".to_vec()),
        _ => Err(io::Error::from(io::ErrorKind::NotFound)),
    };
    Surroundings { data: "/var/lib/b".into(), directory: "/home".into(), ipv6: true, read }
}

pub(crate) fn sources(text: &str, environment: &[(&str, &str)], set: &[&str], listen: &[&str]) -> Sources {
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Sources {
        file: Some((Path::new("/etc/b/b.toml").into(), text.to_owned())),
        environment: environment.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        set: words(set),
        listen: words(listen),
    }
}

pub(crate) fn good(text: &str) -> Resolved {
    resolve(&sources(text, &[], &[], &[]), &around()).unwrap_or_else(|faults| panic!("{text}: {faults:?}"))
}

fn set(pairs: &[&str]) -> Resolved {
    resolve(&sources("", &[], pairs, &[]), &around()).unwrap_or_else(|faults| panic!("{pairs:?}: {faults:?}"))
}

fn faults_of(sources: &Sources) -> Vec<String> {
    let faults = resolve(sources, &around()).expect_err("something is wrong");
    faults.iter().map(ToString::to_string).collect()
}

pub(crate) fn faults(text: &str) -> Vec<String> {
    faults_of(&sources(text, &[], &[], &[]))
}

fn listener<'a>(resolved: &'a Resolved, name: &str) -> &'a Listener {
    let found = resolved.listeners.iter().find(|listener| &*listener.options.name == name);
    found.unwrap_or_else(|| panic!("no {name} in {:?}", names(resolved)))
}

fn names(resolved: &Resolved) -> Vec<&str> {
    resolved.listeners.iter().map(|listener| &*listener.options.name).collect()
}

#[test]
fn every_default_is_inside_its_bounds() {
    TABLE.iter().for_each(|setting| drop(setting.default_value()));
    LISTENER_TABLE.iter().for_each(|setting| drop(setting.default_value()));
    ACME_TABLE.iter().for_each(|setting| drop(setting.default_value()));
}

#[test]
fn defaults_are_those_of_the_planes() {
    let resolved = good("");
    let planes = breakwater_shard::Options::default();
    assert_eq!(format!("{:?}", resolved.shard), format!("{planes:?}"));
    let planes = breakwater_router::RouterOptions::default();
    assert_eq!(format!("{:?}", resolved.router.retained), format!("{:?}", planes.retained));
    assert_eq!(resolved.net, breakwater_net::Options::default());
}

#[test]
fn keys_are_unique_and_grouped() {
    let keys = TABLE.iter().map(|row| (row.key, row.meaning)).collect::<Vec<_>>();
    let listeners = LISTENER_TABLE.iter().map(|row| (row.key, row.meaning)).collect::<Vec<_>>();
    for table in [keys, listeners] {
        let mut groups = Vec::new();
        for (key, meaning) in &table {
            let group = key.split_once('.').map_or("", |(group, _)| group);
            if groups.last() != Some(&group) {
                assert!(!groups.contains(&group), "{group} stands in two places");
                groups.push(group);
            }
            assert_eq!(table.iter().filter(|(other, _)| other == key).count(), 1, "{key}");
            assert!(meaning.ends_with('.') && !meaning.contains('|'), "{key}");
        }
    }
}

#[test]
fn later_value_of_a_key_counts() {
    assert_eq!(set(&["mqtt.max_inflight=7", "mqtt.max_inflight = 9"]).shard.limits.inflight_max, 9);
}

#[test]
fn file_variable_and_flag_count_in_that_order() {
    let variable = [("BREAKWATER_MQTT__MAX_INFLIGHT", "2")];
    let file = "mqtt.max_inflight = 1\n";
    for (environment, flags, inflight) in
        [(&[][..], &[][..], 1), (&variable, &[], 2), (&variable, &["mqtt.max_inflight=3"], 3)]
    {
        let resolved = resolve(&sources(file, environment, flags, &[]), &around()).expect("fine");
        assert_eq!(resolved.shard.limits.inflight_max, inflight);
        let value = resolved.values.iter().find(|value| value.key == "mqtt.max_inflight").expect("it is listed");
        assert_eq!((value.shown.as_str(), value.shadows.len()), (inflight.to_string().as_str(), inflight as usize));
        assert_eq!(value.shadows.last(), Some(&("32".to_owned(), Origin::Default)));
    }
}

#[test]
fn faults_of_all_sources_are_told_at_once_with_their_place() {
    let text = "[mqtt]\nmax_qos = 3\nmax_inflght = 5\n\n[mqqt]\na = 1\nb = 2\n[listeners.ssl.x]\nbind = 1\n";
    let environment = [("BREAKWATER_QUEUE__WHEN_FULL", "explode")];
    let faults = faults_of(&sources(text, &environment, &["nonsense", "mqtt.max_qos=7"], &["ftp://x"]));
    let expected = [
        ("/etc/b/b.toml:2:1: mqtt.max_qos: ", "0 to 2"),
        ("/etc/b/b.toml:3:1: mqtt.max_inflght: ", "mqtt.max_inflight?"),
        ("/etc/b/b.toml:5:2: mqqt: ", "[mqtt]?"),
        ("/etc/b/b.toml:8:12: listeners.ssl: ", "tls"),
        ("BREAKWATER_QUEUE__WHEN_FULL: queue.when_full: ", "drop_oldest, drop_newest, refuse"),
        ("--set nonsense: ", "key=value"),
        ("--set mqtt.max_qos: ", "0 to 2"),
        ("--listen ftp://x: ", "not supported"),
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, (start, part)) in faults.iter().zip(expected) {
        assert!(fault.starts_with(start) && fault.contains(part) && !fault.contains('\n'), "{start}: {fault}");
    }
}

#[test]
fn settings_are_checked_against_each_other() {
    let fault = faults("session.expiry_default = '8d'\n");
    assert!(fault[0].starts_with("/etc/b/b.toml:1:9: session.expiry_default: is above"), "{fault:?}");
    set(&["session.expiry_default=8d", "session.expiry_max=never"]);
    assert_eq!(set(&["mqtt.max_packet_size=1KB"]).shard.limits.connect_bytes_max, 1024);
}

#[test]
fn special_words_stand_for_their_numbers() {
    let resolved = set(&["session.expiry_max=never", "sys.interval=never"]);
    assert_eq!(resolved.shard.limits.session_expiry_max_s, u32::MAX);
    assert_eq!(resolved.shard.sys_interval_s, 0);
}

#[test]
fn values_stand_with_or_without_quotes() {
    for text in [
        "[mqtt]\nmax_inflight = 9\nretain_available = false\nkeepalive_multiplier = 2.5\nversions = [5.0, '3.1.1']\n",
        "[mqtt]\nmax_inflight = '9'\nretain_available = 'false'\nkeepalive_multiplier = '2.5'\nversions = '3.1.1,5.0'\n",
    ] {
        let limits = good(text).shard.limits;
        assert_eq!((limits.inflight_max, limits.retain_available, limits.keep_alive_percent), (9, false, 250));
        assert_ne!(limits.versions, breakwater_session::Versions::ALL);
    }
}

#[test]
fn five_listeners_exist_by_themselves() {
    let resolved = good("");
    assert_eq!(names(&resolved), ["tcp.default", "tls.default", "ws.default", "wss.default", "quic.default"]);
    assert_eq!(listener(&resolved, "tcp.default").options.bind.len(), 2);
    let tls = listener(&resolved, "tls.default");
    assert!(tls.self_made);
    let certificate = &tls.options.tls.as_ref().expect("it speaks TLS").certificates[0];
    assert_eq!(certificate.certificate, Path::new("/var/lib/b/tls/server.pem"));
}

#[test]
fn sections_change_what_they_name_and_nothing_else() {
    let resolved = good("[listeners.tcp.default]\nmax_connections = 5\n[listeners.ws.default]\nenabled = false\n");
    assert_eq!(names(&resolved), ["tcp.default", "tls.default", "wss.default", "quic.default"]);
    let tcp = &listener(&resolved, "tcp.default").options;
    assert_eq!((tcp.connections_max, tcp.bind.len()), (5, 2));
    let none = good("listeners.defaults = false\n[listeners.tcp.own]\nbind = '127.0.0.1:1'\n");
    assert_eq!(names(&none), ["tcp.own"]);
}

#[test]
fn a_default_listener_gives_way_to_one_that_was_written_down() {
    let resolved = good("[listeners.tcp.own]\nbind = '127.0.0.1:1883'\n");
    assert_eq!(names(&resolved)[0], "tcp.own");
    assert!(!names(&resolved).contains(&"tcp.default"));
    assert!(resolved.remarks[0].contains("tcp.default gives way to tcp.own"), "{:?}", resolved.remarks);
}

#[test]
fn two_listeners_on_one_address_are_a_fault() {
    for (one, other, clash) in [
        ("1", "127.0.0.1:1", true),
        ("[::1]:1", "127.0.0.1:1", false),
        ("127.0.0.1:0", "127.0.0.1:0", false),
        ("eth0:5", "0.0.0.0:5", true),
        ("/run/a", "/run/a", true),
    ] {
        let text = format!("[listeners.tcp.a]\nbind = '{one}'\n[listeners.tls.b]\nbind = '{other}'\n");
        let resolved = resolve(&sources(&text, &[], &[], &[]), &around());
        assert_eq!(resolved.is_err(), clash, "{one} and {other}");
    }
    good("[listeners.tcp.a]\nbind = '5'\n[listeners.quic.b]\nbind = '5'\n");
    let faults = faults("[listeners.tcp.a]\nbind = '5'\n[listeners.tcp.b]\nbind = '5'\n");
    assert!(faults[0].starts_with("/etc/b/b.toml:3:16: listeners.tcp.b.bind: tcp.a listens on"), "{faults:?}");
}

#[test]
fn listen_replaces_all_other_listeners_and_keeps_what_is_said_about_its_name() {
    let text = "[listeners.tcp.default]\nbind = '5'\nmax_connections = 7\n[listeners.tcp.other]\nbind = '6'\n";
    let resolved = resolve(&sources(text, &[], &[], &["tcp://127.0.0.1:9", "wss://[::]"]), &around()).expect("fine");
    assert_eq!(names(&resolved), ["tcp.default", "wss.default"]);
    let tcp = &listener(&resolved, "tcp.default").options;
    assert_eq!((tcp.connections_max, format!("{:?}", tcp.bind)), (7, "[Address(127.0.0.1:9)]".to_owned()));
}

#[test]
fn variables_reach_listeners_whose_names_they_can_not_spell() {
    let environment = [
        ("BREAKWATER_LISTENERS__TCP__DEFAULT__BIND", "127.0.0.1:9"),
        ("BREAKWATER_LISTENERS__TCP__MAIN_HALL__MAX_CONNECTIONS", "3"),
        ("BREAKWATER_LISTENERS__TLS__DEFAULT__TLS__VERSIONS", "1.3"),
    ];
    let sources = sources("[listeners.tcp.Main-Hall]\nbind = '7'\n", &environment, &[], &[]);
    let resolved = resolve(&sources, &around()).expect("fine");
    assert_eq!(listener(&resolved, "tcp.Main-Hall").options.connections_max, 3);
    assert_eq!(listener(&resolved, "tcp.default").options.bind.len(), 1);
}

#[test]
fn wrong_sections_say_what_was_meant() {
    for (text, part) in [
        ("[listeners.tpc.x]\nbind = 1\n", "did you mean tcp?"),
        ("[listeners.tcp.x]\nbnd = 1\n", "did you mean bind?"),
        ("[listeners.tcp.x]\n", "say where to listen"),
        ("[listeners.tcp]\ndefault = 1883\n", "[listeners.tcp.default], and below it bind"),
        ("[listeners.tcp.'a b']\nbind = 1\n", "letters, digits"),
        ("[listeners.tcp.x]\nbind = 1\ntls.key = 'x'\n", "speaks no TLS"),
        ("[listeners.tls.x]\nbind = 1\nwebsocket.path = '/'\n", "speaks no WebSocket"),
        ("[listeners.tls.x]\nbind = 1\ntls.key = 'x'\n", "needs tls.certificate"),
        ("[listeners.tls.x]\nbind = 1\ntls.certificate = 'x'\n", "needs tls.key"),
        ("[listeners.tls.x]\nbind = 1\ntls.client_certificate = 'required'\n", "client_authorities"),
        ("[listeners.tls.x]\nbind = 1\ntls.client_authorities = ['x']\n", "no effect"),
        ("[listeners.tcp.x]\nbind = 1\nproxy_protocol = true\n", "trusted_proxies"),
        ("[listeners.tcp.x]\nbind = 1\nzone = 'z'\n", "there are none"),
        ("[listeners.tcp.x]\nbind = 1\nzone = 'offce'\n[zones.office]\n", "did you mean office?"),
        ("[listeners.tcp.x]\nbind = []\n", "enabled = false"),
        ("[listeners.tcp.x]\nbind = 1\naccess = ['deny everybody']\n", "deny all"),
        ("[listeners.unix.x]\nbind = '1883'\n", "unix socket"),
        ("[zones.z]\nlimits.memory = '2GB'\n", "whole broker"),
        ("[zones.z]\nmqtt.max_qoss = 1\n", "did you mean mqtt.max_qos?"),
        ("[zones.z]\nstore.durabilty = 'os'\n", "did you mean store.durability?"),
        ("[zones.z.store]\ndurability = 'disk'\n", "fsync, os, memory"),
        ("[zones.z.store]\nmemory = '64MB'\n", "whole broker"),
        ("mqtt = 5\n", "no key"),
        ("[mqtt.max_qos]\nx = 1\n", "0 to 2"),
    ] {
        let faults = faults(text);
        assert!(faults[0].contains(part) && faults[0].starts_with("/etc/b/b.toml:"), "{text}: {faults:#?}");
        assert_eq!(faults.len(), 1, "{text}: {faults:#?}");
    }
}

#[test]
fn terms_of_a_listener_come_from_its_zone() {
    let text = "mqtt.max_inflight = 9\n[zones.z]\nmqtt.max_qos = 1\nmqtt.connect_timeout = '3s'\nmqtt.max_packet_size = '1KB'\n\
                [zones.z.queue]\nmax_messages = 2\n\
                [listeners.tcp.x]\nbind = 1\nzone = 'z'\nversions = '5.0'\nmountpoint = 'site/'\nauthentication = false\n\
                messages_rate_in = '100/s'\nmessages_rate_in_burst = 7\nbytes_rate_out = '1MB/s'\nmax_lifetime = '1h'\n";
    let resolved = good(text);
    let profile = &listener(&resolved, "tcp.x").options.profile;
    let limits = &profile.limits;
    assert_eq!((limits.inflight_max, limits.maximum_qos as u8, limits.queue_messages_max), (9, 1, 2));
    assert_eq!((limits.connect_timeout_ms, limits.connect_bytes_max), (3000, 1024), "the lower bound counts");
    assert!(!limits.versions.contains(breakwater_proto::Version::V311));
    assert_eq!((&*profile.mountpoint, profile.authenticate, profile.lifetime_ms), ("site/", false, 3_600_000));
    let rates = profile.rates;
    assert_eq!((rates.messages_in.per_second, rates.messages_in.burst, rates.bytes_out.per_second), (100, 7, 1 << 20));
    assert_eq!(listener(&resolved, "tcp.default").options.profile.limits.maximum_qos as u8, 2);
}

#[test]
fn a_zone_promises_what_it_says_or_what_the_broker_does() {
    let zones = "[zones.own.store]\ndurability = 'memory'\n[zones.same]\nmqtt.max_qos = 1\n[listeners.tcp.x]\nbind = 1\nzone = 'own'\n\
                 [listeners.tcp.y]\nbind = 2\nzone = 'same'\n";
    for (broker, expected, is_open) in
        [("fsync", Durability::Fsync, true), ("os", Durability::Os, true), ("memory", Durability::Memory, false)]
    {
        let resolved = good(&format!("store.durability = '{broker}'\n{zones}"));
        let of = |name| {
            let profile = &listener(&resolved, name).options.profile;
            (profile.zone.to_string(), profile.durability)
        };
        assert_eq!(of("tcp.x"), ("own".into(), Durability::Memory));
        assert_eq!(of("tcp.y"), ("same".into(), expected));
        assert_eq!(of("tcp.default"), (String::new(), expected));
        assert_eq!(resolved.store.is_open, is_open);
        let named: Vec<(&str, Durability)> = resolved.zones.iter().map(|zone| (&*zone.name, zone.durability)).collect();
        assert_eq!(named, [("own", Durability::Memory), ("same", expected)]);
    }
    let resolved = good("store.durability = 'memory'\n[zones.z.store]\ndurability = 'os'\n");
    assert!(resolved.store.is_open, "somebody may want it");
    let variable = [("BREAKWATER_ZONES__Z__STORE__DURABILITY", "os")];
    let resolved = resolve(&sources("", &variable, &[], &[]), &around()).expect("fine");
    assert_eq!(resolved.zones.iter().map(|zone| zone.durability).collect::<Vec<_>>(), [Durability::Os]);
}

#[test]
fn paths_are_relative_to_the_file_that_names_them() {
    let text = "[listeners.tls.x]\nbind = 1\ntls.certificate = 'c.pem'\ntls.key = '/k.pem'\ntls.key_password_file = 'password'\n\
                [[listeners.tls.x.tls.certificates]]\ncertificate = 'd.pem'\nkey = 'd.key'\n";
    let resolved = resolve(&sources(text, &[], &["listeners.unix.u.bind=run/u.sock"], &[]), &around()).expect("fine");
    let tls = listener(&resolved, "tls.x").options.tls.as_ref().expect("it speaks TLS");
    let [first, second] = &tls.certificates[..] else { panic!("{tls:?}") };
    assert_eq!((&first.certificate, &first.key), (&PathBuf::from("/etc/b/c.pem"), &PathBuf::from("/k.pem")));
    assert_eq!(first.key_password.as_ref().map(|secret| &*secret.0), Some("hunter2"));
    assert_eq!(second.certificate, Path::new("/etc/b/d.pem"));
    assert!(format!("{:?}", listener(&resolved, "unix.u").options.bind).contains("/home/run/u.sock"));
}

#[test]
fn secrets_are_not_shown() {
    let text = "[listeners.tls.x]\nbind = 1\ntls.certificate = 'c.pem'\ntls.key = 'k'\ntls.key_password = 'hunter2'\n\
                tls.certificates = [{certificate = 'd', key = 'd', key_password = 'hunter2'}]\n";
    let resolved = good(text);
    assert!(!format!("{resolved:?}").contains("hunter2"));
    assert!(resolved.values.iter().any(|value| value.key.ends_with("key_password") && value.shown == "***"));
    let missing =
        faults("[listeners.tls.x]\nbind = 1\ntls.certificate = 'c'\ntls.key = 'k'\ntls.key_password_file = 'x'\n");
    assert!(missing[0].contains("key_password_file: /etc/b/x"), "{missing:?}");
}

#[test]
fn one_port_may_speak_several_protocols() {
    let text = "[listeners.tcp.all]\nbind = 443\nprotocols = ['mqtt', 'mqtts', 'wss', 'https']\ntls.versions = '1.3'\n\
                websocket.path = '/ws'\n";
    let resolved = good(text);
    let all = listener(&resolved, "tcp.all");
    assert!(all.self_made && all.options.protocols.https && !all.options.protocols.ws);
    assert_eq!(&*all.options.websocket.path, "/ws");
}

#[test]
fn reading_stops_at_the_bound() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    assert_eq!(read_bounded(&path, 10).expect("it is there").len(), 10);
}

#[test]
fn reference_page_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let page = std::fs::read_to_string(path).unwrap_or_default();
    assert!(page == reference(), "docs/configuration.md: run `breakwater config reference > docs/configuration.md`");
}
