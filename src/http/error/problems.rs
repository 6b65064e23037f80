//! Problems that each kind of operation may return, for the OpenAPI document: one list of error
//! codes per kind.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

#[allow(clippy::enum_glob_use, reason = "this file is lists of codes")]
use crate::http::error::ErrorCode::{self, *};

/// Problems of all operations, from the guard, the router and the runtime.
const EVERYWHERE: &[ErrorCode] = &[
    InvalidRequest,
    Forbidden,
    OriginNotAllowed,
    UriTooLong,
    HeadTooLarge,
    RateLimited,
    TooManyConnections,
    ShareExceeded,
    Internal,
    Overloaded,
];
/// Problems of all operations that require authentication.
const GUARDED: &[ErrorCode] = &[Unauthenticated, AuthUnavailable];
/// Problems of all operations that use Redis.
const OF_REDIS: &[ErrorCode] = &[
    UnknownParameter,
    RedisUnavailable,
    RedisLoading,
    RedisTimeout,
];
/// Additional problems of operations on a stream.
const OF_STREAM: &[ErrorCode] = &[InvalidName, NotAStream];
/// Additional problems of operations that write.
const OF_WRITE: &[ErrorCode] = &[RedisReadOnly, RedisOutOfMemory];

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $($list:expr),*;)*) => {$(
        $(#[$doc])*
        pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$($list),*])
            }
        }
    )*};
}

