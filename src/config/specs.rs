//! The table of all settings. The command line, the environment, the settings file and their
//! documentation are derived from this table.

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The name as a flag. In the environment it is `STREAMGATE_` and the name in upper case; in the
    /// file `_` replaces `-`.
    pub name: &'static str,
    /// A placeholder for the value; empty for a switch.
    pub value: &'static str,
    /// The default value; empty for none.
    pub default: &'static str,
    /// Whether the setting can be given several times.
    pub many: bool,
    /// The smallest and the largest accepted value; both empty if values have no order.
    pub range: (&'static str, &'static str),
    /// The help text: a noun phrase with its unit.
    pub help: &'static str,
}

impl Spec {
    /// Narrows the range of accepted values.
    const fn within(mut self, least: &'static str, most: &'static str) -> Self {
        self.range = (least, most);
        self
    }
}

/// Returns the range of a setting that states none. Values beyond this range make no sense, and sums
/// of several of them could overflow.
const fn usual_range(value: &str) -> (&'static str, &'static str) {
    match value.as_bytes() {
        b"N" => ("1", "1000000"),
        b"N/TIME" => ("1/d", "1000000/s"),
        b"SIZE" => ("1B", "1024GiB"),
        b"DURATION" => ("1ms", "365d"),
        _ => ("", ""),
    }
}

const fn spec(
    name: &'static str,
    value: &'static str,
    default: &'static str,
    help: &'static str,
) -> Spec {
    Spec {
        name,
        value,
        default,
        many: false,
        range: usual_range(value),
        help,
    }
}

const fn list(name: &'static str, value: &'static str, help: &'static str) -> Spec {
    Spec {
        name,
        value,
        default: "",
        many: true,
        range: ("", ""),
        help,
    }
}

