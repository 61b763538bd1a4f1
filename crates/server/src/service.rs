//! What the service manager is told (`sd_notify`); nothing where there is none.

use breakwater_net::Handle;
use sd_notify::NotifyState;

/// The ports are open, and how many there are.
pub(crate) fn ready(handle: &Handle) {
    let open = handle.listeners().iter().filter(|listener| listener.open).count();
    tell(&[NotifyState::Ready, NotifyState::Status(&format!("{open} listeners are open"))]);
}

/// The configuration is being read again.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(_) => tell(&[NotifyState::Reloading]),
    }
}

/// Clients are being said good-bye to.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

fn tell(state: &[NotifyState<'_>]) {
    // A manager that does not listen is no reason to do anything else.
    let _ = sd_notify::notify(state);
}
