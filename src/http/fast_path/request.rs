//! Requests before and after they are parsed.

use std::net::IpAddr;

use axum::response::Response;
use httparse::Header;

use crate::http::fast_path::response::Success;
use crate::http::state::AppState;
use crate::model::name::{GroupName, StreamName};

/// A request that has arrived in one piece, with a well-formed head.
pub(crate) struct WholeRequest<'a> {
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) headers: &'a [Header<'a>],
    pub(crate) body: &'a [u8],
    /// The address of the client.
    pub(crate) client: IpAddr,
}

/// A request that is checked and parsed.
pub(super) trait FastRequest: Send + Sized + 'static {
    /// The route.
    const ROUTE: &'static str;
    /// The status of a success.
    const STATUS: u16;

    /// Returns the names in the path.
    fn names(&self) -> (StreamName, Option<GroupName>);

    /// Does what the handler of the route does. An error is a response without what the outermost
    /// layer adds.
    fn answer(self, state: &AppState) -> impl Future<Output = Result<Success, Response>> + Send;
}
