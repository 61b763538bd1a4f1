//! What a player makes of the packets that the broker sends it, and what it finds wrong with them.

use breakwater_proto::{
    OutPublish, PacketKind, QoS, ReasonCode, encode_puback, encode_pubcomp, encode_pubrec, encode_pubrel, matches,
};

use super::super::{Scene, cut, publish_of, unexpected};
use super::{Packetized, Player};
use crate::received::Received;

impl Player {
    /// Bytes that the broker has not read, if any.
    pub(crate) fn unread(&self, scene: &Scene) -> Option<(usize, usize)> {
        let unread = scene.world.fabric.network.unread(self.conn.as_ref()?.link);
        (unread > 0).then_some((self.index, unread))
    }

    /// Reads what has come, and notices a closed connection.
    pub(crate) fn take_in(&mut self, scene: &mut Scene) -> Result<(), String> {
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let closed = scene.world.fabric.network.is_closed(conn.link);
        scene.world.fabric.network.collect(conn.link, &mut conn.inward);
        while let Some(conn) = &mut self.conn
            && let Some(packet) = cut(self.role.version, &mut conn.inward)
        {
            self.on_packet(scene, &packet).map_err(|what| format!("{}: {what}", self.id))?;
        }
        if closed && let Some(conn) = self.conn.take() {
            scene.note(format_args!("{} sees its connection closed", self.id));
            scene.world.fabric.network.forget(conn.link);
            self.on_connection_lost(&conn);
        }
        Ok(())
    }

