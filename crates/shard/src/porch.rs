//! The porch: from an accepted connection to its CONNECT, and the way to the shard where its session lives.

use breakwater_contract::Metric;
use breakwater_proto::{Packet, PacketKind, ReasonCode, Split, Violation, decode, split};
use breakwater_session::{Terms, refuse};

use crate::conn::{Cause, Phase};
use crate::driver::{Driver, Event};
use crate::ingress::Step;
use crate::mail::{Arrival, Control, Mail};
use crate::papers::Papers;
use crate::shard::{Shard, home_of};

/// Length of an identifier that we give: 22 letters and digits are 131 bits.
const MINTED_LENGTH: usize = 22;

impl<T: Send> Shard<T> {
    /// The first bytes of a connection. Nothing behind CONNECT is looked at here.
    pub(crate) fn on_porch<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        bytes: &[u8],
    ) -> Result<Step, Cause> {
        if PacketKind::from_first_byte(bytes[0]) != Some(PacketKind::Connect) {
            if let Some(peer) = self.conns.get(slot).map(|conn| conn.peer) {
                driver.misled(slot, peer, bytes);
            }
            return Err(Violation::FirstPacketNotConnect.into()); // [MQTT-3.1.0-1]
        }
        let Some(listener) = self.conns.get(slot).map(|conn| conn.peer.listener) else { return Ok(Step::Gone) };
        let frame = match split(bytes, self.profiles.limits_of(listener).connect_bytes_max)? {
            Split::Packet(frame) => frame,
            Split::Incomplete { need } => return Ok(Step::Partial(need.unwrap_or(0) as u32)),
        };
        let papers = Papers::of(driver, slot);
        let mut connect = match decode(breakwater_proto::Version::V5, &frame) {
            Ok(Packet::Connect(connect)) => connect,
            Ok(_) => return Err(Violation::FirstPacketNotConnect.into()),
            Err(violation) => {
                self.refuse_unreadable(driver, slot, violation, frame.body); // [MQTT-3.1.4-1]
                return Err(violation.into());
            }
        };
        let claimed = connect.client_id;
        papers.fill_in(&mut connect);
        if let Some((reason, text)) = papers.fault() {
            return Err(self.refuse_connect(driver, slot, &connect, reason, Some(text)));
        }
        let terms = match Terms::agree(&connect, self.profiles.limits_of(listener)) {
            Ok(terms) => terms,
            Err(refusal) => {
                let most = connect.maximum_packet_size.unwrap_or(u32::MAX);
                let text = connect.version.is_v5().then_some(refusal.text);
                let mut out = Vec::new();
                refuse(connect.version, refusal.reason, text, most, &mut out);
                return Err(self.turn_away(driver, slot, connect.client_id, refusal.reason, refusal.text, &out));
            }
        };
        if self.stopping {
            let mut out = Vec::new();
            refuse(connect.version, ReasonCode::ServerUnavailable, None, u32::MAX, &mut out);
            let text = "the broker is shutting down";
            return Err(self.turn_away(driver, slot, connect.client_id, ReasonCode::ServerUnavailable, text, &out));
        }
        if connect.client_id.is_empty() {
            // Minted to live here, so that the connection need not move [MQTT-3.1.3-6] [MQTT3-3.1.3-6].
            let minted = self.mint_client_id();
            return self.admit_or_ask(driver, slot, &connect, &terms, Some(minted), bytes, frame.len);
        }
        let home = home_of(self.seed, self.shards, connect.client_id);
        if home == self.id {
            let assigned = (connect.client_id != claimed).then(|| connect.client_id.into());
            return self.admit_or_ask(driver, slot, &connect, &terms, assigned, bytes, frame.len);
        }
        self.send_home(driver, slot, home, bytes);
        Ok(Step::Gone)
    }

    /// Hands the connection to the shard where its session lives, with everything that was read.
    fn send_home<D: Driver<Transport = T>>(&mut self, driver: &mut D, slot: u32, home: u16, bytes: &[u8]) {
        let generation = self.conns.generation(slot).unwrap_or(0);
        let Some(conn) = self.conns.remove(slot) else { return };
        self.forget_timer(slot, generation, &conn);
        self.forget_tail(&conn);
        self.count_out(conn.peer.listener);
        let deadline = match conn.phase {
            Phase::Porch { deadline } => deadline,
            _ => self.now,
        };
        let transport = driver.take(slot);
        let arrival = Arrival {
            transport,
            peer: conn.peer,
            bytes: bytes.to_vec(),
            deadline,
            readable: conn.flags.readable || conn.flags.read_closed,
        };
        // Deliveries that were routed before must not be overtaken by what the client does at home.
        self.post(driver);
        driver.send(home, Mail::Control(Box::new(Control::Arrive(arrival))));
    }

    /// A connection comes home: handled as if it had just been read here.
    pub(crate) fn on_arrival<D: Driver<Transport = T>>(&mut self, driver: &mut D, arrival: Arrival<T>) {
        let Some(slot) = self.settle(driver, arrival.peer, arrival.transport, self.now, arrival.deadline) else {
            return;
        };
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.tail = arrival.bytes;
            conn.flags.tail_ready = true;
            // The poller here tells of what is in the socket when it starts to watch, so this is belt and braces.
            conn.flags.readable = arrival.readable;
        }
        self.schedule(slot);
    }

    /// Answers a CONNECT that can't be decoded where the protocol has an answer for it.
    fn refuse_unreadable<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        violation: Violation,
        body: &[u8],
    ) {
        // 3.x has an answer only to an unknown level [MQTT3-3.1.2-2]; anything else closes in silence [MQTT3-3.1.4-1].
        let version = violation
            .connack_version()
            .or_else(|| breakwater_proto::peek_version(body).filter(|version| version.is_v5()));
        if let Some(version) = version {
            let mut out = Vec::new();
            refuse(version, violation.reason(), None, u32::MAX, &mut out);
            driver.write(slot, &out);
        }
    }

    /// A CONNACK that refuses, behind whatever was written before, and a line in the log; the connection is then closed
    /// with the cause returned, which sends it.
    pub(crate) fn turn_away<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        slot: u32,
        client: &str,
        reason: ReasonCode,
        text: &str,
        connack: &[u8],
    ) -> Cause {
        self.counters.bump(Metric::ConnectionsRefused);
        if let Some(conn) = self.conns.get_mut(slot) {
            conn.out.extend_from_slice(connack);
            driver.event(Event::Refused { peer: conn.peer, client, reason: text, code: reason.as_u8() });
        }
        Cause::Refused(reason) // [MQTT-3.2.2-7] [MQTT3-3.2.2-5] [MQTT-3.1.4-2] [MQTT-4.13.2-1]
    }

    /// An identifier that nobody has and whose home is here.
    fn mint_client_id(&mut self) -> Box<str> {
        const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        loop {
            let mut id = String::with_capacity(MINTED_LENGTH);
            let mut chance = u128::from(self.chance()) << 64 | u128::from(self.chance());
            for _ in 0..MINTED_LENGTH {
                id.push(char::from(LETTERS[(chance % 62) as usize]));
                chance /= 62;
            }
            if home_of(self.seed, self.shards, &id) == self.id && self.find(&id).is_none() {
                return id.into(); // [MQTT-3.2.2-16]
            }
        }
    }
}
