//! Groups with a policy: entries are leased with a receipt until their leases end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use streamgate::model::name::{GroupName, StreamName};
use streamgate::model::receipt::Receipt;

use crate::support::app::answer;
use crate::support::proxy::Proxy;
use crate::support::redis::{Server, all_shared, json as plain, shared};
use crate::support::{Answer, TestApp, elapse, eventually, unique};

fn group(stream: &str, rest: &str) -> String {
    format!("/v1/streams/{stream}/groups/g{rest}")
}

/// Creates a stream with entries `1-0` to `<count>-0`, and a group with this policy.
async fn lent(app: &TestApp, count: u32, policy: &str) -> String {
    let stream = app.stream_of("lent", count).await;
    let made = app
        .put_json(&group(&stream, ""), &format!(r#"{{"policy":{policy}}}"#))
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    stream
}

async fn call(app: &TestApp, stream: &str, verb: &str, form: &str) -> Value {
    let answer = app
        .post_form(&group(stream, &format!("/{verb}")), form)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

async fn read(app: &TestApp, stream: &str, form: &str) -> Answer {
    let answer = app.post_form(&group(stream, "/read"), form).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer
}

/// Returns the receipts of a response, as a form.
fn receipts(answer: &Answer) -> String {
    let entries = answer.json()["entries"].as_array().unwrap().clone();
    let of = |entry: &Value| format!("receipts={}", entry["receipt"].as_str().unwrap());
    entries.iter().map(of).collect::<Vec<_>>().join("&")
}

fn outcomes(answer: &Value) -> Vec<&str> {
    let results = answer["results"].as_array().unwrap();
    results
        .iter()
        .map(|result| result["outcome"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_policy_is_given_shown_changed_in_part_and_taken_away() {
    let app = TestApp::start().await;
    let stream = unique("policy");
    let path = group(&stream, "");
    let plain = app.put_json(&path, "{}").await.json();
    assert_eq!(plain["policy"], Value::Null);
    let given = app
        .put_json(&path, r#"{"policy":{"lease":"1m","max_deliveries":3}}"#)
        .await;
    let dead = format!("{{{stream}}}.dead");
    let expected = json!({"lease":"1m","max_deliveries":3,"backoff":[],"consumer_expiry":"0ms","dead_letter":dead});
    assert_eq!((given.status, &given.json()["policy"]), (200, &expected));
    assert_eq!(
        app.put_json(&path, "{}").await.json()["policy"],
        expected,
        "only if sent"
    );
    let change = app
        .client
        .patch(app.url(&path))
        .header("content-type", "application/json");
    let changed = app
        .send(change.body(r#"{"policy":{"backoff":["1s","2s"]}}"#))
        .await
        .json();
    assert_eq!(changed["policy"]["backoff"], json!(["1s", "2s"]));
    assert_eq!(changed["policy"]["max_deliveries"], 3, "the rest stays");
    let listed = app
        .get(&format!("/v1/streams/{stream}/groups"))
        .await
        .json();
    assert_eq!(listed["groups"][0]["policy"], changed["policy"]);
    let change = app
        .client
        .patch(app.url(&path))
        .header("content-type", "application/json");
    let taken = app.send(change.body(r#"{"policy":null}"#)).await.json();
    assert_eq!(taken["policy"], Value::Null);
    let only_new = app.client.put(app.url(&path)).header("if-none-match", "*");
    let only_new = only_new.header("content-type", "application/json");
    app.send(only_new.body(r#"{"policy":{}}"#))
        .await
        .is_problem(412, "precondition-failed");
    assert_eq!(
        app.get(&path).await.json()["policy"],
        Value::Null,
        "nothing was changed"
    );
}

#[tokio::test]
async fn policies_that_cannot_be_are_refused_and_pointed_at() {
    let app = TestApp::start().await;
    let stream = unique("invalid");
    for (policy, pointer) in [
        (r#"{"lease":"0"}"#.to_owned(), "/policy/lease"),
        (r#"{"lease":"99ms"}"#.to_owned(), "/policy/lease"),
        (r#"{"lease":"13h"}"#.to_owned(), "/policy/lease"),
        (
            r#"{"max_deliveries":1000001}"#.to_owned(),
            "/policy/max_deliveries",
        ),
        (
            r#"{"backoff":["1s","1ms"]}"#.to_owned(),
            "/policy/backoff/1",
        ),
        (
            r#"{"max_deliveries":2,"backoff":["1s","2s"]}"#.to_owned(),
            "/policy/backoff",
        ),
        (
            format!(r#"{{"dead_letter":"{stream}"}}"#),
            "/policy/dead_letter",
        ),
        (
            r#"{"dead_letter":"elsewhere"}"#.to_owned(),
            "/policy/dead_letter",
        ),
    ] {
        let body = format!(r#"{{"policy":{policy}}}"#);
        let problem = app
            .put_json(&group(&stream, ""), &body)
            .await
            .is_problem(422, "invalid-policy");
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{policy}");
    }
    for policy in [
        r#"{"lease":30}"#,
        r#"{"lease":"-1s"}"#,
        r#"{"max_deliveries":-1}"#,
        r#"{"leese":"1s"}"#,
    ] {
        let body = format!(r#"{{"policy":{policy}}}"#);
        app.put_json(&group(&stream, ""), &body)
            .await
            .is_problem(400, "invalid-request");
    }
    let body = r#"{"policy":{"dead_letter":"a{b"}}"#;
    app.put_json(&group(&stream, ""), body)
        .await
        .is_problem(400, "invalid-name");
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
}

#[tokio::test]
async fn a_plain_group_is_never_lent_from_and_says_so() {
    let app = TestApp::start().await;
    let stream = app.stream_of("plain", 3).await;
    shared()
        .await
        .command(&["XGROUP", "CREATE", &stream, "g", "0"])
        .await;
    let take = [
        "XREADGROUP",
        "GROUP",
        "g",
        "native",
        "COUNT",
        "1",
        "STREAMS",
        &stream,
        ">",
    ];
    shared().await.command(&take).await;
    let answer = read(&app, &stream, "consumer=w").await;
    assert_eq!(answer.ids(), ["2-0", "3-0"]);
    assert!(answer.json()["entries"][0].get("receipt").is_none());
    read(&app, &stream, "consumer=w&wait=300ms").await;
    let pending = app.get(&group(&stream, "/pending?consumer=native")).await;
    assert_eq!(
        (pending.ids(), &pending.json()["entries"][0]["deliveries"]),
        (vec!["1-0".to_owned()], &1.into())
    );
    for (verb, form) in [
        ("read", "consumer=w&lease=1s"),
        ("nack", "ids=1-0"),
        ("reject", "ids=1-0"),
        ("extend", "ids=1-0"),
    ] {
        let answer = app
            .post_form(&group(&stream, &format!("/{verb}")), form)
            .await;
        answer.is_problem(409, "group-has-no-policy");
        let none = format!("/v1/streams/{stream}/groups/none/{verb}");
        app.post_form(&none, form)
            .await
            .is_problem(404, "group-not-found");
    }
}

#[tokio::test]
async fn an_entry_comes_again_when_its_lease_ends_and_the_first_holder_is_told() {
    let app = TestApp::start().await;
    let stream = lent(&app, 1, r#"{"lease":"300ms"}"#).await;
    let first = read(&app, &stream, "consumer=slow").await;
    let began = Instant::now();
    let second = read(&app, &stream, "consumer=quick&wait=10s").await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "the end of the lease was waited for"
    );
    let entry = &second.json()["entries"][0];
    assert_eq!(
        (&entry["id"], &entry["deliveries"]),
        (&"1-0".into(), &2.into())
    );
    for verb in ["ack", "nack", "reject", "extend"] {
        assert_eq!(
            outcomes(&call(&app, &stream, verb, &receipts(&first)).await),
            ["lease-lost"]
        );
    }
    let acked = call(&app, &stream, "ack", &receipts(&second)).await;
    assert_eq!(
        (outcomes(&acked), &acked["acknowledged"]),
        (vec!["acknowledged"], &1.into())
    );
    assert_eq!(
        outcomes(&call(&app, &stream, "ack", &receipts(&second)).await),
        ["not-pending"]
    );
    assert_eq!(
        app.get(&group(&stream, "/pending")).await.json()["summary"]["count"],
        0
    );
}

#[tokio::test]
async fn a_late_word_counts_while_nobody_else_had_the_entry() {
    let app = TestApp::start().await;
    let stream = lent(&app, 1, r#"{"lease":"100ms"}"#).await;
    let first = read(&app, &stream, "consumer=w").await;
    elapse(150, "the lease ends").await;
    assert_eq!(
        outcomes(&call(&app, &stream, "ack", &receipts(&first)).await),
        ["acknowledged"]
    );
}

#[tokio::test]
async fn every_bad_receipt_is_an_outcome_and_never_a_failed_call() {
    let app = TestApp::start().await;
    let stream = lent(&app, 3, "{}").await;
    let good = read(&app, &stream, "consumer=w&count=1").await;
    let text = good.json()["entries"][0]["receipt"]
        .as_str()
        .unwrap()
        .to_owned();
    let of = |stream: &str, group: &str, id: &str, until_us| {
        let receipt = Receipt {
            id: id.parse().unwrap(),
            until_us,
        };
        receipt.encode(
            &StreamName::new(stream).unwrap(),
            &GroupName::new(group).unwrap(),
        )
    };
    for (receipt, outcome) in [
        (text[..text.len() - 1].to_owned(), "invalid-receipt"),
        (format!("{text}A"), "invalid-receipt"),
        (text.to_lowercase(), "invalid-receipt"),
        ("%20%2F".to_owned(), "invalid-receipt"),
        ("1-0".to_owned(), "invalid-receipt"),
        (of("another", "g", "1-0", 5), "invalid-receipt"),
        (of(&stream, "another", "1-0", 5), "invalid-receipt"),
        (of(&stream, "g", "1-0", 5), "lease-lost"),
        (of(&stream, "g", "1-0", (1 << 53) - 1), "lease-lost"),
        (of(&stream, "g", "3-0", 5), "not-pending"),
        (of(&stream, "g", "99-0", 5), "not-pending"),
    ] {
        for verb in ["ack", "ack?delete=true", "nack", "reject", "extend"] {
            let form = format!("receipts={receipt}&receipts={receipt}");
            let answer = call(&app, &stream, verb, &form).await;
            assert_eq!(outcomes(&answer), [outcome, outcome], "{verb} {receipt}");
        }
    }
    let mixed = format!("receipts=x&receipts={text}&receipts={text}");
    let answer = call(&app, &stream, "ack", &mixed).await;
    assert_eq!(
        outcomes(&answer),
        ["invalid-receipt", "acknowledged", "not-pending"]
    );
    assert_eq!(answer["results"][0]["id"], Value::Null);
    for form in ["", "ids=1-0&receipts=x"] {
        app.post_form(&group(&stream, "/ack"), form)
            .await
            .is_problem(400, "invalid-request");
    }
}

#[tokio::test]
async fn absurd_durations_are_refused_and_nothing_is_done() {
    let app = TestApp::start().await;
    let stream = lent(&app, 1, "{}").await;
    for lease in ["0", "-1s", "99ms", "43201s", "20", "99999999999999999999s"] {
        let form = format!("consumer=w&lease={lease}");
        app.post_form(&group(&stream, "/read"), &form)
            .await
            .is_problem(400, "invalid-request");
    }
    let held = receipts(&read(&app, &stream, "consumer=w").await);
    for wrong in [
        "extend?&lease=0",
        "extend?&lease=13h",
        "nack?&delay=-1s",
        "nack?&delay=13h",
        "nack?&delay=5",
    ] {
        let (verb, form) = wrong.split_once("?&").unwrap();
        let answer = app
            .post_form(
                &group(&stream, &format!("/{verb}")),
                &format!("{held}&{form}"),
            )
            .await;
        answer.is_problem(400, "invalid-request");
    }
    let reason = format!("{held}&reason={}", "x".repeat(1025));
    app.post_form(&group(&stream, "/reject"), &reason)
        .await
        .is_problem(400, "invalid-request");
    assert_eq!(
        outcomes(&call(&app, &stream, "ack", &held).await),
        ["acknowledged"]
    );
}

#[tokio::test]
async fn an_extended_lease_has_a_new_receipt_and_the_old_one_is_worth_nothing() {
    let app = TestApp::start().await;
    let stream = lent(&app, 1, r#"{"lease":"200ms"}"#).await;
    let old = receipts(&read(&app, &stream, "consumer=w").await);
    let extended = call(&app, &stream, "extend", &format!("{old}&lease=1h")).await;
    assert_eq!(
        (outcomes(&extended), &extended["extended"]),
        (vec!["extended"], &1.into())
    );
    assert_eq!(
        read(&app, &stream, "consumer=v&wait=500ms")
            .await
            .ids()
            .len(),
        0
    );
    assert_eq!(
        outcomes(&call(&app, &stream, "ack", &old).await),
        ["lease-lost"]
    );
    let new = format!(
        "receipts={}",
        extended["results"][0]["receipt"].as_str().unwrap()
    );
    assert_eq!(
        outcomes(&call(&app, &stream, "ack", &new).await),
        ["acknowledged"]
    );
}

#[tokio::test]
async fn what_is_handed_back_belongs_to_nobody_and_wakes_a_reader_of_another_gateway() {
    let (one, two) = (TestApp::start().await, TestApp::start().await);
    let stream = lent(&one, 1, "{}").await;
    let held = receipts(&read(&one, &stream, "consumer=w").await);
    let waiting = read(&two, &stream, "consumer=v&wait=20s");
    let handing_back = async {
        let channel = format!("streamgate:{{{stream}}}:wake:{}:{stream}:g", stream.len());
        eventually("it waits and listens", async || {
            let mut listening = false;
            for server in all_shared().await {
                let count = server.command(&["PUBSUB", "NUMSUB", &channel]).await;
                listening |= plain(&count)[1] != 0;
            }
            two.metric("waiting_reads").await == 1 && listening
        })
        .await;
        let began = Instant::now();
        let answer = call(&one, &stream, "nack", &format!("{held}&delay=400ms")).await;
        assert_eq!(
            (outcomes(&answer), &answer["released"]),
            (vec!["released"], &1.into())
        );
        let pending = one.get(&group(&stream, "/pending")).await.json();
        assert_eq!(
            (
                &pending["entries"][0]["consumer"],
                &pending["summary"]["count"]
            ),
            (&Value::Null, &1.into())
        );
        let consumers = one.get(&group(&stream, "/consumers")).await.body;
        assert!(!consumers.contains("streamgate:"), "{consumers}");
        began
    };
    let waiting = async { (waiting.await, Instant::now()) };
    let ((answer, ended), began) = tokio::join!(waiting, handing_back);
    assert_eq!(answer.json()["entries"][0]["deliveries"], 2);
    let took = ended - began;
    assert!(
        (Duration::from_millis(400)..Duration::from_secs(3)).contains(&took),
        "{took:?}"
    );
    assert_eq!(
        outcomes(&call(&two, &stream, "ack", &held).await),
        ["lease-lost"]
    );
}

#[tokio::test]
async fn a_delay_longer_than_the_lease_survives_the_gateway() {
    let server = Server::start().await;
    let app = TestApp::on_server(&server).await;
    let stream = lent(&app, 1, r#"{"lease":"100ms"}"#).await;
    let held = receipts(&read(&app, &stream, "consumer=w").await);
    call(&app, &stream, "nack", &format!("{held}&delay=4s")).await;
    let began = Instant::now();
    app.stop().await;
    let app = TestApp::on_server(&server).await;
    assert_eq!(read(&app, &stream, "consumer=w").await.ids().len(), 0);
    assert_eq!(
        read(&app, &stream, "consumer=w&wait=10s").await.ids(),
        ["1-0"]
    );
    let took = began.elapsed();
    assert!(
        (Duration::from_millis(3900)..Duration::from_secs(8)).contains(&took),
        "{took:?}"
    );
}

#[tokio::test]
async fn what_nobody_is_there_to_receive_is_handed_back_as_if_never_lent() {
    let server = Server::start().await;
    let proxy = Proxy::to(server.port).await;
    let app = TestApp::on(&proxy.url(), |_| {}).await;
    let stream = lent(&app, 2, "{}").await;
    // This read creates the consumer. With a new name, the next read would start with a lookup.
    read(&app, &stream, "consumer=gone&history=0").await;
    proxy.delay(Duration::from_millis(500));
    let request = app.client.post(app.url(&group(&stream, "/read")));
    let request = request.header("content-type", "application/x-www-form-urlencoded");
    let request = request.body("consumer=gone&count=1&lease=1h");
    assert!(
        answer(request.timeout(Duration::from_millis(200)))
            .await
            .is_err()
    );
    proxy.restore();
    eventually("it is noticed", async || {
        app.metric("undelivered_entries_total").await == 1
    })
    .await;
    let next = read(&app, &stream, "consumer=w&count=9&wait=5s").await;
    let next = if next.ids().len() == 1 {
        read(&app, &stream, "consumer=w&wait=5s").await
    } else {
        next
    };
    assert!(next.ids().contains(&"1-0".to_owned()), "{next:?}");
    assert_eq!(next.json()["entries"][0]["deliveries"], 1);
}

#[tokio::test]
async fn retries_wait_as_the_policy_says() {
    let app = TestApp::start().await;
    let stream = lent(&app, 1, r#"{"backoff":["100ms","400ms"]}"#).await;
    for least in [100, 400, 400] {
        let held = receipts(&read(&app, &stream, "consumer=w&wait=5s").await);
        let began = Instant::now();
        call(&app, &stream, "nack", &held).await;
        assert_eq!(
            read(&app, &stream, "consumer=w").await.ids().len(),
            0,
            "not yet"
        );
        eventually("it is due", async || {
            let score = shared()
                .await
                .command(&[
                    "ZRANGEBYSCORE",
                    &leases(&stream),
                    "-inf",
                    &now_us().await,
                    "LIMIT",
                    "0",
                    "1",
                ])
                .await;
            plain(&score) == json!(["1-0"])
        })
        .await;
        assert!(
            began.elapsed() >= Duration::from_millis(least),
            "{:?}",
            began.elapsed()
        );
    }
}

fn leases(stream: &str) -> String {
    format!("streamgate:{{{stream}}}:leases:{}:{stream}:g", stream.len())
}

async fn now_us() -> String {
    let time = plain(&shared().await.command(&["TIME"]).await);
    format!(
        "{}{:0>6}",
        time[0].as_str().unwrap(),
        time[1].as_str().unwrap()
    )
}

#[tokio::test]
async fn what_is_due_comes_first_up_to_half_and_then_what_is_new() {
    let app = TestApp::start().await;
    let stream = lent(&app, 12, "{}").await;
    let held = receipts(&read(&app, &stream, "consumer=w&count=6").await);
    call(&app, &stream, "nack", &held).await;
    assert_eq!(
        read(&app, &stream, "consumer=v&count=4").await.ids(),
        ["1-0", "2-0", "7-0", "8-0"]
    );
    let rest = read(&app, &stream, "consumer=v&count=10").await.ids();
    assert_eq!(
        rest,
        ["3-0", "4-0", "5-0", "6-0", "9-0", "10-0", "11-0", "12-0"]
    );
}

#[tokio::test]
async fn plain_ids_mean_what_they_mean_to_redis() {
    let app = TestApp::start().await;
    let stream = lent(&app, 4, "{}").await;
    read(&app, &stream, "consumer=w").await;
    let extended = call(&app, &stream, "extend", "ids=1-0&ids=9-0").await;
    assert_eq!(outcomes(&extended), ["extended", "not-pending"]);
    assert_eq!(
        outcomes(&call(&app, &stream, "nack", "ids=1-0&ids=1-0").await),
        ["released", "released"]
    );
    let acked = call(&app, &stream, "ack?delete=true", "ids=1-0&ids=2-0&ids=9-0").await;
    assert_eq!(
        outcomes(&acked),
        ["acknowledged", "acknowledged", "not-pending"]
    );
    call(&app, &stream, "ack", "ids=3-0&ids=4-0").await;
    let left = shared().await.command(&["ZCARD", &leases(&stream)]).await;
    assert_eq!(plain(&left), 0, "no lease outlives its entry");
}

#[tokio::test]
async fn a_policy_is_honoured_by_every_gateway_at_once() {
    let (one, two) = (TestApp::start().await, TestApp::start().await);
    let stream = one.stream_of("both", 2).await;
    one.put_json(&group(&stream, ""), "{}").await;
    let plain = read(&two, &stream, "consumer=w&count=1").await;
    assert!(plain.json()["entries"][0].get("receipt").is_none());
    one.put_json(&group(&stream, ""), r#"{"policy":{}}"#).await;
    let leased = read(&two, &stream, "consumer=w&count=1").await;
    assert_eq!(
        outcomes(&call(&one, &stream, "ack", &receipts(&leased)).await),
        ["acknowledged"]
    );
    two.put_json(&group(&stream, ""), r#"{"policy":null}"#)
        .await;
    one.publish(&stream, "3").await;
    let plain = read(&one, &stream, "consumer=w").await;
    assert!(plain.json()["entries"][0].get("receipt").is_none());
}

#[tokio::test]
async fn a_history_looks_without_touching_and_finds_the_receipts() {
    let app = TestApp::start().await;
    let stream = lent(&app, 2, "{}").await;
    let lent = read(&app, &stream, "consumer=w").await;
    shared().await.command(&["XDEL", &stream, "1-0"]).await;
    for _ in 0..2 {
        let history = read(&app, &stream, "consumer=w&history=0").await;
        assert_eq!(history.json()["entries"][0]["fields"], Value::Null);
        assert_eq!(history.json()["entries"][1], lent.json()["entries"][1]);
    }
    assert_eq!(
        read(&app, &stream, "consumer=v&history=0")
            .await
            .ids()
            .len(),
        0
    );
    let last = u64::MAX;
    let beyond = format!("consumer=w&history={last}-{last}");
    assert_eq!(read(&app, &stream, &beyond).await.ids().len(), 0);
    assert_eq!(
        read(&app, &stream, "consumer=w&history=1-0").await.ids(),
        ["2-0"]
    );
}

#[tokio::test]
async fn several_streams_are_worked_by_receipts_of_each() {
    let app = TestApp::start().await;
    let (one, two) = (
        lent(&app, 1, "{}").await,
        lent(&app, 1, r#"{"lease":"1h"}"#).await,
    );
    let plain = app.stream_of("plain", 1).await;
    app.put_json(&group(&plain, ""), "{}").await;
    let form = format!("streams={one}&streams={two}&streams={plain}&consumer=w");
    let answer = app.post_form("/v1/groups/g/read", &form).await.json();
    let receipt = |n: usize| {
        answer["streams"][n]["entries"][0]["receipt"]
            .as_str()
            .map(str::to_owned)
    };
    assert_eq!(receipt(2), None);
    let (first, second) = (receipt(0).unwrap(), receipt(1).unwrap());
    let many = async |verb: &str, form: &str| {
        let answer = app.post_form(&format!("/v1/groups/g/{verb}"), form).await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    let extended = many("extend", &format!("receipts={first}&receipts={two}@x")).await;
    assert_eq!(outcomes(&extended), ["extended", "invalid-receipt"]);
    assert_eq!(extended["results"][0]["stream"], one);
    let renewed = extended["results"][0]["receipt"].as_str().unwrap();
    let acked = many(
        "ack",
        &format!("receipts={second}&receipts={first}&receipts={renewed}"),
    )
    .await;
    assert_eq!(
        outcomes(&acked),
        ["acknowledged", "lease-lost", "acknowledged"]
    );
    assert_eq!(
        outcomes(&many("ack", &format!("ids={plain}@1-0")).await),
        ["acknowledged"]
    );
    let lacking = unique("lacking");
    for verb in ["ack", "nack", "reject", "extend"] {
        let form = format!("ids={one}@1-0&ids={lacking}@1-0");
        app.post_form(&format!("/v1/groups/g/{verb}"), &form)
            .await
            .is_problem(404, "group-not-found");
    }
    let form = format!("streams={one}&streams={plain}&consumer=w&lease=1s");
    app.post_form("/v1/groups/g/read", &form)
        .await
        .is_problem(409, "group-has-no-policy");
}
