//! The auth file, which defines API keys and token issuers with their grants.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::auth::api_key::KeyHash;
use crate::auth::fetch::KeySource;
use crate::auth::grants::Grants;
use crate::auth::issuer::{Issuer, Rules};
use crate::auth::principal::{Kind, Limits, Principal, Usage};
use crate::auth::verifying::{VerifyingKey, algorithm};
use crate::model::duration;
use crate::model::namespace::Namespace;
use crate::model::time::Time;
use crate::model::validity::{RevocationFlag, Validity};
use crate::rate_limit::NotAQuota;

/// The maximum clock difference that can be allowed.
const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// The default name of the claim that holds grants.
const CLAIM: &str = "streamgate";

/// The contents of the file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    key: Vec<KeyRecord>,
    #[serde(default)]
    issuer: Vec<IssuerRecord>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRecord {
    pub(super) name: String,
    pub(super) hash: OneOrMore,
    #[serde(default)]
    pub(super) grants: Vec<String>,
    pub(super) prefix: Option<String>,
    pub(super) expires: Option<String>,
    max_subscriptions: Option<usize>,
    rate: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerRecord {
    name: String,
    iss: String,
    audience: OneOrMore,
    #[serde(default)]
    key: Vec<SigningRecord>,
    jwks_file: Option<String>,
    jwks_url: Option<String>,
    jwks_ca: Option<String>,
    claim: Option<String>,
    #[serde(default)]
    ceiling: Vec<String>,
    leeway: Option<String>,
    prefix: Option<String>,
    max_subscriptions: Option<usize>,
    rate: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct SigningRecord {
    id: Option<String>,
    algorithm: String,
    /// HS256: a file that holds the raw secret. White space at its end is ignored.
    secret_file: Option<String>,
    /// Other algorithms: a file that holds a public key in PEM.
    public_key_file: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    pub(super) fn all(&self) -> &[String] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::More(all) => all,
        }
    }
}

