//! `POST /v1/streams/{stream}/groups/{group}/read`: reads entries as a consumer of a group.

use std::slice;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::error::ApiError;
use crate::http::error::problems::ReadProblems;
use crate::http::extract::access::{Consume, GroupAccess, consumer};
use crate::http::extract::names::NameParam;
use crate::http::extract::params::{DurationParam, at_most_one, bounded, bounded_wait, lease};
use crate::http::extract::{JsonOrForm, NoParams, Query, id};
use crate::http::groups::first_use::{GroupToCreate, PolicyParam};
use crate::http::groups::items::show_receipt;
use crate::http::groups::policy::PolicyCall;
use crate::http::layer::request::Waited;
use crate::http::openapi::text::{
    ConsumerNameText, GroupNameText, GroupStartText, LeaseText, ShortIdText, StreamNameText,
    WaitText,
};
use crate::http::paths;
use crate::http::respond::json::Json;
use crate::http::respond::schema::{CloudEvent, DeliverySchema};
use crate::http::respond::view;
use crate::http::state::AppState;
use crate::model::cloudevent_out::{EventJson, ExtraAttribute};
use crate::model::entry::{AsEvent, View};
use crate::model::entry_json::serialize_view;
use crate::model::id::EntryId;
use crate::model::name::{GroupName, StreamName};
use crate::model::receipt::Receipt;
use crate::model::time::show_rfc3339;
use crate::redis::{ConsumerRead, Delivery, FirstUse, GroupRead};
use crate::service::consume::ConsumeError;

const DEFAULT_COUNT: u64 = 10;
pub(in crate::http) const MAX_COUNT: u64 = 1000;
const MAX_BYTES: u64 = 16 << 20;

/// Parameters of a read as a consumer.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadCall {
    /// Consumer that reads. It is created on first use. A name that is not UTF-8 is the text
    /// `{"base64":"…"}`.
    #[schema(required, value_type = ConsumerNameText, inline)]
    pub(in crate::http) consumer: Option<NameParam>,
    /// Maximum number of entries: 1 to 1000, default 10.
    #[schema(minimum = 1, maximum = 1000)]
    pub(in crate::http) count: Option<u64>,
    /// Maximum bytes of names and values to deliver: 16 MiB by default and at most. At least one
    /// entry is delivered, even if it is larger. Entries beyond the limit are left for the next
    /// read.
    #[schema(minimum = 1, maximum = 16_777_216)]
    pub(in crate::http) max_bytes: Option<u64>,
    /// Time to wait for an entry if there is none, at most 60s.
    #[schema(value_type = Option<WaitText>, inline)]
    pub(in crate::http) wait: Option<DurationParam>,
    /// Delivers entries without adding them to the pending entries.
    pub(in crate::http) no_ack: Option<bool>,
    /// Returns the consumer's pending entries after this id (`0` for all) instead of new entries.
    #[schema(value_type = Option<ShortIdText>, inline)]
    pub(in crate::http) history: Option<String>,
    /// Lease of the entries, 100ms to 12h, instead of the lease of the policy. Refused for a group
    /// without a policy.
    #[schema(value_type = Option<LeaseText>, inline)]
    pub(in crate::http) lease: Option<DurationParam>,
    /// Returns each entry with the value of this field as `payload`, instead of its fields.
    pub(in crate::http) payload: Option<String>,
    /// Returns the payload as JSON. The payload is the field `data` unless `payload` names another.
    /// A payload that is not valid JSON stays text and is marked with `"json":false`.
    pub(in crate::http) json: Option<bool>,
    /// Creates the group, and its stream, if they do not exist. Requires the right `manage`. An
    /// existing group stays unchanged. A waiting read creates the group again if it is lost.
    pub(in crate::http) create: Option<bool>,
    /// With `create`: the position after which a new group reads. `0` (the default) for all
    /// retained entries, `$` for new entries only, or a position.
    #[schema(value_type = Option<GroupStartText>, inline)]
    pub(in crate::http) start: Option<String>,
    /// With `create`: the policy of a new group. If absent, a new group is plain. In a form, the
    /// policy is JSON text.
    #[schema(value_type = Option<PolicyCall>)]
    pub(in crate::http) policy: Option<PolicyParam>,
}

/// Entry delivered to a consumer.
pub struct DeliveryOut {
    entry: Delivery,
    /// Whether the caller asked only for the id.
    just_id: bool,
    receipt: Option<String>,
    view: Arc<View>,
}

