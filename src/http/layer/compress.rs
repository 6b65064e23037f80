//! Compressed responses: ranges in JSON and NDJSON, for clients that accept compression. Live
//! streams are never compressed, because an encoder holds back data until it fills a block.

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

/// Minimum size in bytes of a compressed response.
const LEAST: u64 = 1024;

/// Compresses a response with the best coding that the client accepts.
///
/// The memory of the response is counted before, because its size is unknown afterwards.
pub async fn compressed(
    state: &AppState,
    headers: &HeaderMap,
    info: &RequestInfo,
    answer: Response,
) -> Response {
    if !headers.contains_key(ACCEPT_ENCODING) {
        return answer;
    }
    let mut answer = response_budget::account(state, &Method::GET, info, answer);
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
            let detail = "`Accept-Encoding` must allow gzip, deflate, zstd or no compression";
            ApiError::new(ErrorCode::NotAcceptable, detail).into_response()
        }
        Ok(compressed) => compressed.map(Body::new),
        Err(never) => match never {},
    }
}
