use super::super::{emqx, emqx4};
use super::*;

fn read4(text: &str) -> Imported {
    read(Format::Emqx4, text)
}

#[test]
fn a_port_and_the_keys_below_it_are_both_kept() {
    let imported = read4(
        "listener.tcp.default = 1883\n\
         listener.ssl.external = 8883\n\
         listener.ssl.external.keyfile = etc/certs/your_private_key.pem\n\
         listener.ssl.external.certfile = etc/certs/your_certificate.pem\n",
    );
    for (path, expected) in [
        ("listeners.tcp.default.bind", "\"1883\""),
        ("listeners.tls.external.bind", "\"8883\""),
        ("listeners.tls.external.tls.key", "\"etc/certs/your_private_key.pem\""),
        ("listeners.tls.external.tls.certificate", "\"etc/certs/your_certificate.pem\""),
        ("listeners.defaults", "false"),
    ] {
        assert_eq!(value(&imported, path).as_deref(), Some(expected), "{path}:\n{}", toml(&imported));
    }
    starts(&imported);
    assert!(imported.remarks.iter().all(|remark| remark.severity != Severity::NotMapped), "{:?}", imported.remarks);
}

/// Lines of a listener, and what stands in the result below it (`-` for nothing).
const LISTENER: &[(&str, &str, &str, &str)] = &[
    ("tcp", " = 127.0.0.1:1884", "bind", "\"127.0.0.1:1884\""),
    ("tcp", " = [::1]:1884", "bind", "\"[::1]:1884\""),
    ("tcp", " = \":1884\"", "bind", "\"1884\""),
    ("tcp", " = localhost:1884", "bind", "[\"127.0.0.1:1884\", \"[::1]:1884\"]"),
    ("tcp", ".max_connections = 1024000", "max_connections", "1024000"),
    ("tcp", ".max_conn_rate = 1000", "accept_rate", "1000"),
    ("tcp", ".max_conn_rate = 1000,1s", "accept_rate", "1000"),
    ("tcp", ".max_conn_rate = 1000,10s", "accept_burst", "1000"),
    ("tcp", ".rate_limit = \"100KB,10s\"", "bytes_rate_in", "\"10KB/s\""),
    ("tcp", ".rate_limit = 100KB,10s", "bytes_rate_in_burst", "\"100KB\""),
    ("tcp", ".access.1 = allow all", "access", "-"),
    ("tcp", ".access.1 = \"deny 10.0.0.0/8\"", "access", "[\"deny 10.0.0.0/8\"]"),
    ("tcp", ".proxy_protocol = on", "proxy_protocol", "true"),
    ("tcp", ".proxy_protocol = on", "trusted_proxies", "[\"127.0.0.1\", \"::1\"]"),
    ("tcp", ".proxy_protocol = off", "proxy_protocol", "-"),
    ("tcp", ".backlog = 512", "backlog", "512"),
    ("tcp", ".recbuf = 4KB", "receive_buffer", "\"4KB\""),
    ("tcp", ".sndbuf = 4KB", "send_buffer", "\"4KB\""),
    ("tcp", ".nodelay = true", "nodelay", "true"),
    ("tcp", ".zone = inner", "zone", "\"inner\""),
    ("ssl", ".keyfile = /k.pem", "tls.key", "\"/k.pem\""),
    ("ssl", ".certfile = /c.pem", "tls.certificate", "\"/c.pem\""),
    ("ssl", ".key_password = geheim", "tls.key_password", "-"),
    ("ssl", ".keyfile = /k\nlistener.ssl.a.key_password = geheim", "tls.key_password", "\"geheim\""),
    ("ssl", ".tls_versions = tlsv1.3,tlsv1.2,tlsv1.1,tlsv1", "tls.versions", "[\"1.2\", \"1.3\"]"),
    ("ssl", ".tls_versions = tlsv1.1", "tls.versions", "-"),
    (
        "ssl",
        ".ciphers = ECDHE-ECDSA-AES256-GCM-SHA384,AES128-SHA",
        "tls.ciphers",
        "[\"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384\"]",
    ),
    ("ssl", ".ciphers = AES128-SHA", "tls.ciphers", "-"),
    ("ssl", ".verify = verify_peer", "tls.client_certificate", "\"optional\""),
    ("ssl", ".verify = verify_none", "tls.client_certificate", "\"none\""),
    ("ssl", ".handshake_timeout = 15s", "handshake_timeout", "\"15s\""),
    ("ssl", ".reuse_sessions = on", "tls.resumption", "true"),
    ("ssl", ".enable_ocsp_stapling = true", "tls.ocsp", "\"fetch\""),
    ("ssl", ".peer_cert_as_username = cn", "tls.username_from", "\"cn\""),
    ("ssl", ".peer_cert_as_clientid = dn", "tls.client_id_from", "\"dn\""),
    ("ssl", ".peer_cert_as_clientid = crt", "tls.client_id_from", "-"),
    ("ws", ".mqtt_path = /mqtt", "websocket.path", "\"/mqtt\""),
    ("ws", ".fail_if_no_subprotocol = false", "websocket.allow_no_subprotocol", "true"),
    ("ws", ".max_frame_size = 64KB", "websocket.max_frame_size", "\"64KB\""),
    ("ws", ".max_frame_size = 0", "websocket.max_frame_size", "-"),
    ("ws", ".check_origin_enable = false", "websocket.origins", "[\"*\"]"),
    ("wss", ".mqtt_path = /x", "websocket.path", "\"/x\""),
    ("wss", ".certfile = /c.pem", "tls.certificate", "\"/c.pem\""),
];

