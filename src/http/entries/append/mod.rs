//! `POST /v1/streams/{stream}/entries`: append entries.
//!
//! The module `append_plan` parses the query and the headers; `append_body` and `append_lines`
//! parse the body. The module `append_run` appends the entries, `append_errors` builds
//! errors, and `append_answer` builds the response.

pub(in crate::http) mod answer;
pub(in crate::http) mod body;
pub(in crate::http) mod conditions;
pub(in crate::http) mod entry_bounds;
pub(in crate::http) mod errors;
pub(in crate::http) mod lines;
pub(in crate::http) mod plan;
pub(in crate::http) mod run;

use std::time::Duration;

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;

use crate::http::entries::append::answer::{AppendAnswer, BatchResult, Receipt};
use crate::http::entries::append::errors::{Base, alone, in_batch, in_list};
use crate::http::entries::append::plan::{AppendParams, Plan, undelayed};
use crate::http::entries::append::run::Appender;
use crate::http::entries::scheduled;
use crate::http::entries::scheduled::ScheduledAppend;
use crate::http::error::ApiError;
use crate::http::error::problems::AppendProblems;
use crate::http::extract::Query;
use crate::http::extract::access::{Access, Manage, Publish};
use crate::http::extract::body::Body;
use crate::http::layer::request::RequestInfo;
use crate::http::paths;
use crate::http::respond::schema::{CloudEvent, NewEntries, OctetStream};
use crate::http::state::AppState;
use crate::model::name::StreamName;
use crate::model::sent::{InvalidEntry, Sent, SentEntry};

