//! How much is held in large answers that clients have not taken yet: whoever asks for much and
//! reads nothing takes memory for as long as `--write-timeout` lets it.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody as _};
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::state::AppState;
use crate::metrics::{HeldBytes, Metrics};

/// From so many bytes on an answer is counted; smaller ones are bounded by how many there can be.
const LARGE: u64 = 64 << 10;

/// Set on answers that were counted already.
#[derive(Clone, Copy)]
pub(in crate::http) struct Accounted;

/// Counts an answer until its last byte is on its way, or refuses it when too much is held already.
/// What a call that may have changed something has to say is told in any case. What is the same for
/// everybody takes no memory.
pub(in crate::http) fn account(
    state: &AppState,
    method: &Method,
    path: &str,
    response: Response,
) -> Response {
    if response.extensions().get::<Accounted>().is_some() {
        return response;
    }
    let size = response
        .body()
        .size_hint()
        .exact()
        .filter(|size| *size >= LARGE);
    let Some(size) =
        size.filter(|_| !matches!(path, "/openapi.json") && !path.starts_with("/docs"))
    else {
        return response;
    };
    let most = match *method {
        Method::GET | Method::HEAD => state.settings.answer_memory,
        _ => usize::MAX,
    };
    let Some(held) = Metrics::hold_bytes(&state.metrics.answer_bytes, size, most) else {
        state.metrics.refuse("answers");
        let detail = "other answers take all the memory there is for them: ask for less, or later";
        return ApiError::new(ErrorCode::Overloaded, detail).into_response();
    };
    response.map(|body| {
        Body::new(Counted {
            body,
            held: Some(held),
        })
    })
}

/// A body whose bytes are counted until nobody has them any more.
struct Counted {
    body: Body,
    held: Option<HeldBytes>,
}

/// What is sent, and its count; dropped together, by whoever sends.
struct Part {
    bytes: Bytes,
    _held: HeldBytes,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, held } = &mut *self;
        let counted = |bytes: Bytes| match held.take() {
            Some(held) => Bytes::from_owner(Part { bytes, _held: held }),
            None => bytes,
        };
        Pin::new(body)
            .poll_frame(cx)
            .map_ok(|frame| frame.map_data(counted))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
