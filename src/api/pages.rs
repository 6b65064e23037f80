//! Pages for browsers, and the headers that keep them to themselves: nothing is loaded from
//! elsewhere, no script stands in a page, no other page frames it or learns where a reader came from.

use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::map_response;
use axum::response::Response;
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::state::AppState;

/// The first page: text and a style sheet. What it says can be run in the browser's console, which
/// calls this origin.
pub const OF_FIRST_PAGE: &str = "default-src 'none'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";
/// The docs: scripts of this origin that call this origin. Their library writes styles into its
/// elements and has pictures in its style sheet.
const OF_DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Adds the headers that every page has.
pub fn keep_to_itself(headers: &mut HeaderMap, policy: &'static str) {
    let all = [
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ];
    headers.extend(all.map(|(name, value)| (name, HeaderValue::from_static(value))));
}

/// The page to read and to try calls on, under `/docs/`.
pub fn docs() -> Router<AppState> {
    let config = Config::from("/openapi.json").try_it_out_enabled(true);
    Router::from(SwaggerUi::new("/docs").config(config)).layer(map_response(
        async |mut response: Response| {
            keep_to_itself(response.headers_mut(), OF_DOCS);
            response
        },
    ))
}
