//! Schemas of JSON that serde's derive neither reads nor writes, mainly entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::http::extract::names::NameSchema;
use serde::{Serialize, Serializer};
use utoipa::openapi::{ArrayBuilder, ObjectBuilder, Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::openapi::text::{
    AttributeNameText, AttributeText, EntryKeyText, ExtensionText, MediaTypeText, NewIdText,
};
use crate::model::entry::{Entry, View};
use crate::model::entry_json::EntryJson;

/// Bytes: a string if they are UTF-8, otherwise base64.
#[derive(ToSchema)]
#[schema(as = Value)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum ValueSchema {
    /// UTF-8 text.
    Text(String),
    /// Bytes that are not UTF-8.
    Binary(BinarySchema),
}

/// Bytes that are not UTF-8.
#[derive(ToSchema)]
#[schema(as = Binary)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct BinarySchema {
    /// Base64 with the standard alphabet and padding.
    #[schema(
        pattern = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$"
    )]
    base64: String,
}

/// Value of a field to append. Numbers and booleans are stored as the text they were sent as.
#[derive(ToSchema)]
#[schema(as = NewValue)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum NewValueSchema {
    /// Text, stored unchanged.
    Text(String),
    /// Number, stored as the text it was sent as.
    Number(f64),
    /// Boolean, stored as `true` or `false`.
    Boolean(bool),
    /// Bytes in base64.
    Binary(BinarySchema),
}

/// Entry to append: `fields`, or `pairs` if names repeat or are not UTF-8.
#[derive(ToSchema)]
#[schema(example = json!({"fields": {"user": "alice", "total": 9.5}}))]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a schema, never a value")]
#[schema(as = NewEntry)]
pub struct NewEntrySchema {
    /// Fields, in the order in which they are stored.
    #[schema(required = false, value_type = NewFieldsSchema, inline)]
    fields: Option<BTreeMap<String, NewValueSchema>>,
    /// Fields as `[name, value]`, in the order in which they are stored.
    #[schema(required = false, value_type = NewPairsSchema, inline)]
    pairs: Option<Vec<Vec<NewValueSchema>>>,
    /// Id of the entry: `*`, `ms-*` or a full id.
    #[schema(required = false, value_type = NewIdText, inline)]
    id: Option<String>,
    /// Idempotency key of this entry.
    #[schema(required = false, value_type = EntryKeyText, inline)]
    key: Option<String>,
    /// Position from an NDJSON line that was read and is sent back. Ignored.
    position: Option<String>,
}

/// Fields of a new entry: at least one.
pub enum NewFieldsSchema {}

impl PartialSchema for NewFieldsSchema {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .property_names(Some(String::schema()))
            .additional_properties(Some(NewValueSchema::reference()))
            .min_properties(Some(1))
            .into()
    }
}

impl ToSchema for NewFieldsSchema {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((NewValueSchema::name().into(), NewValueSchema::schema()));
        NewValueSchema::schemas(schemas);
    }
}

/// Fields of a new entry as pairs of name and value: at least one.
pub enum NewPairsSchema {}

impl PartialSchema for NewPairsSchema {
    fn schema() -> RefOr<Schema> {
        let pair = ArrayBuilder::new()
            .items(NewValueSchema::reference())
            .min_items(Some(2))
            .max_items(Some(2));
        ArrayBuilder::new().items(pair).min_items(Some(1)).into()
    }
}

impl ToSchema for NewPairsSchema {}

impl NewValueSchema {
    /// Returns a reference to the schema of a value.
    fn reference() -> Ref {
        Ref::from_schema_name(Self::name())
    }
}

/// One entry or a batch.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum NewEntries {
    /// One entry.
    One(NewEntrySchema),
    /// A batch. Either all of its entries are appended or none.
    Many(NewBatch),
}

/// A batch of entries.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct NewBatch {
    /// Entries in order, at most 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    entries: Vec<NewEntrySchema>,
}

/// Arbitrary bytes.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct OctetStream(Vec<u8>);

/// `CloudEvents` 1.0 event.
#[derive(ToSchema)]
#[schema(example = json!({"specversion": "1.0", "id": "4711", "source": "/shop", "type": "com.example.order.paid", "data": {"total": 9.5}}))]
#[expect(dead_code, reason = "a schema, never a value")]
struct CloudEventMembers {
    /// Version of the `CloudEvents` specification.
    #[schema(pattern = "^1\\.0$")]
    specversion: String,
    /// Id of the event, unique together with `source`.
    #[schema(value_type = AttributeText, inline)]
    id: String,
    /// Context in which the event happened, as a URI reference.
    #[schema(value_type = AttributeText, inline)]
    source: String,
    /// Type of the event.
    #[schema(value_type = AttributeText, inline)]
    r#type: String,
    /// Media type of the data; default JSON.
    #[schema(value_type = Option<MediaTypeText>, inline)]
    datacontenttype: Option<String>,
    /// URI of the schema of the data.
    #[schema(value_type = Option<AttributeText>, inline)]
    dataschema: Option<String>,
    /// Subject of the event within its source.
    #[schema(value_type = Option<AttributeText>, inline)]
    subject: Option<String>,
    /// Time of the event, as RFC 3339.
    #[schema(format = "date-time")]
    time: Option<String>,
    /// Data of the event: any JSON, or a string if `datacontenttype` is not JSON.
    data: Option<serde_json::Value>,
    /// Binary data in base64, instead of `data`.
    data_base64: Option<String>,
    /// Extension attributes, with names of lower-case letters and digits.
    #[serde(flatten)]
    extensions: BTreeMap<String, ExtensionValue>,
}

