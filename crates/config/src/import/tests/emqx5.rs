use super::super::{emqx, emqx5};
use super::*;

fn read5(text: &str) -> Imported {
    read(Format::Emqx5, text)
}

#[test]
fn blocks_and_flat_keys_become_the_same() {
    let block =
        read5("listeners.ssl.a { bind = \"0.0.0.0:8884\"\n ssl_options { certfile = /c.pem\n keyfile = /k.pem } }\n");
    let flat = read5(
        "listeners.ssl.a.bind = \"0.0.0.0:8884\"\nlisteners.ssl.a.ssl_options.certfile = /c.pem\nlisteners.ssl.a.ssl_options.keyfile = /k.pem\n",
    );
    assert_eq!(toml(&block), toml(&flat));
    assert_eq!(value(&block, "listeners.tls.a.bind").as_deref(), Some("\"0.0.0.0:8884\""));
    assert_eq!(value(&block, "listeners.tls.a.tls.certificate").as_deref(), Some("\"/c.pem\""));
    assert_eq!(value(&block, "listeners.quic.default.enabled").as_deref(), Some("false"));
}

const LISTENER: &[(&str, &str, &str, &str)] = &[
    ("tcp", "enable = false", "enabled", "false"),
    ("tcp", "max_connections = infinity", "max_connections", "-"),
    ("tcp", "max_connections = 1000", "max_connections", "1000"),
    ("tcp", "enable_authn = false", "authentication", "false"),
    ("tcp", "enable_authn = quick_deny_anonymous", "authentication", "true"),
    ("tcp", "access_rules = [\"allow 10.0.0.0/8\", \"deny all\"]", "access", "[\"allow 10.0.0.0/8\", \"deny all\"]"),
    ("tcp", "access_rules = [\"allow all\"]", "access", "-"),
    ("tcp", "proxy_protocol = true", "proxy_protocol", "true"),
    ("tcp", "mountpoint = \"up/\"", "mountpoint", "\"up/\""),
    ("tcp", "mountpoint = \"${clientid}/\"", "mountpoint", "-"),
    ("tcp", "zone = default", "zone", "-"),
    ("tcp", "zone = z1", "zone", "\"z1\""),
    ("tcp", "max_conn_rate = \"1000/s\"", "accept_rate", "1000"),
    ("tcp", "max_conn_rate = infinity", "accept_rate", "-"),
    ("tcp", "messages_rate = \"100/s\"", "messages_rate_in", "\"100/s\""),
    ("tcp", "messages_burst = \"500/1m\"", "messages_rate_in_burst", "500"),
    ("tcp", "bytes_rate = \"1MB/s\"", "bytes_rate_in", "\"1MB/s\""),
    ("tcp", "delivery_bytes_rate = \"1MB/s\"", "bytes_rate_out", "\"1MB/s\""),
    ("tcp", "tcp_options.backlog = 1024", "backlog", "1024"),
    ("tcp", "tcp_options.nodelay = true", "nodelay", "true"),
    ("tcp", "tcp_options.keepalive = \"240,30,5\"", "keep_alive", "\"240s,30s,5\""),
    ("tcp", "tcp_options.keepalive = none", "keep_alive", "\"off\""),
    ("tcp", "tcp_options { recbuf = 4KB }", "receive_buffer", "\"4KB\""),
    ("ssl", "ssl_options.versions = [tlsv1.3, \"tlsv1.2\"]", "tls.versions", "[\"1.2\", \"1.3\"]"),
    (
        "ssl",
        "ssl_options.certfile = \"${EMQX_ETC_DIR}/certs/cert.pem\"",
        "tls.certificate",
        "\"/etc/emqx/certs/cert.pem\"",
    ),
    (
        "ssl",
        "ssl_options { keyfile = /k, password = \"file:///run/secret\" }",
        "tls.key_password_file",
        "\"/run/secret\"",
    ),
    ("ssl", "ssl_options { keyfile = /k, password = geheim }", "tls.key_password", "\"geheim\""),
    ("ssl", "ssl_options.ocsp { enable_ocsp_stapling = true }", "tls.ocsp", "\"fetch\""),
    ("ssl", "ssl_options.ciphers = []", "tls.ciphers", "-"),
    (
        "ssl",
        "ssl_options.ciphers = \"TLS_AES_256_GCM_SHA384,ECDHE-RSA-AES128-GCM-SHA256\"",
        "tls.ciphers",
        "[\"TLS_AES_256_GCM_SHA384\", \"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]",
    ),
    (
        "ssl",
        "ssl_options { verify = verify_peer, fail_if_no_peer_cert = true }",
        "tls.client_certificate",
        "\"required\"",
    ),
    ("ssl", "ssl_options.reuse_sessions = false", "tls.resumption", "false"),
    ("ws", "websocket.mqtt_path = \"/x\"", "websocket.path", "\"/x\""),
    ("ws", "websocket.max_frame_size = infinity", "websocket.max_frame_size", "-"),
    ("wss", "websocket { mqtt_path = \"/x\" }", "websocket.path", "\"/x\""),
    ("quic", "idle_timeout = 30s", "quic.idle_timeout", "\"30s\""),
    ("quic", "idle_timeout = 0", "quic.idle_timeout", "-"),
    ("quic", "certfile = /c.pem", "tls.certificate", "\"/c.pem\""),
    ("quic", "ssl_options.keyfile = /k.pem", "tls.key", "\"/k.pem\""),
    ("quic", "handshake_idle_timeout = 10s", "handshake_timeout", "\"10s\""),
];

