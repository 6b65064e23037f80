//! `POST /v1/groups/{group}/read`: reads several streams as a consumer of the groups with one name.

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
use crate::http::extract::names::NameParam;
use crate::http::extract::params::{DurationParam, at_most_streams};
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

/// Maximum entries of a response, over all streams. The maximum of one stream times the maximum of
/// streams would be too many for Redis to deliver in one step.
const MAX_ENTRIES: usize = 10_000;

/// Parameters of a read of several streams as a consumer.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadManyCall {
    /// Streams to read, 1 to 256, without duplicates. In a form, repeat `streams` for each stream.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 256, example = json!(["orders", "payments"]))]
    streams: Vec<String>,
    /// Consumer that reads. It is created on first use. A name that is not UTF-8 is the text
    /// `{"base64":"…"}`.
    #[schema(required, value_type = String, example = "w1")]
    consumer: Option<NameParam>,
    /// Maximum number of entries of each stream: 1 to 1000, default 10. At most 10,000 over all
    /// streams.
    #[schema(minimum = 1, maximum = 1000)]
    count: Option<u64>,
    /// Maximum bytes of names and values to deliver over all streams: 16 MiB by default and at
    /// most. At least one entry is delivered, even if it is larger. Entries beyond the limit are
    /// left for the next read. The streams take turns at being read first. With `history`, each
    /// stream gets an equal share and at least one entry.
    #[schema(minimum = 1, maximum = 16_777_216)]
    max_bytes: Option<u64>,
    /// Time to wait for an entry if none of the streams has one, at most 60s.
    #[schema(value_type = Option<String>, example = "20s")]
    wait: Option<DurationParam>,
    /// Delivers entries without adding them to the pending entries.
    no_ack: Option<bool>,
    /// Returns the consumer's pending entries after this id (`0` for all) of each stream, instead
    /// of new entries.
    history: Option<String>,
    /// Lease of the entries, 100ms to 12h, instead of the leases of the policies. Refused for
    /// groups without a policy.
    #[schema(value_type = Option<String>, example = "30s")]
    lease: Option<DurationParam>,
    /// Returns each entry with the value of this field as `payload`, instead of its fields.
    payload: Option<String>,
    /// Returns the payload as JSON. The payload is the field `data` unless `payload` names another.
    /// A payload that is not valid JSON stays text and is marked with `"json":false`.
    json: Option<bool>,
}

/// Entries delivered to a consumer, by stream.
#[derive(Serialize, ToSchema)]
pub struct ManyDeliveries {
    /// One item per requested stream, in the order of the request, including streams without
    /// entries.
    streams: Vec<DeliveriesOf>,
}

/// Delivered entries of one stream.
#[derive(Serialize, ToSchema)]
pub struct DeliveriesOf {
    /// Name of the stream.
    stream: String,
    /// Entries by ascending id; empty if there are no new or, with `history`, no pending entries.
    /// With `history`, `fields` is null for a pending entry that is no longer in the stream.
    entries: Vec<DeliveryOut>,
}

/// Read several streams as a consumer
///
/// Reads the groups with this name in one step. `count` applies to each stream, so that no stream
/// delays another. No entry is read unless every stream has the group. With `wait`, responds as
/// soon as one of the streams has an entry.
#[utoipa::path(
    post,
    path = paths::MANY_READ,
    tag = "work",
    params(("group" = String, Path, description = "The name of the groups")),
    request_body(content((ReadManyCall = "application/json"), (ReadManyCall = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "Delivered entries", content(
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
        let detail = format!("`count` times the number of streams must be at most {MAX_ENTRIES}");
        return Err(ApiError::invalid(detail.clone()).at("/count", detail));
    }
    for (index, stream) in streams.iter().enumerate() {
        let admitted = admit(&state, stream, &group, &work.read.consumer).await;
        let at = |error: ApiError| {
            error
                .in_stream(stream)
                .at(format!("/streams/{index}"), "this stream")
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
        return Err(ApiError::invalid("`streams` must not be empty").at("/streams", "is missing"));
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
            return Err(ApiError::invalid("`streams` has a duplicate").at(at, "is a duplicate"));
        }
        streams.push(stream);
    }
    Ok(streams)
}

/// Finds the stream whose group is missing. The error of Redis does not name it reliably.
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
        return error.at(format!("/streams/{index}"), "this stream");
    }
    error.into()
}
