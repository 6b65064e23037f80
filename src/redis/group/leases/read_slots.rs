//! Consumer reads of several streams that are not in one slot of a cluster. They are not one step:
//! the groups of all streams are checked first, then the slots are read one after the other.

use futures_util::future::try_join_all;

use crate::model::name::{GroupName, StreamName};
use crate::redis::group::leases::read::{ConsumerRead, GroupDelivery};
use crate::redis::stream::read_budget::ANSWER;
use crate::redis::{Delivery, Store, StoreError};

impl Store {
    /// Reads the groups of streams in several slots. `parts` has the places of the streams of each
    /// slot. A slot that fails after entries of another were delivered delivers its error.
    pub(super) async fn read_by_slot(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
        plain: bool,
        mut parts: Vec<Vec<usize>>,
    ) -> Result<Vec<GroupDelivery>, StoreError> {
        self.check_groups(streams, group, work).await?;
        // In the order asked. With a limit in bytes, the slots take turns at being read first.
        parts.sort();
        if work.max_bytes.is_some() {
            let turn = fastrand::usize(..parts.len());
            parts.rotate_left(turn);
        }
        let mut handed = vec![GroupDelivery::default(); streams.len()];
        let (most, mut spent, mut some) = (work.max_bytes.unwrap_or(ANSWER), 0, false);
        for part in parts {
            let of_slot: Vec<_> = part.iter().map(|place| streams[*place].clone()).collect();
            let left = match work.read.history {
                Some(_) => most / streams.len() * part.len(),
                None => most.saturating_sub(spent),
            };
            // A read delivers at least one entry, which may exceed what is left.
            let fresh = work.read.history.is_none();
            if fresh && some && left < ANSWER && left < self.heaviest_of(&of_slot).await? {
                let consumer = &work.read.consumer;
                self.touch_consumer(&of_slot, group, consumer).await?;
                continue;
            }
            let mut part_of_work = work.clone();
            if work.max_bytes.is_some() || spent > 0 {
                part_of_work.max_bytes = Some(left.max(1));
            }
            let read = self.read_existing(&of_slot, group, &part_of_work, plain);
            let read = match read.await {
                Err(error) if some => {
                    for place in part {
                        handed[place].failed = Some(error.clone());
                    }
                    continue;
                }
                read => read?,
            };
            for (place, one) in part.into_iter().zip(read) {
                spent += one.entries.iter().map(Delivery::size).sum::<usize>();
                some |= !one.entries.is_empty();
                handed[place] = one;
            }
        }
        Ok(handed)
    }

    /// Returns the estimated size of the heaviest entry of these streams.
    pub(super) async fn heaviest_of(&self, streams: &[StreamName]) -> Result<usize, StoreError> {
        let sizes = streams
            .iter()
            .map(|stream| self.estimate_entry_size(stream));
        let sizes = try_join_all(sizes).await?;
        Ok(sizes.into_iter().max().unwrap_or_default())
    }

    /// Checks what fails a read of several streams before anything is delivered.
    async fn check_groups(
        &self,
        streams: &[StreamName],
        group: &GroupName,
        work: &ConsumerRead,
    ) -> Result<(), StoreError> {
        if let Some((_, error)) = self.lacks_group(streams, group).await? {
            return Err(error);
        }
        if work.lease.is_none() {
            return Ok(());
        }
        let policies = streams.iter().map(|stream| self.policy(stream, group));
        match try_join_all(policies).await?.contains(&None) {
            true => Err(StoreError::GroupHasNoPolicy),
            false => Ok(()),
        }
    }
}
