//! Parser of `name=value` pairs into structs, for queries and for the forms of group calls. An
//! error for an unknown name suggests the nearest known one. An error for a value names its
//! parameter.

use std::fmt;

use serde::de::value::{SeqDeserializer, StrDeserializer};
use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde::forward_to_deserialize_any;

use crate::http::error::excerpt::shortened;
use crate::http::error::type_errors;
use crate::model::form;
use crate::model::nearest::nearest;

/// Maximum characters of an unknown name repeated in an error. All known names are shorter.
const MAX_SHOWN: usize = 64;

/// An error in `name=value` pairs.
#[derive(Debug, PartialEq, Eq)]
pub enum PairsError {
    /// An unknown name.
    Unknown {
        /// Name as sent, shortened if it is very long.
        name: String,
        /// Nearest known name, if one is near enough.
        nearest: Option<&'static str>,
    },
    /// An invalid value. `name` is empty if the whole input is invalid.
    Invalid {
        /// Name of the parameter.
        name: String,
        /// Description of the error.
        detail: String,
    },
}

/// Parses a struct from pairs. A list field collects all values of its name; other fields take one
/// value. Names that start with `_` are ignored.
///
/// # Errors
/// [`PairsError`] for the first unknown name or invalid value.
pub fn parse<T: DeserializeOwned>(input: &[u8]) -> Result<T, PairsError> {
    T::deserialize(Pairs(input))
}

/// Collects the values of each name. A body can hold a million names, so the first unknown name
/// ends parsing: the result never has more names than the struct has fields.
fn gather(
    input: &[u8],
    known: &'static [&'static str],
) -> Result<Vec<(&'static str, Vec<String>)>, PairsError> {
    let mut gathered: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, value) in form::pairs(input) {
        let (Ok(name), Ok(value)) = (String::from_utf8(name), String::from_utf8(value)) else {
            return Err(PairsError::Invalid {
                name: String::new(),
                detail: "parameter names and values must be UTF-8".to_owned(),
            });
        };
        if name.starts_with('_') {
            continue;
        }
        let Some(known) = known.iter().find(|known| **known == name) else {
            let nearest = nearest(&name, known.iter().copied());
            return Err(PairsError::Unknown {
                name: shortened(&name, MAX_SHOWN).into_owned(),
                nearest,
            });
        };
        match gathered.iter_mut().find(|(name, _)| name == known) {
            Some((_, values)) => values.push(value),
            None => gathered.push((known, vec![value])),
        }
    }
    Ok(gathered)
}

impl fmt::Display for PairsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown {
                name,
                nearest: Some(nearest),
            } => {
                write!(f, "unknown parameter `{name}`; did you mean `{nearest}`?")
            }
            Self::Unknown {
                name,
                nearest: None,
            } => write!(f, "unknown parameter `{name}`"),
            Self::Invalid { name, detail } if name.is_empty() => f.write_str(detail),
            Self::Invalid { name, detail } => write!(f, "`{name}`: {detail}"),
        }
    }
}

impl std::error::Error for PairsError {}

impl de::Error for PairsError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Invalid {
            name: String::new(),
            detail: type_errors::explain(&message.to_string()),
        }
    }

    fn missing_field(field: &'static str) -> Self {
        Self::Invalid {
            name: field.to_owned(),
            detail: "is missing".to_owned(),
        }
    }
}

struct Pairs<'i>(&'i [u8]);

impl<'de> Deserializer<'de> for Pairs<'_> {
    type Error = PairsError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PairsError> {
        let rest = gather(self.0, fields)?.into_iter();
        visitor.visit_map(Entries { rest, value: None })
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, PairsError> {
        Err(de::Error::custom("pairs are read as a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

struct Entries {
    rest: std::vec::IntoIter<(&'static str, Vec<String>)>,
    value: Option<(&'static str, Vec<String>)>,
}

impl<'de> MapAccess<'de> for Entries {
    type Error = PairsError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, PairsError> {
        self.value = self.rest.next();
        match &self.value {
            Some((name, _)) => seed
                .deserialize(StrDeserializer::<PairsError>::new(name))
                .map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<S::Value, PairsError> {
        let (name, values) = self.value.take().unwrap_or_default();
        seed.deserialize(RepeatedValues(values))
            .map_err(|error| match error {
                PairsError::Invalid { detail, .. } => PairsError::Invalid {
                    name: name.to_owned(),
                    detail,
                },
                unknown @ PairsError::Unknown { .. } => unknown,
            })
    }
}

/// All values of one name.
struct RepeatedValues(Vec<String>);

impl RepeatedValues {
    fn one(self) -> Result<String, PairsError> {
        let count = self.0.len();
        let mut values = self.0.into_iter();
        match (values.next(), count) {
            (Some(value), 1) => Ok(value),
            _ => Err(de::Error::custom("is given more than once")),
        }
    }
}

macro_rules! numbers {
    ($($method:ident $visit:ident $type:ty),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
            let text = self.one()?;
            match text.parse::<$type>() {
                Ok(number) => visitor.$visit(number),
                Err(_) => Err(de::Error::custom(format!("must be a whole number in range, not {text:?}"))),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for RepeatedValues {
    type Error = PairsError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_string(self.one()?)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, PairsError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        visitor.visit_seq(SeqDeserializer::new(self.0.into_iter()))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, PairsError> {
        match self.one()?.as_str() {
            "true" | "" => visitor.visit_bool(true),
            "false" => visitor.visit_bool(false),
            other => Err(de::Error::custom(format!(
                "must be true or false, not {other:?}"
            ))),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, PairsError> {
        visitor.visit_enum(de::value::StringDeserializer::new(self.one()?))
    }

    numbers! {
        deserialize_u64 visit_u64 u64, deserialize_u32 visit_u32 u32, deserialize_u16 visit_u16 u16,
        deserialize_i64 visit_i64 i64
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i128 u8 u128 f32 f64 char str string bytes byte_buf unit unit_struct tuple
        tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Sample {
        limit: Option<u64>,
        pairs: bool,
        name: Option<String>,
        ids: Vec<String>,
    }

    #[test]
    fn values_are_read_by_type() {
        let parsed: Sample = parse(b"limit=5&pairs=true&name=a%20b&ids=1&ids=2&_=9").unwrap();
        let ids = vec!["1".to_owned(), "2".to_owned()];
        assert_eq!(
            parsed,
            Sample {
                limit: Some(5),
                pairs: true,
                name: Some("a b".to_owned()),
                ids
            }
        );
    }

    #[test]
    fn a_misspelt_name_is_told_the_nearest() {
        let error = parse::<Sample>(b"limti=5").unwrap_err();
        assert_eq!(
            error,
            PairsError::Unknown {
                name: "limti".to_owned(),
                nearest: Some("limit")
            }
        );
        assert_eq!(
            parse::<Sample>(b"qqqq=5").unwrap_err().to_string(),
            "unknown parameter `qqqq`"
        );
    }

    #[test]
    fn a_wrong_value_is_told_by_name() {
        for (query, message) in [
            (
                "limit=x",
                "`limit`: must be a whole number in range, not \"x\"",
            ),
            (
                "limit=-1",
                "`limit`: must be a whole number in range, not \"-1\"",
            ),
            ("limit=1&limit=2", "`limit`: is given more than once"),
            ("pairs=yes", "`pairs`: must be true or false, not \"yes\""),
            ("name=%ff", "parameter names and values must be UTF-8"),
        ] {
            assert_eq!(
                parse::<Sample>(query.as_bytes()).unwrap_err().to_string(),
                message
            );
        }
    }
}
