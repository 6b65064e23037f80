//! The servers that `docs/deploying.md` puts in front of a gateway, configured as it says. `make
//! test-proxies` installs them and runs these tests, apart from the suite, because a distribution's
//! packages start servers of their own.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};

use crate::support::app::{Answer, answer};
use crate::support::certs::Authority;
use crate::support::lines::Lines;
use crate::support::process::{Process, start_tied, tied};
use crate::support::redis::free_port;
use crate::support::sse::Sse;
use crate::support::{TestApp, elapse, encode, eventually, unique};

/// Where Debian has the modules of Apache.
const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

/// A server of the documentation in front of a gateway.
struct Front {
    /// Ends the server with the test.
    _process: Process,
    port: u16,
}

impl Front {
    /// Starts a server with its documented block, as `whole` makes a configuration of that; with
    /// `cert.pem` and `key.pem` of `dir`, and its log there.
    async fn start(
        name: &str,
        replaced: &[(&str, String)],
        dir: &Path,
        port: u16,
        whole: impl FnOnce(String) -> String,
        command: impl FnOnce(&str) -> Command,
    ) -> Self {
        let text = std::fs::read_to_string("docs/deploying.md").unwrap();
        let (_, block) = text.split_once(&format!("```{name}\n")).unwrap();
        let mut block = block.split_once("```").unwrap().0.to_owned();
        for (documented, here) in replaced {
            assert!(
                block.contains(documented),
                "{documented} is not in docs/deploying.md"
            );
            block = block.replace(documented, here);
        }
        let file = dir.join(format!("{name}.conf"));
        std::fs::write(&file, whole(block)).unwrap();
        let front = Self {
            _process: start_tied(command(file.to_str().unwrap())),
            port,
        };
        eventually("it listens", async || {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok()
        })
        .await;
        front
    }

    async fn nginx(app: &TestApp, dir: &Path) -> Self {
        let (port, at) = (free_port(), dir.display());
        let replaced = [
            ("127.0.0.1:8080", app.address.to_string()),
            ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
            ("/etc/nginx/tls.crt", format!("{at}/cert.pem")),
            ("/etc/nginx/tls.key", format!("{at}/key.pem")),
            ("/var/log/nginx/streamgate.log", format!("{at}/access.log")),
        ];
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {at}/{name};\n"))
            .concat();
        let whole = |block| {
            format!(
                "daemon off; master_process off; pid {at}/pid;\n\
                 events {{ worker_connections 100; }}\nhttp {{\n{temporary}{block}}}\n"
            )
        };
        let command = |file: &str| {
            let mut command = tied("nginx");
            command.args(["-e", "stderr", "-c", file]);
            command
        };
        Self::start("nginx", &replaced, dir, port, whole, command).await
    }

    async fn haproxy(app: &TestApp, dir: &Path) -> Self {
        let (port, pem) = (free_port(), dir.join("gate.pem"));
        let read = |name| std::fs::read_to_string(dir.join(name)).unwrap();
        std::fs::write(&pem, read("cert.pem") + &read("key.pem")).unwrap();
        let replaced = [
            ("127.0.0.1:8080", app.address.to_string()),
            ("bind :443 ", format!("bind 127.0.0.1:{port} ")),
            ("/etc/haproxy/gate.pem", pem.display().to_string()),
        ];
        let command = |file: &str| {
            let mut command = tied("haproxy");
            command.args(["-q", "-db", "-f", file]);
            command
        };
        Self::start("haproxy", &replaced, dir, port, |block| block, command).await
    }

    async fn apache(app: &TestApp, dir: &Path) -> Self {
        let (port, at) = (free_port(), dir.display());
        let replaced = [
            ("127.0.0.1:8080", app.address.to_string()),
            (
                "<VirtualHost *:443>",
                format!("<VirtualHost 127.0.0.1:{port}>"),
            ),
            ("/etc/apache2/tls.crt", format!("{at}/cert.pem")),
            ("/etc/apache2/tls.key", format!("{at}/key.pem")),
        ];
        let modules: String = [
            "mpm_event",
            "authz_core",
            "setenvif",
            "ssl",
            "proxy",
            "proxy_http",
            "http2",
        ]
        .map(|name| format!("LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n"))
        .concat();
        let whole = |block| {
            format!(
                "ServerRoot {at}\nPidFile {at}/httpd.pid\nErrorLog {at}/error.log\n\
                 User www-data\nGroup www-data\nListen 127.0.0.1:{port}\n{modules}{block}"
            )
        };
        let command = |file: &str| {
            let mut command = tied("apache2");
            // One process: none is left when it is killed.
            command.args(["-X", "-f", file]);
            command
        };
        Self::start("apache", &replaced, dir, port, whole, command).await
    }

    async fn lighttpd(app: &TestApp, dir: &Path) -> Self {
        let (port, at) = (free_port(), dir.display());
        let replaced = [
            (
                "\"port\" => 8080",
                format!("\"port\" => {}", app.address.port()),
            ),
            ("\":443\"", format!("\"127.0.0.1:{port}\"")),
            ("/etc/lighttpd/tls.crt", format!("{at}/cert.pem")),
            ("/etc/lighttpd/tls.key", format!("{at}/key.pem")),
        ];
        let own = free_port();
        let whole = |block| {
            format!(
                "server.document-root = \"{at}\"\nserver.bind = \"127.0.0.1\"\n\
                 server.port = {own}\nserver.upload-dirs = ( \"{at}\" )\n{block}"
            )
        };
        let command = |file: &str| {
            let mut command = tied("lighttpd");
            command.args(["-D", "-f", file]);
            command
        };
        Self::start("lighttpd", &replaced, dir, port, whole, command).await
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }
}