#[test]
fn keys_of_listeners_become_ours() {
    for (kind, line, path, expected) in LISTENER {
        let ours = if *kind == "ssl" { "tls" } else { kind };
        let port = if line.starts_with(" =") { String::new() } else { format!("listener.{kind}.a = 1\n") };
        let peer = if line.contains("peer_cert") {
            "listener.ssl.a.verify = verify_peer\nlistener.ssl.a.cacertfile = /ca.pem\n"
        } else {
            ""
        };
        let imported = read4(&format!("{port}{peer}listener.{kind}.a{line}\n"));
        starts(&imported);
        let found = value(&imported, &format!("listeners.{ours}.a.{path}"));
        assert_eq!(found.as_deref().unwrap_or("-"), *expected, "{kind}{line}:\n{}", toml(&imported));
    }
}

#[test]
fn client_certificates_take_three_keys_together() {
    let lines = "listener.ssl.a = 1\nlistener.ssl.a.cacertfile = /ca.pem\nlistener.ssl.a.verify = verify_peer\n";
    let imported = read4(&format!("{lines}listener.ssl.a.fail_if_no_peer_cert = true\n"));
    assert_eq!(value(&imported, "listeners.tls.a.tls.client_certificate").as_deref(), Some("\"required\""));
    assert_eq!(value(&imported, "listeners.tls.a.tls.client_authorities").as_deref(), Some("[\"/ca.pem\"]"));
    let imported = read4("listener.ssl.a = 1\nlistener.ssl.a.cacertfile = /ca.pem\n");
    assert_eq!(value(&imported, "listeners.tls.a.tls.client_authorities"), None);
    assert!(on_line(&imported, 2)[0].text.contains("append it to certificate"));
}

#[test]
fn access_rules_keep_their_order() {
    let imported = read4(
        "listener.tcp.a = 1\nlistener.tcp.a.access.10 = deny all\nlistener.tcp.a.access.2 = allow 10.0.0.0/8\nlistener.tcp.a.access.1 = allow ::1\n",
    );
    let access = value(&imported, "listeners.tcp.a.access");
    assert_eq!(access.as_deref(), Some("[\"allow ::1\", \"allow 10.0.0.0/8\", \"deny all\"]"));
}

