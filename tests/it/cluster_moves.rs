//! Slots that move between nodes, and nodes that come and go, while streams are published, followed
//! and processed in groups: nothing is lost, doubled or lent twice.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cluster::{entries, group};
use crate::support::app::Answer;
use crate::support::clusters::{Cluster, SLOTS};
use crate::support::{TestApp, elapse, skipped, unique};

/// The last value of each stream.
const END: &str = "end";

/// Repeats a call while the answer says that nothing was done and that a retry can help, as for a
/// slot that is being moved for longer than a request waits.
pub async fn retried(call: impl AsyncFn() -> Answer) -> Answer {
    loop {
        let answer = call().await;
        if answer.status != 503 || answer.json()["side_effects"] != "none" {
            return answer;
        }
        elapse(50, "the client waits before it tries again").await;
    }
}

/// Publishers, followers and workers of some streams, which check all that they get.
struct Load<'a> {
    app: &'a TestApp,
    streams: Vec<String>,
    /// Time between two entries of a stream.
    pace: u64,
    stopped: AtomicBool,
    /// Times from the answer to a publisher until its entry arrives at the follower.
    stalls: Mutex<Vec<Duration>>,
    /// Times of the answers to the publishers, by stream and entry.
    answered: Mutex<Vec<Vec<Instant>>>,
}

impl<'a> Load<'a> {
    async fn new(app: &'a TestApp, count: usize, pace: u64) -> Self {
        let mut streams = Vec::new();
        for _ in 0..count {
            let stream = unique("load");
            let policy = r#"{"policy":{"lease":"10m"}}"#;
            let created = app.put_json(&group(&stream), policy).await;
            assert_eq!(created.status, 201, "{created:?}");
            streams.push(stream);
        }
        Self {
            app,
            streams,
            pace,
            stopped: AtomicBool::new(false),
            stalls: Mutex::default(),
            answered: Mutex::new(vec![Vec::new(); count]),
        }
    }

    /// Publishes until the load is stopped. Returns the number of entries, with the last one.
    async fn publish(&self, index: usize) -> usize {
        let path = self.app.url(&entries(&self.streams[index]));
        let publish = async |n: usize, value: &str| {
            let post = self
                .app
                .client
                .post(&path)
                .header("idempotency-key", n.to_string())
                .header("content-type", "application/x-www-form-urlencoded")
                .body(format!("n={value}"));
            let answer = retried(async || self.app.send(post.try_clone().unwrap()).await).await;
            // 200 if an answer was lost: the key makes a retry safe.
            assert!(matches!(answer.status, 200 | 201), "{answer:?}");
            self.answered.lock().unwrap()[index].push(Instant::now());
        };
        for n in 0.. {
            if self.stopped.load(Ordering::Relaxed) {
                publish(n, END).await;
                return n + 1;
            }
            publish(n, &n.to_string()).await;
            elapse(self.pace, "entries come one by one, over the whole change").await;
        }
        unreachable!()
    }

    /// Follows to the last entry. Any gap or reset is a failure, because nothing is removed.
    async fn follow(&self, index: usize) -> usize {
        let path = format!("/v1/streams/{}/events?after=0", self.streams[index]);
        let mut sse = self.app.follow(&path).await;
        sse.expect("$open").await;
        for n in 0.. {
            let value = sse.values(1).await.remove(0);
            let now = Instant::now();
            let answered = self.answered.lock().unwrap()[index].get(n).copied();
            // An entry may come before the answer to its publisher.
            let stall = answered.map_or(Duration::ZERO, |then| now.duration_since(then));
            self.stalls.lock().unwrap().push(stall);
            if value == END {
                return n + 1;
            }
            assert_eq!(value, n.to_string(), "{}", self.streams[index]);
        }
        unreachable!()
    }

    /// Processes all entries of a group. Each must be lent once and in order.
    async fn work(&self, index: usize) -> usize {
        let (path, app) = (group(&self.streams[index]), self.app);
        let read = json!({"consumer": "c", "count": 7, "wait": "2s"}).to_string();
        let mut seen = 0;
        loop {
            let call = format!("{path}/read");
            let answer = retried(async || app.post_json(&call, &read).await).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let answer = answer.json();
            let lent = answer["entries"].as_array().unwrap();
            if lent.is_empty() {
                continue;
            }
            let mut ended = false;
            for entry in lent {
                let (value, next) = (&entry["fields"]["n"], seen.to_string());
                ended = value == END;
                let is_next = ended || value.as_str() == Some(&next);
                assert!(is_next && entry["deliveries"] == 1, "after {seen}: {entry}");
                seen += 1;
            }
            let receipts: Vec<_> = lent.iter().map(|entry| &entry["receipt"]).collect();
            let ack = json!({"receipts": receipts}).to_string();
            let call = format!("{path}/ack");
            let acked = retried(async || app.post_json(&call, &ack).await).await;
            assert_eq!(acked.status, 200, "{acked:?}");
            if ended {
                return seen;
            }
        }
    }

