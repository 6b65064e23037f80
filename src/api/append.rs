//! `POST /v1/streams/{stream}/entries`: appending.
//!
//! One entry without conditions is one XADD. A batch, a condition or an idempotency key makes it a
//! script, which looks at everything before it writes anything.

use axum::Json;
use axum::extract::State;
use axum::http::header::{ETAG, LOCATION};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::access::{Access, Publish};
use super::append_body;
use super::conditions::{Conditions, key};
use super::error::{ApiError, ErrorCode};
use super::extract::{Body, Query, id};
use super::params::redis_number;
use super::paths;
use super::problems::AppendProblems;
use super::schema::{CloudEvent, NewEntries};
use crate::model::duration;
use crate::model::id::{EntryId, NewId};
use crate::model::name::StreamName;
use crate::model::sent::{Sent, SentEntry};
use crate::state::AppState;
use crate::store::{Append, Appended, Batch, BatchEntry, MAX_FIELDS, Trim};

/// The most entries of a batch.
const MAX_BATCH: usize = 10_000;
const IDEMPOTENCY_WINDOW: HeaderName = HeaderName::from_static("idempotency-window");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

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
pub struct AppendedEntry {
    /// The stream it was appended to.
    #[schema(example = "orders")]
    stream: String,
    /// Its id.
    #[schema(example = "1795232709004-0")]
    id: String,
}

/// A batch that was appended.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppendedBatch {
    /// The stream it was appended to.
    stream: String,
    /// In the order sent.
    results: Vec<BatchResult>,
    /// How many entries were appended now; the others had been, by their keys.
    appended: u64,
}

/// One entry of a batch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchResult {
    /// Its id.
    id: String,
    /// It was appended before, by its key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    replayed: bool,
}

/// Either answer.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum AppendAnswer {
    /// To one entry.
    One(AppendedEntry),
    /// To a batch.
    Many(AppendedBatch),
}

/// Append entries
///
/// The body is one entry as JSON (`fields` or `pairs`), a batch (`{"entries":[…]}`, of which all or
/// nothing is appended), a form whose pairs are the fields, or anything else, which is stored as it
/// is in one field. With an `Idempotency-Key` a repeated request appends once.
///
/// `CloudEvents` 1.0 become fields `ce_<attribute>`, `content-type` and `data`: as JSON, as a batch,
/// or binary: with a `ce-specversion` header a body of any type is the data, and `ce-*` headers are
/// the attributes.
#[utoipa::path(
    post,
    path = paths::ENTRIES,
    tag = "entries",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("If-Match" = Option<String>, Header, description = "Append only if this is the last id, quoted as in `ETag`"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: append only if nothing ever was"),
        ("Idempotency-Key" = Option<String>, Header, description = "Append once, however often this is sent within the window"),
        ("Idempotency-Producer" = Option<String>, Header, description = "Whose key it is: producers do not share keys"),
        AppendParams,
    ),
    request_body(content(
        (NewEntries = "application/json"),
        (CloudEvent = "application/cloudevents+json"),
        (Vec<CloudEvent> = "application/cloudevents-batch+json"),
        (std::collections::BTreeMap<String, String> = "application/x-www-form-urlencoded"),
        (Vec<u8> = "application/octet-stream"),
    ), description = "An entry, or a batch"),
    responses(
        (status = 200, description = "Appended before, by its `Idempotency-Key`", body = AppendAnswer),
        (status = 201, description = "Appended", body = AppendAnswer, headers(
            ("Location" = String, description = "Where the (last) entry can be read"),
            ("ETag" = String, description = "The last id of the stream, quoted"),
            ("Idempotency-Window" = String, description = "How long the key is remembered"),
        )),
        AppendProblems,
    ),
)]
pub async fn append_entries(
    access: Access<Publish>,
    Query(params): Query<AppendParams>,
    State(state): State<AppState>,
    body: Body,
) -> Result<Response, ApiError> {
    let stream = access.stream();
    let (trim, create) = (trim(&params)?, params.create.unwrap_or(true));
    let sent = append_body::read(params.payload.as_deref(), &body)?;
    let window = state.settings.idempotency_window;
    let conditions = Conditions::new(&body.headers)?;
    let plain = matches!(&sent, Sent::One(entry) if entry.key.is_none()) && conditions.is_none();
    let (sent, many) = match sent {
        Sent::One(entry) => (vec![entry], false),
        Sent::Many(entries) => (entries, true),
    };
    let mut entries = entries(sent, (many, plain), &params, &conditions.producer)?;
    if plain && let Some(entry) = entries.pop() {
        let append =
            Append { id: entry.id, fields: entry.fields, trim, exact: params.exact, create };
        let given = state.store.append(stream, &append).await?;
        state.metrics.published.inc();
        return Ok(answer(
            stream,
            &[(given.ok_or_else(no_stream)?, false)],
            false,
            StatusCode::CREATED,
        ));
    }
    let keyed = conditions.key.is_some() || entries.iter().any(|entry| entry.key.is_some());
    let batch = Batch {
        entries,
        if_match: conditions.if_match,
        if_new: conditions.if_new,
        create,
        trim,
        exact: params.exact,
        key: conditions.key,
        window_ms: u64::try_from(window.as_millis()).unwrap_or(u64::MAX),
    };
    let (ids, status) = match state.store.append_batch(stream, &batch).await? {
        Appended::All(ids) => {
            let new = count_new(&ids);
            state.metrics.published.inc_by(new);
            (ids, if new > 0 { StatusCode::CREATED } else { StatusCode::OK })
        }
        Appended::Replayed(ids) => (ids.into_iter().map(|id| (id, true)).collect(), StatusCode::OK),
        refused => return Err(refusal(&refused, many)),
    };
    let mut response = answer(stream, &ids, many, status);
    if keyed && let Ok(value) = duration::format(window).parse() {
        response.headers_mut().insert(IDEMPOTENCY_WINDOW, value);
    }
    Ok(response)
}