#[test]
fn origins_that_are_checked_are_named() {
    let lines = "listener.ws.a = 1\nlistener.ws.a.check_origins = http://a, https://b\n";
    let imported = read4(&format!("{lines}listener.ws.a.check_origin_enable = true\n"));
    assert_eq!(value(&imported, "listeners.ws.a.websocket.origins").as_deref(), Some("[\"http://a\", \"https://b\"]"));
    let imported = read4(lines);
    assert_eq!(value(&imported, "listeners.ws.a.websocket.origins"), None);
    assert!(on_line(&imported, 2)[0].text.contains("check_origin_enable"));
}

/// Limits of a zone or of all, and our setting.
const LIMITS: &[(&str, &str, &str)] = &[
    ("max_packet_size = 256KB", "mqtt.max_packet_size", "\"256KB\""),
    ("max_clientid_len = 1024", "mqtt.max_clientid_len", "1024"),
    ("max_topic_levels = 0", "mqtt.max_topic_levels", "32768"),
    ("max_qos_allowed = 1", "mqtt.max_qos", "1"),
    ("max_topic_alias = 10", "mqtt.max_topic_alias", "10"),
    ("retain_available = false", "mqtt.retain_available", "false"),
    ("wildcard_subscription = off", "mqtt.wildcard_subscription", "false"),
    ("shared_subscription = true", "mqtt.shared_subscription", "true"),
    ("server_keepalive = 60", "mqtt.server_keepalive", "\"1m\""),
    ("keepalive_backoff = 0.75", "mqtt.keepalive_multiplier", "1.5"),
    ("max_subscriptions = 0", "mqtt.max_subscriptions", "4294967295"),
    ("max_inflight = 64", "mqtt.max_inflight", "64"),
    ("max_awaiting_rel = 100", "mqtt.max_awaiting_rel", "100"),
    ("session_expiry_interval = 2h", "session.expiry_default", "\"2h\""),
    ("max_mqueue_len = 1000", "queue.max_messages", "1000"),
    ("mqueue_store_qos0 = true", "queue.store_qos0", "true"),
    ("response_information = \"reply/\"", "mqtt.response_information", "\"reply/\""),
];

#[test]
fn limits_become_settings_of_all_or_of_a_zone() {
    for (line, path, expected) in LIMITS {
        let imported = read4(&format!("zone.inner.{line}\n"));
        starts(&imported);
        assert_eq!(value(&imported, &format!("zones.inner.{path}")).as_deref(), Some(*expected), "{line}");
        let imported = read4(&format!("mqtt.{line}\n"));
        assert_eq!(value(&imported, path).as_deref(), Some(*expected), "{line}");
    }
    assert_eq!(
        value(&read4("broker.shared_subscription_strategy = hash\n"), "shared.strategy").as_deref(),
        Some("\"hash_clientid\"")
    );
    assert_eq!(value(&read4("broker.sys_interval = 1m\n"), "sys.interval").as_deref(), Some("\"1m\""));
    assert_eq!(value(&read4("retainer.max_payload_size = 1MB\n"), "retained.max_payload").as_deref(), Some("\"1MB\""));
    assert_eq!(
        value(&read4("retainer.max_retained_messages = 0\n"), "retained.max_messages").as_deref(),
        Some("4294967295")
    );
}

#[test]
fn a_value_out_of_bounds_is_brought_inside_and_told() {
    let imported = read4("mqtt.max_packet_size = 1GB\n");
    assert_eq!(value(&imported, "mqtt.max_packet_size").as_deref(), Some("\"268435460B\""));
    assert_eq!(on_line(&imported, 1)[0].severity, Severity::Changed);
}

