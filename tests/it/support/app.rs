//! A gateway in this process, and a client for it.

use std::net::SocketAddr;
use std::sync::{Mutex, Once};
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use serde_json::Value;
use streamgate::app::App;
use streamgate::background::Background;
use streamgate::config::{Layers, SPECS, Settings, SettingsMode, Spec};
use streamgate::metrics::Metrics;
use streamgate::net::tls::install_provider;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::redis::{Server, shared};
use super::sse::Sse;
use super::unique;

/// A running gateway. Its end must be orderly: on drop, no gateway of this process has panicked and
/// this one has not ended by itself; after [`TestApp::stop`], nothing is left of it.
pub struct TestApp {
    pub address: SocketAddr,
    pub client: reqwest::Client,
    scheme: &'static str,
    drain: CancellationToken,
    metrics: Box<Metrics>,
    background: Background,
    task: Option<tokio::task::JoinHandle<()>>,
}

/// Panics of gateways. A gateway answers a request whose handler panicked, and goes on, so a test
/// may not notice.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Collects panics in the code of the gateway or on its threads in [`PANICS`].
fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let here = std::thread::current();
            let is_worker = here.name().is_some_and(|name| name.starts_with("http-"));
            let place = panic.location();
            if is_worker || place.is_some_and(|place| place.file().starts_with("src/")) {
                PANICS.lock().unwrap().push(panic.to_string());
            }
            print(panic);
        }));
    });
}

