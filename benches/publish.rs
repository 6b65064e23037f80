//! Benchmarks of publishing, compared with webdis on the same Redis and with two limits. One limit
//! is the gateway with a Redis that costs nothing. The other is nginx with a constant response to
//! the same requests, which is as much as the machine can carry. One run takes the normal path
//! instead of the fast path of appends (ADR 16). `make bench-publish` installs the
//! dependencies.
//!
//! Everything runs on one machine, including the load generator, so only the ratios mean anything.
//! Rounds alternate between the servers, and each figure is the median of its rounds.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark that cannot go on fails"
)]
#![expect(clippy::cast_precision_loss, reason = "figures are rounded anyway")]

mod process;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use process::Process;

/// One entry: `user=alice&total=9.50`.
const WEBDIS_POST: &str = "XADD/bench/*/user/alice/total/9.50";
const FORM: &str = "user=alice&total=9.50";
const CONNECTIONS: u32 = 64;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).cloned()
    };
    if let (Some(port), Some(url)) = (value("--limit"), value("--redis-url")) {
        return limit(&port, &url);
    }
    let seconds = value("--seconds").map_or(4, |text| text.parse().expect("--seconds N"));
    let rounds = value("--rounds").map_or(3, |text| text.parse().expect("--rounds N"));
    for program in ["redis-server", "redis-benchmark", "webdis", "wrk", "nginx"] {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let found = std::env::split_paths(&path).any(|dir| dir.join(program).is_file());
        assert!(
            found,
            "{program} is not installed: run `make bench-publish`"
        );
    }
    machine();
    single(seconds, rounds);
    batches(seconds, rounds);
    lines();
}

/// Measures one entry per request, and the latency at half of the rate of webdis.
fn single(seconds: u32, rounds: usize) {
    let bench = Bench::start();
    let plain = format!(
        "wrk.method='POST' wrk.body='{FORM}' wrk.headers['Content-Type']='application/x-www-form-urlencoded'"
    );
    let path = "/v1/streams/bench/entries";
    let webdis = format!("wrk.method='POST' wrk.body='{WEBDIS_POST}'");
    let keyed = format!(
        "{plain} wrk.headers['Authorization']='Bearer {}'",
        bench.key
    );
    // The fast path declines a request with a header that it does not know.
    let normal = format!("{plain} wrk.headers['X-Unknown']='1'");
    let runs: [(&str, &Process, &str, &str); 6] = [
        ("webdis", &bench.webdis, "/", &webdis),
        ("streamgate", &bench.streamgate, path, &plain),
        ("normal path", &bench.streamgate, path, &normal),
        ("with a key", &bench.guarded, path, &keyed),
        ("limit", &bench.limit, path, &plain),
        ("nginx", &bench.nginx, path, &plain),
    ];
    println!("\none entry per POST, {CONNECTIONS} connections, {rounds} rounds of {seconds} s");
    let mut figures = [const { Vec::new() }; 6];
    for _ in 0..rounds {
        for (index, (_, server, path, script)) in runs.iter().enumerate() {
            figures[index].push(bench.load(server, path, script, CONNECTIONS, seconds, 1));
        }
    }
    let medians = figures.map(|rounds| Figures::median(&rounds));
    println!(
        "{:<12}{:>12}{:>14}{:>16}{:>10}{:>10}",
        "", "entries/s", "CPU µs/entry", "Redis µs/entry", "p99 ms", "wrk CPU"
    );
    for ((name, ..), figures) in runs.iter().zip(&medians) {
        figures.print(name);
    }
    let [webdis_at, ours, normal, guarded, limit, nginx] = &medians;
    ratio(
        "entries/s, streamgate : webdis",
        ours.rate / webdis_at.rate,
        ">= 1.7",
    );
    ratio(
        "CPU per entry, streamgate : webdis",
        ours.cpu / webdis_at.cpu,
        "<= 0.6",
    );
    ratio(
        "Redis' CPU per entry, streamgate : webdis",
        ours.redis / webdis_at.redis,
        "<= 0.6",
    );
    ratio(
        "entries/s, streamgate : its own limit",
        ours.rate / limit.rate,
        ">= 0.65",
    );
    ratio(
        "CPU per entry, fast path : normal path",
        ours.cpu / normal.cpu,
        "<= 0.75",
    );
    ratio(
        "CPU per entry, with a key : without",
        guarded.cpu / ours.cpu,
        "<= 1.1",
    );
    ratio(
        "for comparison, nginx' constant : webdis",
        nginx.rate / webdis_at.rate,
        "",
    );

    // wrk waits for whole milliseconds between the requests of a connection.
    let pause = f64::from(CONNECTIONS) / (webdis_at.rate / 2.0) * 1000.0;
    let (low, share) = (pause.floor(), pause.fract());
    let paced = |script: &str| {
        format!(
            "{script}\nfunction delay() if math.random() < {share} then return {} end return {low} end",
            low + 1.0
        )
    };
    println!(
        "\nat {:.0} entries/s, half of what webdis can do",
        webdis_at.rate / 2.0
    );
    let mut figures = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        for (index, (_, server, path, script)) in runs[..2].iter().enumerate() {
            figures[index].push(bench.load(server, path, &paced(script), CONNECTIONS, seconds, 1));
        }
    }
    let medians = figures.map(|rounds| Figures::median(&rounds));
    for ((name, ..), figures) in runs.iter().zip(&medians) {
        figures.print(name);
    }
    ratio(
        "p99, streamgate : webdis",
        medians[1].p99_ms / medians[0].p99_ms,
        "<= 1",
    );
}

