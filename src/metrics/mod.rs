//! Prometheus metrics. One struct is passed to all modules; there is no global registry.
//!
//! Each label has a closed set of values, such as a route, a status or the name of a limit. A
//! stream or a group is a label only for the groups that the operator selects, and an address never
//! is.

mod exposition;
mod gauge_guard;
mod group_figures;
mod histogram;
#[cfg(target_os = "linux")]
mod process;

use std::sync::Arc;

use prometheus_client::encoding::{EncodeLabel as _, EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

pub use crate::metrics::gauge_guard::{GaugeBytesGuard, GaugeGuard};
pub use crate::metrics::group_figures::{GroupFigures, KeyFigures, MeasuredGroups};
pub use crate::metrics::histogram::{CommandTimes, DurationHistogram, RequestTimes};

/// Values of `bound` in `refused`: the limits for requests and connections.
pub const BOUNDS: &[&str] = &[
    "accept",
    "addresses",
    "answers",
    "answers_of_principal",
    "bodies",
    "bodies_of_principal",
    "connections",
    "connections_per_address",
    "consumers",
    "durable_connections_of_principal",
    "field_name",
    "fields",
    "followed_streams",
    "followed_streams_of_principal",
    "inflation",
    "linger",
    "rate",
    "rate_of_principal",
    "read_ahead",
    "reads",
    "reads_of_principal",
    "resets",
    "scheduled",
    "subscriptions",
    "subscriptions_of_principal",
    "unread",
    "waiting_reads",
    "waiting_reads_of_principal",
];
/// Values of `outcome` in `tls_handshakes`.
const OUTCOMES: [&str; 3] = ["done", "failed", "timeout"];
/// Values of `outcome` in `spans`.
const SPANS: [&str; 2] = ["dropped", "exported"];
/// Values of `outcome` in `webhooks`.
const WEBHOOKS: [&str; 5] = ["handshake", "replayed", "signature", "stale", "stored"];
/// Values of `reason` in `dead_letters`.
const REASONS: [&str; 3] = ["gone", "max-deliveries", "rejected"];
/// Values of `kind` in `redis_connections`.
const KINDS: [&str; 5] = ["blocking", "durable", "listening", "scheduling", "shared"];

/// One label with a static name and value.
type Label = [(&'static str, &'static str); 1];

/// Labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    /// The method; `OTHER` for methods that no route supports.
    pub method: &'static str,
    /// The documented route, with its placeholders.
    pub route: Arc<str>,
    /// The status code.
    pub status: u16,
}

impl EncodeLabelSet for RequestLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        ("method", self.method).encode(encoder.encode_label())?;
        ("route", &*self.route).encode(encoder.encode_label())?;
        ("status", u32::from(self.status)).encode(encoder.encode_label())
    }
}

/// The metrics of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Answered requests.
    pub requests: Family<RequestLabels, Counter>,
    /// Time from the head of a request to the head of its response, without reads that waited.
    pub request_times: RequestTimes,
    /// Time of Redis commands on shared connections.
    pub command_times: CommandTimes,
    /// Time from an append to its delivery to a subscription that follows live.
    pub delivery_times: DurationHistogram,
    /// Figures of the groups selected for metrics.
    pub groups: MeasuredGroups,
    /// Selected groups beyond the limit, which are not measured.
    pub groups_beyond: Gauge,
    /// Time of the last measurement of groups, in Unix seconds; 0 for none yet.
    pub groups_measured: Gauge,
    /// Rejected requests and connections, by limit.
    pub refused: Family<Label, Counter>,
    /// Refusals that were not logged individually.
    pub untold: Counter,
    /// Open client connections.
    pub connections: Gauge,
    /// TLS handshakes, by outcome.
    pub handshakes: Family<Label, Counter>,
    /// Open subscriptions.
    pub subscriptions: Gauge,
    /// Reads waiting for an entry.
    pub waiting: Gauge,
    /// Memory reserved for large reads in progress, in bytes.
    pub read_bytes: Gauge,
    /// Large answers not yet read by clients, in bytes.
    pub answer_bytes: Gauge,
    /// Large request bodies in memory, in bytes.
    pub body_bytes: Gauge,
    /// Streams followed for subscriptions and waiting reads.
    pub followed_streams: Gauge,
    /// Connections to Redis, by kind.
    pub redis_connections: Family<Label, Gauge>,
    /// 1 if Redis is reachable, else 0.
    pub redis_up: Gauge,
    /// Masters that serve slots; 1 for a single server.
    pub redis_nodes: Gauge,
    /// Slots of the cluster without a reachable master.
    pub redis_slots_down: Gauge,
    /// Commands that another node of the cluster had to run, because a slot had moved or was being
    /// moved.
    pub redis_redirects: Counter,
    /// Changes of the cluster's slot table.
    pub redis_topology_changes: Counter,
    /// Requests that took the fast path.
    pub fast_requests: Counter,
    /// Appended entries.
    pub published: Counter,
    /// Entries delivered to subscriptions.
    pub delivered: Counter,
    /// Recent pages kept for followers that are slightly behind, in bytes.
    pub live_bytes: Gauge,
    /// Subscriptions that fell behind the live feed and returned to reading the stream.
    pub fell_behind: Counter,
    /// Gaps reported to subscribers.
    pub gaps: Counter,
    /// Stream resets reported to subscribers.
    pub resets: Counter,
    /// Entries read for a worker that had disconnected. In a group with a policy they are handed
    /// back; in a plain group they stay pending with the worker.
    pub undelivered: Counter,
    /// Entries moved to dead letters, by reason.
    pub dead_letters: Family<Label, Counter>,
    /// Settings discarded because their stream or group was replaced by another client, by kind.
    pub discarded: Family<Label, Counter>,
    /// Sweeper rounds.
    pub sweeps: Counter,
    /// Entries taken by native consumers that were given a lease.
    pub enrolled: Counter,
    /// Entries of native consumers without a lease, as last seen by the sweeper of this gateway.
    pub unenrolled: Gauge,
    /// Consumers deleted because they were idle and had no pending entries.
    pub forgotten: Counter,
    /// Failed reloads of the auth file.
    pub auth_file_errors: Counter,
    /// Spans of traces, by outcome.
    pub spans: Family<Label, Counter>,
    /// Requests to webhook sources, by outcome.
    pub webhooks: Family<Label, Counter>,
    /// Retention rounds.
    pub retention_sweeps: Counter,
    /// Entries removed by retention.
    pub retention_trimmed: Counter,
    /// Entries removed by retention although a group had not read or acknowledged them.
    pub retention_forced: Counter,
    /// Streams whose retention is blocked by a group, as of this gateway's last round.
    pub retention_blocked: Gauge,
    /// Failed attempts to append due scheduled entries.
    pub scheduled_stuck: Counter,
    /// Failed moves to dead letters, because the dead-letter key is not a stream.
    pub stuck: Counter,
}

