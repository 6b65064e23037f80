//! Bodies that no route reads. Whoever sends one means something by it, and an answer that passes it
//! over looks as if it had been heeded.
//!
//! Whether a method has a body is decided here for all routes; a route that reads none though its
//! method has one takes [`NoBody`].

use axum::body::{Body, HttpBody as _};
use axum::extract::{FromRequest, Request};
use axum::http::Method;
use http_body_util::BodyExt as _;

use crate::http::error::ApiError;
use crate::http::state::AppState;

/// Whether a request may have a body that nothing reads. Costs a request without one a comparison.
pub fn is_possible(request: &Request) -> bool {
    let without = [Method::GET, Method::HEAD, Method::DELETE];
    !request.body().is_end_stream() && without.contains(request.method())
}

/// The request without its body, which turned out to be empty.
///
/// # Errors
/// 400 for a body with a byte in it, or one that does not come to its end.
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
            "this route reads no body: send the request without one",
        )),
    }
}

/// That there is no body, for a route that reads none.
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
