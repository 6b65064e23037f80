//! `PATCH` of a consumer group: moves its position or changes its policy.

use axum::extract::State;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::http::error::ApiError;
use crate::http::error::problems::PatchGroupProblems;
use crate::http::extract::access::{GroupAccess, Manage};
use crate::http::extract::params::{TimeParam, redis_number};
use crate::http::extract::{ACCEPT_PATCH, JsonOrForm, NoParams, Query};
use crate::http::groups::policy::{Patch, PolicyCall};
use crate::http::groups::{GroupDetail, detail, parse_position};
use crate::http::openapi::text::{GroupNameText, GroupStartText, StreamNameText, TimeText};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::redis::{GroupChange, StoreError};

/// Changes to the position or the policy of a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupPatch {
    /// The position after which the group continues: `0`, `$`, or a position.
    #[schema(value_type = Option<GroupStartText>, inline)]
    last_delivered_id: Option<String>,
    /// Instead of `last_delivered_id`: continue with entries from this time on. RFC 3339, Unix
    /// milliseconds, or a duration before now.
    #[schema(value_type = Option<TimeText>, inline)]
    since: Option<TimeParam>,
    /// The number of entries ever added to the stream up to the new position, used to compute the
    /// lag. A position that contains this number provides it.
    #[schema(maximum = 9_223_372_036_854_775_807_u64)]
    entries_read: Option<u64>,
    /// Changes to the policy; a group without a policy gets one. Null removes the policy and its
    /// leases; pending entries stay pending.
    #[serde(default)]
    #[schema(value_type = Option<PolicyCall>)]
    policy: Patch<PolicyCall>,
}

/// Maximum number of retries of a policy change that conflicts with other changes.
const TRIES: usize = 5;

/// Move a group or change its policy
///
/// Moves the group back to read entries again, or forward to skip entries. Pending entries stay
/// pending. A policy is merged into the existing one and applies to all gateways from the response
/// on. Current leases keep their expiry time.
#[utoipa::path(
    patch,
    path = paths::GROUP,
    tag = "groups",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    request_body(content(
        (GroupPatch = "application/json"),
        (GroupPatch = "application/merge-patch+json"),
        (GroupPatch = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "Changed", body = GroupDetail, headers(
            ("Accept-Patch" = String, description = "Media types that PATCH accepts"),
        )),
        PatchGroupProblems,
    ),
)]
pub async fn move_group(
    access: GroupAccess<Manage>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    JsonOrForm(patch): JsonOrForm<GroupPatch>,
) -> Result<([(&'static str, &'static str); 1], Json<GroupDetail>), ApiError> {
    let place = parse_position(
        ("/last_delivered_id", patch.last_delivered_id.as_deref()),
        patch.since,
    )?;
    if place.is_none() && matches!(patch.policy, Patch::Absent) {
        return Err(ApiError::invalid(
            "one of `last_delivered_id`, `since` and `policy` is required",
        )
        .at(
            "/last_delivered_id",
            "is required without `since` or `policy`",
        ));
    }
    if !matches!(patch.policy, Patch::Absent) {
        access.access.creatable()?;
    }
    let entries_read = patch
        .entries_read
        .map(|read| redis_number("/entries_read", read));
    let (stream, name) = (access.stream(), &access.group);
    let to = match place {
        Some(place) => Some(place.find(&state, stream).await?),
        None => None,
    };
    let mut change = GroupChange {
        to,
        entries_read: entries_read.transpose()?,
        policy: None,
    };
    let mut tries = 0..TRIES;
    loop {
        let seen = match patch.policy {
            Patch::Absent => None,
            _ => state
                .store
                .policy(stream, name)
                .await
                .map_err(ApiError::of_read)?,
        };
        change.policy = match &patch.policy {
            Patch::Absent => None,
            Patch::Null => Some((seen, None)),
            Patch::To(policy) => {
                let merged = policy.merge(&access.access, seen.as_ref())?;
                Some((seen, Some(merged)))
            }
        };
        match state.store.change_group(stream, name, &change).await {
            Err(StoreError::Changed) if tries.next().is_some() => {}
            changed => break changed?,
        }
    }
    Ok(([ACCEPT_PATCH], Json(detail(&state, &access).await?)))
}
