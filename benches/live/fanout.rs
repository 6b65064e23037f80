//! Scenarios with one stream and many subscribers: at a fixed rate, and at the maximum rate.

use std::io::Write as _;
use std::net::TcpStream;
use std::time::Duration;

use super::Run;
use super::crowd::Crowd;
use super::publish::{Publisher, Publishing};
use super::report::{Figures, goal};
use super::servers::Server;

/// Time before each window, which excludes startup effects from the measurement.
const WARM_UP: Duration = Duration::from_secs(1);

const EVENTS: &str = "/v1/streams/s0/events";
const CHANNEL: &str = "/sub?id=s0";

/// Number of concurrent publishing connections to nchan. More connections do not make it faster.
pub const LANES: usize = 16;

/// Maximum lead of the publishers over the slowest subscriber, in entries.
pub const AHEAD: u64 = 2000;

/// Number of entries in a pipeline to Redis, if entries are not sent one by one.
const BATCH: u64 = 50;

#[derive(Clone, Copy)]
enum Kind {
    /// The gateway, with this number of entries in each pipeline to Redis.
    Streamgate(u64),
    /// nchan, with this number of workers.
    Nchan(usize),
    Floor,
    /// The gateway with one more subscriber, which requests much data and reads nothing.
    OneStopped,
}

impl Kind {
    fn name(self) -> String {
        match self {
            Self::Streamgate(1) => "streamgate".to_owned(),
            Self::Streamgate(batch) => format!("streamgate, by {batch}"),
            Self::Nchan(workers) => format!("nchan, workers: {workers}"),
            Self::Floor => "one write each".to_owned(),
            Self::OneStopped => "streamgate, one stopped".to_owned(),
        }
    }

    /// Starts the server with its own Redis.
    fn start(self) -> (Server, Server) {
        let redis = Server::redis();
        let server = match self {
            Self::Streamgate(_) | Self::OneStopped => Server::streamgate(&redis, &[]),
            Self::Nchan(workers) => Server::nchan(&redis, workers),
            Self::Floor => Server::floor(),
        };
        (redis, server)
    }

    fn path(self) -> &'static str {
        if matches!(self, Self::Nchan(_)) {
            CHANNEL
        } else {
            EVENTS
        }
    }

    fn publisher(self, redis: &Server, server: &Server, size: usize) -> Publisher {
        match self {
            Self::Streamgate(_) | Self::OneStopped => Publisher::redis(redis),
            Self::Nchan(_) => Publisher::nchan(server),
            Self::Floor => Publisher::floor(server, size),
        }
    }
}

