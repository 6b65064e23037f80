//! Responses to appends.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::{ApiError, Problem};
use crate::http::layer::request::RequestInfo;
use crate::http::paths;
use crate::http::respond::json::{self, Json};
use crate::model::duration;
use crate::model::frame::write_line;
use crate::model::name::StreamName;
use crate::redis::{AppendOutcome, Reached};
use crate::service::publish::{Published, count_new};

const IDEMPOTENCY_WINDOW: HeaderName = HeaderName::from_static("idempotency-window");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The usual number of response headers, including those that the layers add.
const HEADERS: usize = 8;

/// An appended entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppendedEntry {
    /// The stream of the entry.
    #[schema(example = "orders")]
    stream: String,
    /// The id of the entry.
    #[schema(example = "1795232709004-0")]
    id: String,
    /// The durability that the entry reached, if the request asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    durability: Option<DurabilityReached>,
}

/// An appended batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppendedBatch {
    /// The stream of the entries.
    stream: String,
    /// The result of each entry, in the order of the request.
    results: Vec<BatchResult>,
    /// The number of entries appended by this request. Entries already appended under their keys
    /// and refused entries do not count.
    appended: u64,
    /// The durability that the entries reached, if the request asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    durability: Option<DurabilityReached>,
}

/// The result for one entry of a batch: its id or, with `atomic=false`, the error.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct BatchResult {
    /// The id of the entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    id: Option<String>,
    /// Whether the entry had already been appended under its key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    replayed: bool,
    /// The reason why the entry was not appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    error: Option<Problem>,
}

/// The durability that entries reached.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct DurabilityReached {
    /// The number of replicas that have the entries: in memory or, with `fsync`, on disk.
    replicas: u64,
    /// Whether the server has the entries on disk. Present only if the request asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    fsync: Option<bool>,
}

impl From<Reached> for DurabilityReached {
    fn from(reached: Reached) -> Self {
        Self {
            replicas: reached.replicas,
            fsync: reached.fsync,
        }
    }
}

/// The result of an NDJSON upload.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinesAnswer {
    /// The stream of the entries.
    pub(in crate::http) stream: String,
    /// The number of lines appended by this request.
    pub(in crate::http) appended: u64,
    /// The number of lines already appended under their keys.
    pub(in crate::http) replayed: u64,
    /// The number of refused lines.
    pub(in crate::http) failed: u64,
    /// The id of the first line that has an id.
    pub(in crate::http) first_id: Option<String>,
    /// The id of the last line that has an id.
    pub(in crate::http) last_id: Option<String>,
    /// The first 100 refused lines.
    pub(in crate::http) errors: Vec<LineError>,
    /// The durability that the entries reached, if the request asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub(in crate::http) durability: Option<DurabilityReached>,
}

/// A refused line.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineError {
    /// The number of the line, from 1.
    pub(in crate::http) line: u64,
    /// The reason for the refusal.
    pub(in crate::http) error: Problem,
}

/// One line of a response with `receipts=stream`. The last line is a [`LinesAnswer`] instead, or
/// has only `error`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Receipt)]
pub struct LineReceipt {
    /// The number of the line, from 1.
    pub(in crate::http) line: u64,
    #[serde(flatten)]
    pub(in crate::http) result: BatchResult,
}

/// The response to an append.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum AppendAnswer {
    /// The response to one entry.
    One(AppendedEntry),
    /// The response to a batch.
    Many(AppendedBatch),
    /// The response to NDJSON.
    Lines(LinesAnswer),
}

impl AppendAnswer {
    /// Returns the body of the response to one entry.
    pub(in crate::http) fn one(
        stream: &StreamName,
        id: String,
        durability: Option<DurabilityReached>,
    ) -> Self {
        Self::One(AppendedEntry {
            stream: stream.public_name().into_owned(),
            id,
            durability,
        })
    }
}

impl BatchResult {
    pub(in crate::http) fn new(
        result: &Result<AppendOutcome, ApiError>,
        info: &RequestInfo,
    ) -> Self {
        match result {
            Ok(placed) => placed.into(),
            Err(error) => Self {
                error: Some(info.problem(error)),
                ..Self::default()
            },
        }
    }
}

impl From<&AppendOutcome> for BatchResult {
    fn from(placed: &AppendOutcome) -> Self {
        Self {
            id: Some(placed.id.to_string()),
            replayed: placed.replayed,
            error: None,
        }
    }
}

/// Builds the response to an append that succeeded, now or earlier under its key.
pub(in crate::http) fn all(
    stream: &StreamName,
    published: &Published,
    many: bool,
    reached: Option<Reached>,
    window: Option<Duration>,
) -> Response {
    let last = published.last().to_string();
    let durability = reached.map(DurabilityReached::from);
    let appended = count_new(&published.entries);
    // The usual number of headers exceeds the initial capacity of a map.
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // The path is percent-encoded and the id is digits and a dash, so both are valid header values.
    headers.extend(HeaderValue::try_from(paths::entry(stream, &last)).map(|at| (LOCATION, at)));
    let status = if published.replayed || appended == 0 {
        // An earlier last entry may no longer be the last one, so there is no `ETag`.
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        StatusCode::OK
    } else {
        let tag = ["\"", &last, "\""].concat();
        headers.extend(HeaderValue::try_from(tag).map(|tag| (ETAG, tag)));
        StatusCode::CREATED
    };
    let body = if many {
        let results = published.entries.iter().map(BatchResult::from).collect();
        AppendAnswer::Many(AppendedBatch {
            stream: stream.public_name().into_owned(),
            results,
            appended,
            durability,
        })
    } else {
        AppendAnswer::one(stream, last, durability)
    };
    let mut text = Vec::with_capacity(json::MOST);
    write_line(&mut text, &body);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    tell_window(&mut response, window);
    response
}

/// Builds the response to a batch with `atomic=false`. The status is 207 if any entry was refused.
pub(in crate::http) fn each(
    stream: &StreamName,
    results: &[Result<AppendOutcome, ApiError>],
    reached: Option<Reached>,
    window: Option<Duration>,
    info: &RequestInfo,
) -> Response {
    let body = AppendedBatch {
        stream: stream.public_name().into_owned(),
        results: results
            .iter()
            .map(|result| BatchResult::new(result, info))
            .collect(),
        appended: count_new(results.iter().flatten()),
        durability: reached.map(DurabilityReached::from),
    };
    let status = match (results.iter().any(Result::is_err), body.appended) {
        (true, _) => StatusCode::MULTI_STATUS,
        (false, 0) => StatusCode::OK,
        (false, _) => StatusCode::CREATED,
    };
    let mut response = (status, Json(body)).into_response();
    tell_window(&mut response, window);
    response
}

/// Adds the result of each entry to an error that occurred after the append.
pub(in crate::http) fn with_results(
    error: ApiError,
    results: impl Iterator<Item = BatchResult>,
) -> ApiError {
    // Ids and problems are strings and numbers, so they always serialize.
    let results = results.map(|result| serde_json::to_value(result).unwrap_or_default());
    error.with("results", results.collect::<Vec<_>>())
}

/// Sets `Idempotency-Window` if the request has keys.
fn tell_window(response: &mut Response, window: Option<Duration>) {
    if let Some(value) = window.and_then(|window| duration::format(window).parse().ok()) {
        response.headers_mut().insert(IDEMPOTENCY_WINDOW, value);
    }
}
