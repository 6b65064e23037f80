//! Whole bodies of requests: read in time, and within the bounds of each and of all together.

use std::borrow::Cow;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, Version};
use http_body_util::BodyExt as _;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::inflate;
use crate::http::extract::single_header::single;
use crate::http::state::{AppState, Shared};
use crate::metrics::{HeldBytes, Metrics};

/// How long a body that is refused is read on over HTTP/2, and how many bytes of it.
const DISCARD: (Duration, usize) = (Duration::from_secs(1), 8 << 20);
/// So many bytes of each body are not counted; they are bounded by how many requests there can be.
const SMALL: usize = 64 << 10;

/// A whole body with the headers that tell what it is, read within the bounds.
pub struct Body {
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Bytes,
    pub(in crate::http) memory: BodyMemory,
}

impl Body {
    /// The media type without its parameters, in lower case; empty if there is none.
    #[must_use]
    pub fn media_type(&self) -> Cow<'_, str> {
        media_type(&self.headers)
    }

    /// The `Content-Type` as it was sent.
    #[must_use]
    pub fn content_type(&self) -> Option<&HeaderValue> {
        self.headers.get(CONTENT_TYPE)
    }
}

/// The media type of a body without its parameters, in lower case; empty if there is none.
#[must_use]
pub fn media_type(headers: &HeaderMap) -> Cow<'_, str> {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let bare = value.split(';').next().unwrap_or_default().trim();
    match bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(bare.to_ascii_lowercase()),
        false => Cow::Borrowed(bare),
    }
}

/// The parameter `charset` of a media type.
fn charset(media_type: &str) -> Option<&str> {
    let parameters = media_type
        .split(';')
        .skip(1)
        .filter_map(|part| part.split_once('='));
    let mut named = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("charset"));
    named
        .next()
        .map(|(_, value)| value.trim().trim_matches('"'))
}

impl Body {
    /// Refuses text in another charset than UTF-8, which would be stored as something else.
    ///
    /// # Errors
    /// 415 for a `charset` that is neither UTF-8 nor a part of it.
    pub(in crate::http) fn refuse_charset(&self) -> Result<(), ApiError> {
        let value = self
            .content_type()
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        match charset(value) {
            Some(charset)
                if !["utf-8", "utf8", "us-ascii"].contains(&&*charset.to_ascii_lowercase()) =>
            {
                Err(ApiError::new(
                    ErrorCode::UnsupportedMediaType,
                    format!("a form in the charset {charset:?} is not taken: send it as UTF-8"),
                )
                .at("Content-Type", "names another charset than UTF-8"))
            }
            _ => Ok(()),
        }
    }

    /// Frees the body, and keeps its share of the memory for what was made of it.
    pub(in crate::http) fn into_memory(self) -> BodyMemory {
        self.memory
    }

    /// Reads a body of at most `most` bytes, or what any body may have if that is less.
    ///
    /// # Errors
    /// 413 or 415, 400 when it does not come or is not what it says, 503 when there is no room for it among the others.
    pub(in crate::http) async fn read(
        request: Request,
        state: &AppState,
        most: usize,
    ) -> Result<Self, ApiError> {
        single(request.headers(), &CONTENT_TYPE)?;
        let (parts, body) = request.into_parts();
        let limit = state.settings.max_body.min(most);
        let told = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        let mut memory = BodyMemory::default();
        let mut body = inflate::inflated(state.settings.max_inflation, &parts.headers, body)?;
        let gathered = match told {
            Some(length) if length > limit => Err(too_large(limit)),
            _ => {
                let gathered = gather(&mut body, limit, state, &mut memory);
                let in_time = tokio::time::timeout(state.settings.body_timeout, gathered).await;
                in_time.map_err(|_| ApiError::invalid("the body did not come in time"))?
            }
        };
        match gathered {
            Ok(bytes) => Ok(Self {
                headers: parts.headers,
                bytes,
                memory,
            }),
            Err(error) => {
                drop(memory);
                // Over HTTP/1.1 the connection is read on (`net/linger.rs`).
                if parts.version == Version::HTTP_2
                    && matches!(error.code, ErrorCode::TooLarge | ErrorCode::Overloaded)
                {
                    Box::pin(discard(body)).await;
                }
                Err(error)
            }
        }
    }
}

impl FromRequest<AppState> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        Self::read(request, state, usize::MAX).await
    }
}

/// Reads a body that is refused a little further: over HTTP/2 some clients take a reset of the rest for
/// a failure of the whole.
async fn discard(mut body: axum::body::Body) {
    let reading = async {
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, Bytes::len);
            if read > DISCARD.1 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(DISCARD.0, reading).await;
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        ErrorCode::TooLarge,
        format!("a body may have at most {limit} bytes here"),
    )
    .with("max_bytes", limit as u64)
}

/// Gathers a body, in the memory it is counted in. Most come in one piece, and stay where they are.
async fn gather(
    body: &mut axum::body::Body,
    limit: usize,
    state: &Shared,
    memory: &mut BodyMemory,
) -> Result<Bytes, ApiError> {
    let (mut first, mut all) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| inflate::refused(state, &error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let length = first.len() + all.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        if !memory.hold(state, length) {
            return Err(BodyMemory::refused(state));
        }
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        // Not piece by piece: each could keep a whole buffer of its connection.
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// A body's share of the memory there is for all, by what has come of it. Given back when dropped.
#[derive(Default)]
pub(in crate::http) struct BodyMemory(Option<HeldBytes>);

impl BodyMemory {
    /// Counts so many bytes from now on, by how much they are beyond what any body may have; false
    /// if there is no room for them.
    #[must_use]
    pub(in crate::http) fn hold(&mut self, state: &Shared, bytes: usize) -> bool {
        let beyond = bytes.saturating_sub(SMALL) as u64;
        let most = state.settings.body_memory;
        match &mut self.0 {
            Some(held) => held.resize(beyond, most),
            None if beyond == 0 => true,
            none => {
                *none = Metrics::hold_bytes(&state.metrics.body_bytes, beyond, most);
                none.is_some()
            }
        }
    }

    /// 503 for a body there was no room for, which is counted.
    pub(in crate::http) fn refused(state: &Shared) -> ApiError {
        state.metrics.refuse("bodies");
        let detail = "other bodies take all the memory there is for them: send less, or later";
        ApiError::new(ErrorCode::Overloaded, detail)
    }
}
