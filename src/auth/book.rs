//! The auth file as a whole: API keys and token issuers with their grants, webhook sources, and what
//! changes when the file is read again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use crate::auth::api_key::KeyHash;
use crate::auth::file::{Bearers, IssuerRecord, KeyRecord, Written, bearers, issuer};
use crate::auth::issuer::Issuer;
use crate::auth::principal::Principal;
use crate::auth::tenants::Tenants;
use crate::auth::webhook::WebhookSource;
use crate::model::namespace::Namespace;
use crate::model::validity::RevocationFlag;
use crate::shares::Account;

/// All principals, issuers and webhook sources of an auth file.
#[derive(Default)]
pub struct Book {
    /// Keys by the first bytes of their hashes.
    keys: HashMap<[u8; 8], Vec<(KeyHash, Arc<Principal>)>>,
    /// Principals by name.
    named: HashMap<String, Named>,
    issuers: Vec<(IssuerRecord, Vec<Vec<u8>>, Arc<Issuer>)>,
    /// Webhook sources by name.
    sources: HashMap<String, Arc<WebhookSource>>,
    tenants: Tenants,
}

/// A principal with its keys.
struct Named {
    /// The record from which the principal was created.
    record: KeyRecord,
    /// The principal, once for each of its keys.
    bearers: Bearers,
    /// Revoked when the record changes.
    on: RevocationFlag,
}

impl Named {
    /// Returns whether the principal has the account of this tenant, or belongs to none.
    fn is_of(&self, tenant: Option<&Arc<Account>>) -> bool {
        tenant.is_none_or(|tenant| {
            let accounts = self.bearers.iter().map(|(_, of)| of.usage.account.as_ref());
            accounts
                .flatten()
                .all(|account| Arc::ptr_eq(account, tenant))
        })
    }
}

impl Book {
    /// Returns the key records of the file without validation.
    ///
    /// # Errors
    /// Returns the message of the parser.
    pub(super) fn records(text: &str) -> Result<Vec<KeyRecord>, String> {
        toml::from_str::<Written>(text)
            .map(|file| file.key)
            .map_err(|error| error.message().to_owned())
    }

    /// Reads the file. Records that did not change since `before` keep their principals and
    /// issuers; only changed ones are created again. `share` is the share of records that name none.
    ///
    /// # Errors
    /// Returns every problem in the file.
    pub fn read(text: &str, beside: &Path, share: u8, before: &Self) -> Result<Self, Vec<String>> {
        let written: Written =
            toml::from_str(text).map_err(|error| vec![error.message().to_owned()])?;
        let mut book = Self::default();
        let mut wrong = Vec::new();
        match Tenants::new(&written, share, &before.tenants) {
            Ok(tenants) => book.tenants = tenants,
            Err(shares) => wrong = shares,
        }
        for record in written.key {
            let of = format!("key {:?}", record.name);
            if let Err(why) = book.add_key(record, before) {
                wrong.push(format!("{of}: {why}"));
            }
        }
        for record in written.issuer {
            let of = format!("issuer {:?}", record.name);
            if let Err(why) = book.add_issuer(record, beside, before) {
                wrong.push(format!("{of}: {why}"));
            }
        }
        for record in written.source {
            let name = record.name.clone();
            match record.source(beside) {
                Err(why) => wrong.push(format!("source {name:?}: {why}")),
                Ok(source) => {
                    if book
                        .sources
                        .insert(name.clone(), Arc::new(source))
                        .is_some()
                    {
                        wrong.push(format!("source {name:?}: another source has the same name"));
                    }
                }
            }
        }
        wrong.extend(book.namespaces_that_meet());
        if wrong.is_empty() {
            Ok(book)
        } else {
            Err(wrong)
        }
    }

    fn add_key(&mut self, record: KeyRecord, before: &Self) -> Result<(), String> {
        let name = record.name.clone();
        if name.is_empty() || name.contains('/') || name.contains(char::is_control) {
            return Err("a name must not be empty or contain `/` or control characters".to_owned());
        }
        if self.named.contains_key(&name) {
            return Err("another key has the same name".to_owned());
        }
        let tenant = self.tenants.tenant(record.prefix.as_ref());
        let known = before
            .named
            .get(&name)
            .filter(|known| known.record == record && known.is_of(tenant));
        let (bearers, on) = match known {
            Some(known) => (known.bearers.clone(), known.on.clone()),
            None => bearers(&record, self.tenants.of_key(&record))?,
        };
        for (hash, principal) in &bearers {
            let place = self.keys.entry(hash.shelf()).or_default();
            if place.iter().any(|(other, _)| other.is(hash)) {
                return Err("another key has the same hash".to_owned());
            }
            place.push((hash.clone(), principal.clone()));
        }
        self.named.insert(
            name,
            Named {
                record,
                bearers,
                on,
            },
        );
        Ok(())
    }

