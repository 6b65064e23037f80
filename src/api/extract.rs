//! What handlers take in: query parameters, names out of the path, bodies. Whatever is refused
//! here is refused with a problem that says which part of the request is to blame.

use std::borrow::Cow;
use std::time::Duration;

use axum::RequestPartsExt as _;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

use super::error::{ApiError, ErrorCode};
use super::pairs::{self, PairsError};
use crate::model::id::{EntryId, InvalidId};
use crate::model::name::InvalidName;
use crate::state::AppState;

/// How long a body that is refused is read on, and how many bytes of it.
const DISCARD: (Duration, usize) = (Duration::from_secs(1), 8 << 20);

/// Query parameters, as the fields of `T`.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequestParts<AppState> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let query = parts.uri.query().unwrap_or_default();
        pairs::parse(query.as_bytes()).map(Self).map_err(|error| match &error {
            PairsError::Unknown { name, .. } => {
                let name = name.clone();
                ApiError::new(ErrorCode::UnknownParameter, error.to_string())
                    .at(name, "is not known here")
            }
            PairsError::Invalid { name, detail } if !name.is_empty() => {
                let (name, detail) = (name.clone(), detail.clone());
                ApiError::invalid(error.to_string()).at(name, detail)
            }
            PairsError::Invalid { .. } => ApiError::invalid(error.to_string()),
        })
    }
}

/// No query parameters at all.
#[derive(Debug, serde::Deserialize)]
pub struct NoParams {}

/// A segment of the path, decoded.
///
/// # Errors
/// 400 when it is not UTF-8.
pub async fn path_segment(parts: &mut Parts, name: &str) -> Result<String, ApiError> {
    path_segments(parts, [name]).await.map(|[segment]| segment)
}

/// Several segments of the path, decoded. Each look at the path copies it.
///
/// # Errors
/// 400 when the path is not UTF-8.
pub async fn path_segments<const N: usize>(
    parts: &mut Parts,
    names: [&str; N],
) -> Result<[String; N], ApiError> {
    let params = parts.extract::<RawPathParams>().await.map_err(|_| {
        ApiError::new(ErrorCode::InvalidName, "the path is not UTF-8 once it is decoded")
    })?;
    let mut segments = [const { String::new() }; N];
    for (segment, name) in segments.iter_mut().zip(names) {
        let found = params.iter().find(|(known, _)| *known == name);
        let lacks = || ApiError::new(ErrorCode::Internal, "a route without its parameter");
        found.ok_or_else(lacks)?.1.clone_into(segment);
    }
    Ok(segments)
}

impl From<InvalidName> for ApiError {
    fn from(error: InvalidName) -> Self {
        Self::new(ErrorCode::InvalidName, error.to_string())
    }
}

/// Reads an id, a position or the like out of a parameter. A space is what an unescaped `+` in a
/// query becomes; the readers in `model` take it for one.
///
/// # Errors
/// 400 `invalid-id`, naming the parameter.
pub fn id<T>(
    name: &str,
    text: &str,
    read: impl Fn(&str) -> Result<T, InvalidId>,
) -> Result<T, ApiError> {
    read(text).map_err(|error| {
        ApiError::new(ErrorCode::InvalidId, format!("`{name}`: {error}"))
            .at(name, error.to_string())
    })
}

/// The id of an entry in the path.
///
/// # Errors
/// 400 `invalid-id`.
pub async fn path_id(parts: &mut Parts) -> Result<EntryId, ApiError> {
    let text = path_segment(parts, "id").await?;
    id("id", &text, str::parse)
}

/// A whole body with the headers that tell what it is, read within the bounds.
pub struct Body {
    /// The headers of the request.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Bytes,
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
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bare = value.split(';').next().unwrap_or_default().trim();
    match bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        true => Cow::Owned(bare.to_ascii_lowercase()),
        false => Cow::Borrowed(bare),
    }
}

impl FromRequest<AppState> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let limit = state.settings.max_body;
        let too_large = || {
            ApiError::new(ErrorCode::TooLarge, format!("a body may have at most {limit} bytes"))
                .with("max_bytes", limit as u64)
        };
        refuse_encoded(request.headers())?;
        let (parts, mut body) = request.into_parts();
        let told = parts
            .headers
            .get(CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if told.is_some_and(|length| length > limit) {
            Box::pin(discard(body)).await;
            return Err(too_large());
        }
        let collected = Limited::new(&mut body, limit).collect();
        match tokio::time::timeout(state.settings.body_timeout, collected).await {
            Ok(Ok(collected)) => Ok(Self { headers: parts.headers, bytes: collected.to_bytes() }),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                Box::pin(discard(body)).await;
                Err(too_large())
            }
            Ok(Err(_)) => Err(ApiError::invalid("the body broke off")),
            Err(_) => Err(ApiError::invalid("the body did not come in time")),
        }
    }
}

/// Reads a body that is refused a little further: many clients look for an answer only when they
/// have sent everything, and do not get it from a connection that was closed on them.
pub async fn discard(mut body: axum::body::Body) {
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

/// What was compressed is not taken: it would be stored, or not understood, as it is.
///
/// # Errors
/// 415 for a body with a `Content-Encoding`.
pub fn refuse_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "compressed bodies are not taken: send it without `Content-Encoding`",
        )
        .at("Content-Encoding", "is not `identity`")),
        _ => Ok(()),
    }
}

/// JSON or a form, as the fields of `T`: what group calls take. No body at all is an empty form.
pub struct Call<T>(pub T);

impl<T: DeserializeOwned> FromRequest<AppState> for Call<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, ApiError> {
        let body = Body::from_request(request, state).await?;
        let is_form = match body.media_type().as_ref() {
            "application/x-www-form-urlencoded" => {
                refuse_json_as_form(&body.bytes)?;
                true
            }
            "" => body.bytes.is_empty(),
            media_type => {
                if media_type != "application/json" && !body.bytes.is_empty() {
                    return Err(ApiError::new(
                        ErrorCode::UnsupportedMediaType,
                        "this call takes application/json or a form",
                    ));
                }
                body.bytes.is_empty()
            }
        };
        if is_form {
            return pairs::parse(&body.bytes).map(Self).map_err(|error| {
                let (PairsError::Unknown { name, .. } | PairsError::Invalid { name, .. }) = &error;
                let pointer = format!("/{name}");
                ApiError::invalid(error.to_string()).at(pointer, error.to_string())
            });
        }
        let mut json = serde_json::Deserializer::from_slice(&body.bytes);
        let parsed = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let segment = |segment: &Segment| match segment {
                Segment::Seq { index } => format!("/{index}"),
                named => format!("/{}", named.to_string().replace('~', "~0").replace('/', "~1")),
            };
            let pointer: String = error.path().iter().map(segment).collect();
            let detail = error.inner().to_string();
            ApiError::invalid(format!("the body is not what this call takes: {detail}"))
                .at(pointer, detail)
        })?;
        json.end()
            .map_err(|_| ApiError::invalid("there is more in the body than one JSON value"))?;
        Ok(Self(parsed))
    }
}

/// JSON that was sent with `curl -d`, which calls everything a form.
///
/// # Errors
/// 415, with what to type instead.
pub fn refuse_json_as_form(body: &[u8]) -> Result<(), ApiError> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'{' | b'[') => Err(ApiError::new(
            ErrorCode::UnsupportedMediaType,
            "this looks like JSON, but came as a form: use `curl --json`, or send `Content-Type: application/json`",
        )),
        _ => Ok(()),
    }
}
