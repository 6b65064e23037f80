//! What pages of listed origins may ask and read. Other origins are refused by the guard.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_REQUEST_HEADERS, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

/// Headers of answers that a page may read.
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

/// Headers of requests that a page may set, beside any that begins with [`CE`].
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
/// What the headers of `CloudEvents` begin with, those of extensions too.
const CE: &str = "ce-";

/// Leaves those headers in the question of a browser that a page may set: [`layer`] allows what is asked
/// for, because a fixed list has no room for the extensions of `CloudEvents`.
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
    // Parts of a header, joined by commas, are one.
    if let Ok(allowed) = HeaderValue::try_from(allowed.join(",")) {
        request
            .headers_mut()
            .insert(ACCESS_CONTROL_REQUEST_HEADERS, allowed);
    }
}

/// Lets a page of a listed origin read an answer that was given before the layer was reached.
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

/// For pages of the listed origins; any other origin was refused before.
pub fn layer(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> = origins
        .iter()
        .filter_map(|origin| HeaderValue::from_str(origin).ok())
        .collect();
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        // For the cookie with a ticket, which goes to subscriptions alone.
        .allow_credentials(true)
        .allow_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
        ])
        // What `narrow` has left.
        .allow_headers(AllowHeaders::mirror_request())
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(std::time::Duration::from_secs(600))
}
