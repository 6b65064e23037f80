//! Model test of work queues: compares what workers saw with the rules, while everything around
//! them breaks.
//!
//! A random run has several gateways, some behind a proxy that is cut and stalled. Redis is paused
//! and killed. Workers are fast or late; they hang, crash, nack, reject and extend leases. Native
//! consumers read beside them. Entries are deleted and trimmed, leased or not. A second group of
//! the same stream has no policy: it must deliver no entry twice.
//!
//! `WORK_MODEL_SEED=n` repeats the choices of a run, `WORK_MODEL_SECONDS=n` makes a run longer, and
//! `WORK_MODEL_RUNS=n` sets the number of runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadpool_redis::redis::Value as Redis;
use fastrand::Rng;
use futures_util::future::join_all;
use serde_json::Value;
use streamgate::model::name::{GroupName, StreamName};
use streamgate::model::receipt::Receipt;

use crate::support::gateway::signal;
use crate::support::proxy::Proxy;
use crate::support::redis::{Server, json as plain};
use crate::support::{PATIENCE, TestApp, app};

const STREAM: &str = "jobs";
const LEASE_US: u64 = 400_000;
const LEASE: Duration = Duration::from_micros(LEASE_US);
const MAX_DELIVERIES: u64 = 4;
const WORKERS: usize = 8;
/// Name of the native consumer in both groups.
const NATIVE: &str = "native";
/// Maximum error of the times in Redis' own pending lists, which are in milliseconds.
const ROUNDED_US: u64 = 2_000;

/// A delivery of an entry to a worker.
#[derive(Clone, Debug)]
struct Handout {
    id: String,
    #[expect(dead_code, reason = "shown when a check fails")]
    worker: usize,
    deliveries: u64,
    /// Start of the lease by the clock of Redis, in microseconds.
    lent_us: u64,
    until_us: u64,
    /// Time of arrival by the clock of the test.
    came: Instant,
    /// Whether a native consumer read the entry. Its acknowledgement counts even if another
    /// consumer holds the entry by then.
    native: bool,
    said: Vec<Said>,
}

/// A request of a worker about an entry. `outcome` is `None` if no response arrived.
#[derive(Clone, Debug)]
struct Said {
    verb: &'static str,
    at: Instant,
    outcome: Option<String>,
    until_us: Option<u64>,
}

#[derive(Default)]
struct History(Mutex<Vec<Handout>>);

struct Run {
    apps: Vec<TestApp>,
    history: History,
    stop: AtomicBool,
    published: AtomicU64,
    /// Entries that were deleted or trimmed, or may have been.
    removed: Mutex<BTreeSet<u64>>,
    /// Entries that the group without a policy delivered: through gateways, and natively.
    plain: [Mutex<Vec<String>>; 2],
}

fn names() -> (StreamName, GroupName) {
    (
        StreamName::new(STREAM).unwrap(),
        GroupName::new("g").unwrap(),
    )
}

fn until(receipt: &str) -> u64 {
    let (stream, group) = names();
    Receipt::decode(receipt, &stream, &group).unwrap().until_us
}

impl Run {
    async fn post(&self, rng: &mut Rng, verb: &str, form: String) -> Option<Value> {
        self.post_in("g", rng, verb, form).await
    }

    async fn post_in(&self, group: &str, rng: &mut Rng, verb: &str, form: String) -> Option<Value> {
        let app = &self.apps[rng.usize(..self.apps.len())];
        let request = app
            .client
            .post(app.url(&format!("/v1/streams/{STREAM}/groups/{group}/{verb}")));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = app::answer(request.body(form).timeout(Duration::from_secs(5)))
            .await
            .ok()?;
        assert!(
            matches!(answer.status, 200 | 503 | 504),
            "{verb}: {answer:?}"
        );
        (answer.status == 200).then(|| answer.json())
    }

