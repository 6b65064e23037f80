//! Subscribers and their received entries. Each must receive every entry of its stream once and in
//! order; other entries count as lost or duplicated.

use std::time::{Duration, Instant};

use super::feed::{Feed, Mark};
use super::histogram::Histogram;
use super::publish::{Clock, Publishing, Shared};
use super::sockets::{Happened, Sockets};

/// Number of connections opened at the same time, which is below the backlog of a listening socket.
const AT_ONCE: usize = 100;

/// Interval of the search for the slowest subscriber.
const LOOK: Duration = Duration::from_millis(1);

pub struct Crowd {
    sockets: Sockets,
    pub subscribers: Vec<Subscriber>,
    counted: Counted,
    looked: Instant,
}

/// Counters over all subscribers.
struct Counted {
    clock: Clock,
    deliveries: u64,
    latency: Histogram,
    lost: u64,
    twice: u64,
    /// Unexpected signals, and connections that ended.
    wrong: Vec<String>,
}

pub struct Subscriber {
    request: Vec<u8>,
    feed: Feed,
    stream: usize,
    /// The next expected number, by lane.
    pub next: Box<[u64]>,
    pub open: bool,
    /// Whether to store `last_id` and `retry` for a reconnect.
    comes_back: bool,
    pub last_id: Vec<u8>,
    pub retry: Duration,
}

/// The number of lost and duplicated entries, over all subscribers.
#[derive(Clone, Copy, Default)]
pub struct Verdict {
    pub lost: u64,
    pub twice: u64,
}

impl Crowd {
    pub fn new(port: u16, clock: Clock) -> Self {
        let counted = Counted {
            clock,
            deliveries: 0,
            latency: Histogram::default(),
            lost: 0,
            twice: 0,
            wrong: Vec::new(),
        };
        Self {
            sockets: Sockets::new(port),
            subscribers: Vec::new(),
            counted,
            looked: Instant::now(),
        }
    }

    /// Subscribes to `path`, and waits from time to time until all subscriptions are open. The
    /// entries come in `lanes` lanes and are counted under `stream`.
    pub fn join(&mut self, path: &str, stream: usize, lanes: usize, comes_back: bool) {
        let index = self.subscribers.len();
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n")
                .into_bytes();
        self.subscribers.push(Subscriber {
            request,
            feed: Feed::new(),
            stream,
            next: vec![0; lanes].into(),
            open: false,
            comes_back,
            last_id: Vec::new(),
            retry: Duration::ZERO,
        });
        self.connect(index);
        if index % AT_ONCE == AT_ONCE - 1 {
            self.until_open();
        }
    }

    /// Connects subscriber `index`, which resumes after its last entry.
    pub fn connect(&mut self, index: usize) {
        let subscriber = &mut self.subscribers[index];
        subscriber.feed = Feed::new();
        subscriber.open = false;
        let mut request = subscriber.request.clone();
        if !subscriber.last_id.is_empty() {
            request.extend_from_slice(b"Last-Event-ID: ");
            request.extend_from_slice(&subscriber.last_id);
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        self.sockets.connect(index, request);
    }

    /// Closes all connections.
    pub fn cut(&mut self) {
        for (index, subscriber) in self.subscribers.iter_mut().enumerate() {
            self.sockets.close(index);
            subscriber.open = false;
        }
    }

    /// Waits until all subscriptions are open.
    pub fn until_open(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.subscribers.iter().all(|subscriber| subscriber.open) {
            assert!(
                Instant::now() < deadline,
                "not all connections were answered"
            );
            self.turn(Duration::from_millis(100));
        }
    }

    /// Receives available data, and waits for it at most for `wait`.
    pub fn turn(&mut self, wait: Duration) {
        let (subscribers, counted) = (&mut self.subscribers, &mut self.counted);
        self.sockets.turn(wait, |index, happened| match happened {
            Happened::Read(buffer) => subscribers[index].read(buffer, counted),
            Happened::Closed => counted.wrong.push("the connection was closed".to_owned()),
        });
        assert!(self.counted.wrong.is_empty(), "{}", self.counted.wrong[0]);
    }

    /// Receives data for `time`, and informs the publishers of the progress of all subscribers.
    pub fn run(&mut self, time: Duration, shared: &Shared) {
        let end = Instant::now() + time;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            self.turn(left.min(LOOK * 10));
            if shared.heeds() && self.looked.elapsed() > LOOK {
                self.looked = Instant::now();
                shared.received(self.by_all());
            }
        }
    }

