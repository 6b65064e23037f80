//! What workers saw of a queue while everything around it broke, checked against what may be.
//!
//! Random runs: several gateways, each behind a proxy that is cut and stalled; a Redis that is paused
//! and killed; workers that are quick, late, hang, crash, hand back, put away and ask for more time.
//! `WORK_MODEL_SEED=n` repeats the choices of a run, `WORK_MODEL_SECONDS=n` makes it longer and
//! `WORK_MODEL_RUNS=n` makes it many.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastrand::Rng;
use futures_util::future::join_all;
use serde_json::Value;
use streamgate::model::name::{GroupName, StreamName};
use streamgate::model::receipt::Receipt;

use crate::support::gateway::signal;
use crate::support::proxy::Proxy;
use crate::support::redis::Server;
use crate::support::{TestApp, app, eventually};

const STREAM: &str = "jobs";
const LEASE_US: u64 = 400_000;
const LEASE: Duration = Duration::from_micros(LEASE_US);
const MAX_DELIVERIES: u64 = 4;
const WORKERS: usize = 8;

/// An entry that came into a worker's hands.
#[derive(Clone, Debug)]
struct Handout {
    id: String,
    #[expect(dead_code, reason = "shown when a check fails")]
    worker: usize,
    deliveries: u64,
    /// By the clock of Redis, in microseconds.
    lent_us: u64,
    until_us: u64,
    /// When it had come, by the clock of the test.
    came: Instant,
    said: Vec<Said>,
}

/// What a worker said of it, and what it was answered; nothing if no answer came.
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
}

fn names() -> (StreamName, GroupName) {
    (StreamName::new(STREAM).unwrap(), GroupName::new("g").unwrap())
}

fn until(receipt: &str) -> u64 {
    let (stream, group) = names();
    Receipt::decode(receipt, &stream, &group).unwrap().until_us
}

impl Run {
    async fn post(&self, rng: &mut Rng, verb: &str, form: String) -> Option<Value> {
        let app = &self.apps[rng.usize(..self.apps.len())];
        let request = app.client.post(app.url(&format!("/v1/streams/{STREAM}/groups/g/{verb}")));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let answer = app::answer(request.body(form).timeout(Duration::from_secs(5))).await.ok()?;
        assert!(matches!(answer.status, 200 | 503 | 504), "{verb}: {answer:?}");
        (answer.status == 200).then(|| answer.json())
    }

    /// What one worker does until the end.
    async fn work(&self, worker: usize, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            let (count, wait) = (rng.u32(1..6), rng.u32(0..300));
            // Consumers share names, so that these tell nobody apart.
            let form = format!("consumer=w{}&count={count}&wait={wait}ms", worker % 3);
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
                    said: Vec::new(),
                };
                self.settle(&mut rng, &mut handout, receipt).await;
                self.history.0.lock().unwrap().push(handout);
            }
        }
    }

    async fn settle(&self, rng: &mut Rng, handout: &mut Handout, mut receipt: String) {
        match rng.u32(..100) {
            // It crashes, or hangs until long after.
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
        // Now and then it says so again, as one who got no answer does.
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
        let answer = self.post(rng, verb, format!("receipts={receipt}{more}")).await;
        let result = answer.map(|answer| answer["results"][0].clone());
        let text =
            |name: &str| result.as_ref().and_then(|one| one[name].as_str()).map(str::to_owned);
        let renewed = text("receipt");
        let until_us = renewed.as_deref().map(until);
        handout.said.push(Said { verb, at, outcome: text("outcome"), until_us });
        renewed
    }

    async fn publish(&self, server: &Server, mut rng: Rng) {
        while !self.stop.load(Ordering::Relaxed) {
            let id = self.published.load(Ordering::Relaxed) + 1;
            let name = format!("{id}-0");
            // Sent again until it is there: what is not above the last is.
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
            // What was stalled is cut, as it would be.
            proxy.cut();
            proxy.restore();
        }
    }
}

