//! Consumers of a group: endpoints to list, read, create and delete them.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::http::error::problems::{ConsumerProblems, DeleteConsumerProblems};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::{Consume, GroupAccess, Manage, consumer};
use crate::http::extract::names::NameSchema;
use crate::http::extract::params::bounded;
use crate::http::extract::{NoParams, Query, path_segment};
use crate::http::layer::unread_body::NoBody;
use crate::http::openapi::text::{
    ConsumerNameText, GroupNameText, PendingChoiceText, StreamNameText,
};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::model::name::{ConsumerName, RawName};
use crate::redis::{ConsumerInfo, PendingAction, StoreError};
use crate::service::consume::AdmissionError;

/// Maximum number of consumers in one response.
pub(in crate::http) const MAX_CONSUMERS: usize = 1000;

/// A consumer of a group. The schema has a longer name because `Consumer` is a standard type in
/// Java.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GroupConsumer, description = "A consumer of a group.")]
pub struct Consumer {
    /// The name of the consumer.
    #[schema(value_type = NameSchema)]
    consumer: RawName,
    /// The number of entries delivered to the consumer and not acknowledged.
    pending: u64,
    /// Milliseconds since the consumer last tried to read.
    idle_ms: u64,
    /// Milliseconds since the consumer last received an entry; null if Redis does not know.
    #[schema(required)]
    inactive_ms: Option<u64>,
}

impl From<&ConsumerInfo> for Consumer {
    fn from(info: &ConsumerInfo) -> Self {
        Self {
            consumer: info.name.clone(),
            pending: info.pending,
            idle_ms: info.idle_ms,
            inactive_ms: info.inactive_ms,
        }
    }
}

/// The consumer named in the path.
pub struct PathConsumer(ConsumerName);

impl FromRequestParts<AppState> for PathConsumer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        consumer("consumer", &path_segment(parts, "consumer").await?).map(Self)
    }
}

/// A page of consumers of a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct Consumers {
    /// The consumers in the order of their names.
    consumers: Vec<Consumer>,
    /// The `cursor` of the next page; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// Query parameters for a list of consumers.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ConsumersParams {
    /// Maximum number of consumers: 100 by default, at most 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    /// The `next` of the previous page.
    cursor: Option<String>,
}

impl From<AdmissionError> for ApiError {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::TooManyConsumers { max } => {
                let detail = format!(
                    "the group already has the maximum of {max} consumers: use an existing consumer"
                );
                Self::new(ErrorCode::Overloaded, detail)
            }
            AdmissionError::Store(error) => Self::of_read(error),
        }
    }
}

/// List the consumers of a group
///
/// Returns the consumers in the order of their names, each with its number of pending entries and
/// its idle time.
#[utoipa::path(
    get,
    path = paths::CONSUMERS,
    tag = "groups",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ConsumersParams,
    ),
    responses((status = 200, description = "The consumers of the group", body = Consumers), ConsumerProblems),
)]
pub async fn list_consumers(
    access: GroupAccess<Consume>,
    Query(params): Query<ConsumersParams>,
    State(state): State<AppState>,
) -> Result<Json<Consumers>, ApiError> {
    let limit = bounded("limit", params.limit, 100, MAX_CONSUMERS as u64)?;
    let read = state.store.consumers(access.stream(), &access.group).await;
    let all = read.map_err(ApiError::of_read)?;
    let after = params.cursor.as_deref();
    let after = after.map(RawName::read);
    let from = after.map_or(0, |after| all.partition_point(|info| info.name <= after));
    let page = &all[from..all.len().min(from + limit)];
    let next = page
        .last()
        .filter(|_| from + limit < all.len())
        .map(|last| last.name.to_string());
    Ok(Json(Consumers {
        consumers: page.iter().map(Consumer::from).collect(),
        next,
    }))
}

/// Read a consumer
///
/// Returns the number of pending entries and the idle time of one consumer.
#[utoipa::path(
    get,
    path = paths::CONSUMER,
    tag = "groups",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ("consumer" = inline(ConsumerNameText), Path, description = "The consumer"),
    ),
    responses((status = 200, description = "The consumer", body = Consumer), ConsumerProblems),
)]
pub async fn read_consumer(
    access: GroupAccess<Consume>,
    PathConsumer(name): PathConsumer,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<Consumer>, ApiError> {
    let read = state.store.consumers(access.stream(), &access.group).await;
    let consumers = read.map_err(ApiError::of_read)?;
    let found = consumers
        .iter()
        .find(|info| info.name.as_bytes() == name.as_bytes());
    Ok(Json(found.ok_or(StoreError::ConsumerNotFound)?.into()))
}

/// Create a consumer
///
/// Creates a consumer without pending entries. Reading as a new consumer also creates it.
#[utoipa::path(
    put,
    path = paths::CONSUMER,
    tag = "groups",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ("consumer" = inline(ConsumerNameText), Path, description = "The consumer"),
    ),
    responses(
        (status = 201, description = "Created"),
        (status = 200, description = "The consumer already exists"),
        ConsumerProblems,
    ),
)]
pub async fn create_consumer(
    access: GroupAccess<Manage>,
    PathConsumer(name): PathConsumer,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    NoBody: NoBody,
) -> Result<StatusCode, ApiError> {
    state
        .admit_consumer(access.stream(), &access.group, &name)
        .await?;
    let made = state
        .store
        .create_consumer(access.stream(), &access.group, &name)
        .await?;
    Ok(if made {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    })
}

/// Handling of pending entries in a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeleteConsumerParams {
    /// `transfer:OTHER` transfers the pending entries to another consumer. `drop` discards the
    /// pending records: no consumer receives those entries again.
    #[param(example = "transfer:w2", value_type = Option<PendingChoiceText>, inline)]
    pending: Option<String>,
}

/// The result of a deletion.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedConsumer {
    /// The number of pending entries transferred or dropped.
    pending: u64,
}

/// Delete a consumer
///
/// Answers 409 while the consumer has pending entries, unless `pending` says how to handle them.
#[utoipa::path(
    delete,
    path = paths::CONSUMER,
    tag = "groups",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
        ("consumer" = inline(ConsumerNameText), Path, description = "The consumer"),
        DeleteConsumerParams,
    ),
    responses((status = 200, description = "Deleted", body = DeletedConsumer), DeleteConsumerProblems),
)]
pub async fn delete_consumer(
    access: GroupAccess<Manage>,
    PathConsumer(name): PathConsumer,
    Query(params): Query<DeleteConsumerParams>,
    State(state): State<AppState>,
) -> Result<Json<DeletedConsumer>, ApiError> {
    let fate = match params.pending.as_deref() {
        None => PendingAction::Refuse,
        Some("drop") => PendingAction::Drop,
        Some(other) => match other
            .strip_prefix("transfer:")
            .map(|name| consumer("pending", name))
        {
            Some(Ok(to)) if to != name => PendingAction::Transfer(to),
            Some(Err(error)) => return Err(error),
            _ => {
                let detail =
                    "`pending` must be `drop`, or `transfer:` followed by another consumer";
                return Err(ApiError::invalid(detail).at("pending", detail));
            }
        },
    };
    let pending = state
        .store
        .delete_consumer(access.stream(), &access.group, &name, &fate)
        .await?;
    Ok(Json(DeletedConsumer { pending }))
}
