//! Properties of a request for its response and its log line.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::header::{ORIGIN, USER_AGENT};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};

use crate::auth::Principal;
use crate::http::extract::single_header::single;
use crate::http::layer::base_path::BasePath;
use crate::http::layer::rejection::RateLimitHeaders;
use crate::http::layer::request::{ClientAddress, RequestInfo};

/// The header for request ids.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a request id accepted from a client, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// Properties of a request, recorded when it arrives.
pub(in crate::http) struct RequestRecord {
    pub(in crate::http) began: Instant,
    pub(in crate::http) info: RequestInfo,
    pub(in crate::http) method: Method,
    pub(super) route: Option<MatchedPath>,
    /// The listed origin of the page, if the request was refused before the CORS layer.
    pub(super) refused_from: Option<HeaderValue>,
    /// The rate limit state of a principal with a rate limit.
    pub(super) left: Option<RateLimitHeaders>,
    /// The address of the client, possibly reported by a trusted proxy.
    pub(in crate::http) client: Option<ClientAddress>,
    pub(in crate::http) user_agent: Option<HeaderValue>,
    /// The origin of the page that sent the request.
    pub(in crate::http) origin: Option<HeaderValue>,
}

impl RequestRecord {
    pub(super) fn new(request: &mut Request, by: Option<Arc<Principal>>, base: &BasePath) -> Self {
        let base = request
            .extensions_mut()
            .remove::<BasePath>()
            .unwrap_or_else(|| base.clone());
        let id = request_id(request.headers());
        let info = RequestInfo::new(request.uri(), id, by, base);
        request.extensions_mut().insert(info.clone());
        let route = request.extensions().get::<MatchedPath>().cloned();
        let left = request.extensions_mut().remove::<RateLimitHeaders>();
        let method = request.method().clone();
        let client = request.extensions().get::<ClientAddress>().copied();
        let header = |name: HeaderName| request.headers().get(name).cloned();
        let (user_agent, origin) = (header(USER_AGENT), header(ORIGIN));
        let (began, refused_from) = (Instant::now(), None);
        Self {
            began,
            info,
            method,
            route,
            refused_from,
            left,
            client,
            user_agent,
            origin,
        }
    }
}

/// Returns the client's request id if it is safe for logs and headers, else a generated one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    let fit = |id: &&HeaderValue| {
        !id.is_empty()
            && id.len() <= MAX_REQUEST_ID
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    // Several request ids count as none.
    if let Ok(Some(id)) = single(headers, &REQUEST_ID)
        && fit(&id)
    {
        return id.clone();
    }
    // Hexadecimal digits are always valid in a header.
    HeaderValue::try_from(format!("{:016x}", fastrand::u64(..)))
        .unwrap_or_else(|_| HeaderValue::from_static("0"))
}
