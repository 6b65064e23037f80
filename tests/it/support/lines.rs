//! A streaming NDJSON reader.

use futures_util::StreamExt as _;
use serde_json::Value;

use super::PATIENCE;

/// A response that is read line by line.
pub struct Lines {
    pub status: u16,
    bytes: futures_util::stream::BoxStream<'static, Result<bytes::Bytes, reqwest::Error>>,
    buffer: Vec<u8>,
}

impl Lines {
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = tokio::time::timeout(PATIENCE, request.send())
            .await
            .unwrap()
            .unwrap();
        let status = response.status().as_u16();
        Self {
            status,
            bytes: response.bytes_stream().boxed(),
            buffer: Vec::new(),
        }
    }

    /// Returns the next line that is not empty, or `None` when the response has ended.
    pub async fn next(&mut self) -> Option<Value> {
        tokio::time::timeout(PATIENCE, self.read())
            .await
            .expect("a line in time")
    }

    /// Returns all remaining lines.
    pub async fn rest(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        while let Some(line) = self.next().await {
            all.push(line);
        }
        all
    }

    async fn read(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if line.len() > 1 {
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                continue;
            }
            self.buffer
                .extend_from_slice(&self.bytes.next().await?.ok()?);
        }
    }
}
