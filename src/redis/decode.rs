//! Decoding of replies into values of `model`. The redis crate's own stream types do not fit: they
//! keep fields in a map, which loses order and duplicates, and reject names that are not UTF-8.

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
        "expected {wanted}, got {kind}"
    )))
}

pub(super) fn list(value: Value) -> Decoded<Vec<Value>> {
    match value {
        Value::Array(list) => Ok(list),
        other => unexpected("a list", &other),
    }
}

/// Decodes a map: of RESP3, or a list of pairs.
pub(super) fn map(value: Value) -> Decoded<Vec<(Value, Value)>> {
    match value {
        Value::Map(pairs) => Ok(pairs),
        other => list(other)?
            .into_iter()
            .map(|pair| tuple(pair).map(|[name, value]| (name, value)))
            .collect(),
    }
}

/// Decodes a list of exactly `N` items.
pub(super) fn tuple<const N: usize>(value: Value) -> Decoded<[Value; N]> {
    let list = list(value)?;
    list.try_into().map_err(|list: Vec<Value>| {
        StoreError::Unexpected(format!("expected a list of {N}, got one of {}", list.len()))
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

/// Decodes text and replaces invalid UTF-8. Must not be used for names or data.
pub(super) fn text(value: Value) -> Decoded<String> {
    Ok(String::from_utf8_lossy(&bytes(value)?).into_owned())
}

/// Decodes a name, byte for byte.
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

/// Decodes an optional number. Nil is `None`, and so is a negative number, which Redis returns
/// after subtracting too much.
pub(super) fn optional(value: &Value) -> Decoded<Option<u64>> {
    match value {
        Value::Nil => Ok(None),
        value => int(value).map(|number| u64::try_from(number).ok()),
    }
}

/// Decodes an optional time or age in milliseconds; -1 and nil mean never or unknown.
pub(super) fn since(value: &Value) -> Option<u64> {
    match value {
        Value::Int(ms) => u64::try_from(*ms).ok(),
        _ => None,
    }
}

pub(super) fn id(value: Value) -> Decoded<EntryId> {
    text(value)?
        .parse()
        .map_err(|_| StoreError::Unexpected("expected an entry id".to_owned()))
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

/// Decodes `[id, fields]`, in which the fields of a pending but deleted entry are nil.
pub(super) fn delivery(value: Value) -> Decoded<(EntryId, Option<Fields>)> {
    let [entry_id, entry_fields] = tuple(value)?;
    let fields = match entry_fields {
        Value::Nil => None,
        present => Some(fields(present)?),
    };
    Ok((id(entry_id)?, fields))
}

/// Decodes the reply of XRANGE.
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

/// Properties of an XINFO reply: `[name, value, name, value, …]`, or a map of RESP3.
pub(super) struct Properties(Vec<(String, Value)>);

impl Properties {
    pub(super) fn new(value: Value) -> Decoded<Self> {
        if let Value::Map(pairs) = value {
            let pairs = pairs.into_iter();
            let named = pairs.map(|(name, value)| Ok((text(name)?, value)));
            return Ok(Self(named.collect::<Decoded<_>>()?));
        }
        let flat = list(value)?;
        let mut properties = Vec::with_capacity(flat.len() / 2);
        let mut flat = flat.into_iter();
        while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
            properties.push((text(name)?, value));
        }
        Ok(Self(properties))
    }

    /// Removes and returns a property; nil if the server did not send it.
    pub(super) fn take(&mut self, name: &str) -> Value {
        match self.0.iter().position(|(known, _)| known == name) {
            Some(at) => self.0.swap_remove(at).1,
            None => Value::Nil,
        }
    }
}
