//! Compressed request bodies and compressed responses.

use async_compression::tokio::bufread::{
    GzipDecoder, GzipEncoder, ZlibDecoder, ZlibEncoder, ZstdDecoder, ZstdEncoder,
};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::support::{TestApp, eventually, unique};

const CODINGS: [&str; 3] = ["gzip", "deflate", "zstd"];

async fn all(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).await.unwrap();
    bytes
}

async fn packed(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => all(GzipEncoder::new(plain)).await,
        "deflate" => all(ZlibEncoder::new(plain)).await,
        _ => all(ZstdEncoder::new(plain)).await,
    }
}

async fn unpacked(coding: &str, bytes: &[u8]) -> String {
    let plain = match coding {
        "gzip" => all(GzipDecoder::new(bytes)).await,
        "deflate" => all(ZlibDecoder::new(bytes)).await,
        _ => all(ZstdDecoder::new(bytes)).await,
    };
    String::from_utf8(plain).unwrap()
}

fn post(
    app: &TestApp,
    path: &str,
    kind: &str,
    coding: &str,
    body: Vec<u8>,
) -> reqwest::RequestBuilder {
    let request = app
        .client
        .post(app.url(path))
        .header("content-type", kind.to_owned());
    request
        .header("content-encoding", coding.to_owned())
        .body(body)
}