/// Measures a hundred entries per request, compared with XADD in pipelines of 16.
fn batches(seconds: u32, rounds: usize) {
    let bench = Bench::start();
    let entry = r#"{"fields":{"user":"alice","total":9.50}}"#;
    let body = format!(r#"{{"entries":[{}]}}"#, vec![entry; 100].join(","));
    let script = format!(
        "wrk.method='POST' wrk.body='{body}' wrk.headers['Content-Type']='application/json'"
    );
    println!("\n100 entries per POST, 8 connections, {rounds} rounds of {seconds} s");
    let (mut ours, mut pipelined) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(bench.load(
            &bench.streamgate,
            "/v1/streams/bench/entries",
            &script,
            8,
            seconds,
            100,
        ));
        pipelined.push(bench.redis_benchmark(seconds));
    }
    let ours = Figures::median(&ours);
    ours.print("streamgate");
    pipelined.sort_by(f64::total_cmp);
    let pipelined = pipelined[pipelined.len() / 2];
    println!("{:<12}{pipelined:>12.0}", "redis -P 16");
    ratio(
        "entries/s, streamgate : redis-benchmark -P 16",
        ours.rate / pipelined,
        ">= 0.5",
    );
}

/// Measures a million entries in one upload.
fn lines() {
    const LINES: usize = 1_000_000;
    let bench = Bench::start();
    let idle = bench.streamgate.memory();
    let mut stream = TcpStream::connect(("127.0.0.1", bench.streamgate.port)).unwrap();
    let head = "POST /v1/streams/lines/entries?maxlen=100000 HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n";
    let line = "{\"fields\":{\"user\":\"alice\",\"total\":9.50}}\n";
    let part = line.repeat(1000);
    let began = Instant::now();
    stream.write_all(head.as_bytes()).unwrap();
    let mut most = idle;
    for index in 0..LINES / 1000 {
        stream
            .write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes())
            .unwrap();
        if index % 10 == 0 {
            most = most.max(bench.streamgate.memory());
        }
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    let (mut answer, mut reader) = (String::new(), BufReader::new(stream));
    while !answer.contains("\"appended\"") {
        let read = reader.fill_buf().unwrap();
        assert!(!read.is_empty(), "{answer}");
        answer.push_str(&String::from_utf8_lossy(read));
        let length = read.len();
        reader.consume(length);
    }
    assert!(
        answer.contains(&format!("\"appended\":{LINES},")),
        "{answer}"
    );
    let rate = LINES as f64 / began.elapsed().as_secs_f64();
    println!("\na million lines of NDJSON in one request: {rate:.0} entries/s");
    let above = (most.saturating_sub(idle)) as f64 / 1024.0;
    println!("  {:<48}{above:>6.1}   wanted <= 64", "MiB above idle");
}