    fn add_issuer(
        &mut self,
        record: IssuerRecord,
        beside: &Path,
        before: &Self,
    ) -> Result<(), String> {
        if record.name.is_empty() || record.name.contains('/') {
            return Err("a name must not be empty or contain `/`".to_owned());
        }
        let same = |(other, ..): &(IssuerRecord, _, _)| {
            other.name == record.name || other.iss == record.iss
        };
        if self.issuers.iter().any(same) {
            return Err("another issuer has the same name or the same `iss`".to_owned());
        }
        let read = |path: &String| {
            std::fs::read(beside.join(path)).map_err(|error| format!("{path}: {error}"))
        };
        let mut contents = Vec::new();
        for key in &record.key {
            let ((Some(file), None) | (None, Some(file))) =
                (&key.secret_file, &key.public_key_file)
            else {
                let detail = "a key must have either a `secret_file` or a `public_key_file`";
                return Err(detail.to_owned());
            };
            contents.push(read(file)?);
        }
        if let Some(ca) = &record.jwks_ca {
            contents.push(read(ca)?);
        }
        let mut known = before.issuers.iter();
        let tenant = self.tenants.tenant(record.prefix.as_ref());
        let known = known.find(|(known, files, issuer)| {
            *known == record && *files == contents && issuer.rules.accounts.is_of(tenant)
        });
        let issuer = if let Some((.., issuer)) = known {
            issuer.clone()
        } else {
            let accounts = self.tenants.of_issuer(&record);
            Arc::new(issuer(&record, beside, &contents, accounts)?)
        };
        self.issuers.push((record, contents, issuer));
        Ok(())
    }

    fn namespaces_that_meet(&self) -> Vec<String> {
        let keys = self.named.values().flat_map(|named| &named.bearers);
        let of_keys = keys.map(|(_, principal)| &principal.namespace);
        let of_issuers = self
            .issuers
            .iter()
            .map(|(.., issuer)| &issuer.rules.namespace);
        let whole = Namespace::default();
        let mut all: Vec<_> = of_keys
            .chain(of_issuers)
            .filter(|one| **one != whole)
            .collect();
        all.sort_by_key(|one| one.beginnings("x"));
        all.dedup();
        let meet = all.windows(2).filter(|pair| pair[0].meets(pair[1]));
        let told = |pair: &[&Namespace]| {
            let begin = |one: &Namespace| one.beginnings("").swap_remove(0);
            format!(
                "the prefixes must not overlap: {:?} is the beginning of {:?}",
                begin(pair[0]),
                begin(pair[1])
            )
        };
        meet.map(told).collect()
    }

    /// Returns the principal of a key.
    #[must_use]
    pub fn bearer(&self, key: &str) -> Option<&Arc<Principal>> {
        let hash = KeyHash::of(key);
        let place = self.keys.get(&hash.shelf())?;
        place
            .iter()
            .find(|(known, _)| known.is(&hash))
            .map(|(_, principal)| principal)
    }

    /// Returns the principal with this name, for the key with this mark.
    #[must_use]
    pub fn named(&self, name: &str, mark: &str) -> Option<&Arc<Principal>> {
        let bearers = &self.named.get(name)?.bearers;
        bearers
            .iter()
            .map(|(_, principal)| principal)
            .find(|principal| *principal.mark == *mark)
    }

    /// Returns the webhook source with this name.
    #[must_use]
    pub fn source(&self, name: &str) -> Option<&Arc<WebhookSource>> {
        self.sources.get(name)
    }

    /// Returns all issuers.
    pub fn issuers(&self) -> impl Iterator<Item = &Arc<Issuer>> {
        self.issuers.iter().map(|(.., issuer)| issuer)
    }

    /// Revokes everything that is no longer in `next`. Returns whether there was anything to
    /// revoke.
    pub fn revoke_but(&self, next: &Self) -> bool {
        let mut any = false;
        for (name, named) in &self.named {
            if next
                .named
                .get(name)
                .is_none_or(|other| !other.on.is_same(&named.on))
            {
                named.on.revoke();
                any = true;
            }
        }
        for issuer in self.issuers() {
            if !next.issuers().any(|other| Arc::ptr_eq(other, issuer)) {
                issuer.revoke();
                any = true;
            }
        }
        any
    }
}