#[tokio::test]
async fn compressed_bodies_are_taken_wherever_bodies_are() {
    let app = TestApp::start().await;
    for coding in CODINGS {
        let stream = unique("packed");
        let path = format!("/v1/streams/{stream}/entries");
        let entry = packed(coding, br#"{"fields":{"n":1}}"#).await;
        let answer = app
            .send(post(&app, &path, "application/json", coding, entry))
            .await;
        assert_eq!(answer.status, 201, "{coding}: {}", answer.body);
        let lines = packed(coding, "{\"fields\":{\"n\":2}}\n".repeat(2000).as_bytes()).await;
        let answer = app
            .send(post(&app, &path, "application/x-ndjson", coding, lines))
            .await;
        assert_eq!(answer.json()["appended"], 2000, "{coding}: {}", answer.body);
        app.put_json(&format!("/v1/streams/{stream}/groups/g"), "{}")
            .await;
        let call = packed(coding, br#"{"consumer":"w","count":3}"#).await;
        let read = format!("/v1/streams/{stream}/groups/g/read");
        let answer = app
            .send(post(&app, &read, "application/json", coding, call))
            .await;
        assert_eq!(answer.ids().len(), 3, "{coding}");
    }
    let path = format!("/v1/streams/{}/entries", unique("unknown"));
    let answer = app
        .send(post(&app, &path, "application/json", "br", b"x".to_vec()))
        .await;
    answer.is_problem(415, "unsupported-media-type");
    assert_eq!(answer.header("accept-encoding"), "gzip, deflate, zstd");
}

#[tokio::test]
async fn what_a_few_bytes_become_is_bounded_in_size_and_in_growth() {
    let app = TestApp::start().await;
    let stream = unique("bomb");
    let path = format!("/v1/streams/{stream}/entries");
    for coding in CODINGS {
        let bomb = packed(coding, &vec![0; 64 << 20]).await;
        let answer = app
            .send(post(&app, &path, "application/octet-stream", coding, bomb))
            .await;
        answer.is_problem(413, "too-large");
        // Within the size limit of a body, but far larger than the compressed body.
        let bomb = packed(coding, &vec![b' '; 7 << 20]).await;
        let answer = app
            .send(post(&app, &path, "application/json", coding, bomb))
            .await;
        let problem = answer.is_problem(413, "too-large");
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .contains("100 times larger"),
            "{problem:#}"
        );
        // The number of lines is not limited, but the compression ratio is.
        let bomb = packed(coding, &vec![b'\n'; 64 << 20]).await;
        let answer = app
            .send(post(&app, &path, "application/x-ndjson", coding, bomb))
            .await;
        assert_eq!(answer.is_problem(413, "too-large")["appended"], 0);
    }
    assert!(app.metric("refused_total{bound=\"inflation\"}").await >= 6);
    assert_eq!(app.metric("body_bytes").await, 0);
    app.get(&format!("/v1/streams/{stream}"))
        .await
        .is_problem(404, "stream-not-found");
    // The growth is limited, not the size: incompressible bodies near the size limit are accepted.
    let mut random = fastrand::Rng::with_seed(1);
    let text: String = (0..7 << 20).map(|_| random.alphanumeric()).collect();
    let body = packed("gzip", text.as_bytes()).await;
    assert_eq!(
        app.send(post(&app, &path, "text/plain", "gzip", body))
            .await
            .status,
        201
    );
    let generous = TestApp::start_with(|settings| settings.api.max_inflation = 10_000).await;
    let body = packed("gzip", &vec![b' '; 7 << 20]).await;
    let answer = generous
        .send(post(&generous, &path, "text/plain", "gzip", body))
        .await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn ranges_are_compressed_for_those_who_ask_and_nothing_that_is_followed_is() {
    let app = TestApp::start().await;
    let stream = unique("ranges");
    let path = format!("/v1/streams/{stream}/entries");
    let batch: Vec<_> = (0..200)
        .map(|n| json!({"fields": {"n": n, "x": "y".repeat(500)}}))
        .collect();
    app.post_json(&path, &json!({"entries": batch}).to_string())
        .await;
    let get = async |query: &str, accept: &str, coding: &str| {
        let request = app.client.get(app.url(&format!("{path}?{query}")));
        let request = request
            .header("accept", accept)
            .header("accept-encoding", coding);
        request.send().await.unwrap()
    };
    for (query, accept) in [
        ("after=0&limit=1000", "application/json"),
        ("after=0", "application/x-ndjson"),
    ] {
        let plain = get(query, accept, "identity").await;
        assert!(!plain.headers().contains_key("content-encoding"));
        let plain = plain.text().await.unwrap();
        for (asked, coding) in [
            ("gzip", "gzip"),
            ("deflate", "deflate"),
            ("zstd", "zstd"),
            ("zstd;q=0.5, gzip", "gzip"),
            ("br, gzip;q=0.1", "gzip"),
        ] {
            let answer = get(query, accept, asked).await;
            assert_eq!(
                answer.headers()["content-encoding"],
                coding,
                "{asked} for {accept}"
            );
            assert!(
                answer.headers()["vary"]
                    .to_str()
                    .unwrap()
                    .contains("accept-encoding")
            );
            assert!(!answer.headers().contains_key("content-length"));
            let bytes = answer.bytes().await.unwrap();
            assert!(bytes.len() < plain.len() / 5, "{asked}: {}", bytes.len());
            assert_eq!(
                unpacked(coding, &bytes).await,
                plain,
                "{asked} for {accept}"
            );
        }
    }
    let many = app
        .client
        .get(app.url(&format!("/v1/entries?stream={stream}@0")));
    let many = many.header("accept-encoding", "gzip").send().await.unwrap();
    assert_eq!(many.headers()["content-encoding"], "gzip");
    // Small bodies, endless responses and problems are not compressed.
    for (query, accept) in [
        ("last=1", "application/json"),
        ("follow=true&after=0", "application/x-ndjson"),
        ("after=x", "application/json"),
    ] {
        let answer = get(query, accept, "gzip").await;
        assert!(
            !answer.headers().contains_key("content-encoding"),
            "{query}"
        );
    }
    let events = app
        .client
        .get(app.url(&format!("/v1/streams/{stream}/events?after=0")));
    let events = events
        .header("accept-encoding", "gzip, zstd")
        .send()
        .await
        .unwrap();
    assert!(!events.headers().contains_key("content-encoding"));
    eventually("what was compressed is given back", async || {
        app.metric("answer_bytes").await == 0
    })
    .await;
}
