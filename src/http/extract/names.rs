//! Names of groups and consumers in calls and answers: text, or `{"base64":"…"}` of bytes that are no
//! UTF-8, which native clients may have given them.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

/// The name of a group or a consumer: `{"base64":"…"}` where it is not UTF-8. In a path, a query or a
/// form that object stands as text.
#[derive(ToSchema)]
#[schema(as = Name, example = "w1")]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum NameSchema {
    /// As it is.
    Text(String),
    /// Bytes that are no UTF-8.
    Bytes(NameBytes),
}

/// Bytes that are no UTF-8.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct NameBytes {
    /// The bytes.
    base64: String,
}

/// A name in a call, as text.
#[derive(Clone, Debug)]
pub struct NameParam(pub String);

impl NameParam {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for NameParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = NameParam;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name, as text or {\"base64\":…}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<NameParam, E> {
        Ok(NameParam(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NameParam, A::Error> {
        let Some(("base64", text)) = map.next_entry::<&str, String>()? else {
            return Err(de::Error::custom(
                "a name that is no text is {\"base64\":…}",
            ));
        };
        if map.next_key::<&str>()?.is_some() {
            return Err(de::Error::custom(
                "a name that is no text is {\"base64\":…} alone",
            ));
        }
        Ok(NameParam(format!("{{\"base64\":\"{text}\"}}")))
    }
}
