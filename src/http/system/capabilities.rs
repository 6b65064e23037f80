//! `GET /v1/capabilities`: what the Redis server can do, and what the gateway does about it.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::problems::CapabilitiesProblems;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::{NoParams, Query};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::redis::{Capabilities, Used};

/// What depends on the server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capabilities)]
pub struct CapabilitiesOut {
    /// The server behind the gateway.
    server: ServerOut,
    /// What depends on it. A route means the same on every server; more may be listed later.
    capabilities: Vec<CapabilityOut>,
}

/// The server behind the gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RedisServer)]
pub struct ServerOut {
    /// What it calls itself, like `redis` or `valkey`; null if the gateway may not ask.
    #[schema(required, example = "redis")]
    name: Option<String>,
    /// Its version. Nothing is decided by it.
    #[schema(required, example = "8.6.2")]
    version: Option<String>,
}

/// One thing that depends on the server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capability)]
pub struct CapabilityOut {
    /// A word to compare.
    #[schema(value_type = String, example = "delete-with-references")]
    name: &'static str,
    /// What it is good for.
    #[schema(value_type = String)]
    what: &'static str,
    /// How Redis calls it.
    #[schema(value_type = String, example = "XDELEX")]
    command: &'static str,
    /// Whether the server has it; null if the gateway could not find out.
    #[schema(required)]
    native: Option<bool>,
    /// What the gateway does on this server.
    used: UsedOut,
}

/// How the gateway does something: `native` by the command of Redis made for it, `script` by a
/// script or other commands that mean the same on every server, `unavailable` not at all.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Used)]
#[serde(rename_all = "lowercase")]
pub enum UsedOut {
    /// By the command of Redis made for it.
    Native,
    /// By a script or other commands.
    Script,
    /// Not at all.
    Unavailable,
}

/// Read the capabilities of the Redis server
///
/// Lists the commands that the server supports and the fallback that the gateway uses for each
/// missing one. The gateway probes the server after each connect.
#[utoipa::path(
    get,
    path = paths::CAPABILITIES,
    tag = "system",
    responses((status = 200, description = "What depends on the server", body = CapabilitiesOut), CapabilitiesProblems),
)]
pub async fn read_capabilities(
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<CapabilitiesOut>, ApiError> {
    let found = state.store.capabilities().ok_or_else(|| {
        ApiError::new(
            ErrorCode::RedisUnavailable,
            "Redis was not asked yet what it can do",
        )
    })?;
    Ok(Json(show(&found)))
}

fn show(found: &Capabilities) -> CapabilitiesOut {
    let capabilities = found.list.iter().map(|capability| CapabilityOut {
        name: capability.name,
        what: capability.what,
        command: capability.command,
        native: capability.native,
        used: match capability.used {
            Used::Native => UsedOut::Native,
            Used::Script => UsedOut::Script,
            Used::Unavailable => UsedOut::Unavailable,
        },
    });
    CapabilitiesOut {
        server: ServerOut {
            name: found.server.clone(),
            version: found.version.clone(),
        },
        capabilities: capabilities.collect(),
    }
}
