//! Master discovery through sentinels; moves all connections when the master changes.
//!
//! The gateway queries all sentinels at once, every second and when something suggests a failover.
//! It also subscribes to the sentinels' channels, which usually report a promotion first.
//!
//! The sentinel with the newest epoch decides, because each failover has a greater epoch than those
//! before. Without epochs, a sentinel that was partitioned could name an old master, which may
//! still be running and accept writes that are lost later. Among equal epochs, the majority
//! decides.
//!
//! The gateway checks the role of a named server before using it. While no sentinel answers, the
//! gateway keeps using its current server.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::redis::aio::PubSub;
use deadpool_redis::redis::{Cmd, ConnectionAddr, ConnectionInfo};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use crate::redis::StoreError;
use crate::redis::conn::dial::{MultiplexedHandle, Target, connecting};
use crate::redis::conn::pool::Connections;
use crate::redis::conn::settings::{PoolSettings, Sentinels};

/// Longest interval between queries.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// Shortest interval between queries, however many failures occur.
const ASK_PAUSE: Duration = Duration::from_millis(150);
/// Time to wait for the remaining sentinels once a majority agrees. Without this wait, the gateway
/// would reconnect to the slowest sentinel each time.
const REST_WITHIN: Duration = Duration::from_millis(100);

/// Sentinel events at the start and at the end of the promotion of a replica.
const PROMOTIONS: [&str; 2] = ["+promoted-slave", "+switch-master"];
/// Pause between attempts to subscribe to a sentinel.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// A sentinel.
struct SentinelNode {
    target: Target,
    /// Kept while the sentinel answers; dropped with a query that timed out.
    connection: Option<MultiplexedHandle>,
}

/// The answer of a sentinel: the epoch of the last failover it knows (0 if it does not report one),
/// and the address of the master.
type MasterReport = (u64, ConnectionAddr);

/// Reasons why no master is available.
#[derive(Clone, Debug, thiserror::Error)]
enum MasterUnavailable {
    #[error("no sentinel answers: {0}")]
    Silent(String),
    #[error("no sentinel knows a master called {0:?}")]
    Unknown(String),
    #[error("the sentinels name a server that cannot be used: {0}")]
    Useless(String),
}

/// The set of sentinels, queried from one task.
struct SentinelSet<'a> {
    nodes: Vec<SentinelNode>,
    /// Name of the master in the sentinels' configuration.
    master: &'a str,
    /// Settings for connecting to the server they name.
    settings: &'a PoolSettings,
    /// Epoch of the server in use.
    epoch: u64,
}

impl Connections {
    /// Follows the master that the sentinels name, without end. Does nothing if no sentinels are
    /// configured.
    pub(in crate::redis) async fn follow_master(&self) {
        let Some(sentinels) = &self.settings.sentinels else {
            return std::future::pending().await;
        };
        let listening = sentinels
            .nodes
            .iter()
            .map(|info| self.listen_to(info, &sentinels.master));
        tokio::join!(self.ask_for_master(sentinels), join_all(listening));
    }