#[test]
fn keys_of_listeners_become_ours() {
    for (kind, line, path, expected) in LISTENER {
        let ours = if *kind == "ssl" { "tls" } else { kind };
        let imported = read5(&format!("listeners.{kind}.a {{\n  bind = 1\n  {line}\n}}\n"));
        starts(&imported);
        let found = value(&imported, &format!("listeners.{ours}.a.{path}"));
        assert_eq!(found.as_deref().unwrap_or("-"), *expected, "{kind} {line}:\n{}", toml(&imported));
        assert_eq!(value(&imported, &format!("listeners.{ours}.a.bind")).as_deref(), Some("\"1\""));
    }
}

#[test]
fn limits_become_settings_of_all_or_of_a_zone() {
    for (line, path, expected) in [
        ("max_packet_size = 1MB", "mqtt.max_packet_size", "\"1MB\""),
        ("max_qos_allowed = 1", "mqtt.max_qos", "1"),
        ("keepalive_multiplier = 1.5", "mqtt.keepalive_multiplier", "1.5"),
        ("server_keepalive = 60s", "mqtt.server_keepalive", "\"1m\""),
        ("session_expiry_interval = 2h", "session.expiry_default", "\"2h\""),
        ("max_session_expiry_interval = infinity", "session.expiry_max", "\"never\""),
        ("message_expiry_interval = infinity", "mqtt.max_message_expiry", "\"none\""),
        ("max_mqueue_len = infinity", "queue.max_messages", "4294967295"),
        ("max_inflight = 32", "mqtt.max_inflight", "32"),
        ("max_subscriptions = infinity", "mqtt.max_subscriptions", "4294967295"),
    ] {
        assert_eq!(value(&read5(&format!("mqtt.{line}\n")), path).as_deref(), Some(expected), "{line}");
        let imported = read5(&format!("zones.z1 {{\n mqtt {{\n {line}\n }}\n}}\n"));
        assert_eq!(value(&imported, &format!("zones.z1.{path}")).as_deref(), Some(expected), "{line}");
        assert_eq!(value(&read5(&format!("zones.default.mqtt.{line}\n")), path).as_deref(), Some(expected), "{line}");
    }
    for (line, path, expected) in [
        ("mqtt.shared_subscription_strategy = sticky", "shared.strategy", "\"sticky\""),
        ("mqtt.idle_timeout = 15s", "mqtt.connect_timeout", "\"15s\""),
        ("sys_topics.sys_msg_interval = disabled", "sys.interval", "\"never\""),
        ("retainer.enable = false", "mqtt.retain_available", "false"),
        ("retainer { backend { max_retained_messages = 5 } }", "retained.max_messages", "5"),
    ] {
        assert_eq!(value(&read5(&format!("{line}\n")), path).as_deref(), Some(expected), "{line}");
    }
}

