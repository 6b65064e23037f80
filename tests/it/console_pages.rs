//! The console in a real browser, as its users meet it.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING};
use axum::response::Response;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::support::auth::{AuthFile, key, record};
use crate::support::gateway::Gateway;
use crate::support::page::Page;
use crate::support::redis::{Server, free_port};
use crate::support::{TestApp, encode, eventually};

const HOSTILE: &str = "<img src=x onerror=\"window.pwned=1\">";

/// Starts a gateway with streams of its own, and opens the console at an address below `#/`.
async fn opened(at: &str) -> (Server, TestApp, Page) {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let page = Page::open(&app.url(&format!("/console/#/{at}"))).await;
    (server, app, page)
}

async fn is_live(page: &Page) {
    page.until("document.querySelector('#tail-state').dataset.state === 'open'")
        .await;
}

/// Lets a group with a policy give up on one entry.
async fn dead_letter(app: &TestApp, stream: &str, reason: &str) {
    let group = format!("/v1/streams/{stream}/groups/billing");
    app.put_json(&group, r#"{"policy":{"max_deliveries":1}}"#)
        .await;
    let read = app
        .post_form(&format!("{group}/read"), "consumer=w1&count=1")
        .await
        .json();
    let receipt = read["entries"][0]["receipt"].as_str().unwrap();
    let body = json!({"receipts": [receipt], "reason": reason}).to_string();
    let nacked = app.post_json(&format!("{group}/nack"), &body).await;
    assert_eq!(nacked.json()["dead_lettered"], 1, "{}", nacked.body);
}

#[tokio::test]
async fn the_tail_shows_what_is_published_and_the_form_publishes() {
    let (_server, app, page) = opened("streams/orders/live").await;
    is_live(&page).await;
    app.publish("orders", "from elsewhere").await;
    page.shows("#tail .entry", "from elsewhere").await;
    page.click(".tabs a", "Publish").await;
    page.enter(".pair input", "cart").await;
    page.enter(".pair textarea", r#"{"items":[{"sku":"A-1"}]}"#)
        .await;
    page.click("#publish", "Publish").await;
    // The address of the entry opens the entry, its JSON as a tree.
    page.click("#published a", "-").await;
    page.shows("article dt", "cart").await;
    page.shows("article .json-name", "items").await;
    let place = page.eval("location.href").await;
    let other = Page::open(place.as_str().unwrap()).await;
    other.shows("article .json-name", "items").await;
    other.click(".tabs a", "History").await;
    other.shows("#history .entry", "from elsewhere").await;
    other.shows("#history-status", "2 entries").await;
    assert_eq!(page.troubles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_paused_tail_keeps_the_newest_entries_and_a_filter_leaves_entries_out() {
    let (server, app, page) = opened("streams/orders/live").await;
    is_live(&page).await;
    page.click("#pause", "Pause").await;
    app.publish("orders", "while paused").await;
    page.shows("#tail-rate", "1 waiting").await;
    assert_eq!(
        page.eval("document.querySelectorAll('#tail .entry').length")
            .await,
        0
    );
    page.click("#pause", "Resume").await;
    page.shows("#tail .entry", "while paused").await;
    page.click("#pause", "Pause").await;
    let burst = "for i = 1, 1000 do redis.call('XADD', 'orders', '*', 'n', 'burst ' .. i) end return 'done'";
    server.command(&["EVAL", burst, "0"]).await;
    page.shows("#tail-rate", "1,000 waiting").await;
    page.click("#pause", "Resume").await;
    page.shows("#tail .entry", "burst 1000").await;
    page.shows("#tail .marker", "601 older entries are not shown")
        .await;
    page.enter("#tail-filter", "n:wanted").await;
    page.click("form button", "Filter").await;
    is_live(&page).await;
    app.publish("orders", "other").await;
    app.publish("orders", "wanted").await;
    page.shows("#tail .entry", "wanted").await;
    let text = page
        .eval("document.querySelector('#tail').textContent")
        .await;
    assert!(!text.as_str().unwrap().contains("other"), "{text}");
    let place = page.eval("location.hash").await;
    assert!(place.as_str().unwrap().contains("filter=n%3Awanted"));
    page.enter("#tail-filter", "nonsense").await;
    page.click("form button", "Filter").await;
    page.shows(".problem", "FIELD:VALUE").await;
}

#[tokio::test]
async fn the_tail_resumes_after_a_restart_and_tells_of_a_reset() {
    let (server, listen) = (Server::start().await, format!("127.0.0.1:{}", free_port()));
    let start = || Gateway::start(&["serve", "--listen", &listen, "--redis-url", &server.url()]);
    let gateway = start();
    let add = async |n: &str| {
        server.command(&["XADD", "orders", "*", "n", n]).await;
    };
    add("one").await;
    let page = Page::open(&format!("http://{listen}/console/#/streams/orders/live")).await;
    page.shows("#tail .entry", "one").await;
    assert!(gateway.stop().success());
    page.shows("#tail .marker", "resumes").await;
    add("two").await;
    let _gateway = start();
    page.shows("#tail .marker", "Connected again").await;
    page.shows("#tail .entry", "two").await;
    server.command(&["DEL", "orders"]).await;
    add("three").await;
    page.shows("#tail .marker.warning", "Reset").await;
    page.shows("#tail .entry", "three").await;
    assert_eq!(
        page.eval("document.querySelectorAll('#tail .entry').length")
            .await,
        3,
        "each entry once"
    );
}

#[tokio::test]
async fn a_dead_letter_is_seen_with_its_reason_and_redriven() {
    let (_server, app, page) = opened("streams/orders/groups").await;
    app.publish("orders", "one").await;
    dead_letter(&app, "orders", "card declined").await;
    page.click("button", "Refresh").await;
    page.click("td a", "billing").await;
    page.click(".tabs a", "Dead letters").await;
    page.shows("td", "card declined").await;
    page.click("tbody button", "-").await;
    page.shows("tbody dd", "one").await;
    page.click("button", "Redrive all").await;
    page.shows("#dead-status", "No dead letters").await;
    let read = "/v1/streams/orders/groups/billing/read";
    let again = app.post_form(read, "consumer=w2").await.json();
    assert_eq!(again["entries"][0]["fields"]["n"], "one", "{again}");
    // It is pending now: the console acknowledges it.
    page.click(".tabs a", "Pending").await;
    page.shows("td", "w2").await;
    page.eval("document.querySelector('tbody .pick input').click()")
        .await;
    page.click("#pending-actions button", "Acknowledge").await;
    page.shows("#pending-status", "Nothing is pending").await;
    assert_eq!(page.troubles(), Vec::<String>::new());
}

#[tokio::test]
async fn deleting_asks_first_and_names_the_thing() {
    let (_server, app, page) = opened("").await;
    page.click("button", "New stream").await;
    page.enter("dialog input", "jobs").await;
    page.click("dialog button", "Create stream").await;
    page.shows("h1", "jobs").await;
    page.click("button", "Delete stream").await;
    page.shows("dialog strong", "jobs").await;
    page.until("document.activeElement.textContent === 'Cancel'")
        .await;
    page.press("Escape", 27).await;
    page.until("!document.querySelector('dialog')").await;
    assert_eq!(app.get("/v1/streams/jobs").await.status, 200);
    page.click("button", "Delete stream").await;
    page.click("dialog button", "Delete stream").await;
    eventually("it is gone", async || {
        app.get("/v1/streams/jobs").await.status == 404
    })
    .await;
    page.until("location.hash === '#/'").await;
    // A refused call shows the problem with its request id.
    page.click("button", "New stream").await;
    page.enter("dialog input", "streamgate:x").await;
    page.click("dialog button", "Create stream").await;
    page.shows("dialog .problem", "request ").await;
    page.shows("dialog .problem", "invalid-name").await;
}

#[tokio::test]
async fn names_and_payloads_of_others_are_text_only() {
    let (_server, app, page) = opened("").await;
    let stream = format!("/v1/streams/{}", encode(HOSTILE));
    let body =
        json!({"fields": {HOSTILE: HOSTILE, "json": format!("{{{HOSTILE:?}:[{HOSTILE:?}]}}")}});
    let made = app
        .post_json(&format!("{stream}/entries"), &body.to_string())
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    let group = format!("{stream}/groups/{}", encode(HOSTILE));
    app.put_json(&group, "{}").await;
    let reader = json!({"consumer": HOSTILE}).to_string();
    app.post_json(&format!("{group}/read"), &reader).await;
    page.click("button[title='Reload the list']", "").await;
    page.click(".rows a", HOSTILE).await;
    page.shows("h1", HOSTILE).await;
    page.click("#tail .line", HOSTILE).await;
    page.shows("#tail dd", HOSTILE).await;
    page.click(".tabs a", "Groups").await;
    page.click("td a", HOSTILE).await;
    page.shows("td", HOSTILE).await;
    page.click(".tabs a", "Consumers").await;
    page.click("td button", "Delete").await;
    page.shows("dialog strong", HOSTILE).await;
    let made = page
        .eval("document.querySelectorAll('#panes img, dialog img').length + Number('pwned' in window)")
        .await;
    assert_eq!(made, 0);
    assert_eq!(page.troubles(), Vec::<String>::new());
}

#[tokio::test]
async fn a_key_signs_in_for_this_tab_and_actions_without_a_right_say_why() {
    let file = AuthFile::new(&(record("root", &["* *"]) + &record("shop", &["subscribe orders*"])));
    let app = file.app().await;
    let stream = crate::support::unique("orders");
    let stream = format!("orders-{stream}");
    app.as_key("root").publish(&stream, "secret").await;
    let page = Page::open(&app.url(&format!("/console/#/streams/{stream}/live"))).await;
    page.enter("#credential", "sgk_wrong").await;
    page.click("dialog button", "Sign in").await;
    page.shows("dialog .problem", "Authentication required")
        .await;
    let text = page.eval("document.body.innerText").await;
    assert!(!text.as_str().unwrap().contains("secret"));
    page.enter("#credential", &key("shop")).await;
    page.click("dialog button", "Sign in").await;
    page.shows("#tail .entry", "secret").await;
    page.go("about:blank").await;
    page.go(&app.url(&format!("/console/#/streams/{stream}/live")))
        .await;
    page.shows("#tail .entry", "secret").await;
    // A link with the ticket of somebody else does not replace the key.
    page.eval("location.hash += '?ticket=t1.other'").await;
    page.until("!location.hash.includes('ticket') && document.querySelector('#tail')")
        .await;
    page.shows("#tail .entry", "secret").await;
    page.until("document.querySelector('.numbers .danger').ariaDisabled === 'true'")
        .await;
    page.click(".numbers .danger", "Delete stream").await;
    page.shows(".notice", "does not grant the right “manage”")
        .await;
    assert_eq!(
        page.eval("document.querySelector('dialog')").await,
        json!(null)
    );
    page.click(".tabs a", "Publish").await;
    page.shows(".why", "does not grant the right “publish”")
        .await;
    page.click("#session", "Sign out").await;
    page.until("document.querySelector('dialog #credential')")
        .await;
    assert_eq!(page.eval("sessionStorage.length").await, 0);
}

#[tokio::test]
async fn a_link_with_a_ticket_follows_a_stream_and_hides_the_ticket() {
    let file = AuthFile::new(&record("root", &["* *"]));
    let app = file.app().await;
    let stream = crate::support::unique("shared");
    app.as_key("root").publish(&stream, "for a guest").await;
    let ticket = app.as_key("root").ticket(&[&stream], "1h").await;
    let place = format!(
        "/console/#/streams/{stream}/live?ticket={}",
        encode(&ticket)
    );
    let page = Page::open(&app.url(&place)).await;
    page.shows("#tail .entry", "for a guest").await;
    let shown = page.eval("location.href").await;
    assert!(!shown.as_str().unwrap().contains("ticket"), "{shown}");
    page.click(".tabs a", "Groups").await;
    page.shows(".why", "A ticket only reads").await;
}

#[tokio::test]
async fn a_tenant_sees_its_own_streams_and_no_prefix() {
    let prefix = format!("{}:", crate::support::unique("acme"));
    let tenant = record("tenant", &["* *"]) + &format!("prefix = {prefix:?}\n");
    let file = AuthFile::new(&(record("root", &["* *"]) + &tenant));
    let app = file.app().await;
    let foreign = crate::support::unique("foreign");
    app.as_key("root").publish(&foreign, "foreign").await;
    app.as_key("tenant").publish("orders", "own").await;
    let page = Page::open(&app.url("/console/")).await;
    page.enter("#credential", &key("tenant")).await;
    page.click("dialog button", "Sign in").await;
    page.shows("#stream-count", "1 stream").await;
    page.click(".rows a", "orders").await;
    page.shows("#tail .entry", "own").await;
    let text = page.eval("document.body.innerText").await;
    let text = text.as_str().unwrap();
    assert!(
        !text.contains(&prefix) && !text.contains(&foreign),
        "{text}"
    );
}

/// Passes requests below `/gate` on without that prefix, and names it, as a proxy does.
async fn proxy(app: Arc<TestApp>) -> (String, AbortOnDropHandle<()>) {
    let pass = async move |request: Request| {
        let path = request.uri().path_and_query().unwrap().to_string();
        let Some(inner) = path.strip_prefix("/gate") else {
            return Response::builder().status(404).body(Body::empty()).unwrap();
        };
        let client = crate::support::app::client_with(|builder| {
            builder.redirect(reqwest::redirect::Policy::none())
        });
        let (parts, body) = request.into_parts();
        let mut sent = client.request(parts.method, app.url(inner));
        for (name, value) in &parts.headers {
            if ![HOST, ORIGIN, CONTENT_LENGTH].contains(name) {
                sent = sent.header(name, value);
            }
        }
        let body = to_bytes(body, 1 << 20).await.unwrap();
        let sent = sent.header("x-forwarded-prefix", "/gate").body(body);
        let answer = sent.send().await.unwrap();
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if ![CONTENT_LENGTH, TRANSFER_ENCODING].contains(name) {
                response = response.header(name, value);
            }
        }
        response
            .body(Body::from_stream(answer.bytes_stream()))
            .unwrap()
    };
    let router = axum::Router::new().fallback(pass);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (origin, AbortOnDropHandle::new(task))
}

#[tokio::test]
async fn the_console_works_behind_a_proxy_that_strips_a_path() {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        settings.server.visitors.proxies.trusted = vec!["127.0.0.1".parse().unwrap()];
    })
    .await;
    app.publish("orders", "behind a proxy").await;
    let (origin, _proxy) = proxy(Arc::new(app)).await;
    let page = Page::open(&format!("{origin}/gate/console#/streams/orders/live")).await;
    page.shows("#tail .entry", "behind a proxy").await;
    page.shows(".rows a", "orders").await;
    let place = page.eval("location.pathname").await;
    assert_eq!(place, "/gate/console/");
}

#[tokio::test]
async fn ten_thousand_streams_and_a_fast_tail_keep_the_page_small() {
    let (server, _app, page) = opened("").await;
    let many =
        "for i = 1, 10000 do redis.call('XADD', 'many:' .. i, '*', 'n', i) end return 'done'";
    server.command(&["EVAL", many, "0"]).await;
    page.click("button[title='Reload the list']", "").await;
    let load = "(() => { const more = document.querySelector('#more'); if (!more.hidden && !more.disabled) more.click();\
         return document.querySelector('#stream-count').textContent.startsWith('10,000 streams'); })()";
    page.until(load).await;
    assert!(
        page.eval("document.querySelectorAll('.rows li').length")
            .await
            .as_u64()
            < Some(60)
    );
    page.enter("#filter", "many:777").await;
    page.shows("#stream-count", "11 streams").await;
    page.eval("document.getElementById('filter').focus()").await;
    page.press("ArrowDown", 40).await;
    page.press("ArrowDown", 40).await;
    page.until("document.activeElement.closest('li').getAttribute('aria-posinset') === '2'")
        .await;
    page.eval("location.hash = '#/streams/fast/live'").await;
    is_live(&page).await;
    page.eval("window.longest = 0; let last = performance.now(); (function tick() { const now = performance.now();\
         window.longest = Math.max(window.longest, now - last); last = now; requestAnimationFrame(tick); })()")
        .await;
    let fast =
        "for i = 1, 5000 do redis.call('XADD', 'fast', '*', 'n', 'number ' .. i) end return 'done'";
    server.command(&["EVAL", fast, "0"]).await;
    page.shows("#tail .entry", "number 5000").await;
    let rows = page
        .eval("document.querySelectorAll('#tail li').length")
        .await;
    assert!(rows.as_u64() <= Some(400), "{rows}");
    let longest = page.eval("window.longest").await;
    assert!(
        longest.as_f64() < Some(5000.0),
        "{longest} ms without a frame"
    );
}

/// Returns axe-core, which `make test-clients` installs.
fn axe() -> String {
    let path = "target/clients/node_modules/axe-core/axe.min.js";
    std::fs::read_to_string(path)
        .expect("axe-core is not installed: run `make test-clients` (`make test` does)")
}

/// Fills a gateway with what the pages below show.
async fn furnish(app: &TestApp) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = u64::try_from(now.unwrap().as_millis()).unwrap();
    let publish = async |stream: &str, count: u64, every_ms: u64| {
        let entry = |n: u64| {
            let user = ["alice", "bob", "carol", "dave"][usize::try_from(n * n % 7 % 4).unwrap()];
            let items = json!([{"sku": format!("A-{n}"), "count": 2}, {"sku": "B-7", "count": 1}]);
            let cart = json!({"items": items, "gift": n.is_multiple_of(3)}).to_string();
            let total = format!("{}.50", n * 7 % 90 + 4);
            let id = format!("{}-0", now - 2000 - (count - n) * every_ms);
            json!({"id": id, "fields": {"user": user, "total": total, "type": "paid", "cart": cart}})
        };
        let entries: Vec<_> = (1..=count).map(entry).collect();
        let path = format!("/v1/streams/{}/entries", encode(stream));
        let made = app.post_json(&path, &json!(entries).to_string()).await;
        assert_eq!(made.status, 201, "{}", made.body);
    };
    publish("orders", 40, 9_137).await;
    for (stream, count, every_ms) in [
        ("audit", 12, 86_400_000),
        ("jobs", 3, 60_123),
        ("mail/outgoing", 25, 400_321),
        ("payments", 31, 61_007),
        ("sensor:1", 80, 1_000),
        ("sensor:2", 90, 1_000),
    ] {
        publish(stream, count, every_ms).await;
    }
    for reason in ["card declined", "address unknown", "card declined"] {
        dead_letter(app, "orders", reason).await;
    }
    let group = "/v1/streams/orders/groups/billing/read";
    app.post_form(group, "consumer=w1&count=4&lease=12h").await;
    app.put_json("/v1/streams/orders/groups/stats", "{}").await;
    let call = app.client.patch(app.url("/v1/streams/orders"));
    let rule = json!({"retention": {"maxlen": 1_000_000, "max_age": "7d"}}).to_string();
    app.send(call.header("content-type", "application/json").body(rule))
        .await;
}

