//! The console as HTTP serves it: files, headers, the rights of the caller, and the switch.

use serde_json::json;

use crate::support::TestApp;
use crate::support::auth::{AuthFile, record};

/// Returns the names of the files of the console in the repository.
fn files() -> Vec<String> {
    let found = std::fs::read_dir("assets/console").unwrap();
    found
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test]
async fn every_file_of_the_console_is_served_with_a_type_a_tag_and_a_strict_policy() {
    let app = TestApp::start().await;
    for name in files() {
        let path = match name.as_str() {
            "index.html" => "/console/".to_owned(),
            name => format!("/console/{name}"),
        };
        let answer = app.get(&path).await;
        assert_eq!(answer.status, 200, "{path} is not in the list of files");
        let expected = match name.rsplit_once('.').unwrap().1 {
            "js" => "text/javascript; charset=utf-8",
            "css" => "text/css; charset=utf-8",
            "svg" => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(answer.header("content-type"), expected, "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "));
        assert!(!policy.contains("unsafe") && policy.contains("trusted-types 'none'"));
        assert_eq!(answer.header("cache-control"), "no-cache");
        let tag = answer.header("etag").to_owned();
        let again = app.client.get(app.url(&path)).header("if-none-match", &tag);
        assert_eq!(app.send(again).await.status, 304, "{path}");
        let gzip = app
            .client
            .get(app.url(&path))
            .header("accept-encoding", "gzip");
        let gzip = gzip.send().await.unwrap();
        assert_eq!(gzip.headers()["content-encoding"], "gzip", "{path}");
    }
    app.get("/console/nope.js")
        .await
        .is_problem(404, "route-not-found");
}

#[test]
fn files_of_the_console_are_short_and_never_parse_data_as_html() {
    for name in files() {
        let text = std::fs::read_to_string(format!("assets/console/{name}")).unwrap();
        assert!(text.lines().count() < 200, "{name} is long");
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "http://",
            "https://",
        ] {
            let is_namespace = name == "icon.svg" && sink == "http://";
            assert!(!text.contains(sink) || is_namespace, "{name} has {sink}");
        }
    }
}

#[tokio::test]
async fn a_browser_is_led_to_the_console_and_curl_to_commands() {
    let app = TestApp::start().await;
    let client = crate::support::app::client_with(|builder| {
        builder.redirect(reqwest::redirect::Policy::none())
    });
    let browser = client.get(app.url("/")).header("accept", "text/html,*/*");
    let answer = app.send(browser).await;
    assert_eq!(answer.status, 303);
    assert_eq!(answer.header("location"), "/console/");
    assert!(answer.header("vary").contains("accept"), "{answer:?}");
    let moved = app.send(client.get(app.url("/console"))).await;
    assert_eq!(moved.header("location"), "/console/");
    let text = app.get("/").await;
    assert!(text.header("content-type").starts_with("text/plain"));
    assert!(text.body.contains("/console"), "{}", text.body);
}

#[tokio::test]
async fn without_the_console_a_browser_gets_the_commands() {
    let app = TestApp::start_with(|settings| settings.api.console = false).await;
    for path in [
        "/console",
        "/console/",
        "/console/app.js",
        "/console/access",
    ] {
        app.get(path).await.is_problem(404, "route-not-found");
    }
    let html = app.client.get(app.url("/")).header("accept", "text/html");
    let answer = app.send(html).await;
    assert!(answer.body.starts_with("streamgate"), "{}", answer.body);
    assert!(!answer.body.contains("/console"), "{}", answer.body);
}

#[tokio::test]
async fn callers_learn_their_own_rights_and_nobody_elses() {
    let app = TestApp::start().await;
    let all = app.get("/console/access").await.json();
    assert_eq!(all["authentication"], false);
    assert_eq!(
        all["grants"],
        json!([{"rights": ["publish", "subscribe", "consume", "manage"], "streams": "*"}])
    );
    let grants = ["publish,subscribe orders*", "manage jobs"];
    let file = AuthFile::new(&(record("shop", &grants) + &record("other", &["* *"])));
    let app = file.app().await;
    app.get("/console/access")
        .await
        .is_problem(401, "unauthenticated");
    assert_eq!(app.get("/console/").await.status, 200, "the page is public");
    let shop = app.as_key("shop").get("/console/access").await.json();
    assert_eq!(
        shop,
        json!({"authentication": true, "credential": "key", "name": "shop", "ceiling": null, "grants": [
            {"rights": ["publish", "subscribe"], "streams": "orders*"},
            {"rights": ["manage"], "streams": "jobs"}]})
    );
    let ticket = app.as_key("shop").ticket(&["orders"], "1h").await;
    let by_ticket = app.get(&format!("/console/access?ticket={ticket}")).await;
    let by_ticket = by_ticket.json();
    assert_eq!(
        by_ticket,
        json!({"authentication": true, "credential": "ticket", "name": "", "ceiling": null, "grants": [
            {"rights": ["subscribe"], "streams": "orders"}]}),
        "nothing about the maker of the ticket"
    );
}