impl Serialize for DeliveryOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &format_args!("{}", self.entry.id))?;
        match &self.entry.fields {
            Some(fields) => serialize_view(&mut map, fields, &self.view)?,
            None if self.just_id => {}
            None => map.serialize_entry("fields", &None::<()>)?,
        }
        if let Some(lease) = &self.entry.lease {
            map.serialize_entry("deliveries", &lease.deliveries)?;
            map.serialize_entry("receipt", &self.receipt)?;
            let until = lease.until_us.map(|until_us| show_rfc3339(until_us / 1000));
            map.serialize_entry("lease_until", &until)?;
        }
        map.end()
    }
}

impl DeliveryOut {
    /// Returns the `CloudEvents` extension attributes of a delivery.
    fn extensions(&self, stream: Option<&str>) -> Vec<ExtraAttribute> {
        let mut all = vec![ExtraAttribute::Text(
            "streamgateentry",
            self.entry.id.to_string(),
        )];
        all.extend(stream.map(|name| ExtraAttribute::Text("streamgatestream", name.to_owned())));
        if let Some(lease) = &self.entry.lease {
            let deliveries = i32::try_from(lease.deliveries).unwrap_or(i32::MAX);
            all.push(ExtraAttribute::Number("streamgatedeliveries", deliveries));
            let until = lease.until_us.map(|until_us| show_rfc3339(until_us / 1000));
            all.extend(until.map(|until| ExtraAttribute::Text("streamgateleaseuntil", until)));
        }
        let receipt = self.receipt.clone();
        all.extend(receipt.map(|receipt| ExtraAttribute::Text("streamgatereceipt", receipt)));
        all
    }
}

/// A delivery as an event. `many` is true in responses with deliveries of several streams.
pub(in crate::http) struct DeliveryEvent<'a> {
    pub(in crate::http) stream: &'a str,
    pub(in crate::http) delivery: &'a DeliveryOut,
    pub(in crate::http) many: bool,
}

impl Serialize for DeliveryEvent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entry = &self.delivery.entry;
        let extensions = &self.delivery.extensions(self.many.then_some(self.stream));
        let (stream, fields) = (self.stream, entry.fields.as_ref());
        EventJson {
            stream,
            id: entry.id,
            fields,
            extensions,
        }
        .serialize(serializer)
    }
}

impl PartialSchema for DeliveryOut {
    fn schema() -> RefOr<Schema> {
        DeliverySchema::schema()
    }
}

impl ToSchema for DeliveryOut {
    fn name() -> std::borrow::Cow<'static, str> {
        "Delivery".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        DeliverySchema::schemas(schemas);
    }
}

/// Entries delivered to a consumer.
#[derive(Serialize, ToSchema)]
pub struct Deliveries {
    /// Entries by ascending id; empty if there were none within the wait. With `history`, `fields`
    /// is null for a pending entry that is no longer in the stream.
    entries: Vec<DeliveryOut>,
}

impl Deliveries {
    /// Creates the response for delivered entries, or for their ids alone. `many` is true in calls
    /// on several streams.
    #[must_use]
    pub fn new(
        of: (&StreamName, &GroupName),
        entries: Vec<Delivery>,
        just_id: bool,
        many: bool,
    ) -> Self {
        let view = Arc::default();
        Self::viewed(of, entries, &view, (just_id, many))
    }

    /// Creates the response for delivered entries with a view.
    #[must_use]
    pub(in crate::http) fn viewed(
        of: (&StreamName, &GroupName),
        entries: Vec<Delivery>,
        view: &Arc<View>,
        (just_id, many): (bool, bool),
    ) -> Self {
        let show = |entry: Delivery| {
            let until_us = entry.lease.and_then(|lease| lease.until_us);
            let receipt = until_us.map(|until_us| Receipt {
                id: entry.id,
                until_us,
            });
            let receipt = receipt.map(|receipt| show_receipt(of, receipt, many));
            DeliveryOut {
                entry,
                just_id,
                receipt,
                view: view.clone(),
            }
        };
        Self {
            entries: entries.into_iter().map(show).collect(),
        }
    }

    /// Returns the deliveries, for use in another response.
    #[must_use]
    pub fn into_entries(self) -> Vec<DeliveryOut> {
        self.entries
    }
}

