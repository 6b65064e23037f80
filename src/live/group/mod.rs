//! Waiting reads and push sessions of consumer groups.

pub(in crate::live) mod detached;
pub(in crate::live) mod fair_queue;
pub(in crate::live) mod policy_cache;
pub(in crate::live) mod push;
pub(in crate::live) mod read;
pub(in crate::live) mod wake_subscriber;