    /// Stops the publishers and receives data until they have stopped, because a publisher may wait
    /// for a server that waits for its subscribers.
    pub fn run_out(&mut self, publishing: &mut Publishing) {
        publishing.stop_soon();
        while !publishing.is_over() {
            self.run(LOOK, &publishing.shared);
        }
        publishing.stop();
    }

    fn by_all(&self) -> u64 {
        let received = self
            .subscribers
            .iter()
            .map(|subscriber| subscriber.next.iter().sum());
        received.min().unwrap_or(0)
    }

    /// Waits for outstanding entries after the publishers have stopped, and counts the missing
    /// ones.
    pub fn verdict(&mut self, shared: &Shared) -> Verdict {
        let missing = |subscriber: &Subscriber| -> u64 {
            let counter = |lane| shared.sent_of(subscriber.stream + lane);
            let next = subscriber.next.iter().enumerate();
            next.map(|(lane, next)| counter(lane) - next).sum()
        };
        let mut patience = Instant::now() + Duration::from_secs(10);
        let mut before = self.counted.deliveries;
        while self
            .subscribers
            .iter()
            .any(|subscriber| missing(subscriber) > 0)
        {
            self.turn(Duration::from_millis(100));
            if before != self.counted.deliveries {
                before = self.counted.deliveries;
                patience = Instant::now() + Duration::from_secs(10);
            }
            if Instant::now() > patience {
                break;
            }
        }
        // Duplicates can arrive after everything else.
        self.run(Duration::from_millis(200), shared);
        let missing: u64 = self.subscribers.iter().map(missing).sum();
        Verdict {
            lost: self.counted.lost + missing,
            twice: self.counted.twice,
        }
    }

    pub fn deliveries(&self) -> u64 {
        self.counted.deliveries
    }

    /// Takes the latencies from publishing to receiving that were recorded so far.
    pub fn take_latency(&mut self) -> Histogram {
        std::mem::take(&mut self.counted.latency)
    }
}

impl Subscriber {
    fn read(&mut self, buffer: &mut [u8], counted: &mut Counted) {
        let now = counted.clock.micros();
        let Self {
            feed,
            next,
            open,
            comes_back,
            last_id,
            retry,
            ..
        } = self;
        let read = feed.read(buffer, |mark, event| {
            if let Some(mark) = mark {
                counted.entry(mark, now, next);
                if *comes_back {
                    line(event, b"id: ").clone_into(last_id);
                }
                return;
            }
            *open = true;
            let name = line(event, b"event: ");
            if name == b"$open" {
                line(event, b"id: ").clone_into(last_id);
                let text = String::from_utf8_lossy(line(event, b"retry: "));
                *retry = Duration::from_millis(text.parse().unwrap_or(0));
            } else if !name.is_empty() && name != b"$progress" {
                counted
                    .wrong
                    .push(String::from_utf8_lossy(event).into_owned());
            }
        });
        if let Err(head) = read {
            counted.wrong.push(head);
        }
    }
}

impl Counted {
    fn entry(&mut self, mark: Mark, now: u64, next: &mut [u64]) {
        self.deliveries += 1;
        self.latency.add(now.saturating_sub(mark.micros));
        let next = &mut next[mark.lane];
        if mark.number < *next {
            self.twice += 1;
        } else {
            self.lost += mark.number - *next;
            *next = mark.number + 1;
        }
    }
}

/// Returns the rest of the line that begins with `name`.
fn line<'a>(event: &'a [u8], name: &[u8]) -> &'a [u8] {
    let mut lines = event.split(|byte| *byte == b'\n');
    lines
        .find_map(|line| line.strip_prefix(name))
        .unwrap_or_default()
}
