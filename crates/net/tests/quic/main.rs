//! MQTT over QUIC through real shards, with a client on `quinn`.
#![forbid(unsafe_code)]

#[path = "../authority/authority.rs"]
mod authority;
mod ground;
mod our_client;

use std::net::SocketAddr;

use breakwater_net::{AccessRule, Bind, Ending, ListenerOptions, Refusal};
use breakwater_transport::tls::{CertificateFiles, ClientCertificate, TlsOptions};
use quinn::{ConnectionError, ReadError};

use authority::Authority;
use ground::{
    Client, Ground, MQTT, Stream, connect, dial, endpoint, hears_puback, options, publish, quic as config, run, suback,
    subscribe, udp,
};

fn count(ground: &Ground, refusal: Refusal) -> u64 {
    ground.status().refused.iter().find(|(one, _)| *one == refusal).map_or(0, |(_, count)| *count)
}

#[test]
fn one_stream_is_mqtt_as_on_tcp() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let (mut alice, mut bob) = (ground.connect("alice").await, ground.connect("bob").await);
        alice.control.say(&subscribe(1, "a/#")).await;
        alice.control.hears(&suback(1)).await;
        for round in 0..50_u8 {
            bob.control.say(&publish("a/b", 7, &[round])).await;
            hears_puback(&mut bob.control, 7).await;
            assert_eq!(alice.control.hears_message("a/b").await, [round]);
        }
        bob.control.say(&[0xC0, 0]).await;
        bob.control.hears(&[0xD0, 0]).await;
        bob.control.say(&[0xE0, 0]).await;
        assert!(bob.control.hear().await.is_none(), "the broker ends its side too");
        ground.until(|status| status.connections == 1).await;
        let status = ground.status();
        assert_eq!((status.accepted, status.refused.len()), (2, 0));
        ground.stop().await;
    });
}

#[test]
fn answers_and_deliveries_use_the_stream_that_they_concern() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut client = ground.connect("alice").await;
        let (mut a, mut b, mut c) = (client.open().await, client.open().await, client.open().await);
        a.say(&subscribe(1, "a/#")).await;
        a.hears(&suback(1)).await;
        b.say(&subscribe(2, "b/+")).await;
        b.hears(&suback(2)).await;
        client.control.say(&subscribe(3, "#")).await;
        client.control.hears(&suback(3)).await;
        for (id, topic) in [(4, "a/x"), (5, "b/x"), (6, "c/x")] {
            c.say(&publish(topic, id, topic.as_bytes())).await;
            hears_puback(&mut c, u8::try_from(id).expect("small")).await;
        }
        // The session has one subscription for "a/x" and "#" alike: one copy, on the data stream.
        assert_eq!(a.hears_message("a/x").await, b"a/x");
        assert_eq!(b.hears_message("b/x").await, b"b/x");
        assert_eq!(client.control.hears_message("c/x").await, b"c/x");
        // A stream that ends unsubscribes nothing.
        a.send.finish().expect("it is open");
        assert!(a.hear().await.is_none());
        c.say(&publish("a/y", 0, b"")).await;
        client.control.hears_message("a/y").await;
        ground.stop().await;
    });
}

#[test]
fn a_stream_for_one_message_is_answered_and_ended() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let client = ground.connect("alice").await;
        // More than may be open at once, one after the other.
        for round in 1..=200_u16 {
            let mut stream = client.open().await;
            stream.say(&publish("t", round, b"x")).await;
            stream.send.finish().expect("it is open");
            hears_puback(&mut stream, round as u8).await;
            assert!(stream.hear().await.is_none());
        }
        ground.stop().await;
    });
}

#[test]
fn long_messages_pass_both_ways_while_others_go_on() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut client = ground.connect("alice").await;
        let (mut into, mut from) = (client.open().await, client.open().await);
        from.say(&subscribe(1, "long")).await;
        from.hears(&suback(1)).await;
        let long: Vec<u8> = (0..900_000_u32).map(|at| at as u8).collect();
        for _ in 0..3 {
            let bytes = publish("long", 0, &long);
            let sending = tokio::spawn(async move {
                into.say(&bytes).await;
                into
            });
            client.control.say(&[0xC0, 0]).await;
            client.control.hears(&[0xD0, 0]).await;
            assert!(from.hears_message("long").await == long);
            into = sending.await.expect("no panic");
        }
        ground.stop().await;
    });
}

