//! A server that takes no writes: noted for readiness, and left when its address leads elsewhere.
//!
//! Behind one address (a managed Redis, a proxy) another server may come to stand, while connections
//! that are open stay with the old one, which is a replica from then on. So after READONLY a new
//! connection is made and tried: if that one takes writes, all others are made anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_redis::redis::{Cmd, Value};
use tokio::sync::{Notify, watch};

use crate::redis::conn::dial::probe_key;
use crate::redis::conn::pool::{Connections, Repeat};
use crate::redis::error::StoreError;

/// Between attempts to find a server that takes writes: doubled up to the greatest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
/// How often the log tells of one and the same right that is missing.
const TELL_AGAIN: Duration = Duration::from_secs(600);
/// Causes that are remembered as told.
const TOLD: usize = 64;

/// What the server does not let the gateway do.
#[derive(Default)]
pub(in crate::redis) struct Writes {
    /// Why the server takes no writes, if so. Written by `heed` and `follow_address`.
    refused: watch::Sender<Option<String>>,
    /// Called when a write was refused.
    called: Notify,
    /// Rights that are missing, with the time they were last told of.
    told: Mutex<HashMap<String, Instant>>,
}

impl Writes {
    /// Notes an error that concerns all writes, and logs a missing right, once.
    pub(in crate::redis) fn heed(&self, error: &StoreError) {
        match error {
            StoreError::ReadOnly(text) | StoreError::NotWriting(text) => {
                self.refused.send_if_modified(|refused| {
                    let new = refused.is_none();
                    if new {
                        tracing::warn!("Redis takes no writes: {text}");
                        *refused = Some(text.clone());
                    }
                    new
                });
                self.called.notify_one();
            }
            StoreError::Denied(text) => self.tell(text),
            _ => {}
        }
    }

    /// Why the server takes no writes, if so.
    pub(in crate::redis) fn refused(&self) -> Option<String> {
        self.refused.borrow().clone()
    }

    fn tell(&self, text: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        told.retain(|_, at| now.duration_since(*at) < TELL_AGAIN);
        if told.len() < TOLD && told.insert(text.to_owned(), now).is_none() {
            tracing::error!("the gateway's Redis user lacks a right: {text}");
        }
    }
}

impl Connections {
    /// After a refused write, looks for a server that takes writes at the same address, and moves
    /// all connections there.
    pub(in crate::redis) async fn follow_address(&self) {
        loop {
            self.writes.called.notified().await;
            let mut pause = RETRY.0;
            loop {
                match self.command(&probe(), Repeat::Unsafe, 0).await {
                    Err(StoreError::ReadOnly(_)) if self.settings.sentinels.is_none() => {
                        self.move_if_new_connections_write().await;
                    }
                    // Sentinels name another server, and who cannot be reached is waited for.
                    Err(error) if error.is_outage_for_writes() => {}
                    _ => break,
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
            if self.writes.refused.send_replace(None).is_some() {
                tracing::info!("Redis takes writes again");
            }
        }
    }

    async fn move_if_new_connections_write(&self) {
        let Ok(site) = self.site() else { return };
        let written = async {
            let wire = site.fresh().await?;
            let wrote = probe().query_async::<Value>(&mut wire.handle.clone()).await;
            wrote.map_err(StoreError::from)
        };
        match written.await {
            Err(error) if error.is_outage_for_writes() => {}
            _ => {
                let address = site.target.info.addr();
                tracing::warn!("{address} leads to another server: all connections are made anew");
                if let Err(error) = self.move_to(site.target.info.clone()) {
                    tracing::error!(%error, "no connections can be made");
                }
            }
        }
    }
}

/// A write that changes nothing.
fn probe() -> Cmd {
    let mut command = Cmd::new();
    command.arg("DEL").arg(probe_key());
    command
}
