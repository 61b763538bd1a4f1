//! One client of rumqttc, the same for both versions. It hears only while it is asked.

use std::time::Duration;

use rumqttc::v5::mqttbytes::v5 as five;
use rumqttc::{Event, MqttOptions, Packet, v5};

use crate::program::DEADLINE;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    Three,
    Five,
}

pub(super) struct Client {
    side: Side,
    pub(super) session_present: bool,
    /// Arrived while something else was waited for.
    early: std::collections::VecDeque<Message>,
}

enum Side {
    Three(rumqttc::AsyncClient, Box<rumqttc::EventLoop>),
    Five(v5::AsyncClient, Box<v5::EventLoop>),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: String,
    pub(super) qos: u8,
    pub(super) retain: bool,
}

/// What an event means, whatever the version.
enum Heard {
    Connected {
        session_present: bool,
    },
    Granted,
    Acknowledged,
    /// A QoS 0 message or a DISCONNECT has gone out.
    Sent,
    Message(Message),
    Other,
    /// The connection is over, with the reason that the broker gave and what rumqttc says.
    Over(Option<u8>, String),
}

/// Requests that wait between a client and its connection, at most.
const REQUESTS: usize = 16;
const PACKET_BYTES_MAX: u32 = 1024 * 1024;

struct Wish<'a> {
    id: &'a str,
    keep_session: bool,
    will: Option<&'a str>,
}

impl Client {
    pub(super) async fn connect(port: u16, version: Version, id: &str) -> Client {
        Self::with(port, version, &Wish { id, keep_session: false, will: None }).await
    }

    pub(super) async fn connect_with_will(port: u16, version: Version, topic: &str) -> Client {
        Self::with(port, version, &Wish { id: "mortal", keep_session: false, will: Some(topic) }).await
    }

    /// Connects to a session that outlives the connection.
    pub(super) async fn resume(port: u16, version: Version, id: &str) -> Client {
        Self::with(port, version, &Wish { id, keep_session: true, will: None }).await
    }

    async fn with(port: u16, version: Version, wish: &Wish<'_>) -> Client {
        let side = match version {
            Version::Three => three(port, wish),
            Version::Five => five(port, wish),
        };
        let mut client = Client { side, session_present: false, early: [].into() };
        client.session_present = loop {
            match client.hear().await {
                Heard::Connected { session_present } => break session_present,
                // Messages of a session that goes on may come before the event of its CONNACK is asked for.
                Heard::Message(message) => client.early.push_back(message),
                Heard::Over(_, fault) => panic!("the connection is over: {fault}"),
                _ => {}
            }
        };
        client
    }

    pub(super) async fn subscribe(&mut self, filter: &str, qos: u8) {
        match &self.side {
            Side::Three(client, _) => client.subscribe(filter, qos_3(qos)).await.expect("the connection is open"),
            Side::Five(client, _) => client.subscribe(filter, qos_5(qos)).await.expect("the connection is open"),
        }
        self.wait_for(|heard| matches!(heard, Heard::Granted)).await;
    }

    /// Publishes, and waits for what ends it.
    pub(super) async fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) {
        match &self.side {
            Side::Three(client, _) => client.publish(topic, qos_3(qos), retain, payload).await.expect("it is open"),
            Side::Five(client, _) => {
                client.publish(topic, qos_5(qos), retain, payload.to_owned()).await.expect("it is open");
            }
        }
        let ends = |heard: &Heard| matches!((heard, qos), (Heard::Sent, 0) | (Heard::Acknowledged, 1 | 2));
        self.wait_for(ends).await;
    }

    pub(super) async fn next(&mut self) -> Message {
        if let Some(message) = self.early.pop_front() {
            return message;
        }
        loop {
            match self.hear().await {
                Heard::Message(message) => return message,
                Heard::Over(_, fault) => panic!("the connection is over: {fault}"),
                _ => {}
            }
        }
    }

    pub(super) async fn expect(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) {
        let expected = Message { topic: topic.into(), payload: payload.into(), qos, retain };
        assert_eq!(self.next().await, expected);
    }

    /// Says good-bye.
    pub(super) async fn leave(mut self) {
        match &self.side {
            Side::Three(client, _) => client.disconnect().await.expect("it is open"),
            Side::Five(client, _) => client.disconnect().await.expect("it is open"),
        }
        self.wait_for(|heard| matches!(heard, Heard::Sent | Heard::Over(..))).await;
    }

    /// Waits for the end of the connection: the reason that the broker gave.
    pub(super) async fn last_words(mut self) -> Option<u8> {
        loop {
            if let Heard::Over(reason, _) = self.hear().await {
                return reason;
            }
        }
    }

    async fn wait_for(&mut self, wanted: impl Fn(&Heard) -> bool) {
        loop {
            match self.hear().await {
                heard if wanted(&heard) => return,
                Heard::Message(message) => self.early.push_back(message),
                Heard::Over(_, fault) => panic!("the connection is over: {fault}"),
                _ => {}
            }
        }
    }

    async fn hear(&mut self) -> Heard {
        match &mut self.side {
            Side::Three(_, events) => {
                events.poll().await.map_or_else(|fault| Heard::Over(None, fault.to_string()), heard_3)
            }
            Side::Five(_, events) => match events.poll().await {
                Ok(event) => heard_5(event),
                Err(fault) => {
                    let reason = match &fault {
                        v5::ConnectionError::MqttState(v5::StateError::ServerDisconnect { reason_code, .. }) => {
                            Some(*reason_code as u8)
                        }
                        _ => None,
                    };
                    Heard::Over(reason, fault.to_string())
                }
            },
        }
    }
}

