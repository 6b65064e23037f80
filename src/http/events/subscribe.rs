//! Common parts of all endpoints that follow streams: start positions, limits, and errors on
//! opening a subscription.

use std::str::FromStr;

use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse as _, Response};

use crate::auth::Principal;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::events::stream::{self, EVENT_STREAM};
use crate::http::extract::id;
use crate::http::extract::params::{TimeParam, at_most_one, bounded};
use crate::http::extract::single_header::single;
use crate::http::layer::request::RequestInfo;
use crate::http::state::AppState;
use crate::live::{JoinError, SubscribeEnd, SubscribeRequest, SubscribeStart};
use crate::model::id::EntryId;
use crate::model::position::{Position, Start};
use crate::model::range;
use crate::model::time::{InvalidTime, Time};
use crate::model::view::Filter;
use crate::service::follow::{FollowError, SubscriptionLimit};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Maximum of `last`: the number of entries in a first page.
const MAX_LAST: u64 = 500;

/// Resume positions in the query, for clients that cannot set a header or whose page keeps the
/// position in its URL.
#[derive(Debug, Default)]
pub(in crate::http) struct ResumeParams<'a> {
    /// `lastEventId`, added by polyfills when they reconnect.
    pub(in crate::http) by_polyfill: &'a [String],
    /// `last_event_id`, written into the URL once by a page.
    pub(in crate::http) by_page: &'a [String],
}

/// Returns the position to resume from: the `Last-Event-ID` header, else the parameters in the
/// order of [`ResumeParams`], from the most to the least recent. The last value of a repeated
/// parameter counts. Positions are never compared with each other: a stale one may come from
/// another history of the stream, and cursors of several streams have no order.
///
/// # Errors
/// 400 if the header is given twice, `invalid-id` if it is not text.
pub(in crate::http) fn resumed<'a>(
    headers: &'a HeaderMap,
    params: &ResumeParams<'a>,
) -> Result<Option<&'a str>, ApiError> {
    let header = match single(headers, &LAST_EVENT_ID)? {
        Some(value) => Some(value.to_str().map_err(|_| {
            ApiError::new(ErrorCode::InvalidId, "`Last-Event-ID` must be a position")
        })?),
        None => None,
    };
    let last = |values: &'a [String]| values.last().map(String::as_str);
    let all = [header, last(params.by_polyfill), last(params.by_page)];
    Ok(all.into_iter().flatten().find(|text| !text.is_empty()))
}

/// Whether a client resumes from before the first entry. Some SDKs send `-1` until they have
/// received an event.
pub(in crate::http) fn is_beginning(resumed: &str) -> bool {
    matches!(resumed, "-1" | "0")
}

/// Returns the start position of a client that does not resume.
///
/// # Errors
/// 400 if parameters exclude each other or are invalid.
pub(in crate::http) fn begin(
    after: Option<&str>,
    since: Option<TimeParam>,
    last: Option<u64>,
) -> Result<SubscribeStart, ApiError> {
    at_most_one(&[
        ("after", after.is_some()),
        ("since", since.is_some()),
        ("last", last.is_some()),
    ])?;
    if let Some(after) = after {
        return id("after", after, str::parse).map(begin_at);
    }
    if let Some(TimeParam(since)) = since {
        return Ok(SubscribeStart::Since(since));
    }
    match last {
        Some(last) => bounded("last", Some(last), 1, MAX_LAST).map(SubscribeStart::Last),
        None => Ok(SubscribeStart::Tail),
    }
}

/// Converts a position from `after` or from the suffix of a stream name.
pub(in crate::http) fn begin_at(start: Start) -> SubscribeStart {
    match start {
        Start::After(position) => SubscribeStart::After(position),
        Start::Tail => SubscribeStart::Tail,
        Start::LastEntry => SubscribeStart::Last(1),
    }
}

/// Parses the end of a subscription: a position, or a time by the clock of Redis.
///
/// # Errors
/// 400 for an invalid text, or an error if Redis is unreachable.
pub(in crate::http) async fn end(state: &AppState, text: &str) -> Result<SubscribeEnd, ApiError> {
    let time = match text.parse::<EndParam>() {
        Ok(EndParam::At(end)) => return Ok(end),
        Ok(EndParam::Time(time)) => time,
        Err(error) => {
            let detail = format!("`end` must be a position, `$` or a time: {error}");
            return Err(ApiError::invalid(detail).at("end", error.to_string()));
        }
    };
    let now = state
        .store
        .now_for([time])
        .await
        .map_err(ApiError::of_read)?;
    Ok(SubscribeEnd::Time(time.unix_ms(now)))
}

