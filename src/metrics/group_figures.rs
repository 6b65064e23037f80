//! Figures of the groups that `metrics-groups` selects, replaced as a whole by each round.

use std::sync::Arc;

use parking_lot::RwLock;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// The figures of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupFigures {
    /// The stream.
    pub stream: String,
    /// The group.
    pub group: String,
    /// Entries not yet read; `None` if only counting them could tell.
    pub lag: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// The age of the oldest pending entry by its id, in seconds.
    pub oldest_pending_s: u64,
    /// Leases that have not ended; `None` without a policy.
    pub leases: Option<u64>,
    /// Entries in the dead-letter stream; `None` without a policy.
    pub dead_letters: Option<u64>,
    /// The numbers of entries by key; `None` without an order.
    pub keys: Option<KeyFigures>,
}

/// The figures of the keys of a group with an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyFigures {
    /// Entries with a key that are handed out, delayed, or due.
    pub in_flight: u64,
    /// Entries whose dead letters block their keys.
    pub blocked: u64,
    /// The age of the oldest of these by its id, in seconds; 0 for none.
    pub oldest_blocked_s: u64,
    /// Entries that were read ahead and wait.
    pub waiting: u64,
}

/// The figures of all measured groups. Cheap to clone.
#[derive(Clone, Default)]
pub struct MeasuredGroups(Arc<RwLock<Vec<GroupFigures>>>);

impl MeasuredGroups {
    /// Replaces all figures.
    pub fn replace(&self, figures: Vec<GroupFigures>) {
        *self.0.write() = figures;
    }

    /// Returns a metric with one figure of each group.
    pub(super) fn metric(&self, figure: fn(&GroupFigures) -> Option<u64>) -> GroupMetric {
        GroupMetric {
            groups: self.clone(),
            figure,
        }
    }
}

/// A gauge with one series for each measured group.
pub(super) struct GroupMetric {
    groups: MeasuredGroups,
    figure: fn(&GroupFigures) -> Option<u64>,
}

impl std::fmt::Debug for GroupMetric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupMetric").finish_non_exhaustive()
    }
}

impl EncodeMetric for GroupMetric {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for group in &*self.groups.0.read() {
            if let Some(figure) = (self.figure)(group) {
                let labels = [("stream", &*group.stream), ("group", &*group.group)];
                let figure = i64::try_from(figure).unwrap_or(i64::MAX);
                encoder.encode_family(&labels)?.encode_gauge(&figure)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }

    fn is_empty(&self) -> bool {
        let groups = self.groups.0.read();
        groups.iter().all(|group| (self.figure)(group).is_none())
    }
}
