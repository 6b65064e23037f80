//! Reads of a group, which may wait.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};

use crate::auth::Principal;
use crate::http::error::ApiError;
use crate::http::extract::access::{Consume, GroupAccess};
use crate::http::fast_path::headers::MediaType;
use crate::http::fast_path::request::FastRequest;
use crate::http::fast_path::response::Success;
use crate::http::groups::read::{Deliveries, ReadCall, group_to_create, plan, view_of};
use crate::http::paths;
use crate::http::state::AppState;
use crate::model::entry::View;
use crate::model::name::{GroupName, StreamName};
use crate::redis::ConsumerRead;

/// A read that is checked and parsed.
pub(super) struct FastRead {
    stream: StreamName,
    group: GroupName,
    read: ConsumerRead,
    wait: Duration,
    view: Arc<View>,
}

impl FastRead {
    pub(super) fn parse(
        principal: &Arc<Principal>,
        (stream, group): (&str, &str),
        (media_type, body): (MediaType, &[u8]),
    ) -> Option<Self> {
        let GroupAccess { access, group } =
            GroupAccess::<Consume>::of(principal.clone(), stream, group).ok()?;
        let call: ReadCall = media_type.parse(body)?;
        let view = Arc::new(view_of(&call, &HeaderMap::new()).ok()?);
        let (read, wait) = plan(&call).ok()?;
        if group_to_create(call).ok()?.is_some() {
            return None;
        }
        let stream = access.into_stream();
        Some(Self {
            stream,
            group,
            read,
            wait,
            view,
        })
    }
}

impl FastRequest for FastRead {
    const ROUTE: &'static str = paths::GROUP_READ;
    const STATUS: u16 = 200;

    fn names(&self) -> (StreamName, Option<GroupName>) {
        (self.stream.clone(), Some(self.group.clone()))
    }

    async fn answer(self, state: &AppState) -> Result<Success, Response> {
        let (streams, group) = (slice::from_ref(&self.stream), &self.group);
        let read = state.read_groups(streams, group, &self.read, self.wait);
        let refused = |error: ApiError| error.into_response();
        let mut read = read.await.map_err(|error| refused(error.into()))?;
        let entries = read.pop().transpose();
        let entries = entries.map_err(|error| refused(error.into()))?;
        let of = (&self.stream, group);
        let shown = Deliveries::viewed(of, entries.unwrap_or_default(), &self.view, (false, false));
        Ok(Success::ok(&shown, !self.wait.is_zero()))
    }
}
