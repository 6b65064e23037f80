//! The ways to answer a request.

use axum::Router;

use crate::http::FastPath;

/// The ways to answer a request.
#[derive(Clone)]
pub struct Routes {
    /// The router that answers requests.
    pub router: Router,
    /// The fast path for the most common requests, if the settings allow it.
    pub(crate) fast: Option<FastPath>,
}

impl From<Router> for Routes {
    /// Returns the routes without a fast path.
    fn from(router: Router) -> Self {
        Self { router, fast: None }
    }
}