/// How many were appended now, rather than before.
fn count_new(ids: &[(EntryId, bool)]) -> u64 {
    ids.iter().filter(|(_, replayed)| !replayed).count() as u64
}

fn answer(
    stream: &StreamName,
    ids: &[(EntryId, bool)],
    many: bool,
    status: StatusCode,
) -> Response {
    let last = ids.last().map_or(EntryId::MIN, |(id, _)| *id);
    let headers = [(LOCATION, paths::entry(stream, last))];
    let named = stream.to_string();
    let body = if many {
        let result = |(id, replayed): &(EntryId, bool)| BatchResult {
            id: id.to_string(),
            replayed: *replayed,
        };
        AppendAnswer::Many(AppendedBatch {
            stream: named,
            results: ids.iter().map(result).collect(),
            appended: count_new(ids),
        })
    } else {
        AppendAnswer::One(AppendedEntry { stream: named, id: last.to_string() })
    };
    if status == StatusCode::OK {
        // What was last then need not be last now, so there is no `ETag`.
        return (status, headers, [(IDEMPOTENCY_REPLAYED, "true")], Json(body)).into_response();
    }
    (status, headers, [(ETAG, format!("\"{last}\""))], Json(body)).into_response()
}

fn no_stream() -> ApiError {
    let detail = "there is no stream of this name, and `create=false` makes none";
    ApiError::new(ErrorCode::StreamNotFound, detail)
}

fn refusal(refused: &Appended, many: bool) -> ApiError {
    let at = |index: usize, member: &str| match many {
        true => format!("/entries/{index}/{member}"),
        false => format!("/{member}"),
    };
    match *refused {
        Appended::Stale(last) => {
            let detail = format!("the id generated last is {last}");
            ApiError::new(ErrorCode::PreconditionFailed, detail).with("last_id", last.to_string())
        }
        Appended::KeyReused(index) => {
            let detail = "this idempotency key was used for something else";
            let pointer =
                index.map_or_else(|| "Idempotency-Key".to_owned(), |index| at(index, "key"));
            ApiError::new(ErrorCode::IdempotencyKeyReused, detail).at(pointer, detail)
        }
        Appended::NotMonotonic(index) => {
            let detail = "an id must lie above the one before it";
            ApiError::new(ErrorCode::IdNotMonotonic, detail).at(at(index, "id"), detail)
        }
        Appended::AfterChosen(index) => {
            let detail = "an id of your own cannot follow one that Redis is to choose";
            ApiError::new(ErrorCode::InvalidFields, detail).at(at(index, "id"), detail)
        }
        Appended::NoStream | Appended::All(_) | Appended::Replayed(_) => no_stream(),
    }
}

fn trim(params: &AppendParams) -> Result<Option<Trim>, ApiError> {
    match (params.maxlen, &params.minid) {
        (None, None) if params.exact => {
            Err(ApiError::invalid("`exact` goes with `maxlen` or `minid`")
                .at("exact", "nothing to trim"))
        }
        (None, None) => Ok(None),
        (Some(length), None) => Ok(Some(Trim::MaxLen(redis_number("maxlen", length)?))),
        (None, Some(min)) => {
            Ok(Some(Trim::MinId(id("minid", min, |text| EntryId::parse_with(text, 0))?)))
        }
        (Some(_), Some(_)) => Err(ApiError::invalid("`maxlen` and `minid` exclude each other")
            .at("minid", "given with maxlen")),
    }
}

fn entries(
    sent: Vec<SentEntry>,
    (many, plain): (bool, bool),
    params: &AppendParams,
    producer: &str,
) -> Result<Vec<BatchEntry>, ApiError> {
    if sent.len() > MAX_BATCH {
        let detail = format!("a batch has at most {MAX_BATCH} entries");
        return Err(
            ApiError::new(ErrorCode::TooLarge, detail).with("max_entries", MAX_BATCH as u64)
        );
    }
    if many && params.id.is_some() {
        return Err(ApiError::invalid("entries of a batch carry their own `id`")
            .at("id", "given for a batch"));
    }
    let entry = |(index, entry): (usize, SentEntry)| {
        let base = if many { format!("/entries/{index}") } else { String::new() };
        let wanted = match (&params.id, &entry.id) {
            (Some(_), Some(_)) => {
                let detail = "the id is given twice, in the query and in the body";
                return Err(ApiError::invalid(detail).at("/id", "given twice"));
            }
            (Some(text), None) => id("id", text, str::parse::<NewId>)?,
            (None, Some(text)) => id(&format!("{base}/id"), text, str::parse::<NewId>)?,
            (None, None) => NewId::Auto,
        };
        if wanted == NewId::Exact(EntryId::MIN) {
            let error = ApiError::new(ErrorCode::InvalidId, "0-0 cannot be the id of an entry");
            return Err(error.at(format!("{base}/id"), "is 0-0"));
        }
        if !plain && entry.fields.len() > MAX_FIELDS {
            let detail = format!(
                "an entry of a batch, or with a condition or a key, has at most {MAX_FIELDS} fields"
            );
            return Err(ApiError::new(ErrorCode::InvalidFields, detail.clone()).at(base, detail));
        }
        let own = entry.key.as_deref().map(|text| key(&format!("{base}/key"), producer, text));
        Ok(BatchEntry { id: wanted, fields: entry.fields, key: own.transpose()? })
    };
    sent.into_iter().enumerate().map(entry).collect()
}
