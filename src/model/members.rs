//! JSON objects and arrays as they were sent, up to a limit. Items beyond the limit are skipped and
//! not stored. A body can have millions of members, and a request that is refused for that must not
//! cost more than others.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The name and the raw value of a member of an object.
pub(super) type Member<'a> = (Cow<'a, str>, &'a RawValue);

/// Returns the first `most` members of an object and one more, in order and with repeats. Returns
/// `None` for a value that is not an object.
pub(super) fn members(json: &RawValue, most: usize) -> Option<Vec<Member<'_>>> {
    read(json, Members(most.saturating_add(1)))
}

/// Returns the first `most` items of an array and one more, or `None` for another value.
pub(super) fn items(json: &RawValue, most: usize) -> Option<Vec<&RawValue>> {
    read(json, Items(most.saturating_add(1)))
}

fn read<'de, S: DeserializeSeed<'de>>(json: &'de RawValue, seed: S) -> Option<S::Value> {
    // The text is already valid JSON, and nothing follows it.
    seed.deserialize(&mut serde_json::Deserializer::from_str(json.get()))
        .ok()
}

struct Members(usize);

impl<'de> DeserializeSeed<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Vec<Member<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut list = Vec::new();
        while list.len() < self.0 {
            match map.next_entry()? {
                Some(member) => list.push(member),
                None => return Ok(list),
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(list)
    }
}

struct Items(usize);

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut list = Vec::new();
        while list.len() < self.0 {
            match seq.next_element()? {
                Some(item) => list.push(item),
                None => return Ok(list),
            }
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(text: &str) -> &RawValue {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn order_and_repeats_are_kept_up_to_the_bound_and_one_more() {
        let object = json(r#"{"b":1,"a":{"x":[]},"b":"\ud800","c":null}"#);
        let names = |most| {
            let members = members(object, most).unwrap().into_iter();
            members
                .map(|(name, value)| format!("{name}={}", value.get()))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            names(9),
            ["b=1", r#"a={"x":[]}"#, r#"b="\ud800""#, "c=null"]
        );
        assert_eq!(names(1), ["b=1", r#"a={"x":[]}"#]);
        let list = items(json("[1, [2], {}, 3]"), 2).unwrap();
        assert_eq!(
            list.iter().map(|item| item.get()).collect::<Vec<_>>(),
            ["1", "[2]", "{}"]
        );
        assert!(members(json("[]"), 1).is_none() && items(json("{}"), 1).is_none());
    }
}
