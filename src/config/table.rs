//! The table of all settings.
//!
//! A field is a setting: its name with dashes is the flag, its documentation the help text, its
//! type decides how the value is read (`kinds.rs`). The flags, the environment variables, the file,
//! `--help`, `docs/settings.md` and the tests of ranges are derived from this table.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tracing::Level;

use crate::config::RedisUrl;
use crate::config::cluster::NodeMapping;
use crate::config::kinds::{ByteSize, DataDir, HostName, LogFormat, Origin};
use crate::config::spec::{Spec, dashed, settings};
use crate::http::BasePath;
use crate::model::group_pattern::GroupPattern;
use crate::model::network::Network;
use crate::net::forwarded::ForwardedHeader;
use crate::rate_limit::Quota;
use crate::trace::OtlpEndpoint;

settings! {
    /// Listen address and port; a port alone listens on 127.0.0.1, and port 0 selects a free port
    listen: SocketAddr = "127.0.0.1:8080";
    /// Additional address and port for /metrics, /livez and /readyz only, without authentication
    metrics_listen: Option<SocketAddr>;
    /// Groups whose lag, pending entries and dead letters are metrics: STREAM/GROUP, each a name or
    /// PREFIX*, like `orders:*/*` (repeatable)
    metrics_groups: Vec<GroupPattern>;
    /// Maximum number of groups with metrics of their own
    max_metrics_groups: usize = "200", from "1" to "10000";
    /// File with API keys, token issuers and webhook sources; created by `streamgate keys new`
    auth_file: Option<PathBuf>;
    /// File with the secret that signs tickets (at least 32 bytes), instead of a secret shared in
    /// Redis; reloaded when it changes
    ticket_secret_file: Option<PathBuf>;
    /// Allow listening on a non-loopback address without authentication
    insecure: bool;
    /// Redis URL: `redis://[user:password@]host:port/db`, `rediss://` for TLS, `unix:///path`,
    /// nodes of a cluster: `redis-cluster://host:port,host:port`, or sentinels:
    /// `redis-sentinel://host,host?sentinelMasterId=NAME`
    redis_url: Option<RedisUrl>;
    /// Address that a cluster node announces, and the address at which the gateway reaches the node
    /// (repeatable)
    redis_cluster_map: Vec<NodeMapping>;
    /// File with the Redis password, instead of a password in the URL; read again for each new
    /// connection
    redis_password_file: Option<PathBuf>;
    /// File with the CA certificates (PEM) for Redis, instead of those of the system
    redis_ca: Option<PathBuf>;
    /// Client certificate (PEM) for Redis
    redis_client_cert: Option<PathBuf>;
    /// Private key (PEM) of the Redis client certificate
    redis_client_key: Option<PathBuf>;
    /// TLS certificate with its chain (PEM), which enables TLS; reloaded when it changes
    tls_cert: Option<PathBuf>;
    /// Private key (PEM) of the TLS certificate
    tls_key: Option<PathBuf>;
    /// Data directory of a private Redis, which the gateway runs
    data_dir: Option<DataDir>;
    /// Host name accepted in requests, besides loopback names (repeatable)
    host: Vec<HostName>;
    /// Origin whose web pages may call the API, like `https://app.example.com` (repeatable)
    allow_origin: Vec<Origin>;
    /// Path prefix that a proxy strips, like /streams; trusted proxies can set another one in
    /// X-Forwarded-Prefix
    base_path: Option<BasePath>;
    /// Maximum size of a request body
    max_body: ByteSize = "8MiB", from "1B" to "512MiB";
    /// Maximum decompression ratio of a compressed body; the first 1 MiB is exempt
    max_inflation: usize = "100", from "1" to "1000000";
    /// Maximum number of fields in an entry
    max_fields: usize = "10000", from "1" to "500000";
    /// Maximum size of a field name
    max_field_name: ByteSize = "64KiB", from "1B" to "512MiB";
    /// Maximum number of concurrent client connections
    max_connections: usize = "20000";
    /// Maximum number of concurrent connections of one client; 0 for no limit; trusted proxies are
    /// exempt
    max_connections_per_address: usize = "0", from "0" to "1000000";
    /// Maximum number of concurrent requests on an HTTP/2 connection
    max_streams_per_connection: usize = "128", from "1" to "10000";
    /// Maximum size of a request head
    max_header_size: ByteSize = "128KiB", from "8KiB" to "1MiB";
    /// Rate limit of one client, like 100/s or 6000/m; unset for no limit
    rate_per_address: Option<Quota>;
    /// Maximum number of clients with a rate limit of their own; more clients share limits
    max_addresses: usize = "100000";
    /// Address or network of a proxy that is trusted to state the client address, like 10.0.0.0/8
    /// (repeatable)
    trusted_proxy: Vec<Network>;
    /// Header in which trusted proxies state the client address: x-forwarded-for or forwarded
    forwarded_header: ForwardedHeader = "x-forwarded-for";
    /// Percentage of each limit of subscriptions, followed streams, waiting reads, durable
    /// connections and memory that one principal or tenant can use; `share` in the auth file
    /// overrides it
    principal_share: usize = "25", from "1" to "100";
    /// Maximum number of open subscriptions
    max_subscriptions: usize = "20000";
    /// Maximum number of reads that wait for an entry
    max_waiting_reads: usize = "10000";
    /// Maximum number of consumers in a group; native consumers count but are not refused
    max_consumers: usize = "10000";
    /// Maximum number of scheduled appends of one stream
    max_scheduled: usize = "10000";
    /// Maximum size of all scheduled appends of one stream; at least max-body
    max_scheduled_bytes: ByteSize = "64MiB";
    /// Maximum number of streams followed by subscriptions and waiting reads
    max_followed_streams: usize = "10000";
    /// Number of worker threads, each with a Redis connection for writes; if unset, the number of
    /// cores, at most 16
    workers: Option<usize>, from "1" to "256";
    /// Number of Redis connections shared by all short reads
    redis_connections: usize = "1", from "1" to "256";
    /// Number of Redis connections that wait for new entries
    redis_blocking_connections: usize = "4", from "1" to "256";
    /// Number of Redis connections for writes that wait for replicas or the disk
    redis_durable_connections: usize = "8", from "1" to "256";
    /// Redis connect timeout
    redis_connect_timeout: Duration = "1s", from "10ms" to "1h";
    /// Redis response timeout
    redis_timeout: Duration = "1500ms", from "10ms" to "1h";
    /// TLS handshake timeout
    tls_handshake_timeout: Duration = "10s";
    /// Timeout for receiving a request head
    header_timeout: Duration = "30s";
    /// Idle timeout of a connection between requests; set it longer than the keep-alive timeout of a
    /// load balancer
    idle_timeout: Duration = "75s";
    /// Timeout for receiving a request body; for bodies read line by line, the timeout of each part
    body_timeout: Duration = "30s";
    /// Maximum time a client can leave a response unread
    write_timeout: Duration = "30s";
    /// Interval of comments on a quiet subscription, plus or minus a fifth
    heartbeat: Duration = "15s";
    /// Maximum duration of a subscription before its client must reconnect, plus or minus a fifth; 0
    /// for no limit
    max_session_age: Duration = "0", from "0" to "365d";
    /// Memory for recent entries of followed streams, for subscribers that are slightly behind
    live_memory: ByteSize = "64MiB";
    /// Memory for concurrent large reads from Redis (64 KiB and more)
    read_memory: ByteSize = "64MiB";
    /// Memory for large responses that clients have not received yet
    answer_memory: ByteSize = "256MiB", from "64MiB" to "1024GiB";
    /// Memory for large request bodies in progress, beyond the first 64 KiB of each; at least
    /// max-body
    body_memory: ByteSize = "256MiB";
    /// Time for which an Idempotency-Key is remembered
    idempotency_window: Duration = "10m";
    /// Interval of the maintenance of groups with a policy that nobody reads; one gateway runs it
    /// for all
    sweep_every: Duration = "5s";
    /// Interval of trimming streams to their retention while nobody appends through a gateway; one
    /// gateway runs it for all
    retention_every: Duration = "30s";
    /// Do not serve the console at /console
    no_console: bool;
    /// Store the traceparent of an append in a field of its entries
    trace_context: bool;
    /// Collector to which traces are exported by OTLP over HTTP, like
    /// `http://localhost:4318`
    otlp_endpoint: Option<OtlpEndpoint>;
    /// Percentage of requests without a traceparent that are traced; others follow their caller
    trace_sampling: usize = "100", from "0" to "100";
    /// Maximum time to drain a request after an early response (413, 401, …), so that a client that
    /// is still sending can read the response
    linger_timeout: Duration = "10s";
    /// Maximum number of bytes to drain after an early response
    linger_bytes: ByteSize = "64MiB";
    /// Time after SIGTERM during which connections and requests are still accepted, with Connection:
    /// close, while /readyz fails; at most half of shutdown-grace; 0 for none
    lame_duck: Duration = "2s", from "0" to "365d";
    /// Maximum duration of a shutdown, for requests that are still open
    shutdown_grace: Duration = "10s";
    /// Log format: text or json
    log_format: LogFormat = "text";
    /// Maximum rate of refusals (4xx) logged one by one; more are counted only
    log_refusals: Quota = "100/s";
    /// Log level: error, warn, info or debug (debug logs every request)
    log_level: Level = "info";
}
