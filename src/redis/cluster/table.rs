//! The slot table: the master of each slot.

use std::sync::Arc;

use crate::redis::cluster::slot::{SLOTS, slot_of};
use crate::redis::conn::pool::Connections;

/// A server of the table, with its connections.
pub(in crate::redis) type Node = Arc<Connections>;

/// Stands for a slot that no node serves.
const NOBODY: u16 = u16::MAX;

/// The masters of a cluster, or the only server.
pub(in crate::redis) struct SlotTable {
    nodes: Vec<Node>,
    /// Index in `nodes` of the master of each slot; `None` for a single server, which has all.
    owners: Option<Box<[u16]>>,
}

impl SlotTable {
    /// Returns the table of a single server.
    pub fn single(node: Node) -> Self {
        Self {
            nodes: vec![node],
            owners: None,
        }
    }

    /// Returns the table of a cluster without slots.
    pub fn cluster() -> Self {
        Self {
            nodes: Vec::new(),
            owners: Some(vec![NOBODY; SLOTS].into_boxed_slice()),
        }
    }

    /// Returns a copy in which `node` serves the slots.
    #[must_use]
    pub fn with_owner(&self, slots: impl IntoIterator<Item = usize>, node: &Node) -> Self {
        let mut nodes = self.nodes.clone();
        let all = || vec![0; SLOTS].into_boxed_slice();
        let mut owners = self.owners.clone().unwrap_or_else(all);
        let known = nodes.iter().position(|other| Arc::ptr_eq(other, node));
        let index = known.unwrap_or_else(|| {
            nodes.push(node.clone());
            nodes.len() - 1
        });
        let index = u16::try_from(index).unwrap_or(NOBODY);
        for slot in slots.into_iter().filter(|slot| *slot < SLOTS) {
            owners[slot] = index;
        }
        Self {
            nodes,
            owners: Some(owners),
        }
    }

    /// Returns whether this is a cluster.
    pub const fn is_cluster(&self) -> bool {
        self.owners.is_some()
    }

    /// Returns all nodes that serve slots.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Returns the master of a slot, if there is one.
    pub fn owner(&self, slot: usize) -> Option<&Node> {
        match &self.owners {
            None => self.nodes.first(),
            Some(owners) => self.nodes.get(usize::from(owners[slot % SLOTS])),
        }
    }

    /// Returns the master of a key, if there is one.
    pub fn owner_of(&self, key: &[u8]) -> Option<&Node> {
        match &self.owners {
            None => self.nodes.first(),
            Some(_) => self.owner(slot_of(key)),
        }
    }

    /// Returns a node for a command without a key: the first that is reachable.
    pub fn any(&self) -> Option<&Node> {
        let up = self.nodes.iter().find(|node| node.is_up());
        up.or_else(|| self.nodes.first())
    }

    /// Returns the slots that no node serves, or whose node is unreachable.
    pub fn slots_down(&self) -> usize {
        let Some(owners) = &self.owners else { return 0 };
        let down: Vec<_> = self.nodes.iter().map(|node| !node.is_up()).collect();
        owners
            .iter()
            .filter(|owner| down.get(usize::from(**owner)).copied().unwrap_or(true))
            .count()
    }

    /// Returns the number of slots whose owner differs.
    pub fn differences(&self, other: &Self) -> usize {
        let same = |slot: &usize| match (self.owner(*slot), other.owner(*slot)) {
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, None) => true,
            _ => false,
        };
        (0..SLOTS).filter(|slot| !same(slot)).count()
    }
}
