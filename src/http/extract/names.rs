//! Names of groups and consumers in requests and responses. A name is text, or `{"base64":"…"}` if
//! it is not UTF-8; native Redis clients may create such names.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::ToSchema;

/// Name of a group or a consumer. A name that is not UTF-8 is `{"base64":"…"}`; in a path, a query
/// or a form, that object is written as text.
#[derive(ToSchema)]
#[schema(as = Name, example = "w1")]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema, never a value")]
pub enum NameSchema {
    /// A UTF-8 name.
    Text(String),
    /// A name that is not UTF-8.
    Bytes(NameBytes),
}

/// Bytes of a name that is not UTF-8.
#[derive(ToSchema)]
#[expect(dead_code, reason = "a schema, never a value")]
pub struct NameBytes {
    /// The bytes, in base64.
    base64: String,
}

/// Name in a request, as text.
#[derive(Clone, Debug)]
pub struct NameParam(pub String);

impl NameParam {
    /// Returns the text.
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
                "a name must be a string or {\"base64\":…}",
            ));
        };
        if map.next_key::<&str>()?.is_some() {
            return Err(de::Error::custom(
                "a name object must have only the member \"base64\"",
            ));
        }
        Ok(NameParam(format!("{{\"base64\":\"{text}\"}}")))
    }
}
