//! CORS policy for pages of the listed origins. The admission check refuses other origins.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// Response headers that a page may read.
const EXPOSED: [&str; 10] = [
    "etag",
    "link",
    "location",
    "retry-after",
    "www-authenticate",
    "x-request-id",
    "idempotency-window",
    "idempotency-replayed",
    "ratelimit",
    "ratelimit-policy",
];

/// Request headers that a page may set, in addition to all that start with [`CE`].
const ALLOWED: [&str; 14] = [
    "accept",
    "authorization",
    "baggage",
    "content-encoding",
    "content-type",
    "idempotency-key",
    "idempotency-producer",
    "if-match",
    "if-none-match",
    "last-event-id",
    "traceparent",
    "tracestate",
    "x-api-key",
    "x-request-id",
];
/// The prefix of `CloudEvents` headers, including headers of extensions.
const CE: &str = "ce-";

/// Removes headers that a page may not set from a preflight request. [`layer`] allows all requested
/// headers, because a fixed list cannot include the extensions of `CloudEvents`.
pub fn narrow(request: &mut Request) {
    if *request.method() != Method::OPTIONS {
        return;
    }
    let Some(asked) = request.headers().get(ACCESS_CONTROL_REQUEST_HEADERS) else {
        return;
    };
    let names = asked
        .to_str()
        .unwrap_or_default()
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase());
    let allowed: Vec<String> = names
        .filter(|name| name.starts_with(CE) || ALLOWED.contains(&name.as_str()))
        .collect();
    // A list joined by commas is a valid header value if its parts are.
    if let Ok(allowed) = HeaderValue::try_from(allowed.join(",")) {
        request
            .headers_mut()
            .insert(ACCESS_CONTROL_REQUEST_HEADERS, allowed);
    }
}

/// Adds CORS headers to a response that was created before the CORS layer.
pub fn let_read(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(
        ACCESS_CONTROL_ALLOW_CREDENTIALS,
        HeaderValue::from_static("true"),
    );
    if let Ok(exposed) = HeaderValue::try_from(EXPOSED.join(",")) {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// Returns the CORS layer for the listed origins. All other origins were refused before.
pub fn layer(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        // Required for the ticket cookie, which is valid only for subscriptions.
        .allow_credentials(true)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        // `narrow` has removed the headers that are not allowed.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(std::time::Duration::from_secs(600))
}
