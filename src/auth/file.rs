//! The records of the auth file, and the principals and issuers that they define.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use crate::auth::api_key::KeyHash;
use crate::auth::fetch::KeySource;
use crate::auth::grants::Grants;
use crate::auth::issuer::{Issuer, TrustRules};
use crate::auth::one_or_more::OneOrMore;
use crate::auth::principal::{CredentialKind, Limits, Principal, SubjectAccounts, Usage};
use crate::auth::verifying::{VerifyingKey, algorithm};
use crate::auth::webhook::SourceRecord;
use crate::model::duration;
use crate::model::namespace::Namespace;
use crate::model::time::Time;
use crate::model::validity::{RevocationFlag, Validity};
use crate::rate_limit::NotAQuota;
use crate::shares::Account;

/// The maximum clock difference that can be allowed.
const MAX_LEEWAY: Duration = Duration::from_secs(300);
/// The default name of the claim that holds grants.
const CLAIM: &str = "streamgate";

/// The contents of the file.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    #[serde(default)]
    pub(super) key: Vec<KeyRecord>,
    #[serde(default)]
    pub(super) issuer: Vec<IssuerRecord>,
    #[serde(default)]
    pub(super) source: Vec<SourceRecord>,
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
    pub(super) share: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct IssuerRecord {
    pub(super) name: String,
    pub(super) iss: String,
    audience: OneOrMore,
    #[serde(default)]
    pub(super) key: Vec<SigningRecord>,
    jwks_file: Option<String>,
    jwks_url: Option<String>,
    pub(super) jwks_ca: Option<String>,
    claim: Option<String>,
    #[serde(default)]
    ceiling: Vec<String>,
    leeway: Option<String>,
    pub(super) prefix: Option<String>,
    max_subscriptions: Option<usize>,
    rate: Option<String>,
    pub(super) share: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SigningRecord {
    id: Option<String>,
    algorithm: String,
    /// HS256: a file that holds the raw secret. White space at its end is ignored.
    pub(super) secret_file: Option<String>,
    /// Other algorithms: a file that holds a public key in PEM.
    pub(super) public_key_file: Option<String>,
}

/// A principal for each key of a record.
pub(super) type Bearers = Vec<(KeyHash, Arc<Principal>)>;

/// Creates the principal of a record, once for each of its keys.
pub(super) fn bearers(
    record: &KeyRecord,
    account: Arc<Account>,
) -> Result<(Bearers, RevocationFlag), String> {
    let until = record.expires.as_deref().map(expiry).transpose()?;
    let on = RevocationFlag::default();
    let limits = limits(record.max_subscriptions, record.rate.as_deref())?;
    let usage = Arc::new(Usage::new(limits, account));
    let grants = Grants::parse(&record.grants).map_err(|error| error.to_string())?;
    let namespace = namespace(record.prefix.as_deref())?;
    let bearer = |text: &String| {
        let hash = KeyHash::parse(text).ok_or(
            "a hash must be `sha256:` and 64 hexadecimal digits, as `streamgate keys hash` prints it",
        )?;
        let principal = Principal {
            name: record.name.as_str().into(),
            kind: CredentialKind::Key,
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

/// Creates the issuer of a record. `contents` are the files that the record names, `accounts` are
/// those of its subjects.
pub(super) fn issuer(
    record: &IssuerRecord,
    beside: &Path,
    contents: &[Vec<u8>],
    accounts: SubjectAccounts,
) -> Result<Issuer, String> {
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
    let rules = TrustRules {
        name: record.name.as_str().into(),
        iss: record.iss.clone(),
        audience: record.audience.all().to_vec(),
        leeway,
        claim: record.claim.clone().unwrap_or_else(|| CLAIM.to_owned()),
        ceiling: Grants::parse(&record.ceiling).map_err(|error| error.to_string())?,
        namespace: namespace(record.prefix.as_deref())?,
        limits: limits(record.max_subscriptions, record.rate.as_deref())?,
        accounts,
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
