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
use crate::metrics::Metrics;

/// The header for request ids.
pub(in crate::http) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Maximum length of a request id accepted from a client, in bytes.
const MAX_REQUEST_ID: usize = 128;

/// The route of a request.
enum Route {
    /// The router found it.
    Matched(MatchedPath),
    /// It is known without the router.
    Known(&'static str),
}

/// Properties of a request, recorded when it arrives.
pub(in crate::http) struct RequestRecord {
    pub(in crate::http) began: Instant,
    pub(in crate::http) info: RequestInfo,
    pub(in crate::http) method: Method,
    route: Option<Route>,
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
        let route = route.map(Route::Matched);
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

    /// Returns the record of an admitted request that began before, and that no router has seen.
    pub(in crate::http) fn routed(
        request: &mut Request,
        by: Arc<Principal>,
        base: &BasePath,
        (route, began): (&'static str, Instant),
    ) -> Self {
        let route = Some(Route::Known(route));
        Self {
            began,
            route,
            ..Self::new(request, Some(by), base)
        }
    }

    /// Returns whether there is a route, which has the method as far as it is documented.
    pub(super) fn is_operation(&self, metrics: &Metrics) -> bool {
        let (method, route) = (self.method.as_str(), self.route());
        self.route.is_some() && !metrics.request_times.lacks(method, route)
    }

    /// Returns the path of the route, or `none` without a route.
    pub(super) fn route(&self) -> &str {
        match &self.route {
            Some(Route::Matched(path)) => path.as_str(),
            Some(Route::Known(path)) => path,
            None => "none",
        }
    }
}

/// Returns the client's request id if it is safe for logs and headers, else a generated one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    // Several request ids count as none.
    accepted_id(single(headers, &REQUEST_ID).ok().flatten())
}

/// Returns the id that a client sent if it is safe for logs and headers, else a generated one.
pub(in crate::http) fn accepted_id(sent: Option<&HeaderValue>) -> HeaderValue {
    let fit = |id: &&HeaderValue| {
        !id.is_empty()
            && id.len() <= MAX_REQUEST_ID
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if let Some(id) = sent.filter(fit) {
        return id.clone();
    }
    // Hexadecimal digits are always valid in a header.
    HeaderValue::try_from(format!("{:016x}", fastrand::u64(..)))
        .unwrap_or_else(|_| HeaderValue::from_static("0"))
}
