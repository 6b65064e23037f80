//! What is counted. One struct, handed around; nothing global.
//!
//! Labels have a closed set of values: a route, a status, the name of a bound. Never a stream, a
//! group or an address.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Values of `bound` in `refused`: the limits that requests and connections can meet.
pub const BOUNDS: &[&str] = &[
    "accept",
    "addresses",
    "answers",
    "bodies",
    "connections",
    "connections_per_address",
    "consumers",
    "field_name",
    "fields",
    "followed_streams",
    "inflation",
    "linger",
    "rate",
    "rate_of_principal",
    "reads",
    "resets",
    "scheduled",
    "subscriptions",
    "subscriptions_of_principal",
    "unread",
    "waiting_reads",
];
/// Values of `outcome` in `tls_handshakes`.
const OUTCOMES: [&str; 3] = ["done", "failed", "timeout"];
/// Values of `reason` in `dead_letters`.
const REASONS: [&str; 3] = ["gone", "max-deliveries", "rejected"];
/// Values of `kind` in `redis_connections`.
const KINDS: [&str; 5] = ["blocking", "durable", "listening", "scheduling", "shared"];

/// One label with a name and a value from the code.
type Label = [(&'static str, &'static str); 1];

/// Labels of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    /// The method, `OTHER` for what is no method of ours.
    pub method: &'static str,
    /// The route as documented, with its placeholders.
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

use prometheus_client::encoding::EncodeLabel as _;

/// All metrics of a process. Cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics {
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// Requests and connections turned away, by the bound they met.
    pub refused: Family<Label, Counter>,
    /// Refusals that the log does not tell one by one.
    pub untold: Counter,
    /// Connections from clients.
    pub connections: Gauge,
    /// TLS handshakes, by what became of them.
    pub handshakes: Family<Label, Counter>,
    /// Subscriptions open.
    pub subscriptions: Gauge,
    /// Reads that wait for an entry.
    pub waiting: Gauge,
    /// Bytes of large reads that are under way.
    pub read_bytes: Gauge,
    /// Bytes of large answers that clients have not taken yet.
    pub answer_bytes: Gauge,
    /// Bytes of large bodies that are gathered.
    pub body_bytes: Gauge,
    /// Streams that are followed for subscriptions and waiting reads.
    pub followed_streams: Gauge,
    /// Connections to Redis, by kind.
    pub redis_connections: Family<Label, Gauge>,
    /// 1 while Redis answers.
    pub redis_up: Gauge,
    /// Entries appended.
    pub published: Counter,
    /// Entries handed to subscriptions.
    pub delivered: Counter,
    /// Bytes of pages kept for followers who are a little behind.
    pub live_bytes: Gauge,
    /// Times a subscription fell behind the live feed and went back to reading the stream.
    pub fell_behind: Counter,
    /// Gaps told to subscribers.
    pub gaps: Counter,
    /// Resets told to subscribers.
    pub resets: Counter,
    /// Entries read for a worker who was gone when they came: handed back where the group has a
    /// policy, pending with the worker where not.
    pub undelivered: Counter,
    /// Entries moved to dead letters, by why.
    pub dead_letters: Family<Label, Counter>,
    /// Settings discarded because their stream or group was replaced by another client, by kind.
    pub discarded: Family<Label, Counter>,
    /// Rounds of the sweeper.
    pub sweeps: Counter,
    /// Entries that native consumers took, and that were given leases.
    pub enrolled: Counter,
    /// Entries of native consumers that have no lease yet, as far as the sweeper of this gateway knows.
    pub unenrolled: Gauge,
    /// Consumers deleted because they held nothing and had long been away.
    pub forgotten: Counter,
    /// Times the auth file was written with a mistake, and not taken.
    pub auth_file_errors: Counter,
    /// Rounds in which streams were kept to their retention.
    pub retention_sweeps: Counter,
    /// Entries removed by retention.
    pub retention_trimmed: Counter,
    /// Of these, such as some group had not read or not acknowledged.
    pub retention_forced: Counter,
    /// Streams whose retention a group blocks, at the end of the last round here.
    pub retention_blocked: Gauge,
    /// Times what was scheduled could not be appended.
    pub scheduled_stuck: Counter,
    /// Entries that should have been moved to dead letters, to a key that holds something else.
    pub stuck: Counter,
}

