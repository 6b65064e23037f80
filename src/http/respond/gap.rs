//! What a reader is told of entries that are gone, and of a stream that is not there.

use serde::Serialize;
use utoipa::ToSchema;

use crate::http::error::{ApiError, ErrorCode};
use crate::model::history::{Facts, Standing};
use crate::model::position::Position;

/// Entries that are gone.
#[derive(Serialize, ToSchema)]
pub struct SkippedGap {
    /// The position they lay after.
    after: String,
    /// How many, null where that cannot be known.
    lost: Option<u64>,
    /// The stream was deleted and made anew since.
    reset: bool,
}

impl SkippedGap {
    /// What is to be told of how a position stands; `None` where nothing is.
    #[must_use]
    pub fn of(after: Position, standing: Standing) -> Option<Self> {
        let (lost, reset) = match standing {
            Standing::Intact => return None,
            Standing::Overtaken { lost } => (lost, false),
            Standing::Reset => (None, true),
        };
        Some(Self {
            after: after.to_string(),
            lost,
            reset,
        })
    }

    /// Whether the stream was made anew.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.reset
    }
}

/// # Errors
/// 404 when there is no stream.
pub(in crate::http) fn require_stream(facts: &Facts) -> Result<(), ApiError> {
    if facts.exists {
        return Ok(());
    }
    Err(ApiError::new(
        ErrorCode::StreamNotFound,
        "there is no stream of this name",
    ))
}

/// 410, with what is known of what is gone.
pub(in crate::http) fn overtaken(facts: &Facts, gap: &SkippedGap) -> ApiError {
    let detail = match (gap.reset, gap.lost) {
        (true, _) => "the stream was deleted or set back since this position was read".to_owned(),
        (false, Some(lost)) => format!("{lost} entries after this position are gone"),
        (false, None) => {
            "entries after this position are gone, how many cannot be known".to_owned()
        }
    };
    let detail = format!("{detail}; `gap=skip` goes on with the oldest entry");
    ApiError::new(ErrorCode::EntriesTrimmed, detail)
        .with("after", gap.after.clone())
        .with("oldest", facts.oldest.map(|id| id.to_string()))
        .with("lost", gap.lost)
        .with("reset", gap.reset)
}
