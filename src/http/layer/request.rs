//! Request data that layers pass to handlers, and response marks that handlers pass to layers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri};

use crate::auth::Principal;
use crate::http::error::{ApiError, ErrorCode, Problem};
use crate::http::layer::base_path::BasePath;
use crate::http::state::AppState;
use crate::service::consume::WaitingLimit;

/// Data of a request other than its parameters. Created for every request, and the only value the
/// gateway puts into the request's extensions: each value there is a separate allocation, and one
/// more value makes the map grow.
#[derive(Clone)]
pub struct RequestInfo(Arc<RequestFields>);

struct RequestFields {
    uri: Uri,
    /// Request id: visible ASCII.
    id: HeaderValue,
    /// Authenticated caller; `None` for a request that was refused.
    by: Option<Arc<Principal>>,
    /// Path prefix that the proxy in front has stripped.
    base: BasePath,
}

impl RequestInfo {
    /// Creates the data of a request. `id` must be visible ASCII.
    #[must_use]
    pub fn new(uri: &Uri, id: HeaderValue, by: Option<Arc<Principal>>, base: BasePath) -> Self {
        Self(Arc::new(RequestFields {
            uri: uri.clone(),
            id,
            by,
            base,
        }))
    }

    /// Returns the base path under which the client sees the gateway.
    #[must_use]
    pub fn base(&self) -> &BasePath {
        &self.0.base
    }

    /// Returns the authenticated caller, if known.
    #[must_use]
    pub fn by(&self) -> Option<&Arc<Principal>> {
        self.0.by.as_ref()
    }

    /// Checks that the caller's credential is still valid. For calls that take long.
    ///
    /// # Errors
    /// 401 `unauthenticated`.
    pub fn still_good(&self) -> Result<(), ApiError> {
        match self
            .by()
            .is_some_and(|principal| principal.validity.is_over())
        {
            true => Err(ApiError::new(
                ErrorCode::Unauthenticated,
                "the credential expired or was revoked during the call",
            )),
            false => Ok(()),
        }
    }

    /// Returns the requested path.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.uri.path()
    }

    /// Returns the request id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.id.to_str().unwrap_or_default()
    }

    /// Returns the request id as a header value.
    #[must_use]
    pub fn id_header(&self) -> &HeaderValue {
        &self.0.id
    }

    /// Returns the problem document of an error of this request.
    #[must_use]
    pub fn problem(&self, error: &ApiError) -> Problem {
        match self.0.base.as_str() {
            "" => error.problem(self.path(), self.id()),
            base => error.problem(&[base, self.path()].concat(), self.id()),
        }
    }
}

impl FromRequestParts<AppState> for RequestInfo {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &AppState) -> Result<Self, ApiError> {
        let info = parts.extensions.get::<Self>().cloned();
        info.ok_or_else(|| ApiError::new(ErrorCode::Internal, "the request has no request id"))
    }
}

/// Address of the client. The server sets it on each request.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// Mark on responses that waited on purpose: they are not logged as slow.
#[derive(Clone, Copy)]
pub struct Waited;

impl From<WaitingLimit> for ApiError {
    fn from(limit: WaitingLimit) -> Self {
        match limit {
            WaitingLimit::Share(exceeded) => exceeded.into(),
            WaitingLimit::OfGateway => {
                let detail = "too many reads are waiting; try again later";
                Self::new(ErrorCode::Overloaded, detail)
            }
        }
    }
}
