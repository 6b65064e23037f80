//! Resources that several callers share, each of which is charged once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::shares::account::{Account, Bound, Held, ShareExceeded};

/// The accounts that use one shared resource. Each is charged once, however often it uses the
/// resource. The last user stays charged until another comes or the resource is dropped.
#[derive(Debug, Default)]
pub struct Users(Mutex<UserList>);

#[derive(Debug, Default)]
struct UserList {
    /// Uses and charges, by the address of the account, which the charge keeps alive.
    of: HashMap<usize, (usize, Held)>,
    /// The last user, if none uses the resource now.
    last: Option<usize>,
}

impl Users {
    /// Adds a use by an account.
    ///
    /// # Errors
    /// Same as [`Account::take`], if the account does not use the resource yet.
    pub fn join(
        &self,
        account: &Arc<Account>,
        bound: Bound,
        all: usize,
    ) -> Result<(), ShareExceeded> {
        let mut users = self.0.lock();
        let key = Arc::as_ptr(account).addr();
        match users.of.entry(key) {
            Entry::Occupied(mut user) => user.get_mut().0 += 1,
            Entry::Vacant(place) => {
                let held = account.take(bound, 1, all)?;
                place.insert((1, held));
            }
        }
        if let Some(last) = users.last.take().filter(|last| *last != key) {
            users.of.remove(&last);
        }
        Ok(())
    }

    /// Removes a use by an account that has joined.
    pub fn leave(&self, account: &Arc<Account>) {
        let mut users = self.0.lock();
        let key = Arc::as_ptr(account).addr();
        let Some((count, _)) = users.of.get_mut(&key) else {
            return;
        };
        *count -= 1;
        if *count > 0 {
            return;
        }
        if users.of.len() > 1 {
            users.of.remove(&key);
        } else {
            users.last = Some(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_resource_is_charged_once_and_to_those_who_use_it() {
        let (users, bound) = (Users::default(), Bound::FollowedStreams);
        let (a, b) = (Account::new(50), Account::new(50));
        let used = || (a.used(bound), b.used(bound));
        users.join(&a, bound, 4).unwrap();
        users.join(&a, bound, 4).unwrap();
        users.join(&b, bound, 4).unwrap();
        assert_eq!(used(), (1, 1));
        users.leave(&a);
        assert_eq!(used(), (1, 1));
        users.leave(&a);
        assert_eq!(used(), (0, 1));
        users.leave(&b);
        assert_eq!(used(), (0, 1), "the last user is charged while it is kept");
        users.join(&a, bound, 4).unwrap();
        assert_eq!(used(), (1, 0));
        users.leave(&a);
        drop(users);
        assert_eq!(used(), (0, 0));
    }
}
