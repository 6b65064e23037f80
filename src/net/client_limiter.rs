//! Per-client limits: the request rate and the number of concurrent connections.
//!
//! A client is an IPv4 address or an IPv6 /64 network (`model/network.rs`). Behind a trusted
//! proxy, it is the address that the proxy names. The gateway keeps one token bucket per client, as
//! long as a connection uses the bucket or the bucket is not full. Clients over the maximum share
//! one bucket.

use std::collections::HashMap;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::response::Response;
use futures_util::FutureExt as _;
use hyper::Request;
use hyper::header::HeaderValue;
use parking_lot::{Mutex, MutexGuard};
use tower::ServiceExt as _;

use crate::http::{ClientAddress, RateLimitHeaders, RejectedRequest, answer_panic};
use crate::metrics::Metrics;
use crate::model::network::client_of;
use crate::net::forwarded::{self, Proxies};
use crate::rate_limit::{Bucket, Quota};

/// Connections of one address over its limit that get a problem response. Any further ones are
/// closed at once.
const TOLD: u32 = 8;
/// Minimum interval between removals of full buckets, once the maximum number is reached.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The name of the per-address quota in rate limit headers.
const NAME: &str = "address";

/// The limits of clients.
#[derive(Clone, Debug, Default)]
pub struct ClientLimits {
    /// The request rate of an address.
    pub rate: Option<Quota>,
    /// Maximum number of addresses with a bucket of their own.
    pub max_addresses: usize,
    /// Maximum number of concurrent connections of an address.
    pub max_connections: Option<u32>,
    /// The proxies trusted to name the client.
    pub proxies: Proxies,
}

/// The limiter of all clients.
pub(crate) struct ClientLimiter {
    settings: ClientLimits,
    metrics: Metrics,
    /// Open connections by address, if they are limited. An address without connections has no
    /// element.
    connections: Mutex<HashMap<IpAddr, u32>>,
    buckets: Option<Buckets>,
}

/// The buckets of all addresses.
struct Buckets {
    quota: Quota,
    policy: HeaderValue,
    of: Mutex<OfAddresses>,
    /// The bucket shared by addresses over the maximum.
    shared: Arc<Bucket>,
}

struct OfAddresses {
    buckets: HashMap<IpAddr, Arc<Bucket>>,
    swept: Option<Instant>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

impl ClientLimiter {
    pub(crate) fn new(settings: ClientLimits, metrics: Metrics) -> Arc<Self> {
        let buckets = settings.rate.map(|quota| Buckets {
            quota,
            // A number and a fixed name are always a valid header value.
            policy: HeaderValue::try_from(quota.policy(NAME))
                .unwrap_or_else(|_| HeaderValue::from_static("")),
            of: Mutex::new(OfAddresses {
                buckets: HashMap::new(),
                swept: None,
            }),
            shared: Arc::new(Bucket::new(quota)),
        });
        let connections = Mutex::new(HashMap::new());
        Arc::new(Self {
            settings,
            metrics,
            connections,
            buckets,
        })
    }

    /// Admits a connection and counts it. Returns `None` if the connection must be closed without
    /// an answer.
    pub(crate) fn come(
        self: &Arc<Self>,
        peer: IpAddr,
        turned_away: Option<RejectedRequest>,
    ) -> Option<(ClientPeer, Option<ClientSlot>)> {
        let peer = peer.to_canonical();
        let is_proxy = self.settings.proxies.trust(peer);
        let (mut turned_away, mut place) = (turned_away, None);
        if let Some(most) = self.settings.max_connections.filter(|_| !is_proxy) {
            let client = client_of(peer);
            let mut connections = lock(&self.connections);
            let open = connections.entry(client).or_insert(0);
            if *open >= most {
                self.metrics.refuse("connections_per_address");
                turned_away = turned_away.or(Some(RejectedRequest::TooManyConnections));
            }
            if *open >= most.saturating_add(TOLD) {
                return None;
            }
            *open += 1;
            place = Some(ClientSlot {
                client,
                of: self.clone(),
            });
        }
        let buckets = self.buckets.as_ref().filter(|_| !is_proxy);
        let bucket = buckets.map(|buckets| self.bucket(buckets, peer));
        Some((
            ClientPeer {
                peer,
                is_proxy,
                turned_away,
                bucket,
                all: self.clone(),
            },
            place,
        ))
    }

