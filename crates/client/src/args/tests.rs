use clap::Parser;

use super::*;

#[derive(Parser)]
#[command(disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    connect: ConnectArgs,
}

fn settings(line: &str) -> Result<Settings, String> {
    let words = std::iter::once("test").chain(line.split_whitespace());
    Line::try_parse_from(words).map_err(|error| error.to_string())?.connect.settings()
}

#[test]
fn nothing_given_is_a_clean_3_1_1_session_on_localhost() {
    let settings = settings("").expect("no flag is needed");
    assert_eq!((settings.target.host.as_str(), settings.target.port), ("localhost", 1883));
    assert_eq!(settings.options.version, Version::V311);
    assert!(settings.options.clean_start);
    assert_eq!(settings.options.client_id, "");
    assert_eq!(settings.options.keep_alive_s, 60);
}

#[test]
fn versions_have_the_spellings_people_know() {
    for (text, version) in [
        ("31", Version::V31),
        ("mqttv31", Version::V31),
        ("311", Version::V311),
        ("mqttv311", Version::V311),
        ("5", Version::V5),
        ("mqttv5", Version::V5),
    ] {
        assert_eq!(settings(&format!("-V {text}")).expect(text).options.version, version);
    }
}

#[test]
fn version_3_1_makes_its_own_short_client_id() {
    let id = settings("-V 31").expect("right").options.client_id;
    assert!(!id.is_empty() && id.len() <= 23, "{id}");
}

#[test]
fn a_kept_session_needs_an_id_and_never_expires() {
    assert!(settings("-c").expect_err("no id").contains("-i ID"));
    assert!(settings("-V 5 -x -1").expect_err("no id").contains("-i ID"));
    let kept = settings("-c -i a -V 5").expect("right").options;
    assert_eq!((kept.clean_start, kept.session_expiry), (false, Some(u32::MAX)));
    let short = settings("-c -i a -V 5 -x 10").expect("right").options;
    assert_eq!(short.session_expiry, Some(10));
    assert_eq!(settings("-V 5 -x ∞ -i a").expect("right").options.session_expiry, Some(u32::MAX));
}

#[test]
fn properties_choose_mqtt_5_and_reach_their_packets() {
    let line = "-D connect user-property a b -D CONNECT receive-maximum 7 -D will will-delay-interval 3 \
                -D publish content-type x -D publish payload-format-indicator 1 -D publish message-expiry-interval 9 \
                -D subscribe subscription-identifier 5 -D disconnect session-expiry-interval 0 --will-topic w";
    let settings = settings(line).expect("right");
    assert_eq!(settings.options.version, Version::V5);
    assert_eq!(settings.options.receive_maximum, Some(7));
    assert_eq!(settings.options.user_properties, b"\x26\0\x01a\0\x01b");
    assert_eq!(settings.options.will.expect("given").delay_s, 3);
    assert_eq!(settings.properties.publish.forward, b"\x03\0\x01x\x01\x01");
    assert_eq!(settings.properties.publish.expiry, Some(9));
    assert_eq!(settings.properties.subscribe.subscription_id, Some(5));
    assert_eq!(settings.properties.disconnect.session_expiry, Some(0));
}

#[test]
fn wrong_flags_say_what_to_do() {
    for (line, expected) in [
        ("-D connect nosuch 1", "no property"),
        ("-D nosuch user-property a b", "doesn't know the packet"),
        ("-D connect user-property a", "NAME VALUE"),
        ("-D connect receive-maximum 70000", "from 1 to 65535"),
        ("-D connect content-type x", "CONNECT has no property"),
        ("-D publish topic-alias 0", "from 1 to 65535"),
        ("-D publish content-type a -D publish content-type b", "twice"),
        ("-D publish content-type a -V 311", "need MQTT 5"),
        ("-x 5000000000 -V 5", "-1 for ever"),
        ("-P secret", "-u NAME"),
        ("-i a -I b", "cannot be used with"),
        ("--will-payload x", "--will-topic"),
        ("--will-topic a/#", "no topic to publish to"),
        ("--will-topic a --will-qos 3", "QoS is 0, 1 or 2"),
        ("-p 70000", "70000"),
        ("-p 0", "0"),
        ("-V 6", "mqttv311"),
        ("--cert x", "--key"),
        ("--psk 00", "pre-shared"),
        ("--tls-engine x", "--key"),
        ("--tls-version tlsv1.1", "tlsv1.2"),
        ("--unix x -h y", "cannot be used with"),
        ("-L ftp://h/t", "not with ftp://"),
    ] {
        let error = settings(line).expect_err(line);
        assert!(error.contains(expected), "{line}: {error}");
    }
}

#[test]
fn a_password_alone_is_fine_in_mqtt_5() {
    assert_eq!(settings("-P secret -V 5").expect("right").options.password, Some(b"secret".to_vec()));
}

#[test]
fn a_flag_for_tls_is_refused_where_the_url_says_that_there_is_none() {
    for (line, flag, expected) in [
        ("-L mqtt://h/t --cafile x", "--cafile", "write mqtts://"),
        ("-L tcp://h --capath x", "--capath", "write mqtts://"),
        ("-L ws://h/mqtt --cafile x", "--cafile", "write wss://"),
        ("-L ws://h/mqtt --ws /other --insecure", "--insecure", "write wss://"),
        ("-L mqtt://h/t --ws --tls-version tlsv1.3", "--tls-version", "write wss://"),
        ("-L unix:///run/x.sock --tls-alpn mqtt", "--tls-alpn", "unix socket"),
        ("--unix /run/x.sock --cert x --key y", "--cert", "unix socket"),
    ] {
        let error = settings(line).expect_err(line);
        assert!(error.contains(expected) && error.contains(&format!("drop {flag}")), "{line}: {error}");
    }
}

#[test]
fn flags_and_urls_choose_the_transport() {
    for (line, expected) in [
        ("-h h", "tcp://h:1883"),
        ("--cafile x", "tls://localhost:8883"),
        ("--cafile x -p 1883", "tls://localhost:1883"),
        ("--insecure -h ::1", "tls://[::1]:8883"),
        ("--ws", "ws://localhost:8083"),
        ("--ws /other --cafile x", "wss://localhost:8084"),
        ("-L mqtts://h/t", "tls://h:8883"),
        ("-L wss://h/mqtt", "wss://h:8084"),
        ("-L wss://h/mqtt --cafile x", "wss://h:8084"),
        ("-L mqtts://h/t --cafile x", "tls://h:8883"),
        ("-L mqtts://h/t --ws", "wss://h:8084"),
        ("-L quic://h/t --cafile x", "quic://h:14567"),
        ("-L quic://h/t", "quic://h:14567"),
        ("--unix /run/x.sock", "unix:///run/x.sock"),
        ("-L unix:///run/x.sock", "unix:///run/x.sock"),
    ] {
        assert_eq!(settings(line).expect(line).target.to_string(), expected, "{line}");
    }
}
