//! HTTP/2 with clients that control every frame: the effect of streams, windows and resets on a
//! gateway, and its responses.

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::{Builder, SendRequest};
use hyper::{Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use crate::support::{PATIENCE, TestApp, elapse, eventually, unique};

type Ended = JoinHandle<Result<(), h2::Error>>;

/// Opens a plaintext connection. Returns its sender and the task that drives it.
async fn connect(app: &TestApp, change: impl FnOnce(&mut Builder)) -> (SendRequest<Bytes>, Ended) {
    let stream = TcpStream::connect(app.address).await.unwrap();
    let mut builder = Builder::new();
    change(&mut builder);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    (send, tokio::spawn(connection))
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://localhost{path}"))
        .body(())
        .unwrap()
}

async fn answer(
    send: &SendRequest<Bytes>,
    request: Request<()>,
) -> Result<Response<h2::RecvStream>, h2::Error> {
    let mut send = send.clone().ready().await?;
    let (response, _) = send.send_request(request, true)?;
    tokio::time::timeout(PATIENCE, response)
        .await
        .expect("an answer in time")
}

async fn status(send: &SendRequest<Bytes>, request: Request<()>) -> u16 {
    answer(send, request).await.unwrap().status().as_u16()
}

async fn ends(ended: Ended) -> Result<(), h2::Error> {
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the connection ends")
        .unwrap()
}

#[tokio::test]
async fn the_authority_is_checked_like_a_host() {
    let app = TestApp::start().await;
    let (send, _ended) = connect(&app, |_| {}).await;
    let to = |authority: &str| Request::get(format!("http://{authority}/v1/streams"));
    assert_eq!(
        status(&send, to("localhost:80").body(()).unwrap()).await,
        200
    );
    assert_eq!(
        status(&send, to("evil.example").body(()).unwrap()).await,
        403
    );
    for host in ["evil.example", "LOCALHOST"] {
        let expected = if host == "LOCALHOST" { 200 } else { 400 };
        let request = to("localhost").header("host", host).body(()).unwrap();
        assert_eq!(status(&send, request).await, expected, "{host}");
    }
    let hidden = to("evil.example")
        .header("host", "localhost")
        .body(())
        .unwrap();
    assert_eq!(status(&send, hidden).await, 400);
    let origin = to("localhost")
        .header("origin", "https://evil.example")
        .body(())
        .unwrap();
    assert_eq!(status(&send, origin).await, 403);
}

#[tokio::test]
async fn the_protocol_is_told_however_slowly_it_comes() {
    let app = TestApp::start().await;
    // Requests that begin like HTTP/2 but are not.
    for request in [
        "PUT /v1/streams/a/b HTTP/1.1\r\n",
        "P",
        "PRIVATE / HTTP/1.1\r\n",
    ] {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for byte in request.bytes() {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        stream
            .write_all(b"host: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let expected = if request == "P" {
            "HTTP/1.1 400"
        } else {
            "HTTP/1.1 40"
        };
        assert!(answer.starts_with(expected), "{request}: {answer}");
    }
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    // The preface and empty settings, one byte at a time.
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for byte in begin {
        stream.write_all(&[*byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the settings of the other side: {head:?}");
}

#[tokio::test]
async fn an_answer_that_is_left_unread_is_reset_and_its_neighbours_go_on() {
    let app =
        TestApp::start_with(|settings| settings.server.write_timeout = Duration::from_millis(500))
            .await;
    let stream = unique("unread");
    for _ in 0..8 {
        app.publish(&stream, &"x".repeat(100_000)).await;
    }
    let (send, _ended) = connect(&app, |builder| {
        builder.initial_window_size(1000);
    })
    .await;
    let mut left = Vec::new();
    for path in ["entries", "entries?after=0&follow=true", "events?after=0"] {
        let mut request = get(&format!("/v1/streams/{stream}/{path}"));
        if path.contains("follow") {
            request
                .headers_mut()
                .insert("accept", "application/x-ndjson".parse().unwrap());
        }
        left.push(answer(&send, request).await.unwrap());
    }
    for response in left {
        let mut body = response.into_body();
        let last = async {
            loop {
                match body.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return error.reason(),
                    None => panic!("the answer ends"),
                }
            }
        };
        let reason = tokio::time::timeout(PATIENCE, last)
            .await
            .expect("a reset in time");
        assert_eq!(reason, Some(Reason::CANCEL));
        assert_eq!(status(&send, get("/livez")).await, 200);
    }
    assert_eq!(
        app.metric_if_any("refused_total{bound=\"unread\"}").await,
        Some(3)
    );
    assert_eq!(app.metric("subscriptions").await, 0);
}

#[tokio::test]
async fn a_client_that_takes_its_time_gets_all_of_an_answer() {
    let app =
        TestApp::start_with(|settings| settings.server.write_timeout = Duration::from_millis(700))
            .await;
    let stream = unique("slow");
    app.publish(&stream, &"x".repeat(120_000)).await;
    let (send, _ended) = connect(&app, |builder| {
        builder.initial_window_size(16 << 10);
    })
    .await;
    let answer = answer(&send, get(&format!("/v1/streams/{stream}/entries")))
        .await
        .unwrap();
    let (mut body, mut read) = (answer.into_body(), 0);
    while let Some(part) = body.data().await {
        let part = part.expect("it is not reset");
        read += part.len();
        elapse(200, "in total longer than a response may stay unread").await;
        body.flow_control().release_capacity(part.len()).unwrap();
    }
    assert!(read > 120_000);
    assert_eq!(
        app.metric_if_any("refused_total{bound=\"unread\"}").await,
        Some(0)
    );
}

#[tokio::test]
async fn whoever_takes_back_every_request_is_sent_away() {
    let app = TestApp::start().await;
    let (send, ended) = connect(&app, |_| {}).await;
    let path = format!("/v1/streams/{}/entries?after=0&wait=20s", unique("taken"));
    let flood = async {
        loop {
            let mut send = send.clone().ready().await?;
            let (response, mut request) = send.send_request(get(&path), true)?;
            // The yield lets the gateway accept the request first, so that it has the cost of a
            // request.
            tokio::task::yield_now().await;
            request.send_reset(Reason::CANCEL);
            drop(response);
        }
    };
    let flooded: Result<(), h2::Error> = tokio::time::timeout(PATIENCE, flood)
        .await
        .expect("it is sent away");
    assert!(flooded.is_err());
    drop(send);
    let _ = ends(ended).await;
    eventually("nobody waits", async || {
        app.metric("waiting_reads").await == 0
    })
    .await;
    assert_eq!(app.get("/livez").await.status, 200);
}

#[tokio::test]
async fn a_connection_that_has_nothing_to_do_is_closed_and_one_that_has_is_not() {
    let app = TestApp::start_with(|settings| {
        settings.server.header_timeout = Duration::from_millis(300);
        settings.server.idle_timeout = Duration::from_millis(300);
    })
    .await;
    let (busy, busy_ended) = connect(&app, |_| {}).await;
    let events = answer(
        &busy,
        get(&format!("/v1/streams/{}/events", unique("busy"))),
    )
    .await
    .unwrap();
    // A connection without requests, one with a single request, and one that stops in the middle of
    // a head.
    let (_silent, silent_ended) = connect(&app, |_| {}).await;
    let (once, once_ended) = connect(&app, |_| {}).await;
    assert_eq!(status(&once, get("/livez")).await, 200);
    let mut half = TcpStream::connect(app.address).await.unwrap();
    half.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    half.write_all(b"\0\0\x64\x01\x01\0\0\0\x01\x82")
        .await
        .unwrap();
    let _ = ends(silent_ended).await;
    let _ = ends(once_ended).await;
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, half.read_to_end(&mut rest))
        .await
        .expect("it is closed");
    assert!(!busy_ended.is_finished());
    assert_eq!(status(&busy, get("/livez")).await, 200);
    drop(events);
}

#[tokio::test]
async fn heads_and_streams_are_bounded() {
    let app = TestApp::start_with(|settings| {
        settings.server.max_header_size = 8 << 10;
        settings.server.max_streams = 3;
    })
    .await;
    let (mut send, _ended) = connect(&app, |_| {}).await;
    let mut large = get("/livez");
    large
        .headers_mut()
        .insert("x", "x".repeat(9 << 10).parse().unwrap());
    assert_eq!(status(&send, large).await, 431);
    let mut many = get("/livez");
    for n in 0..300 {
        many.headers_mut().insert(
            hyper::header::HeaderName::try_from(format!("x-{n}")).unwrap(),
            "1".parse().unwrap(),
        );
    }
    assert_eq!(status(&send, many).await, 431);
    assert_eq!(status(&send, get("/livez")).await, 200);
    eventually("the bound is told", async || {
        send.current_max_send_streams() == 3
    })
    .await;
    let path = format!("/v1/streams/{}/entries?after=0&wait=20s", unique("three"));
    let waiting: Vec<_> = (0..5)
        .map(|_| send.send_request(get(&path), true))
        .collect();
    eventually("three wait", async || {
        app.metric("waiting_reads").await == 3
    })
    .await;
    assert!(waiting.iter().filter(|sent| sent.is_ok()).count() >= 3);
    assert_eq!(
        app.metric("waiting_reads").await,
        3,
        "the rest wait in the client"
    );
    drop(waiting);
    eventually("none waits", async || {
        app.metric("waiting_reads").await == 0
    })
    .await;
}

#[tokio::test]
async fn a_client_of_http_2_that_is_one_too_many_is_told_so() {
    let app = TestApp::start_with(|settings| settings.server.max_connections = 1).await;
    let (first, _ended) = connect(&app, |_| {}).await;
    assert_eq!(status(&first, get("/livez")).await, 200);
    let (second, ended) = connect(&app, |_| {}).await;
    assert_eq!(status(&second, get("/v1/streams")).await, 503);
    let _ = ends(ended).await;
    assert_eq!(status(&first, get("/livez")).await, 200);
}

#[tokio::test]
async fn a_peer_that_does_not_answer_holds_up_no_stop() {
    let app = TestApp::start().await;
    let mut mute = TcpStream::connect(app.address).await.unwrap();
    mute.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let mut first = [0; 9];
    mute.read_exact(&mut first).await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), app.stop())
        .await
        .expect("it stops in time");
}
