//! JSON as it is answered: a line, so that a terminal shows what comes after it on the next.

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use crate::http::error::{ApiError, ErrorCode};

/// What most answers fit into, bytes.
pub(in crate::http) const MOST: usize = 256;

/// An answer in JSON.
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        let mut text = Vec::with_capacity(MOST);
        if serde_json::to_writer(&mut text, &self.0).is_err() {
            return ApiError::new(ErrorCode::Internal, "the answer cannot be written")
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
