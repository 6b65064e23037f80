//! Appends of one entry.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};

use crate::auth::Principal;
use crate::http::entries::append::answer::AppendAnswer;
use crate::http::entries::append::body;
use crate::http::entries::append::errors::{alone, publish_error};
use crate::http::entries::append::params::AppendParams;
use crate::http::entries::append::plan::AppendPlan;
use crate::http::extract::access::{Access, Publish};
use crate::http::fast_path::headers::MediaType;
use crate::http::fast_path::request::FastRequest;
use crate::http::fast_path::response::{CreatedEntry, Success};
use crate::http::paths;
use crate::http::state::AppState;
use crate::model::frame::write_line;
use crate::model::name::{GroupName, StreamName};
use crate::model::sent::Sent;
use crate::redis::NewEntry;
use crate::service::publish::{PublishOptions, Publisher};

/// An append that is checked and parsed.
pub(super) struct FastAppend {
    stream: StreamName,
    entries: Vec<NewEntry>,
    options: PublishOptions,
}

impl FastAppend {
    pub(super) fn parse(
        state: &AppState,
        principal: &Arc<Principal>,
        (stream, maxlen): (&str, Option<u64>),
        (media_type, body): (MediaType, &[u8]),
    ) -> Option<Self> {
        let access = Access::<Publish>::of(principal.clone(), stream).ok()?;
        let params = AppendParams::with_maxlen(maxlen);
        let plan = AppendPlan::new(state, &access, &params, &HeaderMap::new()).ok()?;
        let most = state.limits.max_fields;
        let sent = match media_type {
            MediaType::Form => body::form(body, most),
            MediaType::Json => body::entry_or_batch(body, most),
        };
        let Ok(Sent::One(entry)) = sent else {
            return None;
        };
        if entry.key.is_some() {
            return None;
        }
        Some(Self {
            entries: plan.entries.entries(vec![entry], alone).ok()?,
            stream: access.into_stream(),
            options: plan.options,
        })
    }
}

impl FastRequest for FastAppend {
    const ROUTE: &'static str = paths::ENTRIES;
    const STATUS: u16 = 201;

    fn names(&self) -> (StreamName, Option<GroupName>) {
        (self.stream.clone(), None)
    }

    async fn answer(self, state: &AppState) -> Result<Success, Response> {
        let Self {
            stream,
            entries,
            options,
        } = self;
        let published = async {
            let mut publisher =
                Publisher::new(state.services.clone(), stream.clone(), options).await?;
            publisher.append_all(entries).await
        };
        let published = published.await;
        let published = published.map_err(|error| publish_error(error, alone).into_response())?;
        let id = published.last().to_string();
        let mut body = Vec::with_capacity(128);
        write_line(&mut body, &AppendAnswer::one(&stream, id.clone(), None));
        let location = paths::entry(&stream, &id);
        Ok(Success {
            created: Some(CreatedEntry { location, id }),
            body,
            has_waited: false,
        })
    }
}
