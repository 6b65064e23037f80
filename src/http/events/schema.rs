//! Schemas of `text/event-stream` events: the `data` of each event by its name.

use utoipa::ToSchema;

use crate::http::error::Problem;
use crate::http::respond::schema::{DeliverySchema, EntrySchema};

/// The `data` of a subscription event. The event name determines the type. An entry has no event
/// name unless the `event` parameter gives one.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum StreamEvent {
    /// An entry.
    Entry(EntryEvent),
    /// `$open`.
    Open(OpenEvent),
    /// `$gap`.
    Gap(GapEvent),
    /// `$reset`.
    Reset(ResetEvent),
    /// `$progress`.
    Progress(ProgressEvent),
    /// `$end`.
    End(EndEvent),
    /// `$error`.
    Error(Problem),
}

/// The `data` of a push session event. The event name determines the type. A delivery has no event
/// name.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum PushEvent {
    /// An entry with its receipt.
    Delivery(DeliverySchema),
    /// `$open`.
    Open(PushOpenEvent),
    /// `$end`.
    End(EndEvent),
    /// `$error`.
    Error(Problem),
}

/// An entry of a followed stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct EntryEvent {
    /// The stream of the entry.
    stream: String,
    /// The entry.
    #[serde(flatten)]
    entry: EntrySchema,
}

/// The data of `$open`, the first event of a subscription.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct OpenEvent {
    /// The followed streams.
    streams: Vec<String>,
    /// The position before the first entry, also the `id` of the event.
    cursor: String,
}

/// The data of `$gap`: entries were removed before the client received them.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct GapEvent {
    /// The stream.
    stream: String,
    /// The position of the client.
    after: String,
    /// The oldest remaining entry; null if the stream is empty.
    #[schema(required)]
    oldest: Option<String>,
    /// The number of removed entries; null if unknown.
    #[schema(required)]
    lost: Option<u64>,
}

/// The data of `$reset`: the stream was deleted and created again, or restored to an earlier state.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct ResetEvent {
    /// The stream.
    stream: String,
}

/// The data of `$progress`: the position moved without an event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct ProgressEvent {
    /// The new position, also the `id` of the event.
    cursor: String,
}

/// The data of `$end`: the gateway closes the stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct EndEvent {
    /// The reason, such as `draining`, `redis-unavailable`, `overloaded`, `session-age` or `expired`.
    #[schema(example = "draining")]
    reason: String,
}

/// The data of `$open`, the first event of a push session.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct PushOpenEvent {
    /// The stream of the session, as a list with one element.
    streams: Vec<String>,
    /// The group.
    group: String,
}
