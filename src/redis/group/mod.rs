//! Commands on consumer groups: reads, leases, acknowledgements, consumers and pending entries.

pub(in crate::redis) mod ack;
pub(in crate::redis) mod consumer_admission;
pub(in crate::redis) mod consumers;
pub(in crate::redis) mod figures;
pub(in crate::redis) mod lag;
pub(in crate::redis) mod leases;
pub(in crate::redis) mod pending;
pub(in crate::redis) mod plain;
pub(in crate::redis) mod singleflight;