    /// Subscribes to a sentinel and triggers a query of all sentinels when it reports a promotion.
    /// A sentinel that denies the subscription is only queried.
    async fn listen_to(&self, info: &ConnectionInfo, master: &str) {
        let target = Target::with_own_login(&self.settings, info.clone());
        loop {
            match self.hear_promotions(&target, master).await {
                Err(StoreError::Denied(_)) => return,
                Err(error) => tracing::debug!(%error, "cannot subscribe to a sentinel; retrying"),
                Ok(()) => {}
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    }

    /// Receives promotion events over one connection until it closes.
    async fn hear_promotions(&self, target: &Target, master: &str) -> Result<(), StoreError> {
        let subscribed = async {
            let (login, socket) = (target.login().await?, target.socket().await?);
            let mut events = PubSub::new(&login, socket).await?;
            events.subscribe(&PROMOTIONS).await?;
            Ok::<_, StoreError>(events)
        };
        let patience = self.settings.connect_timeout;
        let events = timeout(patience, subscribed)
            .await
            .unwrap_or(Err(StoreError::Timeout))?;
        let mut events = events.into_on_message();
        while let Some(event) = events.next().await {
            let text = event.get_payload::<String>().unwrap_or_default();
            if text.split(' ').any(|word| word == master) {
                self.suspected.notify_one();
            }
        }
        Ok(())
    }

    async fn ask_for_master(&self, sentinels: &Sentinels) {
        let mut asked = SentinelSet {
            nodes: sentinels
                .nodes
                .iter()
                .map(|info| SentinelNode::new(&self.settings, info))
                .collect(),
            master: &sentinels.master,
            settings: &self.settings,
            epoch: 0,
        };
        // The problem logged last. Logged again every second, it would flood the log.
        let mut logged = None;
        loop {
            let used = self
                .endpoint()
                .ok()
                .map(|endpoint| endpoint.target.info.addr().clone());
            match asked.for_master(used.as_ref()).await {
                Ok(master) => {
                    if logged.take().is_some() {
                        tracing::info!(%master, "the sentinels name a master again");
                    }
                    if used.as_ref() != Some(&master) {
                        self.follow_to(master, used.as_ref());
                    }
                }
                Err(trouble) => {
                    let kind = std::mem::discriminant(&trouble);
                    if logged.replace(kind) != Some(kind) {
                        let goes_on = used.map(|used| used.to_string());
                        tracing::warn!(error = %trouble, goes_on, "cannot find the Redis master through the sentinels");
                    }
                    self.has_no_endpoint(&trouble.to_string());
                }
            }
            tokio::time::sleep(ASK_PAUSE).await;
            tokio::select! {
                () = tokio::time::sleep(ASK_EVERY) => {}
                () = self.suspected.notified() => {}
            }
        }
    }

    fn follow_to(&self, master: ConnectionAddr, before: Option<&ConnectionAddr>) {
        match before {
            None => tracing::info!(%master, "the sentinels name the master"),
            Some(before) => tracing::warn!(%master, %before, "the Redis master changed"),
        }
        if let Err(error) = self.use_endpoint_at(self.settings.connection.clone().set_addr(master))
        {
            tracing::error!(%error, "cannot use the new Redis master");
        }
    }
}

impl SentinelSet<'_> {
    /// Returns the address of the master: `used` if it is still named, or a named server that
    /// reports the role of a master.
    async fn for_master(
        &mut self,
        used: Option<&ConnectionAddr>,
    ) -> Result<ConnectionAddr, MasterUnavailable> {
        let mut useless = String::new();
        for (epoch, address) in self.named(used).await? {
            if Some(&address) != used {
                if let Err(why) = self.is_master(&address).await {
                    useless = format!("{address} {why}");
                    continue;
                }
                // The sentinel missed the last failover, and no other sentinel answered.
                if let Some(used) = used
                    && epoch < self.epoch
                    && self.is_master(used).await.is_ok()
                {
                    return Ok(used.clone());
                }
            }
            self.epoch = epoch;
            return Ok(address);
        }
        Err(MasterUnavailable::Useless(useless))
    }

    /// Returns the named masters, most likely first. Once a majority agrees, silent sentinels are
    /// not waited for.
    async fn named(
        &mut self,
        used: Option<&ConnectionAddr>,
    ) -> Result<Vec<MasterReport>, MasterUnavailable> {
        let (all, master, settings) = (self.nodes.len(), self.master, self.settings);
        let (mut named, mut unknown, mut silent) = (Vec::<MasterReport>::new(), false, Vec::new());
        let asking = self.nodes.iter_mut().map(|node| node.ask(master, settings));
        let mut asking: FuturesUnordered<_> = asking.collect();
        let mut until = Instant::now() + settings.connect_timeout + REST_WITHIN;
        while let Ok(Some(answer)) = timeout_at(until, asking.next()).await {
            match answer {
                Ok(Some(one)) => {
                    named.push(one);
                    if named
                        .iter()
                        .filter(|other| Some(*other) == named.last())
                        .count()
                        * 2
                        > all
                    {
                        until = until.min(Instant::now() + REST_WITHIN);
                    }
                }
                Ok(None) => unknown = true,
                Err(why) => silent.push(why),
            }
        }
        if named.is_empty() {
            return Err(match unknown {
                true => MasterUnavailable::Unknown(master.to_owned()),
                false => MasterUnavailable::Silent(silent.join("; ")),
            });
        }
        let votes = |one: &MasterReport| named.iter().filter(|other| *other == one).count();
        let mut best = named.clone();
        best.sort_by_key(|one| Reverse((one.0, votes(one), Some(&one.1) == used)));
        best.dedup();
        Ok(best)
    }

    /// Checks that a server reports the role of a master. Uses INFO, because the gateway's Redis
    /// user may lack permission for ROLE.
    async fn is_master(&self, address: &ConnectionAddr) -> Result<(), String> {
        let asked = async {
            let info = self.settings.connection.clone().set_addr(address.clone());
            let connected = connect(&Target::new(self.settings, info), self.settings).await?;
            let mut command = Cmd::new();
            command.arg("INFO").arg("replication");
            let facts = command
                .query_async::<String>(&mut connected.handle.clone())
                .await;
            facts.map_err(StoreError::from)
        };
        match timeout(self.settings.connect_timeout, asked).await {
            Ok(Ok(facts)) if facts.lines().any(|line| line.trim_end() == "role:master") => Ok(()),
            Ok(Ok(_)) => Err("is not a master".to_owned()),
            // If the server is not a master, the first write fails.
            Ok(Err(StoreError::Denied(_))) => Ok(()),
            Ok(Err(error)) => Err(format!("does not report its role: {}", error.cause())),
            Err(_) => Err("does not answer".to_owned()),
        }
    }
}

impl SentinelNode {
    fn new(settings: &PoolSettings, info: &ConnectionInfo) -> Self {
        Self {
            target: Target::with_own_login(settings, info.clone()),
            connection: None,
        }
    }

