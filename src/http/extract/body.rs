//! Complete request bodies, read within a timeout and within the limits per body and for all
//! bodies.

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
use crate::http::state::{AppState, StateFields};
use crate::metrics::{GaugeBytesGuard, Metrics};
use crate::shares::{self, Bound, Held, ShareExceeded};

/// Maximum time and bytes for reading the rest of a refused body over HTTP/2.
const DISCARD: (Duration, usize) = (Duration::from_secs(1), 8 << 20);
/// Bytes of each body that are not counted. The number of requests bounds their memory.
const SMALL: usize = 64 << 10;

/// A complete body with its request headers, read within the limits.
pub struct Body {
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Bytes,
    pub(in crate::http) memory: BodyReservation,
}

impl Body {
    /// Returns the media type in lower case without parameters, empty if there is none.
    #[must_use]
    pub fn media_type(&self) -> Cow<'_, str> {
        media_type(&self.headers)
    }

    /// Returns the `Content-Type` as sent.
    #[must_use]
    pub fn content_type(&self) -> Option<&HeaderValue> {
        self.headers.get(CONTENT_TYPE)
    }
}

/// Returns the media type of a body in lower case without parameters, empty if there is none.
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

/// Returns the `charset` parameter of a media type.
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
    /// Refuses text in a charset other than UTF-8, which would be stored as different text.
    ///
    /// # Errors
    /// 415 for a `charset` other than UTF-8 and its subset US-ASCII.
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
                    format!(
                        "a form in charset {charset:?} is not supported: send the form as UTF-8"
                    ),
                )
                .at("Content-Type", "must have the charset UTF-8"))
            }
            _ => Ok(()),
        }
    }

    /// Frees the body but keeps its memory reserved for the data parsed from it.
    pub(in crate::http) fn into_memory(self) -> BodyReservation {
        self.memory
    }

    /// Reads a body of at most `most` bytes, or of the configured maximum if that is less.
    ///
    /// # Errors
    /// 413 or 415, 400 if the body does not arrive in time or is invalid, 503 if the memory limit
    /// for bodies is reached, 429 if the caller uses its share of it.
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
        let mut memory = BodyReservation::default();
        let mut body = inflate::inflated(state.settings.max_inflation, &parts.headers, body)?;
        let gathered = match told {
            Some(length) if length > limit => Err(too_large(limit)),
            _ => {
                let gathered = gather(&mut body, limit, state, &mut memory);
                let in_time = tokio::time::timeout(state.settings.body_timeout, gathered).await;
                in_time.map_err(|_| ApiError::invalid("the body did not arrive in time"))?
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
                // Over HTTP/1.1, `net/linger.rs` reads the rest of the connection.
                if parts.version == Version::HTTP_2
                    && matches!(
                        error.code,
                        ErrorCode::TooLarge | ErrorCode::Overloaded | ErrorCode::ShareExceeded
                    )
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

/// Reads and drops a limited part of a refused body. Over HTTP/2, some clients treat a reset of the
/// rest as a failure of the whole request.
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
        format!("the body must be at most {limit} bytes"),
    )
    .with("max_bytes", limit as u64)
}

/// Collects a body and reserves memory for it. Most bodies arrive in one piece, which is not
/// copied.
async fn gather(
    body: &mut axum::body::Body,
    limit: usize,
    state: &StateFields,
    memory: &mut BodyReservation,
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
        let held = memory.hold(state, length);
        held.map_err(|refused| refused.refuse(state))?;
        if first.is_empty() && all.is_empty() {
            first = data;
            continue;
        }
        // Pieces are copied because each could keep a whole connection buffer alive.
        if all.is_empty() {
            all.extend_from_slice(&std::mem::take(&mut first));
        }
        all.extend_from_slice(&data);
    }
    Ok(if all.is_empty() { first } else { all.into() })
}

/// The memory reserved for a body, by the bytes received so far. Released on drop.
#[derive(Default)]
pub(in crate::http) struct BodyReservation(Option<(GaugeBytesGuard, Option<Held>)>);

impl BodyReservation {
    /// Changes the reservation to this many bytes, less those that are free for every body.
    ///
    /// # Errors
    /// The reason why there is no more memory. The body keeps what it has.
    pub(in crate::http) fn hold(
        &mut self,
        state: &StateFields,
        bytes: usize,
    ) -> Result<(), NoMemory> {
        let beyond = bytes.saturating_sub(SMALL) as u64;
        let most = state.settings.body_memory;
        let over = |exceeded| NoMemory(Some(exceeded));
        let (held, share) = match &mut self.0 {
            Some(held) => held,
            None if beyond == 0 => return Ok(()),
            none => {
                let share = shares::take(Bound::Bodies, beyond, most).map_err(over)?;
                let held = Metrics::raise_bytes(&state.metrics.body_bytes, beyond, most);
                let held = held.ok_or(NoMemory(None))?;
                *none = Some((held, share));
                return Ok(());
            }
        };
        if let Some(share) = share {
            share.resize(beyond, most).map_err(over)?;
        }
        match held.resize(beyond, most) {
            true => Ok(()),
            false => Err(NoMemory(None)),
        }
    }
}

/// The reason why there is no memory for a body: the limit of all bodies, or the share of the
/// caller.
#[derive(Clone, Copy)]
pub(in crate::http) struct NoMemory(Option<ShareExceeded>);

impl NoMemory {
    /// Returns a 503, or a 429 for the share of the caller, and counts the refusal.
    pub(in crate::http) fn refuse(self, state: &StateFields) -> ApiError {
        if let Self(Some(exceeded)) = self {
            state.metrics.refuse(exceeded.bound.metric());
            return exceeded.into();
        }
        state.metrics.refuse("bodies");
        let detail =
            "the memory limit for request bodies is reached: send less data or retry later";
        ApiError::new(ErrorCode::Overloaded, detail)
    }
}
