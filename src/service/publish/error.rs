//! Reasons why entries were not appended, or not as requested.

use crate::model::id::EntryId;
use crate::redis::{AppendOutcome, AppendRejection, Reached, StoreError};

/// The reason why a publish failed.
#[derive(Debug)]
pub enum PublishError {
    /// Redis failed before the append was sent. Nothing was appended.
    NotStarted(StoreError),
    /// Redis failed. The error says whether entries may have been appended.
    Store(StoreError),
    /// The request was rejected as a whole. Nothing was appended.
    Rejected(AppendRejection),
    /// One entry was rejected. Nothing was appended.
    Entry {
        /// The index of the entry.
        index: usize,
        /// The reason.
        error: EntryError,
    },
    /// The stream ran out of ids. Only the first entries were appended.
    Incomplete {
        /// The number of entries of the request.
        total: usize,
        /// The appended entries.
        appended: Vec<AppendOutcome>,
    },
    /// The stream has as many scheduled appends as it may have. Nothing was stored.
    ScheduleFull {
        /// Maximum number of scheduled appends.
        appends: usize,
        /// Maximum size of the scheduled appends, in bytes.
        bytes: usize,
    },
    /// The entries were appended, but did not reach the requested durability in time.
    NotDurable {
        /// The last entry.
        last: EntryId,
        /// The durability that the entries reached.
        reached: Reached,
        /// Whether all entries had idempotency keys, so that a retry appends nothing twice.
        keyed: bool,
    },
    /// The entries were appended, but Redis failed while the gateway waited for durability.
    DurabilityUnknown {
        /// The last entry.
        last: EntryId,
        /// The error of Redis.
        error: StoreError,
    },
}

/// The reason why one entry was not appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryError {
    /// The entry has more fields than the limit.
    TooManyFields {
        /// Maximum number of fields.
        max: usize,
    },
    /// A field name is longer than the limit.
    FieldNameTooLong {
        /// Maximum length, in bytes.
        max: usize,
    },
    /// The entry has more fields than a script can append.
    TooWideForScript,
    /// The id is in the last possible millisecond, and the caller may not manage the stream.
    LastMillisecond,
    /// Redis or the append script rejected the entry.
    Rejected(AppendRejection),
}
