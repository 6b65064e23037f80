//! Log lines of requests. Server errors are logged as errors; refused, slow and administrative
//! requests as information; all others at debug level. Queries and bodies are never logged.

use std::time::Duration;

use axum::http::HeaderValue;
use axum::response::Response;

use crate::http::error::excerpt::shortened;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::layer::request::{ClientAddress, Waited};
use crate::http::layer::request_record::RequestRecord;
use crate::http::state::AppState;

/// Maximum logged characters of a text that a client chose.
pub const MAX_TEXT: usize = 256;

/// Returns whether a request that succeeds is logged because it took so long, unless it waited on
/// purpose, or because all are.
pub fn is_told(state: &AppState, took: Duration, has_waited: bool) -> bool {
    let is_slow = !has_waited && took >= state.settings.slow_request;
    is_slow || tracing::enabled!(tracing::Level::DEBUG)
}

/// Logs a request and its response.
pub fn write(
    state: &AppState,
    sent: &RequestRecord,
    response: &Response,
    error: Option<&ApiError>,
    took: Duration,
) {
    let status = response.status().as_u16();
    let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    let waited = response.extensions().get::<Waited>().is_some();
    let slow = !waited && took >= state.settings.slow_request;
    let (method, request_id) = (sent.method.as_str(), sent.info.id());
    let path = &*shortened(sent.info.path(), MAX_TEXT);
    let client = sent
        .client
        .map(|ClientAddress(address)| tracing::field::display(address));
    let by = sent
        .info
        .by()
        .map(|by| &*by.name)
        .filter(|name| !name.is_empty());
    let code = error.map(|error| error.code.as_str());
    match status {
        500.. => {
            let cause = error
                .and_then(|error| error.cause.as_ref())
                .map(ToString::to_string);
            tracing::error!(
                method,
                path,
                status,
                ms,
                code,
                cause,
                client,
                by,
                request_id,
                "request failed"
            );
        }
        400.. => {
            if state.refusals.is_told(&state.metrics) {
                let agent = sent.user_agent.as_ref().map(readable);
                let is_origin = code == Some(ErrorCode::OriginNotAllowed.as_str());
                let origin = sent.origin.as_ref().filter(|_| is_origin).map(readable);
                tracing::info!(
                    method,
                    path,
                    status,
                    ms,
                    code,
                    client,
                    by,
                    agent,
                    origin,
                    request_id,
                    "request refused"
                );
            }
        }
        _ if slow || matches!(method, "PUT" | "DELETE" | "PATCH") => {
            tracing::info!(
                method,
                path,
                status,
                ms,
                client,
                by,
                request_id,
                "request answered"
            );
        }
        _ => tracing::debug!(
            method,
            path,
            status,
            ms,
            client,
            by,
            request_id,
            "request answered"
        ),
    }
}

fn readable(value: &HeaderValue) -> String {
    shortened(&String::from_utf8_lossy(value.as_bytes()), MAX_TEXT).into_owned()
}
