use super::super::mosquitto;
use super::*;

fn readm(text: &str) -> Imported {
    read(Format::Mosquitto, text)
}

#[test]
fn an_empty_file_listens_on_this_machine_alone() {
    let imported = readm("");
    assert_eq!(value(&imported, "listeners.tcp.default.bind").as_deref(), Some("[\"127.0.0.1:1883\", \"[::1]:1883\"]"));
    assert_eq!(value(&imported, "listeners.defaults").as_deref(), Some("false"));
    starts(&imported);
}

#[test]
fn listeners_become_ours_by_what_is_said_of_them() {
    let imported = readm(
        "listener 1883\n\nlistener 8883 0.0.0.0\ncertfile /c.pem\nkeyfile /k.pem\n\nlistener 8083\nprotocol websockets\n\n\
         listener 8084\nprotocol websockets\ncertfile /c.pem\nkeyfile /k.pem\n\nlistener 1884 ::1\nlistener 0 /run/m.sock\n",
    );
    for (path, expected) in [
        ("tcp.default.bind", "\"1883\""),
        ("tls.default.bind", "\"0.0.0.0:8883\""),
        ("tls.default.tls.certificate", "\"/c.pem\""),
        ("tls.default.tls.key", "\"/k.pem\""),
        ("ws.default.bind", "\"8083\""),
        ("wss.default.bind", "\"8084\""),
        ("tcp.p1884.bind", "\"[::1]:1884\""),
        ("unix.default.bind", "\"/run/m.sock\""),
    ] {
        assert_eq!(
            value(&imported, &format!("listeners.{path}")).as_deref(),
            Some(expected),
            "{path}:\n{}",
            toml(&imported)
        );
    }
    starts(&imported);
}

#[test]
fn the_first_listener_needs_no_line_of_its_own() {
    let imported = readm("port 1885\nbind_address 127.0.0.1\nmax_connections 10\n");
    assert_eq!(value(&imported, "listeners.tcp.default.bind").as_deref(), Some("\"127.0.0.1:1885\""));
    assert_eq!(value(&imported, "listeners.tcp.default.max_connections").as_deref(), Some("10"));
    let imported = readm("certfile /c.pem\nkeyfile /k.pem\n");
    assert_eq!(value(&imported, "listeners.tls.default.bind").as_deref(), Some("\"1883\""));
}

const LISTENER: &[(&str, &str, &str)] = &[
    ("max_connections -1", "max_connections", "-"),
    ("max_connections 100", "max_connections", "100"),
    ("mount_point up/", "mountpoint", "\"up/\""),
    ("bind_interface eth0", "bind", "\"eth0:8883\""),
    ("socket_domain ipv4", "bind", "\"0.0.0.0:8883\""),
    ("socket_domain ipv6", "bind", "\"[::]:8883\""),
    ("max_qos 1", "zone", "\"tls-default\""),
    ("accept_protocol_versions 4,5", "versions", "[\"3.1.1\", \"5.0\"]"),
    ("websockets_origin https://a", "websocket.origins", "[\"https://a\"]"),
    ("enable_proxy_protocol 2", "proxy_protocol", "true"),
    ("crlfile /crl.pem", "tls.revocation_lists", "[\"/crl.pem\"]"),
    ("require_certificate true", "tls.client_certificate", "\"required\""),
    ("tls_version tlsv1.3", "tls.versions", "[\"1.3\"]"),
    ("tls_version tlsv1.1", "tls.versions", "[\"1.2\", \"1.3\"]"),
    ("use_identity_as_username true", "tls.username_from", "\"cn\""),
    ("use_subject_as_username true", "tls.username_from", "\"dn\""),
    ("listener_allow_anonymous true", "authentication", "false"),
    ("http_dir /srv", "bind", "\"8883\""),
];

