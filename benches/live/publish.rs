//! Publishers: threads that append to Redis, post to nchan or feed the floor. They send at a fixed
//! rate or as fast as all subscribers keep up, and count the sent entries.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use deadpool_redis::redis::{self, Connection};

use super::feed::{self, Mark};
use super::servers::Server;

/// The clock of the whole run.
#[derive(Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn micros(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap()
    }
}

/// The destination of entries.
pub enum Publisher {
    /// Redis, and whether each entry is a round trip of its own.
    Redis(Connection, bool),
    Nchan(BufReader<TcpStream>),
    Floor(TcpStream),
}

/// An event of the floor, as long as an event of the gateway: an entry of 200 bytes in its chunk.
const FLOOR_EVENT: &str = "id: 1795232709004-0:1234\ndata: {\"stream\":\"s0\",\"id\":\"1795232709004-0\",\"fields\":{\"data\":\"";
const FLOOR_END: &str = "\"}}\n\n";
const FLOOR_CHUNK: usize = "13b\r\n\r\n".len();

impl Publisher {
    /// Creates a publisher that sends what is due together.
    pub fn redis(redis: &Server) -> Self {
        Self::Redis(redis.connect(), false)
    }

    /// Creates a publisher that sends each entry alone, as independent clients do.
    pub fn redis_one_by_one(redis: &Server) -> Self {
        Self::Redis(redis.connect(), true)
    }

    pub fn nchan(nchan: &Server) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", nchan.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self::Nchan(BufReader::new(stream))
    }

    /// Creates a publisher for values of `size` bytes.
    pub fn floor(floor: &Server, size: usize) -> Self {
        let mut stream = TcpStream::connect(("127.0.0.1", floor.port)).unwrap();
        let length = FLOOR_EVENT.len() + size + FLOOR_END.len() + FLOOR_CHUNK;
        stream
            .write_all(format!("GET /control/{length} HTTP/1.1\r\n\r\n").as_bytes())
            .unwrap();
        Self::Floor(stream)
    }

    /// Publishes values, each to its stream.
    pub fn send(&mut self, batch: &[(String, Vec<u8>)]) {
        match self {
            Self::Redis(connection, one_by_one) => {
                let add = |(stream, value): &(String, Vec<u8>)| {
                    let mut add = redis::cmd("XADD");
                    add.arg(stream).arg("*").arg("data").arg(value);
                    add
                };
                if *one_by_one {
                    return batch
                        .iter()
                        .for_each(|entry| add(entry).exec(connection).unwrap());
                }
                let mut pipeline = redis::pipe();
                for entry in batch {
                    pipeline.add_command(add(entry)).ignore();
                }
                pipeline.exec(connection).unwrap();
            }
            Self::Nchan(connection) => {
                for (channel, value) in batch {
                    let mut request = format!(
                        "POST /pub?id={channel} HTTP/1.1\r\nHost: localhost\r\n\
                        Content-Length: {}\r\n\r\n",
                        value.len()
                    )
                    .into_bytes();
                    request.extend_from_slice(value);
                    connection.get_mut().write_all(&request).unwrap();
                    read_answer(connection);
                }
            }
            Self::Floor(connection) => {
                for (_, value) in batch {
                    let padding = " ".repeat(FLOOR_CHUNK);
                    let mut event = format!("{FLOOR_EVENT}{padding}").into_bytes();
                    event.extend_from_slice(value);
                    event.extend_from_slice(FLOOR_END.as_bytes());
                    connection.write_all(&event).unwrap();
                }
            }
        }
    }
}

