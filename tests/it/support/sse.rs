//! An event stream reader that follows the parsing rules of the HTML standard.

use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use reqwest::header::HeaderMap;
use serde_json::Value;

use super::PATIENCE;

/// A server-sent event.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub event: String,
    pub data: String,
    pub retry: Option<u64>,
}

impl Event {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap()
    }
}

/// An open event stream.
pub struct Sse {
    pub status: u16,
    pub headers: HeaderMap,
    /// Body of the response. It also ends when the connection breaks.
    bytes: futures_util::stream::BoxStream<'static, bytes::Bytes>,
    buffer: Vec<u8>,
    /// Number of comments received.
    pub heartbeats: usize,
}

impl Sse {
    pub async fn open(client: &reqwest::Client, url: &str, last_event_id: Option<&str>) -> Self {
        let mut request = client.get(url).header("accept", "text/event-stream");
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        let response = tokio::time::timeout(PATIENCE, request.send())
            .await
            .unwrap()
            .unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self::of(status, headers, response.bytes_stream())
    }

    /// Reads the body of a response.
    pub fn of<E>(
        status: u16,
        headers: HeaderMap,
        body: impl Stream<Item = Result<bytes::Bytes, E>> + Send + 'static,
    ) -> Self {
        let bytes = body
            .scan((), |(), part| std::future::ready(part.ok()))
            .boxed();
        Self {
            status,
            headers,
            bytes,
            buffer: Vec::new(),
            heartbeats: 0,
        }
    }

    /// Returns the next event, or `None` when the stream has ended.
    pub async fn next(&mut self) -> Option<Event> {
        tokio::time::timeout(PATIENCE, self.read())
            .await
            .expect("an event in time")
    }

    /// Returns the next event if one arrives within this time.
    pub async fn soon(&mut self, within: Duration) -> Option<Event> {
        tokio::time::timeout(within, self.read())
            .await
            .ok()
            .flatten()
    }

    /// Returns the next event, which must have this name.
    pub async fn expect(&mut self, name: &str) -> Event {
        let event = self
            .next()
            .await
            .unwrap_or_else(|| panic!("{name}: the stream has ended"));
        assert_eq!(event.event, name, "{event:?}");
        event
    }

    /// Returns the field `n` of the next entries. Panics on any other event.
    pub async fn values(&mut self, count: usize) -> Vec<String> {
        let mut values = Vec::new();
        while values.len() < count {
            let event = self.expect("message").await;
            values.push(event.json()["fields"]["n"].as_str().unwrap().to_owned());
        }
        values
    }

    /// Returns the next event, without a timeout. Cancel-safe.
    pub async fn read(&mut self) -> Option<Event> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
                match parse(&String::from_utf8(block).unwrap()) {
                    Some(event) => return Some(event),
                    None => self.heartbeats += 1,
                }
                continue;
            }
            self.buffer.extend_from_slice(&self.bytes.next().await?);
        }
    }
}

fn parse(block: &str) -> Option<Event> {
    let mut event = Event {
        event: "message".to_owned(),
        ..Event::default()
    };
    let mut data = Vec::new();
    for line in block
        .split(['\n', '\r'])
        .filter(|line| !line.is_empty() && !line.starts_with(':'))
    {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "id" => event.id = Some(value.to_owned()),
            "event" => value.clone_into(&mut event.event),
            "retry" => event.retry = value.parse().ok(),
            "data" => data.push(value.to_owned()),
            other => panic!("a field named {other:?} in {block:?}"),
        }
    }
    event.data = data.join("\n");
    (!data.is_empty()).then_some(event)
}
