//! `POST /v1/streams/{stream}/entries`: appending.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderName, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::access::{Access, Publish};
use super::error::{ApiError, ErrorCode};
use super::extract::{Body, Query, id, refuse_json_as_form};
use super::params::redis_number;
use super::paths;
use super::problems::AppendProblems;
use super::schema::NewEntry;
use crate::model::entry::Fields;
use crate::model::entry_json::{SentEntry, parse_entry};
use crate::model::form;
use crate::model::id::{EntryId, NewId};
use crate::state::AppState;
use crate::store::{Append, Trim};

/// The field that holds a payload unless another is named.
const PAYLOAD_FIELD: &str = "data";
/// The field that holds the media type of a payload.
const TYPE_FIELD: &str = "content-type";

/// How to append.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AppendParams {
    /// The id of the entry: `*` (Redis chooses), `ms-*`, or a full id above the last one.
    #[param(example = "*")]
    id: Option<String>,
    /// Trim the stream to about this many entries in the same step.
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    maxlen: Option<u64>,
    /// Trim entries below this id in the same step.
    minid: Option<String>,
    /// Trim to the letter. Otherwise Redis drops whole nodes only, which is much cheaper.
    #[serde(default)]
    #[param(required = false)]
    exact: bool,
    /// `false`: do not make the stream if there is none, but answer 404.
    create: Option<bool>,
    /// Store the whole body, untouched, in this field.
    #[param(example = "data")]
    payload: Option<String>,
}

/// An entry that was appended.
#[derive(Debug, Serialize, ToSchema)]
pub struct Appended {
    /// The stream it was appended to.
    #[schema(example = "orders")]
    stream: String,
    /// Its id.
    #[schema(example = "1795232709004-0")]
    id: String,
}

/// Append an entry
///
/// The body is one entry as JSON (`fields` or `pairs`), a form whose pairs are the fields, or
/// anything else, which is stored as it is in one field.
#[utoipa::path(
    post,
    path = paths::ENTRIES,
    tag = "entries",
    params(("stream" = String, Path, description = "The stream"), AppendParams),
    request_body(content(
        (NewEntry = "application/json"),
        (std::collections::BTreeMap<String, String> = "application/x-www-form-urlencoded"),
        (Vec<u8> = "application/octet-stream"),
    ), description = "An entry"),
    responses(
        (status = 201, description = "Appended", body = Appended, headers(
            ("Location" = String, description = "Where the entry can be read"),
            ("ETag" = String, description = "The last id of the stream, quoted"),
        )),
        AppendProblems,
    ),
)]
pub async fn append_entry(
    access: Access<Publish>,
    Query(params): Query<AppendParams>,
    State(state): State<AppState>,
    body: Body,
) -> Result<(StatusCode, [(HeaderName, String); 2], Json<Appended>), ApiError> {
    let append = plan(&params, &body)?;
    let stream = access.stream();
    let given = state.store.append(stream, &append).await?;
    let id = given.ok_or_else(|| {
        ApiError::new(
            ErrorCode::StreamNotFound,
            "there is no stream of this name, and `create=false` makes none",
        )
    })?;
    state.metrics.published.inc();
    let headers = [(LOCATION, paths::entry(stream, id)), (ETAG, format!("\"{id}\""))];
    Ok((
        StatusCode::CREATED,
        headers,
        Json(Appended { stream: stream.to_string(), id: id.to_string() }),
    ))
}

fn plan(params: &AppendParams, body: &Body) -> Result<Append, ApiError> {
    let trim = match (params.maxlen, &params.minid) {
        (None, None) if params.exact => {
            return Err(ApiError::invalid("`exact` goes with `maxlen` or `minid`")
                .at("exact", "nothing to trim"));
        }
        (None, None) => None,
        (Some(length), None) => Some(Trim::MaxLen(redis_number("maxlen", length)?)),
        (None, Some(min)) => {
            Some(Trim::MinId(id("minid", min, |text| EntryId::parse_with(text, 0))?))
        }
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("`maxlen` and `minid` exclude each other")
                .at("minid", "given with maxlen"));
        }
    };
    let sent = entry(params.payload.as_deref(), body)?;
    let wanted = match (&params.id, &sent.id) {
        (Some(_), Some(_)) => {
            return Err(ApiError::invalid("the id is given twice, in the query and in the body")
                .at("/id", "given twice"));
        }
        (Some(text), None) => id("id", text, str::parse::<NewId>)?,
        (None, Some(text)) => id("/id", text, str::parse::<NewId>)?,
        (None, None) => NewId::Auto,
    };
    if wanted == NewId::Exact(EntryId::MIN) {
        return Err(ApiError::new(ErrorCode::InvalidId, "0-0 cannot be the id of an entry")
            .at("id", "is 0-0"));
    }
    Ok(Append {
        id: wanted,
        fields: sent.fields,
        trim,
        exact: params.exact,
        create: params.create.unwrap_or(true),
    })
}

/// The entry in a body, by its media type.
fn entry(payload: Option<&str>, body: &Body) -> Result<SentEntry, ApiError> {
    if let Some(field) = payload {
        return Ok(SentEntry { fields: whole(field, body), id: None });
    }
    match body.media_type().as_str() {
        "application/json" => json(&body.bytes),
        "application/x-www-form-urlencoded" => {
            refuse_json_as_form(&body.bytes)?;
            let fields: Fields = form::pairs(&body.bytes).collect();
            if fields.is_empty() {
                return Err(nothing());
            }
            Ok(SentEntry { fields, id: None })
        }
        // Reserved, so that their meaning does not change under anyone: batches and CloudEvents.
        media_type if is_reserved(media_type) || body.headers.contains_key("ce-specversion") => {
            Err(ApiError::new(
                ErrorCode::UnsupportedMediaType,
                "this type is not taken here; to store the body untouched, name a field: ?payload=data",
            ))
        }
        _ if body.bytes.is_empty() => Err(nothing()),
        _ => Ok(SentEntry { fields: whole(PAYLOAD_FIELD, body), id: None }),
    }
}

fn is_reserved(media_type: &str) -> bool {
    media_type == "application/x-ndjson" || media_type.starts_with("application/cloudevents")
}

fn nothing() -> ApiError {
    ApiError::new(
        ErrorCode::InvalidFields,
        "there is nothing to append: an entry has at least one field",
    )
}

fn whole(field: &str, body: &Body) -> Fields {
    let mut fields = vec![(field.as_bytes().to_vec(), body.bytes.to_vec())];
    if let Some(media_type) = body.content_type() {
        fields.push((TYPE_FIELD.as_bytes().to_vec(), media_type.as_bytes().to_vec()));
    }
    fields
}

fn json(bytes: &[u8]) -> Result<SentEntry, ApiError> {
    let json = serde_json::from_slice(bytes)
        .map_err(|error| ApiError::invalid(format!("the body is not JSON: {error}")))?;
    parse_entry(json, "").map_err(|error| {
        ApiError::new(ErrorCode::InvalidFields, error.detail.clone())
            .at(error.pointer, error.detail)
    })
}
