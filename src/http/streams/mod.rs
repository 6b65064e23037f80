//! Streams: list, read and delete.

pub(in crate::http) mod full;
pub(in crate::http) mod patch;
pub(in crate::http) mod retention;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::ETAG;
use axum::http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::auth::Principal;
use crate::http::error::ApiError;
use crate::http::error::problems::{DeleteStreamProblems, StreamProblems, StreamsProblems};
use crate::http::extract::access::{Access, Caller, ExistingAccess, Manage, Subscribe};
use crate::http::extract::names::NameSchema;
use crate::http::extract::params::bounded;
use crate::http::extract::{NoParams, Query};
use crate::http::extract::{name64, stream_param};
use crate::http::openapi::text::{MatchText, StreamNameText};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::respond::schema::EntryOut;
use crate::http::state::AppState;
use crate::http::streams::full::StreamContent;
use crate::http::streams::retention::RetentionOut;
use crate::model::entry::{Entry, View};
use crate::model::glob::{NamePattern, prefixed};
use crate::model::name::{RawName, StreamName};
use crate::redis::{Idmp, ListPosition, StoreError, StreamInfo};

/// Filter and paging of streams.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamsParams {
    /// Returns only the stream with this name, or, for `PREFIX*`, the streams with this prefix.
    #[serde(rename = "match")]
    #[param(rename = "match", example = "orders*", value_type = Option<MatchText>, inline)]
    matching: Option<String>,
    /// Approximate number of streams per page: 1 to 1000, default 100.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

/// A page of streams.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Streams)]
pub struct StreamList {
    /// Streams in no particular order. A page can be short, and a stream can appear on several
    /// pages.
    streams: Vec<StreamItem>,
    /// The `cursor` of the next page; null on the last page.
    #[schema(required)]
    next: Option<String>,
}

/// A stream in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct StreamItem {
    /// Name of the stream; `{"base64":"…"}` if it is not UTF-8.
    #[schema(value_type = NameSchema)]
    stream: RawName,
    /// False for a stream that another client created under a name that is invalid for new streams.
    /// Such a stream can be read and deleted, but not appended to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    creatable: Option<bool>,
    /// Name of such a stream for the parameter `name64`, which works if a path cannot carry the
    /// name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    name64: Option<String>,
}

/// Details of a stream.
#[derive(Serialize, ToSchema)]
pub struct StreamDetail {
    /// Name of the stream.
    stream: String,
    /// Number of entries in the stream.
    length: u64,
    /// Number of entries ever added; null if Redis does not report it.
    #[schema(required)]
    entries_added: Option<u64>,
    /// Last generated id, even if that entry was removed.
    last_id: String,
    /// Id of the oldest entry; null if the stream is empty.
    #[schema(required)]
    oldest_id: Option<String>,
    /// Greatest id ever deleted. Trimming does not change it.
    max_deleted_id: String,
    /// Lowest id that Redis has recorded as retained, `0-0` for an empty stream; null if Redis
    /// records none.
    #[schema(required)]
    recorded_first_id: Option<String>,
    /// Number of consumer groups.
    groups: u64,
    /// Number of keys of the stream's radix tree, a measure of its memory.
    radix_tree_keys: u64,
    /// Number of nodes of the radix tree.
    radix_tree_nodes: u64,
    /// State of idempotent producers in Redis (`XADD … IDMP` of native clients); null if Redis does
    /// not support them. Keys of `Idempotency-Key` are stored elsewhere.
    #[schema(required)]
    idmp: Option<IdmpDetail>,
    /// The oldest entry; null if the stream is empty.
    #[schema(required)]
    first_entry: Option<EntryOut>,
    /// The newest entry; null if the stream is empty.
    #[schema(required)]
    last_entry: Option<EntryOut>,
    /// Retention of the stream; null if all entries are kept.
    #[schema(required)]
    retention: Option<RetentionOut>,
    /// Entries and groups of the stream; only with `full=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    full: Option<StreamContent>,
}

