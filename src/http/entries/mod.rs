//! Routes of entries: append, read, delete and schedule.

pub(in crate::http) mod append;
pub(in crate::http) mod append_baseline;
pub(in crate::http) mod deletion;
pub(in crate::http) mod entry;
pub(in crate::http) mod multi;
pub(in crate::http) mod range;
pub(in crate::http) mod scheduled;
