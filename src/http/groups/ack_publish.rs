//! `publish` of an acknowledgement: appends the results of the work in the same step.

use std::collections::BTreeMap;

use axum::http::HeaderMap;
use serde::Serialize as _;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::http::entries::append::conditions::{Conditions, key};
use crate::http::entries::append::plan::traceparent_to_store;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Consume, GroupAccess, Publish};
use crate::http::groups::items::{Outcome, SettleBatch, SettledAll};
use crate::http::openapi::text::{EntryKeyText, StreamNameText};
use crate::http::respond::json::Json;
use crate::http::respond::schema::{NewFieldsSchema, NewPairsSchema, NewValueSchema};
use crate::http::state::AppState;
use crate::model::id::NewId;
use crate::model::name::{StreamName, tag_of};
use crate::model::sent::parse_for_stream;
use crate::redis::{AckPublish, AckPublished, AppendOutcome, LeaseOutcome, MAX_FIELDS, NewEntry};
use crate::service::publish::add_traceparent;

/// Maximum number of entries to append in one step.
const MAX_PUBLISH: usize = 1000;

/// An entry to append in the step of an acknowledgement: `fields`, or `pairs` if names repeat or are
/// not UTF-8.
#[derive(ToSchema)]
#[schema(example = json!({"stream": "{orders}.invoices", "fields": {"user": "alice", "total": 9.5}}))]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct PublishedWithAck {
    /// The stream. It must have the hash tag of the group's stream.
    #[schema(value_type = StreamNameText, inline)]
    stream: String,
    /// Fields, in the order in which they are stored.
    #[schema(required = false, value_type = NewFieldsSchema, inline)]
    fields: Option<BTreeMap<String, NewValueSchema>>,
    /// Fields as `[name, value]`, in the order in which they are stored.
    #[schema(required = false, value_type = NewPairsSchema, inline)]
    pairs: Option<Vec<Vec<NewValueSchema>>>,
    /// Idempotency key of the entry.
    #[schema(required = false, value_type = EntryKeyText, inline)]
    key: Option<String>,
}

/// Acknowledges the entries of a batch and appends others, all or nothing.
///
/// # Errors
/// 400, 403 and 422 with a pointer to the invalid entry, 409 `lease-lost` with the results.
pub(super) async fn publish_and_ack(
    state: &AppState,
    access: &GroupAccess<Consume>,
    headers: &HeaderMap,
    batch: SettleBatch,
    publish: &[Box<RawValue>],
) -> Result<Json<SettledAll>, ApiError> {
    if publish.len() > MAX_PUBLISH {
        let detail = format!("`publish` must have at most {MAX_PUBLISH} entries");
        return Err(
            ApiError::new(ErrorCode::TooLarge, detail).with("max_entries", MAX_PUBLISH as u64)
        );
    }
    let producer = Conditions::new(access.access.principal(), headers)?.producer;
    let traceparent = traceparent_to_store(state, headers);
    let mut entries = Vec::with_capacity(publish.len());
    for (index, json) in publish.iter().enumerate() {
        let at = format!("/publish/{index}");
        let most = state.services.limits.max_fields.min(MAX_FIELDS);
        let (name, mut sent) = parse_for_stream(json, &at, most)?;
        add_traceparent(&mut sent.fields, traceparent.as_deref());
        let stream = target(access, &name, &format!("{at}/stream"))?;
        let refuse = |detail: String| {
            Err(ApiError::new(ErrorCode::InvalidFields, detail.clone()).at(at.clone(), detail))
        };
        let longest = state.services.limits.max_field_name;
        if sent.fields.len() > most {
            return refuse(format!("an entry must have at most {most} fields"));
        }
        if sent.fields.iter().any(|(name, _)| name.len() > longest) {
            return refuse(format!("a field name must have at most {longest} bytes"));
        }
        if sent.id.is_some() {
            return refuse("`id` cannot be combined with `publish`".to_owned());
        }
        let named = sent.key.as_deref();
        let key = named.map(|text| key(&format!("{at}/key"), &producer, text));
        let entry = NewEntry {
            id: NewId::Auto,
            fields: sent.fields,
            key: key.transpose()?,
        };
        entries.push((stream, entry));
    }
    let Some(items) = batch.valid_items() else {
        return Err(lost(&batch, access, &[]));
    };
    let step = AckPublish {
        items: items.to_vec(),
        entries,
        window_ms: u64::try_from(state.settings.idempotency_window.as_millis()).unwrap_or(u64::MAX),
    };
    let done = state
        .services
        .ack_and_publish(access.stream(), &access.group, &step)
        .await?;
    match done {
        AckPublished::Done(appended) => {
            let outcomes = vec![LeaseOutcome::Acknowledged; step.items.len()];
            Ok(Json(answer(&batch, access, &outcomes, &appended, None)))
        }
        AckPublished::Replayed(appended, outcomes) => Ok(Json(answer(
            &batch,
            access,
            &outcomes,
            &appended,
            Some(true),
        ))),
        AckPublished::Lost(outcomes) => Err(lost(&batch, access, &outcomes)),
        AckPublished::KeyReused(index) => {
            let detail = "this idempotency key was already used for different content";
            let at = format!("/publish/{index}/key");
            Err(ApiError::new(ErrorCode::IdempotencyKeyReused, detail).at(at, detail))
        }
        AckPublished::NotAStream(index) => {
            let detail = "this key holds a value that is not a stream";
            let at = format!("/publish/{index}/stream");
            Err(ApiError::new(ErrorCode::NotAStream, detail).at(at, detail))
        }
    }
}

/// Returns a stream to publish to, which must be in the slot of the group.
fn target(access: &GroupAccess<Consume>, name: &str, at: &str) -> Result<StreamName, ApiError> {
    let stream = access
        .access
        .other::<Publish>(name)
        .map_err(|error| error.at(at, "invalid stream name or missing right"))?
        .into_stream();
    if stream.tag() == access.stream().tag() {
        return Ok(stream);
    }
    let tag = tag_of(&access.stream().public_name()).to_owned();
    let rest = name.trim_matches(['{', '}']);
    let detail = format!(
        "entries are published in the same step only to streams with the hash tag of the group's \
         stream: name it `{{{tag}}}.{rest}`"
    );
    Err(ApiError::new(ErrorCode::OtherSlot, detail.clone()).at(at, detail))
}

fn answer(
    batch: &SettleBatch,
    access: &GroupAccess<Consume>,
    outcomes: &[LeaseOutcome],
    appended: &[AppendOutcome],
    replayed: Option<bool>,
) -> SettledAll {
    let results = batch.results(&access.group, outcomes);
    SettledAll {
        published: Some(appended.iter().map(|entry| entry.id.to_string()).collect()),
        replayed,
        ..SettledAll::new(results, &[Outcome::Acknowledged], false)
    }
}

/// Returns a 409 with the result of each entry. An entry that could have been acknowledged has the
/// outcome `acknowledged` only in an answer without an error, so here it has none.
fn lost(batch: &SettleBatch, access: &GroupAccess<Consume>, outcomes: &[LeaseOutcome]) -> ApiError {
    let detail = "an entry is not pending or another consumer holds it; nothing was done";
    let results = batch.results(&access.group, outcomes);
    let failed = results
        .iter()
        .filter(|result| !result.is(Outcome::Acknowledged))
        .map(|result| {
            result
                .serialize(serde_json::value::Serializer)
                .unwrap_or_default()
        });
    ApiError::new(ErrorCode::LeaseLost, detail).with("results", failed.collect::<Vec<_>>())
}
