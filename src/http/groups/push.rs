//! `GET /v1/streams/{stream}/groups/{group}/events`: pushes entries of a group to a consumer.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::http::error::ApiError;
use crate::http::error::problems::PushProblems;
use crate::http::events::schema::PushEvent;
use crate::http::events::session::PushEvents;
use crate::http::events::stream::{EVENT_STREAM, closed, is_wanted, live, require_acceptable};
use crate::http::extract::Query;
use crate::http::extract::access::{Consume, GroupAccess, consumer};
use crate::http::extract::names::NameParam;
use crate::http::extract::params::{DurationParam, bounded, lease};
use crate::http::groups::first_use::{GroupToCreate, PolicyParam};
use crate::http::groups::read::{Deliveries, DeliveryEvent, MAX_COUNT};
use crate::http::layer::request::RequestInfo;
use crate::http::openapi::text::{
    ConsumerNameText, GroupNameText, GroupStartText, LeaseText, StreamNameText, WaitText,
};
use crate::http::paths;
use crate::http::respond::view::{ViewParam, view};
use crate::http::state::AppState;
use crate::live::{EndReason, Push, PushPlan, Pushed};
use crate::model::entry::{AsEvent, View};
use crate::model::frame::write_event;
use crate::model::name::{GroupName, StreamName};
use crate::redis::{ConsumerRead, Delivery, FirstUse, GroupRead};
use crate::service::consume::PushError;
use crate::shares;

/// Maximum time a closed session keeps its leases.
const MAX_GRACE: Duration = Duration::from_secs(60);

/// Consumer and limits of a push session.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PushParams {
    /// Consumer that reads. It is created on first use.
    #[param(required, value_type = ConsumerNameText, example = "w1", inline)]
    consumer: Option<NameParam>,
    /// Maximum number of entries leased at the same time: 1 to 1000, default 10.
    #[param(minimum = 1, maximum = 1000)]
    prefetch: Option<u64>,
    /// Time after the connection ends until entries without an outcome return to the group, at most
    /// 60s. By default they return at once.
    #[param(value_type = Option<WaitText>, example = "2s", inline)]
    grace: Option<DurationParam>,
    /// Number of entries the worker processes at the same time: 1 to 1000, default 1. When the
    /// connection breaks, this many of the oldest entries without an outcome count as delivered, if
    /// they were sent at least 1s before.
    #[param(minimum = 1, maximum = 1000)]
    concurrency: Option<u64>,
    /// Lease of the entries, 100ms to 12h, instead of the lease of the policy.
    #[param(value_type = Option<LeaseText>, example = "30s", inline)]
    lease: Option<DurationParam>,
    /// Returns each entry with the value of this field as `payload`, instead of its fields.
    payload: Option<String>,
    /// Returns the payload as JSON. The payload is the field `data` unless `payload` names another.
    /// A payload that is not valid JSON stays text and is marked with `"json":false`.
    #[serde(default)]
    #[param(required = false)]
    json: bool,
    /// `cloudevents` returns each entry as a `CloudEvents` 1.0 event in JSON, with its receipt as
    /// the extension `streamgatereceipt`.
    #[serde(rename = "as")]
    #[param(rename = "as", inline)]
    shown_as: Option<ViewParam>,
    /// Creates the group, and its stream, if they do not exist. Requires the right `manage`. An
    /// existing group stays unchanged. The session creates the group again if it is lost.
    create: Option<bool>,
    /// With `create`: the position after which a new group reads. `0` (the default) for all
    /// retained entries, `$` for new entries only, or a position.
    #[param(value_type = Option<GroupStartText>, inline)]
    start: Option<String>,
    /// With `create`: the policy of a new group, as JSON text. If absent, a new group has the
    /// default policy.
    #[param(value_type = Option<String>, example = "{\"max_deliveries\":5}")]
    policy: Option<PolicyParam>,
}

