//! `create=true`: reads that create their group if it does not exist.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};

use crate::http::error::ApiError;
use crate::http::extract::access::{Access, Manage, RequiredRight};
use crate::http::extract::json_text_of;
use crate::http::groups::policy::PolicyCall;
use crate::http::groups::{GroupPosition, parse_position};
use crate::model::name::StreamName;
use crate::model::position::{Position, Start};
use crate::redis::GroupStart;

/// A policy in a request: an object in JSON, the text of such an object in a form or a query.
#[derive(Clone, Debug)]
pub enum PolicyParam {
    /// An object.
    Object(PolicyCall),
    /// The text of an object.
    Text(String),
}

impl<'de> Deserialize<'de> for PolicyParam {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectOrText;
        impl<'de> Visitor<'de> for ObjectOrText {
            type Value = PolicyParam;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object like {\"lease\":\"30s\"}")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PolicyParam, A::Error> {
                PolicyCall::deserialize(MapAccessDeserializer::new(map)).map(PolicyParam::Object)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<PolicyParam, E> {
                Ok(PolicyParam::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(ObjectOrText)
    }
}

impl PolicyParam {
    fn parse(self, prefix: &str) -> Result<PolicyCall, ApiError> {
        match self {
            Self::Object(policy) => Ok(policy),
            Self::Text(text) => json_text_of(&format!("{prefix}policy"), &text),
        }
    }
}

/// Parameters of the group that a read creates.
pub(in crate::http) struct GroupToCreate {
    start: Start,
    policy: Option<PolicyCall>,
}

impl GroupToCreate {
    /// Returns the parameters of the group if `create` is true. `prefix` is the part of the
    /// pointers before the names.
    ///
    /// # Errors
    /// 400 for an invalid value, and for `start` or `policy` without `create=true`.
    pub(in crate::http) fn parse(
        prefix: &str,
        create: Option<bool>,
        start: Option<&str>,
        policy: Option<PolicyParam>,
    ) -> Result<Option<Self>, ApiError> {
        if create != Some(true) {
            let given = [("start", start.is_some()), ("policy", policy.is_some())];
            return match given.iter().find(|(_, given)| *given) {
                Some((name, _)) => Err(ApiError::invalid(format!(
                    "`{name}` requires `create=true`"
                ))
                .at(format!("{prefix}{name}"), "given without `create=true`")),
                None => Ok(None),
            };
        }
        let start = match parse_position((&format!("{prefix}start"), start), None)? {
            Some(GroupPosition::After(start)) => start,
            _ => Start::After(Position::OLDEST),
        };
        let policy = policy.map(|policy| policy.parse(prefix)).transpose()?;
        Ok(Some(Self { start, policy }))
    }

    /// Uses the default policy if none was given.
    pub(in crate::http) fn with_policy(mut self) -> Self {
        self.policy.get_or_insert_default();
        self
    }

    /// Returns the group of a stream, for a caller who may create it.
    ///
    /// # Errors
    /// 403 without the right `manage`, 400 for a stream with a name that is invalid for new
    /// streams, 422 `invalid-policy`.
    pub(in crate::http) fn of<P: RequiredRight>(
        &self,
        access: &Access<P>,
    ) -> Result<(StreamName, GroupStart), ApiError> {
        let access = access.other::<Manage>(&access.stream().public_name())?;
        let policy = self
            .policy
            .as_ref()
            .map(|policy| policy.merge(&access, None).map(Some));
        let start = GroupStart {
            start: self.start,
            entries_read: None,
            create_stream: true,
            only_new: true,
            policy: policy.transpose()?,
        };
        Ok((access.into_stream(), start))
    }
}
