//! System endpoints: probes, metrics, the OpenAPI document, and the quick start.

pub(in crate::http) mod capabilities;
pub(in crate::http) mod console;
pub(in crate::http) mod pages;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, CONTENT_TYPE, VARY};
use axum::response::{IntoResponse, Redirect, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::problems::{MetricsProblems, PlainProblems, ReadyProblems};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::access::Caller;
use crate::http::layer::host;
use crate::http::layer::request::RequestInfo;
use crate::http::respond::json::Json;
use crate::http::state::AppState;
use crate::redis::RedisHealth;

/// Default address of the gateway, used if the host of a request is unknown.
const EXAMPLE: &str = "http://127.0.0.1:8080";

/// Readiness of the gateway.
#[derive(Debug, Serialize, ToSchema)]
pub struct Ready {
    /// Always true in a response with status 200.
    ready: bool,
    /// State of Redis. A gateway that has once reached Redis stays ready: it continues to serve
    /// what it can and keeps its subscribers.
    redis: RedisState,
    /// Cause while Redis is not `up`. Only on the address of `--metrics-listen`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    /// Number of slots of a Redis cluster, of 16,384, without a reachable master. Only if there are
    /// any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    slots_down: Option<usize>,
}

/// State of the connection to Redis.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RedisState {
    /// Redis responds.
    Up,
    /// Redis responds but accepts no writes.
    ReadOnly,
    /// Redis does not respond.
    Down,
}

/// Check liveness
///
/// Responds with 200 while the process runs. The check does no I/O.
#[utoipa::path(
    get,
    path = "/livez",
    tag = "system",
    responses((status = 200, description = "The process runs", body = String, content_type = "text/plain"), PlainProblems),
)]
pub async fn live() -> &'static str {
    "ok\n"
}

/// Check readiness
///
/// Responds with 503 until Redis has served a first command, and while the gateway is draining.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "system",
    responses((status = 200, description = "The gateway is ready", body = Ready), ReadyProblems),
)]
pub async fn ready(State(state): State<AppState>) -> Result<Json<Ready>, ApiError> {
    if state.drain.is_cancelled() {
        return Err(ApiError::new(
            ErrorCode::Draining,
            "the gateway is stopping",
        ));
    }
    let health = state.store.health().borrow().clone();
    let refused = state.store.refuses_writes();
    let cause = health
        .cause()
        .map(ToOwned::to_owned)
        .or_else(|| refused.clone());
    // A cause may contain details that only operators may see.
    let cause = cause.filter(|_| state.settings.any_host);
    let redis = match health {
        RedisHealth::Never(_) => {
            let detail = "Redis has not been reached yet";
            let error = ApiError::new(ErrorCode::RedisUnavailable, detail);
            return Err(match cause {
                Some(cause) => error.with("cause", cause),
                None => error,
            });
        }
        RedisHealth::Up if refused.is_some() => RedisState::ReadOnly,
        RedisHealth::Up => RedisState::Up,
        RedisHealth::Down(_) => RedisState::Down,
    };
    Ok(Json(Ready {
        ready: true,
        redis,
        cause,
        slots_down: Some(state.store.slots_down()).filter(|down| *down > 0),
    }))
}

/// Read the metrics
///
/// Returns the metrics in the OpenMetrics text format. With authentication, the caller needs the
/// right to manage `*`.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "system",
    responses((status = 200, description = "Metrics", body = String, content_type = "application/openmetrics-text"), MetricsProblems),
)]
pub async fn metrics(
    Caller(principal): Caller,
    State(state): State<AppState>,
) -> Result<impl IntoResponse, ApiError> {
    if !principal.may_see_all() {
        let detail = "metrics cover all callers and require the right to manage `*`";
        return Err(ApiError::new(ErrorCode::Forbidden, detail));
    }
    for (kind, open) in state.store.open_connections() {
        let gauge = state
            .metrics
            .redis_connections
            .get_or_create_owned(&[("kind", kind)]);
        gauge.set(i64::try_from(open).unwrap_or(i64::MAX));
    }
    let reading = state.store.large_read_bytes();
    state
        .metrics
        .read_bytes
        .set(i64::try_from(reading).unwrap_or(i64::MAX));
    let refused = state
        .metrics
        .refused
        .get_or_create_owned(&[("bound", "reads")]);
    refused.inc_by(state.store.take_refused_reads());
    for (bound, refused) in state.store.take_refused_shares() {
        state
            .metrics
            .refused
            .get_or_create_owned(&[("bound", bound.metric())])
            .inc_by(refused);
    }
    for (kind, discarded) in state.store.take_discarded() {
        state
            .metrics
            .discarded
            .get_or_create_owned(&[("kind", kind)])
            .inc_by(discarded);
    }
    state.metrics.redis_up.set(i64::from(matches!(
        *state.store.health().borrow(),
        RedisHealth::Up
    )));
    let cluster = state.store.take_cluster_figures();
    let gauge = |value| i64::try_from(value).unwrap_or(i64::MAX);
    state.metrics.redis_nodes.set(gauge(cluster.nodes));
    state
        .metrics
        .redis_slots_down
        .set(gauge(cluster.slots_down));
    state.metrics.redis_redirects.inc_by(cluster.redirects);
    state.metrics.redis_topology_changes.inc_by(cluster.changes);
    let media_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(CONTENT_TYPE, media_type)], state.metrics.text()))
}