const LOOPBACK: &str = "127.0.0.1";
const KEEP_ALIVE: Duration = Duration::from_secs(60);

fn three(port: u16, wish: &Wish<'_>) -> Side {
    let mut options = MqttOptions::new(wish.id, LOOPBACK, port);
    options.set_keep_alive(KEEP_ALIVE).set_clean_session(!wish.keep_session);
    options.set_max_packet_size(PACKET_BYTES_MAX as usize, PACKET_BYTES_MAX as usize);
    if let Some(topic) = wish.will {
        options.set_last_will(rumqttc::LastWill::new(topic, "died", rumqttc::QoS::AtLeastOnce, false));
    }
    let (client, mut events) = rumqttc::AsyncClient::new(options, REQUESTS);
    let mut network = rumqttc::NetworkOptions::new();
    network.set_connection_timeout(DEADLINE.as_secs());
    events.set_network_options(network);
    Side::Three(client, Box::new(events))
}

fn five(port: u16, wish: &Wish<'_>) -> Side {
    let mut options = v5::MqttOptions::new(wish.id, LOOPBACK, port);
    options.set_keep_alive(KEEP_ALIVE).set_clean_start(!wish.keep_session);
    options.set_max_packet_size(Some(PACKET_BYTES_MAX)).set_connection_timeout(DEADLINE.as_secs());
    // It makes room for as many: four megabytes for each client at its default of 65,535.
    options.set_outgoing_inflight_upper_limit(100);
    options.set_session_expiry_interval(Some(if wish.keep_session { 600 } else { 0 }));
    if let Some(topic) = wish.will {
        options.set_last_will(five::LastWill::new(topic, "died", v5::mqttbytes::QoS::AtLeastOnce, false, None));
    }
    let (client, events) = v5::AsyncClient::new(options, REQUESTS);
    Side::Five(client, Box::new(events))
}

fn heard_3(event: Event) -> Heard {
    match event {
        Event::Incoming(Packet::ConnAck(connack)) => Heard::Connected { session_present: connack.session_present },
        Event::Incoming(Packet::SubAck(suback)) => {
            let refused = suback.return_codes.contains(&rumqttc::SubscribeReasonCode::Failure);
            assert!(!refused, "refused");
            Heard::Granted
        }
        Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Heard::Acknowledged,
        Event::Incoming(Packet::Publish(publish)) => Heard::Message(Message {
            topic: publish.topic,
            payload: String::from_utf8(publish.payload.into()).expect("text"),
            qos: publish.qos as u8,
            retain: publish.retain,
        }),
        Event::Outgoing(rumqttc::Outgoing::Publish(_) | rumqttc::Outgoing::Disconnect) => Heard::Sent,
        _ => Heard::Other,
    }
}

fn heard_5(event: v5::Event) -> Heard {
    use five::Packet;
    match event {
        v5::Event::Incoming(Packet::ConnAck(connack)) => Heard::Connected { session_present: connack.session_present },
        v5::Event::Incoming(Packet::SubAck(suback)) => {
            let granted = |code: &five::SubscribeReasonCode| matches!(code, five::SubscribeReasonCode::Success(_));
            assert!(suback.return_codes.iter().all(granted), "refused");
            Heard::Granted
        }
        v5::Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Heard::Acknowledged,
        v5::Event::Incoming(Packet::Publish(publish)) => Heard::Message(Message {
            topic: String::from_utf8(publish.topic.into()).expect("text"),
            payload: String::from_utf8(publish.payload.into()).expect("text"),
            qos: publish.qos as u8,
            retain: publish.retain,
        }),
        v5::Event::Outgoing(rumqttc::Outgoing::Publish(_) | rumqttc::Outgoing::Disconnect) => Heard::Sent,
        _ => Heard::Other,
    }
}

fn qos_3(qos: u8) -> rumqttc::QoS {
    rumqttc::qos(qos).expect("0, 1 or 2")
}

fn qos_5(qos: u8) -> v5::mqttbytes::QoS {
    v5::mqttbytes::qos(qos).expect("0, 1 or 2")
}
