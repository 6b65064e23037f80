//! JSON responses. Each response ends with a line break, so that a terminal continues on a new
//! line.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::http::error::{ApiError, ErrorCode};

/// Initial buffer size in bytes. Most responses fit.
pub(in crate::http) const MOST: usize = 256;

/// A JSON response.
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut text = Vec::with_capacity(MOST);
        if serde_json::to_writer(&mut text, &self.0).is_err() {
            return ApiError::new(ErrorCode::Internal, "the response could not be serialized")
                .into_response();
        }
        text.push(b'\n');
        (
            [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            text,
        )
            .into_response()
    }
}
