//! The path of a call to the node of its key, and redirects.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool_redis::redis::{Pipeline, Value};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::redis::cluster::call::Call;
use crate::redis::cluster::nodes::Nodes;
use crate::redis::cluster::redirect::Redirect;
use crate::redis::cluster::slot::{key_of, slot_of};
use crate::redis::cluster::table::Node;
use crate::redis::conn::send_options::{RetryPolicy, SendOptions};
use crate::redis::error::StoreError;

/// Shortest and longest pause before a command whose slot is being moved is sent again.
const TRY_AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));
/// Number of redirects that are followed without a pause.
const HOPS: u32 = 4;

impl Nodes {
    /// Runs several commands in one round trip. An atomic pipeline runs in MULTI/EXEC, and all its
    /// keys must share a slot. Other commands go to the node of their key.
    ///
    /// # Errors
    /// The meaning of the first failure of any command, see [`StoreError`].
    /// # Cancel safety
    /// Same as [`Nodes::call`].
    pub async fn pipeline(
        &self,
        pipeline: &Pipeline,
        retry: RetryPolicy,
        writer: usize,
    ) -> Result<Vec<Value>, StoreError> {
        let parts = match pipeline.is_transaction() || !self.table().is_cluster() {
            true => Vec::new(),
            false => split(pipeline),
        };
        if parts.len() < 2 {
            return self.call(pipeline, retry, writer).await;
        }
        let calls = parts
            .iter()
            .map(|(_, part, _)| self.call(part, retry, writer));
        let mut replies = vec![Value::Nil; pipeline.len()];
        for ((.., places), of_part) in parts.iter().zip(try_join_all(calls).await?) {
            for (place, reply) in places.iter().zip(of_part) {
                replies[*place] = reply;
            }
        }
        Ok(replies)
    }

    /// Sends a call to the node of its key, and follows redirects. A call that changes something uses
    /// the connection of `writer`.
    ///
    /// # Errors
    /// The meaning of the failure, see [`StoreError`].
    /// # Cancel safety
    /// If dropped, the call may still run; its reply is ignored and the connection stays usable.
    pub async fn call<C: Call>(
        &self,
        call: &C,
        retry: RetryPolicy,
        writer: usize,
    ) -> Result<C::Reply, StoreError> {
        let how = SendOptions {
            retry,
            asking: false,
            writer,
        };
        let table = self.table();
        // A single server needs no key.
        let node = match table.is_cluster() {
            false => table.nodes()[0].clone(),
            true => self.node_in(&table, call.key())?,
        };
        drop(table);
        match call.send_to(&node, how).await {
            Err(StoreError::Elsewhere(redirect)) => {
                Box::pin(self.follow(call, node, redirect, how)).await
            }
            Err(error) => {
                self.suspect(&error);
                Err(error)
            }
            done => done,
        }
    }

    /// Requests a look at the topology after an error that a failover would explain.
    pub fn suspect(&self, error: &StoreError) {
        if error.is_outage() || matches!(error, StoreError::ReadOnly(_)) {
            self.refresh.notify_one();
        }
    }

    /// Follows redirects until the call runs or the response timeout has passed. Each redirect
    /// proves that the call did not run.
    async fn follow<C: Call>(
        &self,
        call: &C,
        mut from: Node,
        mut redirect: Redirect,
        mut how: SendOptions,
    ) -> Result<C::Reply, StoreError> {
        let deadline = Instant::now() + self.settings.response_timeout;
        let (mut pause, mut hops) = (TRY_AGAIN.0, 0);
        loop {
            self.redirects.fetch_add(1, Ordering::Relaxed);
            hops += 1;
            if redirect == Redirect::TryAgain || hops > HOPS {
                let jittered = pause.mul_f64(0.75 + fastrand::f64() / 2.0);
                if Instant::now() + jittered > deadline {
                    return Err(StoreError::Elsewhere(redirect));
                }
                tokio::time::sleep(jittered).await;
                pause = (pause * 2).min(TRY_AGAIN.1);
            }
            let node;
            (node, how.asking) = self.target(&redirect, &from, call.key())?;
            match call.send_to(&node, how).await {
                Err(StoreError::Elsewhere(next)) => (from, redirect) = (node, next),
                Err(error) => {
                    self.suspect(&error);
                    return Err(error);
                }
                done => return done,
            }
        }
    }

    /// Returns the node to which a redirect leads, and whether ASKING must precede the call.
    /// Records a new owner.
    pub fn target(
        &self,
        redirect: &Redirect,
        from: &Node,
        key: Option<&[u8]>,
    ) -> Result<(Node, bool), StoreError> {
        match redirect {
            Redirect::Moved { slot, address } => {
                let node = self.node_at(address, from.address().as_ref())?;
                self.learn(*slot, &node);
                Ok((node, false))
            }
            Redirect::Ask { address, .. } => {
                Ok((self.node_at(address, from.address().as_ref())?, true))
            }
            // The owner may have changed meanwhile.
            Redirect::TryAgain => Ok((self.node(key).unwrap_or_else(|_| from.clone()), false)),
        }
    }

    /// Records that a node owns a slot, and requests a look at the whole topology.
    fn learn(&self, slot: usize, node: &Node) {
        let known = self.table();
        let same = known.is_cluster()
            && known
                .owner(slot)
                .is_some_and(|owner| Arc::ptr_eq(owner, node));
        if !same {
            self.replace(|table| table.with_owner([slot], node));
        }
        self.refresh.notify_one();
    }
}

/// A part of a pipeline: the slot of its keys, its commands, and their places in the pipeline.
type PipelinePart = (Option<usize>, Pipeline, Vec<usize>);

/// Splits a pipeline by the slots of its keys.
fn split(pipeline: &Pipeline) -> Vec<PipelinePart> {
    let mut parts: Vec<PipelinePart> = Vec::new();
    for (place, command) in pipeline.cmd_iter().enumerate() {
        let slot = key_of(command).map(slot_of);
        let known = parts.iter().position(|(of, ..)| *of == slot);
        let index = known.unwrap_or_else(|| {
            parts.push((slot, Pipeline::new(), Vec::new()));
            parts.len() - 1
        });
        parts[index].1.add_command(command.clone());
        parts[index].2.push(place);
    }
    parts
}