#[test]
fn a_zone_cannot_have_what_the_node_has_once() {
    let imported = read5("zones.z1.mqtt.shared_subscription_strategy = sticky\nzones.z1.mqtt.idle_timeout = 15s\n");
    assert!(on_line(&imported, 1)[0].text.contains("whole node"), "{:?}", imported.remarks);
    assert_eq!(value(&imported, "zones.z1.mqtt.connect_timeout").as_deref(), Some("\"15s\""));
}

#[test]
fn names_from_certificates_go_to_the_listeners_that_see_some() {
    let imported = read5(
        "mqtt.peer_cert_as_username = cn\nlisteners.ssl.a { bind = 1, ssl_options { verify = verify_peer, cacertfile = /c } }\nlisteners.tcp.b.bind = 2\n",
    );
    assert_eq!(value(&imported, "listeners.tls.a.tls.username_from").as_deref(), Some("\"cn\""));
    assert_eq!(value(&imported, "listeners.tcp.b.tls.username_from"), None);
    let imported = read5("mqtt.peer_cert_as_username = cn\n");
    assert!(on_line(&imported, 1)[0].text.contains("no listener asks"));
}

#[test]
fn a_long_session_raises_the_bound_for_all() {
    let imported = read5("mqtt.session_expiry_interval = 30d\n");
    assert_eq!(value(&imported, "session.expiry_max").as_deref(), Some("\"30d\""));
}

#[test]
fn blocks_without_a_counterpart_are_told_by_their_lines() {
    let text = "authentication = [\n  {\n    mechanism = password_based\n    backend = built_in_database\n    password = \"geheim\"\n  }\n]\n\
                authorization {\n  no_match = deny\n  sources = [\n    { type = file, path = \"x\" }\n  ]\n}\ndashboard {\n  default_password = \"geheim\"\n}\n";
    let imported = read5(text);
    let lines: Vec<String> = imported.remarks.iter().map(ToString::to_string).collect();
    assert!(lines.iter().any(|line| line.starts_with("lines 1 to 7: authentication: to do: users")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("lines 9 to 12: authorization.*: to do")), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("line 15: dashboard.default_password: not mapped")), "{lines:?}");
    assert!(lines.iter().all(|line| !line.contains("geheim")), "{lines:?}");
}

#[test]
fn what_others_refer_to_has_done_its_work() {
    let imported = read5("certs = /etc/ssl\nlisteners.ssl.a { bind = 1\n ssl_options.keyfile = ${certs}\"/k.pem\" }\n");
    assert_eq!(value(&imported, "listeners.tls.a.tls.key").as_deref(), Some("\"/etc/ssl/k.pem\""));
    assert!(on_line(&imported, 1).is_empty(), "{:?}", imported.remarks);
    let imported = read5("listeners.tcp.a.bind = ${PORT}\n");
    assert!(on_line(&imported, 1)[0].text.contains("${PORT}"));
}

#[test]
fn of_two_values_the_last_counts_and_the_other_is_told() {
    let imported = read5("mqtt.max_qos_allowed = 2\nmqtt {\n  max_qos_allowed = 1\n}\n");
    assert_eq!(value(&imported, "mqtt.max_qos").as_deref(), Some("1"));
    assert!(on_line(&imported, 1)[0].text.contains("line 3"), "{:?}", imported.remarks);
}

#[test]
fn a_listener_without_a_place_stays_shut_unless_it_has_one_by_its_name() {
    assert_eq!(value(&read5("listeners.tcp.a.enable = true\n"), "listeners.tcp.a.enabled").as_deref(), Some("true"));
    let imported = read5("listeners.tcp.a.max_connections = 5\n");
    assert_eq!(value(&imported, "listeners.tcp.a.enabled").as_deref(), Some("false"));
    let imported = read5("listeners.tcp.default.max_connections = 5\n");
    assert_eq!(value(&imported, "listeners.tcp.default.enabled"), None);
}

