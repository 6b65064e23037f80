//! What `docs/deploying.md` puts in front of a gateway, as it stands there. Needs nginx: `make
//! test-nginx` installs and runs it, apart from the suite, because a distribution's package starts a
//! server of its own.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Child;

use futures_util::{StreamExt as _, stream};

use crate::support::app::{Answer, answer};
use crate::support::certs::Authority;
use crate::support::lines::Lines;
use crate::support::redis::{free_port, start_tied, tied};
use crate::support::sse::Sse;
use crate::support::{TestApp, encode, eventually, unique};

/// The documented one.
struct Nginx {
    child: Child,
    port: u16,
}

impl Nginx {
    /// In front of a gateway, with `cert.pem` and `key.pem` of `dir`, and its log there.
    async fn start(app: &TestApp, dir: &Path) -> Self {
        let (port, at) = (free_port(), dir.display());
        let text = std::fs::read_to_string("docs/deploying.md").unwrap();
        let (_, block) = text.split_once("```nginx\n").unwrap();
        let mut block = block.split_once("```").unwrap().0.to_owned();
        for (documented, here) in [
            ("127.0.0.1:8080", app.address.to_string()),
            ("listen 443 ", format!("listen 127.0.0.1:{port} ")),
            ("/etc/nginx/tls.crt", format!("{at}/cert.pem")),
            ("/etc/nginx/tls.key", format!("{at}/key.pem")),
            ("/var/log/nginx/streamgate.log", format!("{at}/access.log")),
        ] {
            assert!(block.contains(documented), "{documented} is not in docs/deploying.md");
            block = block.replace(documented, &here);
        }
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {at}/{name};\n"))
            .concat();
        let whole = format!(
            "daemon off; master_process off; pid {at}/pid;\n\
             events {{ worker_connections 100; }}\nhttp {{\n{temporary}{block}}}\n"
        );
        let file = dir.join("nginx.conf");
        std::fs::write(&file, whole).unwrap();
        let mut command = tied("nginx");
        command.args(["-e", "stderr", "-c", file.to_str().unwrap()]);
        let nginx = Self { child: start_tied(command), port };
        eventually("nginx listens", async || {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.is_ok()
        })
        .await;
        nginx
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn left(answer: &Answer) -> u32 {
    let (_, left) = answer.header("ratelimit").split_once("r=").unwrap();
    left.split(';').next().unwrap().parse().unwrap()
}

#[tokio::test]
#[ignore = "needs nginx: make test-nginx"]
async fn behind_the_documented_nginx_all_is_as_it_is_without() {
    let (authority, dir) = (Authority::new(), tempfile::tempdir().unwrap());
    authority.issue(dir.path());
    let app = TestApp::start_with(|settings| {
        settings.server.visitors.rate = Some("1000/h".parse().unwrap());
        settings.server.visitors.proxies.trusted = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    let nginx = Nginx::start(&app, dir.path()).await;
    let client = authority.client();
    let name = format!("{}/with a slash", unique("behind"));
    let path = format!("/v1/streams/{}", encode(&name));
    let entries = nginx.url(&format!("{path}/entries"));

    // Events come while the answer is open, over HTTP/2, under the name that was asked for.
    let mut events = Sse::open(&client, &nginx.url(&format!("{path}/events")), None).await;
    assert_eq!(events.expect("$open").await.json()["streams"][0], name);
    let post = || client.post(&entries).header("content-type", "application/json");
    let made = answer(post().body(r#"{"fields":{"n":"1"}}"#)).await.unwrap();
    assert_eq!(made.json()["stream"], name);
    assert_eq!(events.values(1).await, ["1"]);
    let get = client.get(nginx.url("/livez")).send().await.unwrap();
    assert_eq!(get.version(), reqwest::Version::HTTP_2);

    // A line is appended and told of while the next is not there yet; what is large is let through.
    let first = stream::iter([Ok::<_, std::io::Error>("{\"fields\":{\"n\":\"2\"}}\n")]);
    let open = reqwest::Body::wrap_stream(first.chain(stream::pending()));
    let upload = client.post(format!("{entries}?receipts=stream")).body(open);
    let mut receipts = Lines::of(upload.header("content-type", "application/x-ndjson")).await;
    assert_eq!(receipts.next().await.unwrap()["line"], 1);
    assert_eq!(events.values(1).await, ["2"]);
    let large = format!("{{\"fields\":{{\"x\":\"{}\"}}}}", "x".repeat(3 << 20));
    assert_eq!(answer(post().body(large)).await.unwrap().status, 201);

    // Its own pages may call, others not.
    let page =
        |origin: String| answer(client.get(nginx.url("/v1/streams")).header("origin", origin));
    assert_eq!(page(nginx.url("")).await.unwrap().status, 200);
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
            let get = other.get(nginx.url("/v1/streams")).header("x-forwarded-for", spoofed);
            quota.push(left(&answer(get).await.unwrap()));
        }
        assert_eq!(quota, [999, 998]);
    }

    // A ticket is in no log.
    client.get(nginx.url("/v1/streams/of-tickets/entries?ticket=t1.secret")).send().await.unwrap();
    let log = || std::fs::read_to_string(dir.path().join("access.log")).unwrap();
    eventually("it is logged", async || log().contains("of-tickets")).await;
    assert!(!log().contains("secret"), "{}", log());
}
