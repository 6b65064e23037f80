//! Consumers of a group.

use axum::extract::{FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::access::{Consume, GroupAccess, Manage, consumer};
use super::error::ApiError;
use super::extract::{NoParams, Query, path_segment};
use super::groups::Consumer;
use super::json::Json;
use super::paths;
use super::problems::{ConsumerProblems, DeleteConsumerProblems};
use crate::model::name::ConsumerName;
use crate::state::AppState;
use crate::store::{PendingFate, StoreError};

/// The consumer in the path.
pub struct PathConsumer(ConsumerName);

impl FromRequestParts<AppState> for PathConsumer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        consumer(&path_segment(parts, "consumer").await?).map(Self)
    }
}

/// The consumers of a group.
#[derive(Debug, Serialize, ToSchema)]
pub struct Consumers {
    /// All of them.
    consumers: Vec<Consumer>,
    /// Always null: there are no more pages.
    #[schema(required)]
    next: Option<String>,
}

/// List the consumers of a group
#[utoipa::path(
    get,
    path = paths::CONSUMERS,
    tag = "groups",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
    ),
    responses((status = 200, description = "Its consumers", body = Consumers), ConsumerProblems),
)]
pub async fn list_consumers(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<Consumers>, ApiError> {
    let read = state.store.group(access.stream(), &access.group).await;
    let (_, consumers) = read.map_err(ApiError::of_read)?;
    let consumers = consumers.into_iter().map(Consumer::from).collect();
    Ok(Json(Consumers { consumers, next: None }))
}

/// Look at a consumer
#[utoipa::path(
    get,
    path = paths::CONSUMER,
    tag = "groups",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        ("consumer" = String, Path, description = "The consumer"),
    ),
    responses((status = 200, description = "The consumer", body = Consumer), ConsumerProblems),
)]
pub async fn read_consumer(
    access: GroupAccess<Consume>,
    PathConsumer(name): PathConsumer,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<Consumer>, ApiError> {
    let read = state.store.group(access.stream(), &access.group).await;
    let (_, consumers) = read.map_err(ApiError::of_read)?;
    let found = consumers.into_iter().find(|info| info.name == name.as_str());
    Ok(Json(found.ok_or(StoreError::ConsumerNotFound)?.into()))
}

/// Make a consumer
///
/// Reading makes one, too.
#[utoipa::path(
    put,
    path = paths::CONSUMER,
    tag = "groups",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        ("consumer" = String, Path, description = "The consumer"),
    ),
    responses(
        (status = 201, description = "Made"),
        (status = 200, description = "It was there"),
        ConsumerProblems,
    ),
)]
pub async fn create_consumer(
    access: GroupAccess<Manage>,
    PathConsumer(name): PathConsumer,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<StatusCode, ApiError> {
    let made = state.store.create_consumer(access.stream(), &access.group, &name).await?;
    Ok(if made { StatusCode::CREATED } else { StatusCode::OK })
}

/// What becomes of what it has pending.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeleteConsumerParams {
    /// `transfer:OTHER` gives what it has pending to another consumer, `drop` forgets it: no
    /// consumer will ever get those entries again.
    #[param(example = "transfer:w2")]
    pending: Option<String>,
}

/// What a deletion did.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeletedConsumer {
    /// How many pending entries were transferred or dropped.
    pending: u64,
}

/// Delete a consumer
///
/// Refused while it has entries pending, unless told what becomes of them.
#[utoipa::path(
    delete,
    path = paths::CONSUMER,
    tag = "groups",
    params(
        ("stream" = String, Path, description = "The stream"),
        ("group" = String, Path, description = "The group"),
        ("consumer" = String, Path, description = "The consumer"),
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
        None => PendingFate::Refuse,
        Some("drop") => PendingFate::Drop,
        Some(other) => match other.strip_prefix("transfer:").map(consumer) {
            Some(Ok(to)) if to != name => PendingFate::Transfer(to),
            Some(Err(error)) => return Err(error),
            _ => {
                let detail = "`pending` is `drop`, or `transfer:` and another consumer";
                return Err(ApiError::invalid(detail).at("pending", detail));
            }
        },
    };
    let pending = state.store.delete_consumer(access.stream(), &access.group, &name, &fate).await?;
    Ok(Json(DeletedConsumer { pending }))
}
