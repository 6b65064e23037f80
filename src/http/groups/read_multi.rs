//! `POST /v1/groups/{group}/read`: reads several streams as a consumer of the groups with one name.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::problems::ManyReadProblems;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::access::{Caller, Consume, Manage, PathGroup};
use crate::http::extract::names::NameParam;
use crate::http::extract::params::{DurationParam, at_most_streams};
use crate::http::extract::{JsonOrForm, NoParams, Query};
use crate::http::groups::first_use::{GroupToCreate, PolicyParam};
use crate::http::groups::policy::PolicyCall;
use crate::http::groups::read::{
    Deliveries, DeliveryEvent, DeliveryOut, ReadCall, group_to_create, plan, view_of,
};
use crate::http::layer::request::{RequestInfo, Waited};
use crate::http::openapi::text::{
    ConsumerNameText, GroupNameText, GroupStartText, LeaseText, ShortIdText, StreamNameText,
    WaitText,
};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::respond::schema::CloudEvent;
use crate::http::respond::view;
use crate::http::state::AppState;
use crate::model::name::StreamName;
use crate::redis::{FirstUse, StreamDelivery};
use crate::service::consume::{AdmissionError, ConsumeError};

/// Maximum entries of a response, over all streams. The maximum of one stream times the maximum of
/// streams would be too many for Redis to deliver in one step.
const MAX_ENTRIES: usize = 10_000;

/// Parameters of a read of several streams as a consumer.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadManyCall {
    /// Streams to read, 1 to 256, without duplicates. In a form, repeat `streams` for each stream.
    #[serde(default)]
    #[schema(required, min_items = 1, max_items = 256, example = json!(["orders", "payments"]), value_type = Vec<StreamNameText>, inline)]
    streams: Vec<String>,
    /// Consumer that reads. It is created on first use. A name that is not UTF-8 is the text
    /// `{"base64":"…"}`.
    #[schema(required, value_type = ConsumerNameText, inline)]
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
    #[schema(value_type = Option<WaitText>, inline)]
    wait: Option<DurationParam>,
    /// Delivers entries without adding them to the pending entries.
    no_ack: Option<bool>,
    /// Returns the consumer's pending entries after this id (`0` for all) of each stream, instead
    /// of new entries.
    #[schema(value_type = Option<ShortIdText>, inline)]
    history: Option<String>,
    /// Lease of the entries, 100ms to 12h, instead of the leases of the policies. Refused for
    /// groups without a policy.
    #[schema(value_type = Option<LeaseText>, inline)]
    lease: Option<DurationParam>,
    /// Returns each entry with the value of this field as `payload`, instead of its fields.
    payload: Option<String>,
    /// Returns the payload as JSON. The payload is the field `data` unless `payload` names another.
    /// A payload that is not valid JSON stays text and is marked with `"json":false`.
    json: Option<bool>,
    /// Creates each group, and its stream, that does not exist. Requires the right `manage` on all
    /// streams. An existing group stays unchanged. A waiting read creates a group again if it is
    /// lost.
    create: Option<bool>,
    /// With `create`: the position after which a new group reads. `0` (the default) for all
    /// retained entries, `$` for new entries only, or a position.
    #[schema(value_type = Option<GroupStartText>, inline)]
    start: Option<String>,
    /// With `create`: the policy of a new group. If absent, a new group is plain. In a form, the
    /// policy is JSON text.
    #[schema(value_type = Option<PolicyCall>)]
    policy: Option<PolicyParam>,
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
    /// The reason why nothing was read of the stream, although entries of others were: on a cluster,
    /// streams of different nodes are not read in one step.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    error: Option<Problem>,
}

/// Read several streams as a consumer
///
/// Reads the groups with this name in one step; on a cluster, node by node. `count` applies to each
/// stream, so that no stream delays another. No entry is read unless every stream has the group;
/// `create` creates the groups that are missing. With `wait`, responds as soon as one of the streams
/// has an entry.
#[utoipa::path(
    post,
    path = paths::MANY_READ,
    tag = "work",
    params(("group" = inline(GroupNameText), Path, description = "The name of the groups")),
    request_body(content((ReadManyCall = "application/json"), (ReadManyCall = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "Delivered entries", content(
            (ManyDeliveries = "application/json"),
            (Vec<CloudEvent> = "application/cloudevents-batch+json"),
        )),
        ManyReadProblems,
    ),
)]
pub async fn read_many_as_consumer(
    PathGroup(group): PathGroup,
    caller: Caller,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    info: RequestInfo,
    headers: HeaderMap,
    JsonOrForm(call): JsonOrForm<ReadManyCall>,
) -> Result<(Option<Extension<Waited>>, Response), ApiError> {
    let streams = streams(&caller, &call.streams)?;
    let ReadManyCall {
        streams: names,
        consumer,
        count,
        max_bytes,
        wait,
        no_ack,
        history,
        lease,
        payload,
        json,
        create,
        start,
        policy,
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
        create,
        start,
        policy,
    };
    let view = Arc::new(view_of(&call, &headers)?);
    let (mut work, wait) = plan(&call)?;
    if let Some(new) = group_to_create(call)? {
        work.first_use = first_use(&caller, &names, &new)?;
    }
    if work.read.count * streams.len() > MAX_ENTRIES {
        let detail = format!("`count` times the number of streams must be at most {MAX_ENTRIES}");
        return Err(ApiError::invalid(detail.clone()).at("/count", detail));
    }
    let read = state.read_groups(&streams, &group, &work, wait).await;
    let of_all = read.map_err(|error| located(&streams, error))?;
    let of_one = |(stream, read): (&StreamName, StreamDelivery)| {
        let (entries, failed) = match read {
            Ok(entries) => (entries, None),
            Err(error) => (Vec::new(), Some(ApiError::from(error).in_stream(stream))),
        };
        let shown = Deliveries::viewed((stream, &group), entries, &view, (false, true));
        DeliveriesOf {
            stream: stream.public_name().into_owned(),
            entries: shown.into_entries(),
            error: failed.map(|error| info.problem(&error)),
        }
    };
    let streams: Vec<_> = streams.iter().zip(of_all).map(of_one).collect();
    let waited = (!wait.is_zero()).then_some(Extension(Waited));
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

/// Returns the groups that a read of these streams creates.
fn first_use(caller: &Caller, names: &[String], new: &GroupToCreate) -> Result<FirstUse, ApiError> {
    let of = |(index, name): (usize, &String)| {
        let group = caller.access::<Manage>(name);
        let group = group.and_then(|access| new.of(&access));
        group.map_err(|error| error.at(format!("/streams/{index}"), "this stream"))
    };
    let groups = names.iter().enumerate().map(of).collect::<Result<_, _>>()?;
    Ok(FirstUse::of(groups))
}

/// Converts an error, with a pointer to the stream that caused it.
fn located(streams: &[StreamName], error: ConsumeError) -> ApiError {
    let index = match &error {
        ConsumeError::NotAdmitted {
            stream,
            error: AdmissionError::TooManyConsumers { .. },
        }
        | ConsumeError::GroupMissing { stream, .. } => Some(*stream),
        _ => None,
    };
    let error = ApiError::from(error);
    match index {
        Some(index) => error
            .in_stream(&streams[index])
            .at(format!("/streams/{index}"), "this stream"),
        None => error,
    }
}