/// A response of the gateway.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Returns the body as JSON, or `null` if it is empty.
    pub fn json_or_null(&self) -> Value {
        if self.body.is_empty() {
            Value::Null
        } else {
            self.json()
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Checks that this is a complete problem document with this status and code.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert!(
            self.body.ends_with("}\n"),
            "a terminal goes on in the same line: {}",
            self.body
        );
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem:#}");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:streamgate:problem:{code}"));
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        for member in ["title", "detail", "instance", "side_effects"] {
            assert!(
                problem[member]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{member}: {problem:#}"
            );
        }
        assert!(problem["retryable"].is_boolean());
        problem
    }

    /// Returns the ids of the entries in the body.
    pub fn ids(&self) -> Vec<String> {
        let json = self.json();
        json["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// Returns settings as the command line would produce them, with shorter intervals.
pub fn settings(flags: &[(&'static Spec, &str)]) -> Settings {
    let mut layers = Layers::default();
    layers.flag(&SPECS.listen, "127.0.0.1:0");
    for (spec, value) in flags {
        layers.flag(spec, *value);
    }
    let mut settings = Settings::load(&layers, SettingsMode::Serve).unwrap();
    // Intervals that are 5 s in production are shorter in tests.
    settings.live.look_every = Duration::from_millis(300);
    settings.jobs.sweep_every = Duration::from_millis(300);
    settings.jobs.expire_every = Duration::from_millis(300);
    settings.jobs.retention_every = Duration::from_millis(300);
    // No load balancer has to notice a shutdown.
    settings.server.lame_duck = Duration::ZERO;
    settings
}

impl TestApp {
    /// Starts a gateway on the shared Redis.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::on(&shared().await.url(), change).await
    }

    pub async fn on_server(server: &Server) -> Self {
        Self::on(&server.url(), |_| {}).await
    }

    pub async fn on(redis_url: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings(&[(&SPECS.redis_url, redis_url)]);
        change(&mut settings);
        Self::of(&settings).await
    }

    pub async fn of(settings: &Settings) -> Self {
        install_provider();
        watch_panics();
        let app = App::new(settings).unwrap();
        app.reach_redis(Duration::from_secs(5)).await;
        let listener = TcpListener::bind(settings.server.listen).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (drain, metrics, background) = (app.drain(), app.metrics(), app.background());
        let task = Some(tokio::spawn(app.serve(listener, None)));
        let scheme = if settings.server.tls.is_some() {
            "https"
        } else {
            "http"
        };
        Self {
            address,
            client: client(),
            scheme,
            drain,
            metrics: Box::new(metrics),
            background,
            task,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        answer(request).await.unwrap()
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.client.get(self.url(path))).await
    }

    /// Returns only the status, for responses that do not end.
    pub async fn get_status(&self, path: &str) -> u16 {
        self.client
            .get(self.url(path))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16()
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.client.delete(self.url(path))).await
    }

    pub async fn post_json(&self, path: &str, body: &str) -> Answer {
        let request = self
            .client
            .post(self.url(path))
            .header("content-type", "application/json");
        self.send(request.body(body.to_owned())).await
    }

    pub async fn put_json(&self, path: &str, body: &str) -> Answer {
        let request = self
            .client
            .put(self.url(path))
            .header("content-type", "application/json");
        self.send(request.body(body.to_owned())).await
    }

    pub async fn post_form(&self, path: &str, body: &str) -> Answer {
        let request = self.client.post(self.url(path));
        self.send(
            request
                .header("content-type", "application/x-www-form-urlencoded")
                .body(body.to_owned()),
        )
        .await
    }

    /// Appends `n=<value>` and returns the id.
    pub async fn publish(&self, stream: &str, value: &str) -> String {
        let answer = self
            .post_form(
                &format!("/v1/streams/{stream}/entries"),
                &format!("n={value}"),
            )
            .await;
        assert_eq!(answer.status, 201, "{}", answer.body);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Appends `n=1` with ids `1-0` to `<count>-0`.
    pub async fn fill(&self, stream: &str, count: u32) {
        for n in 1..=count {
            let answer = self
                .post_form(&format!("/v1/streams/{stream}/entries?id={n}-0"), "n=1")
                .await;
            assert_eq!(answer.status, 201, "{}", answer.body);
        }
    }

    /// Creates a stream with entries `1-0` to `<count>-0`.
    pub async fn stream_of(&self, name: &str, count: u32) -> String {
        let stream = unique(name);
        self.fill(&stream, count).await;
        stream
    }

    pub async fn follow(&self, path_and_query: &str) -> Sse {
        Sse::open(&self.client, &self.url(path_and_query), None).await
    }

    /// Returns the value of a metric without labels.
    pub async fn metric(&self, name: &str) -> usize {
        self.metric_if_any(name)
            .await
            .unwrap_or_else(|| panic!("no {name}"))
    }

    /// Returns the value of a metric, or `None` if it was never counted. `name` includes the labels
    /// as they are written.
    pub async fn metric_if_any(&self, name: &str) -> Option<usize> {
        let text = self.get("/metrics").await.body;
        let line = text
            .lines()
            .find(|line| line.starts_with(&format!("streamgate_{name} ")));
        line?.rsplit(' ').next()?.parse().ok()
    }

    /// Shuts down gracefully, waits for the end and checks that no task, connection or memory is
    /// left.
    pub async fn stop(mut self) {
        self.drain.cancel();
        self.task.take().unwrap().await.unwrap();
        assert_eq!(self.background.running(), 0, "tasks are left");
        let metrics = &self.metrics;
        let left = [
            ("connections", &metrics.connections),
            ("subscriptions", &metrics.subscriptions),
            ("waiting reads", &metrics.waiting),
            ("bytes of reads", &metrics.read_bytes),
            ("bytes of answers", &metrics.answer_bytes),
            ("bytes of bodies", &metrics.body_bytes),
        ];
        for (name, gauge) in left {
            assert_eq!(gauge.get(), 0, "{name} are left");
        }
    }

    pub fn drain(&self) {
        self.drain.cancel();
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let task = self.task.as_ref();
        let ended = task.is_some_and(|task| task.is_finished() && !self.drain.is_cancelled());
        self.drain.cancel();
        if !std::thread::panicking() {
            assert!(!ended, "the gateway ended by itself");
            let panics = PANICS.lock().unwrap().clone();
            assert!(panics.is_empty(), "gateways panicked: {panics:#?}");
        }
    }
}

pub fn client() -> reqwest::Client {
    client_with(|builder| builder)
}

pub fn client_with(
    change: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> reqwest::Client {
    install_provider();
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("streamgate-tests"));
    change(
        reqwest::Client::builder()
            .default_headers(headers)
            .no_proxy(),
    )
    .build()
    .unwrap()
}

pub async fn answer(request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
    let response = request.send().await?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Answer {
        status,
        headers,
        body: response.text().await?,
    })
}
