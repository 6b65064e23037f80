//! Replies as values of `model`. The crate's own stream types are of no use here: they keep fields
//! in a map, which loses order and repeats, and refuse names that are not UTF-8.

use deadpool_redis::redis::Value;

use crate::model::entry::{Entry, Fields};
use crate::model::id::EntryId;
use crate::model::name::RawName;
use crate::redis::error::StoreError;

type Decoded<T> = Result<T, StoreError>;

fn unexpected<T>(wanted: &str, got: &Value) -> Decoded<T> {
    let kind = match got {
        Value::Nil => "nil",
        Value::Int(_) => "a number",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        Value::Array(_) => "a list",
        _ => "something else",
    };
    Err(StoreError::Unexpected(format!(
        "wanted {wanted}, got {kind}"
    )))
}

pub(super) fn list(value: Value) -> Decoded<Vec<Value>> {
    match value {
        Value::Array(list) => Ok(list),
        other => unexpected("a list", &other),
    }
}

/// A list of exactly `N`.
pub(super) fn tuple<const N: usize>(value: Value) -> Decoded<[Value; N]> {
    let list = list(value)?;
    list.try_into().map_err(|list: Vec<Value>| {
        StoreError::Unexpected(format!("wanted a list of {N}, got one of {}", list.len()))
    })
}

pub(super) fn bytes(value: Value) -> Decoded<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        other => unexpected("a string", &other),
    }
}

/// Text, with anything that is not UTF-8 replaced: never for names or data.
pub(super) fn text(value: Value) -> Decoded<String> {
    Ok(String::from_utf8_lossy(&bytes(value)?).into_owned())
}

/// A name as Redis has it.
pub(super) fn name(value: Value) -> Decoded<RawName> {
    bytes(value).map(RawName::from)
}

pub(super) fn int(value: &Value) -> Decoded<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        other => unexpected("a number", other),
    }
}

pub(super) fn unsigned(value: &Value) -> Decoded<u64> {
    int(value).map(|number| u64::try_from(number).unwrap_or(0))
}

/// A number that there may be none of: nil, or negative where Redis subtracted too much.
pub(super) fn optional(value: &Value) -> Decoded<Option<u64>> {
    match value {
        Value::Nil => Ok(None),
        value => int(value).map(|number| u64::try_from(number).ok()),
    }
}

/// Milliseconds of when something was, or since then; -1 and nil are never, or not known.
pub(super) fn since(value: &Value) -> Option<u64> {
    match value {
        Value::Int(ms) => u64::try_from(*ms).ok(),
        _ => None,
    }
}

pub(super) fn id(value: Value) -> Decoded<EntryId> {
    text(value)?
        .parse()
        .map_err(|_| StoreError::Unexpected("wanted an entry id".to_owned()))
}

pub(super) fn optional_id(value: Value) -> Decoded<Option<EntryId>> {
    match value {
        Value::Nil => Ok(None),
        present => id(present).map(Some),
    }
}

pub(super) fn fields(value: Value) -> Decoded<Fields> {
    let flat = list(value)?;
    let mut fields = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
        fields.push((bytes(name)?, bytes(value)?));
    }
    Ok(fields)
}

/// `[id, fields]`, where the fields of an entry that is pending but gone are nil.
pub(super) fn delivery(value: Value) -> Decoded<(EntryId, Option<Fields>)> {
    let [entry_id, entry_fields] = tuple(value)?;
    let fields = match entry_fields {
        Value::Nil => None,
        present => Some(fields(present)?),
    };
    Ok((id(entry_id)?, fields))
}

/// The list XRANGE answers.
pub(super) fn entries(value: Value) -> Decoded<Vec<Entry>> {
    let entry = |value| {
        let [entry_id, entry_fields] = tuple(value)?;
        Ok(Entry {
            id: id(entry_id)?,
            fields: fields(entry_fields)?,
        })
    };
    list(value)?.into_iter().map(entry).collect()
}

/// `[name, value, name, value, …]`, as XINFO answers.
pub(super) struct Properties(Vec<(String, Value)>);

impl Properties {
    pub(super) fn new(value: Value) -> Decoded<Self> {
        let flat = list(value)?;
        let mut properties = Vec::with_capacity(flat.len() / 2);
        let mut flat = flat.into_iter();
        while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
            properties.push((text(name)?, value));
        }
        Ok(Self(properties))
    }

    /// Takes a property out; nil if this server does not have it.
    pub(super) fn take(&mut self, name: &str) -> Value {
        match self.0.iter().position(|(known, _)| known == name) {
            Some(at) => self.0.swap_remove(at).1,
            None => Value::Nil,
        }
    }
}