/// State of idempotent producers in Redis.
#[derive(Serialize, ToSchema)]
pub struct IdmpDetail {
    /// Time an id is remembered, in seconds.
    duration_s: u64,
    /// Maximum number of ids remembered per producer.
    max_size: u64,
    /// Number of producers currently known.
    producers: u64,
    /// Number of ids currently remembered.
    ids: u64,
    /// Number of entries ever added with an id.
    added: u64,
    /// Number of duplicates detected.
    duplicates: u64,
}

/// Level of detail of a stream.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct StreamParams {
    /// Also returns the oldest entries, all groups, their consumers and their pending entries.
    #[serde(default)]
    #[param(required = false)]
    full: bool,
    /// Maximum number of entries, of pending entries per group and of pending entries per consumer:
    /// 1 to 1000, default 10. Requires `full=true`.
    #[param(minimum = 1, maximum = 1000)]
    count: Option<u64>,
}

/// List streams
///
/// Returns the names of the streams with `SCAN`. A page may be short or empty while `next` is set.
#[utoipa::path(
    get,
    path = paths::STREAMS,
    tag = "streams",
    params(StreamsParams),
    responses((status = 200, description = "Streams", body = StreamList), StreamsProblems),
)]
pub async fn list_streams(
    Caller(principal): Caller,
    Query(params): Query<StreamsParams>,
    State(state): State<AppState>,
) -> Result<Json<StreamList>, ApiError> {
    let limit = bounded("limit", params.limit, 100, 1000)?;
    let position = match params.cursor.as_deref().map(str::parse::<ListPosition>) {
        None => ListPosition::default(),
        Some(Ok(position)) => position,
        Some(Err(_)) => {
            return Err(
                ApiError::invalid("`cursor` must be a page's `next`").at("cursor", "is invalid")
            );
        }
    };
    let wanted = stream_param::pattern(params.matching.as_deref().unwrap_or("*"))?;
    let Some(glob) = keys_like(&principal, &wanted) else {
        return Ok(Json(StreamList {
            streams: Vec::new(),
            next: None,
        }));
    };
    let page = state
        .store
        .streams(&glob, position, limit)
        .await
        .map_err(ApiError::of_read)?;
    let found = page
        .streams
        .iter()
        .filter_map(|stream| principal.namespace.adopt(stream));
    let names = found.map(|stream| stream.public_name().into_owned());
    let visible = names.filter(|name| wanted.takes(name) && principal.may_any(name));
    let ours = visible.map(|name| StreamItem {
        stream: RawName::from(name.into_bytes()),
        creatable: None,
        name64: None,
    });
    let foreign = page
        .foreign
        .iter()
        .filter_map(|key| foreign(&principal, &wanted, key));
    let streams = ours.chain(foreign).collect();
    Ok(Json(StreamList {
        streams,
        next: page.next.map(|next| next.to_string()),
    }))
}

/// Returns a stream whose name is invalid for new streams, if the caller may see it. Only a grant
/// on `*` covers a name that is not UTF-8.
fn foreign(principal: &Principal, wanted: &NamePattern, key: &RawName) -> Option<StreamItem> {
    let name = if let Ok(text) = std::str::from_utf8(key.as_bytes()) {
        let stream = principal
            .namespace
            .adopt_existing(&StreamName::existing(text).ok()?)?;
        let name = stream.public_name().into_owned();
        let visible = wanted.takes(&name) && principal.may_any(&name);
        visible.then(|| RawName::from(name.into_bytes()))?
    } else {
        let visible = principal.may_see_all() && wanted.takes(&key.to_string());
        visible.then(|| key.clone())?
    };
    let name64 = Some(name64::encode(name.as_bytes()));
    Some(StreamItem {
        stream: name,
        creatable: Some(false),
        name64,
    })
}

/// Returns a glob of the keys of all streams whose names match for the principal, and perhaps of
/// other streams. `None` if the name is invalid.
fn keys_like(principal: &Principal, wanted: &NamePattern) -> Option<String> {
    let beginning = match wanted {
        NamePattern::One(name) => {
            let named = principal.stream(name).or_else(|_| principal.existing(name));
            return named.ok().map(|stream| stream.key_glob());
        }
        NamePattern::Prefix(beginning) => beginning,
    };
    let beginnings = principal.namespace.beginnings(beginning);
    let one = prefixed(&beginnings[0]);
    Some(if beginnings.len() == 1 {
        one
    } else {
        format!("*{one}")
    })
}

