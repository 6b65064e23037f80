//! HTML pages and their security headers. A page loads nothing from other origins and has no inline
//! scripts. Other pages cannot frame it, and it sends no referrer.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_FRAME_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::map_response;
use axum::response::{Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use utoipa_swagger_ui::Config;

use crate::http::respond::asset::{self, Asset, gzipped};
use crate::http::state::AppState;

/// Content security policy of the docs page. Its scripts call this origin. Swagger UI sets inline
/// styles and has images in its style sheet.
const OF_DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Files of this repository served under `/docs/`.
const OWN: [(&str, &str, &str); 3] = [
    (
        "",
        "text/html; charset=utf-8",
        include_str!("../../../assets/docs.html"),
    ),
    (
        "docs.css",
        "text/css; charset=utf-8",
        include_str!("../../../assets/docs.css"),
    ),
    (
        "docs.js",
        "text/javascript; charset=utf-8",
        include_str!("../../../assets/docs.js"),
    ),
];

/// Files of Swagger UI that the page loads.
const VENDORED: [&str; 3] = [
    "swagger-ui.css",
    "swagger-ui-bundle.js",
    "favicon-32x32.png",
];

/// Adds the security headers of a page.
pub fn keep_to_itself(headers: &mut HeaderMap, policy: &'static str) {
    let all = [
        (CONTENT_SECURITY_POLICY, policy),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ];
    headers.extend(all.map(|(name, value)| (name, HeaderValue::from_static(value))));
}

fn assets() -> HashMap<String, Asset> {
    let config = Arc::new(Config::default());
    let vendored = VENDORED.iter().filter_map(|name| {
        let file = utoipa_swagger_ui::serve(name, config.clone()).ok()??;
        let bytes = file.bytes.into_owned();
        let bytes = if file.gzpipped {
            bytes
        } else {
            gzipped(&bytes)
        };
        Some((
            (*name).to_owned(),
            Asset::of_gzip(&file.content_type, bytes.into())?,
        ))
    });
    let own = OWN.iter().map(|(name, content_type, text)| {
        let text = Bytes::from_static(text.as_bytes());
        ((*name).to_owned(), Asset::of_text(content_type, text))
    });
    own.chain(vendored).collect()
}

/// Returns the router of the API reference under `/docs/`, where readers can try calls.
pub fn docs() -> Router<AppState> {
    let assets = Arc::new(assets());
    let of_index = assets.clone();
    Router::new()
        .route("/docs", get(async || Redirect::to("/docs/")))
        .route(
            "/docs/",
            get(async move |request: HeaderMap| asset::answer(&of_index, "", &request)),
        )
        .route(
            "/docs/{file}",
            get(async move |Path(file): Path<String>, request: HeaderMap| {
                asset::answer(&assets, &file, &request)
            }),
        )
        .layer(map_response(async |mut response: Response| {
            keep_to_itself(response.headers_mut(), OF_DOCS);
            response
        }))
}
