//! The text of `/metrics`: the name and the help of each metric.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::metrics::Metrics;

#[cfg(target_os = "linux")]
fn process_text() -> String {
    crate::metrics::process::text()
}

#[cfg(not(target_os = "linux"))]
fn process_text() -> String {
    String::new()
}

impl Metrics {
    /// Returns the text of `/metrics`, in the OpenMetrics format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut registry = Registry::with_prefix("streamgate");
        let r = &mut registry;
        r.register("requests", "Answered requests", self.requests.clone());
        r.register(
            "refused",
            "Rejected requests and connections, by limit",
            self.refused.clone(),
        );
        r.register(
            "unlogged_refusals",
            "Refusals not logged individually",
            self.untold.clone(),
        );
        r.register(
            "connections",
            "Open client connections",
            self.connections.clone(),
        );
        r.register(
            "tls_handshakes",
            "TLS handshakes, by outcome",
            self.handshakes.clone(),
        );
        r.register(
            "subscriptions",
            "Open subscriptions",
            self.subscriptions.clone(),
        );
        r.register(
            "waiting_reads",
            "Reads waiting for an entry",
            self.waiting.clone(),
        );
        r.register(
            "read_bytes",
            "Large reads from Redis in progress, in bytes",
            self.read_bytes.clone(),
        );
        r.register(
            "answer_bytes",
            "Large answers not yet read by clients, in bytes",
            self.answer_bytes.clone(),
        );
        r.register(
            "body_bytes",
            "Large request bodies in memory, in bytes",
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
        r.register(
            "redis_up",
            "1 if Redis is reachable, else 0",
            self.redis_up.clone(),
        );
        self.register_cluster(r);
        self.register_entries(r);
        r.register(
            "live_bytes",
            "Recent pages kept for followers that are slightly behind, in bytes",
            self.live_bytes.clone(),
        );
        r.register(
            "fell_behind",
            "Subscriptions that fell behind the live feed and returned to reading the stream",
            self.fell_behind.clone(),
        );
        r.register("gaps", "Gaps reported to subscribers", self.gaps.clone());
        r.register(
            "resets",
            "Stream resets reported to subscribers",
            self.resets.clone(),
        );
        self.register_work(r);
        self.register_groups(r);
        self.register_times(r);
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        r.register("build", "Version of the gateway", version);
        let mut text = process_text();
        // Writing into a `String` cannot fail.
        let _ = encode_registry(&mut text, &registry).and_then(|()| encode_eof(&mut text));
        text
    }

    /// Registers the metrics of a Redis cluster.
    fn register_cluster(&self, r: &mut Registry) {
        r.register(
            "redis_nodes",
            "Masters that serve slots of a cluster; 1 for a single server",
            self.redis_nodes.clone(),
        );
        r.register(
            "redis_slots_down",
            "Slots of the cluster without a reachable master",
            self.redis_slots_down.clone(),
        );
        r.register(
            "redis_redirects",
            "Commands that another node of the cluster had to run",
            self.redis_redirects.clone(),
        );
        r.register(
            "redis_topology_changes",
            "Changes of the slot table of the cluster",
            self.redis_topology_changes.clone(),
        );
    }

    /// Registers the histograms of durations.
    fn register_times(&self, r: &mut Registry) {
        r.register_with_unit(
            "request_duration",
            "Time from the head of a request to the head of its response, without reads that waited",
            Unit::Seconds,
            self.request_times.clone(),
        );
        r.register_with_unit(
            "redis_command_duration",
            "Time of Redis commands on shared connections",
            Unit::Seconds,
            self.command_times.clone(),
        );
        r.register_with_unit(
            "delivery_delay",
            "Time from an append to its delivery to a subscription that follows live",
            Unit::Seconds,
            self.delivery_times.clone(),
        );
    }

    /// Registers the counts of entries.
    fn register_entries(&self, r: &mut Registry) {
        r.register(
            "fast_requests",
            "Requests that took the fast path",
            self.fast_requests.clone(),
        );
        r.register(
            "published_entries",
            "Appended entries",
            self.published.clone(),
        );
        r.register(
            "delivered_entries",
            "Entries delivered to subscriptions",
            self.delivered.clone(),
        );
    }

