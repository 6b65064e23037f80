//! Working in a plain group: reading as a consumer.

use std::time::Duration;

use axum::extract::State;
use axum::{Extension, Json};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::access::{Consume, GroupAccess, consumer};
use super::error::ApiError;
use super::extract::{Call, NoParams, Query, id};
use super::params::{Wait, bounded, bounded_wait};
use super::paths;
use super::problems::WorkProblems;
use super::request::{Waited, place_to_wait};
use super::schema::EntryOut;
use crate::model::entry_json::serialize_fields;
use crate::model::id::EntryId;
use crate::state::AppState;
use crate::store::{Delivery, GroupRead};

const DEFAULT_COUNT: u64 = 10;
pub(super) const MAX_COUNT: u64 = 1000;

/// What to read.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadCall {
    /// Who reads. Made on first use.
    #[schema(required, example = "w1")]
    pub(super) consumer: Option<String>,
    /// At most so many entries: 10 unless given, at most 1000.
    #[schema(minimum = 1, maximum = 1000)]
    pub(super) count: Option<u64>,
    /// How long to wait for an entry if there is none, at most 60s.
    #[schema(value_type = Option<String>, example = "20s")]
    pub(super) wait: Option<Wait>,
    /// Hand entries out without keeping them pending.
    pub(super) no_ack: Option<bool>,
    /// What this consumer has pending after this id (`0`: all of it), instead of new entries.
    pub(super) history: Option<String>,
}

/// An entry handed to a consumer; the flag says that only its id was asked for.
pub struct DeliveryOut(Delivery, bool);

impl Serialize for DeliveryOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &format_args!("{}", self.0.id))?;
        match &self.0.fields {
            Some(fields) => serialize_fields(&mut map, fields, false)?,
            None if self.1 => {}
            None => map.serialize_entry("fields", &None::<()>)?,
        }
        map.end()
    }
}

impl PartialSchema for DeliveryOut {
    fn schema() -> RefOr<Schema> {
        EntryOut::schema()
    }
}

impl ToSchema for DeliveryOut {
    fn name() -> std::borrow::Cow<'static, str> {
        EntryOut::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EntryOut::schemas(schemas);
    }
}

/// Entries for a consumer.
#[derive(Serialize, ToSchema)]
pub struct Deliveries {
    /// By id; empty when there was nothing in the time given. Of a history, `fields` is null for
    /// an entry that is pending but gone from the stream.
    entries: Vec<DeliveryOut>,
}

impl Deliveries {
    /// Entries as they are shown, or their ids alone.
    #[must_use]
    pub fn new(entries: Vec<Delivery>, just_id: bool) -> Self {
        Self { entries: entries.into_iter().map(|entry| DeliveryOut(entry, just_id)).collect() }
    }

    /// To be put into another answer.
    #[must_use]
    pub fn into_entries(self) -> Vec<DeliveryOut> {
        self.entries
    }
}

/// Read as a consumer
///
/// Hands out entries that no consumer of the group has had, and keeps them pending until they are
/// acknowledged. While it waits it holds no connection to Redis.
#[utoipa::path(
    post,
    path = paths::GROUP_READ,
    tag = "work",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    request_body(content((ReadCall = "application/json"), (ReadCall = "application/x-www-form-urlencoded"))),
    responses((status = 200, description = "Entries", body = Deliveries), WorkProblems),
)]
pub async fn read_as_consumer(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    Call(call): Call<ReadCall>,
) -> Result<(Option<Extension<Waited>>, Json<Deliveries>), ApiError> {
    let (read, wait) = plan(&call)?;
    let waiting = place_to_wait(&state, wait)?;
    let entries = state.hub.read_group_or_wait(access.stream(), &access.group, &read, wait).await?;
    let waited = waiting.map(|_| Extension(Waited));
    Ok((waited, Json(Deliveries::new(entries, false))))
}

/// What a call asks for, and how long to wait for it.
///
/// # Errors
/// 400 that points at what is missing or makes no sense.
pub(super) fn plan(call: &ReadCall) -> Result<(GroupRead, Duration), ApiError> {
    let name = call.consumer.as_deref().ok_or_else(|| {
        ApiError::invalid("a read names its `consumer`").at("/consumer", "is missing")
    })?;
    let history = match &call.history {
        Some(text) => Some(id("/history", text, |text| EntryId::parse_with(text, 0))?),
        None => None,
    };
    let wait = bounded_wait("/wait", call.wait.unwrap_or_default())?;
    if history.is_some() && !wait.is_zero() {
        return Err(ApiError::invalid("a history has nothing to wait for")
            .at("/wait", "given with `history`"));
    }
    let read = GroupRead {
        consumer: consumer(name)?,
        count: bounded("/count", call.count, DEFAULT_COUNT, MAX_COUNT)?,
        no_ack: call.no_ack.unwrap_or(false),
        history,
    };
    Ok((read, wait))
}