#[test]
fn what_a_zone_says_of_listeners_is_said_on_them() {
    let imported = read4(
        "listener.tcp.a = 1\nlistener.tcp.a.zone = inner\nlistener.tcp.b = 2\n\
         zone.inner.rate_limit.conn_messages_in = 100,10s\nzone.inner.rate_limit.conn_bytes_in = 100KB,10s\n\
         zone.inner.mountpoint = up/\nzone.inner.allow_anonymous = true\nzone.other.mountpoint = x/\n",
    );
    for (path, expected) in [
        ("listeners.tcp.a.messages_rate_in", Some("\"10/s\"")),
        ("listeners.tcp.a.bytes_rate_in", Some("\"10KB/s\"")),
        ("listeners.tcp.a.mountpoint", Some("\"up/\"")),
        ("listeners.tcp.a.authentication", Some("false")),
        ("listeners.tcp.b.authentication", None),
        ("listeners.tcp.b.mountpoint", None),
    ] {
        assert_eq!(value(&imported, path).as_deref(), expected, "{path}");
    }
    assert!(on_line(&imported, 8)[0].text.contains("no listener"));
}

#[test]
fn anonymous_clients_are_let_in_only_if_nobody_else_is_known() {
    let open = "listener.tcp.a = 1\nallow_anonymous = true\n";
    let imported = read4(open);
    assert_eq!(value(&imported, "listeners.tcp.a.authentication").as_deref(), Some("false"));
    assert!(on_line(&imported, 2)[0].text.contains("users add"));
    let imported = read4(&format!("{open}auth.user.1.username = a\nauth.user.1.password = geheim\n"));
    assert_eq!(value(&imported, "listeners.tcp.a.authentication"), None);
    assert_eq!(on_line(&imported, 2)[0].severity, Severity::Action);
    for other in ["allow_anonymous = false\n", "allow_anonymous = false_quick_deny\n", ""] {
        assert_eq!(value(&read4(&format!("listener.tcp.a = 1\n{other}")), "listeners.tcp.a.authentication"), None);
    }
}

#[test]
fn a_name_of_a_certificate_needs_one_to_be_asked_for() {
    let imported = read4("listener.ssl.a = 1\nlistener.ssl.a.peer_cert_as_username = cn\n");
    assert_eq!(value(&imported, "listeners.tls.a.tls.username_from"), None);
    assert!(on_line(&imported, 2)[0].text.contains("no client is asked"));
    starts(&imported);
}

#[test]
fn names_that_we_cannot_have_are_changed_and_kept_apart() {
    let imported = read4("listener.tcp.a:b = 1\nlistener.tcp.a;b = 2\n");
    assert_eq!(value(&imported, "listeners.tcp.a_b.bind").as_deref(), Some("\"1\""));
    assert_eq!(value(&imported, "listeners.tcp.a_b-2.bind").as_deref(), Some("\"2\""));
    starts(&imported);
}

#[test]
fn secrets_stay_out_of_remarks() {
    let imported = read4(
        "dashboard.default_user.password = geheim1\nauth.client.1.password = geheim2\nmanagement.default_application.secret = geheim3\n\
         listener.ssl.a = 1\nlistener.ssl.a.key_password = geheim4\nnode.cookie = geheim5\nauth.http.auth_req.url = http://u:geheim6@h/\n",
    );
    assert!(imported.remarks.iter().all(|remark| !remark.to_string().contains("geheim")), "{:?}", imported.remarks);
}

#[test]
fn of_two_lines_for_one_key_the_last_counts() {
    let imported = read4("listener.tcp.a = 1\nlistener.tcp.a = 2\n");
    assert_eq!(value(&imported, "listeners.tcp.a.bind").as_deref(), Some("\"2\""));
    assert!(on_line(&imported, 1)[0].text.contains("line 2"));
}

#[test]
fn a_listener_without_its_port_stays_shut() {
    let imported = read4("listener.ssl.a.keyfile = /k.pem\n");
    assert_eq!(value(&imported, "listeners.tls.a.enabled").as_deref(), Some("false"));
    assert!(on_line(&imported, 1).iter().any(|remark| remark.text.contains("listener.ssl.a = PORT")));
}

