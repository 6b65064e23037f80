//! The retention of a stream, in requests and responses.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::names::NameSchema;
use crate::http::extract::params::DurationParam;
use crate::http::groups::policy::Patch;
use crate::http::openapi::text::RetentionAgeText;
use crate::model::duration;
use crate::model::name::RawName;
use crate::model::retention::{InvalidRetention, Mode, Retention};
use crate::redis::BlockedBy;

/// Precision with which a stream is trimmed to its retention.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetentionMode {
    /// Removes whole nodes of the stream only. Much cheaper; the stream keeps somewhat more.
    Approximate,
    /// Trims exactly, with each append through a gateway.
    Exact,
    /// Trims exactly, but removes, from the oldest entry on, only entries that every group has read
    /// and acknowledged.
    Acked,
}

impl From<RetentionMode> for Mode {
    fn from(mode: RetentionMode) -> Self {
        match mode {
            RetentionMode::Approximate => Self::Approximate,
            RetentionMode::Exact => Self::Exact,
            RetentionMode::Acked => Self::Acked,
        }
    }
}

impl From<Mode> for RetentionMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Approximate => Self::Approximate,
            Mode::Exact => Self::Exact,
            Mode::Acked => Self::Acked,
        }
    }
}

/// Retention of a stream: `maxlen`, `max_age` or both. Entries beyond either limit are removed. A
/// member that is null is set to its default. A member that is absent keeps its value.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRetention)]
pub struct RetentionCall {
    /// Maximum number of entries. The newest entries are kept.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9_223_372_036_854_775_807_u64, example = 1_000_000)]
    maxlen: Patch<u64>,
    /// Maximum age of entries, by the clock of Redis and the entry ids: 1s to 3650d.
    #[serde(default)]
    #[schema(value_type = Option<RetentionAgeText>, inline)]
    max_age: Patch<DurationParam>,
    /// Trimming mode; default `approximate`.
    #[serde(default)]
    #[schema(value_type = Option<RetentionMode>)]
    mode: Patch<RetentionMode>,
    /// With `acked`, length beyond which entries are removed even if a group has not acknowledged
    /// them. Must be above `maxlen`; no limit by default.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9_223_372_036_854_775_807_u64)]
    hard_maxlen: Patch<u64>,
}

impl RetentionCall {
    /// Merges this patch into the retention `old`.
    ///
    /// # Errors
    /// 422 `invalid-retention`.
    pub(in crate::http) fn merge(&self, old: Option<&Retention>) -> Result<Retention, ApiError> {
        let old = old.copied().unwrap_or_default();
        let number = |patch: &Patch<u64>, old| match patch {
            Patch::Absent => old,
            Patch::Null => None,
            Patch::To(number) => Some(*number),
        };
        let merged = Retention {
            max_length: number(&self.maxlen, old.max_length),
            max_age: match self.max_age {
                Patch::Absent => old.max_age,
                Patch::Null => None,
                Patch::To(DurationParam(age)) => Some(age),
            },
            mode: self
                .mode
                .clone()
                .of(old.mode.into(), Mode::default().into())
                .into(),
            hard_max_length: number(&self.hard_maxlen, old.hard_max_length),
        };
        merged.check().map_err(refused)?;
        Ok(merged)
    }
}

fn refused(error: InvalidRetention) -> ApiError {
    let (detail, pointer) = (error.to_string(), format!("/retention{}", error.pointer()));
    ApiError::new(ErrorCode::InvalidRetention, detail.clone()).at(pointer, detail)
}

/// Retention of a stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Retention)]
pub struct RetentionOut {
    /// Maximum number of entries; null for no limit.
    #[schema(required)]
    maxlen: Option<u64>,
    /// Maximum age of entries; null for no limit.
    #[schema(required)]
    max_age: Option<String>,
    /// Trimming mode.
    mode: RetentionMode,
    /// Length beyond which entries are removed even if a group has not acknowledged them; null for
    /// no limit.
    #[schema(required)]
    hard_maxlen: Option<u64>,
    /// With `acked`, the group that prevents the removal of the oldest entry. Null if no entry is
    /// due for removal, or if the due entries can still be removed.
    #[schema(required)]
    blocked_by: Option<BlockedByOut>,
}

/// Group that prevents the removal of an entry.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BlockedBy)]
pub struct BlockedByOut {
    /// Name of the group.
    #[schema(value_type = NameSchema)]
    group: RawName,
    /// Id of the oldest entry of the stream.
    id: String,
    /// State of the entry in the group.
    reason: BlockedReason,
}

/// Reason why a group keeps an entry.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlockedReason {
    /// The entry was delivered and is not acknowledged.
    Pending,
    /// The entry was never delivered.
    Unread,
}

impl From<(Retention, Option<BlockedBy>)> for RetentionOut {
    fn from((retention, blocked_by): (Retention, Option<BlockedBy>)) -> Self {
        let blocked = |by: BlockedBy| BlockedByOut {
            group: by.group,
            id: by.id.to_string(),
            reason: if by.pending {
                BlockedReason::Pending
            } else {
                BlockedReason::Unread
            },
        };
        Self {
            maxlen: retention.max_length,
            max_age: retention.max_age.map(duration::format),
            mode: retention.mode.into(),
            hard_maxlen: retention.hard_max_length,
            blocked_by: blocked_by.map(blocked),
        }
    }
}