impl Metrics {
    /// Metrics in which every series with known labels exists, at 0. A series that begins at 1 hides its
    /// first event from rates and alerts. `operations` are methods, routes and statuses of requests.
    #[must_use]
    pub fn with_known_series(
        operations: impl IntoIterator<Item = (&'static str, Arc<str>, u16)>,
    ) -> Self {
        let metrics = Self::default();
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

    /// Counts one request or connection that met `bound`, one of [`BOUNDS`].
    pub fn refuse(&self, bound: &'static str) {
        debug_assert!(BOUNDS.contains(&bound), "{bound} is missing from BOUNDS");
        self.refused.get_or_create(&[("bound", bound)]).inc();
    }

    /// Counts a TLS handshake that ended like this.
    pub fn shaken(&self, outcome: &'static str) {
        self.handshakes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// Counts entries moved to dead letters.
    pub fn bury(&self, reason: &'static str, count: u64) {
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

    /// A guard that holds `gauge` up by one.
    #[must_use]
    pub fn hold(gauge: &Gauge) -> Held {
        gauge.inc();
        Held(gauge.clone())
    }

    /// A guard like [`Metrics::hold`], unless `gauge` has reached `limit`.
    #[must_use]
    pub fn hold_below(gauge: &Gauge, limit: usize) -> Option<Held> {
        let held = Self::hold(gauge);
        usize::try_from(gauge.get())
            .is_ok_and(|count| count <= limit)
            .then_some(held)
    }

    /// A guard that holds `gauge` up by so many bytes, unless that is more than `limit`.
    #[must_use]
    pub fn hold_bytes(gauge: &Gauge, bytes: u64, limit: usize) -> Option<HeldBytes> {
        let mut held = HeldBytes {
            gauge: gauge.clone(),
            bytes: 0,
        };
        held.resize(bytes, limit).then_some(held)
    }

    /// The text of `/metrics`, in the OpenMetrics format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("streamgate");
        let r = &mut registry;
        r.register("requests", "Requests answered", self.requests.clone());
        r.register(
            "refused",
            "Requests and connections turned away, by the bound met",
            self.refused.clone(),
        );
        r.register(
            "unlogged_refusals",
            "Refusals that were not logged one by one",
            self.untold.clone(),
        );
        r.register(
            "connections",
            "Connections from clients",
            self.connections.clone(),
        );
        r.register(
            "tls_handshakes",
            "TLS handshakes, by what became of them",
            self.handshakes.clone(),
        );
        r.register(
            "subscriptions",
            "Subscriptions open",
            self.subscriptions.clone(),
        );
        r.register(
            "waiting_reads",
            "Reads waiting for an entry",
            self.waiting.clone(),
        );
        r.register(
            "read_bytes",
            "Bytes of large reads from Redis that are under way",
            self.read_bytes.clone(),
        );
        r.register(
            "answer_bytes",
            "Bytes of large answers that clients have not taken yet",
            self.answer_bytes.clone(),
        );
        r.register(
            "body_bytes",
            "Bytes of large bodies of requests that are gathered",
            self.body_bytes.clone(),
        );
        r.register(
            "followed_streams",
            "Streams followed for subscriptions and waiting reads",
            self.followed_streams.clone(),
        );
        r.register(
            "redis_connections",
            "Connections to Redis, by kind",
            self.redis_connections.clone(),
        );
        r.register("redis_up", "1 while Redis answers", self.redis_up.clone());
        r.register(
            "published_entries",
            "Entries appended",
            self.published.clone(),
        );
        r.register(
            "delivered_entries",
            "Entries handed to subscriptions",
            self.delivered.clone(),
        );
        r.register(
            "live_bytes",
            "Bytes of pages kept for followers who are a little behind",
            self.live_bytes.clone(),
        );
        r.register(
            "fell_behind",
            "Times a subscription went back from the live feed to the stream",
            self.fell_behind.clone(),
        );
        r.register("gaps", "Gaps told to subscribers", self.gaps.clone());
        r.register("resets", "Resets told to subscribers", self.resets.clone());
        self.register_work(r);
        let mut text = String::new();
        // Writing into a `String` cannot fail.
        let _ = encode(&mut text, &registry);
        text
    }

    /// What groups, retention and credentials are about.
    fn register_work(&self, r: &mut Registry) {
        r.register(
            "undelivered_entries",
            "Entries read for a worker who was gone by then",
            self.undelivered.clone(),
        );
        r.register(
            "dead_letters",
            "Entries moved to dead letters, by why",
            self.dead_letters.clone(),
        );
        r.register(
            "discarded_settings",
            "Settings discarded because another client replaced their stream or group, by kind",
            self.discarded.clone(),
        );
        r.register(
            "sweeps",
            "Rounds in which this gateway looked after groups",
            self.sweeps.clone(),
        );
        r.register(
            "enrolled_entries",
            "Entries that native consumers took, and that were given leases",
            self.enrolled.clone(),
        );
        r.register(
            "unenrolled_entries",
            "Entries of native consumers without a lease yet, as seen by this gateway's sweeper",
            self.unenrolled.clone(),
        );
        r.register(
            "forgotten_consumers",
            "Consumers deleted because they held nothing and had long been away",
            self.forgotten.clone(),
        );
        r.register(
            "retention_sweeps",
            "Rounds in which this gateway kept streams to their retention",
            self.retention_sweeps.clone(),
        );
        r.register(
            "retention_trimmed_entries",
            "Entries removed by retention",
            self.retention_trimmed.clone(),
        );
        r.register(
            "retention_forced_entries",
            "Entries removed by hard_maxlen though some group had not read or acknowledged them",
            self.retention_forced.clone(),
        );
        r.register(
            "retention_blocked_streams",
            "Streams of which a group holds back what should go, by the last round here",
            self.retention_blocked.clone(),
        );
        r.register(
            "scheduled_stuck",
            "Times what was scheduled could not be appended, and was left for later",
            self.scheduled_stuck.clone(),
        );
        r.register(
            "stuck_entries",
            "Times an entry should have been moved to a dead-letter key that is no stream",
            self.stuck.clone(),
        );
        r.register(
            "auth_file_errors",
            "Times the auth file was written with a mistake, and not taken",
            self.auth_file_errors.clone(),
        );
    }
}

/// Lowers its gauge again when dropped.
pub struct Held(Gauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Lowers its gauge again, by as many bytes as it was raised, when dropped.
pub struct HeldBytes {
    gauge: Gauge,
    bytes: i64,
}

impl HeldBytes {
    /// Holds so many bytes from now on; false if that is more than before and the gauge would be
    /// above `limit`: then it holds what it held.
    #[must_use]
    pub fn resize(&mut self, bytes: u64, limit: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let more = bytes - self.bytes;
        let after = self.gauge.inc_by(more).saturating_add(more);
        if more > 0 && usize::try_from(after).is_ok_and(|after| after > limit) {
            self.gauge.dec_by(more);
            return false;
        }
        self.bytes = bytes;
        true
    }
}

impl Drop for HeldBytes {
    fn drop(&mut self) {
        self.gauge.dec_by(self.bytes);
    }
}
