//! Appending entries.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use deadpool_redis::redis::Value as Redis;

use crate::support::redis::shared;
use crate::support::{TestApp, encode, unique};

fn entries(stream: &str) -> String {
    format!("/v1/streams/{}/entries", encode(stream))
}

#[tokio::test]
async fn a_form_is_an_entry_whose_fields_stand_in_the_order_sent() {
    let app = TestApp::start().await;
    let stream = unique("form");
    let answer = app
        .post_form(&entries(&stream), "user=alice&total=9.50&note=a+b%26c")
        .await;
    assert_eq!(answer.status, 201);
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    assert_eq!(answer.json()["stream"], stream);
    assert!(
        answer.body.ends_with("}\n"),
        "a terminal goes on in the same line"
    );
    assert_eq!(answer.header("etag"), format!("\"{id}\""));
    let read = app.get(answer.header("location")).await;
    assert_eq!(
        read.body.trim_end(),
        format!(r#"{{"id":"{id}","fields":{{"user":"alice","total":"9.50","note":"a b&c"}}}}"#)
    );
}

#[tokio::test]
async fn json_is_taken_as_fields_and_as_pairs() {
    let app = TestApp::start().await;
    let stream = unique("json");
    app.post_json(
        &entries(&stream),
        r#"{"fields":{"z":1.50,"a":true,"b":{"base64":"/w=="}},"id":"7-*"}"#,
    )
    .await;
    app.post_json(&entries(&stream), r#"{"pairs":[["a","1"],["a","2"]]}"#)
        .await;
    let read = app
        .get(&format!("{}?after=0", entries(&stream)))
        .await
        .json();
    assert_eq!(read["entries"][0]["id"], "7-0");
    assert_eq!(
        read["entries"][0]["fields"],
        serde_json::json!({"z": "1.50", "a": "true", "b": {"base64": "/w=="}})
    );
    assert_eq!(
        read["entries"][1]["pairs"],
        serde_json::json!([["a", "1"], ["a", "2"]])
    );
}

#[tokio::test]
async fn any_other_body_is_one_field_untouched_with_its_type_beside_it() {
    let app = TestApp::start().await;
    let stream = unique("payload");
    let post = |query: &str| {
        app.client
            .post(app.url(&format!("{}{query}", entries(&stream))))
    };
    let image = vec![0, 0xff, b'\r', b'\n', 0x80];
    let answer = app
        .send(
            post("")
                .header("content-type", "image/png")
                .body(image.clone()),
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    let json = r#"{"nested":[null,{"deep":1}]}"#;
    app.send(
        post("?payload=doc")
            .header("content-type", "application/json")
            .body(json),
    )
    .await;
    app.send(post("?payload=raw").body("no type")).await;

    let Redis::Array(stored) = shared().await.command(&["XRANGE", &stream, "-", "+"]).await else {
        panic!()
    };
    let bulk = |bytes: &[u8]| Redis::BulkString(bytes.to_vec());
    let fields = |index: usize| match &stored[index] {
        Redis::Array(entry) => entry[1].clone(),
        _ => panic!(),
    };
    let image = Redis::Array(vec![
        bulk(b"data"),
        bulk(&image),
        bulk(b"content-type"),
        bulk(b"image/png"),
    ]);
    assert_eq!(fields(0), image);
    let doc = [
        b"doc",
        json.as_bytes(),
        b"content-type",
        b"application/json",
    ]
    .map(bulk);
    assert_eq!(fields(1), Redis::Array(doc.to_vec()));
    assert_eq!(
        fields(2),
        Redis::Array(vec![bulk(b"raw"), bulk(b"no type")])
    );
}

#[tokio::test]
async fn the_caller_may_choose_the_id_if_it_lies_above_the_last() {
    let app = TestApp::start().await;
    let stream = unique("ids");
    let post = async |id: &str| {
        app.post_form(&format!("{}?id={id}", entries(&stream)), "n=1")
            .await
    };
    assert_eq!(post("5-3").await.json()["id"], "5-3");
    assert_eq!(post("5-*").await.json()["id"], "5-4");
    let greatest = "18446744073709551615-18446744073709551614";
    post("5-4").await.is_problem(409, "id-not-monotonic");
    post("0-0").await.is_problem(400, "invalid-id");
    assert_eq!(post(greatest).await.json()["id"], greatest);
    for wrong in ["x", "5", "5-", "-5", "5-x", "*-5", "5-5-5", "%2B5-0"] {
        post(wrong).await.is_problem(400, "invalid-id");
    }
}

#[tokio::test]
async fn trimming_happens_in_the_same_step() {
    let app = TestApp::start().await;
    let stream = app.stream_of("trim", 10).await;
    let post = async |query: &str| {
        app.post_form(&format!("{}?{query}", entries(&stream)), "n=1")
            .await
    };
    let length = async || {
        app.get(&format!("/v1/streams/{stream}")).await.json()["length"]
            .as_u64()
            .unwrap()
    };
    post("id=11-0&maxlen=3").await;
    assert_eq!(
        length().await,
        11,
        "approximate trimming drops whole nodes only"
    );
    post("id=12-0&maxlen=5&exact=true").await;
    assert_eq!(length().await, 5);
    post("id=13-0&minid=12-0&exact=true").await;
    assert_eq!(length().await, 2);
    post("maxlen=1&minid=1-0")
        .await
        .is_problem(400, "invalid-request");
    post("exact=true").await.is_problem(400, "invalid-request");
    post("maxlen=9223372036854775808")
        .await
        .is_problem(400, "invalid-request");
    post("maxlen=-1").await.is_problem(400, "invalid-request");
}

#[tokio::test]
async fn a_stream_is_made_unless_the_caller_says_not_to() {
    let app = TestApp::start().await;
    let stream = unique("create");
    let path = format!("{}?create=false", entries(&stream));
    app.post_form(&path, "n=1")
        .await
        .is_problem(404, "stream-not-found");
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
    app.publish(&stream, "1").await;
    assert_eq!(app.post_form(&path, "n=2").await.status, 201);
}

#[tokio::test]
async fn names_with_slashes_and_other_letters_are_one_segment() {
    let app = TestApp::start().await;
    for name in ["a/b", "ümläut 🎈", "{shop}.orders", "100%", "a?b#c", "a+b"] {
        let stream = unique(name);
        let answer = app.post_form(&entries(&stream), "n=1").await;
        assert_eq!(answer.status, 201, "{name}: {}", answer.body);
        assert_eq!(answer.json()["stream"], stream);
        assert_eq!(
            app.get(answer.header("location")).await.status,
            200,
            "{}",
            answer.header("location")
        );
        assert_eq!(
            shared().await.command(&["XLEN", &stream]).await,
            Redis::Int(1)
        );
    }
}

#[tokio::test]
async fn what_is_written_is_what_is_read_by_every_way_in_and_out() {
    let app = TestApp::start().await;
    let awkward: [&[u8]; 8] = [
        b"\r\n",
        b"\n\n",
        b"a\0b",
        "\u{2028}\u{2029}\u{85}".as_bytes(),
        "🎈".as_bytes(),
        b"\xff\xfe",
        b"",
        b"data: x",
    ];
    for bytes in awkward {
        let stream = unique("bytes");
        let encoded: String =
            percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string();
        // A field whose name and value are both awkward. An empty name is valid.
        let answer = app
            .post_form(&entries(&stream), &format!("{encoded}={encoded}&last=1"))
            .await;
        if bytes.is_empty() || std::str::from_utf8(bytes).is_err() {
            // Forms are UTF-8, and names in forms are not empty.
            answer.is_problem(415, "unsupported-media-type");
            let bytes = serde_json::json!({"base64": BASE64_STANDARD.encode(bytes)});
            let entry = serde_json::json!({"pairs": [[bytes, bytes], ["last", "1"]]});
            let answer = app.post_json(&entries(&stream), &entry.to_string()).await;
            assert_eq!(answer.status, 201, "{}", answer.body);
        } else {
            assert_eq!(answer.status, 201, "{bytes:?}");
        }
        let Redis::Array(stored) = shared().await.command(&["XRANGE", &stream, "-", "+"]).await
        else {
            panic!()
        };
        let Redis::Array(entry) = &stored[0] else {
            panic!()
        };
        let bulk = |bytes: &[u8]| Redis::BulkString(bytes.to_vec());
        assert_eq!(
            entry[1],
            Redis::Array(vec![bulk(bytes), bulk(bytes), bulk(b"last"), bulk(b"1")])
        );

        let of_range = app
            .get(&format!("{}?after=0&pairs=true", entries(&stream)))
            .await
            .json();
        let mut sse = app
            .follow(&format!("/v1/streams/{stream}/events?after=0&pairs=true"))
            .await;
        sse.expect("$open").await;
        let of_events = sse.expect("message").await.json();
        let back =
            |entry: &serde_json::Value| serde_json::json!({"pairs": entry["pairs"]}).to_string();
        assert_eq!(back(&of_range["entries"][0]), back(&of_events));
        // The entry can be appended again as JSON.
        let again = unique("again");
        assert_eq!(
            app.post_json(&entries(&again), &back(&of_events))
                .await
                .status,
            201
        );
        let Redis::Array(copy) = shared().await.command(&["XRANGE", &again, "-", "+"]).await else {
            panic!()
        };
        let Redis::Array(copied) = &copy[0] else {
            panic!()
        };
        assert_eq!(copied[1], entry[1]);
    }
}

#[tokio::test]
async fn an_empty_list_of_pairs_beside_fields_is_none_and_a_full_one_is_refused() {
    let app = TestApp::start().await;
    let stream = unique("pairs");
    let path = format!("/v1/streams/{stream}/entries");
    for body in [
        r#"{"fields":{"a":"1"},"pairs":[]}"#,
        r#"{"pairs":[ ],"fields":{"a":"1"}}"#,
    ] {
        let answer = app.post_json(&path, body).await;
        assert_eq!(answer.status, 201, "{body}: {}", answer.body);
    }
    for body in [
        r#"{"fields":{"a":"1"},"pairs":[["b","2"]]}"#,
        r#"{"pairs":[["b","2"]],"fields":{"a":"1"}}"#,
    ] {
        app.post_json(&path, body)
            .await
            .is_problem(422, "invalid-fields");
    }
}