problems! {
    /// Problems of operations that use only the gateway process.
    PlainProblems = EVERYWHERE;
    /// Problems of reading metrics.
    MetricsProblems = EVERYWHERE, GUARDED;
    /// Problems of creating a ticket.
    TicketProblems = EVERYWHERE, GUARDED, &[
        UnknownParameter, InvalidName, TooLarge, UnsupportedMediaType,
    ];
    /// Problems of the readiness probe.
    ReadyProblems = EVERYWHERE, &[RedisUnavailable, Draining];
    /// Problems of reading the capabilities.
    CapabilitiesProblems = EVERYWHERE, GUARDED, &[UnknownParameter, RedisUnavailable];
    /// Problems of appending.
    AppendProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        PreconditionFailed, IdempotencyKeyReused, NotSupportedByServer, InvalidId, StreamNotFound,
        IdNotMonotonic, TooLarge, UnsupportedMediaType, InvalidFields, DurabilityNotReached,
        InvalidDelay,
    ];
    /// Problems of receiving a delivery of a webhook source.
    SourceProblems = EVERYWHERE, OF_REDIS, OF_WRITE, &[
        Unauthenticated, NotAStream, IdempotencyKeyReused, IdNotMonotonic, TooLarge,
        UnsupportedMediaType, InvalidFields, InvalidName,
    ];
    /// Problems of listing scheduled appends.
    ScheduledProblems = EVERYWHERE, GUARDED, OF_REDIS, &[InvalidName];
    /// Problems of reading a scheduled append.
    OneScheduledProblems = EVERYWHERE, GUARDED, OF_REDIS, &[InvalidName, EntryNotFound];
    /// Problems of cancelling a scheduled append.
    CancelProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_WRITE, &[InvalidName, EntryNotFound];
    /// Problems of reading a range.
    RangeProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        InvalidId, StreamNotFound, EntriesTrimmed, NotAcceptable,
    ];
    /// Problems of reading several streams.
    ManyProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        InvalidId, TooManyStreams, NotAcceptable,
    ];
    /// Problems of reading one entry.
    EntryProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        InvalidId, StreamNotFound, EntryNotFound, EntriesTrimmed,
    ];
    /// Problems of following a stream. A client that accepts an event stream gets an error status
    /// only for errors that a retry cannot fix; other clients get a status for all errors.
    EventsProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[InvalidId, NotAcceptable, Draining];
    /// Problems of following several streams.
    ManyEventsProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        InvalidId, NotAcceptable, Draining, TooManyStreams,
    ];
    /// Problems of reading a stream's metadata.
    StreamProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[StreamNotFound];
    /// Problems of deleting a stream.
    DeleteStreamProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[StreamNotFound];
    /// Problems of listing streams.
    StreamsProblems = EVERYWHERE, GUARDED, OF_REDIS;
    /// Problems of reading groups.
    GroupProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[StreamNotFound, GroupNotFound];
    /// Problems of deleting a group.
    DeleteGroupProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[StreamNotFound, GroupNotFound];
    /// Problems of creating a group.
    CreateGroupProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        NotSupportedByServer, InvalidId, StreamNotFound, PreconditionFailed, TooLarge, UnsupportedMediaType,
        InvalidPolicy,
    ];
    /// Problems of reading and settling entries in a group.
    WorkProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupIsOrdered, TooLarge, UnsupportedMediaType,
    ];
    /// Problems of acknowledging entries, and of publishing in the same step.
    AckProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, LeaseLost, IdNotMonotonic, TooLarge, UnsupportedMediaType, InvalidFields,
        OtherSlot, IdempotencyKeyReused,
    ];
    /// Problems of listing keys of an ordered group, and of one key.
    KeyProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        GroupNotFound, GroupHasNoPolicy, GroupIsUnordered, KeyNotFound,
    ];
    /// Problems of reading and settling entries in the groups of several streams.
    ManyWorkProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, TooLarge, UnsupportedMediaType, TooManyStreams,
    ];
    /// Problems of operations that require a policy.
    LeaseProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupHasNoPolicy, TooLarge, UnsupportedMediaType,
    ];
    /// Problems of reading as a consumer.
    ReadProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupHasNoPolicy, GroupIsOrdered, TooLarge, UnsupportedMediaType, InvalidPolicy,
    ];
    /// Problems of reading several streams as a consumer.
    ManyReadProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupHasNoPolicy, GroupIsOrdered, TooLarge, UnsupportedMediaType, TooManyStreams,
        InvalidPolicy,
    ];
    /// Problems of receiving pushed entries.
    PushProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        GroupNotFound, GroupHasNoPolicy, NotAcceptable, InvalidId, InvalidPolicy,
    ];
    /// Problems of operations on one dead letter.
    DeadLetterProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupHasNoPolicy, EntryNotFound,
    ];
    /// Problems of operations on several streams that require a policy.
    ManyLeaseProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupHasNoPolicy, TooLarge, UnsupportedMediaType, TooManyStreams,
    ];
    /// Problems of deleting one entry.
    DeleteEntryProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[InvalidId, EntryNotFound];
    /// Problems of deleting several entries, with an outcome for each.
    DeleteEntriesProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[InvalidId];
    /// Problems of trimming a stream.
    TrimProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        StreamNotFound, InvalidId, TooLarge, UnsupportedMediaType,
    ];
    /// Problems of creating a stream.
    CreateStreamProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        NotSupportedByServer, InvalidId, IdNotMonotonic, TooLarge, UnsupportedMediaType, InvalidRetention,
    ];
    /// Problems of changing the counters or the retention of a stream.
    PatchStreamProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        NotSupportedByServer, InvalidId, StreamNotFound, IdNotMonotonic, TooLarge, UnsupportedMediaType,
        InvalidRetention,
    ];
    /// Problems of moving a group or changing its policy.
    PatchGroupProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        NotSupportedByServer, InvalidId, GroupNotFound, TooLarge, UnsupportedMediaType, InvalidPolicy,
    ];
    /// Problems of operations on consumers.
    ConsumerProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        StreamNotFound, GroupNotFound, ConsumerNotFound,
    ];
    /// Problems of deleting a consumer.
    DeleteConsumerProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        GroupNotFound, ConsumerNotFound, ConsumerHasPending,
    ];
    /// Problems of listing pending entries.
    PendingProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[InvalidId, GroupNotFound];
}

fn responses(lists: &[&[ErrorCode]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<ErrorCode>> = BTreeMap::new();
    for code in lists.iter().copied().flatten() {
        by_status
            .entry(code.status().as_str().to_owned())
            .or_default()
            .push(*code);
    }
    let describe = |mut codes: Vec<ErrorCode>| {
        codes.sort_unstable();
        codes.dedup();
        let lines: Vec<String> = codes
            .iter()
            .map(|code| format!("`{}`: {}", code.as_str(), code.title()))
            .collect();
        let content = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("Problem")))
            .build();
        let response = ResponseBuilder::new().description(lines.join("; "));
        RefOr::T(
            response
                .content("application/problem+json", content)
                .build(),
        )
    };
    by_status
        .into_iter()
        .map(|(status, codes)| (status, describe(codes)))
        .collect()
}