#[tokio::test]
async fn whatever_breaks_no_entry_is_lost_and_none_is_held_by_two() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    for run in 0..number("WORK_MODEL_RUNS").unwrap_or(1) {
        let seed = number("WORK_MODEL_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32)) + run;
        println!("WORK_MODEL_SEED={seed}");
        one_run(seed, Duration::from_secs(number("WORK_MODEL_SECONDS").unwrap_or(5))).await;
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
    let run = Arc::new(Run {
        apps,
        history: History::default(),
        stop: AtomicBool::new(false),
        published: AtomicU64::new(0),
    });
    let end = Instant::now() + length;
    let working = join_all((0..WORKERS).map(|worker| run.work(worker, rng.fork())));
    let publishing = run.publish(&server, rng.fork());
    let disturbing = async {
        run.disturb(&server, &proxies, rng.fork(), end).await;
        proxies.iter().for_each(Proxy::restore);
        tokio::time::sleep(Duration::from_millis(500)).await;
        run.stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(working, publishing, disturbing);
    finish(&run, &mut rng, &path).await;
    let letters = dead_letters(&run.apps[2], &path).await;
    let history = run.history.0.lock().unwrap().clone();
    check(&history, &letters, run.published.load(Ordering::Relaxed));
}

/// Works off what is left, as a worker that never fails.
async fn finish(run: &Run, rng: &mut Rng, path: &str) {
    eventually("everything was worked off", async || {
        let form = "consumer=last&count=1000&wait=100ms".to_owned();
        let Some(read) = run.post(rng, "read", form).await else { return false };
        let came = Instant::now();
        for entry in read["entries"].as_array().unwrap() {
            let receipt = entry["receipt"].as_str().unwrap().to_owned();
            let until_us = until(&receipt);
            let mut handout = Handout {
                id: entry["id"].as_str().unwrap().to_owned(),
                worker: WORKERS,
                deliveries: entry["deliveries"].as_u64().unwrap(),
                lent_us: until_us - LEASE_US,
                until_us,
                came,
                said: Vec::new(),
            };
            run.say(rng, &mut handout, "ack", &receipt, "").await;
            run.history.0.lock().unwrap().push(handout);
        }
        let group = run.apps[2].get(path).await.json();
        let all = format!("{}-0", run.published.load(Ordering::Relaxed));
        group["pending"] == 0 && group["last_delivered_id"] == all
    })
    .await;
}

async fn dead_letters(app: &TestApp, path: &str) -> Vec<String> {
    let (mut all, mut query) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("{path}/dead-letters?limit=1000{query}")).await.json();
        let letters = page["dead_letters"].as_array().unwrap();
        all.extend(letters.iter().map(|letter| letter["entry"].as_str().unwrap().to_owned()));
        match page["next"].as_str() {
            Some(next) => query = format!("&cursor={next}"),
            None => return all,
        }
    }
}

fn check(history: &[Handout], letters: &[String], published: u64) {
    let mut of_each: BTreeMap<&str, Vec<&Handout>> = BTreeMap::new();
    for handout in history {
        of_each.entry(&handout.id).or_default().push(handout);
    }
    let dead: BTreeSet<&str> = letters.iter().map(String::as_str).collect();
    assert_eq!(dead.len(), letters.len(), "dead-lettered once");
    let (mut acknowledged, mut unknown) = (0, 0);
    for id in (1..=published).map(|n| format!("{n}-0")) {
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
        assert!(acks.len() <= 1, "acknowledged twice: {handouts:#?}");
        assert!(acks.is_empty() || !dead.contains(id.as_str()), "done and dead: {handouts:#?}");
        let settled = !acks.is_empty() || unanswered || dead.contains(id.as_str());
        assert!(settled, "{id} is lost: {handouts:#?}");
        acknowledged += acks.len();
        unknown += usize::from(acks.is_empty() && !dead.contains(id.as_str()));
        for pair in handouts.windows(2) {
            one_after_the_other(pair[0], pair[1]);
        }
        for (holder, ack) in acks {
            let later =
                handouts.iter().find(|other| other.lent_us > holder.lent_us && other.came < ack.at);
            assert!(later.is_none(), "acknowledged by one who had lost it: {holder:#?} {later:#?}");
        }
        let most = handouts.iter().map(|handout| handout.deliveries).max().unwrap_or(0);
        assert!(most <= MAX_DELIVERIES, "delivered too often: {handouts:#?}");
    }
    assert!(of_each.is_empty(), "entries nobody published: {of_each:#?}");
    println!(
        "{published} entries, {} handed out, {acknowledged} acknowledged, {} dead, {unknown} unanswered",
        history.len(),
        letters.len()
    );
    assert!(published > 50 && acknowledged > 20, "nothing much happened");
}

/// The second was lent when the lease of the first was over, unless the first gave it back.
fn one_after_the_other(first: &Handout, second: &Handout) {
    let gave_back = first.said.iter().any(|said| {
        matches!(said.verb, "nack" | "reject")
            && matches!(said.outcome.as_deref(), None | Some("released" | "dead-lettered"))
    });
    // Also one who asked for more time and was not answered may have moved the end.
    let until_us = first.said.iter().filter_map(|said| said.until_us).max();
    let until_us = until_us.unwrap_or(first.until_us);
    assert!(gave_back || second.lent_us >= until_us, "held by two at once: {first:#?} {second:#?}");
    assert!(second.deliveries > first.deliveries, "{first:#?} {second:#?}");
}
