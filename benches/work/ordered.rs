//! Groups with an order by key, and steps that publish.

use std::time::Duration;

use deadpool_redis::redis::Value;

use super::{Bench, Figures, Http, wanted};

/// Number of entries of the hot key.
const HOT: usize = 100_000;
/// Number of entries that are settled one by one.
const STEPS: usize = 20_000;
/// The longest time of a script.
const LONGEST: Duration = Duration::from_millis(20);

const ORDERED: &str = r#"{"lease":"10m","order_by":"user"}"#;
const FORM: &str = "application/x-www-form-urlencoded";

/// Runs all comparisons and prints them.
pub fn compare(rounds: usize, count: usize, workers: usize) {
    let mut all = [const { Vec::new() }; 5];
    let mut slow = 0;
    for _ in 0..rounds {
        let bench = Bench::start();
        let micros = LONGEST.as_micros().to_string();
        bench.redis(&["CONFIG", "SET", "slowlog-log-slower-than", &micros]);
        all[0].push(bench.run("{}", count, workers, |bench| bench.worker(100, "receipts")));
        all[1].push(bench.run(ORDERED, count, workers, |bench| {
            bench.worker(100, "receipts")
        }));
        let nothing = |_: &Bench| ();
        all[2].push(
            bench.run_beside(ORDERED, count, workers, Bench::park, |bench| {
                bench.worker(100, "receipts")
            }),
        );
        let (two, one) = (Bench::two_calls, Bench::one_step);
        all[3].push(bench.run_beside("{}", STEPS, workers, nothing, two));
        all[4].push(bench.run_beside("{}", STEPS, workers, nothing, one));
        if let Value::Int(count) = bench.redis(&["SLOWLOG", "LEN"]) {
            slow += count;
        }
    }
    let names = [
        "leases, batches of 100",
        "by key, batches of 100",
        "by key, beside 100,000 of a hot key",
        "publish and ack, two calls",
        "publish and ack, one step",
    ];
    let [free, keyed, beside, two, one] = all.map(|rounds| Figures::median(&rounds));
    for (name, figures) in names.iter().zip([&free, &keyed, &beside, &two, &one]) {
        figures.print(name);
    }
    wanted(
        "by key : leases, entries/s",
        keyed.rate / free.rate,
        ">= 0.45",
    );
    wanted(
        "beside a hot key : without, Redis µs/entry",
        beside.redis / keyed.redis,
        "<= 1.2",
    );
    wanted(
        "one step : two calls, Redis µs/entry",
        one.redis / two.redis,
        "<= 1.3",
    );
    #[expect(clippy::cast_precision_loss, reason = "a small number")]
    wanted("commands longer than 20 ms", slow as f64, "0");
}

impl Bench {
    /// Adds a hot key and lets its entries wait for the first of them.
    fn park(&self) {
        let mut redis = self.connection();
        for _ in 0..HOT / 1000 {
            let mut pipeline = deadpool_redis::redis::Pipeline::new();
            for _ in 0..1000 {
                let add = pipeline.cmd("XADD").arg("bench").arg("*");
                add.arg("user").arg("hot").ignore();
            }
            pipeline.query::<()>(&mut redis).unwrap();
        }
        let mut http = Http::connect(self.gateway.port);
        let first = http.call("POST", "/read", FORM, "consumer=hot&count=1");
        assert!(first.contains("receipt"), "{first}");
        let rest = http.call("POST", "/read", FORM, "consumer=hot&count=1");
        assert!(!rest.contains("receipt"), "{rest}");
    }

    fn settle_each(&self, settle: impl Fn(&mut Http, &str)) -> usize {
        let mut http = Http::connect(self.gateway.port);
        let mut done = 0;
        loop {
            let read = http.call("POST", "/read", FORM, "consumer=w&count=100");
            let receipts: Vec<&str> = read
                .split("\"receipt\":\"")
                .skip(1)
                .filter_map(|part| part.split('"').next())
                .collect();
            if receipts.is_empty() {
                return done;
            }
            for receipt in receipts {
                settle(&mut http, receipt);
                done += 1;
            }
        }
    }

    fn two_calls(&self) -> usize {
        self.settle_each(|http, receipt| {
            let path = "/v1/streams/%7Bbench%7D.done/entries";
            let body = r#"{"fields":{"user":"alice","total":"9.50"}}"#;
            http.call_at("POST", path, "application/json", body);
            let acked = http.call("POST", "/ack", FORM, &format!("receipts={receipt}"));
            assert!(acked.contains("\"acknowledged\":1"), "{acked}");
        })
    }

    fn one_step(&self) -> usize {
        self.settle_each(|http, receipt| {
            let body = format!(
                r#"{{"receipts":["{receipt}"],"publish":[{{"stream":"{{bench}}.done","fields":{{"user":"alice","total":"9.50"}}}}]}}"#
            );
            let acked = http.call("POST", "/ack", "application/json", &body);
            assert!(acked.contains("\"acknowledged\":1"), "{acked}");
        })
    }
}
