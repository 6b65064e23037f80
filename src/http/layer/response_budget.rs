//! Memory limit for large responses that clients have not read yet. A client that requests a lot of
//! data and does not read it holds memory for up to `--write-timeout`.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody as _};
use axum::http::Method;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::layer::request::RequestInfo;
use crate::http::state::AppState;
use crate::metrics::{GaugeBytesGuard, Metrics};
use crate::shares::{Bound, Held};

/// Minimum size in bytes of a counted response. The number of requests bounds the memory for
/// smaller responses.
pub(in crate::http) const LARGE: u64 = 64 << 10;

/// Marker for responses that are already counted.
#[derive(Clone, Copy)]
pub(in crate::http) struct Accounted;

/// Counts the bytes of a response until the last one is sent. Refuses the response if the memory
/// limit or the caller's share of it is reached. Responses to writes are never refused. Responses that are the same for every
/// client take no memory and are not counted.
pub(in crate::http) fn account(
    state: &AppState,
    method: &Method,
    info: &RequestInfo,
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
    let path = info.path();
    let Some(size) =
        size.filter(|_| !matches!(path, "/openapi.json") && !path.starts_with("/docs"))
    else {
        return response;
    };
    let most = match *method {
        Method::GET | Method::HEAD => state.settings.answer_memory,
        _ => usize::MAX,
    };
    let account = info.by().and_then(|caller| caller.usage.account.as_ref());
    let share = account.map(|account| account.take(Bound::Answers, size, most));
    let share = match share.transpose() {
        Ok(share) => share,
        Err(exceeded) => {
            state.metrics.refuse(exceeded.bound.metric());
            return ApiError::from(exceeded).into_response();
        }
    };
    let Some(held) = Metrics::raise_bytes(&state.metrics.answer_bytes, size, most) else {
        state.metrics.refuse("answers");
        let detail =
            "the memory limit for large responses is reached: request less data or retry later";
        return ApiError::new(ErrorCode::Overloaded, detail).into_response();
    };
    response.map(|body| {
        Body::new(CountedBody {
            body,
            held: Some((held, share)),
        })
    })
}

/// The memory of a response, counted among all and in the share of the caller.
type HeldAnswer = (GaugeBytesGuard, Option<Held>);

/// A body whose bytes are counted until they are dropped.
struct CountedBody {
    body: Body,
    held: Option<HeldAnswer>,
}

/// The bytes of a response with their count. The sender drops both together.
struct Part {
    bytes: Bytes,
    _held: HeldAnswer,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl hyper::body::Body for CountedBody {
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
