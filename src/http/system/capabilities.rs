//! `GET /v1/capabilities`: commands of the Redis server and the fallbacks of the gateway.

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

/// The capabilities of the Redis server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capabilities)]
pub struct CapabilitiesOut {
    /// The server behind the gateway.
    server: ServerOut,
    /// The capabilities that depend on the server. Routes behave the same on every server. Later
    /// versions may list more.
    capabilities: Vec<CapabilityOut>,
}

/// The server behind the gateway.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RedisServer)]
pub struct ServerOut {
    /// The name that the server reports, such as `redis` or `valkey`; null if the gateway may not
    /// read it.
    #[schema(required, example = "redis")]
    name: Option<String>,
    /// The version that the server reports, for information only.
    #[schema(required, example = "8.6.2")]
    version: Option<String>,
}

/// A capability that depends on the server.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Capability)]
pub struct CapabilityOut {
    /// A stable identifier.
    #[schema(value_type = String, example = "delete-with-references")]
    name: &'static str,
    /// The purpose of the capability.
    #[schema(value_type = String)]
    what: &'static str,
    /// The name of the Redis command.
    #[schema(value_type = String, example = "XDELEX")]
    command: &'static str,
    /// Whether the server has the command; null if the gateway could not find out.
    #[schema(required)]
    native: Option<bool>,
    /// The implementation that the gateway uses on this server.
    used: UsedOut,
}

/// The implementation of a capability: `native` uses the Redis command for it, `script` uses a
/// script or other commands with the same behavior on every server, `unavailable` means that the
/// gateway cannot provide it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Used)]
#[serde(rename_all = "lowercase")]
pub enum UsedOut {
    /// The Redis command for it.
    Native,
    /// A script or other commands.
    Script,
    /// None: the gateway cannot provide the capability.
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
    responses((status = 200, description = "The capabilities of the server", body = CapabilitiesOut), CapabilitiesProblems),
)]
pub async fn read_capabilities(
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
) -> Result<Json<CapabilitiesOut>, ApiError> {
    let found = state.store.capabilities().ok_or_else(|| {
        ApiError::new(
            ErrorCode::RedisUnavailable,
            "the gateway has not probed the Redis server yet: retry later",
        )
    })?;
    Ok(Json(capabilities_out(&found)))
}

fn capabilities_out(found: &Capabilities) -> CapabilitiesOut {
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
