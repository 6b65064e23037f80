//! `POST /v1/groups/{group}/read`: working in the groups of one name, of several streams.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::error::problems::ManyLeaseProblems;
use crate::http::extract::access::{Caller, Consume, PathGroup};
use crate::http::extract::names::{NameParam, NameSchema};
use crate::http::extract::params::{Wait, at_most_streams};
use crate::http::extract::{Call, NoParams, Query};
use crate::http::groups::consumers::admit;
use crate::http::groups::read::{Deliveries, DeliveryEvent, DeliveryOut, ReadCall, plan, view_of};
use crate::http::layer::request::{Waited, place_to_wait};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::respond::schema::CloudEvent;
use crate::http::respond::view;
use crate::http::state::AppState;
use crate::live::JoinError;
use crate::model::name::{GroupName, StreamName};
use crate::redis::StoreError;

/// The most entries an answer may have, over all streams: with as many as one stream may be asked
/// for it would be too many for Redis to hand out in one step.
const MAX_ENTRIES: usize = 10_000;

/// What to read.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadManyCall {
    /// Which streams, each once, at most 256. In a form, `streams` is given once for each.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 256, example = json!(["orders", "payments"]))]
    streams: Vec<String>,
    /// Who reads. Made on first use.
    #[schema(required, value_type = NameSchema, example = "w1")]
    consumer: Option<NameParam>,
    /// At most so many entries of each stream: 10 unless given, at most 1000, and at most 10,000
    /// over all streams.
    #[schema(minimum = 1, maximum = 1000)]
    count: Option<u64>,
    /// Hand out no more bytes of names and values than this over all streams, but one entry at least:
    /// 16 MiB unless given, and at most. What is over stays as it is: to be read next. Streams take
    /// turns to be the first. Of a history, each stream has an equal share and at least one entry.
    #[schema(minimum = 1, maximum = 16_777_216)]
    max_bytes: Option<u64>,
    /// How long to wait for an entry if there is none in any of them, at most 60s.
    #[schema(value_type = Option<String>, example = "20s")]
    wait: Option<Wait>,
    /// Hand entries out without keeping them pending.
    no_ack: Option<bool>,
    /// What this consumer has pending after this id (`0`: all of it) in each stream, instead of new
    /// entries.
    history: Option<String>,
    /// How long the entries are lent, 100ms to 12h, in place of the leases of the policies; groups
    /// without one are refused.
    #[schema(value_type = Option<String>, example = "30s")]
    lease: Option<Wait>,
    /// Show each entry with the value of this field as `payload`, in place of its fields.
    payload: Option<String>,
    /// Show the payload (field `data` unless named) as the JSON it is; one that is none stays text and
    /// is marked by `"json":false`.
    json: Option<bool>,
}

/// Entries for a consumer, by stream.
#[derive(Serialize, ToSchema)]
pub struct ManyDeliveries {
    /// In the order asked for, those without entries too.
    streams: Vec<DeliveriesOf>,
}

/// Entries of one stream.
#[derive(Serialize, ToSchema)]
pub struct DeliveriesOf {
    /// Which stream.
    stream: String,
    /// By id; empty when there was nothing new or, of a history, when nothing is pending. Of a
    /// history, `fields` is null for an entry that is pending but gone from the stream.
    entries: Vec<DeliveryOut>,
}

/// Read several streams as a consumer
///
/// Reads the groups of one name in one step. `count` holds for each stream, so that no stream
/// delays another. Nothing is read unless every stream has the group. With `wait`, answers as soon
/// as one of the streams has an entry.
#[utoipa::path(
    post,
    path = paths::MANY_READ,
    tag = "work",
    params(("group" = String, Path, description = "The name of the groups")),
    request_body(content((ReadManyCall = "application/json"), (ReadManyCall = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "Entries", content(
            (ManyDeliveries = "application/json"),
            (Vec<CloudEvent> = "application/cloudevents-batch+json"),
        )),
        ManyLeaseProblems,
    ),
)]
pub async fn read_many_as_consumer(
    PathGroup(group): PathGroup,
    caller: Caller,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    headers: HeaderMap,
    Call(call): Call<ReadManyCall>,
) -> Result<(Option<Extension<Waited>>, Response), ApiError> {
    let streams = streams(&caller, &call.streams)?;
    let ReadManyCall {
        streams: _,
        consumer,
        count,
        max_bytes,
        wait,
        no_ack,
        history,
        lease,
        payload,
        json,
    } = call;
    let call = ReadCall {
        consumer,
        count,
        max_bytes,
        wait,
        no_ack,
        history,
        lease,
        payload,
        json,
    };
    let view = Arc::new(view_of(&call, &headers)?);
    let (work, wait) = plan(&call)?;
    if work.read.count * streams.len() > MAX_ENTRIES {
        let detail = format!("`count` times the streams is at most {MAX_ENTRIES}");
        return Err(ApiError::invalid(detail.clone()).at("/count", detail));
    }
    for (index, stream) in streams.iter().enumerate() {
        let admitted = admit(&state, stream, &group, &work.read.consumer).await;
        let at = |error: ApiError| {
            error
                .in_stream(stream)
                .at(format!("/streams/{index}"), "it is this stream")
        };
        admitted.map_err(|error| {
            if error.cause.is_some() {
                error
            } else {
                at(error)
            }
        })?;
    }
    let waiting = place_to_wait(&state, wait)?;
    let of_all = match state
        .hub
        .read_groups_or_wait(&state.store, &streams, &group, &work, wait)
        .await
    {
        Ok(of_all) => of_all,
        Err(error) => return Err(located(&state, &streams, &group, error).await),
    };
    let of_one = |(stream, entries): (&StreamName, _)| DeliveriesOf {
        stream: stream.shown().into_owned(),
        entries: Deliveries::viewed((stream, &group), entries, &view, (false, true)).into_entries(),
    };
    let streams: Vec<_> = streams.iter().zip(of_all).map(of_one).collect();
    let waited = waiting.map(|_| Extension(Waited));
    if view.event.is_none() {
        return Ok((waited, Json(ManyDeliveries { streams }).into_response()));
    }
    let events = streams.iter().flat_map(|of| {
        of.entries.iter().map(|delivery| DeliveryEvent {
            stream: &of.stream,
            delivery,
            many: true,
        })
    });
    let events: Vec<_> = events.collect();
    Ok((waited, view::respond(view::EVENTS, &events)))
}

fn streams(caller: &Caller, names: &[String]) -> Result<Vec<StreamName>, ApiError> {
    if names.is_empty() {
        return Err(ApiError::invalid("a read names its `streams`").at("/streams", "is missing"));
    }
    at_most_streams(names.len())?;
    let mut streams = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let at = format!("/streams/{index}");
        let access = caller.access::<Consume>(name);
        let stream = access
            .map_err(|error| error.at(&at, "this stream"))?
            .into_stream();
        if streams.contains(&stream) {
            return Err(ApiError::invalid("each stream is named once").at(at, "is named before"));
        }
        streams.push(stream);
    }
    Ok(streams)
}

/// Redis says that a group is missing, and not reliably of which stream: look for it.
async fn located(
    state: &AppState,
    streams: &[StreamName],
    group: &GroupName,
    error: JoinError,
) -> ApiError {
    let of_a_stream = matches!(
        error,
        JoinError::Store(StoreError::GroupNotFound | StoreError::NotAStream)
    );
    if of_a_stream && let Ok(Some((index, error))) = state.store.lacks_group(streams, group).await {
        let error = ApiError::from(error).in_stream(&streams[index]);
        return error.at(format!("/streams/{index}"), "it is this stream");
    }
    error.into()
}