#[test]
fn a_disconnect_on_a_data_stream_ends_the_connection_and_leaves_the_will() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut watcher = ground.connect("watcher").await;
        watcher.control.say(&subscribe(1, "will")).await;
        watcher.control.hears(&suback(1)).await;
        let own = endpoint();
        let connection =
            dial(&own, config(ground.authority.client(None, MQTT)), ground.address).await.expect("it is let in");
        let client = Client::login(own, connection, "client", Some("will")).await;
        client.open().await.say(&[0xE0, 0]).await;
        let ConnectionError::ApplicationClosed(close) = client.connection.closed().await else { panic!("not closed") };
        assert_eq!(close.error_code.into_inner(), 0x82);
        assert_eq!(&close.reason[..], b"DISCONNECT belongs on the control stream");
        watcher.control.hears_message("will").await;
        ground.stop().await;
    });
}

#[test]
fn the_end_of_the_control_stream_is_the_end_of_the_connection() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut client = ground.connect("alice").await;
        let _data = client.open().await;
        client.control.send.finish().expect("it is open");
        assert!(client.control.hear().await.is_none());
        assert!(matches!(client.connection.closed().await, ConnectionError::ApplicationClosed(_)));
        ground.until(|status| status.connections == 0).await;
        ground.stop().await;
    });
}

#[test]
fn who_disconnects_and_goes_at_once_leaves_no_will() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut watcher = ground.connect("watcher").await;
        watcher.control.say(&subscribe(1, "#")).await;
        watcher.control.hears(&suback(1)).await;
        for round in 0..20_u8 {
            let own = endpoint();
            let connection =
                dial(&own, config(ground.authority.client(None, MQTT)), ground.address).await.expect("it is let in");
            let mut client = Client::login(own, connection, "client", Some("will")).await;
            client.control.say(&[publish("last", 0, &[round]), vec![0xE0, 0]].concat()).await;
            client.control.send.finish().expect("it is open");
            // The broker has the bytes, and maybe not looked at them.
            client.control.send.stopped().await.expect("the connection is well");
            client.connection.close(0_u32.into(), b"");
            assert_eq!(watcher.control.hears_message("last").await, [round]);
            client.endpoint.wait_idle().await;
        }
        ground.until(|status| status.connections == 1).await;
        let mut other = ground.connect("other").await;
        other.control.say(&publish("end", 0, b"")).await;
        watcher.control.hears_message("end").await;
        ground.stop().await;
    });
}

#[test]
fn a_client_may_change_its_address() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let (mut alice, mut bob) = (ground.connect("alice").await, ground.connect("bob").await);
        alice.control.say(&subscribe(1, "t")).await;
        alice.control.hears(&suback(1)).await;
        let before = alice.endpoint.local_addr().expect("bound");
        alice.endpoint.rebind(udp()).expect("another socket");
        assert_ne!(alice.endpoint.local_addr().expect("bound"), before);
        alice.control.say(&[0xC0, 0]).await;
        alice.control.hears(&[0xD0, 0]).await;
        bob.control.say(&publish("t", 0, b"x")).await;
        alice.control.hears_message("t").await;
        assert_eq!(ground.status().accepted, 2, "it is the same connection");
        ground.stop().await;
    });
}

/// Carries datagrams between one client and the broker, and counts the Retry packets among them.
async fn relay(socket: tokio::net::UdpSocket, broker: SocketAddr, retries: std::rc::Rc<std::cell::Cell<u32>>) {
    let (mut buffer, mut client) = ([0; 2048], None);
    loop {
        let Ok((count, from)) = socket.recv_from(&mut buffer).await else { return };
        let to = if from == broker {
            retries.set(retries.get() + u32::from(buffer[0] & 0xF0 == 0xF0));
            client.expect("the client speaks first")
        } else {
            client = Some(from);
            broker
        };
        socket.send_to(&buffer[..count], to).await.expect("loopback");
    }
}

