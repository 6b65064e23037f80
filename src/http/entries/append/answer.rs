//! What an append answers.

use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, ETAG, LOCATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::entries::append::run::{Done, count_new};
use crate::http::error::{ApiError, Problem};
use crate::http::layer::request::RequestInfo;
use crate::http::paths;
use crate::http::respond::json::{self, Json};
use crate::model::duration;
use crate::model::frame::write_line;
use crate::model::name::StreamName;
use crate::redis::{Placed, Reached};

const IDEMPOTENCY_WINDOW: HeaderName = HeaderName::from_static("idempotency-window");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// Headers of most answers, with those that the layers add.
const HEADERS: usize = 8;

/// An entry that was appended.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppendedEntry {
    /// The stream it was appended to.
    #[schema(example = "orders")]
    stream: String,
    /// Its id.
    #[schema(example = "1795232709004-0")]
    id: String,
    /// How safe it is, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    durability: Option<DurabilityReached>,
}

/// A batch that was appended.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppendedBatch {
    /// The stream it was appended to.
    stream: String,
    /// In the order sent.
    results: Vec<BatchResult>,
    /// How many entries were appended now; the others had been, by their keys, or were refused.
    appended: u64,
    /// How safe they are, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    durability: Option<DurabilityReached>,
}

/// One entry of a batch: its id, or with `atomic=false` why it has none.
#[derive(Debug, Default, Serialize, ToSchema)]
pub struct BatchResult {
    /// Its id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    id: Option<String>,
    /// It was appended before, by its key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    replayed: bool,
    /// Why it was not appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    error: Option<Problem>,
}

/// How safe entries are.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub struct DurabilityReached {
    /// Replicas that have them: in memory, or with `fsync` on disk.
    replicas: u64,
    /// Whether the server has them on disk; only where that was asked.
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

/// What became of an upload of lines.
#[derive(Debug, Serialize, ToSchema)]
pub struct LinesAnswer {
    /// The stream they were appended to.
    pub(in crate::http) stream: String,
    /// Lines appended now.
    pub(in crate::http) appended: u64,
    /// Lines appended before, by their keys.
    pub(in crate::http) replayed: u64,
    /// Lines refused.
    pub(in crate::http) failed: u64,
    /// The id of the first line that has one.
    pub(in crate::http) first_id: Option<String>,
    /// The id of the last line that has one.
    pub(in crate::http) last_id: Option<String>,
    /// The first hundred lines refused.
    pub(in crate::http) errors: Vec<LineError>,
    /// How safe the entries are, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub(in crate::http) durability: Option<DurabilityReached>,
}

/// A line that was refused.
#[derive(Debug, Serialize, ToSchema)]
pub struct LineError {
    /// Counted from 1.
    pub(in crate::http) line: u64,
    /// Why.
    pub(in crate::http) error: Problem,
}

/// One line of `receipts=stream`; the last one is a [`LinesAnswer`] instead, or has only `error`.
#[derive(Debug, Serialize, ToSchema)]
pub struct Receipt {
    /// Counted from 1.
    pub(in crate::http) line: u64,
    #[serde(flatten)]
    pub(in crate::http) result: BatchResult,
}

/// Either answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum AppendAnswer {
    /// To one entry.
    One(AppendedEntry),
    /// To a batch.
    Many(AppendedBatch),
    /// To NDJSON.
    Lines(LinesAnswer),
}

impl BatchResult {
    pub(in crate::http) fn new(result: &Result<Placed, ApiError>, info: &RequestInfo) -> Self {
        match result {
            Ok(placed) => placed.into(),
            Err(error) => Self {
                error: Some(info.problem(error)),
                ..Self::default()
            },
        }
    }
}

impl From<&Placed> for BatchResult {
    fn from(placed: &Placed) -> Self {
        Self {
            id: Some(placed.id.to_string()),
            replayed: placed.replayed,
            error: None,
        }
    }
}

/// All of it was appended, now or before.
pub(in crate::http) fn all(
    stream: &StreamName,
    done: &Done,
    many: bool,
    reached: Option<Reached>,
    window: Option<Duration>,
) -> Response {
    let last = done.last().id.to_string();
    let (named, durability) = (
        stream.shown().into_owned(),
        reached.map(DurabilityReached::from),
    );
    let appended = count_new(&done.placed);
    // As many as an answer comes to have: more than a map has room for at first.
    let mut headers = HeaderMap::with_capacity(HEADERS);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Encoded, and digits: both are always fit for a header.
    headers.extend(HeaderValue::try_from(paths::entry(stream, &last)).map(|at| (LOCATION, at)));
    let status = if done.replayed || appended == 0 {
        // What was last then need not be last now, so there is no `ETag`.
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        StatusCode::OK
    } else {
        let tag = ["\"", &last, "\""].concat();
        headers.extend(HeaderValue::try_from(tag).map(|tag| (ETAG, tag)));
        StatusCode::CREATED
    };
    let body = if many {
        let results = done.placed.iter().map(BatchResult::from).collect();
        AppendAnswer::Many(AppendedBatch {
            stream: named,
            results,
            appended,
            durability,
        })
    } else {
        AppendAnswer::One(AppendedEntry {
            stream: named,
            id: last,
            durability,
        })
    };
    let mut text = Vec::with_capacity(json::MOST);
    write_line(&mut text, &body);
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    tell_window(&mut response, window);
    response
}

/// Each entry for itself: 207 if some were refused.
pub(in crate::http) fn each(
    stream: &StreamName,
    results: &[Result<Placed, ApiError>],
    reached: Option<Reached>,
    window: Option<Duration>,
    info: &RequestInfo,
) -> Response {
    let body = AppendedBatch {
        stream: stream.shown().into_owned(),
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

/// An error after the entries were appended, with what became of each.
pub(in crate::http) fn with_results(
    error: ApiError,
    results: impl Iterator<Item = BatchResult>,
) -> ApiError {
    // Ids and problems are strings and numbers: they always serialize.
    let results = results.map(|result| serde_json::to_value(result).unwrap_or_default());
    error.with("results", results.collect::<Vec<_>>())
}

/// How long keys are remembered, where there were some.
fn tell_window(response: &mut Response, window: Option<Duration>) {
    if let Some(value) = window.and_then(|window| duration::format(window).parse().ok()) {
        response.headers_mut().insert(IDEMPOTENCY_WINDOW, value);
    }
}