#[test]
fn comments_and_quotes_are_read_as_emqx_does() {
    let imported =
        read4("  # one\n## two\nlistener.tcp.a = 1 # behind\nlistener.tcp.a.access.1 = \"deny all\" # x\nnonsense\n");
    assert_eq!(value(&imported, "listeners.tcp.a.bind").as_deref(), Some("\"1\""));
    assert_eq!(value(&imported, "listeners.tcp.a.access").as_deref(), Some("[\"deny all\"]"));
    assert!(on_line(&imported, 5)[0].text.contains("KEY = VALUE"));
}

/// Every key of every family: mapped, or told what becomes of it.
#[test]
fn every_known_key_is_known() {
    let tcp = "acceptors max_connections max_conn_rate active_n zone rate_limit access.1 proxy_protocol proxy_protocol_timeout \
               peer_cert_as_username peer_cert_as_clientid backlog send_timeout send_timeout_close recbuf sndbuf buffer \
               high_watermark tune_buffer nodelay reuseaddr";
    let ssl = "tls_versions ciphers psk_ciphers handshake_timeout depth key_password dhfile keyfile certfile cacertfile verify \
               fail_if_no_peer_cert partial_chain verify_peer_ext_key_usage secure_renegotiate reuse_sessions honor_cipher_order \
               hibernate_after enable_ocsp_stapling ocsp_responder_url ocsp_issuer_pem ocsp_refresh_interval \
               ocsp_refresh_http_timeout enable_crl_check crl_cache_urls gc_after_handshake log_level";
    let ws = "mqtt_path mqtt_piggyback fail_if_no_subprotocol supported_subprotocols proxy_address_header proxy_port_header compress \
              deflate_opts.level deflate_opts.mem_level deflate_opts.strategy deflate_opts.server_context_takeover \
              deflate_opts.client_context_takeover deflate_opts.server_max_window_bits deflate_opts.client_max_window_bits \
              idle_timeout max_frame_size check_origin_enable allow_origin_absence check_origins";
    let zone = "idle_timeout allow_anonymous acl_nomatch enable_acl acl_deny_action enable_ban enable_stats publish_limit \
                max_packet_size max_clientid_len max_topic_levels max_qos_allowed max_topic_alias retain_available \
                wildcard_subscription shared_subscription server_keepalive keepalive_backoff max_subscriptions upgrade_qos \
                max_inflight retry_interval latency_samples max_awaiting_rel await_rel_timeout ignore_loop_deliver \
                session_expiry_interval max_mqueue_len mqueue_priorities mqueue_default_priority mqueue_store_qos0 \
                enable_flapping_detect rate_limit.conn_messages_in rate_limit.conn_bytes_in conn_congestion.alarm \
                conn_congestion.min_alarm_sustain_duration quota.conn_messages_routing quota.overall_messages_routing \
                force_gc_policy force_shutdown_policy mountpoint use_username_as_clientid strict_mode response_information \
                bypass_auth_plugins exclusive_subscription tcp_keepalive";
    let mqtt = "max_packet_size max_clientid_len max_topic_levels max_qos_allowed max_topic_alias retain_available \
                wildcard_subscription shared_subscription ignore_loop_deliver strict_mode response_information exclusive_subscription";
    let single = "allow_anonymous acl_nomatch acl_file enable_acl_cache acl_cache_max_size acl_cache_ttl acl_deny_action \
                  flapping_detect_policy auth_order acl_order crl_cache_http_timeout crl_cache_refresh_interval \
                  broker.sys_interval broker.sys_heartbeat broker.shared_subscription_strategy broker.session_locking_strategy \
                  broker.shared_dispatch_ack_enabled broker.enable_session_registry broker.route_batch_clean broker.perf.trie_compaction \
                  broker.client_disconnect_discarded broker.a.shared_subscription_strategy \
                  dashboard.listener.http dashboard.default_user.login dashboard.default_user.password \
                  retainer.storage_type retainer.max_retained_messages retainer.max_payload_size retainer.expiry_interval \
                  retainer.stop_publish_clear_msg management.listener.http management.default_application.id \
                  management.default_application.secret psk.file.path psk.file.delimiter auth.http.auth_req.url \
                  auth.http.auth_req.method auth.http.auth_req.params auth.http.super_req.url auth.http.acl_req.url \
                  auth.mnesia.password_hash auth.client.1.clientid auth.client.1.password auth.user.1.username \
                  auth.user.1.password cluster.name node.name rpc.mode log.to module.presence.qos modules.loaded_file \
                  plugins.etc_dir sysmon.long_gc os_mon.cpu_check_interval vm_mon.check_interval alarm.actions telemetry.enabled";
    let mut keys: Vec<String> = single.split_whitespace().map(str::to_owned).collect();
    for (kind, groups) in
        [("tcp", vec![tcp]), ("ssl", vec![tcp, ssl]), ("ws", vec![tcp, ws]), ("wss", vec![tcp, ssl, ws])]
    {
        keys.push(format!("listener.{kind}.external"));
        for name in groups.iter().flat_map(|group| group.split_whitespace()) {
            keys.push(format!("listener.{kind}.external.{name}"));
        }
    }
    keys.extend(zone.split_whitespace().map(|name| format!("zone.external.{name}")));
    keys.extend(mqtt.split_whitespace().map(|name| format!("mqtt.{name}")));
    assert!(keys.len() > 250, "{}", keys.len());
    for value in ["1883", "true", "off", "nonsense", "15s", "1MB", "100,10s", ""] {
        let text: String = keys.iter().map(|key| format!("{key} = {value}\n")).collect();
        let imported = read4(&text);
        for remark in &imported.remarks {
            assert!(!remark.text.contains("that we know of"), "{remark}");
        }
    }
}