#[test]
fn above_a_number_of_handshakes_clients_prove_their_address_first() {
    for (retry_above, expected) in [(0, true), (1, false)] {
        run(async {
            let ground = Ground::new(|options, _| options.quic.retry_above = retry_above);
            let socket = udp();
            socket.set_nonblocking(true).expect("a socket");
            let (address, retries) = (socket.local_addr().expect("bound"), std::rc::Rc::default());
            let socket = tokio::net::UdpSocket::from_std(socket).expect("a socket");
            let relay = relay(socket, ground.address, std::rc::Rc::clone(&retries));
            let config = config(ground.authority.client(None, MQTT));
            let client = async move {
                let own = endpoint();
                let connection = dial(&own, config, address).await;
                Client::login(own, connection.expect("it is let in"), "alice", None).await
            };
            let (mut relay, mut client) = (std::pin::pin!(relay), std::pin::pin!(client));
            let _client = std::future::poll_fn(|cx| {
                let _ = relay.as_mut().poll(cx);
                client.as_mut().poll(cx)
            })
            .await;
            // One for each datagram of the first flight.
            assert_eq!(retries.get() > 0, expected);
            ground.stop().await;
        });
    }
}

#[test]
fn who_opens_no_stream_is_turned_away_in_time() {
    run(async {
        let ground = Ground::new(|options, _| options.handshake_timeout_ms = 300);
        let connection =
            dial(&endpoint(), config(ground.authority.client(None, MQTT)), ground.address).await.expect("it is let in");
        connection.closed().await;
        ground.until(|status| status.connections == 0 && count(&ground, Refusal::TimedOut) == 1).await;
        ground.stop().await;
    });
}

#[test]
fn too_many_handshakes_at_once_are_refused_with_one_packet() {
    run(async {
        let ground = Ground::new(|options, _| {
            options.quic.retry_above = 8;
            options.handshake_timeout_ms = 60_000;
        });
        let own = endpoint();
        let mut waiting = Vec::new();
        for _ in 0..64 {
            let config = config(ground.authority.client(None, MQTT));
            waiting.push(dial(&own, config, ground.address).await.expect("it is let in"));
        }
        let refused = dial(&own, config(ground.authority.client(None, MQTT)), ground.address).await;
        let Err(ConnectionError::ConnectionClosed(close)) = refused else { panic!("let in") };
        assert_eq!(close.error_code, quinn::TransportErrorCode::CONNECTION_REFUSED);
        drop(waiting);
        let told = || (count(&ground, Refusal::Left), count(&ground, Refusal::Overload));
        ground.until(|status| status.connections == 0 && told() == (64, 1)).await;
        ground.connect("alice").await;
        ground.stop().await;
    });
}

#[test]
fn another_protocol_is_refused() {
    run(async {
        let ground = Ground::new(|_, _| {});
        for alpn in [vec![b"h3".to_vec()], Vec::new()] {
            let mut tls = ground.authority.client(None, MQTT);
            tls.alpn_protocols = alpn;
            let refused = dial(&endpoint(), config(tls), ground.address).await;
            assert!(matches!(refused, Err(ConnectionError::ConnectionClosed(_))), "{refused:?}");
        }
        ground.until(|status| status.connections == 0 && count(&ground, Refusal::Tls) == 2).await;
        assert!(ground.heard.lines.lock().expect("lines").iter().any(|line| line.contains("quic.test")));
        ground.stop().await;
    });
}

#[test]
fn nothing_is_taken_before_the_handshake_is_done() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut tls = ground.authority.client(None, MQTT);
        tls.enable_early_data = true;
        let (own, config) = (endpoint(), config(tls));
        let first = dial(&own, config.clone(), ground.address).await.expect("it is let in");
        // The ticket comes before the CONNACK.
        let first = Client::login(own.clone(), first, "alice", None).await;
        let again = own.connect_with(config, ground.address, "localhost").expect("a name");
        assert!(again.into_0rtt().is_err(), "the ticket allows no early data");
        drop(first);
        ground.stop().await;
    });
}

