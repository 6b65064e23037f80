//! Memory of subscribers over TLS and HTTP/2. These clients are heavier than those of the other
//! scenarios, which does not matter because only the memory of the server is measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deadpool_redis::redis;
use h2::client::SendRequest;
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::servers::Server;

/// Number of subscriptions opened before waiting for them.
const AT_ONCE: usize = 100;
/// Number of entries for each subscriber, which fill all buffers.
const ENTRIES: usize = 3;

/// The connection type of subscribers.
#[derive(Clone, Copy)]
pub struct Way {
    pub name: &'static str,
    pub tls: bool,
    /// Subscriptions per HTTP/2 connection; `None` for HTTP/1.1.
    pub streams: Option<usize>,
}

pub const WAYS: [Way; 5] = [
    Way {
        name: "HTTP/1.1, TLS",
        tls: true,
        streams: None,
    },
    Way {
        name: "HTTP/2, 1 each",
        tls: false,
        streams: Some(1),
    },
    Way {
        name: "HTTP/2, 100 each",
        tls: false,
        streams: Some(100),
    },
    Way {
        name: "HTTP/2, TLS, 1 each",
        tls: true,
        streams: Some(1),
    },
    Way {
        name: "HTTP/2, TLS, 100 each",
        tls: true,
        streams: Some(100),
    },
];

/// Data received by all subscribers.
#[derive(Default)]
struct Received {
    opened: AtomicUsize,
    entries: AtomicUsize,
}

/// Data received by one subscriber.
struct Subscriber {
    text: Vec<u8>,
    open: bool,
    entries: usize,
    all: Arc<Received>,
}

impl Subscriber {
    fn new(all: &Arc<Received>) -> Self {
        Self {
            text: Vec::new(),
            open: false,
            entries: 0,
            all: all.clone(),
        }
    }

    fn read(&mut self, part: &[u8]) {
        self.text.extend_from_slice(part);
        if !self.open && memmem::find(&self.text, b"event: $open").is_some() {
            self.open = true;
            self.all.opened.fetch_add(1, Relaxed);
        }
        let entries = memmem::find_iter(&self.text, b"data: {\"stream\":").count();
        self.all.entries.fetch_add(entries - self.entries, Relaxed);
        self.entries = entries;
    }
}

/// Returns the memory for each subscriber of a separate server with this connection type, in KB.
pub fn hold(way: Way, subscribers: usize) -> f64 {
    let redis = Server::redis();
    let dir = tempfile::tempdir().unwrap();
    let names = vec!["localhost".to_owned()];
    let signed = rcgen::generate_simple_self_signed(names).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, signed.cert.pem()).unwrap();
    std::fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
    let tls = [
        "--tls-cert",
        cert.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let server = Server::streamgate(&redis, if way.tls { &tls } else { &[] });
    let mut roots = RootCertStore::empty();
    roots.add(signed.cert.der().clone()).unwrap();
    let mut config = ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    if way.streams.is_some() {
        config.alpn_protocols = vec![b"h2".to_vec()];
    }
    let connector = way.tls.then(|| TlsConnector::from(Arc::new(config)));
    // Memory for first-time initialization does not count as memory of a subscriber.
    let first = Crowd::open(way, connector.as_ref(), server.port, 1);
    drop(first);
    std::thread::sleep(Duration::from_millis(500));
    let empty = server.memory();
    let crowd = Crowd::open(way, connector.as_ref(), server.port, subscribers);
    std::thread::sleep(Duration::from_secs(1));
    let each = |memory: u64| memory.saturating_sub(empty) as f64 / subscribers as f64;
    let held = each(server.memory());
    let mut publisher = redis.connect();
    for n in 0..ENTRIES {
        let text = "x".repeat(200);
        redis::cmd("XADD")
            .arg("s0")
            .arg("*")
            .arg("n")
            .arg(n)
            .arg("d")
            .arg(text)
            .exec(&mut publisher)
            .unwrap();
    }
    crowd.wait("every entry", |all| {
        all.entries.load(Relaxed) >= ENTRIES * subscribers
    });
    let used = each(server.memory());
    println!(
        "{:<22}{:>14.1}{held:>16.2}{used:>25.2}",
        way.name,
        empty as f64 / 1024.0
    );
    held
}

struct Crowd {
    received: Arc<Received>,
    /// The runtime with the tasks of all subscribers, which end with it.
    runtime: Runtime,
}

impl Crowd {
    fn open(way: Way, tls: Option<&TlsConnector>, port: u16, subscribers: usize) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let crowd = Self {
            received: Arc::default(),
            runtime,
        };
        let streams = way.streams.unwrap_or(1);
        for begun in (0..subscribers).step_by(streams) {
            let count = streams.min(subscribers - begun);
            let (all, tls) = (crowd.received.clone(), tls.cloned());
            crowd.runtime.spawn(async move {
                let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                stream.set_nodelay(true).unwrap();
                match tls {
                    Some(tls) => {
                        let name = "localhost".try_into().unwrap();
                        let stream = tls.connect(name, stream).await.unwrap();
                        subscribe(stream, way.streams.is_some(), count, &all).await;
                    }
                    None => subscribe(stream, way.streams.is_some(), count, &all).await,
                }
            });
            let so_far = begun + count;
            if so_far.is_multiple_of(AT_ONCE) || so_far == subscribers {
                crowd.wait("every subscription", |all| {
                    all.opened.load(Relaxed) == so_far
                });
            }
        }
        crowd
    }

    fn wait(&self, what: &str, done: impl Fn(&Received) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done(&self.received) {
            assert!(Instant::now() < deadline, "{what} did not come");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

async fn subscribe<S>(mut stream: S, http2: bool, count: usize, all: &Arc<Received>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    if http2 {
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let one = |_| follow(send.clone(), Subscriber::new(all));
        let all = futures_util::future::join_all((0..count).map(one));
        let (connection, _) = futures_util::future::join(connection, all).await;
        return connection.unwrap();
    }
    let request = b"GET /v1/streams/s0/events HTTP/1.1\r\nHost: localhost\r\n\
        Accept: text/event-stream\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let (mut subscriber, mut part) = (Subscriber::new(all), [0; 1024]);
    while let Ok(length @ 1..) = stream.read(&mut part).await {
        subscriber.read(&part[..length]);
    }
}

async fn follow(send: SendRequest<Bytes>, mut subscriber: Subscriber) {
    let request = hyper::Request::get("https://localhost/v1/streams/s0/events");
    let request = request
        .header("accept", "text/event-stream")
        .body(())
        .unwrap();
    let mut send = send.ready().await.unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    drop(send);
    let mut body = response.await.unwrap().into_body();
    while let Some(Ok(part)) = body.data().await {
        subscriber.read(&part);
        let _ = body.flow_control().release_capacity(part.len());
    }
}
