//! `PUT` and `PATCH /v1/streams/{stream}`: creates a stream, changes its retention and counters.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::error::problems::{CreateStreamProblems, PatchStreamProblems};
use crate::http::extract::access::{Access, Manage};
use crate::http::extract::params::redis_number;
use crate::http::extract::{ACCEPT_PATCH, JsonOrForm, NoParams, Query, id};
use crate::http::groups::policy::Patch;
use crate::http::openapi::text::{EntryIdText, StreamNameText};
use crate::http::paths;
use crate::http::state::AppState;
use crate::http::streams::retention::RetentionCall;
use crate::http::streams::{StreamDetail, show};
use crate::model::name::StreamName;
use crate::redis::{Counters, StoreError, StreamChange};

/// Maximum retries of a retention change while other calls change the retention.
const TRIES: usize = 5;

/// Retention and counters of a stream.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StreamPatch {
    /// Changes to the retention. Null removes the retention, so that all entries are kept.
    #[serde(default)]
    #[schema(value_type = Option<RetentionCall>)]
    retention: Patch<RetentionCall>,
    /// Last generated id. New entries get a greater id. No entry may have a greater id now.
    #[schema(value_type = Option<EntryIdText>, inline)]
    last_id: Option<String>,
    /// Number of entries ever added. Requires `last_id` and `max_deleted_id`.
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    entries_added: Option<u64>,
    /// Greatest id ever deleted. Requires `last_id` and `entries_added`.
    #[schema(value_type = Option<EntryIdText>, inline)]
    max_deleted_id: Option<String>,
}

impl StreamPatch {
    /// Returns the counters that `XSETID` sets.
    fn counters(&self) -> Result<Option<Counters>, ApiError> {
        let others = match (self.entries_added, self.max_deleted_id.as_deref()) {
            (None, None) => None,
            (Some(added), Some(max)) => Some((
                redis_number("/entries_added", added)?,
                id("/max_deleted_id", max, str::parse)?,
            )),
            (added, _) => {
                let missing = match added {
                    Some(_) => "/max_deleted_id",
                    None => "/entries_added",
                };
                let detail = "`entries_added` and `max_deleted_id` must be given together";
                return Err(ApiError::invalid(detail).at(missing, "is missing"));
            }
        };
        match &self.last_id {
            Some(last_id) => Ok(Some(Counters {
                last_id: id("/last_id", last_id, str::parse)?,
                others,
            })),
            None if others.is_none() => Ok(None),
            None => Err(ApiError::invalid(
                "`entries_added` and `max_deleted_id` require `last_id`",
            )
            .at("/last_id", "is missing")),
        }
    }

    fn is_empty(&self) -> bool {
        let Self {
            retention,
            last_id,
            entries_added,
            max_deleted_id,
        } = self;
        let none = last_id.is_none() && entries_added.is_none() && max_deleted_id.is_none();
        none && matches!(retention, Patch::Absent)
    }
}

/// Applies a change. Returns true if the stream was created for the change.
async fn apply(
    state: &AppState,
    stream: &StreamName,
    patch: &StreamPatch,
    create: bool,
) -> Result<bool, ApiError> {
    let mut change = StreamChange {
        create,
        counters: patch.counters()?,
        retention: None,
    };
    let mut tries = 0..TRIES;
    let made = loop {
        let seen = match patch.retention {
            Patch::Absent => None,
            _ => state
                .store
                .retention(stream)
                .await
                .map_err(ApiError::of_read)?,
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
    };
    if let Some((_, Some(_))) = change.retention {
        state.jobs.retention.apply(&state.store, stream).await;
    }
    Ok(made)
}

/// Create a stream
///
/// Creates an empty stream. Appending an entry also creates a stream. A body sets the retention and
/// the counters in the same step, as PATCH does. If the stream exists, only the members in the body
/// change.
#[utoipa::path(
    put,
    path = paths::STREAM,
    tag = "streams",
    params(("stream" = inline(StreamNameText), Path, description = "The stream")),
    request_body(content((Option<StreamPatch> = "application/json"), (StreamPatch = "application/x-www-form-urlencoded"))),
    responses(
        (status = 201, description = "The stream was created"),
        (status = 200, description = "The stream existed"),
        CreateStreamProblems,
    ),
)]
pub async fn create_stream(
    access: Access<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(new): JsonOrForm<StreamPatch>,
) -> Result<StatusCode, ApiError> {
    let made = apply(&state, access.stream(), &new, true).await?;
    Ok(if made {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    })
}

/// Update a stream
///
/// Changes the retention of the stream, and restores its counters as `XSETID` does. The retention
/// is merged into the existing one. It applies at every gateway once the call has responded, and
/// trims the stream at once as far as one step can. After a change of the counters, earlier
/// positions no longer count correctly. Either all changes are applied or none.
#[utoipa::path(
    patch,
    path = paths::STREAM,
    tag = "streams",
    params(("stream" = inline(StreamNameText), Path, description = "The stream")),
    request_body(content(
        (StreamPatch = "application/json"),
        (StreamPatch = "application/merge-patch+json"),
        (StreamPatch = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "The changed stream", body = StreamDetail, headers(
            ("ETag" = String, description = "The last id of the stream, quoted"),
            ("Accept-Patch" = String, description = "Media types that PATCH accepts"),
        )),
        PatchStreamProblems,
    ),
)]
pub async fn patch_stream(
    access: Access<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(patch): JsonOrForm<StreamPatch>,
) -> Result<impl IntoResponse, ApiError> {
    if patch.is_empty() {
        let detail = "one of `retention` and `last_id` is required";
        return Err(ApiError::invalid(detail).at("/last_id", "is missing"));
    }
    apply(&state, access.stream(), &patch, false).await?;
    Ok(([ACCEPT_PATCH], show(&state, access.stream(), None).await?))
}
