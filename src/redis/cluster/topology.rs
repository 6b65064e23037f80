//! The view of a cluster that its nodes give in CLUSTER NODES.

use std::collections::HashMap;

use crate::redis::cluster::redirect::NodeAddress;
use crate::redis::cluster::slot::SLOTS;

/// A master with its slots, as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MasterView {
    /// Id of the node, 40 hexadecimal digits.
    pub id: String,
    /// Whether the node describes itself.
    pub myself: bool,
    /// Address for clients. An empty host stands for the host that was asked.
    pub address: NodeAddress,
    /// Configuration epoch: the claim to a slot with the greatest epoch counts.
    pub epoch: u64,
    /// Slots, as inclusive ranges.
    pub slots: Vec<(usize, usize)>,
}

/// Parses the reply of CLUSTER NODES, of which masters with slots and the node itself are kept. The reply has one
/// line per node: id, address, flags, master, ping, pong, epoch, link state, slots.
pub fn masters(text: &str) -> Vec<MasterView> {
    text.lines().filter_map(master).collect()
}

fn master(line: &str) -> Option<MasterView> {
    let mut words = line.split(' ');
    let (id, address) = (words.next()?, words.next()?);
    let flags = words.next()?;
    let unusable = ["slave", "replica", "noaddr", "handshake"];
    if flags.split(',').any(|flag| unusable.contains(&flag)) {
        return None;
    }
    let epoch = words.nth(3)?.parse().ok()?;
    let slots: Vec<_> = words.skip(1).filter_map(range).collect();
    let myself = flags.split(',').any(|flag| flag == "myself");
    // A node that says that it has no slots any more contradicts others.
    (myself || !slots.is_empty()).then_some(MasterView {
        id: id.to_owned(),
        myself,
        address: announced(address)?,
        epoch,
        slots,
    })
}

/// Parses `ip:port@bus-port[,hostname]…`. Prefers the host name, which certificates name.
fn announced(text: &str) -> Option<NodeAddress> {
    let (address, rest) = text.split_once('@').unwrap_or((text, ""));
    let mut address = NodeAddress::parse(address)?;
    let hostname = rest.split(',').nth(1).filter(|name| !name.is_empty());
    if let Some(hostname) = hostname.filter(|name| !name.contains('=')) {
        hostname.clone_into(&mut address.host);
    }
    Some(address)
}

/// Parses a slot or a range. A slot that is being moved, in brackets, is listed elsewhere too.
fn range(text: &str) -> Option<(usize, usize)> {
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    (from <= to && to < SLOTS).then_some((from, to))
}

/// Merges the views of several nodes. What a node says of itself replaces what others say of it,
/// because they may not have heard of a move. Among the remaining claims to a slot, the one with the
/// greatest epoch counts, because a node that was partitioned may name an old master.
///
/// Returns the slots of each master, by address.
pub fn merge(views: &[MasterView]) -> HashMap<NodeAddress, Vec<usize>> {
    let mut claims: Vec<Option<(u64, &NodeAddress)>> = vec![None; SLOTS];
    let spoke = |id: &str| views.iter().any(|view| view.myself && view.id == id);
    for view in views.iter().filter(|view| view.myself || !spoke(&view.id)) {
        for (from, to) in &view.slots {
            for claim in &mut claims[*from..=*to] {
                if claim.is_none_or(|(epoch, _)| epoch < view.epoch) {
                    *claim = Some((view.epoch, &view.address));
                }
            }
        }
    }
    let mut owners: HashMap<NodeAddress, Vec<usize>> = HashMap::new();
    for (slot, claim) in claims.iter().enumerate() {
        if let Some((_, address)) = claim {
            owners.entry((*address).clone()).or_default().push(slot);
        }
    }
    owners
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: &str = "\
07c37d 127.0.0.1:30004@31004,host4 slave e7d1ee 0 1426238317239 4 connected
67ed2d 127.0.0.1:30002@31002,redis-2.example master - 0 1426238316232 2 connected 5461-10922
292f8b 127.0.0.1:30003@31003 master,fail - 0 1426238318243 3 connected 10923-16383
e7d1ee :30001@31001 myself,master - 0 0 1 connected 0-5459 5460 [93-<-292f8b]
824fe1 127.0.0.1:30006@31006,,shard-id=69bc master - 0 1426238317741 6 connected";

    fn view(port: u16, myself: bool, epoch: u64, slots: (usize, usize)) -> MasterView {
        MasterView {
            id: port.to_string(),
            myself,
            address: NodeAddress {
                host: "h".to_owned(),
                port,
            },
            epoch,
            slots: vec![slots],
        }
    }

    fn slots_of(merged: &HashMap<NodeAddress, Vec<usize>>, port: u16) -> Option<Vec<usize>> {
        let mut of = merged.iter();
        of.find(|(address, _)| address.port == port)
            .map(|(_, slots)| slots.clone())
    }

    #[test]
    fn masters_with_slots_are_read_from_the_reply() {
        let masters = masters(REPLY);
        let found: Vec<_> = masters
            .iter()
            .map(|master| {
                let address = master.address.to_string();
                (address, master.epoch, master.slots.clone())
            })
            .collect();
        assert_eq!(
            found,
            [
                ("redis-2.example:30002".to_owned(), 2, vec![(5461, 10922)]),
                ("127.0.0.1:30003".to_owned(), 3, vec![(10923, 16383)]),
                (":30001".to_owned(), 1, vec![(0, 5459), (5460, 5460)]),
            ]
        );
    }

    #[test]
    fn the_claim_with_the_greatest_epoch_counts() {
        let merged = merge(&[
            view(1, false, 1, (0, 10)),
            view(2, false, 5, (5, 10)),
            view(1, false, 1, (0, 10)),
            view(3, false, 4, (6, 6)),
        ]);
        let of = |port| slots_of(&merged, port);
        assert_eq!(of(1), Some((0..=4).collect()));
        assert_eq!(of(2), Some((5..=10).collect()));
        assert_eq!(of(3), None);
    }

    #[test]
    fn what_a_node_says_of_itself_replaces_what_others_say_of_it() {
        // The third node has not heard that slot 5 moved from the first to the second.
        let merged = merge(&[
            view(1, true, 12, (0, 4)),
            view(2, true, 11, (5, 10)),
            view(1, false, 12, (0, 5)),
        ]);
        let slots = |port| slots_of(&merged, port);
        assert_eq!(slots(1), Some((0..=4).collect()));
        assert_eq!(slots(2), Some((5..=10).collect()));
    }
}