fn read_answer(connection: &mut BufReader<TcpStream>) {
    let (mut line, mut length, mut first) = (String::new(), 0, true);
    loop {
        line.clear();
        connection.read_line(&mut line).unwrap();
        let lower = line.trim_end().to_ascii_lowercase();
        if first {
            assert!(lower.contains(" 20"), "nchan answered {lower:?}");
            first = false;
        }
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if lower.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    connection.read_exact(&mut body).unwrap();
}

/// State shared between publishers and subscribers.
pub struct Shared {
    clock: Clock,
    size: usize,
    prefix: &'static str,
    stop: AtomicBool,
    /// Number of sent entries by stream or by lane; one of the two always has a single item.
    sent: Vec<AtomicU64>,
    /// Number of entries that every subscriber has received.
    received: AtomicU64,
    /// Whether a publisher reads `received`.
    heeds: AtomicBool,
}

impl Shared {
    pub fn sent(&self) -> u64 {
        self.sent.iter().map(|sent| sent.load(Relaxed)).sum()
    }

    /// Returns the number of entries sent to a stream or in a lane.
    pub fn sent_of(&self, index: usize) -> u64 {
        self.sent[index].load(Relaxed)
    }

    /// Returns whether a publisher reads `received`.
    pub fn heeds(&self) -> bool {
        self.heeds.load(Relaxed)
    }

    /// Sets the number of entries that every subscriber has received.
    pub fn received(&self, by_all: u64) {
        self.received.store(by_all, Relaxed);
    }

    fn next(&self, index: usize, lane: usize) -> Vec<u8> {
        let number = self.sent[index].fetch_add(1, Relaxed);
        feed::value(
            self.size,
            Mark {
                lane,
                number,
                micros: self.clock.micros(),
            },
        )
    }
}

/// Running publishers.
pub struct Publishing {
    pub shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Publishing {
    /// Prepares publishing to `counters` streams, or in `counters` lanes.
    pub fn new(clock: Clock, size: usize, counters: usize) -> Self {
        let shared = Shared {
            clock,
            size,
            prefix: "s",
            stop: AtomicBool::new(false),
            sent: (0..counters).map(|_| AtomicU64::new(0)).collect(),
            received: AtomicU64::new(0),
            heeds: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            threads: Vec::new(),
        }
    }

    /// Publishes `rate` entries per second, each to the next stream.
    pub fn pace(&mut self, mut publisher: Publisher, rate: f64) {
        let shared = self.shared.clone();
        self.threads.push(thread::spawn(move || {
            let streams = shared.sent.len();
            let (began, mut sent) = (Instant::now(), 0_u32);
            while !shared.stop.load(Relaxed) {
                // Rates over a thousand per second are sent in millisecond steps.
                let due = began + Duration::from_secs_f64(f64::from(sent) / rate);
                let pause = due.saturating_duration_since(Instant::now());
                if !pause.is_zero() {
                    thread::sleep(
                        pause
                            .max(Duration::from_millis(1))
                            .min(Duration::from_millis(100)),
                    );
                    continue;
                }
                let due = (began.elapsed().as_secs_f64() * rate) as u32;
                let batch: Vec<_> = (sent..=due)
                    .map(|number| {
                        let stream = number as usize % streams;
                        (format!("{}{stream}", shared.prefix), shared.next(stream, 0))
                    })
                    .collect();
                publisher.send(&batch);
                sent = due + 1;
            }
        }));
    }

    /// Publishes in a lane as fast as possible, `batch` entries at a time, but at most `ahead`
    /// entries before the slowest subscriber.
    pub fn saturate(&mut self, lane: usize, mut publisher: Publisher, batch: u64, ahead: u64) {
        let shared = self.shared.clone();
        shared.heeds.store(true, Relaxed);
        self.threads.push(thread::spawn(move || {
            let stream = format!("{}0", shared.prefix);
            while !shared.stop.load(Relaxed) {
                if shared.sent() + batch > shared.received.load(Relaxed) + ahead {
                    thread::sleep(Duration::from_micros(200));
                    continue;
                }
                let values = (0..batch).map(|_| (stream.clone(), shared.next(lane, lane)));
                publisher.send(&values.collect::<Vec<_>>());
            }
        }));
    }

    /// Stops publishing, apart from entries that are already on their way.
    pub fn stop_soon(&self) {
        self.shared.stop.store(true, Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Stops publishing, and returns when the last entry was sent.
    pub fn stop(&mut self) {
        self.stop_soon();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for Publishing {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}
