//! The way to a running node: a unix socket in its data directory, with file permissions as its guard.
//!
//! One request a line, one answer a line, both JSON and bounded. Whoever may open the socket may do everything.

mod ask;
mod host;
mod operations;
mod retained;
mod stored;
mod wire;

pub(crate) use ask::ask;
pub(crate) use host::{Operations, is_answered, open, taken};
pub(crate) use retained::{ROWS_MAX, RetainedRow};
pub(crate) use stored::{FindingRow, StoreStats};
pub(crate) use wire::{AcmeRow, Answer, CertificateRow, ListenerRow, Request, StatusRow, StoreRow};

use std::path::{Path, PathBuf};

/// Where the socket of a node is.
pub(crate) fn path(data: &Path) -> PathBuf {
    data.join("control.sock")
}
