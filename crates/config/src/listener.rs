//! Listeners: their types, the table of their settings, and what becomes of one section.

mod draft;
pub(crate) mod read;
mod table;

use breakwater_net::ListenerOptions;
pub use breakwater_transport::Scheme;

pub(crate) use draft::{Draft, finish};
pub(crate) use table::{LISTENER_TABLE, VERSION_WORDS, versions};

/// One listener, resolved.
#[derive(Clone, Debug)]
pub struct Listener {
    pub kind: Scheme,
    pub options: ListenerOptions,
    /// Its certificate is the one that the broker makes by itself.
    pub self_made: bool,
    /// Section `[acme.NAME]` that its default certificate comes by.
    pub acme: Option<Box<str>>,
    /// Somebody has said something about it; otherwise it is one of those that exist by themselves.
    pub written_down: bool,
    /// Zone that its terms come from; empty for none.
    pub zone: Box<str>,
}

/// Whether a key of a listener takes a value, as whoever writes a file for others has to know.
pub(crate) fn accepts(kind: &str, key: &str, value: &toml_edit::Value) -> Result<(), String> {
    let setting = LISTENER_TABLE.iter().find(|setting| setting.key == key).ok_or("does not exist")?;
    let kind = Scheme::of(kind).ok_or("does not exist for a listener of that type")?;
    let read = setting.read(&crate::document::raw(value, "", 0)?)?;
    let mut scratch = Draft::new(kind, "scratch", &breakwater_net::Options::default(), true);
    (setting.store)(&mut scratch, &read, std::path::Path::new(""))
}
