//! A gateway behind a proxy that strips a path: links in responses lead through the proxy again.

use reqwest::RequestBuilder;

use crate::support::{TestApp, unique};

async fn published_under(path: &str, trusts_us: bool) -> TestApp {
    TestApp::start_with(|settings| {
        settings.api.base_path = path.parse().unwrap();
        if trusts_us {
            settings.server.visitors.proxies.trusted = vec!["127.0.0.1".parse().unwrap()];
        }
    })
    .await
}

fn append(app: &TestApp, stream: &str) -> RequestBuilder {
    let request = app
        .client
        .post(app.url(&format!("/v1/streams/{stream}/entries")));
    request
        .header("content-type", "application/x-www-form-urlencoded")
        .body("n=1")
}

#[tokio::test]
async fn links_lead_through_a_proxy_that_strips_a_path() {
    let app = published_under("/streams", false).await;
    let stream = unique("stripped");
    let of_entry = format!("/streams/v1/streams/{stream}/entries/");
    for _ in 0..2 {
        let answer = app.send(append(&app, &stream)).await;
        assert!(
            answer.header("location").starts_with(&of_entry),
            "{answer:?}"
        );
    }
    let page = app
        .get(&format!("/v1/streams/{stream}/entries?after=0&limit=1"))
        .await;
    assert!(
        page.header("link").starts_with("</streams/v1/streams/"),
        "{page:?}"
    );
    let group = app
        .put_json(&format!("/v1/streams/{stream}/groups/g"), "{}")
        .await;
    assert!(
        group.header("location").starts_with("/streams/v1/"),
        "{group:?}"
    );
    let missing = app
        .get("/v1/streams/none")
        .await
        .is_problem(404, "stream-not-found");
    assert_eq!(missing["instance"], "/streams/v1/streams/none");
    let start = app.get("/").await.body;
    assert!(
        start.contains(&format!("http://{}/streams/v1/streams/orders", app.address)),
        "{start}"
    );
    // Browsers are led to the console, whose links are all relative.
    let client = crate::support::app::client_with(|builder| {
        builder.redirect(reqwest::redirect::Policy::none())
    });
    let browser = client.get(app.url("/")).header("accept", "text/html");
    let led = app.send(browser).await;
    assert_eq!(led.header("location"), "/streams/console/");
    let html = app.get("/console/").await.body;
    for absolute in ["href=\"/", "src=\"/"] {
        assert!(!html.contains(absolute), "{html}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_names_the_path_it_strips_and_nobody_else_does() {
    for (trusts_us, named, base) in [
        (true, "/gate", "/gate"),
        (true, "/outer, /inner/", "/inner"),
        (true, "//evil.example", "/streams"),
        (false, "/gate", "/streams"),
    ] {
        let app = published_under("/streams", trusts_us).await;
        let request = append(&app, &unique("named")).header("x-forwarded-prefix", named);
        let answer = app.send(request).await;
        let place = answer.header("location");
        assert!(
            place.starts_with(&format!("{base}/v1/streams/")),
            "{named}: {place}"
        );
    }
}

#[tokio::test]
async fn the_cookie_of_a_ticket_is_sent_back_through_the_proxy() {
    let file = crate::support::auth::AuthFile::new(&crate::support::auth::record("a", &["* *"]));
    let app = TestApp::start_with(|settings| {
        settings.auth = file.auth();
        settings.api.base_path = "/streams".parse().unwrap();
    })
    .await;
    let body = serde_json::json!({"streams": ["orders"], "cookie": true});
    crate::support::eventually("tickets can be made", async || {
        let answer = app
            .as_key("a")
            .call("POST", "/v1/tickets", body.clone())
            .await;
        answer.status == 200 && answer.header("set-cookie").contains("; Path=/streams/v1;")
    })
    .await;
}
