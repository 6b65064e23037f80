//! Plays a script: executes each step, records it in the ledger, and checks every subscriber at the
//! end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::check::{Told, check};
use super::ledger::{Gone, Ledger};
use super::script::{STREAMS, SUBSCRIBERS, Step, Trim};
use super::subscriber::{Subscriber, View, Wish};
use super::world::{Way, World};
use crate::support::{PATIENCE, encode, eventually, unique};

/// Script that adds several entries in one step, so that no reader sees an intermediate state.
const AT_ONCE: &str = "
    local ids = {}
    for i = 1, tonumber(ARGV[2]) do
        ids[i] = redis.call('XADD', KEYS[1], 'MAXLEN', ARGV[3], '*', 'n', ARGV[1] + i - 1, 'pad', '')
    end
    return ids";

pub struct Run<'a> {
    world: &'a mut World,
    streams: Vec<(String, Ledger)>,
    subscribers: Vec<Subscriber>,
    /// Number of completed steps. Each command that changes a stream is one step.
    steps: Arc<AtomicUsize>,
    values: u64,
    lines: [Way; 2],
}

impl<'a> Run<'a> {
    /// Plays a script. Returns counts of what subscribers received, or a description of the first
    /// fault.
    pub async fn play(world: &'a mut World, script: &[Step]) -> Result<Told, String> {
        world.open_all();
        let steps: Arc<AtomicUsize> = Arc::default();
        let streams = (0..STREAMS)
            .map(|_| (unique("model"), Ledger::new(0)))
            .collect();
        let lines = [Way::Open; 2];
        let mut run = Self {
            world,
            streams,
            subscribers: Vec::new(),
            steps,
            values: 0,
            lines,
        };
        for number in 0..SUBSCRIBERS {
            run.join(number % STREAMS, number).await;
        }
        for (number, step) in script.iter().enumerate() {
            println!("  {number}: {step:?}");
            run.step(step).await;
        }
        run.end().await
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Add {
                stream,
                count,
                bytes,
                maxlen,
            } => {
                for _ in 0..*count {
                    self.add(*stream, *bytes, *maxlen).await;
                }
            }
            Step::AddAtOnce {
                stream,
                count,
                maxlen,
            } => {
                self.at_once(*stream, *count, *maxlen).await;
            }
            Step::Publish {
                stream,
                gateway,
                count,
                maxlen,
            } => {
                self.publish(*stream, *gateway, *count, *maxlen).await;
            }
            Step::Trim { stream, how } => self.trim(*stream, *how).await,
            Step::TrimThrough {
                stream,
                gateway,
                maxlen,
            } => {
                let path = format!("/v1/streams/{}/trim", encode(&self.streams[*stream].0));
                let body = format!(r#"{{"maxlen":{maxlen},"exact":true}}"#);
                if self.ask(*gateway, "POST", &path, body).await {
                    self.settle(*stream, true).await;
                }
            }
            Step::Delete { stream, which } => self.delete(*stream, which).await,
            Step::Recreate { stream } => {
                let name = self.streams[*stream].0.clone();
                let _: i64 = self.world.redis(&["DEL", &name]).await;
                self.end_if_gone(*stream).await;
            }
            Step::RecreateThrough { stream, gateway } => {
                let path = format!("/v1/streams/{}", encode(&self.streams[*stream].0));
                self.ask(*gateway, "DELETE", &path, String::new()).await;
                self.end_if_gone(*stream).await;
            }
            Step::Join { stream, route } => {
                self.world.open_all();
                self.lines = [Way::Open; 2];
                self.join(*stream, *route).await;
            }
            Step::Stop { subscriber } => self.order(*subscriber, |orders| orders.reads = false),
            Step::Go { subscriber } => self.order(*subscriber, |orders| orders.reads = true),
            Step::Pace { subscriber, pace } => {
                self.order(*subscriber, |orders| orders.pace = *pace);
            }
            Step::Move { subscriber, route } => self.order(*subscriber, |orders| {
                orders.route = *route;
                orders.hangups += 1;
            }),
            Step::Door { gateway, way } => self.world.door(*gateway, *way),
            Step::Line { gateway, way } => {
                self.lines[*gateway] = *way;
                self.world.line(*gateway, *way);
            }
            Step::RestartGateway { gateway } => {
                // A starting gateway waits for Redis before it listens.
                self.lines[*gateway] = Way::Open;
                self.world.line(*gateway, Way::Open);
                self.world.restart_gateway(*gateway).await;
            }
            Step::RestartRedis { empty, away } => {
                self.world.restart_redis(*empty, *away).await;
                for stream in 0..STREAMS {
                    self.end_if_gone(stream).await;
                }
            }
            Step::Wait(time) => tokio::time::sleep(*time).await,
        }
    }