fn ratio(what: &str, ratio: f64, wanted: &str) {
    let wanted = if wanted.is_empty() {
        String::new()
    } else {
        format!("wanted {wanted}")
    };
    println!("  {what:<48}{ratio:>6.2}   {wanted}");
}

/// The figures of one run, or the median of several runs.
struct Figures {
    rate: f64,
    cpu: f64,
    redis: f64,
    p99_ms: f64,
    /// CPU time of the load generator as a share of one core. Near 1, the generator is the limit.
    generator: f64,
}

impl Figures {
    fn median(rounds: &[Self]) -> Self {
        let of = |value: fn(&Self) -> f64| {
            let mut all: Vec<f64> = rounds.iter().map(value).collect();
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        Self {
            rate: of(|f| f.rate),
            cpu: of(|f| f.cpu),
            redis: of(|f| f.redis),
            p99_ms: of(|f| f.p99_ms),
            generator: of(|f| f.generator),
        }
    }

    fn print(&self, name: &str) {
        println!(
            "{name:<12}{:>12.0}{:>14.1}{:>16.1}{:>10.2}{:>8.0} %",
            self.rate,
            self.cpu,
            self.redis,
            self.p99_ms,
            self.generator * 100.0
        );
    }
}

/// The servers of a run.
struct Bench {
    redis: Process,
    webdis: Process,
    streamgate: Process,
    /// A gateway with authentication.
    guarded: Process,
    key: String,
    limit: Process,
    nginx: Process,
    dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let redis = Process::start("redis-server", |command, port| {
            command.args([
                "--port",
                port,
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ]);
        });
        let url = format!("redis://127.0.0.1:{}/", redis.port);
        let config = dir.path().join("webdis.json");
        let webdis = Process::start("webdis", |command, port| {
            let text = format!(
                r#"{{"redis_host":"127.0.0.1","redis_port":{},"http_host":"127.0.0.1","http_port":{port},
                "threads":2,"pool_size":16,"daemonize":false,"websockets":false,"database":0,"verbosity":0,
                "acl":[{{"disabled":[]}}],"logfile":"{}"}}"#,
                redis.port,
                dir.path().join("webdis.log").display()
            );
            fs::write(&config, text).unwrap();
            command.arg(&config);
        });
        let streamgate = Process::start(&process::gateway(), |command, port| {
            command
                .args(["serve", "--redis-url", &url, "--listen"])
                .arg(format!("127.0.0.1:{port}"));
        });
        let auth = dir.path().join("auth.toml");
        let made = Command::new(process::gateway())
            .args([
                "keys",
                "new",
                "bench",
                "--grant",
                "publish bench",
                "--auth-file",
            ])
            .arg(&auth)
            .output()
            .unwrap();
        let key = String::from_utf8(made.stdout)
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .to_owned();
        let guarded = Process::start(&process::gateway(), |command, port| {
            command
                .args(["serve", "--redis-url", &url, "--listen"])
                .arg(format!("127.0.0.1:{port}"))
                .arg("--auth-file")
                .arg(&auth);
        });
        let own = std::env::current_exe().unwrap();
        let limit = Process::start(own.to_str().unwrap(), |command, port| {
            command.args(["--limit", port, "--redis-url", &url]);
        });
        let nginx = Process::start("nginx", |command, port| {
            let dir = dir.path().display();
            // A single process makes the CPU time easy to measure. Two would share the same cores.
            let text = format!(
                "daemon off; master_process off; pid {dir}/pid; error_log /dev/null;
                events {{ worker_connections 1024; }}
                http {{ access_log off; keepalive_requests 1000000000;
                    client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
                    uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
                    server {{ listen 127.0.0.1:{port}; location / {{ return 201 constant; }} }} }}"
            );
            let config = format!("{dir}/nginx.conf");
            fs::write(&config, text).unwrap();
            command.args(["-c", &config]);
        });
        Self {
            redis,
            webdis,
            streamgate,
            guarded,
            key,
            limit,
            nginx,
            dir,
        }
    }

    /// Loads `server` with wrk. Each request carries `each` entries.
    fn load(
        &self,
        server: &Process,
        path: &str,
        script: &str,
        connections: u32,
        seconds: u32,
        each: u64,
    ) -> Figures {
        self.redis_cli(&["FLUSHALL"]);
        let file = self.dir.path().join("load.lua");
        let report = "function done(summary, latency)
            local wrong = summary.errors
            io.write(string.format('FIGURES %d %d %d %d\\n', summary.requests, summary.duration,
                latency:percentile(99), wrong.connect + wrong.read + wrong.write + wrong.status + wrong.timeout))
        end";
        fs::write(&file, format!("{script}\n{report}\n")).unwrap();
        let before = (server.cpu(), self.redis.cpu(), process::children_cpu());
        let output = Command::new("wrk")
            .args([
                "-t1",
                &format!("-c{connections}"),
                &format!("-d{seconds}s"),
                "-s",
            ])
            .arg(&file)
            .arg(format!("http://127.0.0.1:{}{path}", server.port))
            .output()
            .unwrap();
        let after = (server.cpu(), self.redis.cpu(), process::children_cpu());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("FIGURES "))
            .unwrap_or_else(|| panic!("{text}"));
        let numbers: Vec<f64> = line
            .split(' ')
            .map(|number| number.parse().unwrap())
            .collect();
        let [requests, micros, p99, wrong] = numbers[..] else {
            panic!("{line}")
        };
        assert!(wrong == 0.0, "{wrong} requests went wrong\n{text}");
        let entries = requests * each as f64;
        let per_entry = |before: Duration, after: Duration| {
            after.saturating_sub(before).as_secs_f64() * 1e6 / entries
        };
        Figures {
            rate: entries / (micros / 1e6),
            cpu: per_entry(before.0, after.0),
            redis: per_entry(before.1, after.1),
            p99_ms: p99 / 1000.0,
            generator: after.2.saturating_sub(before.2).as_secs_f64() / (micros / 1e6),
        }
    }

    /// Returns the number of XADD commands per second in pipelines of 16, with the same entry.
    fn redis_benchmark(&self, seconds: u32) -> f64 {
        self.redis_cli(&["FLUSHALL"]);
        let count = (300_000 * seconds).to_string();
        let output = Command::new("redis-benchmark")
            .args([
                "-p",
                &self.redis.port.to_string(),
                "-P",
                "16",
                "-c",
                "8",
                "-n",
                &count,
                "--csv",
            ])
            .args(["XADD", "bench", "*", "user", "alice", "total", "9.50"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().last().unwrap();
        line.split(',')
            .nth(1)
            .unwrap()
            .trim_matches('"')
            .parse()
            .unwrap_or_else(|_| panic!("{text}"))
    }

    fn redis_cli(&self, words: &[&str]) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.redis.port)).unwrap();
        stream
            .write_all(format!("{}\r\n", words.join(" ")).as_bytes())
            .unwrap();
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        assert_eq!(answer.trim(), "+OK");
    }
}

/// Runs the same router with the same body parsing, but a constant response.
fn limit(port: &str, url: &str) {
    use streamgate::config::{Layers, SPECS, Settings, SettingsMode};
    let mut layers = Layers::default();
    layers.flag(&SPECS.redis_url, url);
    layers.flag(&SPECS.listen, format!("127.0.0.1:{port}"));
    let settings = Settings::load(&layers, SettingsMode::Serve).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(streamgate::run::serve_limit(&settings));
}

fn machine() {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.map_or("", |model| model.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    println!("on {cores} cores of {model}");
}
