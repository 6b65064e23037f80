//! Acknowledgments.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};

use crate::auth::Principal;
use crate::http::extract::access::{Consume, GroupAccess};
use crate::http::fast_path::headers::MediaType;
use crate::http::fast_path::request::FastRequest;
use crate::http::fast_path::response::Success;
use crate::http::groups::ack::{AckCall, acknowledge};
use crate::http::groups::items::SettleBatch;
use crate::http::paths;
use crate::http::state::AppState;
use crate::model::name::{GroupName, StreamName};

/// An acknowledgment that is checked and parsed.
pub(super) struct FastAck {
    stream: StreamName,
    group: GroupName,
    batch: SettleBatch,
}

impl FastAck {
    pub(super) fn parse(
        principal: &Arc<Principal>,
        (stream, group): (&str, &str),
        (media_type, body): (MediaType, &[u8]),
    ) -> Option<Self> {
        let GroupAccess { access, group } =
            GroupAccess::<Consume>::of(principal.clone(), stream, group).ok()?;
        let call: AckCall = media_type.parse(body)?;
        if !call.publish.is_empty() {
            return None;
        }
        let stream = access.into_stream();
        let batch = SettleBatch::of_one(&stream, &group, &call.ids, &call.receipts).ok()?;
        Some(Self {
            stream,
            group,
            batch,
        })
    }
}

impl FastRequest for FastAck {
    const ROUTE: &'static str = paths::GROUP_ACK;
    const STATUS: u16 = 200;

    fn names(&self) -> (StreamName, Option<GroupName>) {
        (self.stream.clone(), Some(self.group.clone()))
    }

    async fn answer(self, state: &AppState) -> Result<Success, Response> {
        let settled = acknowledge(state, &self.group, self.batch, None).await;
        let settled = settled.map_err(IntoResponse::into_response)?;
        Ok(Success::ok(&settled, false))
    }
}
