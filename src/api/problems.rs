//! Which problems an operation may answer, for the OpenAPI document: one implementation for all,
//! a list of codes for each kind of operation.

use std::collections::BTreeMap;

use utoipa::IntoResponses;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};

#[allow(clippy::enum_glob_use, reason = "this file is lists of codes")]
use super::error::ErrorCode::{self, *};

/// What any operation may answer: the guard, the router, the runtime.
const EVERYWHERE: &[ErrorCode] =
    &[InvalidRequest, Forbidden, OriginNotAllowed, Internal, Overloaded];
/// What any operation that needs Redis may answer.
const OF_REDIS: &[ErrorCode] = &[
    RedisUnavailable,
    RedisLoading,
    RedisReadOnly,
    RedisOutOfMemory,
    RedisTimeout,
    NotAStream,
    InvalidName,
];

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
    PlainProblems = EVERYWHERE, &[UnknownParameter];
    /// Of readiness.
    ReadyProblems = EVERYWHERE, &[UnknownParameter, RedisUnavailable, Draining];
    /// Of appending.
    AppendProblems = EVERYWHERE, OF_REDIS, &[
        UnknownParameter, InvalidId, StreamNotFound, IdNotMonotonic, TooLarge, UnsupportedMediaType, InvalidFields,
    ];
    /// Of reading a range.
    RangeProblems = EVERYWHERE, OF_REDIS, &[UnknownParameter, InvalidId, StreamNotFound, EntriesTrimmed];
    /// Of reading one entry.
    EntryProblems = EVERYWHERE, OF_REDIS, &[UnknownParameter, InvalidId, StreamNotFound, EntryNotFound, EntriesTrimmed];
    /// Of following: only what a retry cannot mend; clients that do not ask for an event stream get the rest, too.
    EventsProblems = EVERYWHERE, OF_REDIS, &[UnknownParameter, InvalidId, NotAcceptable, Draining];
    /// Of streams.
    StreamProblems = EVERYWHERE, OF_REDIS, &[UnknownParameter, StreamNotFound];
    /// Of the list of streams.
    StreamsProblems = EVERYWHERE, OF_REDIS, &[UnknownParameter];
    /// Of looking at groups.
    GroupProblems = EVERYWHERE, OF_REDIS, &[UnknownParameter, InvalidId, StreamNotFound, GroupNotFound];
    /// Of making a group.
    CreateGroupProblems = EVERYWHERE, OF_REDIS, &[
        UnknownParameter, InvalidId, StreamNotFound, PreconditionFailed, TooLarge, UnsupportedMediaType,
    ];
    /// Of working in a group.
    WorkProblems = EVERYWHERE, OF_REDIS, &[UnknownParameter, InvalidId, GroupNotFound, TooLarge, UnsupportedMediaType];
}

fn responses(lists: &[&[ErrorCode]]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<ErrorCode>> = BTreeMap::new();
    for code in lists.iter().copied().flatten() {
        by_status.entry(code.status().as_str().to_owned()).or_default().push(*code);
    }
    let describe = |mut codes: Vec<ErrorCode>| {
        codes.sort_unstable();
        codes.dedup();
        let lines: Vec<String> =
            codes.iter().map(|code| format!("`{}`: {}", code.as_str(), code.title())).collect();
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response = ResponseBuilder::new().description(lines.join("; "));
        RefOr::T(response.content("application/problem+json", content).build())
    };
    by_status.into_iter().map(|(status, codes)| (status, describe(codes))).collect()
}