    fn on_packet(&mut self, scene: &mut Scene, packet: &Received) -> Result<(), String> {
        scene.note(format_args!("{} gets {:?}", self.id, packet.kind()));
        let kind = packet.kind();
        let Some(conn) = &mut self.conn else { return Ok(()) };
        if !conn.ready && kind != PacketKind::ConnAck {
            return Err(format!("{} came before CONNACK", kind.name())); // [MQTT-3.2.0-1]
        }
        match kind {
            PacketKind::ConnAck => self.on_connack(scene, packet),
            PacketKind::Publish => self.on_publish(scene, packet),
            PacketKind::PubAck | PacketKind::PubRec | PacketKind::PubComp => self.on_ack(scene, kind, packet),
            PacketKind::PubRel => {
                let id = packet.ack().packet_id;
                self.incoming.remove(&id);
                conn.owed.push_back((PacketKind::PubComp, id));
                Ok(())
            }
            PacketKind::SubAck => self.on_suback(scene, packet),
            PacketKind::UnsubAck => {
                let id = packet.unsuback().packet_id;
                conn.requests.remove(&id).map(|_| ()).ok_or_else(|| format!("UNSUBACK {id} answers nothing"))
            }
            PacketKind::PingResp | PacketKind::Disconnect => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn on_connack(&mut self, scene: &mut Scene, packet: &Received) -> Result<(), String> {
        let connack = packet.connack();
        if connack.reason != ReasonCode::Success {
            return Err(format!("turned away: {:?}", connack.reason));
        }
        let Some(conn) = &mut self.conn else { return Ok(()) };
        if conn.ready {
            return Err("a second CONNACK".into());
        }
        conn.ready = true;
        self.starting_over = false;
        // 3.x clients are not told; they keep to what the broker holds for them.
        conn.quota = usize::from(connack.receive_maximum.unwrap_or(40)).min(40);
        conn.aliases_taken = connack.topic_alias_maximum.unwrap_or(0).min(3);
        if !connack.session_present {
            self.forget_session();
            return Ok(());
        }
        let (version, mut bytes) = (self.role.version, Vec::new());
        for outgoing in &self.outgoing {
            if outgoing.released {
                encode_pubrel(version, outgoing.id, ReasonCode::Success, &mut bytes); // [MQTT-4.4.0-1]
                continue;
            }
            scene.ledger.messages[outgoing.number as usize].transmissions += 1;
            let Packetized { topic, payload, retain } = &outgoing.packet;
            let packet = crate::client::out_publish(topic, outgoing.qos, *retain, outgoing.id, payload);
            OutPublish { dup: true, ..packet }.encode(version, &mut bytes);
        }
        conn.outward.extend(bytes);
        Ok(())
    }

    fn on_suback(&mut self, scene: &mut Scene, packet: &Received) -> Result<(), String> {
        let suback = packet.suback();
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let Some(filters) = conn.requests.remove(&suback.packet_id) else {
            return Err(format!("SUBACK {} answers nothing", suback.packet_id));
        };
        for filter in filters {
            let Some(held) = self.subscriptions.get_mut(&filter) else { continue };
            if suback.codes != [held.qos.as_u8()] {
                return Err(format!("{filter} was granted as {:?}", suback.codes));
            }
            held.since.get_or_insert(scene.tick);
        }
        Ok(())
    }

    fn on_ack(&mut self, scene: &mut Scene, kind: PacketKind, packet: &Received) -> Result<(), String> {
        let ack = packet.ack();
        let at = self.outgoing.iter().position(|outgoing| outgoing.id == ack.packet_id);
        let Some(at) = at else { return Err(format!("{} for {}, which is not in use", kind.name(), ack.packet_id)) };
        // After a cut the broker may have let go of an identifier that we release once more.
        let unknown = kind == PacketKind::PubComp && ack.reason == ReasonCode::PacketIdentifierNotFound;
        if ack.reason.is_error() && !unknown {
            return Err(format!("{} says {:?}", kind.name(), ack.reason));
        }
        let outgoing = &mut self.outgoing[at];
        let fits = match kind {
            PacketKind::PubAck => outgoing.qos == QoS::AtLeastOnce,
            PacketKind::PubRec => outgoing.qos == QoS::ExactlyOnce,
            _ => outgoing.released,
        };
        if !fits {
            return Err(format!("{} for {}, which waits for something else", kind.name(), ack.packet_id));
        }
        let empty = outgoing.packet.payload.is_empty();
        scene.ledger.messages[outgoing.number as usize].acknowledged = !empty;
        if kind == PacketKind::PubRec {
            outgoing.released = true;
            let id = outgoing.id;
            self.put(|version, out| encode_pubrel(version, id, ReasonCode::Success, out));
        } else {
            self.outgoing.remove(at);
        }
        Ok(())
    }

    fn on_publish(&mut self, scene: &mut Scene, packet: &Received) -> Result<(), String> {
        let Some(publish) = publish_of(packet) else { return Ok(()) };
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let topic = match publish.topic_alias {
            None => publish.topic.to_owned(),
            Some(alias) => {
                if alias > self.role.alias_maximum {
                    return Err(format!("alias {alias} is above the client's maximum")); // [MQTT-3.1.2-26]
                }
                if !publish.topic.is_empty() {
                    conn.aliases_in.insert(alias, publish.topic.to_owned());
                }
                conn.aliases_in.get(&alias).cloned().ok_or_else(|| format!("alias {alias} was never set"))?
            }
        };
        let number = number_in(publish.payload);
        let mut again = false;
        if publish.qos != QoS::AtMostOnce {
            conn.open.insert(publish.packet_id);
            let most = usize::from(self.role.receive_maximum.unwrap_or(u16::MAX));
            if conn.open.len() > most {
                return Err(format!("{} deliveries are open, the client takes {most}", conn.open.len())); // [MQTT-3.3.4-9]
            }
        }
        match publish.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => conn.owed.push_back((PacketKind::PubAck, publish.packet_id)),
            QoS::ExactlyOnce => {
                conn.owed.push_back((PacketKind::PubRec, publish.packet_id));
                if let Some(before) = self.incoming.insert(publish.packet_id, number) {
                    again = true;
                    if before != number {
                        return Err(format!(
                            "{} was used for {number:?} while it stood for {before:?}",
                            publish.packet_id
                        ));
                    }
                    if !publish.dup {
                        return Err(format!("{} was sent again without DUP", publish.packet_id)); // [MQTT-3.3.1-1]
                    }
                }
            }
        }
        if again {
            return Ok(());
        }
        self.on_message(scene, &topic, publish.qos, publish.dup, publish.retain, publish.payload)
    }

    /// A message for the application.
    fn on_message(
        &mut self,
        scene: &mut Scene,
        topic: &str,
        qos: QoS,
        dup: bool,
        retain: bool,
        payload: &[u8],
    ) -> Result<(), String> {
        if let Some(key) = will_in(payload) {
            if !dup || !self.wills_seen.contains_key(&key) {
                *self.wills_seen.entry(key).or_default() += 1;
            }
            return Ok(());
        }
        let kept = topic.starts_with("keep/");
        let number = number_in(payload);
        if kept && retain {
            self.retained.insert(topic.into(), number);
            return Ok(());
        }
        if kept {
            self.last_kept.insert(topic.into(), number);
        }
        let Some(number) = number else { return Ok(()) };
        scene.note(format_args!("{} has message {number} {qos:?} dup {dup}", self.id));
        let message = &scene.ledger.messages[number as usize];
        if message.topic != topic || qos > message.qos {
            return Err(format!("message {number} came as {topic} {qos:?}, but it was {message:?}"));
        }
        let own = message.publisher == self.index;
        let wanted = self.subscriptions.iter().any(|(filter, held)| {
            let plain = filter.strip_prefix("$share/g/").unwrap_or(filter);
            matches(plain, topic) && !(held.no_local && own)
        });
        if !wanted {
            return Err(format!("message {number} was never asked for: {message:?}"));
        }
        let seen = self.seen.entry(number).or_default();
        let first = seen.times == 0;
        seen.times += 1;
        seen.fresh += u32::from(!dup);
        if qos != QoS::AtLeastOnce && seen.times > 1 && message.qos != QoS::AtLeastOnce {
            return Err(format!("message {number} came twice: {message:?}")); // [MQTT-4.3.3-1]
        }
        // Through a group it may come once more after another member has gone.
        if seen.fresh > message.transmissions && !topic.starts_with("s/") {
            return Err(format!("message {number} came {} times without DUP: {message:?}", seen.fresh));
        }
        if first && !topic.starts_with("s/") {
            let key = (message.publisher, topic.to_owned(), message.qos, qos);
            let last = self.order.entry(key).or_default();
            // Sent again, it may be the first copy since this player has subscribed with this QoS.
            let new_here = self.subscriptions.iter().all(|(filter, held)| {
                !matches(filter, topic) || held.qos < qos || held.since.is_none_or(|since| since >= message.at)
            });
            // And an earlier one may have been dropped: QoS 0 always may, anything where memory is small.
            let excused = new_here || qos == QoS::AtMostOnce || scene.small;
            if message.seq < *last && !(excused && message.transmissions > 1) {
                return Err(format!("message {number} was overtaken by position {last}: {message:?}")); // [MQTT-4.6.0-6]
            }
            *last = message.seq.max(*last);
        }
        Ok(())
    }

    /// Sends up to `most` of the acknowledgements owed, in order.
    pub(crate) fn answer(&mut self, scene: &mut Scene, most: usize) {
        let Some(conn) = &mut self.conn else { return };
        let mut bytes = Vec::new();
        let version = self.role.version;
        for _ in 0..most {
            let Some((kind, id)) = conn.owed.pop_front() else { break };
            scene.note(format_args!("{} answers {} {id}", self.id, kind.name()));
            match kind {
                PacketKind::PubAck => encode_puback(version, id, ReasonCode::Success, &mut bytes),
                PacketKind::PubRec => encode_pubrec(version, id, ReasonCode::Success, &mut bytes),
                _ => encode_pubcomp(version, id, ReasonCode::Success, &mut bytes),
            }
            if kind != PacketKind::PubRec {
                conn.open.remove(&id);
            }
        }
        conn.outward.extend(bytes);
    }
}

fn number_in(payload: &[u8]) -> Option<u32> {
    let number = payload.strip_prefix(b"m")?.first_chunk::<4>()?;
    Some(u32::from_be_bytes(*number))
}

fn will_in(payload: &[u8]) -> Option<(usize, u32)> {
    let [index, rest @ ..] = payload.strip_prefix(b"w")? else { return None };
    Some((usize::from(*index), u32::from_be_bytes(*rest.first_chunk::<4>()?)))
}