/// Append entries
///
/// The body is one of:
/// - One entry as JSON, with `fields` or `pairs`.
/// - A batch: `{"entries":[…]}` or a list of entries.
/// - A form, whose pairs become the fields. For a file in `multipart/form-data`, additional fields
///   hold its name and media type.
/// - With `as=fields`, a JSON object whose members become the fields.
/// - NDJSON, with one entry per line. The upload may have any length.
/// - Any other body. It is stored unchanged in one field.
///
/// A batch is appended as a whole or not at all, unless `atomic=false`. NDJSON is appended line by
/// line. The response comes when the body has ended: 200 if all lines were appended, 207 if some
/// were, 422 if none was. With `receipts=stream`, the response has one line for each line of the
/// body.
///
/// With an `Idempotency-Key`, a repeated request appends once; `key` does the same for a single
/// entry. With `delay`, an entry or a batch is stored and appended when it is due.
///
/// A `CloudEvents` 1.0 event becomes the fields `ce_<attribute>`, `content-type` and `data`. The
/// structured, batched and binary modes are supported. In binary mode (with a `ce-specversion`
/// header) the body may have any media type: it is the data, and the `ce-*` headers are the
/// attributes.
#[utoipa::path(
    post,
    path = paths::ENTRIES,
    tag = "entries",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("If-Match" = Option<String>, Header, description = "Append only if this is the last id of the stream, quoted as in `ETag`"),
        ("If-None-Match" = Option<String>, Header, description = "`*`: append only if the stream never had an entry"),
        ("Idempotency-Key" = Option<String>, Header, description = "Idempotency key: requests repeated with this key within the window append only once"),
        ("Idempotency-Producer" = Option<String>, Header, description = "The producer that owns the key: producers do not share keys"),
        AppendParams,
    ),
    request_body(content(
        (NewEntries = "application/json"),
        (CloudEvent = "application/cloudevents+json"),
        (Vec<CloudEvent> = "application/cloudevents-batch+json"),
        (std::collections::BTreeMap<String, String> = "application/x-www-form-urlencoded"),
        (std::collections::BTreeMap<String, String> = "multipart/form-data"),
        (String = "application/x-ndjson"),
        (OctetStream = "application/octet-stream"),
    ), description = "An entry, a batch, or NDJSON lines"),
    responses(
        (status = 200, description = "Already appended under its key, or the result of an NDJSON upload", content(
            (AppendAnswer = "application/json"),
            (Receipt = "application/x-ndjson"),
        )),
        (status = 202, description = "With `delay`: stored, and appended when due", body = ScheduledAppend, headers(
            ("Location" = String, description = "The path of the scheduled append, to view or cancel it"),
        )),
        (status = 207, description = "Some lines were refused, or some entries with `atomic=false`", body = AppendAnswer),
        (status = 201, description = "Appended", body = AppendAnswer, headers(
            ("Location" = String, description = "The path of the entry, or of the last entry of a batch"),
            ("ETag" = String, description = "The last id of the stream, quoted"),
            ("Idempotency-Window" = String, description = "The time for which the key is remembered"),
        )),
        AppendProblems,
    ),
)]
pub async fn append_entries(
    access: Access<Publish>,
    Query(params): Query<AppendParams>,
    State(state): State<AppState>,
    info: RequestInfo,
    request: Request,
) -> Result<Response, ApiError> {
    let mut plan = Plan::new(&state, access.principal(), &params, request.headers())?;
    plan.manages = access.also::<Manage>().is_ok();
    if params.forgets() {
        // Trimming with `refs=delete` also removes pending records of groups.
        access.also::<Manage>()?;
    }
    if lines::is_wanted(&params, request.headers()) {
        if plan.delay.is_some() {
            return Err(undelayed(
                "delay",
                "`delay` cannot be combined with NDJSON: send a batch",
            ));
        }
        let stream = access.into_stream();
        return Box::pin(lines::append(state, stream, plan, &params, info, request)).await;
    }
    if params.receipts.is_some() {
        return Err(
            ApiError::invalid("`receipts` requires a body of type application/x-ndjson")
                .at("receipts", "requires a body of type application/x-ndjson"),
        );
    }
    let body = Body::from_request(request, &state).await?;
    let sent = body::read(params.shape(), &body, state.settings.max_fields)?;
    // The parsed entries replace the body, so its memory stays reserved until the response.
    let _memory = body.into_memory();
    let many = matches!(sent, Sent::Many(_));
    if many && plan.id.is_some() {
        return Err(ApiError::invalid(
            "`id` cannot be combined with a batch: set `id` on each entry",
        )
        .at("id", "cannot be combined with a batch"));
    }
    let (stream, window) = (access.into_stream(), plan.window);
    let keyed = |entry: &SentEntry| entry.key.is_some();
    let (entries, base): (Vec<_>, Base) = match sent {
        Sent::One(entry) => (vec![Ok(entry)], alone),
        Sent::Many(batch) if batch.at.is_empty() => (batch.entries, in_list),
        Sent::Many(batch) => (batch.entries, in_batch),
    };
    let keys = plan.conditions.key.is_some() || entries.iter().flatten().any(keyed);
    let told = keys.then_some(window);
    if many && !plan.atomic {
        let info = &info;
        return Box::pin(append_each(
            state,
            stream,
            plan,
            (entries, base),
            told,
            info,
        ))
        .await;
    }
    let entries = entries.into_iter().collect::<Result<_, _>>()?;
    let delay = plan.delay;
    let mut appender = Appender::new(state, stream.clone(), plan).await?;
    if let Some(delay) = delay {
        let kept = Box::pin(appender.later(entries, base, delay)).await?;
        return Ok(scheduled::accepted(&stream, &kept));
    }
    let done = appender.all(entries, base).await?;
    let reached = appender.reach(done.placed.iter().copied()).await;
    let reached = reached.map_err(|error| match many {
        true => answer::with_results(error, done.placed.iter().map(Into::into)),
        false => error,
    })?;
    Ok(answer::all(&stream, &done, many, reached, told))
}

/// Appends each entry of a batch separately.
async fn append_each(
    state: AppState,
    stream: StreamName,
    plan: Plan,
    (entries, base): (Vec<Result<SentEntry, InvalidEntry>>, Base),
    told: Option<Duration>,
    info: &RequestInfo,
) -> Result<Response, ApiError> {
    plan.refuse_conditions("`atomic=false`")?;
    let mut appender = Appender::new(state, stream.clone(), plan).await?;
    let entries = entries
        .into_iter()
        .map(|entry| entry.map_err(ApiError::from))
        .collect();
    let results = appender.each(entries, base).await?;
    let reached = appender.reach(results.iter().flatten().copied()).await;
    let shown = results.iter().map(|result| BatchResult::new(result, info));
    let reached = reached.map_err(|error| answer::with_results(error, shown))?;
    Ok(answer::each(&stream, &results, reached, told, info))
}