/// Read a stream
///
/// Returns the length, the counters, the retention and the first and last entry of a stream. `HEAD`
/// returns only the `ETag`.
#[utoipa::path(
    get,
    path = paths::STREAM,
    tag = "streams",
    params(("stream" = inline(StreamNameText), Path, description = "The stream"), StreamParams),
    responses(
        (status = 200, description = "The stream", body = StreamDetail, headers(
            ("ETag" = String, description = "The last id of the stream, quoted"),
        )),
        StreamProblems,
    ),
)]
pub async fn read_stream(
    access: Access<Subscribe>,
    Query(params): Query<StreamParams>,
    State(state): State<AppState>,
) -> Result<([(HeaderName, String); 1], Json<StreamDetail>), ApiError> {
    let stream = access.stream();
    if params.count.is_some() && !params.full {
        let detail = "`count` requires `full=true`";
        return Err(ApiError::invalid(detail).at("count", "given without `full`"));
    }
    let count = bounded("count", params.count, 10, 1000)?;
    show(&state, stream, params.full.then_some(count))
        .await
        .map_err(ApiError::of_read)
}

/// Returns the details of a stream and its `ETag`, with up to `full` entries of each kind, if
/// given.
///
/// # Errors
/// [`StoreError::StreamNotFound`], or a failure of Redis.
pub(super) async fn show(
    state: &AppState,
    stream: &StreamName,
    full: Option<usize>,
) -> Result<([(HeaderName, String); 1], Json<StreamDetail>), StoreError> {
    let found = match full {
        Some(count) => {
            let found = state.store.full_stream(stream, count).await?;
            found.map(|(info, full)| (info, Some(full.into())))
        }
        None => state.store.stream(stream).await?.map(|info| (info, None)),
    };
    let (info, full) = found.ok_or(StoreError::StreamNotFound)?;
    let retention = state.store.retention(stream).await?;
    let tag = format!("\"{}\"", info.last_id);
    Ok((
        [(ETAG, tag)],
        Json(detail(
            stream,
            info,
            retention.map(RetentionOut::from),
            full,
        )),
    ))
}

fn detail(
    stream: &StreamName,
    info: StreamInfo,
    retention: Option<RetentionOut>,
    full: Option<StreamContent>,
) -> StreamDetail {
    let view = Arc::new(View::default());
    let show = |entry: Entry| EntryOut {
        entry,
        view: view.clone(),
    };
    let idmp = |idmp: Idmp| IdmpDetail {
        duration_s: idmp.duration_s,
        max_size: idmp.max_size,
        producers: idmp.producers,
        ids: idmp.ids,
        added: idmp.added,
        duplicates: idmp.duplicates,
    };
    StreamDetail {
        stream: stream.public_name().into_owned(),
        length: info.length,
        entries_added: info.entries_added,
        last_id: info.last_id.to_string(),
        oldest_id: info.first_entry.as_ref().map(|entry| entry.id.to_string()),
        max_deleted_id: info.max_deleted.to_string(),
        recorded_first_id: info.recorded_first.map(|id| id.to_string()),
        groups: info.groups,
        radix_tree_keys: info.radix_tree_keys,
        radix_tree_nodes: info.radix_tree_nodes,
        idmp: info.idmp.map(idmp),
        first_entry: info.first_entry.map(show),
        last_entry: info.last_entry.map(show),
        retention,
        full,
    }
}

/// Delete a stream
///
/// Deletes a stream with its groups. A key of another type is never deleted.
#[utoipa::path(
    delete,
    path = paths::STREAM,
    tag = "streams",
    params(("stream" = inline(StreamNameText), Path, description = "The stream")),
    responses((status = 204, description = "The stream was deleted"), DeleteStreamProblems),
)]
pub async fn delete_stream(
    ExistingAccess(access): ExistingAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    if state.store.delete_stream(access.stream()).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(StoreError::StreamNotFound.into())
}