/// All principals and issuers of an auth file.
#[derive(Default)]
pub struct Book {
    /// Keys by the first bytes of their hashes.
    keys: HashMap<[u8; 8], Vec<(KeyHash, Arc<Principal>)>>,
    /// Principals by name.
    named: HashMap<String, Named>,
    issuers: Vec<(IssuerRecord, Vec<Vec<u8>>, Arc<Issuer>)>,
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
    /// issuers; only changed ones are created again.
    ///
    /// # Errors
    /// Returns every problem in the file.
    pub fn read(text: &str, beside: &Path, before: &Self) -> Result<Self, Vec<String>> {
        let written: Written =
            toml::from_str(text).map_err(|error| vec![error.message().to_owned()])?;
        let mut book = Self::default();
        let mut wrong = Vec::new();
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
        let known = before
            .named
            .get(&name)
            .filter(|known| known.record == record);
        let (bearers, on) = match known {
            Some(known) => (known.bearers.clone(), known.on.clone()),
            None => bearers(&record)?,
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
        let known = known.find(|(known, files, _)| *known == record && *files == contents);
        let issuer = match known {
            Some((.., issuer)) => issuer.clone(),
            None => Arc::new(issuer(&record, beside, &contents)?),
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
                .is_none_or(|other| other.record != named.record)
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

type Bearers = Vec<(KeyHash, Arc<Principal>)>;

fn bearers(record: &KeyRecord) -> Result<(Bearers, RevocationFlag), String> {
    let until = record.expires.as_deref().map(expiry).transpose()?;
    let on = RevocationFlag::default();
    let limits = limits(record.max_subscriptions, record.rate.as_deref())?;
    let usage = Arc::new(Usage::new(limits));
    let grants = Grants::parse(&record.grants).map_err(|error| error.to_string())?;
    let namespace = namespace(record.prefix.as_deref())?;
    let bearer = |text: &String| {
        let hash = KeyHash::parse(text).ok_or(
            "a hash must be `sha256:` and 64 hexadecimal digits, as `streamgate keys hash` prints it",
        )?;
        let principal = Principal {
            name: record.name.as_str().into(),
            kind: Kind::Key,
            mark: hash.mark(),
            grants: grants.clone(),
            ceiling: None,
            namespace: namespace.clone(),
            validity: Validity::new(until, on.clone()),
            usage: usage.clone(),
        };
        Ok((hash, Arc::new(principal)))
    };
    let bearers = record
        .hash
        .all()
        .iter()
        .map(bearer)
        .collect::<Result<_, String>>()?;
    Ok((bearers, on))
}

fn issuer(record: &IssuerRecord, beside: &Path, contents: &[Vec<u8>]) -> Result<Issuer, String> {
    let mut keys = Vec::new();
    for (key, content) in record.key.iter().zip(contents) {
        let algorithm = algorithm(&key.algorithm).map_err(|error| error.to_string())?;
        let is_secret = algorithm == jsonwebtoken::Algorithm::HS256;
        if is_secret != key.secret_file.is_some() {
            return Err(
                "HS256 requires a `secret_file`, other algorithms a `public_key_file`".to_owned(),
            );
        }
        keys.push(match is_secret {
            true => VerifyingKey::secret(key.id.clone(), content.trim_ascii_end()),
            false => VerifyingKey::public(key.id.clone(), algorithm, content),
        });
    }
    let keys = keys
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let fetcher = match (&record.jwks_file, &record.jwks_url) {
        (Some(_), Some(_)) => {
            return Err("`jwks_file` and `jwks_url` exclude each other".to_owned());
        }
        (Some(file), None) => Some(KeySource::File(beside.join(file))),
        (None, Some(url)) => {
            let ca = record.jwks_ca.as_ref().and_then(|_| contents.last());
            Some(KeySource::url(url, ca.map(Vec::as_slice)).map_err(|error| error.to_string())?)
        }
        (None, None) if keys.is_empty() => {
            return Err(
                "the issuer has no keys: add a `key`, a `jwks_file` or a `jwks_url`".to_owned(),
            );
        }
        (None, None) => None,
    };
    let leeway = record
        .leeway
        .as_deref()
        .map_or(Ok(Duration::from_secs(30)), duration::parse);
    let leeway = leeway.map_err(|error| format!("leeway: {error}"))?;
    if leeway > MAX_LEEWAY {
        return Err("leeway: must be at most 5m".to_owned());
    }
    if record.audience.all().is_empty() {
        return Err("audience: must have at least one".to_owned());
    }
    let rules = Rules {
        name: record.name.as_str().into(),
        iss: record.iss.clone(),
        audience: record.audience.all().to_vec(),
        leeway,
        claim: record.claim.clone().unwrap_or_else(|| CLAIM.to_owned()),
        ceiling: Grants::parse(&record.ceiling).map_err(|error| error.to_string())?,
        namespace: namespace(record.prefix.as_deref())?,
        limits: limits(record.max_subscriptions, record.rate.as_deref())?,
        fetcher,
    };
    Ok(Issuer::new(rules, keys))
}

fn limits(max_subscriptions: Option<usize>, rate: Option<&str>) -> Result<Limits, String> {
    let rate = rate.map(str::parse).transpose();
    let rate = rate.map_err(|error: NotAQuota| format!("rate: {error}"))?;
    Ok(Limits {
        max_subscriptions,
        rate,
    })
}

fn namespace(prefix: Option<&str>) -> Result<Namespace, String> {
    prefix
        .map_or(Ok(Namespace::default()), Namespace::new)
        .map_err(|error| error.to_string())
}

fn expiry(text: &str) -> Result<SystemTime, String> {
    match text.parse() {
        Ok(Time::At(ms)) => SystemTime::UNIX_EPOCH
            .checked_add(Duration::from_millis(ms))
            .ok_or_else(|| "expires: the time is too far in the future".to_owned()),
        _ => Err("expires: must be a time like 2027-01-01T00:00:00Z".to_owned()),
    }
}
