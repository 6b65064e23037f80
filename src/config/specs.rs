//! The settings there are. The command line, the environment, the file and their documentation
//! all follow this table.

/// One setting.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// As a flag; `STREAMGATE_` and upper case in the environment, `_` for `-` in the file.
    pub name: &'static str,
    /// What its value looks like; empty for a switch.
    pub value: &'static str,
    /// Its value when nobody gives one; empty for none.
    pub default: &'static str,
    /// May be given several times.
    pub many: bool,
    /// Smallest and largest accepted value, as they are written; both empty where values have no order.
    pub range: (&'static str, &'static str),
    /// What it does.
    pub help: &'static str,
}

impl Spec {
    /// Narrows the range of accepted values.
    const fn within(mut self, least: &'static str, most: &'static str) -> Self {
        self.range = (least, most);
        self
    }
}

/// The range of a setting that states none of its own. Beyond it no value makes sense, and sums of
/// several values could overflow.
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
    spec("listen", "ADDRESS:PORT", "127.0.0.1:8080", "Address and port to listen on; a port alone listens on 127.0.0.1, port 0 takes a free one"),
    spec(
        "metrics-listen",
        "ADDRESS:PORT",
        "",
        "Where else to answer /metrics, /livez and /readyz: to anybody there, and nothing else",
    ),
    spec(
        "auth-file",
        "FILE",
        "",
        "Who may do what: keys and issuers of tokens; made by `streamgate keys new`",
    ),
    spec(
        "ticket-secret-file",
        "FILE",
        "",
        "The secret that tickets are signed with (32 bytes or more), in place of one that gateways share in Redis; read again when it changes",
    ),
    spec("insecure", "", "", "Listen on an address that others can reach, without authentication"),
    spec(
        "redis-url",
        "URL",
        "",
        "The Redis to use: redis://[user:password@]host:port/db, rediss:// for TLS, unix:///path, or sentinels that know it: redis-sentinel://host,host?sentinelMasterId=NAME",
    ),
    spec(
        "redis-password-file",
        "FILE",
        "",
        "A file with the password of Redis, in place of one in the URL; read again for each new connection",
    ),
    spec(
        "redis-ca",
        "FILE",
        "",
        "Certificates (PEM) that sign that of Redis, in place of those the system trusts",
    ),
    spec("redis-client-cert", "FILE", "", "The certificate (PEM) to show to Redis"),
    spec("redis-client-key", "FILE", "", "Its private key (PEM)"),
    spec(
        "tls-cert",
        "FILE",
        "",
        "Serve over TLS, with this certificate and its chain (PEM), read again when it changes",
    ),
    spec("tls-key", "FILE", "", "Its private key (PEM)"),
    spec("data-dir", "DIR", "", "Run a private Redis in this directory"),
    list("host", "NAME", "A name requests may be sent to besides loopback ones (repeatable)"),
    list(
        "allow-origin",
        "ORIGIN",
        "An origin whose web pages may call, like https://app.example.com (repeatable)",
    ),
    spec(
        "base-path",
        "PATH",
        "",
        "Path under which a proxy that strips it publishes the gateway, like /streams; trusted proxies can name another in X-Forwarded-Prefix",
    ),
    spec("max-body", "SIZE", "8MiB", "The largest body taken").within("1B", "512MiB"),
    spec(
        "max-inflation",
        "N",
        "100",
        "The most a compressed body may grow by decompression, as a factor; the first 1 MiB is free",
    )
    .within("1", "1000000"),
    spec("max-fields", "N", "10000", "Fields of an entry").within("1", "500000"),
    spec("max-field-name", "SIZE", "64KiB", "The longest name of a field").within("1B", "512MiB"),
    spec("max-connections", "N", "20000", "Connections from clients served at once"),
    spec(
        "max-connections-per-address",
        "N",
        "0",
        "Connections of one client at once; 0 for no bound. Trusted proxies have none",
    ).within("0", "1000000"),
    spec("max-streams-per-connection", "N", "128", "Requests at once on a connection of HTTP/2").within("1", "10000"),
    spec("max-header-size", "SIZE", "128KiB", "The largest head of a request taken").within("8KiB", "1MiB"),
    spec(
        "rate-per-address",
        "N/TIME",
        "",
        "How often one client may ask, like 100/s or 6000/m; no bound unless set",
    ),
    spec(
        "max-addresses",
        "N",
        "100000",
        "Clients whose requests are counted one by one; more share a count",
    ),
    list(
        "trusted-proxy",
        "NETWORK",
        "A proxy, or a network of them, that is believed who the client is, like 10.0.0.0/8 (repeatable)",
    ),
    spec(
        "forwarded-header",
        "NAME",
        "x-forwarded-for",
        "Where trusted proxies write the client: x-forwarded-for or forwarded",
    ),
    spec("max-subscriptions", "N", "20000", "Subscriptions open at once"),
    spec("max-waiting-reads", "N", "10000", "Reads that wait for an entry at once"),
    spec(
        "max-consumers",
        "N",
        "10000",
        "Consumers of a group; native ones are counted, but not held up",
    ),
    spec("max-scheduled", "N", "10000", "Appends of one stream that wait for their time"),
    spec("max-scheduled-bytes", "SIZE", "64MiB", "And their bytes; max-body at least"),
    spec(
        "max-followed-streams",
        "N",
        "10000",
        "Streams followed at once, for subscriptions and waiting reads",
    ),
    spec(
        "workers",
        "N",
        "",
        "Threads that serve connections, each with a connection to Redis for writes; as many as cores unless set, at most 16 then",
    ).within("1", "256"),
    spec("redis-connections", "N", "1", "Connections to Redis shared by all short reads").within("1", "256"),
    spec("redis-blocking-connections", "N", "4", "Connections to Redis that wait for new entries").within("1", "256"),
    spec(
        "redis-durable-connections",
        "N",
        "8",
        "Connections to Redis for writes that wait for replicas or the disk",
    ).within("1", "256"),
    spec("redis-connect-timeout", "DURATION", "1s", "For making a connection to Redis").within("10ms", "1h"),
    spec("redis-timeout", "DURATION", "1500ms", "For an answer from Redis").within("10ms", "1h"),
    spec("tls-handshake-timeout", "DURATION", "10s", "For a TLS handshake"),
    spec("header-timeout", "DURATION", "30s", "Time to receive the head of a request"),
    spec(
        "idle-timeout",
        "DURATION",
        "75s",
        "How long a connection is kept open between two requests; longer than the keep-alive timeout of a load balancer in front",
    ),
    spec(
        "body-timeout",
        "DURATION",
        "30s",
        "For the body of a request; of one that is taken line by line, for each part of it",
    ),
    spec("write-timeout", "DURATION", "30s", "How long a client may leave an answer unread"),
    spec(
        "heartbeat",
        "DURATION",
        "15s",
        "Between comments on a quiet subscription, give or take a fifth",
    ),
    spec(
        "max-session-age",
        "DURATION",
        "0",
        "How long a subscription lasts before its client is to come back, give or take a fifth; 0 for no end",
    ).within("0", "365d"),
    spec(
        "live-memory",
        "SIZE",
        "64MiB",
        "What is kept of followed streams for subscribers who are a little behind",
    ),
    spec(
        "read-memory",
        "SIZE",
        "64MiB",
        "What is read from Redis at once by large reads, those of 64 KiB and more",
    ),
    spec(
        "answer-memory",
        "SIZE",
        "256MiB",
        "What is held of large answers that their clients have not taken yet",
    ).within("64MiB", "1024GiB"),
    spec(
        "body-memory",
        "SIZE",
        "256MiB",
        "What is held of large bodies, beyond 64 KiB of each, until they are dealt with; max-body at least",
    ),
    spec("idempotency-window", "DURATION", "10m", "How long an Idempotency-Key is remembered"),
    spec(
        "sweep-every",
        "DURATION",
        "5s",
        "How often groups with a policy are looked after though nobody reads; one gateway does it for all",
    ),
    spec(
        "retention-every",
        "DURATION",
        "30s",
        "How often streams are kept to their retention though nobody appends through a gateway; one gateway does it for all",
    ),
    spec("trace-context", "", "", "Keep the traceparent of an append in a field of its entries"),
    spec(
        "linger-timeout",
        "DURATION",
        "10s",
        "How long a connection is read on after an early answer (413, 401, …), so that a client that is still sending can read the answer",
    ),
    spec("linger-bytes", "SIZE", "64MiB", "Bytes read on such a connection"),
    spec(
        "lame-duck",
        "DURATION",
        "2s",
        "How long a gateway goes on accepting connections and answering requests after SIGTERM, with Connection: close, while /readyz says no; at most half of shutdown-grace; 0 for none",
    )
    .within("0", "365d"),
    spec("shutdown-grace", "DURATION", "10s", "For what is still open when the gateway stops"),
    spec("log-format", "FORMAT", "text", "text or json"),
    spec(
        "log-refusals",
        "N/TIME",
        "100/s",
        "How many refusals (4xx) are logged one by one; of more there is a count",
    ),
    spec("log-level", "LEVEL", "info", "error, warn, info or debug (debug shows every request)"),
];

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Spec> {
    SPECS.iter().find(|spec| spec.name == name)
}