#[test]
fn every_known_key_is_known() {
    let common = "enable bind acceptors max_connections mountpoint zone enable_authn allow_log_packet_data_from access_rules proxy_protocol \
                  proxy_protocol_timeout max_conn_rate max_conn_burst messages_rate messages_burst bytes_rate bytes_burst \
                  delivery_messages_rate delivery_bytes_rate subscribes_rate tcp_options.active_n tcp_options.backlog \
                  tcp_options.send_timeout tcp_options.send_timeout_close tcp_options.recbuf tcp_options.sndbuf tcp_options.buffer \
                  tcp_options.high_watermark tcp_options.nodelay tcp_options.nolinger tcp_options.reuseaddr tcp_options.keepalive \
                  tcp_backend";
    let ssl = "cacertfile cacerts certfile keyfile verify reuse_sessions depth password versions ciphers secure_renegotiate log_level \
               hibernate_after partial_chain verify_peer_ext_key_usage dhfile fail_if_no_peer_cert honor_cipher_order \
               client_renegotiation handshake_timeout user_lookup_fun session_tickets gc_after_handshake ocsp.enable_ocsp_stapling \
               ocsp.responder_url ocsp.issuer_pem ocsp.refresh_interval ocsp.refresh_http_timeout enable_crl_check managed_certs.x";
    let ws = "mqtt_path mqtt_piggyback compress idle_timeout max_frame_size fail_if_no_subprotocol supported_subprotocols \
              check_origin_enable allow_origin_absence check_origins proxy_address_header proxy_port_header deflate_opts.level validate_utf8";
    let quic = "certfile keyfile ciphers idle_timeout handshake_idle_timeout keep_alive_interval max_bytes_per_key \
                initial_window_packets peer_bidi_stream_count peer_unidi_stream_count minimum_mtu sslkeylogfile";
    let mqtt = "idle_timeout max_packet_size max_clientid_len max_topic_levels max_topic_alias retain_available wildcard_subscription \
                shared_subscription shared_subscription_strategy shared_subscription_initial_sticky_pick exclusive_subscription \
                subscription_message_filter ignore_loop_deliver strict_mode response_information server_keepalive keepalive_backoff \
                keepalive_multiplier keepalive_check_interval retry_interval use_username_as_clientid peer_cert_as_username \
                peer_cert_as_clientid client_attrs_init clientid_override namespace_as_mountpoint session_expiry_interval \
                max_session_expiry_interval message_expiry_interval max_awaiting_rel max_qos_allowed subscription_max_qos_rules \
                mqueue_priorities mqueue_default_priority mqueue_store_qos0 max_mqueue_len max_inflight max_subscriptions upgrade_qos \
                await_rel_timeout";
    let mut keys: Vec<String> = emqx5::families().map(|family| format!("{family}.x")).collect();
    for (kind, ssl_too, ws_too) in
        [("tcp", false, false), ("ssl", true, false), ("ws", false, true), ("wss", true, true)]
    {
        let mut add = |prefix: &str, names: &str| {
            keys.extend(names.split_whitespace().map(|name| format!("listeners.{kind}.a.{prefix}{name}")))
        };
        add("", common);
        if ssl_too {
            add("ssl_options.", ssl);
        }
        if ws_too {
            add("websocket.", ws);
        }
    }
    keys.extend(quic.split_whitespace().map(|name| format!("listeners.quic.a.{name}")));
    for prefix in ["mqtt", "zones.z1.mqtt"] {
        keys.extend(mqtt.split_whitespace().map(|name| format!("{prefix}.{name}")));
    }
    for value in ["1883", "true", "disabled", "nonsense", "15s", "1MB", "\"100/10s\"", "\"\"", "[a, b]", "[{a = 1}]"] {
        let text: String = keys.iter().map(|key| format!("{key} = {value}\n")).collect();
        for remark in &read5(&text).remarks {
            assert!(!remark.text.contains("that we know of"), "{remark}");
        }
    }
    assert!(emqx::listener_keys().count() > 60);
}