#[test]
fn options_of_listeners_become_ours() {
    for (line, path, expected) in LISTENER {
        let peer = if line.contains("as_username") || line.contains("crl") {
            "require_certificate true\ncafile /ca.pem\n"
        } else {
            ""
        };
        let web = if line.contains("websockets") { "protocol websockets\n" } else { "" };
        let kind = if web.is_empty() { "tls" } else { "wss" };
        let imported = readm(&format!("listener 8883\ncertfile /c.pem\nkeyfile /k.pem\n{peer}{web}{line}\n"));
        let found = value(&imported, &format!("listeners.{kind}.default.{path}"));
        assert_eq!(found.as_deref().unwrap_or("-"), *expected, "{line}:\n{}", toml(&imported));
        starts(&imported);
    }
    let imported = readm("listener 1\nmax_qos 1\nmax_topic_alias 5\n");
    assert_eq!(value(&imported, "zones.tcp-default.mqtt.max_qos").as_deref(), Some("1"));
    assert_eq!(value(&imported, "zones.tcp-default.mqtt.max_topic_alias").as_deref(), Some("5"));
}

const NODE: &[(&str, &str, &str)] = &[
    ("max_inflight_bytes 1000", "mqtt.max_inflight_bytes", "\"1000B\""),
    ("max_inflight_messages 0", "mqtt.max_inflight", "65535"),
    ("max_keepalive 600", "mqtt.max_keepalive", "\"10m\""),
    ("max_packet_size 2048", "mqtt.max_packet_size", "\"2KB\""),
    ("message_size_limit 1024", "mqtt.max_packet_size", "\"65KB\""),
    ("max_queued_bytes 4096", "queue.max_bytes", "\"4KB\""),
    ("max_queued_messages 0", "queue.max_messages", "4294967295"),
    ("queue_qos0_messages true", "queue.store_qos0", "true"),
    ("persistent_client_expiration 14d", "session.expiry_default", "\"14d\""),
    ("persistent_client_expiration 2m", "session.expiry_max", "\"60d\""),
    ("retain_available false", "mqtt.retain_available", "false"),
    ("set_tcp_nodelay true", "net.nodelay", "true"),
    ("sys_interval 0", "sys.interval", "\"never\""),
    ("sys_interval 10", "sys.interval", "\"10s\""),
    ("global_max_connections 100", "limits.connections", "100"),
    ("allow_zero_length_clientid false", "mqtt.allow_empty_clientid", "false"),
];

#[test]
fn options_of_the_node_become_settings() {
    for (line, path, expected) in NODE {
        let imported = readm(&format!("{line}\n"));
        starts(&imported);
        assert_eq!(value(&imported, path).as_deref(), Some(*expected), "{line}");
    }
}

#[test]
fn ciphers_of_each_version_keep_those_of_the_other() {
    let imported = readm("listener 1\ncertfile /c\nkeyfile /k\nciphers ECDHE-RSA-AES256-GCM-SHA384:AES256-SHA\n");
    let ciphers = value(&imported, "listeners.tls.default.tls.ciphers").expect("ciphers");
    assert!(
        ciphers.contains("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384") && ciphers.contains("TLS_AES_128_GCM_SHA256"),
        "{ciphers}"
    );
    assert!(on_line(&imported, 4)[0].text.contains("AES256-SHA"));
}

#[test]
fn anonymous_clients_are_let_in_only_if_nobody_else_is_known() {
    let imported = readm("listener 1883\nallow_anonymous true\n");
    assert_eq!(value(&imported, "listeners.tcp.default.authentication").as_deref(), Some("false"));
    let imported = readm("listener 1883\nallow_anonymous true\npassword_file /p\n");
    assert_eq!(value(&imported, "listeners.tcp.default.authentication"), None);
    assert_eq!(on_line(&imported, 2)[0].severity, Severity::Action);
    let apart = "per_listener_settings true\nlistener 1883\nallow_anonymous true\nlistener 1884\npassword_file /p\n";
    let imported = readm(apart);
    assert_eq!(value(&imported, "listeners.tcp.default.authentication").as_deref(), Some("false"));
    assert_eq!(value(&imported, "listeners.tcp.p1884.authentication"), None);
}