    /// Registers the figures of the groups that `metrics-groups` selects.
    fn register_groups(&self, r: &mut Registry) {
        let groups = &self.groups;
        r.register(
            "group_lag",
            "Entries that the group has not read; absent if only counting them could tell",
            groups.metric(|group| group.lag),
        );
        r.register(
            "group_pending",
            "Entries delivered to the group and not acknowledged",
            groups.metric(|group| Some(group.pending)),
        );
        r.register_with_unit(
            "group_oldest_pending_age",
            "Age of the oldest pending entry of the group, by its id",
            Unit::Seconds,
            groups.metric(|group| Some(group.oldest_pending_s)),
        );
        r.register(
            "group_leases",
            "Leases of the group that have not ended, also of returned entries that wait for their backoff",
            groups.metric(|group| group.leases),
        );
        r.register(
            "group_dead_letters",
            "Entries in the dead-letter stream of the group",
            groups.metric(|group| group.dead_letters),
        );
        r.register(
            "group_keys_in_flight",
            "Entries with a key that are handed out, delayed, or due, in a group with an order",
            groups.metric(|group| group.keys.map(|keys| keys.in_flight)),
        );
        r.register(
            "group_keys_blocked",
            "Entries whose dead letters block their keys, in a group with an order",
            groups.metric(|group| group.keys.map(|keys| keys.blocked)),
        );
        r.register_with_unit(
            "group_oldest_blocked_age",
            "Age of the oldest entry whose dead letter blocks its key, by its id; 0 for none",
            Unit::Seconds,
            groups.metric(|group| group.keys.map(|keys| keys.oldest_blocked_s)),
        );
        r.register(
            "group_keys_waiting",
            "Entries that were read ahead and wait for their keys, in a group with an order",
            groups.metric(|group| group.keys.map(|keys| keys.waiting)),
        );
        r.register(
            "groups_beyond_limit",
            "Selected groups that are not measured because of max-metrics-groups",
            self.groups_beyond.clone(),
        );
        r.register_with_unit(
            "groups_measured_timestamp",
            "Time of the last measurement of the selected groups, in Unix time; 0 for none",
            Unit::Seconds,
            self.groups_measured.clone(),
        );
    }

    /// Registers the metrics of groups, retention, scheduling and credentials.
    fn register_work(&self, r: &mut Registry) {
        r.register(
            "undelivered_entries",
            "Entries read for a worker that had disconnected",
            self.undelivered.clone(),
        );
        r.register(
            "dead_letters",
            "Entries moved to dead letters, by reason",
            self.dead_letters.clone(),
        );
        r.register(
            "discarded_settings",
            "Settings discarded because another client replaced their stream or group, by kind",
            self.discarded.clone(),
        );
        r.register(
            "sweeps",
            "Sweeper rounds of this gateway over groups with a policy",
            self.sweeps.clone(),
        );
        r.register(
            "enrolled_entries",
            "Entries taken by native consumers that were given a lease",
            self.enrolled.clone(),
        );
        r.register(
            "unenrolled_entries",
            "Entries of native consumers without a lease, as last seen by this gateway's sweeper",
            self.unenrolled.clone(),
        );
        r.register(
            "forgotten_consumers",
            "Consumers deleted because they were idle and had no pending entries",
            self.forgotten.clone(),
        );
        r.register(
            "retention_sweeps",
            "Retention rounds of this gateway",
            self.retention_sweeps.clone(),
        );
        r.register(
            "retention_trimmed_entries",
            "Entries removed by retention",
            self.retention_trimmed.clone(),
        );
        r.register(
            "retention_forced_entries",
            "Entries removed by hard_maxlen although a group had not read or acknowledged them",
            self.retention_forced.clone(),
        );
        r.register(
            "retention_blocked_streams",
            "Streams whose retention is blocked by a group, as of this gateway's last round",
            self.retention_blocked.clone(),
        );
        r.register(
            "scheduled_stuck",
            "Failed attempts to append due scheduled entries, to be retried",
            self.scheduled_stuck.clone(),
        );
        r.register(
            "stuck_entries",
            "Failed moves of entries to a dead-letter key that is not a stream",
            self.stuck.clone(),
        );
        r.register("spans", "Spans of traces, by outcome", self.spans.clone());
        r.register(
            "webhooks",
            "Requests to webhook sources, by outcome; failed appends are in requests",
            self.webhooks.clone(),
        );
        r.register(
            "auth_file_errors",
            "Failed reloads of the auth file",
            self.auth_file_errors.clone(),
        );
    }
}
