//! The retention of a stream, as it is sent and as it is shown.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::extract::names::NameSchema;
use crate::http::extract::params::Wait;
use crate::http::groups::policy::Patch;
use crate::model::duration;
use crate::model::name::RawName;
use crate::model::retention::{InvalidRetention, Mode, Retention};
use crate::redis::BlockedBy;

/// How exactly a stream is kept to its retention.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RetentionMode {
    /// Whole nodes of the stream go, which is much cheaper; somewhat more is kept.
    Approximate,
    /// To the letter, with each append through a gateway.
    Exact,
    /// To the letter, but from the oldest entry on only what every group has read and acknowledged.
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

/// What is to be kept of a stream: `maxlen`, `max_age` or both; what breaks either goes. What is null
/// is as if nobody had said anything; what is left out stays as it is.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewRetention)]
pub struct RetentionCall {
    /// Keep the newest so many entries.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9_223_372_036_854_775_807_u64, example = 1_000_000)]
    maxlen: Patch<u64>,
    /// Keep entries younger than this, by the clock of Redis and their ids: 1s to 3650d.
    #[serde(default)]
    #[schema(value_type = Option<String>, example = "7d")]
    max_age: Patch<Wait>,
    /// How exactly: `approximate` unless given.
    #[serde(default)]
    #[schema(value_type = Option<RetentionMode>)]
    mode: Patch<RetentionMode>,
    /// With `acked`: what lies beyond so many entries goes even if a group has not acknowledged it.
    /// Above `maxlen`; no such end unless given.
    #[serde(default)]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 9_223_372_036_854_775_807_u64)]
    hard_maxlen: Patch<u64>,
}

impl RetentionCall {
    /// The retention this makes of the one there is.
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
                Patch::To(Wait(age)) => Some(age),
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

/// What is kept of a stream.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Retention)]
pub struct RetentionOut {
    /// The newest so many entries.
    #[schema(required)]
    maxlen: Option<u64>,
    /// Entries younger than this.
    #[schema(required)]
    max_age: Option<String>,
    /// How exactly.
    mode: RetentionMode,
    /// What lies beyond so many entries goes even if a group has not acknowledged it.
    #[schema(required)]
    hard_maxlen: Option<u64>,
    /// With `acked`: the group that keeps the oldest entry, which should go. Null when nothing should,
    /// or can still go.
    #[schema(required)]
    blocked_by: Option<BlockedByOut>,
}

/// Who keeps an entry that should go.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = BlockedBy)]
pub struct BlockedByOut {
    /// The group.
    #[schema(value_type = NameSchema)]
    group: RawName,
    /// The entry: the oldest of the stream.
    id: String,
    /// What the group has not done with it.
    reason: BlockedReason,
}

/// Why a group keeps an entry.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BlockedReason {
    /// It was handed out, and not acknowledged.
    Pending,
    /// It was never handed out.
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