    /// Runs the load while `change` does, and checks that everybody got everything.
    async fn during(&self, change: impl Future<Output = ()>) {
        let of_one = (0..self.streams.len()).map(async |index| {
            let counts = tokio::join!(self.publish(index), self.follow(index), self.work(index));
            let path = format!("{}?limit=1000", entries(&self.streams[index]));
            (index, counts, path)
        });
        let change = async {
            change.await;
            self.stopped.store(true, Ordering::Relaxed);
        };
        let (all, ()) = tokio::join!(futures_util::future::join_all(of_one), change);
        let mut total = 0;
        for (index, (published, followed, worked), path) in all {
            assert_eq!((followed, worked), (published, published), "{index}");
            let (mut stored, mut next) = (0, Some(path));
            while let Some(path) = next {
                let page = retried(async || self.app.get(&path).await).await;
                assert_eq!(page.status, 200, "{page:?}");
                stored += page.ids().len();
                let cursor = page.json()["next"].as_str().map(str::to_owned);
                next = cursor.filter(|_| !page.ids().is_empty()).map(|cursor| {
                    format!(
                        "{}?limit=1000&cursor={cursor}",
                        entries(&self.streams[index])
                    )
                });
            }
            assert_eq!(stored, published, "entries of {index}");
            total += published;
        }
        assert_eq!(self.app.metric("gaps_total").await, 0);
        assert_eq!(self.app.metric("resets_total").await, 0);
        let mut stalls = std::mem::take(&mut *self.stalls.lock().unwrap());
        stalls.sort();
        let at = |percent: usize| stalls[(stalls.len() * percent / 100).min(stalls.len() - 1)];
        println!(
            "{total} entries; from the answer to the follower: p50 {:?}, p99 {:?}, all {:?}",
            at(50),
            at(99),
            at(100)
        );
    }
}

#[tokio::test]
async fn nothing_is_lost_while_a_node_joins_takes_slots_and_leaves_again() {
    let mut cluster = Cluster::start(3, false).await;
    cluster.add_node().await;
    let cluster = cluster;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let load = Load::new(&app, 6, 20).await;
    let new = cluster.nodes.last().unwrap();
    let change = async {
        cluster.meet(new).await;
        cluster.wait_until_ok().await;
        // All streams move to the new node, and then all that it has to the first one.
        for stream in &load.streams {
            let slot = crate::support::clusters::slot_of(&cluster.nodes[0], stream).await;
            cluster.move_slot(slot, new).await;
        }
        let slots = cluster.slots_of(new).await;
        assert!(
            !slots.is_empty() && slots.len() <= load.streams.len(),
            "{slots:?}"
        );
        cluster.move_slots(&slots, new, &cluster.nodes[0]).await;
        assert!(cluster.slots_of(new).await.is_empty());
        cluster.remove_node(new).await;
        elapse(300, "the load goes on without the node").await;
    };
    load.during(change).await;
}

#[tokio::test]
async fn nothing_is_lost_while_slots_migrate_in_one_step() {
    let cluster = Cluster::start(3, false).await;
    if !cluster.migrates_atomically().await {
        return skipped("this server moves slots key by key only");
    }
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let load = Load::new(&app, 12, 20).await;
    let change = async {
        elapse(300, "the load begins").await;
        let [one, two, three] = &cluster.nodes[..] else {
            panic!("three masters")
        };
        for (range, from, to) in [
            ((0, 2700), one, two),
            ((5462, 8000), two, three),
            ((10923, 13000), three, one),
            ((0, 2700), two, one),
            ((5462, 8000), three, two),
            ((10923, 13000), one, three),
        ] {
            cluster.migrate(range, from, to).await;
            elapse(200, "the load goes on between two moves").await;
        }
    };
    load.during(change).await;
    // Unlike a move key by key, nothing had to wait until a slot had moved.
    assert_eq!(app.metric("redis_slots_down").await, 0);
}

/// Moves the whole cluster to other nodes and back. Run by `make test-cluster-moves`.
#[tokio::test]
#[ignore = "takes a minute or more"]
async fn nothing_is_lost_while_all_slots_move_there_and_back() {
    let mut cluster = Cluster::start(3, false).await;
    for _ in 0..3 {
        cluster.add_node().await;
    }
    let cluster = cluster;
    let app = TestApp::on(&cluster.url(), |_| {}).await;
    let load = Load::new(&app, 24, 30).await;
    let change = async {
        for node in &cluster.nodes[3..] {
            cluster.meet(node).await;
        }
        cluster.wait_until_ok().await;
        let mut moved = 0;
        for (here, there) in [(0, 3), (3, 0)] {
            for n in 0..3 {
                let (from, to) = (&cluster.nodes[here + n], &cluster.nodes[there + n]);
                let slots = cluster.slots_of(from).await;
                cluster.move_slots(&slots, from, to).await;
                moved += slots.len();
            }
        }
        assert_eq!(moved, 2 * usize::from(SLOTS));
    };
    let began = Instant::now();
    load.during(change).await;
    println!("all slots moved there and back in {:?}", began.elapsed());
}
