//! Writes that wait until replicas or the disk have them: WAIT and WAITAOF, which speak of what
//! was written over their own connection.

use std::time::Duration;

use deadpool_redis::redis::Cmd;

use crate::model::name::StreamName;
use crate::redis::conn::endpoint::{Kind, MAX_DURABILITY_WAIT};
use crate::redis::decode::{bytes, tuple, unsigned};
use crate::redis::{Blocking, Lane, Store, StoreError};

/// Seconds since a replica was last heard of, beyond which the replica does not keep up.
const MAX_LAG: u32 = 3;

/// What a write is to have reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The memory of so many replicas.
    Replicas(u32),
    /// The disk of the server.
    Fsync,
}

/// What a write has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Replicas that have it in memory; of [`Durability::Fsync`], on disk.
    pub replicas: u64,
    /// Whether the server has it on disk, where that was asked.
    pub fsync: Option<bool>,
    /// Whether it is what was asked for.
    pub enough: bool,
}

/// An exclusive connection for writes and the wait for them. Closed when dropped before the wait
/// has ended.
pub struct Durable {
    connection: Option<Blocking>,
    wanted: Durability,
}

impl Store {
    /// A connection for writes that are to reach `wanted`.
    ///
    /// # Errors
    /// [`StoreError::NotSupported`] when this server cannot do that, [`StoreError::Exhausted`] when
    /// all such connections are in use, or that Redis is away. Nothing was written then.
    /// # Cancel safety
    /// Writes nothing.
    pub async fn durable(&self, wanted: Durability) -> Result<Durable, StoreError> {
        let connection = match self.connections.exclusive(Kind::Durable).await {
            Err(StoreError::Exhausted(which)) => {
                return Err(self
                    .why_all_wait(wanted, StoreError::Exhausted(which))
                    .await);
            }
            connection => connection?,
        };
        let durable = Durable {
            connection: Some(connection),
            wanted,
        };
        if wanted == Durability::Fsync {
            // Nothing was written yet, so this does not wait; but a server that keeps no file, or
            // does not know the command, says so now and not after the entry is there.
            let mut trial = Cmd::new();
            trial.arg("WAITAOF").arg(1).arg(0).arg(1);
            let refused = |error: StoreError| match error {
                StoreError::Unexpected(text) => StoreError::NotSupported(text),
                error => error,
            };
            self.write_on(&durable.lane(), &trial)
                .await
                .map_err(refused)?;
        }
        Ok(durable)
    }

    /// The cause of all connections being in use: too few replicas, if that is so.
    async fn why_all_wait(&self, wanted: Durability, exhausted: StoreError) -> StoreError {
        let Durability::Replicas(wanted) = wanted else {
            return exhausted;
        };
        let mut command = Cmd::new();
        command.arg("INFO").arg("replication");
        match self.read(&command).await.and_then(bytes) {
            Ok(info) => match keeping_up(&String::from_utf8_lossy(&info)) {
                there if there < wanted => StoreError::FewReplicas { wanted, there },
                _ => exhausted,
            },
            Err(_) => exhausted,
        }
    }

    /// Waits until what was written over this connection has reached what was wanted, at most
    /// `timeout`. With `again`, nothing was written now: what the stream was given before counts.
    ///
    /// # Errors
    /// That Redis is away: what was written is there, but how safely is not known.
    /// # Cancel safety
    /// Changes nothing; the connection is closed when this is dropped.
    pub async fn reach(
        &self,
        mut durable: Durable,
        stream: &StreamName,
        again: Option<u64>,
        timeout: Duration,
    ) -> Result<Reached, StoreError> {
        let lane = durable.lane();
        if let Some(window_ms) = again {
            // Redis waits for the last write of a connection, so there has to be one: what is
            // remembered of the keys is remembered a little longer.
            self.write_on(&lane, &Self::touch_keys(stream, window_ms))
                .await?;
        }
        let ms = u64::try_from(timeout.min(MAX_DURABILITY_WAIT).as_millis())
            .unwrap_or(1)
            .max(1);
        let mut wait = Cmd::new();
        let reached = match durable.wanted {
            Durability::Replicas(wanted) => {
                wait.arg("WAIT").arg(wanted).arg(ms);
                let replicas = unsigned(&self.write_on(&lane, &wait).await?)?;
                Reached {
                    replicas,
                    fsync: None,
                    enough: replicas >= u64::from(wanted),
                }
            }
            Durability::Fsync => {
                wait.arg("WAITAOF").arg(1).arg(0).arg(ms);
                let [local, replicas] = tuple(self.write_on(&lane, &wait).await?)?;
                let synced = unsigned(&local)? > 0;
                Reached {
                    replicas: unsigned(&replicas)?,
                    fsync: Some(synced),
                    enough: synced,
                }
            }
        };
        // Everything was answered: the connection may be used again.
        drop(durable.connection.take());
        Ok(reached)
    }
}

/// Replicas that acknowledge what they are sent: `slave0:ip=…,port=…,state=online,offset=…,lag=0`.
fn keeping_up(info: &str) -> u32 {
    let lag = |line: &str| line.rsplit_once("lag=")?.1.trim().parse::<u32>().ok();
    let replicas = info.lines().filter(|line| line.contains("state=online"));
    let up = replicas
        .filter(|line| lag(line).is_some_and(|lag| lag <= MAX_LAG))
        .count();
    u32::try_from(up).unwrap_or(u32::MAX)
}

impl Durable {
    /// Where the writes go.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match &self.connection {
            Some(connection) => Lane::Own(connection.handle()),
            // Taken only by `reach`, which consumes this.
            None => Lane::Shared,
        }
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.discard();
        }
    }
}
