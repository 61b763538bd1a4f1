//! Messages into the out buffers and queues of sessions that live here.

use breakwater_contract::Metric;
use breakwater_contract::store::SessionNumber;
use breakwater_proto::{OutPublish, QoS, Version};
use breakwater_router::{PackedGrant, Subscriber};
use breakwater_session::{Delivered, Delivery, DropReason, Env, Kept, Shared, Spill};

use crate::conn::{NONE, mark};
use crate::driver::{Driver, WriteOutcome};
use crate::route::Run;
use crate::shard::Shard;
use crate::tail::Comes;

/// A run at least this long goes to an idle socket straight from where it stands: the copy would cost more than the
/// system call that it saves.
const WRITE_THROUGH: usize = 8 * 1024;

impl<T: Send> Shard<T> {
    /// One message to one session. `None`: the session is gone, or the topic has no name below its mountpoint.
    pub(crate) fn deliver_one(
        &mut self,
        message: &mut Shared<'_>,
        to: Subscriber,
        grant: PackedGrant,
        subscription_ids: &[u32],
        shared: bool,
    ) -> Option<Delivered> {
        let view = message.view();
        let delivery = Delivery {
            qos: view.qos.min(grant.qos()), // [MQTT-3.8.4-8] [MQTT3-3.8.4-6]
            // [MQTT-3.3.1-12] [MQTT-3.3.1-13] [MQTT3-3.3.1-9]
            retain: view.retain && grant.retain_as_published(),
            subscription_ids,
            shared,
            ..Delivery::default()
        };
        self.deliver_as(message, to, delivery)
    }

    pub(crate) fn deliver_as(
        &mut self,
        message: &mut Shared<'_>,
        to: Subscriber,
        delivery: Delivery<'_>,
    ) -> Option<Delivered> {
        if delivery.qos == QoS::AtMostOnce || !self.durable.is_on() {
            return self.give(message, to, &delivery);
        }
        self.deliver_kept(message, to, delivery)
    }

    /// What the store has, or will have, if the session is one of its own.
    fn deliver_kept(
        &mut self,
        message: &mut Shared<'_>,
        to: Subscriber,
        mut delivery: Delivery<'_>,
    ) -> Option<Delivered> {
        let room = self.queue_room();
        let Some(resident) = self.sessions.get_of(to.slot, to.generation) else {
            self.counters.bump(Metric::DroppedGone);
            return None;
        };
        let (slot, number) = (resident.conn, resident.number());
        if number == SessionNumber::default() {
            return self.give(message, to, &delivery);
        }
        let queued = resident.session.queue_bytes();
        if resident.mount > 0 && !self.takes(message, to, &delivery) {
            return None;
        }
        if room.is_short(slot, queued) {
            delivery.spill = Spill::Always;
        }
        delivery.kept = self.kept_name(message);
        match self.comes_kept(to.slot) {
            None => {}
            Some(Comes::Read) => return Some(Delivered::Behind),
            Some(Comes::Behind) => delivery.spill = Spill::Always,
            Some(Comes::New) => delivery.spill = Spill::Never,
        }
        let delivered = self.give(message, to, &delivery)?;
        self.kept_delivered(to.slot, number, message, &delivery, delivered);
        Some(delivered)
    }

    fn give(&mut self, message: &mut Shared<'_>, to: Subscriber, delivery: &Delivery<'_>) -> Option<Delivered> {
        let is_kept = delivery.kept != Kept::default();
        let room = self.queue_room();
        let is_bent = self.standers.any_reason() && self.bend_limits(to, delivery);
        let Some(mut resident) = self.sessions.get_of(to.slot, to.generation) else {
            self.counters.bump(Metric::DroppedGone);
            return None;
        };
        // What is kept was asked for before it was named.
        if resident.mount > 0 && !is_kept {
            if !self.takes(message, to, delivery) {
                return None;
            }
            resident = self.sessions.get_of(to.slot, to.generation)?;
        }
        let (slot, profile) = (resident.conn, resident.profile);
        // What the store has waits there.
        let starved = !is_kept && room.is_short(slot, resident.session.queue_bytes());
        let conn = if slot == NONE { None } else { self.conns.get_mut(slot) };
        let mut metered = false;
        let (link, out, room) = match conn {
            Some(conn) => {
                let mut bound = self.options.out_buffer_bytes;
                metered = conn.flags.marks.has(mark::METERED);
                if metered {
                    bound = conn.out_bound(self.profiles.rates(profile), bound, self.now);
                }
                if metered && bound == 0 {
                    (Some(&mut conn.link), &mut self.brimful, 0)
                } else {
                    self.pool.ready(&mut conn.out);
                    let room = conn.room(bound);
                    (Some(&mut conn.link), &mut conn.out, room)
                }
            }
            None => (None, &mut self.nowhere, 0),
        };
        let mut env = Env {
            now: self.now,
            limits: match starved {
                _ if is_bent => self.profiles.bent(profile),
                true => self.profiles.no_queue(profile),
                false => self.profiles.limits(profile),
            },
            room,
            out,
            report: &mut self.report,
            scratch: &mut self.building,
        };
        let delivered = resident.session.deliver(link, message, delivery, &mut env);
        if metered {
            self.meter_delivery(slot, delivered);
        }
        match delivered {
            Delivered::Sent => {
                self.counters.bump(Metric::PublishSent);
                self.mark_dirty(slot);
            }
            Delivered::Queued | Delivered::Behind | Delivered::Dropped(_) => {
                if !is_kept {
                    self.settle_notes(to.slot);
                }
                if is_bent {
                    self.count_bent();
                } else if delivered == Delivered::Dropped(DropReason::QueueFull) && self.standers.any_reason() {
                    self.count_untold(to.slot);
                }
                self.after_waiting(to.slot, slot, delivered);
            }
        }
        Some(delivered)
    }