/// Read the OpenAPI document
///
/// Returns this document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "system",
    responses((status = 200, description = "The OpenAPI 3.1 document", body = Object, content_type = "application/json"), PlainProblems),
)]
pub async fn openapi(State(state): State<AppState>, headers: HeaderMap) -> Response {
    state.openapi.answer(&headers)
}

/// Read the quick start
///
/// Returns plain-text commands with the host of the request. Redirects browsers to the console.
#[utoipa::path(
    get,
    path = "/",
    tag = "system",
    responses(
        (status = 200, description = "The quick start", body = String, content_type = "text/plain"),
        (status = 303, description = "The console, for clients that accept `text/html`"),
        PlainProblems
    ),
)]
pub async fn index(State(state): State<AppState>, info: RequestInfo, request: Request) -> Response {
    let accept = request
        .headers()
        .get(ACCEPT)
        .and_then(|value| value.to_str().ok());
    if state.settings.console && accept.is_some_and(|accept| accept.contains("text/html")) {
        return ([(VARY, "accept")], Redirect::to(console::PATH)).into_response();
    }
    let plain = |host: &&str| {
        host.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".:-[]".contains(&b))
    };
    let scheme = if state.settings.https {
        "https"
    } else {
        "http"
    };
    let base = match host::of(&request).ok().flatten().filter(plain) {
        Some(host) => format!("{scheme}://{host}{}", info.base().as_str()),
        None => EXAMPLE.to_owned(),
    };
    let text = quick_start(&base, state.auth.is_on(), state.settings.console);
    let headers = [
        (CONTENT_TYPE, "text/plain; charset=utf-8"),
        (VARY, "accept"),
    ];
    (headers, text).into_response()
}

/// Adds an API key to each `curl` command.
fn with_key(text: &str) -> String {
    text.replace("curl ", "curl -H \"X-API-Key: $KEY\" ")
}

/// Returns commands that work unchanged against a gateway at `base`, such as
/// `http://localhost:8080`. With `with_keys`, the commands send the API key of a shell variable.
/// With `with_console`, the text names the console.
#[must_use]
pub fn quick_start(base: &str, with_keys: bool, with_console: bool) -> String {
    let mut text = commands(base);
    if !with_console {
        text = text.replace(&format!("Console: {base}{}\n", console::PATH), "");
    }
    match with_keys {
        false => text,
        true => with_key(&text).replacen(
            "Publish an entry:",
            "Set the API key, from `streamgate keys new`:\n  KEY=sgk_…\n\nPublish an entry:",
            1,
        ),
    }
}

fn commands(base: &str) -> String {
    format!(
        "\
streamgate: HTTP for Redis Streams

Publish an entry:
  curl {base}/v1/streams/orders/entries -d user=alice -d total=9.50

Follow the stream from its first entry (Ctrl-C stops):
  curl -N '{base}/v1/streams/orders/events?after=0'

Process an entry in a consumer group and acknowledge it:
  G={base}/v1/streams/orders/groups/billing; curl -s -o /dev/null -X PUT $G; ID=$(curl -s $G/read -d consumer=w1 -d count=1 -d wait=20s | grep -oE '[0-9]+-[0-9]+' | head -n1); curl -s $G/ack -d ids=$ID

Console: {base}{console}
API reference: {base}/docs (for people), {base}/openapi.json (for programs)
",
        console = console::PATH,
    )
}
