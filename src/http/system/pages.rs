//! HTML pages and their security headers. A page loads nothing from other origins and has no inline
//! scripts. Other pages cannot frame it, and it sends no referrer.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher as _};
use std::io::Read as _;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::Path;
use axum::http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG,
    IF_NONE_MATCH, REFERRER_POLICY, VARY, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::read::{GzDecoder, GzEncoder};
use utoipa_swagger_ui::Config;

use crate::http::error::{ApiError, ErrorCode};
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

/// A static file with an entity tag of its content, sent gzipped to clients that accept it.
pub struct Asset {
    content_type: HeaderValue,
    /// The content. `None` if the file is stored only gzipped.
    plain: Option<Bytes>,
    /// Set when the file is made, or at the first request for it.
    gzipped: OnceLock<Bytes>,
    etag: String,
}

impl Asset {
    /// Creates a file of text.
    #[must_use]
    pub fn of_text(content_type: &'static str, text: Bytes) -> Self {
        Self {
            content_type: HeaderValue::from_static(content_type),
            etag: tag(&text),
            plain: Some(text),
            gzipped: OnceLock::new(),
        }
    }

    pub(super) fn of_gzip(content_type: &str, gzipped: Bytes) -> Option<Self> {
        Some(Self {
            content_type: HeaderValue::from_str(content_type).ok()?,
            plain: None,
            etag: tag(&gzipped),
            gzipped: gzipped.into(),
        })
    }

    fn inflated(&self) -> std::io::Result<Bytes> {
        if let Some(plain) = &self.plain {
            return Ok(plain.clone());
        }
        let mut plain = Vec::new();
        let gzipped = self.gzipped.get().map_or(&[][..], |bytes| bytes);
        GzDecoder::new(gzipped).read_to_end(&mut plain)?;
        Ok(plain.into())
    }

    /// Returns the file, or 304 if the client has it. Inflates the file for a client without gzip.
    pub fn answer(&self, request: &HeaderMap) -> Response {
        let lists = |name: HeaderName, item: &str| {
            let values = request
                .get_all(name)
                .iter()
                .filter_map(|value| value.to_str().ok());
            values.flat_map(|value| value.split(',')).any(|part| {
                let (part, weight) = part.split_once(';').unwrap_or((part, ""));
                part.trim() == item && weight.trim() != "q=0"
            })
        };
        let gzip = lists(ACCEPT_ENCODING, "gzip");
        let etag = format!("\"{}{}\"", self.etag, if gzip { "-gzip" } else { "" });
        let known = lists(IF_NONE_MATCH, &etag) || lists(IF_NONE_MATCH, &format!("W/{etag}"));
        let mut headers = HeaderMap::new();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        headers.extend(HeaderValue::from_str(&etag).ok().map(|etag| (ETAG, etag)));
        if known {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        headers.insert(CONTENT_TYPE, self.content_type.clone());
        if gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let compress = || gzipped(self.plain.as_ref().map_or(&[][..], |bytes| bytes)).into();
            let body = self.gzipped.get_or_init(compress);
            return (headers, body.clone()).into_response();
        }
        match self.inflated() {
            Ok(plain) => (headers, plain).into_response(),
            Err(_) => ApiError::new(ErrorCode::Internal, "the file cannot be decompressed")
                .into_response(),
        }
    }
}

/// Returns an entity tag of bytes, without quotes.
fn tag(bytes: &[u8]) -> String {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    format!("{:016x}", hasher.finish())
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

/// Compresses bytes with gzip. Reading from memory cannot fail.
pub(super) fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let _ = GzEncoder::new(bytes, flate2::Compression::default()).read_to_end(&mut out);
    out
}

/// Returns the router of the API reference under `/docs/`, where readers can try calls.
pub fn docs() -> Router<AppState> {
    let assets = Arc::new(assets());
    let of_index = assets.clone();
    let serve = move |assets: &HashMap<String, Asset>, name: &str, request: &HeaderMap| {
        let missing = || ApiError::new(ErrorCode::RouteNotFound, "the file does not exist");
        assets
            .get(name)
            .map_or_else(|| missing().into_response(), |asset| asset.answer(request))
    };
    Router::new()
        .route("/docs", get(async || Redirect::to("/docs/")))
        .route(
            "/docs/",
            get(async move |request: HeaderMap| serve(&of_index, "", &request)),
        )
        .route(
            "/docs/{file}",
            get(async move |Path(file): Path<String>, request: HeaderMap| {
                serve(&assets, &file, &request)
            }),
        )
        .layer(map_response(async |mut response: Response| {
            keep_to_itself(response.headers_mut(), OF_DOCS);
            response
        }))
}