/// All settings.
pub const SPECS: &[Spec] = &[
    spec(
        "listen",
        "ADDRESS:PORT",
        "127.0.0.1:8080",
        "Listen address and port; a port alone listens on 127.0.0.1, and port 0 selects a free port",
    ),
    spec(
        "metrics-listen",
        "ADDRESS:PORT",
        "",
        "Additional address and port for /metrics, /livez and /readyz only, without authentication",
    ),
    spec(
        "auth-file",
        "FILE",
        "",
        "File with API keys and token issuers; created by `streamgate keys new`",
    ),
    spec(
        "ticket-secret-file",
        "FILE",
        "",
        "File with the secret that signs tickets (at least 32 bytes), instead of a secret shared in Redis; reloaded when it changes",
    ),
    spec("insecure", "", "", "Allow listening on a non-loopback address without authentication"),
    spec(
        "redis-url",
        "URL",
        "",
        "Redis URL: redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path, or sentinels: redis-sentinel://host,host?sentinelMasterId=NAME",
    ),
    spec(
        "redis-password-file",
        "FILE",
        "",
        "File with the Redis password, instead of a password in the URL; read again for each new connection",
    ),
    spec(
        "redis-ca",
        "FILE",
        "",
        "File with the CA certificates (PEM) for Redis, instead of those of the system",
    ),
    spec("redis-client-cert", "FILE", "", "Client certificate (PEM) for Redis"),
    spec("redis-client-key", "FILE", "", "Private key (PEM) of the Redis client certificate"),
    spec(
        "tls-cert",
        "FILE",
        "",
        "TLS certificate with its chain (PEM), which enables TLS; reloaded when it changes",
    ),
    spec("tls-key", "FILE", "", "Private key (PEM) of the TLS certificate"),
    spec("data-dir", "DIR", "", "Data directory of a private Redis, which the gateway runs"),
    list("host", "NAME", "Host name accepted in requests, besides loopback names (repeatable)"),
    list(
        "allow-origin",
        "ORIGIN",
        "Origin whose web pages may call the API, like https://app.example.com (repeatable)",
    ),
    spec(
        "base-path",
        "PATH",
        "",
        "Path prefix that a proxy strips, like /streams; trusted proxies can set another one in X-Forwarded-Prefix",
    ),
    spec("max-body", "SIZE", "8MiB", "Maximum size of a request body").within("1B", "512MiB"),
    spec(
        "max-inflation",
        "N",
        "100",
        "Maximum decompression ratio of a compressed body; the first 1 MiB is exempt",
    )
    .within("1", "1000000"),
    spec("max-fields", "N", "10000", "Maximum number of fields in an entry").within("1", "500000"),
    spec("max-field-name", "SIZE", "64KiB", "Maximum size of a field name").within("1B", "512MiB"),
    spec("max-connections", "N", "20000", "Maximum number of concurrent client connections"),
    spec(
        "max-connections-per-address",
        "N",
        "0",
        "Maximum number of concurrent connections of one client; 0 for no limit; trusted proxies are exempt",
    )
    .within("0", "1000000"),
    spec(
        "max-streams-per-connection",
        "N",
        "128",
        "Maximum number of concurrent requests on an HTTP/2 connection",
    )
    .within("1", "10000"),
    spec(
        "max-header-size",
        "SIZE",
        "128KiB",
        "Maximum size of a request head",
    )
    .within("8KiB", "1MiB"),
    spec(
        "rate-per-address",
        "N/TIME",
        "",
        "Rate limit of one client, like 100/s or 6000/m; unset for no limit",
    ),
    spec(
        "max-addresses",
        "N",
        "100000",
        "Maximum number of clients with a rate limit of their own; more clients share limits",
    ),
    list(
        "trusted-proxy",
        "NETWORK",
        "Address or network of a proxy that is trusted to state the client address, like 10.0.0.0/8 (repeatable)",
    ),
    spec(
        "forwarded-header",
        "NAME",
        "x-forwarded-for",
        "Header in which trusted proxies state the client address: x-forwarded-for or forwarded",
    ),
    spec("max-subscriptions", "N", "20000", "Maximum number of open subscriptions"),
    spec("max-waiting-reads", "N", "10000", "Maximum number of reads that wait for an entry"),
    spec(
        "max-consumers",
        "N",
        "10000",
        "Maximum number of consumers in a group; native consumers count but are not refused",
    ),
    spec("max-scheduled", "N", "10000", "Maximum number of scheduled appends of one stream"),
    spec(
        "max-scheduled-bytes",
        "SIZE",
        "64MiB",
        "Maximum size of all scheduled appends of one stream; at least max-body",
    ),
    spec(
        "max-followed-streams",
        "N",
        "10000",
        "Maximum number of streams followed by subscriptions and waiting reads",
    ),
    spec(
        "workers",
        "N",
        "",
        "Number of worker threads, each with a Redis connection for writes; if unset, the number of cores, at most 16",
    )
    .within("1", "256"),
    spec(
        "redis-connections",
        "N",
        "1",
        "Number of Redis connections shared by all short reads",
    )
    .within("1", "256"),
    spec(
        "redis-blocking-connections",
        "N",
        "4",
        "Number of Redis connections that wait for new entries",
    )
    .within("1", "256"),
    spec(
        "redis-durable-connections",
        "N",
        "8",
        "Number of Redis connections for writes that wait for replicas or the disk",
    )
    .within("1", "256"),
    spec("redis-connect-timeout", "DURATION", "1s", "Redis connect timeout").within("10ms", "1h"),
    spec("redis-timeout", "DURATION", "1500ms", "Redis response timeout").within("10ms", "1h"),
    spec("tls-handshake-timeout", "DURATION", "10s", "TLS handshake timeout"),
    spec("header-timeout", "DURATION", "30s", "Timeout for receiving a request head"),
    spec(
        "idle-timeout",
        "DURATION",
        "75s",
        "Idle timeout of a connection between requests; set it longer than the keep-alive timeout of a load balancer",
    ),
    spec(
        "body-timeout",
        "DURATION",
        "30s",
        "Timeout for receiving a request body; for bodies read line by line, the timeout of each part",
    ),
    spec("write-timeout", "DURATION", "30s", "Maximum time a client can leave a response unread"),
    spec(
        "heartbeat",
        "DURATION",
        "15s",
        "Interval of comments on a quiet subscription, plus or minus a fifth",
    ),
    spec(
        "max-session-age",
        "DURATION",
        "0",
        "Maximum duration of a subscription before its client must reconnect, plus or minus a fifth; 0 for no limit",
    )
    .within("0", "365d"),
    spec(
        "live-memory",
        "SIZE",
        "64MiB",
        "Memory for recent entries of followed streams, for subscribers that are slightly behind",
    ),
    spec(
        "read-memory",
        "SIZE",
        "64MiB",
        "Memory for concurrent large reads from Redis (64 KiB and more)",
    ),
    spec(
        "answer-memory",
        "SIZE",
        "256MiB",
        "Memory for large responses that clients have not received yet",
    )
    .within("64MiB", "1024GiB"),
    spec(
        "body-memory",
        "SIZE",
        "256MiB",
        "Memory for large request bodies in progress, beyond the first 64 KiB of each; at least max-body",
    ),
    spec(
        "idempotency-window",
        "DURATION",
        "10m",
        "Time for which an Idempotency-Key is remembered",
    ),
    spec(
        "sweep-every",
        "DURATION",
        "5s",
        "Interval of the maintenance of groups with a policy that nobody reads; one gateway runs it for all",
    ),
    spec(
        "retention-every",
        "DURATION",
        "30s",
        "Interval of trimming streams to their retention while nobody appends through a gateway; one gateway runs it for all",
    ),
    spec("no-console", "", "", "Do not serve the console at /console"),
    spec("trace-context", "", "", "Store the traceparent of an append in a field of its entries"),
    spec(
        "linger-timeout",
        "DURATION",
        "10s",
        "Maximum time to drain a request after an early response (413, 401, …), so that a client that is still sending can read the response",
    ),
    spec(
        "linger-bytes",
        "SIZE",
        "64MiB",
        "Maximum number of bytes to drain after an early response",
    ),
    spec(
        "lame-duck",
        "DURATION",
        "2s",
        "Time after SIGTERM during which connections and requests are still accepted, with Connection: close, while /readyz fails; at most half of shutdown-grace; 0 for none",
    )
    .within("0", "365d"),
    spec(
        "shutdown-grace",
        "DURATION",
        "10s",
        "Maximum duration of a shutdown, for requests that are still open",
    ),
    spec("log-format", "FORMAT", "text", "Log format: text or json"),
    spec(
        "log-refusals",
        "N/TIME",
        "100/s",
        "Maximum rate of refusals (4xx) logged one by one; more are counted only",
    ),
    spec(
        "log-level",
        "LEVEL",
        "info",
        "Log level: error, warn, info or debug (debug logs every request)",
    ),
];

/// Returns the setting with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.name == name)
}