/// A parsed `end` parameter.
enum EndParam {
    At(SubscribeEnd),
    Time(Time),
}

impl FromStr for EndParam {
    type Err = InvalidTime;

    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        // Digits that can be a time are a time, so that the end also comes when the clock reaches
        // it.
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        if let (true, Ok(time)) = (is_number, text.parse()) {
            return Ok(Self::Time(time));
        }
        let position = |text: &str| text.parse::<Position>().map(|position| Some(position.id));
        match range::upper(text).or_else(|_| position(text)) {
            _ if text == "$" => Ok(Self::At(SubscribeEnd::Tail)),
            Ok(bound) => Ok(Self::At(SubscribeEnd::At(bound.unwrap_or(EntryId::MIN)))),
            Err(_) => text.parse().map(Self::Time),
        }
    }
}

/// Maximum number of filters of a subscription. Each filter adds a cost to every entry.
const MAX_FILTERS: usize = 100;

/// Parses the filters.
///
/// # Errors
/// 400 with a pointer to an invalid filter, or for too many filters.
pub(in crate::http) fn filter(filters: &[String]) -> Result<Filter, ApiError> {
    if filters.len() > MAX_FILTERS {
        let detail = format!("at most {MAX_FILTERS} are allowed");
        return Err(ApiError::invalid(format!("`filter`: {detail}")).at("filter", detail));
    }
    Filter::parse(filters).map_err(|(index, error)| {
        ApiError::invalid(format!("{error}, like `type:paid`"))
            .at(format!("filter/{index}"), error.to_string())
    })
}

impl From<SubscriptionLimit> for ApiError {
    fn from(limit: SubscriptionLimit) -> Self {
        match limit {
            SubscriptionLimit::OfPrincipal => Self::new(
                ErrorCode::TooManyConnections,
                "the principal has reached its limit of open subscriptions: close one or retry later",
            ),
            SubscriptionLimit::Share(exceeded) => exceeded.into(),
            SubscriptionLimit::OfGateway => Self::new(
                ErrorCode::Overloaded,
                "the gateway has reached its limit of open subscriptions: retry later",
            ),
        }
    }
}

impl From<FollowError> for ApiError {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::Draining => Self::new(ErrorCode::Draining, "the gateway is shutting down"),
            FollowError::Limit(limit) => limit.into(),
            FollowError::Join(error) => Self::of_read(error),
        }
    }
}

/// Opens a subscription with server-sent events. A client that asks for an event stream gets errors
/// as events, whether or not a retry may succeed. Other clients get an error status.
///
/// A client that resumes with nothing left before the end gets 204, which stops an `EventSource`.
pub(in crate::http) async fn follow(
    state: &AppState,
    principal: &Principal,
    (wanted, resumes): (SubscribeRequest, bool),
    headers: &HeaderMap,
    request: &RequestInfo,
) -> Result<Response, ApiError> {
    // If this check fails, opening the subscription reports the error.
    if resumes && matches!(state.hub.is_complete(&wanted).await, Ok(true)) {
        let headers = [(CACHE_CONTROL, "no-cache, no-transform")];
        return Ok((StatusCode::NO_CONTENT, headers).into_response());
    }
    let error = match state.follow(principal, wanted).await {
        Ok(subscription) => return Ok(stream::live(subscription, request)),
        Err(error) => error,
    };
    let closing = error.end_reason();
    let error = ApiError::from(error);
    match closing {
        _ if !stream::is_wanted(headers, EVENT_STREAM) => Err(error),
        Some(closing) => Ok(stream::closed(closing)),
        None => Ok(stream::failed(&error, request)),
    }
}

impl From<JoinError> for ApiError {
    fn from(error: JoinError) -> Self {
        match error {
            JoinError::TooManyStreams => Self::new(
                ErrorCode::Overloaded,
                "the gateway has reached its limit of followed streams: retry later",
            ),
            JoinError::TooManyForOne => Self::new(
                ErrorCode::TooManyStreams,
                "`match` selects more than 256 streams, the maximum of a connection: narrow `match`",
            ),
            JoinError::ShareExceeded(exceeded) => exceeded.into(),
            JoinError::Store(error) => error.into(),
        }
    }
}