    fn bucket(&self, buckets: &Buckets, address: IpAddr) -> Arc<Bucket> {
        buckets.of(
            client_of(address),
            self.settings.max_addresses,
            &self.metrics,
        )
    }
}

/// A guard that counts a connection of an address until it is dropped.
pub(crate) struct ClientSlot {
    client: IpAddr,
    of: Arc<ClientLimiter>,
}

impl Drop for ClientSlot {
    fn drop(&mut self) {
        let mut connections = lock(&self.of.connections);
        if let Some(open) = connections.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                connections.remove(&self.client);
            }
        }
    }
}

impl Buckets {
    fn of(&self, client: IpAddr, max: usize, metrics: &Metrics) -> Arc<Bucket> {
        let of = &mut *lock(&self.of);
        if let Some(bucket) = of.buckets.get(&client) {
            return bucket.clone();
        }
        if of.buckets.len() >= max && of.swept.is_none_or(|swept| swept.elapsed() > SWEEP_EVERY) {
            of.swept = Some(Instant::now());
            of.buckets
                .retain(|_, bucket| Arc::strong_count(bucket) > 1 || !bucket.is_full());
        }
        if of.buckets.len() >= max {
            metrics.refuse("addresses");
            return self.shared.clone();
        }
        let bucket = Arc::new(Bucket::new(self.quota));
        of.buckets.insert(client, bucket.clone());
        bucket
    }
}

/// The peer of a connection.
pub(crate) struct ClientPeer {
    peer: IpAddr,
    /// Whether the peer is trusted to name the client.
    is_proxy: bool,
    turned_away: Option<RejectedRequest>,
    /// The bucket of a client that is not behind a proxy.
    bucket: Option<Arc<Bucket>>,
    all: Arc<ClientLimiter>,
}

impl ClientPeer {
    pub(crate) fn is_turned_away(&self) -> bool {
        self.turned_away.is_some()
    }

    /// Returns whether requests of this peer have no limit.
    pub(crate) fn is_unlimited(&self) -> bool {
        self.turned_away.is_none() && self.all.buckets.is_none()
    }

    /// Returns the address of the client of a request. See [`forwarded::Proxies::client`].
    pub(crate) fn client<'a, V>(&self, values: impl FnOnce(&'static str) -> V) -> IpAddr
    where
        V: DoubleEndedIterator<Item = &'a [u8]>,
    {
        match self.is_proxy {
            true => self.all.settings.proxies.client(self.peer, values),
            false => self.peer,
        }
    }

    /// Answers a request of this client. A panic in a handler becomes an error response.
    pub(crate) async fn answer<B>(&self, router: axum::Router, mut request: Request<B>) -> Response
    where
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let answer = async {
            let standing = self.enter(&mut request);
            let Ok(mut response) = router.oneshot(request).await;
            if let Some(standing) = standing {
                standing.write_headers(response.headers_mut());
            }
            response
        };
        let answer = AssertUnwindSafe(answer).catch_unwind().await;
        answer.unwrap_or_else(|panic| answer_panic(&method, &uri, &*panic))
    }

    /// Counts a request, and marks it for rejection if it exceeds a limit.
    fn enter<B>(&self, request: &mut Request<B>) -> Option<RateLimitHeaders> {
        let all = &self.all;
        let headers = request.headers();
        let client = self.client(|name| forwarded::values(headers, name));
        request.extensions_mut().insert(ClientAddress(client));
        if self.is_proxy
            && let Some(base) = forwarded::prefix(request.headers())
        {
            request.extensions_mut().insert(base);
        }
        if let Some(turned_away) = self.turned_away {
            request.extensions_mut().insert(turned_away);
            return None;
        }
        // Liveness and readiness probes are never rate limited.
        if matches!(request.uri().path(), "/livez" | "/readyz") {
            return None;
        }
        let buckets = all.buckets.as_ref()?;
        let taken = if let Some(bucket) = &self.bucket {
            bucket.take()
        } else {
            all.bucket(buckets, client).take()
        };
        let item = match taken {
            Ok(remaining) => remaining.item(NAME),
            Err(after) => {
                all.metrics.refuse("rate");
                request
                    .extensions_mut()
                    .insert(RejectedRequest::TooOften(after));
                after.item(NAME)
            }
        };
        let item = HeaderValue::try_from(item).ok()?;
        Some(RateLimitHeaders {
            policy: buckets.policy.clone(),
            item,
        })
    }
}
