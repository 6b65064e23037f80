//! Which problems an operation may answer, for the OpenAPI document: one implementation for all,
//! a list of codes for each kind of operation.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

#[allow(clippy::enum_glob_use, reason = "this file is lists of codes")]
use crate::http::error::ErrorCode::{self, *};

/// What any operation may answer: the guard, the router, the runtime.
const EVERYWHERE: &[ErrorCode] = &[
    InvalidRequest,
    Forbidden,
    OriginNotAllowed,
    UriTooLong,
    HeadTooLarge,
    RateLimited,
    TooManyConnections,
    Internal,
    Overloaded,
];
/// What any operation may answer that is not for everybody.
const GUARDED: &[ErrorCode] = &[Unauthenticated, AuthUnavailable];
/// What any operation that asks Redis may answer.
const OF_REDIS: &[ErrorCode] = &[
    UnknownParameter,
    RedisUnavailable,
    RedisLoading,
    RedisTimeout,
];
/// What any operation on a stream may answer besides.
const OF_STREAM: &[ErrorCode] = &[InvalidName, NotAStream];
/// What any operation that changes something may answer besides.
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
    /// Of operations that need nothing but the process.
    PlainProblems = EVERYWHERE;
    /// Of metrics.
    MetricsProblems = EVERYWHERE, GUARDED;
    /// Of making a ticket.
    TicketProblems = EVERYWHERE, GUARDED, &[
        UnknownParameter, InvalidName, TooLarge, UnsupportedMediaType,
    ];
    /// Of readiness.
    ReadyProblems = EVERYWHERE, &[RedisUnavailable, Draining];
    /// Of what depends on the server.
    CapabilitiesProblems = EVERYWHERE, GUARDED, &[UnknownParameter, RedisUnavailable];
    /// Of appending.
    AppendProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        PreconditionFailed, IdempotencyKeyReused, NotSupportedByServer, InvalidId, StreamNotFound,
        IdNotMonotonic, TooLarge, UnsupportedMediaType, InvalidFields, DurabilityNotReached,
        InvalidDelay,
    ];
    /// Of what is to be appended later.
    ScheduledProblems = EVERYWHERE, GUARDED, OF_REDIS, &[InvalidName];
    /// Of one append that is to come.
    OneScheduledProblems = EVERYWHERE, GUARDED, OF_REDIS, &[InvalidName, EntryNotFound];
    /// Of taking one back.
    CancelProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_WRITE, &[InvalidName, EntryNotFound];
    /// Of reading a range.
    RangeProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        InvalidId, StreamNotFound, EntriesTrimmed, NotAcceptable,
    ];
    /// Of reading several streams.
    ManyProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        InvalidId, TooManyStreams, NotAcceptable,
    ];
    /// Of reading one entry.
    EntryProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        InvalidId, StreamNotFound, EntryNotFound, EntriesTrimmed,
    ];
    /// Of following: only what a retry cannot mend has a status for those who ask for an event
    /// stream; other clients get the rest, too.
    EventsProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[InvalidId, NotAcceptable, Draining];
    /// Of following many streams.
    ManyEventsProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        InvalidId, NotAcceptable, Draining, TooManyStreams,
    ];
    /// Of looking at a stream.
    StreamProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[StreamNotFound];
    /// Of deleting a stream.
    DeleteStreamProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[StreamNotFound];
    /// Of the list of streams.
    StreamsProblems = EVERYWHERE, GUARDED, OF_REDIS;
    /// Of looking at groups.
    GroupProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[StreamNotFound, GroupNotFound];
    /// Of deleting a group.
    DeleteGroupProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[StreamNotFound, GroupNotFound];
    /// Of making a group.
    CreateGroupProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        NotSupportedByServer, InvalidId, StreamNotFound, PreconditionFailed, TooLarge, UnsupportedMediaType,
        InvalidPolicy,
    ];
    /// Of working in a group.
    WorkProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, TooLarge, UnsupportedMediaType,
    ];
    /// Of working in the groups of several streams.
    ManyWorkProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, TooLarge, UnsupportedMediaType, TooManyStreams,
    ];
    /// Of what needs a policy.
    LeaseProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupHasNoPolicy, TooLarge, UnsupportedMediaType,
    ];
    /// Of having entries pushed.
    PushProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, &[
        GroupNotFound, GroupHasNoPolicy, NotAcceptable,
    ];
    /// Of one dead letter.
    DeadLetterProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupHasNoPolicy, EntryNotFound,
    ];
    /// Of what needs a policy, in several streams.
    ManyLeaseProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        InvalidId, GroupNotFound, GroupHasNoPolicy, TooLarge, UnsupportedMediaType, TooManyStreams,
    ];
    /// Of deleting one entry.
    DeleteEntryProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[InvalidId, EntryNotFound];
    /// Of deleting entries, with an outcome for each.
    DeleteEntriesProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[InvalidId];
    /// Of trimming.
    TrimProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        StreamNotFound, InvalidId, TooLarge, UnsupportedMediaType,
    ];
    /// Of making a stream.
    CreateStreamProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        NotSupportedByServer, InvalidId, IdNotMonotonic, TooLarge, UnsupportedMediaType, InvalidRetention,
    ];
    /// Of setting the counters of a stream.
    PatchStreamProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        NotSupportedByServer, InvalidId, StreamNotFound, IdNotMonotonic, TooLarge, UnsupportedMediaType,
        InvalidRetention,
    ];
    /// Of moving a group.
    PatchGroupProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        NotSupportedByServer, InvalidId, GroupNotFound, TooLarge, UnsupportedMediaType, InvalidPolicy,
    ];
    /// Of consumers.
    ConsumerProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        StreamNotFound, GroupNotFound, ConsumerNotFound,
    ];
    /// Of deleting a consumer.
    DeleteConsumerProblems = EVERYWHERE, GUARDED, OF_REDIS, OF_STREAM, OF_WRITE, &[
        GroupNotFound, ConsumerNotFound, ConsumerHasPending,
    ];
    /// Of looking at what is pending.
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