    /// Queries the sentinel. Returns `None` if it does not know a master of this name.
    async fn ask(
        &mut self,
        master: &str,
        settings: &PoolSettings,
    ) -> Result<Option<MasterReport>, String> {
        let asked = async {
            let wire = match self.connection.take() {
                Some(kept) => kept,
                None => connect(&self.target, settings).await?,
            };
            let mut connection = wire.handle.clone();
            let ask = |what| {
                let mut command = Cmd::new();
                command.arg("SENTINEL").arg(what).arg(master);
                command
            };
            let place = ask("GET-MASTER-ADDR-BY-NAME")
                .query_async::<Option<(String, u16)>>(&mut connection)
                .await?;
            let Some((host, port)) = place else {
                self.connection = Some(wire);
                return Ok(None);
            };
            // Without permission for this query, the epoch is 0: the answer has less weight.
            let facts = ask("MASTER")
                .query_async::<HashMap<String, String>>(&mut connection)
                .await;
            let epoch = facts
                .ok()
                .and_then(|facts| facts.get("config-epoch")?.parse().ok());
            self.connection = Some(wire);
            let at = beside(&settings.connection, host, port);
            Ok::<_, StoreError>(Some((epoch.unwrap_or(0), at)))
        };
        let answer = timeout(settings.connect_timeout, asked).await;
        let address = self.target.info.addr();
        match answer {
            Ok(answer) => answer.map_err(|error| format!("{address}: {}", error.cause())),
            Err(_) => Err(format!("{address}: no answer in time")),
        }
    }
}

async fn connect(
    target: &Target,
    settings: &PoolSettings,
) -> Result<MultiplexedHandle, StoreError> {
    let config = connecting(settings.connect_timeout);
    target
        .connect(&config, &TaskTracker::new(), &Arc::default())
        .await
}

/// Returns an address with TLS exactly if `like` uses TLS.
pub(in crate::redis) fn beside(like: &ConnectionInfo, host: String, port: u16) -> ConnectionAddr {
    match like.addr() {
        ConnectionAddr::TcpTls { .. } => ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        },
        _ => ConnectionAddr::Tcp(host, port),
    }
}