/// Read as a consumer
///
/// Returns entries that no consumer of the group has read, and keeps them pending until they are
/// acknowledged. A waiting read holds no connection to Redis.
///
/// In a group with a policy, each entry has a lease, and a receipt to settle it with. An entry
/// whose lease expires is delivered again. Up to half of `count` goes to due entries before new
/// ones. With `Accept: application/cloudevents-batch+json`, the response is a list of events, with
/// the receipt as the extension `streamgatereceipt`.
#[utoipa::path(
    post,
    path = paths::GROUP_READ,
    tag = "work",
    params(
        ("stream" = inline(StreamNameText), Path, description = "The stream"),
        ("group" = inline(GroupNameText), Path, description = "The group"),
    ),
    request_body(content((ReadCall = "application/json"), (ReadCall = "application/x-www-form-urlencoded"))),
    responses(
        (status = 200, description = "Delivered entries", content(
            (Deliveries = "application/json"),
            (Vec<CloudEvent> = "application/cloudevents-batch+json"),
        )),
        ReadProblems,
    ),
)]
pub async fn read_as_consumer(
    access: GroupAccess<Consume>,
    Query(NoParams {}): Query<NoParams>,
    State(state): State<AppState>,
    headers: HeaderMap,
    JsonOrForm(call): JsonOrForm<ReadCall>,
) -> Result<(Option<Extension<Waited>>, Response), ApiError> {
    let view = Arc::new(view_of(&call, &headers)?);
    let (mut work, wait) = plan(&call)?;
    let (stream, group) = (access.stream(), &access.group);
    if let Some(new) = group_to_create(call)? {
        work.first_use = FirstUse::of(vec![new.of(&access.access)?]);
    }
    let read = state.read_groups(slice::from_ref(stream), group, &work, wait);
    let entries = read.await?.pop().transpose()?.unwrap_or_default();
    let waited = (!wait.is_zero()).then_some(Extension(Waited));
    let shown = Deliveries::viewed((stream, group), entries, &view, (false, false));
    if view.event.is_none() {
        return Ok((waited, Json(shown).into_response()));
    }
    let name = stream.public_name();
    let event = |delivery| DeliveryEvent {
        stream: &name,
        delivery,
        many: false,
    };
    let events: Vec<_> = shown.entries.iter().map(event).collect();
    Ok((waited, view::respond(view::EVENTS, &events)))
}

impl From<ConsumeError> for ApiError {
    fn from(error: ConsumeError) -> Self {
        match error {
            ConsumeError::NotAdmitted { error, .. } => error.into(),
            ConsumeError::Waiting(error) => error.into(),
            ConsumeError::GroupMissing { error, .. } => error.into(),
            ConsumeError::Join(error) => error.into(),
        }
    }
}

/// Returns the view of deliveries that a call requests.
///
/// # Errors
/// 400 for mutually exclusive parameters.
pub(in crate::http) fn view_of(call: &ReadCall, headers: &HeaderMap) -> Result<View, ApiError> {
    let event = view::wants_events(headers).then_some(AsEvent::Alone);
    view::view(
        call.payload.as_deref(),
        call.json == Some(true),
        false,
        event,
    )
}

/// Returns the read that a call requests, and its wait.
///
/// # Errors
/// 400 that points to the missing or invalid parameter.
pub(in crate::http) fn plan(call: &ReadCall) -> Result<(ConsumerRead, Duration), ApiError> {
    let name = call
        .consumer
        .as_ref()
        .map(NameParam::as_str)
        .ok_or_else(|| {
            ApiError::invalid("`consumer` is required to read").at("/consumer", "is missing")
        })?;
    let history = match &call.history {
        Some(text) => Some(id("/history", text, |text| EntryId::parse_with(text, 0))?),
        None => None,
    };
    let wait = bounded_wait("/wait", call.wait.unwrap_or_default())?;
    if history.is_some() && !wait.is_zero() {
        return Err(ApiError::invalid(
            "a `history` read has nothing to wait for; leave out `wait`",
        )
        .at("/wait", "given with `history`"));
    }
    let given = [
        ("/history", history.is_some()),
        ("/no_ack", call.no_ack == Some(true)),
        ("/lease", call.lease.is_some()),
    ];
    if call.lease.is_some() {
        at_most_one(&given)?;
    }
    let read = GroupRead {
        consumer: consumer("/consumer", name)?,
        count: bounded("/count", call.count, DEFAULT_COUNT, MAX_COUNT)?,
        no_ack: call.no_ack.unwrap_or(false),
        history,
    };
    let max_bytes = call
        .max_bytes
        .map(|bytes| bounded("/max_bytes", Some(bytes), 0, MAX_BYTES));
    let (lease, max_bytes) = (lease("/lease", call.lease)?, max_bytes.transpose()?);
    Ok((
        ConsumerRead {
            read,
            lease,
            max_bytes,
            first_use: FirstUse::default(),
        },
        wait,
    ))
}

/// Returns the group that a call creates if it does not exist.
///
/// # Errors
/// 400 that points to the invalid parameter.
pub(in crate::http) fn group_to_create(call: ReadCall) -> Result<Option<GroupToCreate>, ApiError> {
    GroupToCreate::parse("/", call.create, call.start.as_deref(), call.policy)
}