#[test]
fn streams_of_one_direction_are_not_taken() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let client = ground.connect("alice").await;
        assert!(client.connection.max_datagram_size().is_none());
        let mut open = std::pin::pin!(client.connection.open_uni());
        let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(open.as_mut().poll(cx).is_pending())).await;
        assert!(polled);
        ground.stop().await;
    });
}

#[test]
fn who_is_silent_for_the_idle_timeout_is_gone_and_its_will_is_sent() {
    run(async {
        let ground = Ground::new(|options, _| options.quic.idle_timeout_ms = 300);
        let own = endpoint();
        let connection =
            dial(&own, config(ground.authority.client(None, MQTT)), ground.address).await.expect("it is let in");
        let silent = Client::login(own, connection, "silent", Some("will")).await;
        let mut transport = quinn::TransportConfig::default();
        transport.keep_alive_interval(Some(std::time::Duration::from_millis(50)));
        let mut config = config(ground.authority.client(None, MQTT));
        config.transport_config(std::sync::Arc::new(transport));
        let own = endpoint();
        let connection = dial(&own, config, ground.address).await.expect("it is let in");
        let mut awake = Client::login(own, connection, "awake", None).await;
        awake.control.say(&subscribe(1, "will")).await;
        awake.control.hears(&suback(1)).await;
        assert_eq!(silent.connection.closed().await, ConnectionError::TimedOut);
        awake.control.hears_message("will").await;
        ground.stop().await;
    });
}

#[test]
fn the_bounds_of_the_listener_hold() {
    run(async {
        let refused = |outcome: Result<_, ConnectionError>| {
            assert!(matches!(outcome, Err(ConnectionError::ConnectionClosed(_))), "let in");
        };
        let ground = Ground::new(|options, _| options.connections_max = 1);
        let client = ground.connect("alice").await;
        refused(dial(&endpoint(), config(ground.authority.client(None, MQTT)), ground.address).await);
        ground.until(|_| count(&ground, Refusal::ListenerFull) == 1).await;
        drop(client);
        ground.until(|status| status.connections == 0).await;
        ground.connect("bob").await;
        ground.stop().await;

        let ground = Ground::new(|options, _| options.connections_per_address_max = 1);
        let _client = ground.connect("alice").await;
        refused(dial(&endpoint(), config(ground.authority.client(None, MQTT)), ground.address).await);
        ground.until(|_| count(&ground, Refusal::AddressFull) == 1).await;
        ground.stop().await;

        let ground = Ground::new(|options, _| options.access = vec![AccessRule { allow: false, network: None }]);
        refused(dial(&endpoint(), config(ground.authority.client(None, MQTT)), ground.address).await);
        ground.until(|_| count(&ground, Refusal::Denied) == 1).await;
        ground.stop().await;
    });
}

#[test]
fn the_certificate_of_a_client_reaches_the_authenticator() {
    run(async {
        let others = Authority::new();
        let ground = Ground::new(|options, authority| {
            let tls = options.tls.as_mut().expect("set");
            tls.client_certificate = ClientCertificate::Required;
            tls.client_authorities = vec![authority.file()];
        });
        let client = ground.authority.sign("device-1");
        let own = endpoint();
        let shows = config(ground.authority.client(Some(&client), MQTT));
        let connection = dial(&own, shows, ground.address).await.expect("it is let in");
        let _client = Client::login(own, connection, "alice", None).await;
        assert_eq!(*ground.heard.certificates.lock().expect("names"), [Some("device-1".to_owned())]);
        let stranger = others.sign("device-2");
        for shows in [None, Some(&stranger)] {
            // A client of TLS 1.3 is done before the broker has seen its certificate.
            if let Ok(connection) =
                dial(&endpoint(), config(ground.authority.client(shows, MQTT)), ground.address).await
            {
                assert!(matches!(connection.closed().await, ConnectionError::ConnectionClosed(_)));
            }
        }
        ground.until(|_| count(&ground, Refusal::Tls) == 2).await;
        ground.stop().await;
    });
}

