//! `PATCH /v1/streams/{stream}`: what is kept of a stream, and its counters.

use axum::extract::State;
use axum::http::HeaderName;
use serde::Deserialize;
use utoipa::ToSchema;

use super::access::{Access, Manage};
use super::error::ApiError;
use super::extract::{Call, NoParams, Query, id};
use super::json::Json;
use super::params::redis_number;
use super::paths;
use super::policy::Patch;
use super::problems::PatchStreamProblems;
use super::retention::RetentionCall;
use super::streams::{StreamDetail, show};
use crate::state::AppState;
use crate::store::{Counters, StoreError, StreamChange};

/// How often a change of a retention is tried while others change it, too.
const TRIES: usize = 5;

/// What is to be another of a stream.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamPatch {
    /// What is kept of it: what is named is to be another, null keeps everything from now on.
    #[serde(default)]
    #[schema(value_type = Option<RetentionCall>)]
    retention: Patch<RetentionCall>,
    /// The id generated last: the next one lies above it. No entry may lie above it now.
    #[schema(example = "1795232709004-0")]
    last_id: Option<String>,
    /// How many entries the stream was ever given; together with `last_id` and `max_deleted_id`.
    entries_added: Option<u64>,
    /// The greatest id ever deleted; together with `last_id` and `entries_added`.
    max_deleted_id: Option<String>,
}

impl StreamPatch {
    /// What XSETID sets.
    fn counters(&self) -> Result<Option<Counters>, ApiError> {
        let others = match (self.entries_added, self.max_deleted_id.as_deref()) {
            (None, None) => None,
            (Some(added), Some(max)) => Some((
                redis_number("/entries_added", added)?,
                id("/max_deleted_id", max, str::parse)?,
            )),
            _ => {
                let detail = "`entries_added` and `max_deleted_id` go together";
                return Err(ApiError::invalid(detail).at("", detail));
            }
        };
        match &self.last_id {
            Some(last_id) => {
                Ok(Some(Counters { last_id: id("/last_id", last_id, str::parse)?, others }))
            }
            None if others.is_none() && !matches!(self.retention, Patch::Absent) => Ok(None),
            None => Err(ApiError::invalid("say which, as `last_id`, or change the `retention`")
                .at("/last_id", "is missing")),
        }
    }
}

/// Change a stream
///
/// What is kept of it, merged into what was said before: it holds for every gateway from the answer
/// on, and the stream is trimmed by it at once, as far as one step goes. And its counters, as XSETID
/// sets them, for restoring a stream from elsewhere; positions handed out before count from other
/// numbers then. All of it happens, or nothing.
#[utoipa::path(
    patch,
    path = paths::STREAM,
    tag = "streams",
    params(("stream" = String, Path, description = "The stream")),
    request_body(content((StreamPatch = "application/json"), (StreamPatch = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "The stream as it is now", body = StreamDetail, headers(
            ("ETag" = String, description = "The last id of the stream, quoted"),
        )),
        PatchStreamProblems,
    ),
)]
pub async fn patch_stream(
    access: Access<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    Call(patch): Call<StreamPatch>,
) -> Result<([(HeaderName, String); 1], Json<StreamDetail>), ApiError> {
    let stream = access.stream();
    let mut change = StreamChange { counters: patch.counters()?, retention: None };
    let mut tries = 0..TRIES;
    loop {
        let seen = match patch.retention {
            Patch::Absent => None,
            _ => state.store.retention(stream).await.map_err(ApiError::of_read)?,
        };
        let seen = seen.map(|(retention, _)| retention);
        change.retention = match &patch.retention {
            Patch::Absent => None,
            Patch::Null => Some((seen, None)),
            Patch::To(retention) => Some((seen, Some(retention.merge(seen.as_ref())?))),
        };
        match state.store.change_stream(stream, &change).await {
            Err(StoreError::Changed) if tries.next().is_some() => {}
            changed => break changed?,
        }
    }
    if let Some((_, Some(_))) = change.retention {
        state.hub.retain(&state.store, stream).await;
    }
    Ok(show(&state, stream, None).await?)
}
