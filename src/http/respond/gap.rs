//! Reports of removed entries and of missing streams.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorCode};
use crate::model::history::{PositionStatus, StreamCounters};
use crate::model::position::Position;

/// Entries removed after a position.
#[derive(Serialize, ToSchema)]
pub struct SkippedGap {
    /// The position before the removed entries.
    after: String,
    /// The number of removed entries; null if unknown.
    lost: Option<u64>,
    /// Whether the stream was deleted and created again.
    reset: bool,
}

impl SkippedGap {
    /// Returns the gap after a position, or `None` if no entries are missing.
    #[must_use]
    pub fn of(after: Position, standing: PositionStatus) -> Option<Self> {
        let (lost, reset) = match standing {
            PositionStatus::Intact => return None,
            PositionStatus::Overtaken { lost } => (lost, false),
            PositionStatus::Reset => (None, true),
        };
        Some(Self {
            after: after.to_string(),
            lost,
            reset,
        })
    }

    /// Whether the stream was deleted and created again.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.reset
    }
}

/// Requires that the stream exists.
///
/// # Errors
/// 404 if the stream does not exist.
pub(in crate::http) fn require_stream(facts: &StreamCounters) -> Result<(), ApiError> {
    if facts.exists {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::StreamNotFound,
        "the stream does not exist",
    ))
}

/// Returns a 410 with details of the removed entries.
pub(in crate::http) fn overtaken(facts: &StreamCounters, gap: &SkippedGap) -> ApiError {
    let detail = match (gap.reset, gap.lost) {
        (true, _) => {
            "the stream was deleted or restored to an earlier state since this position was read"
                .to_owned()
        }
        (false, Some(lost)) => format!("{lost} entries after this position have been removed"),
        (false, None) => {
            "an unknown number of entries after this position has been removed".to_owned()
        }
    };
    let detail = format!("{detail}; use `gap=skip` to continue with the oldest entry");
    ApiError::new(ErrorCode::EntriesTrimmed, detail)
        .with("after", gap.after.clone())
        .with("oldest", facts.oldest.map(|id| id.to_string()))
        .with("lost", gap.lost)
        .with("reset", gap.reset)
}
