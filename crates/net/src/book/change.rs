//! Changing listeners: new places are listened at before old ones are left, and places may go from one listener to another.

use std::sync::Arc;

use super::{Book, Entry, Kept, fault};
use crate::bind_fault::{BindCause, BindFault};
use crate::listen::{Held, Place, bind_places};
use crate::listener::{Ending, ListenerOptions};
use crate::node::Handle;
use crate::orders::Order;
use crate::place::{self, Wanted};
use crate::roll::{Listener, Terms};

/// One listener of several that change together.
struct Change {
    /// Where its entry is.
    at: usize,
    wanted: Vec<Wanted>,
    terms: Arc<Terms>,
    before: Arc<Listener>,
    /// The same as before, unless those who have come by then are to go.
    listener: Arc<Listener>,
    /// Places that nobody has yet.
    fresh: Vec<Place>,
}

impl Handle {
    /// Changes a listener, found by its name, to these options: new places are listened at before old ones are left. If one
    /// can't be had, nothing has changed.
    ///
    /// TLS files are read again, also if nothing else has changed. Connections stay, and keep what they have agreed on. If
    /// places are left, `ending` says what becomes of the connections that the listener has by then.
    pub fn change(&self, options: ListenerOptions, ending: Ending) -> Result<(), BindFault> {
        self.change_together(vec![options], ending)
    }

    /// The same for several at once: what one of them leaves and another wants goes over with all that waits in it, so that
    /// they may change places. All of them change, or none.
    pub fn change_together(&self, all: Vec<ListenerOptions>, ending: Ending) -> Result<(), BindFault> {
        let mut book = self.book();
        let mut changes = self.draft(&book, all)?;
        self.bind(&book, &mut changes)?;
        for change in &mut changes {
            if ending != Ending::Keep && change.leaves(&book.entries[change.at]) {
                // Those who come from here on are not among those who are to go.
                let standing = &change.before.standing;
                let listener = book.roll.enroll(standing);
                change.listener = listener.ok_or_else(|| fault(&standing.name, BindCause::NoNumber))?;
            }
        }
        for change in &changes {
            self.set_terms(&change.listener, &change.terms)?;
        }
        let mut left = Vec::new();
        for change in &mut changes {
            let fresh = self.listen(&mut book, &change.listener, &change.terms, std::mem::take(&mut change.fresh))?;
            left.extend(change.enter(&mut book.entries[change.at], fresh));
        }
        for change in &changes {
            let places = &mut book.entries[change.at].places;
            let (got, others) = left.into_iter().partition::<Vec<Kept>, _>(|kept| change.lacks(kept, places));
            for kept in &got {
                self.hand_over(kept, change)?;
            }
            places.extend(got);
            left = others;
        }
        drop(book);
        let Some(name) = changes.first().map(|change| change.before.standing.name.clone()) else { return Ok(()) };
        self.silence(&name, left, ending)?;
        for change in changes.iter().filter(|change| !Arc::ptr_eq(&change.before, &change.listener)) {
            change.before.close();
            self.tell(&name, |_| Order::End(Arc::clone(&change.before), ending))?;
        }
        Ok(())
    }

    /// What is to be, with all files read: what is bound takes the place of something.
    fn draft(&self, book: &Book, all: Vec<ListenerOptions>) -> Result<Vec<Change>, BindFault> {
        let one = |options: ListenerOptions| {
            let name = options.name.clone();
            let at = book.find(&name).ok_or_else(|| fault(&name, BindCause::NoSuchListener))?;
            let entry = &book.entries[at];
            if entry.terms.options.protocols.quic != options.protocols.quic {
                let text = "a listener can't turn from TCP to QUIC or back; close it and open another";
                return Err(fault(&name, BindCause::Unsupported(text)));
            }
            let wanted = place::wanted(&options.bind).map_err(|(place, cause)| BindFault {
                listener: name.clone(),
                place,
                cause,
            })?;
            let terms = Arc::new(Terms::load(options, Some(&entry.terms))?);
            let (before, listener) = (Arc::clone(&entry.listener), Arc::clone(&entry.listener));
            Ok(Change { at, wanted, terms, before, listener, fresh: Vec::new() })
        };
        all.into_iter().map(one).collect()
    }

    /// Binds what no listener of this node has, or will have left.
    fn bind(&self, book: &Book, changes: &mut [Change]) -> Result<(), BindFault> {
        let held: Vec<Held> = book.held();
        for at in 0..changes.len() {
            let (change, mut kept) = (&changes[at], Vec::new());
            for other in changes.iter() {
                let places = &book.entries[other.at].places;
                let its_own = other.at == change.at;
                let goes =
                    |place: &&Kept| its_own || (change.lacks(place, &[]) && !other.wanted.contains(&place.wanted));
                kept.extend(places.iter().filter(goes).map(|place| place.wanted.clone()));
            }
            let again = |address| self.inner.quic.again(address);
            changes[at].fresh = bind_places(&change.terms.options, &kept, &held, self.shards(), &again)?;
        }
        Ok(())
    }

    /// The sockets of a place are those of another listener from here on.
    fn hand_over(&self, kept: &Kept, to: &Change) -> Result<(), BindFault> {
        if let Some(quic) = &kept.quic {
            quic.change(&to.listener, &to.terms);
            return Ok(());
        }
        let hand =
            |_| Order::Hand { place: kept.number, listener: Arc::clone(&to.listener), terms: Arc::clone(&to.terms) };
        self.tell(&to.before.standing.name, hand)
    }
}

impl Change {
    fn leaves(&self, entry: &Entry) -> bool {
        entry.places.iter().any(|kept| !self.wanted.contains(&kept.wanted))
    }

    /// Whether a place that another one leaves is one of those that it has not got yet.
    fn lacks(&self, kept: &Kept, places: &[Kept]) -> bool {
        kept.quic.is_some() == self.terms.options.protocols.quic
            && self.wanted.contains(&kept.wanted)
            && places.iter().all(|place| place.wanted != kept.wanted)
    }

    /// Puts it into the book. Gives the places that it leaves.
    fn enter(&self, entry: &mut Entry, fresh: Vec<Kept>) -> Vec<Kept> {
        let (stay, leave) = std::mem::take(&mut entry.places)
            .into_iter()
            .partition::<Vec<Kept>, _>(|kept| self.wanted.contains(&kept.wanted));
        stay.iter().filter_map(|kept| kept.quic.as_ref()).for_each(|quic| quic.change(&self.listener, &self.terms));
        entry.places = stay;
        entry.places.extend(fresh);
        (entry.listener, entry.terms) = (Arc::clone(&self.listener), Arc::clone(&self.terms));
        leave
    }
}
