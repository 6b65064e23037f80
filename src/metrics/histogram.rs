//! Histograms of durations, cheap enough for every request: fixed buckets, and no lock.
//!
//! Threads count into shards of their own, so that they do not wait for each other's cache lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

/// The upper bounds of the buckets, in nanoseconds.
const BUCKETS: [u64; 15] = [
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
    30_000_000_000,
];
/// The number of shards. More threads share them.
const SHARDS: usize = 8;
const NANOS: f64 = 1e9;

/// The counts of some threads. Aligned to the cache lines of all common processors.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    /// The number of durations in each bucket, and beyond the last one.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    sum: AtomicU64,
}

/// A histogram of durations. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DurationHistogram(Arc<[Shard; SHARDS]>);

fn shard() -> usize {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static SHARD: usize = THREADS.fetch_add(1, Ordering::Relaxed) % SHARDS;
    }
    SHARD.with(|shard| *shard)
}

impl DurationHistogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let shard = &self.0[shard()];
        let bucket = BUCKETS.partition_point(|bound| *bound < nanos);
        shard.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        shard.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    fn write(&self, encoder: &mut MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let count = |bucket: usize| -> u64 {
            let shards = self.0.iter();
            shards.map(|shard| load(&shard.buckets[bucket])).sum()
        };
        let bounds = BUCKETS.iter().map(|bound| seconds(*bound));
        let bounds = bounds.chain([f64::INFINITY]).enumerate();
        let buckets: Vec<(f64, u64)> = bounds.map(|(at, bound)| (bound, count(at))).collect();
        let sum: u64 = self.0.iter().map(|shard| load(&shard.sum)).sum();
        let total = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(seconds(sum), total, &buckets, None)
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a sum of years is exact to a millisecond"
)]
fn seconds(nanos: u64) -> f64 {
    nanos as f64 / NANOS
}

impl EncodeMetric for DurationHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.write(&mut encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

/// The methods of a route with their histograms.
type Methods = Vec<(&'static str, DurationHistogram)>;

/// Durations of requests, by method and route. The series are known from the start.
#[derive(Clone, Debug, Default)]
pub struct RequestTimes(Arc<BTreeMap<Arc<str>, Methods>>);

impl RequestTimes {
    /// Creates the histograms of these methods and routes.
    pub(super) fn new(operations: impl IntoIterator<Item = (&'static str, Arc<str>)>) -> Self {
        let mut routes: BTreeMap<Arc<str>, Methods> = BTreeMap::new();
        for (method, route) in operations {
            let methods = routes.entry(route).or_default();
            if !methods.iter().any(|(known, _)| *known == method) {
                methods.push((method, DurationHistogram::default()));
            }
        }
        Self(Arc::new(routes))
    }

    /// Counts the duration of a request. Requests without a documented route do not count.
    pub fn observe(&self, method: &str, route: &str, duration: Duration) {
        if let Some(histogram) = self.of(method, route) {
            histogram.observe(duration);
        }
    }

    /// Returns whether a documented route does not have a method.
    #[must_use]
    pub fn lacks(&self, method: &str, route: &str) -> bool {
        let method = if method == "HEAD" { "GET" } else { method };
        self.0.contains_key(route) && self.of(method, route).is_none()
    }

    /// Returns the histogram of a documented method and route.
    #[must_use]
    pub fn of(&self, method: &str, route: &str) -> Option<&DurationHistogram> {
        let mut methods = self.0.get(route)?.iter();
        let (_, histogram) = methods.find(|(known, _)| *known == method)?;
        Some(histogram)
    }
}

impl EncodeMetric for RequestTimes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (route, methods) in &*self.0 {
            for (method, histogram) in methods {
                let labels = [("method", *method), ("route", &**route)];
                histogram.write(&mut encoder.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Durations of Redis commands on shared connections.
#[derive(Clone, Debug, Default)]
pub struct CommandTimes {
    /// Commands that change nothing.
    pub reads: DurationHistogram,
    /// Commands that may change something.
    pub writes: DurationHistogram,
}

impl CommandTimes {
    /// Counts a command that began at this time and has ended now.
    pub fn observe(&self, is_read: bool, began: Instant) {
        let histogram = if is_read { &self.reads } else { &self.writes };
        histogram.observe(began.elapsed());
    }
}

impl EncodeMetric for CommandTimes {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (kind, histogram) in [("read", &self.reads), ("write", &self.writes)] {
            let labels = [("kind", kind)];
            histogram.write(&mut encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_that_holds_it() {
        let histogram = DurationHistogram::default();
        for micros in [1, 250, 251, 31_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let mut text = String::new();
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("x", "X", histogram);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "x_bucket{le=\"0.00025\"} 2",
            "x_bucket{le=\"0.0005\"} 3",
            "x_bucket{le=\"30.0\"} 3",
            "x_bucket{le=\"+Inf\"} 4",
            "x_count 4",
            "x_sum 31.000502",
        ] {
            assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
        }
    }
}