/// Pages of the console, and a text that each shows once it is complete.
const PAGES: [(&str, &str, &str); 9] = [
    ("", "pre", "curl"),
    ("streams/orders/live", "#tail .entry", "alice"),
    ("streams/orders/history", "#history .entry", "alice"),
    ("streams/orders/publish", "button", "Publish"),
    ("streams/orders/groups", "td", "billing"),
    ("streams/orders/groups/billing", "td", "w1"),
    ("streams/orders/groups/billing/consumers", "td", "w1"),
    (
        "streams/orders/groups/billing/dead-letters",
        "td",
        "card declined",
    ),
    ("system", "td", "XADD"),
];

#[tokio::test]
async fn every_page_passes_the_checks_of_axe_in_light_and_dark_on_desktop_and_phone() {
    let (_server, app, page) = opened("").await;
    furnish(&app).await;
    let axe = axe();
    let mut found = Vec::new();
    for (width, height, dark) in [
        (1280, 800, false),
        (390, 844, true),
        (390, 844, false),
        (1280, 800, true),
    ] {
        page.look(width, height, dark).await;
        for (at, selector, text) in PAGES {
            page.eval(&format!("location.hash = '#/{at}'")).await;
            page.shows(selector, text).await;
            page.eval("document.querySelector('#tail .line, #history .line, tbody button[aria-expanded]')?.click()")
                .await;
            let wide = "document.querySelector('#main').scrollWidth > document.querySelector('#main').clientWidth";
            if page.eval(wide).await == true {
                found.push(format!("{at} at {width}: scrolls sideways"));
            }
            let violations = page.violations(&axe).await;
            found.extend(
                violations
                    .iter()
                    .map(|one| format!("{at} at {width}: {one}")),
            );
        }
        page.eval("location.hash = '#/streams/orders/groups'").await;
        page.click("button", "New group").await;
        let violations = page.violations(&axe).await;
        found.extend(
            violations
                .iter()
                .map(|one| format!("dialog at {width}: {one}")),
        );
        page.press("Escape", 27).await;
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// Writes the pictures of the documentation: `make screenshots`.
#[tokio::test]
#[ignore = "writes files: run by `make screenshots`"]
async fn pictures_for_the_documentation() {
    let (_server, app, page) = opened("").await;
    furnish(&app).await;
    for (name, at, (width, height, dark), selector, text) in [
        (
            "live",
            "streams/orders/live",
            (1280, 800, false),
            "#tail .entry",
            "alice",
        ),
        (
            "dead-letters",
            "streams/orders/groups/billing/dead-letters",
            (1280, 800, false),
            "td",
            "card declined",
        ),
        (
            "live-phone",
            "streams/orders/live",
            (390, 844, false),
            "#tail .entry",
            "alice",
        ),
    ] {
        page.look(width, height, dark).await;
        page.go("about:blank").await;
        page.go(&app.url(&format!("/console/#/{at}"))).await;
        page.shows(selector, text).await;
        page.until("innerWidth < 720 || [...document.querySelectorAll('.rows .length')].every((node) => node.textContent)")
            .await;
        page.shows(".numbers dd", "40").await;
        page.eval("document.querySelector('#tail .line, tbody button[aria-expanded]').click()")
            .await;
        page.shows("#main .json-name", "items").await;
        page.eval("document.querySelector('#pause')?.click()").await;
        let picture = page.picture().await;
        assert!(picture.len() < 200_000, "{name}: {} bytes", picture.len());
        let dir = Path::new("docs/images");
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(dir.join(format!("console-{name}.png")), picture).unwrap();
    }
}

#[tokio::test]
async fn a_group_shows_the_keys_that_are_blocked() {
    let (_server, app, page) = opened("streams").await;
    let entries = "/v1/streams/orders/entries";
    for _ in 0..3 {
        app.post_form(entries, "customer=c1").await;
    }
    let group = "/v1/streams/orders/groups/billing";
    let policy = r#"{"policy":{"order_by":"customer"}}"#;
    assert_eq!(app.put_json(group, policy).await.status, 201);
    let read = app
        .post_form(&format!("{group}/read"), "consumer=w&count=9")
        .await;
    let receipt = read.json()["entries"][0]["receipt"].clone();
    let body = json!({"receipts": [receipt]}).to_string();
    app.post_json(&format!("{group}/reject"), &body).await;
    app.post_form(&format!("{group}/read"), "consumer=w").await;
    page.go(&app.url("/console/#/streams/orders/groups/billing"))
        .await;
    page.shows("main", "Keys blocked").await;
    page.shows("main", "in order by customer").await;
}