#[test]
fn tls_options_without_a_certificate_are_told() {
    let imported = readm("listener 1883\ncafile /ca.pem\nrequire_certificate true\n");
    assert_eq!(value(&imported, "listeners.tcp.default.bind").as_deref(), Some("\"1883\""));
    assert!(on_line(&imported, 2)[0].text.contains("no certfile"));
}

#[test]
fn every_known_option_is_known() {
    let options: Vec<&str> = mosquitto::options().collect();
    assert!(options.len() > 130, "{}", options.len());
    for value in ["1", "true", "nonsense", "/a/path", "0", ""] {
        for start in ["listener 8883\ncertfile /c\nkeyfile /k\n", "connection b\n", ""] {
            for option in &options {
                let imported = readm(&format!("{start}{option} {value}\n"));
                assert!(imported.remarks.iter().all(|remark| !remark.text.contains("that we know of")), "{option}");
            }
            let all: String = options.iter().map(|option| format!("{option} {value}\n")).collect();
            readm(&format!("{start}{all}"));
        }
    }
    let imported = readm("nonsense 1\nplugin_opt_x 1\n");
    assert!(on_line(&imported, 1)[0].text.contains("that we know of"));
    assert!(on_line(&imported, 2)[0].text.contains("plugins"));
}

struct Folder;

impl Files for Folder {
    fn read(&mut self, name: &str) -> Result<String, String> {
        match name {
            "d/a.conf" => Ok("listener 1\n".into()),
            "d/b.conf" => Ok("listener 2\ninclude_dir d\nnonsense\n".into()),
            _ => Err("no such file".into()),
        }
    }

    fn list(&mut self, folder: &str) -> Result<Vec<String>, String> {
        if folder == "d" {
            Ok(["d/b.conf", "d/a.conf", "d/x.txt", "d/c.conf"].map(str::to_owned).into())
        } else {
            Err("no such folder".into())
        }
    }
}

#[test]
fn an_included_folder_is_read_in_order() {
    let imported = import(Format::Mosquitto, "include_dir d\ninclude_dir e\n", &mut Folder).expect("a result");
    assert_eq!(value(&imported, "listeners.tcp.default.bind").as_deref(), Some("\"1\""));
    assert_eq!(value(&imported, "listeners.tcp.p2.bind").as_deref(), Some("\"2\""));
    let lines: Vec<String> = imported.remarks.iter().map(ToString::to_string).collect();
    assert!(
        lines.iter().any(|line| line.starts_with("d/b.conf, line 2: include_dir: to do: only the main file")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("d/b.conf, line 3: nonsense")), "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("d/c.conf was not read")), "{lines:?}");
    assert!(
        lines.iter().any(|line| line.starts_with("line 2: include_dir: to do: not followed: no such folder")),
        "{lines:?}"
    );
}

#[test]
fn lines_of_a_bridge_get_one_remark() {
    let imported = readm(
        "connection boat\naddress boat:1883\n\ntopic # both\nremote_username a\nmax_inflight_messages 5\nconnection other\n",
    );
    let lines: Vec<String> = imported.remarks.iter().map(ToString::to_string).collect();
    assert!(
        lines.iter().any(|line| line.starts_with("lines 1 to 5: connection, address, topic and more: to do: bridges")),
        "{lines:?}"
    );
    assert!(lines.iter().any(|line| line.starts_with("line 7: connection: to do")), "{lines:?}");
}

#[test]
fn of_two_lines_for_one_option_the_last_counts() {
    let imported = readm(
        "port 1\nport 2\nmax_inflight_messages 5\nmax_inflight_messages 6\nlistener 3\nmax_connections 1\nlistener 4\nmax_connections 2\n",
    );
    assert_eq!(value(&imported, "listeners.tcp.default.bind").as_deref(), Some("\"2\""));
    assert_eq!(value(&imported, "mqtt.max_inflight").as_deref(), Some("6"));
    assert_eq!(value(&imported, "listeners.tcp.p3.max_connections").as_deref(), Some("1"));
    for (line, later) in [(1, "line 2"), (3, "line 4")] {
        assert!(on_line(&imported, line)[0].text.contains(later), "{:?}", on_line(&imported, line));
    }
    assert!(on_line(&imported, 6).is_empty());
}
