//! What pages of listed origins may ask and read. Other origins are refused by the guard.

use axum::http::header::{
    ACCEPT, ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, AUTHORIZATION, CONTENT_TYPE, VARY,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use tower_http::cors::{AllowOrigin, CorsLayer};

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

/// Lets a page of a listed origin read an answer that was given before the layer was reached.
pub fn let_read(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    if let Ok(exposed) = HeaderValue::try_from(EXPOSED.join(",")) {
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// For pages of the listed origins; any other origin was refused before.
pub fn layer(origins: &[String]) -> CorsLayer {
    let origins: Vec<HeaderValue> =
        origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect();
    let name = HeaderName::from_static;
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
        .allow_headers([
            ACCEPT,
            AUTHORIZATION,
            CONTENT_TYPE,
            name("x-api-key"),
            name("last-event-id"),
            name("x-request-id"),
            name("if-match"),
            name("if-none-match"),
            name("idempotency-key"),
            name("idempotency-producer"),
            // What the specification of CloudEvents defines; whoever has extensions sends JSON.
            name("ce-specversion"),
            name("ce-id"),
            name("ce-source"),
            name("ce-type"),
            name("ce-dataschema"),
            name("ce-subject"),
            name("ce-time"),
        ])
        .expose_headers(EXPOSED.map(HeaderName::from_static))
        .max_age(std::time::Duration::from_secs(600))
}