#[test]
fn clients_whose_certificate_is_revoked_are_turned_out_and_no_others() {
    run(async {
        let ground = Ground::new(|options, authority| {
            let tls = options.tls.as_mut().expect("set");
            tls.client_certificate = ClientCertificate::Required;
            tls.client_authorities = vec![authority.file()];
        });
        let come = async |name: &str, will: Option<&str>| {
            let own = endpoint();
            let shows = config(ground.authority.client(Some(&ground.authority.sign(name)), MQTT));
            let connection = dial(&own, shows, ground.address).await.expect("it is let in");
            Client::login(own, connection, name, will).await
        };
        let mut good = come("good", None).await;
        good.control.say(&subscribe(1, "will")).await;
        good.control.hears(&suback(1)).await;
        let bad = come("bad", Some("will")).await;
        let mut options = ground.status().options;
        options.tls.as_mut().expect("set").revocation_lists = vec![ground.authority.revoke("bad")];
        ground.node.handle().change(options, Ending::Keep).expect("a good change");
        // Without a word from the client.
        let ConnectionError::ApplicationClosed(close) = bad.connection.closed().await else { panic!("not closed") };
        assert_eq!((close.error_code.into_inner(), &close.reason[..9]), (0x87, &b"the certi"[..]));
        good.control.hears_message("will").await;
        ground.until(|status| status.connections == 1).await;
        let told = ground.heard.lines.lock().expect("no panic in there").join("\n");
        assert!(told.contains("revoked"), "{told}");
        ground.stop().await;
    });
}

#[test]
fn a_change_shows_its_certificate_to_those_who_come_and_ends_nobody() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut alice = ground.connect("alice").await;
        let other = Authority::new();
        let mut changed = options(&other);
        changed.bind = vec![Bind::Address(SocketAddr::from(([127, 0, 0, 1], 0)))];
        ground.node.handle().change(changed, Ending::Keep).expect("it is open");
        dial(&endpoint(), config(ground.authority.client(None, MQTT)), ground.address)
            .await
            .expect_err("another authority");
        let own = endpoint();
        let connection = dial(&own, config(other.client(None, MQTT)), ground.address).await.expect("it is let in");
        Client::login(own, connection, "bob", None).await;
        alice.control.say(&[0xC0, 0]).await;
        alice.control.hears(&[0xD0, 0]).await;
        ground.stop().await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn two_listeners_change_places_and_who_is_connected_stays() {
    run(async {
        // Whoever holds a port at one address has it to himself at the others.
        let holder = udp();
        let port = holder.local_addr().expect("bound").port();
        let places = [2, 3].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
        let at = |place: usize| vec![Bind::Address(places[place])];
        let ground = Ground::new(|options, _| options.bind = at(0));
        let (handle, other) = (ground.node.handle(), Authority::new());
        let of_other = ListenerOptions { name: "quic.other".into(), bind: at(1), ..options(&other) };
        handle.open(of_other.clone()).expect("a free port");
        let mut alice = ground.connect("alice").await;
        let swapped = vec![
            ListenerOptions { bind: at(1), ..ground.status().options },
            ListenerOptions { bind: at(0), ..of_other },
        ];
        let alone = handle.change(swapped[0].clone(), Ending::Keep).expect_err("it is taken");
        assert!(alone.to_string().contains("127.0.0.3"), "{alone}");
        handle.change_together(swapped, Ending::Keep).expect("they change places");
        for (authority, place) in [(&other, places[0]), (&ground.authority, places[1])] {
            let own = endpoint();
            let connection = dial(&own, config(authority.client(None, MQTT)), place).await.expect("its certificate");
            Client::login(own, connection, "bob", None).await;
        }
        alice.control.say(&[0xC0, 0]).await;
        alice.control.hears(&[0xD0, 0]).await;
        ground.stop().await;
    });
}

