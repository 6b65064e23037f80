//! Compressed answers: ranges in JSON and NDJSON, for clients that ask for it. Never what is sent as it
//! comes, because an encoder holds back what does not fill a block.

use std::convert::Infallible;
use std::future::ready;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::ACCEPT_ENCODING;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use tower::{Service as _, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::Compression;
use tower_http::compression::predicate::SizeAbove;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::layer::request::RequestInfo;
use crate::http::layer::response_budget::{self, Accounted};
use crate::http::state::AppState;

/// Answers of fewer bytes stay as they are.
const LEAST: u64 = 1024;

/// Compresses an answer by the best coding that the client accepts.
///
/// What the answer holds in memory is counted before: its size is not known afterwards.
pub async fn compressed(
    state: &AppState,
    headers: &HeaderMap,
    info: &RequestInfo,
    answer: Response,
) -> Response {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return answer;
    }
    let mut answer = response_budget::account(state, &Method::GET, info.path(), answer);
    answer.extensions_mut().insert(Accounted);
    if !answer.status().is_success() {
        return answer;
    }
    let mut request = Request::new(Body::empty());
    for value in headers.get_all(ACCEPT_ENCODING) {
        request.headers_mut().append(ACCEPT_ENCODING, value.clone());
    }
    let mut answer = Some(answer);
    let answering =
        service_fn(move |_: Request| ready(Ok::<_, Infallible>(answer.take().unwrap_or_default())));
    let mut compression = Compression::new(answering)
        .quality(CompressionLevel::Fastest)
        .compress_when(SizeAbove::new(LEAST));
    match compression.call(request).await {
        Ok(refused) if refused.status() == StatusCode::NOT_ACCEPTABLE => {
            let detail = "this comes as it is, or compressed by gzip, deflate or zstd";
            ApiError::new(ErrorCode::NotAcceptable, detail).into_response()
        }
        Ok(compressed) => compressed.map(Body::new),
        Err(never) => match never {},
    }
}
