//! Files as people have them.

use super::*;

pub(super) const SAMPLES: [(Format, &str, &str); 3] = [
    (Format::Emqx4, "emqx.conf", include_str!("../samples/emqx4.conf")),
    (Format::Emqx5, "emqx.conf", include_str!("../samples/emqx5.conf")),
    (Format::Mosquitto, "mosquitto.conf", include_str!("../samples/mosquitto.conf")),
];

#[test]
fn whole_files_are_found_out_read_and_accounted_for() {
    for (format, name, text) in SAMPLES {
        assert_eq!(detect(text, name), Ok(format));
        assert_eq!(detect(text, "some.conf"), Ok(format));
        let imported = read(format, text);
        starts(&imported);
        for remark in &imported.remarks {
            let line = remark.to_string();
            assert!(!line.contains("hidden-") && !line.contains("that we know of"), "{line}");
        }
        for fate in [Fate::Blank, Fate::Mapped, Fate::Remarked] {
            assert!(imported.fates[0].1.contains(&fate), "{format}: {fate:?}");
        }
    }
}

/// Whatever is cut off or written twice: no panic, and no line gets lost.
#[test]
fn parts_of_files_are_accounted_for_too() {
    for (format, _, text) in SAMPLES {
        let lines: Vec<&str> = text.lines().collect();
        for cut in 0..lines.len() {
            for part in
                [lines[..cut].join("\n"), lines[cut..].join("\n"), [&lines[..], &lines[cut..]].concat().join("\n")]
            {
                if let Ok(imported) = import(format, &part, &mut Alone) {
                    accounted(&imported, &part);
                }
            }
        }
    }
}

#[test]
fn the_result_of_a_whole_file_is_what_its_owner_would_write() {
    let [old, new, house] = SAMPLES.map(|(format, _, text)| read(format, text));
    for (imported, path, expected) in [
        (&old, "listeners.tcp.machines.bind", "\"10.20.0.5:1883\""),
        (&old, "listeners.tcp.machines.access", "[\"allow 10.20.0.0/16\", \"deny all\"]"),
        (&old, "listeners.tcp.machines.messages_rate_in", "\"50/s\""),
        (&old, "listeners.tcp.machines.mountpoint", "\"plant/\""),
        (&old, "listeners.tls.people.tls.client_certificate", "\"required\""),
        (&old, "listeners.tls.people.tls.username_from", "\"cn\""),
        (&old, "zones.machines.session.expiry_default", "\"12h\""),
        (&old, "zones.people.mqtt.max_subscriptions", "50"),
        (&old, "retained.max_payload", "\"512KB\""),
        (&new, "listeners.tls.tills.tls.key", "\"/etc/emqx/certs/tills.key\""),
        (&new, "listeners.tls.tills.zone", "\"tills\""),
        (&new, "listeners.ws.default.enabled", "false"),
        (&new, "listeners.wss.web.tls.key_password_file", "\"/run/secrets/web\""),
        (&new, "listeners.quic.default.quic.idle_timeout", "\"30s\""),
        (&new, "zones.tills.mqtt.server_keepalive", "\"1m\""),
        (&new, "shared.strategy", "\"sticky\""),
        (&house, "listeners.tcp.default.bind", "\"192.168.7.1:1883\""),
        (&house, "listeners.tcp.p1884.authentication", "false"),
        (&house, "listeners.tcp.p1884.zone", "\"tcp-p1884\""),
        (&house, "listeners.tls.default.tls.revocation_lists", "[\"/etc/mosquitto/crl.pem\"]"),
        (&house, "listeners.ws.default.bind", "\"9001\""),
        (&house, "listeners.unix.default.bind", "\"/run/mosquitto/local.sock\""),
        (&house, "session.expiry_max", "\"14d\""),
    ] {
        assert_eq!(value(imported, path).as_deref(), Some(expected), "{path}\n{}", imported.toml);
    }
    assert_eq!(value(&house, "listeners.tcp.default.authentication"), None);
}
