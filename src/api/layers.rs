//! What happens to every request: an id, the guard, a log line, and the body of a problem.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::error::{ApiError, ErrorCode};
use super::events;
use crate::live::Closing;
use crate::metrics::RequestLabels;
use crate::state::AppState;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest request id taken from a client.
const MAX_REQUEST_ID: usize = 128;

/// What a handler may want to know of its request besides its parameters.
#[derive(Clone)]
pub struct RequestInfo {
    /// The path that was asked for.
    pub path: Arc<str>,
    /// The request id.
    pub id: Arc<str>,
}

impl FromRequestParts<AppState> for RequestInfo {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let info = parts.extensions.get::<Self>().cloned();
        info.ok_or_else(|| ApiError::new(ErrorCode::Internal, "a request without an id"))
    }
}

/// Set on answers that were waited for: they are not slow.
#[derive(Clone, Copy)]
pub struct Waited;

/// Set on requests of a connection beyond the bound: they are told so.
#[derive(Clone, Copy)]
pub struct OverConnectionLimit;

/// The outermost layer.
pub async fn envelope(State(state): State<AppState>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let info = RequestInfo { path: request.uri().path().into(), id: request_id(request.headers()) };
    let method = request.method().clone();
    request.extensions_mut().insert(info.clone());
    let route = request.extensions().get::<MatchedPath>().map(|path| Arc::from(path.as_str()));

    let mut response = next.run(request).await;

    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = &error {
        write_problem(&mut response, error, &info);
    }
    // What a stream holds changes: nobody is to keep an answer unless it says so itself.
    if response.status().is_success() && info.path.starts_with("/v1/") {
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().entry(CACHE_CONTROL).or_insert(no_store);
    }
    if let Ok(value) = HeaderValue::from_str(&info.id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status().as_u16();
    let route: Arc<str> = route.unwrap_or_else(|| Arc::from("none"));
    let labels = RequestLabels { method: known(&method), route: route.clone(), status };
    state.metrics.requests.get_or_create(&labels).inc();

    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let waited = response.extensions().get::<Waited>().is_some();
    let slow = !waited && began.elapsed() >= state.settings.slow_request;
    let (method, id, path) = (method.as_str(), &*info.id, &*info.path);
    let code = error.as_ref().map(|error| error.code.as_str());
    let cause = error.and_then(|error| error.cause).map(|cause| cause.to_string());
    match status {
        500.. => tracing::error!(method, path, status, ms, code, cause, request_id = id, "failed"),
        400.. => tracing::warn!(method, path, status, ms, code, request_id = id, "refused"),
        _ if slow || matches!(method, "PUT" | "DELETE" | "PATCH") => {
            tracing::info!(method, path, status, ms, request_id = id, "answered");
        }
        _ => tracing::debug!(method, path, status, ms, request_id = id, "answered"),
    }
    response
}

fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

/// The client's id where it is fit for a log and a header, else one of ours.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let sent = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let fit = |id: &&str| {
        !id.is_empty() && id.len() <= MAX_REQUEST_ID && id.bytes().all(|b| b.is_ascii_graphic())
    };
    match sent.filter(fit) {
        Some(id) => Arc::from(id),
        None => Arc::from(format!("{:016x}", fastrand::u64(..))),
    }
}

fn write_problem(response: &mut Response, error: &ApiError, info: &RequestInfo) {
    let problem = error.problem(&info.path, &info.id);
    // A problem is strings and numbers: it always serializes.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response.headers_mut().remove(CONTENT_LENGTH);
    *response.body_mut() = Body::from(body);
}

/// Refuses what a web page elsewhere could make a browser send, before the body is read: a foreign
/// `Origin`, and a foreign `Host` (a name that was made to point here). Probes of liveness and
/// readiness show nothing and may come under any name.
pub async fn guard(State(state): State<AppState>, request: Request, next: Next) -> Response {
    if request.extensions().get::<OverConnectionLimit>().is_some() {
        if events::wants(request.headers()) {
            return events::closed(Closing::Overloaded);
        }
        let detail = "as many connections are open as may be";
        return ApiError::new(ErrorCode::Overloaded, detail).into_response();
    }
    let is_probe = matches!(request.uri().path(), "/livez" | "/readyz");
    match check(&state, request.headers(), request.uri().authority().map(Authority::as_str)) {
        Err(error) if !is_probe => error.into_response(),
        _ => next.run(request).await,
    }
}

fn check(state: &AppState, headers: &HeaderMap, authority: Option<&str>) -> Result<(), ApiError> {
    let host = headers.get(HOST).and_then(|value| value.to_str().ok()).or(authority);
    let host = host.ok_or_else(|| ApiError::invalid("a request names its `Host`"))?;
    let name = host_name(host).to_ascii_lowercase();
    if !is_loopback(&name) && !state.settings.hosts.contains(&name) {
        return Err(ApiError::new(
            ErrorCode::Forbidden,
            format!(
                "the gateway is not known as {name:?}: start it with --host for each name it is called by"
            ),
        ));
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or_default();
    let own =
        origin.split_once("://").is_some_and(|(_, of_page)| of_page.eq_ignore_ascii_case(host));
    if own || state.settings.origins.iter().any(|listed| listed == origin) {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::OriginNotAllowed,
        format!(
            "pages of {origin:?} may not call: start the gateway with --allow-origin to let them"
        ),
    ))
}

/// `Host` without its port.
fn host_name(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

fn is_loopback(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What a panic in a handler becomes. Its text stays here.
#[must_use]
#[expect(clippy::needless_pass_by_value, reason = "the form the layer asks for")]
pub fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = text.unwrap_or("without a message"), "a handler panicked");
    ApiError::new(
        ErrorCode::Internal,
        "something went wrong here; the log has more under this request id",
    )
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_with_and_without_port() {
        for (host, name) in [
            ("a.b:80", "a.b"),
            ("a.b", "a.b"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("127.0.0.1:1", "127.0.0.1"),
        ] {
            assert_eq!(host_name(host), name);
        }
    }

    #[test]
    fn only_loopback_names_are_loopback() {
        for name in ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["", "localhost.evil", "evil", "10.0.0.1", "0.0.0.0", "127.0.0.1.evil"] {
            assert!(!is_loopback(name), "{name}");
        }
    }
}