    /// Runs one worker until the end of the run.
    async fn work(&self, worker: usize, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            let (count, wait) = (rng.u32(1..6), rng.u32(0..300));
            // Consumer names are shared, so they do not distinguish workers.
            let mut form = format!("consumer=w{}&count={count}&wait={wait}ms", worker % 3);
            if rng.u32(..3) == 0 {
                // Every entry has at least two bytes.
                form.push_str(["&max_bytes=1", "&max_bytes=4", "&max_bytes=7"][rng.usize(..3)]);
            }
            let Some(read) = self.post(&mut rng, "read", form).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let came = Instant::now();
            for entry in read["entries"].as_array().unwrap() {
                let receipt = entry["receipt"].as_str().unwrap().to_owned();
                let until_us = until(&receipt);
                let mut handout = Handout {
                    id: entry["id"].as_str().unwrap().to_owned(),
                    worker,
                    deliveries: entry["deliveries"].as_u64().unwrap(),
                    lent_us: until_us - LEASE_US,
                    until_us,
                    came,
                    native: false,
                    said: Vec::new(),
                };
                self.settle(&mut rng, &mut handout, receipt).await;
                self.history.0.lock().unwrap().push(handout);
            }
        }
    }

    async fn settle(&self, rng: &mut Rng, handout: &mut Handout, mut receipt: String) {
        match rng.u32(..100) {
            // The worker crashes, or hangs until long after its lease.
            0..8 => return,
            8..16 => tokio::time::sleep(LEASE + Duration::from_millis(rng.u64(..400))).await,
            16..30 => tokio::time::sleep(LEASE.mul_f64(rng.f64())).await,
            30..40 => {
                if let Some(renewed) = self.say(rng, handout, "extend", &receipt, "").await {
                    receipt = renewed;
                }
                tokio::time::sleep(LEASE.mul_f64(rng.f64() * 1.2)).await;
            }
            _ => {}
        }
        match rng.u32(..100) {
            0..8 => {
                let delay = format!("&delay={}ms", 100 + rng.u32(..600));
                self.say(rng, handout, "nack", &receipt, &delay).await;
            }
            8..14 => drop(self.say(rng, handout, "nack", &receipt, "").await),
            14..19 => drop(self.say(rng, handout, "reject", &receipt, "").await),
            _ => drop(self.say(rng, handout, "ack", &receipt, "").await),
        }
        // Now and then the worker repeats itself, like a client that got no response.
        if rng.u32(..10) == 0 {
            self.say(rng, handout, "ack", &receipt, "").await;
        }
    }

    async fn say(
        &self,
        rng: &mut Rng,
        handout: &mut Handout,
        verb: &'static str,
        receipt: &str,
        more: &str,
    ) -> Option<String> {
        let at = Instant::now();
        let answer = self
            .post(rng, verb, format!("receipts={receipt}{more}"))
            .await;
        let result = answer.map(|answer| answer["results"][0].clone());
        let text = |name: &str| {
            result
                .as_ref()
                .and_then(|one| one[name].as_str())
                .map(str::to_owned)
        };
        let renewed = text("receipt");
        let until_us = renewed.as_deref().map(until);
        handout.said.push(Said {
            verb,
            at,
            outcome: text("outcome"),
            until_us,
        });
        renewed
    }

    async fn publish(&self, server: &Server, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            let id = self.published.load(Ordering::Relaxed) + 1;
            let name = format!("{id}-0");
            // Send until the entry exists: Redis then rejects its id as not above the last one.
            match server.try_command(&["XADD", STREAM, &name, "n", "1"]).await {
                Err(error) if !error.to_string().contains("equal or smaller") => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                _ => drop(self.published.fetch_add(1, Ordering::Relaxed)),
            }
            if rng.u32(..4) == 0 {
                tokio::time::sleep(Duration::from_millis(rng.u64(..30))).await;
            }
        }
    }

    /// Runs a native consumer of the group with the policy. It acknowledges some entries and drops
    /// others.
    async fn work_natively(&self, server: &Server, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(rng.u64(..120))).await;
            let Ok(before) = server.try_command(&["TIME"]).await else {
                continue;
            };
            let before = plain(&before);
            let part = |i: usize| before[i].as_str().unwrap().parse::<u64>().unwrap();
            let lent_us = part(0) * 1_000_000 + part(1) - ROUNDED_US;
            let ids = read_natively(server, "g", rng.usize(1..4)).await;
            let came = Instant::now();
            match rng.u32(..4) {
                0 => {}
                1 => tokio::time::sleep(LEASE.mul_f64(rng.f64() * 2.0)).await,
                _ => tokio::time::sleep(LEASE.mul_f64(rng.f64() * 0.3)).await,
            }
            let crashed = rng.u32(..4) == 0;
            for id in ids {
                let mut handout = Handout {
                    id,
                    worker: WORKERS,
                    deliveries: 1,
                    lent_us,
                    until_us: lent_us + LEASE_US,
                    came,
                    native: true,
                    said: Vec::new(),
                };
                if !crashed {
                    let at = Instant::now();
                    let reply = server
                        .try_command(&["XACK", STREAM, "g", &handout.id])
                        .await;
                    let outcome = reply.ok().map(|reply| match reply {
                        Redis::Int(1) => "acknowledged".to_owned(),
                        _ => "not-pending".to_owned(),
                    });
                    handout.said.push(Said {
                        verb: "ack",
                        at,
                        outcome,
                        until_us: None,
                    });
                }
                self.history.0.lock().unwrap().push(handout);
            }
        }
    }

    /// Reads the group without a policy, through gateways and natively, and acknowledges nothing.
    async fn read_plain(&self, server: &Server, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(rng.u64(..40))).await;
            let count = rng.usize(1..5);
            if rng.bool() {
                let ids = read_natively(server, "plain", count).await;
                self.plain[1].lock().unwrap().extend(ids);
                continue;
            }
            let mut form = format!("consumer=http&count={count}&wait={}ms", rng.u32(..50));
            if rng.bool() {
                form.push_str(["&max_bytes=1", "&max_bytes=4", "&max_bytes=7"][rng.usize(..3)]);
            }
            let Some(read) = self.post_in("plain", &mut rng, "read", form).await else {
                continue;
            };
            let entries = read["entries"].as_array().unwrap().iter();
            let ids = entries.map(|entry| entry["id"].as_str().unwrap().to_owned());
            self.plain[0].lock().unwrap().extend(ids);
        }
    }

    /// Deletes entries now and then, most of them leased, and trims.
    async fn remove(&self, server: &Server, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(rng.u64(20..250))).await;
            let handed = |one: &Handout| one.id.replace("-0", "").parse::<u64>().unwrap();
            let newest = self
                .history
                .0
                .lock()
                .unwrap()
                .iter()
                .map(handed)
                .max()
                .unwrap_or(0);
            // Include up to three entries beyond those delivered.
            let newest = (newest + 3).min(self.published.load(Ordering::Relaxed));
            let low = newest.saturating_sub(15).max(1);
            if rng.u32(..12) == 0 {
                self.removed.lock().unwrap().extend(1..low);
                let words = ["XTRIM", STREAM, "MINID", "=", &format!("{low}-0")];
                drop(server.try_command(&words).await);
            } else if newest > low {
                let chosen = rng.u64(low..newest);
                self.removed.lock().unwrap().insert(chosen);
                drop(
                    server
                        .try_command(&["XDEL", STREAM, &format!("{chosen}-0")])
                        .await,
                );
            }
        }
    }

    async fn disturb(&self, server: &Server, proxies: &[Proxy], mut rng: Rng, until: Instant) {
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(rng.u64(50..500))).await;
            let proxy = &proxies[rng.usize(..proxies.len())];
            let a_while = Duration::from_millis(rng.u64(20..600));
            match rng.u32(..10) {
                0..3 => proxy.cut(),
                3..5 => proxy.cut_answers(),
                5..7 => proxy.stall(),
                7..9 => {
                    signal(server.pid(), "STOP");
                    tokio::time::sleep(a_while).await;
                    signal(server.pid(), "CONT");
                    continue;
                }
                _ => {
                    server.kill();
                    tokio::time::sleep(a_while).await;
                    server.start_again().await;
                    continue;
                }
            }
            tokio::time::sleep(a_while).await;
            // A stalled connection is cut at its end, as it would be in reality.
            proxy.cut();
            proxy.restore();
        }
    }
}