    /// A message that did not go out.
    fn after_waiting(&mut self, session: u32, slot: u32, delivered: Delivered) {
        match delivered {
            Delivered::Queued | Delivered::Behind | Delivered::Dropped(DropReason::QueueFull) => self.account(session),
            _ => {}
        }
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if !conn.out.is_empty() {
            // It may be queued for want of room only: the flush that makes room goes on with it.
            conn.flags.pump = true;
        } else if conn.out.capacity() > 0 {
            let out = std::mem::take(&mut conn.out);
            self.pool.give(out);
        }
    }

    /// A run of QoS 0 messages to one session: in one piece where the layouts agree.
    /// `converted`: the run in the other layout, made by the first target that needs it.
    pub(crate) fn deliver_run<D: Driver<Transport = T>>(
        &mut self,
        driver: &mut D,
        to: Subscriber,
        grant: PackedGrant,
        more_ids: &[u32],
        run: &Run<'_>,
        converted: &mut Vec<u8>,
    ) {
        let Some(resident) = self.sessions.get_of(to.slot, to.generation) else {
            self.counters.add(Metric::DroppedGone, u64::from(run.count));
            return;
        };
        let slot = resident.conn;
        let whole = match self.conns.get_mut(slot) {
            Some(conn) => {
                let link = &conn.link;
                // Two bytes more is what the other layout can need at most.
                let fits = run.longest + 2 <= link.maximum_packet_size as usize;
                // QoS 0 that was kept while the client was away goes first [MQTT-4.6.0-5] [MQTT3-4.6.0-6].
                let kept = self.profiles.limits(conn.profile).queue_qos0 && resident.session.has_backlog();
                let metered = conn.flags.marks.has(mark::METERED);
                grant.subscription_id() == 0 && !link.has_own_bytes() && fits && !kept && !metered
            }
            _ => false,
        };
        if !whole {
            self.deliver_run_singly(to, grant, more_ids, run);
            return;
        }
        let Some(conn) = self.conns.get_mut(slot) else { return };
        let bytes = if conn.link.version.is_v5() == run.version.is_v5() {
            run.wire
        } else {
            if converted.is_empty() {
                convert(run, conn.link.version, converted);
            }
            converted.as_slice()
        };
        let room = conn.room(self.options.out_buffer_bytes);
        if bytes.len() > room && !(conn.out.is_empty() && run.count == 1) {
            // Whole messages up to the bound, the rest is shed and counted.
            self.deliver_run_singly(to, grant, more_ids, run);
            return;
        }
        self.counters.add(Metric::PublishSent, u64::from(run.count));
        let mut sent = 0;
        if bytes.len() >= WRITE_THROUGH && conn.out.is_empty() && !conn.flags.blocked {
            match driver.write(slot, bytes) {
                WriteOutcome::Wrote(count) => {
                    self.counters.add(Metric::BytesSent, count as u64);
                    sent = count;
                    if count == bytes.len() {
                        return;
                    }
                    conn.flags.blocked = true;
                    conn.stalled_since = self.now.0 as u32;
                }
                WriteOutcome::Held(count) => {
                    self.counters.add(Metric::BytesSent, count as u64);
                    sent = count;
                    conn.flags.blocked = true;
                    conn.stalled_since = self.now.0 as u32;
                }
                // Dirty, so that the flush finds out and ends it.
                WriteOutcome::WouldBlock | WriteOutcome::Failed => {}
            }
        }
        self.pool.ready(&mut conn.out);
        conn.out.extend_from_slice(&bytes[sent..]);
        self.mark_dirty(slot);
    }

    /// The slow way: each message by itself, through the session.
    fn deliver_run_singly(&mut self, to: Subscriber, grant: PackedGrant, more_ids: &[u32], run: &Run<'_>) {
        let mut ids = std::mem::take(&mut self.run_ids);
        ids.clear();
        if grant.subscription_id() != 0 {
            ids.push(grant.subscription_id());
            ids.extend_from_slice(more_ids);
        }
        let mut encoded = std::mem::take(&mut self.encoded);
        for view in run.messages() {
            let mut message = Shared::borrowed(view, &mut encoded);
            self.deliver_one(&mut message, to, grant, &ids, false);
        }
        self.encoded = encoded;
        self.run_ids = ids;
    }
}

/// Writes the run as `version` wants it.
fn convert(run: &Run<'_>, version: Version, out: &mut Vec<u8>) {
    for view in run.messages() {
        let packet = OutPublish {
            dup: false, // [MQTT-3.3.1-2]
            qos: QoS::AtMostOnce,
            retain: false,
            packet_id: 0,
            topic: view.topic,
            topic_alias: 0,
            expiry: None,
            subscription_ids: &[],
            properties: view.properties,
            payload: view.payload,
        };
        packet.encode(version, out);
    }
}
