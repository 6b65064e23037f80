//! A subscriber of the model: follows streams, stops, reconnects elsewhere, and logs what it
//! receives.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::support::encode;
use crate::support::sse::{Event, Sse};

/// Delay before a reconnect. The server's `retry:` would take too long here.
const BACK: Duration = Duration::from_millis(20);
/// Receive buffer in bytes. A small buffer makes a slow reader noticeable soon.
const RECEIVE_BUFFER: u32 = 4 << 10;

/// Representation of entries.
#[derive(Clone, Copy, Debug)]
pub enum View {
    Fields,
    Pairs,
    Payload,
}

impl View {
    fn query(self) -> &'static str {
        match self {
            Self::Fields => "",
            Self::Pairs => "&pairs=true",
            Self::Payload => "&payload=n",
        }
    }

    /// Returns the value of an entry, which is unique.
    pub fn value(self, data: &Value) -> Option<u64> {
        let value = match self {
            Self::Fields => &data["fields"]["n"],
            Self::Pairs => &data["pairs"][0][1],
            Self::Payload => &data["payload"],
        };
        value.as_str()?.parse().ok()
    }
}

/// The subscription a subscriber requests.
#[derive(Clone, Debug)]
pub struct Wish {
    pub streams: Vec<String>,
    /// Start position, as a query.
    pub begin: &'static str,
    pub view: View,
}

impl Wish {
    fn path(&self) -> String {
        let tail = format!("{}{}", self.begin, self.view.query());
        if let [stream] = &self.streams[..] {
            return format!("/v1/streams/{}/events?{tail}", encode(stream));
        }
        let one = |stream: &String| format!("stream={}&", encode(stream));
        let streams = self.streams.iter().map(one).collect::<Vec<_>>().concat();
        format!("/v1/events?{streams}{tail}")
    }
}

/// Instructions to a subscriber.
#[derive(Clone, Debug)]
pub struct Orders {
    /// Index of the address to connect to. If it is unreachable, the subscriber tries the next one.
    pub route: usize,
    pub reads: bool,
    /// Delay between two events.
    pub pace: Duration,
    /// Incremented to make the subscriber close its connection.
    pub hangups: usize,
}

/// An item in the log of a subscriber.
#[derive(Clone, Debug)]
pub enum Seen {
    /// A new request, and the number of steps completed before it.
    Asks(usize),
    Told(Event),
    /// A response with a status that ends an `EventSource` for good.
    Refused(u16),
}

pub struct Subscriber {
    pub wish: Wish,
    pub orders: watch::Sender<Orders>,
    pub log: Arc<Mutex<Vec<Seen>>>,
    _task: AbortOnDropHandle<()>,
}

impl Subscriber {
    /// Starts a subscriber. `routes` are addresses that lead to a gateway; `steps` counts completed
    /// steps.
    pub fn start(
        wish: Wish,
        route: usize,
        routes: Vec<SocketAddr>,
        steps: Arc<AtomicUsize>,
    ) -> Self {
        let orders = watch::Sender::new(Orders {
            route,
            reads: true,
            pace: Duration::ZERO,
            hangups: 0,
        });
        let log: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let following = follow(wish.path(), routes, steps, orders.subscribe(), log.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(following));
        Self {
            wish,
            orders,
            log,
            _task: task,
        }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.log.lock().unwrap().clone()
    }

    pub fn is_open(&self) -> bool {
        let log = self.log.lock().unwrap();
        log.iter()
            .any(|seen| matches!(seen, Seen::Told(event) if event.event == "$open"))
    }

    /// Returns whether the entry with this value is among the last 100 log items.
    pub fn has(&self, value: u64) -> bool {
        let log = self.log.lock().unwrap();
        log.iter().rev().take(100).any(|seen| match seen {
            Seen::Told(event) => {
                event.event == "message" && self.wish.view.value(&event.json()) == Some(value)
            }
            _ => false,
        })
    }
}

async fn follow(
    path: String,
    routes: Vec<SocketAddr>,
    steps: Arc<AtomicUsize>,
    mut orders: watch::Receiver<Orders>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    let mut last_event_id = None;
    let mut detour = 0;
    loop {
        let now = orders.borrow_and_update().clone();
        log.lock()
            .unwrap()
            .push(Seen::Asks(steps.load(Ordering::SeqCst)));
        let route = routes[(now.route + detour) % routes.len()];
        let opening = open(route, &path, last_event_id.as_deref());
        let opened = tokio::select! {
            opened = tokio::time::timeout(Duration::from_secs(5), opening) => opened.ok().flatten(),
            () = broken_off(&mut orders, now.hangups) => None,
        };
        let Some(mut sse) = opened else {
            detour += 1;
            tokio::time::sleep(BACK).await;
            continue;
        };
        if sse.status != 200 {
            log.lock().unwrap().push(Seen::Refused(sse.status));
            return;
        }
        let pacing = orders.clone();
        loop {
            let event = tokio::select! {
                biased;
                () = broken_off(&mut orders, now.hangups) => break,
                event = paced(&mut sse, pacing.clone()) => event,
            };
            let Some(event) = event else { break };
            last_event_id = event.id.clone().or(last_event_id);
            log.lock().unwrap().push(Seen::Told(event));
        }
        tokio::time::sleep(BACK).await;
    }
}

async fn broken_off(orders: &mut watch::Receiver<Orders>, hangups: usize) {
    let _ = orders.wait_for(|orders| orders.hangups != hangups).await;
}

/// Returns the next event, once the instructions allow reading.
async fn paced(sse: &mut Sse, mut orders: watch::Receiver<Orders>) -> Option<Event> {
    let pace = orders.wait_for(|orders| orders.reads).await.ok()?.pace;
    tokio::time::sleep(pace).await;
    sse.read().await
}

async fn open(address: SocketAddr, path: &str, last_event_id: Option<&str>) -> Option<Sse> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(RECEIVE_BUFFER).unwrap();
    let stream = socket.connect(address).await.ok()?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .handshake(TokioIo::new(stream))
        .await
        .ok()?;
    let connection = AbortOnDropHandle::new(tokio::spawn(async move {
        let _ = connection.await;
    }));
    let mut request = hyper::Request::get(path)
        .header("host", "127.0.0.1")
        .header("accept", "text/event-stream");
    if let Some(id) = last_event_id {
        request = request.header("last-event-id", id);
    }
    let request = request
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let (head, body) = sender.send_request(request).await.ok()?.into_parts();
    let body = body.into_data_stream().map(move |part| {
        let _held = (&connection, &sender);
        part
    });
    Some(Sse::of(head.status.as_u16(), head.headers, body))
}