#[test]
fn an_unknown_key_is_told_as_one() {
    let imported = read4(
        "listener.tcp.a = 1\nlistener.tcp.a.nonsense = 1\nzone.a.nonsense = 1\nmqtt.nonsense = 1\nnonsense = 1\nlistener.x.a = 1\n",
    );
    for line in 2..=5 {
        assert!(on_line(&imported, line)[0].text.contains("that we know of"), "{:?}", on_line(&imported, line));
    }
    assert_eq!(on_line(&imported, 6)[0].severity, Severity::Action);
}

#[test]
fn every_rule_leads_to_a_setting_that_exists() {
    let settings: Vec<&str> = emqx::known().filter_map(|(_, setting)| setting).collect();
    assert!(settings.len() > 15);
    for key in settings {
        assert!(crate::TABLE.iter().any(|setting| setting.key == key), "{key}");
    }
    assert!(emqx4::families().all(|family| !family.is_empty()));
}

#[test]
fn rules_for_topics_are_taken_over() {
    let text = "module.rewrite.pub.rule.1 = x/# ^x/y/(.+)$ z/y/$1\nmodule.rewrite.sub.rule.1 = y/+/z/# ^y/(.+)/z/(.+)$ y/z/$2/%c\n\
                module.rewrite.rule.1 = a b\n";
    let imported = read(Format::Emqx4, text);
    starts(&imported);
    let text = toml(&imported);
    assert!(
        text.contains("action = \"publish\"\nsource = \"x/#\"") && text.contains("destination = \"y/z/$2/%c\""),
        "{text}"
    );
    assert!(on_line(&imported, 3)[0].text.contains("can't be read"));
}

#[test]
fn topics_for_all_clients_are_taken_over() {
    let text = "module.subscription.1.topic = connected/%c/%u\nmodule.subscription.2.topic = #\nmodule.subscription.1.qos = 2\n\
                module.subscription.3.qos = 1\nmodule.subscription.4.x = 1\n";
    let imported = read(Format::Emqx4, text);
    starts(&imported);
    let text = toml(&imported);
    assert!(text.contains("topic = \"connected/%c/%u\"\nqos = 2\n") && text.contains("topic = \"#\"\n"), "{text}");
    assert!(on_line(&imported, 4)[0].text.contains("topic is missing"));
    assert_eq!(on_line(&imported, 5).len(), 1);
}
