//! Refusal of request bodies that no route reads. A client that sends a body expects an effect, and
//! a response that ignores the body would look like success.
//!
//! For all routes, the method decides here whether a body is allowed. A route that reads no body
//! although its method allows one uses [`NoBody`].

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::Method;
use http_body_util::BodyExt as _;

use crate::http::error::ApiError;
use crate::http::state::AppState;

/// Reports whether a request may have a body that nothing reads. For a request without a body, the
/// check costs one comparison.
pub fn is_possible(request: &Request) -> bool {
    let without = [Method::GET, Method::HEAD, Method::DELETE];
    !request.body().is_end_stream() && without.contains(request.method())
}

/// Returns the request without its body, which must be empty.
///
/// # Errors
/// 400 if the body has any byte, or does not end in time.
pub async fn refuse(state: &AppState, request: Request) -> Result<Request, ApiError> {
    let (parts, mut body) = request.into_parts();
    let empty = async {
        while body.size_hint().lower() == 0 {
            match body.frame().await {
                None => return true,
                Some(Ok(frame)) if frame.data_ref().is_none_or(bytes::Bytes::is_empty) => {}
                Some(_) => return false,
            }
        }
        false
    };
    match tokio::time::timeout(state.settings.body_timeout, empty).await {
        Ok(true) => Ok(Request::from_parts(parts, Body::empty())),
        _ => Err(ApiError::invalid(
            "this route takes no body; send the request without one",
        )),
    }
}

/// Extractor that refuses a body, for a route that reads none.
pub struct NoBody;

impl FromRequest<AppState> for NoBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        match request.body().is_end_stream() {
            true => Ok(Self),
            false => refuse(state, request).await.map(|_| Self),
        }
    }
}
