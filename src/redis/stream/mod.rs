//! Commands on streams: append, read, trim, delete, retention and scheduling.

pub(in crate::redis) mod append;
pub(in crate::redis) mod append_script;
pub(in crate::redis) mod change;
pub(in crate::redis) mod changed;
pub(in crate::redis) mod counters;
pub(in crate::redis) mod deletion;
pub(in crate::redis) mod durability;
pub(in crate::redis) mod entries;
pub(in crate::redis) mod facts;
pub(in crate::redis) mod idempotency;
pub(in crate::redis) mod info;
pub(in crate::redis) mod info_full;
pub(in crate::redis) mod life;
pub(in crate::redis) mod listing;
pub(in crate::redis) mod read_budget;
pub(in crate::redis) mod retention;
pub(in crate::redis) mod scheduled;
pub(in crate::redis) mod scheduled_list;
pub(in crate::redis) mod trim;