/// `CloudEvents` 1.0 event, with the form of the names of its attributes.
pub enum CloudEvent {}

impl PartialSchema for CloudEvent {
    fn schema() -> RefOr<Schema> {
        let mut schema = CloudEventMembers::schema();
        if let (RefOr::T(Schema::Object(event)), RefOr::T(names)) =
            (&mut schema, AttributeNameText::schema())
        {
            event.property_names = Some(Box::new(names));
        }
        schema
    }
}

impl ToSchema for CloudEvent {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        CloudEventMembers::schemas(schemas);
    }
}

/// Value of an extension attribute.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum ExtensionValue {
    /// Text, stored unchanged.
    Text(#[schema(inline)] ExtensionText),
    /// 32-bit integer.
    Number(i32),
    /// Boolean: `true` or `false`.
    Boolean(bool),
}

/// An entry. It has `fields`, or `pairs` if an object cannot hold them, or the requested `payload`.
#[derive(ToSchema)]
#[schema(as = Entry, example = json!({"id": "1795232709004-0", "fields": {"user": "alice", "total": "9.50"}}))]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct EntrySchema {
    /// Id of the entry.
    id: String,
    /// Position of the entry, to continue reading after it. Only in NDJSON.
    position: Option<String>,
    /// Fields in stored order; null for a pending entry that is no longer in the stream.
    fields: Option<BTreeMap<String, ValueSchema>>,
    /// Fields as `[name, value]`, in stored order.
    pairs: Option<Vec<Vec<ValueSchema>>>,
    /// With `payload=`, the value of that field; null if the entry has no such field. With
    /// `json=true`, any JSON.
    payload: Option<serde_json::Value>,
    /// With `json=true`, false if the payload is not valid JSON and is returned as text or base64.
    json: Option<bool>,
}

/// Entry delivered to a consumer.
#[derive(ToSchema)]
#[schema(as = Delivery, example = json!({"id": "1795232709004-0", "fields": {"user": "alice", "total": "9.50"}, "deliveries": 1, "receipt": "AAABofzMQMw", "lease_until": "2026-11-21T14:30:00.250Z"}))]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct DeliverySchema {
    /// Id of the entry.
    id: String,
    /// Fields in stored order; null for a pending entry that is no longer in the stream.
    fields: Option<BTreeMap<String, ValueSchema>>,
    /// Fields as `[name, value]`, in stored order.
    pairs: Option<Vec<Vec<ValueSchema>>>,
    /// With `payload`, the value of that field; null if the entry has no such field. With `json`,
    /// any JSON.
    payload: Option<serde_json::Value>,
    /// With `json`, false if the payload is not valid JSON and is returned as text or base64.
    json: Option<bool>,
    /// Number of deliveries of the entry, including this one. Only in a group with a policy.
    deliveries: Option<u64>,
    /// Receipt that proves the lease of this delivery. Only in a group with a policy.
    receipt: Option<String>,
    /// End of the lease, by the clock of Redis. Only in a group with a policy.
    lease_until: Option<String>,
}

/// Dead letter: an entry that was rejected, or not processed within the allowed deliveries.
#[derive(ToSchema)]
#[schema(as = DeadLetter)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct DeadLetterSchema {
    /// Id of the dead letter.
    id: String,
    /// Fields of the original entry, in order; null if it was no longer in the stream.
    fields: Option<BTreeMap<String, ValueSchema>>,
    /// Fields as `[name, value]`, in order, if an object cannot hold them.
    pairs: Option<Vec<Vec<ValueSchema>>>,
    /// Id of the original entry.
    entry: String,
    /// Last consumer that held the entry; null if the entry had been released.
    #[schema(required)]
    consumer: Option<NameSchema>,
    /// Number of deliveries of the entry.
    deliveries: u64,
    /// Reason of the dead letter: `max-deliveries`, `rejected`, `gone` (the entry was pending and
    /// removed from the stream), or the text that a worker gave.
    reason: String,
    /// Time at which the entry became a dead letter.
    time: String,
}

/// An entry with the view of one reader.
pub struct EntryOut {
    /// Entry.
    pub entry: Entry,
    /// Parts of the entry to return.
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