#[test]
fn a_closed_listener_keeps_its_connections_if_it_is_asked_to() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut alice = ground.connect("alice").await;
        ground.node.handle().close("quic.test", Ending::Keep).expect("it is open");
        dial(&endpoint(), config(ground.authority.client(None, MQTT)), ground.address).await.expect_err("it is closed");
        alice.control.say(&[0xC0, 0]).await;
        alice.control.hears(&[0xD0, 0]).await;
        // The port comes free with the last connection.
        alice.control.say(&[0xE0, 0]).await;
        alice.connection.closed().await;
        while std::net::UdpSocket::bind(ground.address).is_err() {
            tokio::task::yield_now().await;
        }
        ground.stop().await;
    });
}

#[test]
fn a_listener_may_come_back_to_a_port_that_earlier_connections_still_have() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut alice = ground.connect("alice").await;
        let mut again = ground.status().options;
        again.name = "quic.again".into();
        again.bind = vec![Bind::Address(ground.address)];
        let taken = ground.node.handle().open(again.clone()).expect_err("somebody listens there");
        assert!(taken.to_string().contains("taken"), "{taken}");
        ground.node.handle().close("quic.test", Ending::Keep).expect("it is open");
        ground.node.handle().open(again).expect("it may have the port");
        let mut bob = ground.connect("bob").await;
        for client in [&mut alice, &mut bob] {
            client.control.say(&[0xC0, 0]).await;
            client.control.hears(&[0xD0, 0]).await;
        }
        let connections: Vec<u32> = ground.node.handle().listeners().iter().map(|status| status.connections).collect();
        assert_eq!(connections, [1, 1]);
        ground.stop().await;
    });
}

#[test]
fn a_stop_says_good_bye() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let mut alice = ground.connect("alice").await;
        let stop = tokio::spawn(ground.stop());
        let goodbye = alice.control.hear().await.expect("a DISCONNECT");
        assert_eq!((goodbye[0], goodbye[2]), (0xE0, 0x8B));
        assert!(alice.control.hear().await.is_none());
        stop.await.expect("no panic");
    });
}

#[test]
fn bytes_that_are_no_mqtt_end_the_connection() {
    run(async {
        let ground = Ground::new(|_, _| {});
        let own = endpoint();
        let connection =
            dial(&own, config(ground.authority.client(None, MQTT)), ground.address).await.expect("it is let in");
        let mut stream = Stream::new(connection.open_bi().await.expect("a stream"));
        stream.say(b"GET / HTTP/1.1\r\n\r\n").await;
        let end = stream.recv.read(&mut [0; 8]).await;
        assert!(matches!(end, Ok(None) | Err(ReadError::ConnectionLost(_))), "{end:?}");
        // A CONNECT on a data stream is no second connection.
        let client = ground.connect("alice").await;
        client.open().await.say(&connect("bob", None)).await;
        assert!(matches!(client.connection.closed().await, ConnectionError::ApplicationClosed(_)));
        ground.stop().await;
    });
}

#[test]
fn quic_without_a_certificate_or_tls_1_3_is_a_fault_of_its_listener() {
    let authority = Authority::new();
    let mut none = options(&authority);
    none.tls = None;
    let mut old = options(&authority);
    old.name = "quic.old".into();
    old.tls.as_mut().expect("set").versions = vec![breakwater_transport::tls::TlsVersion::Tls12];
    let mut missing = options(&authority);
    missing.name = "quic.missing".into();
    let files = CertificateFiles { certificate: "/nowhere/a.pem".into(), ..CertificateFiles::default() };
    missing.tls = Some(TlsOptions { certificates: vec![files], ..TlsOptions::default() });
    let (bound, faults) = breakwater_net::bind(vec![none, old, missing], 1);
    let texts: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(bound.is_empty());
    for (text, part) in texts.iter().zip(["needs TLS", "needs TLS 1.3", "/nowhere/a.pem"]) {
        assert!(text.contains(part), "{text}");
    }
}
