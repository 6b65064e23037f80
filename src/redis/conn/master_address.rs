//! Failover behind one address. Records for readiness that the server rejects writes, and
//! reconnects when the address leads to another server.
//!
//! A managed Redis or a proxy may switch an address to another server. Open connections stay with
//! the old server, which is a replica from then on. After a READONLY error, the gateway opens a new
//! connection and tries a write: if the write succeeds, the gateway replaces all connections.

use std::time::Duration;

use deadpool_redis::redis::{Cmd, Value};

use crate::redis::conn::dial::probe_key;
use crate::redis::conn::pool::Connections;
use crate::redis::conn::send_options::{RetryPolicy, SendOptions};
use crate::redis::error::StoreError;

/// Shortest and longest pause between attempts to find a writable server; doubles each time.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
impl Connections {
    /// After a rejected write, checks whether the same address now leads to a writable server, and
    /// moves all connections there.
    pub(in crate::redis) async fn follow_address(&self) {
        loop {
            self.writes.called.notified().await;
            let mut pause = RETRY.0;
            loop {
                match self
                    .command(&probe(), SendOptions::maintenance(RetryPolicy::Unsafe))
                    .await
                {
                    Err(StoreError::ReadOnly(_)) if self.settings.sentinels.is_none() => {
                        self.move_if_new_connections_write().await;
                    }
                    // Sentinels name a new master themselves. An unreachable server is retried.
                    Err(error) if error.is_outage_for_writes() => {}
                    _ => break,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
            if self.writes.refused.send_replace(None).is_some() {
                tracing::info!("Redis accepts writes again");
            }
        }
    }

    async fn move_if_new_connections_write(&self) {
        let Ok(endpoint) = self.endpoint() else {
            return;
        };
        let written = async {
            let wire = endpoint.fresh().await?;
            let wrote = probe().query_async::<Value>(&mut wire.handle.clone()).await;
            wrote.map_err(StoreError::from)
        };
        match written.await {
            Err(error) if error.is_outage_for_writes() => {}
            _ => {
                let address = endpoint.target.info.addr();
                tracing::warn!("{address} leads to another server; replacing all connections");
                if let Err(error) = self.use_endpoint_at(endpoint.target.info.clone()) {
                    tracing::error!(%error, "cannot replace the connections to Redis");
                }
            }
        }
    }
}

/// Returns a write command that changes nothing.
fn probe() -> Cmd {
    let mut command = Cmd::new();
    command.arg("DEL").arg(probe_key());
    command
}
