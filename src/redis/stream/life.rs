//! Stream identity: detects that a stream was replaced by another stream of the same name.
//!
//! Redis gives streams no creation id. Data that the gateway keeps about a stream (retention,
//! idempotency keys) therefore carries a record of the stream's counters: the last id, the number
//! of entries added, and whether an entry with the last id existed. The rules of `model/history.rs`
//! evaluate the record: if the current counters cannot follow from the record, the stream was
//! replaced.
//!
//! The rules never report an unchanged stream as replaced. They miss a replacement whose last id
//! and counters are above those recorded, if at least as many entries were removed from it as were
//! recorded as added.
//!
//! Counters that XSETID sets back look like a replaced stream. When the gateway sets counters back,
//! it rewrites the record.
