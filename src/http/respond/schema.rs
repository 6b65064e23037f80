//! Schemas of JSON that is not read or written by serde's derive: entries, above all.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::http::extract::names::NameSchema;
use serde::{Serialize, Serializer};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::model::entry::{Entry, View};
use crate::model::entry_json::EntryJson;

/// Bytes: text where they are UTF-8, base64 where not.
#[derive(ToSchema)]
#[schema(as = Value)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum ValueSchema {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Binary(BinarySchema),
}

/// Bytes that are not UTF-8.
#[derive(ToSchema)]
#[schema(as = Binary)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct BinarySchema {
    /// Standard alphabet, padded.
    base64: String,
}

/// A value on its way in: numbers and booleans are stored as the text they came with.
#[derive(ToSchema)]
#[schema(as = NewValue)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum NewValueSchema {
    /// Stored as it is.
    Text(String),
    /// Stored as it was written.
    Number(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// Bytes.
    Binary(BinarySchema),
}

/// An entry to append: `fields` or, where names repeat or are not UTF-8, `pairs`.
#[derive(ToSchema)]
#[schema(example = json!({"fields": {"user": "alice", "total": 9.5}}))]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct NewEntry {
    /// In the order they are to be stored.
    #[schema(inline = false)]
    fields: Option<BTreeMap<String, NewValueSchema>>,
    /// `[name, value]`, in the order they are to be stored.
    pairs: Option<Vec<Vec<NewValueSchema>>>,
    /// `*`, `ms-*` or a full id.
    id: Option<String>,
    /// An idempotency key of this entry's own.
    key: Option<String>,
    /// Where it was read from, in a line of NDJSON that is sent back. Ignored.
    position: Option<String>,
}

/// One entry, or many.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum NewEntries {
    /// One.
    One(NewEntry),
    /// A batch, of which all or nothing is appended.
    Many(NewBatch),
}

/// A batch of entries.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct NewBatch {
    /// In order, at most 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    entries: Vec<NewEntry>,
}

/// Any bytes.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct OctetStream(Vec<u8>);

/// An event after `CloudEvents` 1.0.
#[derive(ToSchema)]
#[schema(example = json!({"specversion": "1.0", "id": "4711", "source": "/shop", "type": "com.example.order.paid", "data": {"total": 9.5}}))]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct CloudEvent {
    /// The version of the specification.
    #[schema(pattern = "^1\\.0$")]
    specversion: String,
    /// Together with `source`, which event this is.
    #[schema(min_length = 1)]
    id: String,
    /// Where it happened: a URI reference.
    #[schema(min_length = 1)]
    source: String,
    /// What kind of thing happened.
    #[schema(min_length = 1)]
    r#type: String,
    /// The media type of the data; JSON unless told.
    #[schema(example = "application/json")]
    datacontenttype: Option<String>,
    /// Where the schema of the data is told.
    #[schema(min_length = 1)]
    dataschema: Option<String>,
    /// What it happened to.
    #[schema(min_length = 1)]
    subject: Option<String>,
    /// When it happened, after RFC 3339.
    #[schema(format = "date-time")]
    time: Option<String>,
    /// Any JSON; a string where `datacontenttype` is not JSON.
    data: Option<serde_json::Value>,
    /// Data that is no text, instead of `data`.
    data_base64: Option<String>,
    /// Extensions, under names of lower-case letters and digits.
    #[serde(flatten)]
    extensions: BTreeMap<String, ExtensionValue>,
}

/// The value of an extension.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum ExtensionValue {
    /// Stored as it is.
    Text(String),
    /// Of 32 bits.
    Number(i32),
    /// `true` or `false`.
    Boolean(bool),
}

/// An entry: `fields`, or `pairs` where an object cannot hold them, or the `payload` asked for.
#[derive(ToSchema)]
#[schema(as = Entry, example = json!({"id": "1795232709004-0", "fields": {"user": "alice", "total": "9.50"}}))]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct EntrySchema {
    /// Its id.
    id: String,
    /// In NDJSON: the position to go on after it.
    position: Option<String>,
    /// In stored order; null for an entry that is pending but gone from the stream.
    fields: Option<BTreeMap<String, ValueSchema>>,
    /// `[name, value]`, in stored order.
    pairs: Option<Vec<Vec<ValueSchema>>>,
    /// With `payload=`: the value of that field, null if the entry has none; with `json=true` any JSON.
    payload: Option<serde_json::Value>,
    /// With `json=true`: false where the payload is no JSON and stands here as without it.
    json: Option<bool>,
}

/// An entry handed to a consumer.
#[derive(ToSchema)]
#[schema(as = Delivery, example = json!({"id": "1795232709004-0", "fields": {"user": "alice", "total": "9.50"}, "deliveries": 1, "receipt": "AAABofzMQMw", "lease_until": "2026-11-21T14:30:00.250Z"}))]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct DeliverySchema {
    /// Its id.
    id: String,
    /// In stored order; null for an entry that is pending but gone from the stream.
    fields: Option<BTreeMap<String, ValueSchema>>,
    /// `[name, value]`, in stored order.
    pairs: Option<Vec<Vec<ValueSchema>>>,
    /// With `payload`: the value of that field, null if the entry has none; with `json` any JSON.
    payload: Option<serde_json::Value>,
    /// With `json`: false where the payload is no JSON and stands here as without it.
    json: Option<bool>,
    /// In a group with a policy: how often it was delivered, this time with it.
    deliveries: Option<u64>,
    /// In a group with a policy: what proves that it is still lent to who has this.
    receipt: Option<String>,
    /// In a group with a policy: when the lease ends, by the clock of Redis.
    lease_until: Option<String>,
}

/// An entry that nobody could work off.
#[derive(ToSchema)]
#[schema(as = DeadLetter)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct DeadLetterSchema {
    /// Its id among the dead letters.
    id: String,
    /// The fields of the original, in order; null if that was gone by then.
    fields: Option<BTreeMap<String, ValueSchema>>,
    /// `[name, value]`, in order, where an object cannot hold them.
    pairs: Option<Vec<Vec<ValueSchema>>>,
    /// The id of the original.
    entry: String,
    /// Who held it last; null if it had been handed back.
    #[schema(required)]
    consumer: Option<NameSchema>,
    /// How often it was delivered.
    deliveries: u64,
    /// Why it is here: `max-deliveries`, `rejected`, `gone` (it was pending, and removed from the
    /// stream), or what a worker said.
    reason: String,
    /// When it came here.
    time: String,
}

/// An entry as one reader sees it.
pub struct EntryOut {
    /// The entry.
    pub entry: Entry,
    /// What of it.
    pub view: Arc<View>,
}

impl Serialize for EntryOut {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (entry, view) = (&self.entry, &self.view);
        EntryJson {
            stream: None,
            position: None,
            entry,
            view,
        }
        .serialize(serializer)
    }
}

impl PartialSchema for EntryOut {
    fn schema() -> RefOr<Schema> {
        EntrySchema::schema()
    }
}

impl ToSchema for EntryOut {
    fn name() -> std::borrow::Cow<'static, str> {
        "Entry".into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        EntrySchema::schemas(schemas);
    }
}
