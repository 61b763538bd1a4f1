//! The message that is being delivered, and which of the sessions here have it kept by the store: one change for all of them.

use breakwater_contract::store::{Change, Durability, Position, SessionNumber, Terms, Wanted};
use breakwater_proto::Message;
use breakwater_session::{Delivered, Delivery, Kept, Note, Shared};

use crate::durable::NOTE_BYTES;
use crate::kept::Place;
use crate::shard::Shard;
use crate::tail::Comes;

/// Room for those who want a message.
const MOST_OF_WANTED: usize = 4096;

/// Who wants a message, as far as it was delivered.
#[derive(Debug, Default)]
pub(crate) struct Keeping {
    kept: Kept,
    /// Where it is, if it is in the store already.
    position: Option<Position>,
    message: Option<Message>,
    wanted: Vec<Wanted>,
    /// The strongest of what these were promised; none while there are none.
    asks: Option<Durability>,
    /// What sessions have noted meanwhile: the message goes first.
    notes: Vec<(u32, Note)>,
}

impl Keeping {
    /// Where what is delivered is in the store, if it is there already.
    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }
}

/// How a message goes out, as the store keeps it.
pub(crate) fn terms_of(delivery: &Delivery<'_>) -> Terms {
    Terms {
        qos: delivery.qos,
        retain: delivery.retain,
        shared: delivery.shared,
        subscription_id: delivery.subscription_ids.first().copied().unwrap_or(0),
        more_ids: delivery.subscription_ids.len() > 1,
    }
}

impl<T: Send> Shard<T> {
    /// What is delivered next is in the store already, in the queues of all who are to have it.
    pub(crate) fn keep_at(&mut self, position: Position) {
        self.finish_keeping();
        self.durable.keeping.position = Some(position);
    }

    /// The name under which a session of the store gets a message.
    pub(crate) fn kept_name(&mut self, message: &Shared<'_>) -> Kept {
        if self.durable.keeping.kept == Kept::default() {
            let view = message.view();
            // Here, so that it is known by now which batch it joins.
            self.make_room(view.topic.len() + view.properties.len() + view.payload.len() + MOST_OF_WANTED);
            let keeping = &mut self.durable.keeping;
            keeping.kept = self.durable.kept.open(keeping.position.map_or(Place::Unknown, Place::At));
        }
        self.durable.keeping.kept
    }

    /// How a message that is in the store already comes to a session; `None`: it is not there yet.
    pub(crate) fn comes_kept(&mut self, slot: u32) -> Option<Comes> {
        let position = self.durable.keeping.position?;
        let comes = self.comes(slot, position);
        // Where nothing is in the store alone it waits as any other does. But if the session was given anything that may lie behind it
        // in the log, it can't be where the part begins that is in the store alone: that would be read with it.
        let (answered, last) = (self.durable.answered(), self.durable.last);
        let resident = self.sessions.get_mut(slot)?;
        let lasting = resident.lasting.as_deref_mut()?;
        let own_is_before = lasting.kept_until == 0 || (lasting.kept_until <= answered && position > last);
        let as_others = !resident.session.is_cut() && own_is_before && position > lasting.kept_last;
        if comes == Comes::New {
            lasting.kept_last = lasting.kept_last.max(position);
        }
        Some(comes).filter(|comes| *comes != Comes::New || !as_others)
    }

    /// A session of the store was given a message, under its name.
    pub(crate) fn kept_delivered(
        &mut self,
        slot: u32,
        number: SessionNumber,
        message: &mut Shared<'_>,
        delivery: &Delivery<'_>,
        delivered: Delivered,
    ) {
        let (kept, position) = (delivery.kept, self.durable.keeping.position);
        let asks = self.durability_of(slot);
        match delivered {
            Delivered::Sent | Delivered::Queued => self.durable.kept.hold(kept),
            Delivered::Behind => self.put_behind(slot, kept, position),
            Delivered::Dropped(_) if position.is_some() => {
                self.durable.kept.hold(kept);
                self.forget(number, kept, asks);
            }
            Delivered::Dropped(_) => {}
        }
        if position.is_none()
            && !matches!(delivered, Delivered::Dropped(_))
            && let Some(resident) = self.sessions.get_mut(slot)
            && let Some(lasting) = resident.lasting.as_deref_mut()
        {
            lasting.kept_until = self.durable.next_batch();
            let terms = terms_of(delivery);
            let keeping = &mut self.durable.keeping;
            keeping.wanted.push(Wanted { session: number, terms });
            keeping.asks = keeping.asks.max(Some(asks));
            if keeping.message.is_none() {
                keeping.message = Some(message.message(&mut self.building).clone());
            }
        }
        self.durable.keeping.notes.extend(self.report.notes.drain(..).map(|note| (slot, note)));
    }

    /// All targets of a message, or of a part of them, are served: it joins the batch if anybody has it kept. Answers whether it did.
    #[inline]
    pub(crate) fn finish_keeping(&mut self) -> bool {
        let keeping = &self.durable.keeping;
        if keeping.kept == Kept::default() && keeping.position.is_none() {
            return false;
        }
        self.record_kept()
    }

    #[cold]
    fn record_kept(&mut self) -> bool {
        let Keeping { kept, message, mut wanted, asks, mut notes, .. } = std::mem::take(&mut self.durable.keeping);
        let recorded = match message {
            Some(message) if !wanted.is_empty() => {
                let bytes = message.byte_len() + wanted.len() * 2 + NOTE_BYTES;
                wanted.sort_by_key(|wanted| wanted.session);
                let change = Change::Message { message, unix_ms: self.unix_ms, sessions: wanted };
                self.record_message(change, kept, bytes, asks.unwrap_or_default());
                true
            }
            _ => {
                if kept != Kept::default() {
                    self.durable.kept.release(kept);
                }
                false
            }
        };
        for (slot, note) in notes.drain(..) {
            self.note(slot, note);
        }
        recorded
    }
}
