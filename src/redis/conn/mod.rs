//! Connections to Redis: the pool, exclusive connections, Sentinel and health.

pub(in crate::redis) mod dial;
pub(in crate::redis) mod endpoint;
pub(in crate::redis) mod exclusive;
pub(in crate::redis) mod health;
pub(in crate::redis) mod master_address;
pub(in crate::redis) mod pool;
pub mod private;
pub(in crate::redis) mod send_options;
pub(in crate::redis) mod sentinel;
pub(in crate::redis) mod settings;
pub(in crate::redis) mod shared;
mod supervision;
pub(in crate::redis) mod tracking;
pub(in crate::redis) mod transaction;
pub(in crate::redis) mod watched_socket;
pub(in crate::redis) mod write_health;
