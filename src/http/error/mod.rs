//! Every error a client can see, as an RFC 9457 problem with one of the closed list of codes.
//!
//! No text of Redis, of a panic or of the file system leaves through here: details are written for
//! the caller, the cause goes to the log.

pub(in crate::http) mod code;
pub(in crate::http) mod excerpt;
pub(in crate::http) mod problems;
pub(in crate::http) mod redis_error;
pub(in crate::http) mod type_errors;

use std::borrow::Cow;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

pub use crate::http::error::code::ErrorCode;
use crate::http::error::excerpt::shortened;
use crate::model::name::StreamName;
use crate::redis::StoreError;

/// The most characters of a text in a problem: it may hold what was sent, which has megabytes.
const MAX_TEXT: usize = 1000;
/// The most characters of a path in a problem. Over HTTP/2 it costs who sends it next to nothing.
const MAX_INSTANCE: usize = 512;

/// One place in the body that is wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct FieldError {
    /// RFC 6901 pointer into the body, or the name of a parameter.
    pub pointer: String,
    /// What is wrong there.
    pub detail: String,
}

impl FieldError {
    fn shortened(&self) -> Self {
        let shortened = |text: &str| shortened(text, MAX_TEXT).into_owned();
        Self {
            pointer: shortened(&self.pointer),
            detail: shortened(&self.detail),
        }
    }
}

/// An error on its way to the client.
#[derive(Clone, Debug)]
pub struct ApiError {
    /// What went wrong.
    pub code: ErrorCode,
    /// In this very case, for the caller.
    pub detail: Cow<'static, str>,
    /// Places in the body.
    pub errors: Vec<FieldError>,
    /// The command may have run although it failed.
    pub side_effects_unknown: bool,
    /// Members of one code alone. Boxed: most errors have none, and every result carries the space.
    pub extra: Box<serde_json::Map<String, serde_json::Value>>,
    /// A header that belongs to the answer.
    pub header: Option<&'static (&'static str, &'static str)>,
    /// For the log alone.
    pub cause: Option<Arc<StoreError>>,
}

impl ApiError {
    /// An error with its detail.
    #[must_use]
    pub fn new(code: ErrorCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            side_effects_unknown: false,
            extra: Box::default(),
            header: None,
            cause: None,
        }
    }

    /// 400 for a request that makes no sense.
    #[must_use]
    pub fn invalid(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::InvalidRequest, detail)
    }

    /// Points at a place in the body, or names a parameter.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError {
            pointer: pointer.into(),
            detail: detail.into(),
        });
        self
    }

    /// Adds a member to the problem.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<serde_json::Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, header: &'static (&'static str, &'static str)) -> Self {
        self.header = Some(header);
        self
    }

    /// For a call on several streams: says of which this is true.
    #[must_use]
    pub fn in_stream(mut self, stream: &StreamName) -> Self {
        self.detail = format!("`{}`: {}", stream.shown(), self.detail).into();
        self.with("stream", stream.shown())
    }

    /// For a call on several streams that went on with the others.
    #[must_use]
    pub fn after_others(mut self) -> Self {
        self.detail = format!("{}; other streams may have been changed", self.detail).into();
        Self {
            side_effects_unknown: true,
            ..self
        }
    }

    /// For a call that changes nothing: whatever failed, nothing happened.
    #[must_use]
    pub fn of_read(error: impl Into<Self>) -> Self {
        Self {
            side_effects_unknown: false,
            ..error.into()
        }
    }

    /// The problem as it is sent.
    #[must_use]
    pub fn problem(&self, instance: &str, request_id: &str) -> Problem {
        Problem {
            r#type: format!("urn:streamgate:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            detail: shortened(&self.detail, MAX_TEXT).into_owned(),
            instance: shortened(instance, MAX_INSTANCE).into_owned(),
            code: self.code.as_str(),
            retryable: self.code.retryable(),
            side_effects: if self.side_effects_unknown {
                SideEffects::Unknown
            } else {
                SideEffects::None
            },
            request_id: request_id.to_owned(),
            errors: self.errors.iter().map(FieldError::shortened).collect(),
            extra: self.extra.clone(),
        }
    }
}

/// Whether a failed request may have changed something.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SideEffects {
    /// Nothing was changed.
    None,
    /// It may have been: look before repeating what must not happen twice.
    Unknown,
}

/// An error, after RFC 9457.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Problem {
    /// `urn:streamgate:problem:` and the code.
    #[schema(example = "urn:streamgate:problem:stream-not-found")]
    pub r#type: String,
    /// What it says in general.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What it means in this case.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// What went wrong, as a word to compare.
    #[schema(value_type = String, example = "stream-not-found")]
    pub code: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// Whether something may have been changed all the same.
    pub side_effects: SideEffects,
    /// Found again in the gateway's log.
    pub request_id: String,
    /// Places in the body or parameters that are wrong.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    pub errors: Vec<FieldError>,
    /// Members of one code alone, like `oldest` and `lost`.
    #[serde(flatten)]
    #[schema(ignore)]
    pub extra: Box<serde_json::Map<String, serde_json::Value>>,
}

/// The body is written by the outermost layer, which knows the path and the request id.
impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        if self.code.retryable() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(tag) = self
            .extra
            .get("last_id")
            .and_then(serde_json::Value::as_str)
            && let Ok(tag) = HeaderValue::from_str(&format!("\"{tag}\""))
        {
            headers.insert(header::ETAG, tag);
        }
        if let Some((name, value)) = self.header {
            headers.insert(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        let mut response = (self.code.status(), headers).into_response();
        response.extensions_mut().insert(self);
        response
    }
}
