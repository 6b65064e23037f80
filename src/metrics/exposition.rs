//! The text of `/metrics`: the name and the help of each metric.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use crate::metrics::Metrics;

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
        let mut text = String::new();
        // Writing into a `String` cannot fail.
        let _ = encode(&mut text, &registry);
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
        r.register(
            "auth_file_errors",
            "Failed reloads of the auth file",
            self.auth_file_errors.clone(),
        );
    }
}