/// Receive entries by push
///
/// Sends server-sent events: first `$open`, then one event per entry, as `read` returns it, while
/// fewer than `prefetch` entries are leased. Acknowledge, nack or reject entries with POST requests
/// to any gateway; each settled entry makes room for the next. `Last-Event-ID` is ignored. When the
/// connection ends, entries without an outcome are delivered again and do not count as delivered,
/// except for the oldest `concurrency` entries. The event `$end` means that the gateway closes the
/// stream, `$error` that reconnecting cannot succeed.
#[utoipa::path(
    get,
    path = paths::GROUP_EVENTS,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group. It must have a policy"),
        PushParams,
    ),
    responses(
        (status = 200, description = "Events", body = PushEvent, content_type = EVENT_STREAM),
        PushProblems,
    ),
)]
pub async fn push_entries(
    access: GroupAccess<Consume>,
    Query(params): Query<PushParams>,
    State(state): State<AppState>,
    request: RequestInfo,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    require_acceptable(&headers)?;
    let mut plan = plan(&access, &params, state.limits.heartbeat)?;
    let event = params.shown_as.map(|ViewParam::CloudEvents| AsEvent::Alone);
    let view = Arc::new(view(params.payload.as_deref(), params.json, false, event)?);
    let new = GroupToCreate::parse("", params.create, params.start.as_deref(), params.policy)?;
    if let Some(new) = new {
        plan.work.first_use = FirstUse::of(vec![new.with_policy().of(&access.access)?]);
    }
    let of = (plan.stream.clone(), plan.group.clone());
    let push = match state.push(access.access.principal(), plan).await {
        Ok(push) => push,
        Err(error) => {
            let closing = end_reason(&error);
            return match closing.filter(|_| is_wanted(&headers, EVENT_STREAM)) {
                Some(closing) => Ok(closed(closing)),
                None => Err(error.into()),
            };
        }
    };
    let events = PushResponse { of, push, view }.into_events();
    Ok(live(events, &request))
}

/// Returns the event that closes a session which a retry may open, or `None` if no retry can.
fn end_reason(error: &PushError) -> Option<EndReason> {
    match error {
        PushError::Store(error) => error.is_passing().then_some(EndReason::RedisUnavailable),
        PushError::NotAdmitted(_) | PushError::Limit(_) => Some(EndReason::Overloaded),
    }
}

impl From<PushError> for ApiError {
    fn from(error: PushError) -> Self {
        match error {
            PushError::Store(error) => Self::of_read(error),
            PushError::NotAdmitted(error) => error.into(),
            PushError::Limit(limit) => limit.into(),
        }
    }
}

fn plan(
    access: &GroupAccess<Consume>,
    params: &PushParams,
    heartbeat: Duration,
) -> Result<PushPlan, ApiError> {
    let name = params
        .consumer
        .as_ref()
        .map(NameParam::as_str)
        .ok_or_else(|| {
            ApiError::invalid("`consumer` is required: name the consumer that reads")
                .at("consumer", "is missing")
        })?;
    let DurationParam(grace) = params.grace.unwrap_or_default();
    if grace > MAX_GRACE {
        return Err(
            ApiError::invalid("`grace` must be at most 60s").at("grace", "must be at most 60s")
        );
    }
    let concurrency = bounded("concurrency", params.concurrency, 1, MAX_COUNT)?;
    let read = GroupRead {
        consumer: consumer("consumer", name)?,
        count: bounded("prefetch", params.prefetch, 10, MAX_COUNT)?,
        no_ack: false,
        history: None,
    };
    let work = ConsumerRead {
        read,
        lease: lease("lease", params.lease)?,
        max_bytes: None,
        first_use: FirstUse::default(),
    };
    let (stream, group) = (access.stream().clone(), access.group.clone());
    let validity = access.access.principal().validity.clone();
    Ok(PushPlan {
        stream,
        group,
        work,
        grace,
        concurrency,
        heartbeat,
        validity,
    })
}

/// A push session with the view of its entries.
struct PushResponse {
    of: (StreamName, GroupName),
    push: Push,
    view: Arc<View>,
}

impl PushResponse {
    /// Returns the session's frames.
    fn into_events(self) -> PushEvents {
        let events = stream::unfold(self, async |mut session| {
            let frame = match session.push.next().await? {
                Ok(Pushed::Entries(entries)) => Ok(session.frames(entries)),
                Ok(Pushed::Control(frame)) => Ok(frame),
                Err(error) => Err(error),
            };
            Some((frame, session))
        });
        Box::pin(shares::inherit_stream(Box::pin(events)))
    }

    /// Returns an event for each entry.
    fn frames(&self, entries: Vec<Delivery>) -> Bytes {
        let (stream, group) = &self.of;
        let shown = Deliveries::viewed((stream, group), entries, &self.view, (false, false));
        let name = stream.public_name();
        let mut out = Vec::new();
        for delivery in &shown.into_entries() {
            let event = DeliveryEvent {
                stream: &name,
                delivery,
                many: false,
            };
            match self.view.event {
                Some(_) => write_event(&mut out, None, None, &event),
                None => write_event(&mut out, None, None, delivery),
            }
        }
        out.into()
    }
}