#[test]
fn an_unknown_key_is_told_as_one() {
    let imported = read5(
        "listeners.tcp.a.bind = 1\nlisteners.tcp.a.nonsense = 1\nmqtt.nonsense = 1\nnonsense.x = 1\nlisteners.x.a.bind = 1\n",
    );
    for line in 2..=4 {
        assert!(on_line(&imported, line)[0].text.contains("that we know of"), "{:?}", on_line(&imported, line));
    }
    assert_eq!(on_line(&imported, 5)[0].severity, Severity::Action);
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    let faults = import(Format::Emqx5, "a {\n b = \n}\n", &mut Alone).expect_err("broken");
    assert!(faults[0].starts_with("line 3:"), "{faults:?}");
}

#[test]
fn rules_for_topics_are_taken_over_in_their_order() {
    let text = "rewrite = [\n  {\n    action = all\n    source_topic = \"x/#\"\n    re = \"^x/(.+)$\"\n    dest_topic = \"y/$1/${clientid}\"\n  }\n\
                  { action = publish, source_topic = \"z\", re = \"z\", dest_topic = \"w\" }\n]\n";
    let imported = read(Format::Emqx5, text);
    starts(&imported);
    let text = toml(&imported);
    let first = text.find("source = \"x/#\"").expect("the first rule");
    assert!(text[first..].contains("source = \"z\"") && text.contains("destination = \"y/$1/${clientid}\""), "{text}");
    assert!(on_line(&imported, 1)[0].text.contains("authorization is asked"), "{:?}", imported.remarks);
    let imported = read(
        Format::Emqx5,
        "rewrite = [{ action = all, source_topic = \"x\", re = \"(?=a)b\", dest_topic = \"y\" }]\n",
    );
    starts(&imported);
    assert!(on_line(&imported, 1)[0].text.contains("rule 1 is not taken over: expression is no regular"));
    assert!(read(Format::Emqx5, "rewrite = []\n").remarks.iter().all(|remark| remark.key.as_ref() != "rewrite"));
}

#[test]
fn topics_for_all_clients_are_taken_over() {
    let text = "auto_subscribe {\n  topics = [\n    { topic = \"c/${clientid}\", qos = 1, rh = 2, rap = 1, nl = 0 }\n    { topic = \"a/#/b\" }\n  ]\n}\n";
    let imported = read(Format::Emqx5, text);
    starts(&imported);
    let text = toml(&imported);
    assert!(
        text.contains("topic = \"c/%c\"\nqos = 1\nno_local = false\nretain_as_published = true\nretain_handling = 2\n"),
        "{text}"
    );
    assert!(on_line(&imported, 4)[0].text.contains("topic 2 is not taken over: topic is no topic filter"));
}

#[test]
fn the_expiry_of_retained_messages_is_taken_over() {
    for (format, text) in
        [(Format::Emqx5, "retainer.msg_expiry_interval = 2h\n"), (Format::Emqx4, "retainer.expiry_interval = 2h\n")]
    {
        let imported = read(format, text);
        starts(&imported);
        assert_eq!(value(&imported, "retained.expiry").as_deref(), Some("\"2h\""));
    }
}

#[test]
fn bounds_of_delayed_messages_are_taken_over() {
    for (text, wanted) in [
        ("delayed { enable = true, max_delayed_messages = 5 }\n", Some("5")),
        ("delayed.enable = false\ndelayed.max_delayed_messages = 5\n", Some("0")),
        ("delayed.max_delayed_messages = 0\n", None),
    ] {
        let imported = read(Format::Emqx5, text);
        starts(&imported);
        assert_eq!(value(&imported, "delayed.max_messages").as_deref(), wanted, "{text}");
    }
    let imported = read(Format::Emqx4, "delayed.enable = false\ndelayed.max_delayed_messages = 5\n");
    assert_eq!(value(&imported, "delayed.max_messages").as_deref(), Some("0"));
}