fn left(answer: &Answer) -> u32 {
    let (_, left) = answer.header("ratelimit").split_once("r=").unwrap();
    left.split(';').next().unwrap().parse().unwrap()
}

async fn gateway() -> TestApp {
    TestApp::start_with(|settings| {
        settings.server.visitors.rate = Some("1000/h".parse().unwrap());
        settings.server.visitors.proxies.trusted = vec!["127.0.0.1".parse().unwrap()];
    })
    .await
}

/// All is as it is without the server in front, but that some answer only once they have all of a
/// request.
async fn all_works(app: &TestApp, front: &Front, authority: &Authority, duplex: bool) {
    let client = authority.client();
    let name = format!("{}/with a slash", unique("behind"));
    let path = format!("/v1/streams/{}", encode(&name));
    let entries = front.url(&format!("{path}/entries"));

    // Events come while the answer is open, over HTTP/2, under the name that was asked for.
    let mut events = Sse::open(&client, &front.url(&format!("{path}/events")), None).await;
    assert_eq!(events.expect("$open").await.json()["streams"][0], name);
    let post = || {
        client
            .post(&entries)
            .header("content-type", "application/json")
    };
    let made = answer(post().body(r#"{"fields":{"n":"1"}}"#))
        .await
        .unwrap();
    assert_eq!(made.json()["stream"], name);
    assert_eq!(events.values(1).await, ["1"]);
    let get = client.get(front.url("/livez")).send().await.unwrap();
    assert_eq!(get.version(), reqwest::Version::HTTP_2);
    // None of them waits for more to send.
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        elapse(15, "the connection is quiet").await;
        app.post_form(&format!("{path}/entries"), &format!("n={n}"))
            .await;
        let published = Instant::now();
        assert_eq!(events.values(1).await, [n.to_string()]);
        slowest = slowest.max(published.elapsed());
    }
    assert!(
        slowest < Duration::from_secs(2),
        "an event came after {slowest:?}"
    );

    // A line is appended and told of while the next is not there yet.
    if duplex {
        let first = stream::iter([Ok::<_, std::io::Error>("{\"fields\":{\"n\":\"2\"}}\n")]);
        let open = reqwest::Body::wrap_stream(first.chain(stream::pending()));
        let upload = client.post(format!("{entries}?receipts=stream")).body(open);
        let mut receipts = Lines::of(upload.header("content-type", "application/x-ndjson")).await;
        assert_eq!(receipts.next().await.unwrap()["line"], 1);
        assert_eq!(events.values(1).await, ["2"]);
    }
    // What is large is let through.
    let large = format!("{{\"fields\":{{\"x\":\"{}\"}}}}", "x".repeat(3 << 20));
    assert_eq!(answer(post().body(large)).await.unwrap().status, 201);

    // Its own pages may call, others not.
    let page = |origin: String| {
        answer(
            client
                .get(front.url("/v1/streams"))
                .header("origin", origin),
        )
    };
    assert_eq!(page(front.url("")).await.unwrap().status, 200);
    page("https://elsewhere.example".to_owned())
        .await
        .unwrap()
        .is_problem(403, "origin-not-allowed");

    // Whatever a client writes of others, it is counted by its own address.
    if cfg!(target_os = "linux") {
        let other =
            authority.client_with(|builder| builder.local_address(Some([127, 0, 0, 2].into())));
        let mut quota = Vec::new();
        for spoofed in ["1.1.1.1", "2.2.2.2"] {
            let get = other
                .get(front.url("/v1/streams"))
                .header("x-forwarded-for", spoofed);
            quota.push(left(&answer(get).await.unwrap()));
        }
        assert_eq!(quota, [999, 998]);
    }
}

#[tokio::test]
#[ignore = "needs nginx: make test-proxies"]
async fn behind_the_documented_nginx_all_is_as_it_is_without() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.issue(dir.path());
    let app = gateway().await;
    let nginx = Front::nginx(&app, dir.path()).await;
    all_works(&app, &nginx, &authority, true).await;

    // A ticket is in no log.
    authority
        .client()
        .get(nginx.url("/v1/streams/of-tickets/entries?ticket=t1.secret"))
        .send()
        .await
        .unwrap();
    let log = || std::fs::read_to_string(dir.path().join("access.log")).unwrap();
    eventually("it is logged", async || log().contains("of-tickets")).await;
    assert!(!log().contains("secret"), "{}", log());
}

#[tokio::test]
#[ignore = "needs haproxy: make test-proxies"]
async fn behind_the_documented_haproxy_all_is_as_it_is_without() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.issue(dir.path());
    let app = gateway().await;
    all_works(
        &app,
        &Front::haproxy(&app, dir.path()).await,
        &authority,
        true,
    )
    .await;
}

#[tokio::test]
#[ignore = "needs apache2: make test-proxies"]
async fn behind_the_documented_apache_all_but_receipts_while_uploading_is_as_it_is_without() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.issue(dir.path());
    let app = gateway().await;
    all_works(
        &app,
        &Front::apache(&app, dir.path()).await,
        &authority,
        false,
    )
    .await;
}

#[tokio::test]
#[ignore = "needs lighttpd: make test-proxies"]
async fn behind_the_documented_lighttpd_all_but_receipts_while_uploading_is_as_it_is_without() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.issue(dir.path());
    let app = gateway().await;
    all_works(
        &app,
        &Front::lighttpd(&app, dir.path()).await,
        &authority,
        false,
    )
    .await;
}