/// Opens a subscription that requests 50 MB of existing entries and reads nothing.
fn stopped(redis: &Server, server: &Server) -> TcpStream {
    let old = vec![("s1".to_owned(), vec![b'x'; 10_000]); 100];
    let mut publisher = Publisher::redis(redis);
    for _ in 0..50 {
        publisher.send(&old);
    }
    let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let request = "GET /v1/events?stream=s1@0&stream=s0 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

/// Runs one round with `lanes` lanes. `begin` starts the publishers.
fn round(
    run: &Run,
    kind: Kind,
    subscribers: usize,
    lanes: usize,
    begin: impl FnOnce(&mut Publishing, &mut dyn FnMut() -> Publisher),
) -> Figures {
    let (redis, server) = kind.start();
    let mut crowd = Crowd::new(server.port, run.clock);
    for _ in 0..subscribers {
        crowd.join(kind.path(), 0, lanes, false);
    }
    crowd.until_open();
    let _stopped = matches!(kind, Kind::OneStopped).then(|| stopped(&redis, &server));
    let mut publishing = Publishing::new(run.clock, run.size, lanes);
    begin(&mut publishing, &mut || {
        kind.publisher(&redis, &server, run.size)
    });
    crowd.run(WARM_UP, &publishing.shared);
    let mut figures = Figures::measure(&mut crowd, &publishing.shared, run.time, &server, &redis);
    crowd.run_out(&mut publishing);
    figures.verdict = crowd.verdict(&publishing.shared);
    figures
}

/// Runs rounds of all kinds in alternation, and returns the medians.
fn rounds<const N: usize>(
    run: &Run,
    kinds: [Kind; N],
    one: impl Fn(Kind) -> Figures,
) -> [Figures; N] {
    let mut figures = [const { Vec::new() }; N];
    for _ in 0..run.rounds {
        for (kind, figures) in kinds.iter().zip(&mut figures) {
            figures.push(one(*kind));
        }
    }
    let medians = figures.map(|rounds| Figures::median(&rounds));
    Figures::head();
    for (kind, figures) in kinds.iter().zip(&medians) {
        figures.print(&kind.name());
    }
    medians
}

/// Measures a few entries per second: a delivery is a `write` and a reader that wakes up.
pub fn paced(run: &Run, subscribers: usize) {
    let rate = run.rate.unwrap_or(40.0);
    println!(
        "\npaced: {subscribers} subscribers of one stream, {rate} entries/s of {} bytes, {} rounds of {:?}",
        run.size, run.rounds, run.time
    );
    let kinds = [
        Kind::Streamgate(1),
        Kind::OneStopped,
        Kind::Nchan(1),
        Kind::Nchan(2),
        Kind::Floor,
    ];
    let [ours, stopped, one, two, floor] = rounds(run, kinds, |kind| {
        round(run, kind, subscribers, 1, |publishing, publisher| {
            publishing.pace(publisher(), rate);
        })
    });
    let nchan = if two.cpu < one.cpu { &two } else { &one };
    goal(
        "CPU per delivery, streamgate : nchan",
        ours.cpu / nchan.cpu,
        "<= 0.9",
    );
    goal(
        "p99, streamgate : nchan",
        ours.p99_ms / one.p99_ms.min(two.p99_ms),
        "<= 1",
    );
    goal(
        "CPU per delivery, streamgate : one write each",
        ours.cpu / floor.cpu,
        "",
    );
    goal(
        "p99, streamgate with one stopped : without",
        stopped.p99_ms / ours.p99_ms,
        "about 1",
    );
    let wrong = [&ours, &stopped].map(|of| of.verdict.lost + of.verdict.twice);
    goal("lost or twice", wrong.iter().sum::<u64>() as f64, "0");
}

/// Measures the maximum rate: publishers are as fast as the slowest subscriber.
pub fn saturated(run: &Run, subscribers: usize) {
    println!(
        "\nsaturated: {subscribers} subscribers of one stream, as many entries of {} bytes as go through, {} rounds of {:?}",
        run.size, run.rounds, run.time
    );
    let kinds = [
        Kind::Streamgate(1),
        Kind::Streamgate(BATCH),
        Kind::Nchan(1),
        Kind::Nchan(2),
    ];
    let [ours, batches, one, two] = rounds(run, kinds, |kind| {
        let (lanes, batch) = match kind {
            Kind::Nchan(_) => (run.lanes, 1),
            Kind::Streamgate(batch) => (1, batch.min(run.ahead)),
            Kind::Floor | Kind::OneStopped => (1, 1),
        };
        round(run, kind, subscribers, lanes, |publishing, publisher| {
            for lane in 0..lanes {
                publishing.saturate(lane, publisher(), batch, run.ahead);
            }
        })
    });
    let nchan = if two.rate > one.rate { &two } else { &one };
    for (ours, how) in [(ours, ""), (batches, ", by 50")] {
        let name = format!("streamgate{how} : nchan");
        goal(
            &format!("deliveries/s, {name}"),
            ours.rate / nchan.rate,
            ">= 3",
        );
        goal(
            &format!("CPU per delivery, {name}"),
            ours.cpu / nchan.cpu,
            "<= 0.4",
        );
        let wrong = ours.verdict.lost + ours.verdict.twice;
        goal(&format!("lost or twice{how}"), wrong as f64, "0");
    }
}
