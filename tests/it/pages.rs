//! Pages for browsers: their security headers, and a real browser that still displays them.

use crate::support::TestApp;
use crate::support::chromium::dump;

#[tokio::test]
async fn pages_load_nothing_from_elsewhere_and_stand_in_no_frame() {
    let app = TestApp::start().await;
    for page in [app.get("/console/").await, app.get("/docs/").await] {
        assert!(
            page.header("content-type").starts_with("text/html"),
            "{page:?}"
        );
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{policy}");
        assert!(policy.contains("frame-ancestors 'none'") && policy.contains("base-uri 'none'"));
        let scripts = policy
            .split("; ")
            .find(|part| part.starts_with("script-src"));
        assert!(
            scripts.is_none_or(|scripts| scripts == "script-src 'self'"),
            "{policy}"
        );
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(page.header(name), value, "{name}");
        }
    }
}

#[tokio::test]
async fn no_answer_tells_what_it_was_made_with() {
    let app = TestApp::start().await;
    for path in [
        "/",
        "/docs/",
        "/docs/nope",
        "/livez",
        "/v1/streams",
        "/v1/streams/%ff",
        "/nope",
    ] {
        let answer = app.get(path).await;
        for name in ["server", "x-powered-by", "via"] {
            assert!(!answer.headers.contains_key(name), "{path}: {name}");
        }
        let body = answer.body.to_lowercase();
        for word in [
            env!("CARGO_PKG_VERSION"),
            "hyper",
            "panicked",
            "src/",
            "/root",
            "/home",
        ] {
            assert!(!body.contains(word), "{path} tells {word}");
        }
    }
}

#[tokio::test]
async fn a_browser_shows_the_calls_under_the_policy_of_the_page() {
    let app = TestApp::start().await;
    let (page, log) = dump(&app.url("/docs/")).await;
    let shown = page.matches("class=\"opblock-summary-path\"").count();
    assert!(shown > 40, "{shown} calls are shown: {log}");
    assert!(!log.contains("Content Security Policy"), "{log}");
}

#[tokio::test]
async fn files_of_the_docs_are_served_compressed_with_a_tag_that_spares_the_next_download() {
    let app = TestApp::start().await;
    for path in [
        "/docs/swagger-ui-bundle.js",
        "/docs/swagger-ui.css",
        "/openapi.json",
    ] {
        let get = async |name: &str, value: &str| {
            let request = app.client.get(app.url(path));
            let request = request.header("accept-encoding", "gzip, br");
            request.header(name, value).send().await
        };
        let first = get("x-first", "yes").await.unwrap();
        assert_eq!(first.headers()["content-encoding"], "gzip", "{path}");
        let tag = first.headers()["etag"].to_str().unwrap().to_owned();
        let gzipped = first.bytes().await.unwrap();
        assert!(gzipped.starts_with(&[0x1f, 0x8b]), "{path}: gzip");
        let again = get("if-none-match", &tag).await.unwrap();
        assert_eq!(again.status(), 304, "{path}");
        let plain = app.get(path).await;
        assert!(plain.body.len() > 3 * gzipped.len(), "{path}");
        assert!(!plain.headers.contains_key("content-encoding"), "{path}");
        assert_ne!(plain.header("etag"), tag, "other bytes have another tag");
    }
    app.get("/docs/nope")
        .await
        .is_problem(404, "route-not-found");
}
