//! What the layers tell a handler of its request, and a handler the layers of its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, Uri};

use crate::auth::Principal;
use crate::http::error::{ApiError, ErrorCode, Problem};
use crate::http::layer::base_path::BasePath;
use crate::http::state::AppState;
use crate::metrics::{Held, Metrics};

/// What a handler may want to know of its request besides its parameters. Made for every request,
/// and the one thing that is put into its extensions: each thing there is a box of its own, and one
/// more makes the map grow.
#[derive(Clone)]
pub struct RequestInfo(Arc<Known>);

struct Known {
    uri: Uri,
    /// Visible ASCII.
    id: HeaderValue,
    /// `None` for a request that was refused.
    by: Option<Arc<Principal>>,
    /// The path that the proxy in front has stripped.
    base: BasePath,
}

impl RequestInfo {
    /// Of a request that goes by this id, which is visible ASCII.
    #[must_use]
    pub fn new(uri: &Uri, id: HeaderValue, by: Option<Arc<Principal>>, base: BasePath) -> Self {
        Self(Arc::new(Known {
            uri: uri.clone(),
            id,
            by,
            base,
        }))
    }

    /// The base path under which the client sees the gateway.
    #[must_use]
    pub fn base(&self) -> &BasePath {
        &self.0.base
    }

    /// Who asks, where that was found out.
    #[must_use]
    pub fn by(&self) -> Option<&Arc<Principal>> {
        self.0.by.as_ref()
    }

    /// For calls that take their time: who asks may still do so.
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
                "the credential has ended, or was taken back, while the call was under way",
            )),
            false => Ok(()),
        }
    }

    /// The path that was asked for.
    #[must_use]
    pub fn path(&self) -> &str {
        self.0.uri.path()
    }

    /// The request id.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.id.to_str().unwrap_or_default()
    }

    /// The request id, as a header has it.
    #[must_use]
    pub fn id_header(&self) -> &HeaderValue {
        &self.0.id
    }

    /// An error as this request is told it.
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
        info.ok_or_else(|| ApiError::new(ErrorCode::Internal, "a request without an id"))
    }
}

/// The address of the client of a request; set by the server on requests it passes on.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub IpAddr);

/// Set on answers that were waited for: they are not slow.
#[derive(Clone, Copy)]
pub struct Waited;

/// A place among the reads that wait, held as long as the answer is waited for; none is needed for
/// a read that does not.
///
/// # Errors
/// 503 `overloaded` when as many wait as may.
pub fn place_to_wait(state: &AppState, wait: Duration) -> Result<Option<Held>, ApiError> {
    if wait.is_zero() {
        return Ok(None);
    }
    let held = Metrics::hold_below(&state.metrics.waiting, state.settings.max_waiting);
    held.map(Some).ok_or_else(|| {
        state.metrics.refuse("waiting_reads");
        ApiError::new(ErrorCode::Overloaded, "as many reads wait as may")
    })
}
