//! Wake-ups when entries of a group are released: one subscriber connection for all groups.

use std::time::Duration;

use deadpool_redis::redis::aio::{PubSub, PubSubSink, PubSubStream};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::model::name::{GroupName, StreamName};
use crate::redis::keys;
use crate::redis::{Store, StoreError};

/// The sending half of a subscriber connection, which subscribes to channels.
pub struct WakeSubscriber {
    sink: PubSubSink,
    patience: Duration,
}

/// The receiving half of a subscriber connection.
pub struct WakeMessages {
    stream: PubSubStream,
    replaced: CancellationToken,
}

impl Store {
    /// Returns the wake-up channel of a group, as returned by [`WakeMessages::next`].
    #[must_use]
    pub fn wake_channel(stream: &StreamName, group: &GroupName) -> String {
        keys::wake_channel(stream, group)
    }

    /// Opens a subscriber connection without subscriptions.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`].
    /// # Cancel safety
    /// Cancel safe.
    pub async fn listen(&self) -> Result<(WakeSubscriber, WakeMessages), StoreError> {
        // Every node of a cluster passes on what is published on any of them.
        let node = self.nodes.node(None)?;
        let (endpoint, patience) = (node.endpoint()?, self.nodes.settings.connect_timeout);
        let made = async {
            let (login, socket) = (
                endpoint.target.login().await?,
                endpoint.target.socket().await?,
            );
            PubSub::new(&login, socket).await.map_err(StoreError::from)
        };
        let made = tokio::time::timeout(patience, made)
            .await
            .unwrap_or(Err(StoreError::Timeout));
        let (sink, stream) = made
            .map_err(|error| StoreError::Unreachable(error.cause()))?
            .split();
        // Replaces dead shared connections, so that a woken reader does not lose a command on one.
        node.check().await;
        Ok((
            WakeSubscriber { sink, patience },
            WakeMessages {
                stream,
                replaced: endpoint.replaced.clone(),
            },
        ))
    }
}

impl WakeSubscriber {
    /// Subscribes to a channel. Messages published after this returns are received.
    ///
    /// # Errors
    /// An outage of Redis; the connection is unusable then.
    pub async fn open(&mut self, channel: &str) -> Result<(), StoreError> {
        within(self.patience, self.sink.subscribe(channel)).await
    }

    /// Unsubscribes from a channel.
    ///
    /// # Errors
    /// Same as [`WakeSubscriber::open`].
    pub async fn close(&mut self, channel: &str) -> Result<(), StoreError> {
        within(self.patience, self.sink.unsubscribe(channel)).await
    }

    /// Pings the connection to detect a half-open one, which would stay silent forever.
    ///
    /// # Errors
    /// Same as [`WakeSubscriber::open`].
    pub async fn test(&mut self) -> Result<(), StoreError> {
        let ping = self.sink.ping::<deadpool_redis::redis::Value>();
        within(self.patience, ping).await.map(drop)
    }
}

impl WakeMessages {
    /// Returns the next message: the channel, and the milliseconds until an entry becomes due (0
    /// for now). Returns `None` when the connection is closed, or its server is no longer used.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<(String, u64)> {
        let message = self
            .replaced
            .run_until_cancelled(self.stream.next())
            .await??;
        let due_ms = std::str::from_utf8(message.get_payload_bytes()).ok();
        let due_ms = due_ms.and_then(|text| text.parse().ok()).unwrap_or(0);
        Some((message.get_channel_name().to_owned(), due_ms))
    }
}

async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, deadpool_redis::redis::RedisError>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(patience, call).await {
        Ok(done) => done.map_err(StoreError::from),
        Err(_) => Err(StoreError::Timeout),
    }
}
