//! Figures of the groups that `metrics-groups` selects. Every gateway measures them, so that any of
//! them can be scraped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use crate::jobs::JobContext;
use crate::metrics::{GroupFigures, KeyFigures};
use crate::model::glob::{NamePattern, prefixed};
use crate::model::group_pattern::GroupPattern;
use crate::model::id::EntryId;
use crate::model::name::StreamName;
use crate::redis::{ListPosition, MeasuredGroup, StoreError};

/// The number of keys of a page of the search for streams.
const PAGE: usize = 1000;

/// A round over all selected groups.
struct Round<'a> {
    context: &'a JobContext,
    now_ms: u64,
    /// The measured groups, by stream and group.
    figures: BTreeMap<(String, String), GroupFigures>,
    /// The number of groups that were selected beyond the limit.
    beyond: usize,
    seen: BTreeSet<StreamName>,
}

/// Measures the selected groups until the gateway shuts down.
pub(super) async fn run(context: Arc<JobContext>) {
    if context.settings.metrics_groups.is_empty() {
        return;
    }
    let mut was_beyond = false;
    let rounds = async {
        loop {
            match round(&context).await {
                Ok(beyond) => {
                    if beyond > 0 && !was_beyond {
                        tracing::warn!(
                            beyond,
                            limit = context.settings.max_metrics_groups,
                            "metrics-groups selects more groups than max-metrics-groups; some have no metrics"
                        );
                    }
                    was_beyond = beyond > 0;
                }
                // The figures stay; `groups_measured_timestamp` says how old they are.
                Err(error) => tracing::debug!(%error, "cannot measure groups"),
            }
            tokio::time::sleep(context.settings.measure_every).await;
        }
    };
    tokio::select! {
        () = context.stop.cancelled() => {}
        () = rounds => {}
    }
}

/// Measures all selected groups once. Returns the number of groups beyond the limit.
async fn round(context: &JobContext) -> Result<usize, StoreError> {
    let mut round = Round {
        context,
        now_ms: context.store.now_ms().await?,
        figures: BTreeMap::new(),
        beyond: 0,
        seen: BTreeSet::new(),
    };
    for pattern in &context.settings.metrics_groups {
        match &pattern.streams {
            NamePattern::One(name) => {
                if let Ok(stream) = StreamName::new(name) {
                    round.stream(&stream).await?;
                }
            }
            NamePattern::Prefix(prefix) => round.prefix(prefix).await?,
        }
    }
    let metrics = &context.metrics;
    let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    metrics.groups_beyond.set(count(round.beyond));
    metrics
        .groups
        .replace(round.figures.into_values().collect());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    metrics.groups_measured.set(i64::try_from(now).unwrap_or(0));
    Ok(round.beyond)
}

impl Round<'_> {
    async fn prefix(&mut self, prefix: &str) -> Result<(), StoreError> {
        let (glob, mut position) = (prefixed(prefix), ListPosition::default());
        loop {
            let page = self.context.store.streams(&glob, position, PAGE).await?;
            for stream in page.streams {
                self.stream(&stream).await?;
            }
            match page.next {
                Some(next) => position = next,
                None => return Ok(()),
            }
        }
    }

    async fn stream(&mut self, stream: &StreamName) -> Result<(), StoreError> {
        if !self.seen.insert(stream.clone()) {
            return Ok(());
        }
        let store = &self.context.store;
        let mut groups = match store.groups(stream).await {
            Ok(groups) => groups,
            Err(error) if error.is_outage() => return Err(error),
            // The key is gone or no stream.
            Err(_) => return Ok(()),
        };
        let name = stream.public_name().into_owned();
        groups.retain(|group| self.selects(&name, &String::from_utf8_lossy(group.name.as_bytes())));
        let left = self.context.settings.max_metrics_groups - self.figures.len();
        self.beyond += groups.len().saturating_sub(left);
        groups.truncate(left);
        if groups.is_empty() {
            return Ok(());
        }
        match store.measure_groups(stream, groups, self.now_ms).await {
            Ok(measured) => {
                for group in measured {
                    let figures = figures(&name, &group, self.now_ms);
                    let key = (figures.stream.clone(), figures.group.clone());
                    self.figures.insert(key, figures);
                }
                Ok(())
            }
            Err(error) if error.is_outage() => Err(error),
            // A group was deleted meanwhile. The next round measures the others.
            Err(error) => {
                tracing::debug!(%error, stream = name, "cannot measure the groups of a stream");
                Ok(())
            }
        }
    }

    fn selects(&self, stream: &str, group: &str) -> bool {
        let takes =
            |pattern: &GroupPattern| pattern.streams.takes(stream) && pattern.groups.takes(group);
        self.context.settings.metrics_groups.iter().any(takes)
    }
}

fn figures(stream: &str, group: &MeasuredGroup, now_ms: u64) -> GroupFigures {
    let age = |id: EntryId| now_ms.saturating_sub(id.ms) / 1000;
    GroupFigures {
        stream: stream.to_owned(),
        group: String::from_utf8_lossy(group.info.name.as_bytes()).into_owned(),
        lag: group.info.lag,
        pending: group.info.pending,
        oldest_pending_s: group.oldest_pending.map_or(0, age),
        leases: group.work.map(|(leases, _)| leases),
        dead_letters: group.work.map(|(_, dead)| dead),
        keys: group.order.map(|order| KeyFigures {
            in_flight: order.in_flight,
            blocked: order.blocked,
            oldest_blocked_s: order.oldest_blocked.map_or(0, |(_, age_ms)| age_ms / 1000),
            waiting: order.waiting,
        }),
    }
}
