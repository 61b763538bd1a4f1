//! Our own authority and certificate, so that TLS works on a first start.

/// Stands in the names of what is made here.
pub(crate) const ORGANIZATION: &str = "made by Breakwater for itself";
