//! `POST /v1/streams/{stream}/entries`: append entries.
//!
//! `plan` and `params` parse the query and the headers; `body` and `lines` parse the body;
//! `entry_plan` completes the entries. The publish service appends them. `errors` and `answer`
//! build the response.

pub(in crate::http) mod answer;
pub(in crate::http) mod body;
pub(in crate::http) mod conditions;
pub(in crate::http) mod entry_plan;
pub(in crate::http) mod errors;
pub(in crate::http) mod lines;
pub(in crate::http) mod params;
pub(in crate::http) mod plan;

use axum::extract::{FromRequest as _, Request, State};
use axum::response::Response;

use crate::http::entries::append::answer::{AppendAnswer, BatchResult, LineReceipt};
use crate::http::entries::append::body::BodyFormat;
use crate::http::entries::append::errors::{Base, alone, in_batch, in_list, publish_error};
use crate::http::entries::append::params::AppendParams;
use crate::http::entries::append::plan::AppendPlan;
use crate::http::entries::scheduled;
use crate::http::entries::scheduled::ScheduledAppend;
use crate::http::error::ApiError;
use crate::http::error::problems::AppendProblems;
use crate::http::extract::Query;
use crate::http::extract::access::{Access, Publish};
use crate::http::extract::body::Body;
use crate::http::layer::request::RequestInfo;
use crate::http::openapi::text::{
    AnyTagText, IdempotencyKeyText, ProducerText, StreamNameText, TagText,
};
use crate::http::paths;
use crate::http::respond::schema::{CloudEvent, NewEntries, OctetStream};
use crate::http::state::AppState;
use crate::model::name::StreamName;
use crate::model::sent::{InvalidEntry, Sent, SentEntry};
use crate::redis::{AppendOutcome, Reached};
use crate::service::publish::Publisher;

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
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("If-Match" = inline(Option<TagText>), Header, description = "Append only if this is the last id of the stream, quoted as in `ETag`"),
        ("If-None-Match" = inline(Option<AnyTagText>), Header, description = "`*`: append only if the stream never had an entry"),
        ("Idempotency-Key" = inline(Option<IdempotencyKeyText>), Header, description = "Idempotency key: requests repeated with this key within the window append only once"),
        ("Idempotency-Producer" = inline(Option<ProducerText>), Header, description = "The producer that owns the key: producers do not share keys"),
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
            (LineReceipt = "application/x-ndjson"),
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
    let plan = AppendPlan::new(&state, &access, &params, request.headers())?;
    let stream = access.into_stream();
    if let BodyFormat::Lines { members } = plan.format {
        return Box::pin(lines::append(state, stream, plan, members, info, request)).await;
    }
    let body = Body::from_request(request, &state).await?;
    let sent = body::read(&plan.format, &body, state.limits.max_fields)?;
    // The parsed entries replace the body, so its memory stays reserved until the response.
    let _memory = body.into_memory();
    let many = matches!(sent, Sent::Many(_));
    if many && plan.entries.id.is_some() {
        return Err(ApiError::invalid(
            "`id` cannot be combined with a batch: set `id` on each entry",
        )
        .at("id", "cannot be combined with a batch"));
    }
    let (sent, base): (Vec<_>, Base) = match sent {
        Sent::One(entry) => (vec![Ok(entry)], alone),
        Sent::Many(batch) if batch.at.is_empty() => (batch.entries, in_list),
        Sent::Many(batch) => (batch.entries, in_batch),
    };
    let keyed = |entry: &SentEntry| entry.key.is_some();
    let keyed = plan.options.key.is_some() || sent.iter().flatten().any(keyed);
    let window = keyed.then_some(plan.options.window);
    if many && !plan.atomic {
        let (append, info) = (append_each(&state, &stream, plan, sent, base), &info);
        let (results, reached) = Box::pin(append).await?;
        let shown = results.iter().map(|result| BatchResult::new(result, info));
        let reached = reached.map_err(|error| answer::with_results(error, shown))?;
        return Ok(answer::each(&stream, &results, reached, window, info));
    }
    let sent = sent.into_iter().collect::<Result<_, _>>()?;
    let error = |error| publish_error(error, base);
    let services = state.services.clone();
    let publisher = Publisher::new(services, stream.clone(), plan.options).await;
    let mut publisher = publisher.map_err(error)?;
    if let Some(delay) = plan.delay {
        let entries = plan.entries.delayed_entries(sent, base)?;
        let scheduled = Box::pin(publisher.schedule(entries, delay)).await;
        return Ok(scheduled::accepted(&stream, &scheduled.map_err(error)?));
    }
    let entries = plan.entries.entries(sent, base)?;
    let done = publisher.append_all(entries).await.map_err(error)?;
    let reached = publisher.wait_durable(done.entries.iter().copied());
    let reached = reached.await.map_err(error);
    let reached = reached.map_err(|error| match many {
        true => answer::with_results(error, done.entries.iter().map(Into::into)),
        false => error,
    })?;
    Ok(answer::all(&stream, &done, many, reached, window))
}

type EachResult = Vec<Result<AppendOutcome, ApiError>>;

/// Appends each entry of a batch separately, and waits for the durability of those appended.
async fn append_each(
    state: &AppState,
    stream: &StreamName,
    plan: AppendPlan,
    sent: Vec<Result<SentEntry, InvalidEntry>>,
    base: Base,
) -> Result<(EachResult, Result<Option<Reached>, ApiError>), ApiError> {
    plan.refuse_conditions("`atomic=false`")?;
    let error = |error| publish_error(error, base);
    let services = state.services.clone();
    let publisher = Publisher::new(services, stream.clone(), plan.options).await;
    let mut publisher = publisher.map_err(error)?;
    let sent = sent.into_iter().map(|entry| entry.map_err(ApiError::from));
    let results = plan
        .entries
        .append_each(&mut publisher, sent.collect(), base)
        .await?;
    let reached = publisher.wait_durable(results.iter().flatten().copied());
    let reached = reached.await.map_err(error);
    Ok((results, reached))
}