/// Returns the ids that the native consumer receives, or none if there is no response.
async fn read_natively(server: &Server, group: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let words = [
        "XREADGROUP",
        "GROUP",
        group,
        NATIVE,
        "COUNT",
        &count,
        "STREAMS",
        STREAM,
        ">",
    ];
    let Ok(Redis::Array(reply)) = server.try_command(&words).await else {
        return Vec::new();
    };
    let entries = plain(&reply[0])[1].as_array().unwrap().clone();
    entries
        .iter()
        .map(|entry| entry[0].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn whatever_breaks_no_entry_is_lost_and_none_is_held_by_two() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    for run in 0..number("WORK_MODEL_RUNS").unwrap_or(1) {
        let seed = number("WORK_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32)) + run;
        println!("WORK_MODEL_SEED={seed}");
        one_run(
            seed,
            Duration::from_secs(number("WORK_MODEL_SECONDS").unwrap_or(5)),
        )
        .await;
    }
}

async fn one_run(seed: u64, length: Duration) {
    let mut rng = Rng::with_seed(seed);
    let server = Server::start().await;
    let proxies = vec![Proxy::to(server.port).await, Proxy::to(server.port).await];
    let mut apps = Vec::new();
    for proxy in &proxies {
        apps.push(TestApp::on(&proxy.url(), |_| {}).await);
    }
    apps.push(TestApp::on_server(&server).await);
    let policy = format!(
        r#"{{"policy":{{"lease":"{}ms","max_deliveries":{MAX_DELIVERIES},"backoff":["0","200ms"]}}}}"#,
        LEASE.as_millis()
    );
    let path = format!("/v1/streams/{STREAM}/groups/g");
    assert_eq!(apps[0].put_json(&path, &policy).await.status, 201);
    let other = format!("/v1/streams/{STREAM}/groups/plain");
    assert_eq!(apps[0].put_json(&other, "{}").await.status, 201);
    let run = Arc::new(Run {
        apps,
        history: History::default(),
        stop: AtomicBool::new(false),
        published: AtomicU64::new(0),
        removed: Mutex::default(),
        plain: [Mutex::default(), Mutex::default()],
    });
    let end = Instant::now() + length;
    let working = join_all((0..WORKERS).map(|worker| run.work(worker, rng.fork())));
    let publishing = run.publish(&server, rng.fork());
    let working_natively = run.work_natively(&server, rng.fork());
    let reading_plain = run.read_plain(&server, rng.fork());
    let removing = run.remove(&server, rng.fork());
    let disturbing = async {
        run.disturb(&server, &proxies, rng.fork(), end).await;
        proxies.iter().for_each(Proxy::restore);
        tokio::time::sleep(Duration::from_millis(500)).await;
        run.stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(
        working,
        publishing,
        working_natively,
        reading_plain,
        removing,
        disturbing
    );
    finish(&run, &mut rng, &path).await;
    let letters = dead_letters(&run.apps[2], &path).await;
    let history = run.history.0.lock().unwrap().clone();
    let removed = run.removed.lock().unwrap().clone();
    check(
        &history,
        &letters,
        run.published.load(Ordering::Relaxed),
        &removed,
    );
    check_plain(&server, &run).await;
}

/// Processes the remaining entries like a worker that never fails. Gives up when no entry arrives
/// for [`PATIENCE`].
async fn finish(run: &Run, rng: &mut Rng, path: &str) {
    let mut last = Instant::now();
    loop {
        let form = "consumer=last&count=1000&wait=100ms".to_owned();
        let read = run.post(rng, "read", form).await;
        let came = Instant::now();
        for entry in read
            .iter()
            .flat_map(|read| read["entries"].as_array().unwrap())
        {
            last = came;
            let receipt = entry["receipt"].as_str().unwrap().to_owned();
            let until_us = until(&receipt);
            let mut handout = Handout {
                id: entry["id"].as_str().unwrap().to_owned(),
                worker: WORKERS,
                deliveries: entry["deliveries"].as_u64().unwrap(),
                lent_us: until_us - LEASE_US,
                until_us,
                came,
                native: false,
                said: Vec::new(),
            };
            run.say(rng, &mut handout, "ack", &receipt, "").await;
            run.history.0.lock().unwrap().push(handout);
        }
        let group = run.apps[2].get(path).await.json();
        let delivered = group["last_delivered_id"]
            .as_str()
            .unwrap()
            .replace("-0", "");
        let delivered: u64 = delivered.parse().unwrap();
        let published = run.published.load(Ordering::Relaxed);
        let is_read = {
            let removed = run.removed.lock().unwrap();
            (delivered + 1..=published).all(|id| removed.contains(&id))
        };
        if group["pending"] == 0 && is_read {
            return;
        }
        assert!(
            last.elapsed() < PATIENCE,
            "{published} were published, and it stands: {group:#}"
        );
    }
}

async fn dead_letters(app: &TestApp, path: &str) -> Vec<String> {
    let (mut all, mut query) = (Vec::new(), String::new());
    loop {
        let page = app
            .get(&format!("{path}/dead-letters?limit=1000{query}"))
            .await
            .json();
        let letters = page["dead_letters"].as_array().unwrap();
        all.extend(
            letters
                .iter()
                .map(|letter| letter["entry"].as_str().unwrap().to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => query = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn check(history: &[Handout], letters: &[String], published: u64, removed: &BTreeSet<u64>) {
    let mut of_each: BTreeMap<&str, Vec<&Handout>> = BTreeMap::new();
    for handout in history {
        of_each.entry(&handout.id).or_default().push(handout);
    }
    let dead: BTreeSet<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(dead.len(), letters.len(), "dead-lettered once");
    let (mut acknowledged, mut unknown, mut never) = (0, 0, 0);
    for n in 1..=published {
        let id = format!("{n}-0");
        let mut handouts = of_each.remove(id.as_str()).unwrap_or_default();
        handouts.sort_by_key(|handout| handout.lent_us);
        let said = || {
            handouts
                .iter()
                .flat_map(|handout| handout.said.iter().map(move |said| (*handout, said)))
        };
        let acks = said().filter(|(_, said)| said.outcome.as_deref() == Some("acknowledged"));
        let acks: Vec<_> = acks.collect();
        let unanswered = said().any(|(_, said)| said.outcome.is_none() && said.verb == "ack");
        // An entry removed before its first delivery has no outcome. A removed entry that was
        // leased leaves a tombstone.
        let nobodys = removed.contains(&n) && handouts.is_empty() && !dead.contains(id.as_str());
        never += usize::from(nobodys);
        assert!(acks.len() <= 1, "acknowledged twice: {handouts:#?}");
        assert!(
            acks.is_empty() || !dead.contains(id.as_str()),
            "done and dead: {handouts:#?}"
        );
        let settled = !acks.is_empty() || unanswered || dead.contains(id.as_str()) || nobodys;
        assert!(settled, "{id} is lost: {handouts:#?}");
        acknowledged += acks.len();
        unknown += usize::from(acks.is_empty() && !dead.contains(id.as_str()) && !nobodys);
        for pair in handouts.windows(2) {
            one_after_the_other(pair[0], pair[1]);
        }
        for (holder, ack) in acks.into_iter().filter(|(holder, _)| !holder.native) {
            let later = handouts
                .iter()
                .find(|other| other.lent_us > holder.lent_us && other.came < ack.at);
            assert!(
                later.is_none(),
                "acknowledged by one who had lost it: {holder:#?} {later:#?}"
            );
        }
        let most = handouts
            .iter()
            .map(|handout| handout.deliveries)
            .max()
            .unwrap_or(0);
        assert!(most <= MAX_DELIVERIES, "delivered too often: {handouts:#?}");
    }
    assert!(of_each.is_empty(), "entries nobody published: {of_each:#?}");
    println!(
        "{published} entries, {} removed, {} handed out, {} natively, {acknowledged} acknowledged, \
         {} dead, {unknown} unanswered, {never} never read",
        removed.len(),
        history.len(),
        history.iter().filter(|handout| handout.native).count(),
        letters.len()
    );
    assert!(published > 50 && acknowledged > 20, "nothing much happened");
}

/// Checks that the second lease began after the end of the first, unless the first holder gave the
/// entry back.
fn one_after_the_other(first: &Handout, second: &Handout) {
    let gave_back = first.said.iter().any(|said| {
        matches!(said.verb, "nack" | "reject")
            && matches!(
                said.outcome.as_deref(),
                None | Some("released" | "dead-lettered")
            )
    });
    // A request to extend that got no response may have moved the end, too.
    let until_us = first.said.iter().filter_map(|said| said.until_us).max();
    let until_us = until_us.unwrap_or(first.until_us);
    assert!(
        gave_back || second.lent_us >= until_us,
        "held by two at once: {first:#?} {second:#?}"
    );
    assert!(
        second.deliveries > first.deliveries,
        "{first:#?} {second:#?}"
    );
}

/// Checks that the group without a policy delivers nothing twice, and that the native consumer
/// keeps its entries to the end.
async fn check_plain(server: &Server, run: &Run) {
    let [http, native] = [0, 1].map(|i| run.plain[i].lock().unwrap().clone());
    let all: BTreeSet<&String> = http.iter().chain(&native).collect();
    assert_eq!(
        all.len(),
        http.len() + native.len(),
        "given to two: {http:?} {native:?}"
    );
    assert!(!http.is_empty() && !native.is_empty());
    let words = ["XPENDING", STREAM, "plain", "-", "+", "1000000"];
    let held = plain(&server.command(&words).await);
    let held: BTreeMap<&str, (&Value, &Value)> = held
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one[0].as_str().unwrap(), (&one[1], &one[3])))
        .collect();
    for id in &native {
        assert_eq!(
            held.get(id.as_str()),
            Some(&(&NATIVE.into(), &1.into())),
            "{id}"
        );
    }
}
