//! Hearing that entries of a group were freed: one connection that listens for all groups.

use std::time::Duration;

use deadpool_redis::redis::aio::{PubSub, PubSubSink, PubSubStream};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::model::name::{GroupName, StreamName};
use crate::redis::group::leases::channel;
use crate::redis::{Store, StoreError};

/// Says which groups are to be heard of.
pub struct Ear {
    sink: PubSubSink,
    patience: Duration,
}

/// What is heard.
pub struct Calls {
    stream: PubSubStream,
    left: CancellationToken,
}

impl Store {
    /// The channel of a group, as [`Calls::next`] names it.
    #[must_use]
    pub fn wake_channel(stream: &StreamName, group: &GroupName) -> String {
        channel(stream, group)
    }

    /// A connection of its own that listens, to nothing yet.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`].
    /// # Cancel safety
    /// Safe.
    pub async fn listen(&self) -> Result<(Ear, Calls), StoreError> {
        let (site, patience) = (
            self.connections.site()?,
            self.connections.settings.connect_timeout,
        );
        let made = async {
            let (login, socket) = (site.target.login().await?, site.target.socket().await?);
            PubSub::new(&login, socket).await.map_err(StoreError::from)
        };
        let made = tokio::time::timeout(patience, made)
            .await
            .unwrap_or(Err(StoreError::Timeout));
        let (sink, stream) = made
            .map_err(|error| StoreError::Unreachable(error.cause()))?
            .split();
        // Whoever is called next is not to lose a command on a connection that died meanwhile.
        self.connections.check().await;
        Ok((
            Ear { sink, patience },
            Calls {
                stream,
                left: site.left.clone(),
            },
        ))
    }
}

impl Ear {
    /// Listens to a channel: what is told after this returns is heard.
    ///
    /// # Errors
    /// That Redis is away; the connection is of no further use then.
    pub async fn open(&mut self, channel: &str) -> Result<(), StoreError> {
        within(self.patience, self.sink.subscribe(channel)).await
    }

    /// Listens to a channel no more.
    ///
    /// # Errors
    /// As [`Ear::open`].
    pub async fn close(&mut self, channel: &str) -> Result<(), StoreError> {
        within(self.patience, self.sink.unsubscribe(channel)).await
    }

    /// Whether anything could be heard: a connection that is half open says nothing for ever.
    ///
    /// # Errors
    /// As [`Ear::open`].
    pub async fn test(&mut self) -> Result<(), StoreError> {
        let ping = self.sink.ping::<deadpool_redis::redis::Value>();
        within(self.patience, ping).await.map(drop)
    }
}

impl Calls {
    /// What is told next: the channel, and in how many milliseconds something falls due; 0 for now.
    /// `None` when the connection is gone, or goes to a server that is no longer used.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn next(&mut self) -> Option<(String, u64)> {
        let message = self.left.run_until_cancelled(self.stream.next()).await??;
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