    fn order(&self, subscriber: usize, change: impl FnOnce(&mut super::subscriber::Orders)) {
        if let Some(subscriber) = self.subscribers.get(subscriber) {
            subscriber.orders.send_modify(change);
        }
    }

    async fn join(&mut self, stream: usize, route: usize) {
        let number = self.subscribers.len();
        // Every third subscriber follows all streams on one connection.
        let streams = match number % 3 {
            2 => self.streams.iter().map(|(name, _)| name.clone()).collect(),
            _ => vec![self.streams[stream].0.clone()],
        };
        let wish = Wish {
            streams,
            begin: [
                "after=0", "after=$", "after=0", "last=3", "after=0", "after=$",
            ][number % 6],
            view: [View::Fields, View::Fields, View::Pairs, View::Payload][number % 4],
        };
        let subscriber = Subscriber::start(wish, route, self.world.routes(), self.steps.clone());
        eventually("a subscription opens", async || subscriber.is_open()).await;
        self.subscribers.push(subscriber);
    }

    fn value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }

    /// Returns the number of the current step.
    fn now(&self) -> usize {
        self.steps.load(Ordering::SeqCst) + 1
    }

    /// Completes a step: records the number of entries and the oldest entry.
    async fn settle(&mut self, stream: usize, may_have_trimmed: bool) {
        let now = self.now();
        let (name, ledger) = &mut self.streams[stream];
        let (oldest, length) = self.world.kept(name).await;
        if may_have_trimmed {
            ledger.trim(now, oldest);
        }
        ledger.settle(now, length);
        self.steps.store(now, Ordering::SeqCst);
    }

    async fn add(&mut self, stream: usize, bytes: usize, maxlen: Option<usize>) {
        let (value, now) = (self.value(), self.now());
        let (name, ledger) = &mut self.streams[stream];
        let (text, pad) = (value.to_string(), "x".repeat(bytes));
        let maxlen = maxlen.map(|maxlen| maxlen.to_string());
        let mut words = vec!["XADD", name.as_str()];
        if let Some(maxlen) = &maxlen {
            words.extend(["MAXLEN", maxlen]);
        }
        words.extend(["*", "n", &text, "pad", &pad]);
        let id: String = self.world.redis(&words).await;
        ledger.add(now, id.parse().unwrap(), value);
        self.settle(stream, maxlen.is_some()).await;
    }

    async fn at_once(&mut self, stream: usize, count: usize, maxlen: usize) {
        let (first, now) = (self.values + 1, self.now());
        self.values += count as u64;
        let (name, ledger) = &mut self.streams[stream];
        let [first_text, count, maxlen] =
            [first, count as u64, maxlen as u64].map(|n| n.to_string());
        let command = [
            "EVAL",
            AT_ONCE,
            "1",
            name.as_str(),
            &first_text,
            &count,
            &maxlen,
        ];
        let ids: Vec<String> = self.world.redis(&command).await;
        for (value, id) in (first..).zip(ids) {
            ledger.add(now, id.parse().unwrap(), value);
        }
        self.settle(stream, true).await;
    }

    /// Sends a request through a gateway, unless that gateway cannot reach Redis. A request that
    /// cannot take effect now must not take effect later.
    async fn ask(&self, gateway: usize, method: &str, path: &str, body: String) -> bool {
        matches!(self.lines[gateway], Way::Open)
            && self.world.ask(gateway, method, path, body).await.is_some()
    }

    async fn publish(
        &mut self,
        stream: usize,
        gateway: usize,
        count: usize,
        maxlen: Option<usize>,
    ) {
        let path = format!("/v1/streams/{}/entries", encode(&self.streams[stream].0));
        // The new entries are never trimmed, so they can be found whatever the response is.
        let query = maxlen.map(|maxlen| format!("?exact=true&maxlen={}", maxlen + count));
        let entries: Vec<String> = (0..count)
            .map(|_| format!(r#"{{"fields":{{"n":"{}","pad":""}}}}"#, self.value()))
            .collect();
        let body = match &entries[..] {
            [one] => one.clone(),
            many => format!(r#"{{"entries":[{}]}}"#, many.join(",")),
        };
        if self
            .ask(gateway, "POST", &(path + &query.unwrap_or_default()), body)
            .await
        {
            let now = self.now();
            let (name, ledger) = &mut self.streams[stream];
            for (id, value) in self.world.above(name, ledger.last_id()).await {
                ledger.add(now, id, value);
            }
            self.settle(stream, maxlen.is_some()).await;
        }
    }

    async fn trim(&mut self, stream: usize, how: Trim) {
        let (name, ledger) = &self.streams[stream];
        let kept = ledger.kept();
        let (kind, threshold) = match how {
            Trim::Exact(keep) => (&["MAXLEN", "="], keep.to_string()),
            Trim::Approximate(keep) => (&["MAXLEN", "~"], keep.to_string()),
            Trim::Below(count) => match kept.get(count) {
                Some(id) => (&["MINID", "="], id.to_string()),
                None => return,
            },
        };
        let _: i64 = self
            .world
            .redis(&["XTRIM", name, kind[0], kind[1], &threshold])
            .await;
        self.settle(stream, true).await;
    }

    async fn delete(&mut self, stream: usize, which: &[usize]) {
        for number in which {
            let now = self.now();
            let (name, ledger) = &mut self.streams[stream];
            let kept = ledger.kept();
            if kept.is_empty() {
                return;
            }
            let id = kept[number % kept.len()];
            let deleted: usize = self.world.redis(&["XDEL", name, &id.to_string()]).await;
            assert_eq!(deleted, 1, "the ledger is wrong: {id}");
            ledger.delete(now, id);
            self.settle(stream, false).await;
        }
    }

    async fn end_if_gone(&mut self, stream: usize) {
        let now = self.now();
        let (name, ledger) = &mut self.streams[stream];
        let exists: bool = self.world.redis(&["EXISTS", name]).await;
        if !exists && !ledger.life().entries.is_empty() {
            ledger.end(now);
            self.steps.store(now, Ordering::SeqCst);
            // The new incarnation must not start with the ids at which the old one ended.
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Restores all connections, lets every subscriber read to the end, and checks the logs.
    async fn end(&mut self) -> Result<Told, String> {
        self.world.open_all();
        for subscriber in &self.subscribers {
            subscriber.orders.send_modify(|orders| {
                orders.reads = true;
                orders.pace = Duration::ZERO;
            });
        }
        let mut last = Vec::new();
        for stream in 0..STREAMS {
            self.add(stream, 0, None).await;
            last.push((self.streams[stream].0.clone(), self.values));
        }
        let deadline = Instant::now() + PATIENCE;
        let behind = |subscriber: &Subscriber| {
            let follows = |name: &String| subscriber.wish.streams.contains(name);
            last.iter()
                .any(|(name, value)| follows(name) && !subscriber.has(*value))
        };
        while Instant::now() < deadline && self.subscribers.iter().any(behind) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut told = Told::default();
        for (number, subscriber) in self.subscribers.iter().enumerate() {
            for (name, ledger) in &self.streams {
                if subscriber.wish.streams.contains(name) {
                    let seen = subscriber.seen();
                    told += check(&subscriber.wish, name, &seen, ledger).map_err(|(at, wrong)| {
                        let before = &seen[at.saturating_sub(6)..seen.len().min(at + 3)];
                        let gone = |(_, how): (usize, Gone)| format!("{how:?}");
                        let life = ledger.life().entries.iter().rev().take(40).rev();
                        let life: Vec<String> = life
                            .map(|entry| format!("{} n={} {}", entry.id, entry.value, entry.gone.map(gone).unwrap_or_default()))
                            .collect();
                        format!("subscriber {number} ({:?}): {wrong}\n{before:#?}\nthe last of the ledger: {life:#?}", subscriber.wish)
                    })?;
                }
            }
        }
        Ok(told)
    }
}