impl Metrics {
    /// Returns metrics in which every series with known labels exists, at 0.
    ///
    /// A series that begins at 1 hides its first event from rates and alerts. `operations` are the
    /// methods, routes and statuses of requests.
    #[must_use]
    pub fn with_known_series(
        operations: impl IntoIterator<Item = (&'static str, Arc<str>, u16)>,
    ) -> Self {
        let operations: Vec<_> = operations.into_iter().collect();
        let routes = operations
            .iter()
            .map(|(method, route, _)| (*method, route.clone()));
        let metrics = Self {
            request_times: RequestTimes::new(routes),
            ..Self::default()
        };
        for (method, route, status) in operations {
            let labels = RequestLabels {
                method,
                route,
                status,
            };
            drop(metrics.requests.get_or_create(&labels));
        }
        let counters = [
            (&metrics.refused, "bound", BOUNDS),
            (&metrics.handshakes, "outcome", &OUTCOMES),
            (&metrics.dead_letters, "reason", &REASONS),
            (&metrics.spans, "outcome", &SPANS),
            (&metrics.webhooks, "outcome", &WEBHOOKS),
        ];
        for (family, label, values) in counters {
            for value in values {
                drop(family.get_or_create(&[(label, value)]));
            }
        }
        for kind in KINDS {
            drop(metrics.redis_connections.get_or_create(&[("kind", kind)]));
        }
        metrics
    }

    /// Counts one request or connection rejected by `bound`, one of [`BOUNDS`].
    pub fn refuse(&self, bound: &'static str) {
        debug_assert!(BOUNDS.contains(&bound), "{bound} is missing from BOUNDS");
        self.refused.get_or_create(&[("bound", bound)]).inc();
    }

    /// Counts a TLS handshake with this outcome.
    pub fn shaken(&self, outcome: &'static str) {
        self.handshakes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts spans with this outcome.
    pub fn count_spans(&self, outcome: &'static str, count: u64) {
        debug_assert!(SPANS.contains(&outcome), "{outcome} is not in SPANS");
        let spans = self.spans.get_or_create(&[("outcome", outcome)]);
        spans.inc_by(count);
    }

    /// Counts a request to a webhook source with this outcome.
    pub fn count_webhook(&self, outcome: &'static str) {
        debug_assert!(WEBHOOKS.contains(&outcome), "{outcome} is not in WEBHOOKS");
        self.webhooks.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts entries moved to dead letters for `reason`.
    pub fn count_dead_letters(&self, reason: &'static str, count: u64) {
        if count > 0 {
            debug_assert!(
                REASONS.contains(&reason),
                "{reason} is missing from REASONS"
            );
            self.dead_letters
                .get_or_create(&[("reason", reason)])
                .inc_by(count);
        }
    }

    /// Raises `gauge` by one until the returned guard is dropped.
    #[must_use]
    pub fn raise(gauge: &Gauge) -> GaugeGuard {
        gauge.inc();
        GaugeGuard(gauge.clone())
    }

    /// Raises `gauge` like [`Metrics::raise`]. Returns `None` if `gauge` has reached `limit`.
    #[must_use]
    pub fn raise_below(gauge: &Gauge, limit: usize) -> Option<GaugeGuard> {
        let held = Self::raise(gauge);
        usize::try_from(gauge.get())
            .is_ok_and(|count| count <= limit)
            .then_some(held)
    }

    /// Raises `gauge` by `bytes` until the returned guard is dropped. Returns `None` if the gauge
    /// would exceed `limit`.
    #[must_use]
    pub fn raise_bytes(gauge: &Gauge, bytes: u64, limit: usize) -> Option<GaugeBytesGuard> {
        let mut held = GaugeBytesGuard {
            gauge: gauge.clone(),
            bytes: 0,
        };
        held.resize(bytes, limit).then_some(held)
    }
}
