//! Keys that verify tokens. Each key is pinned to one algorithm, whatever a token states.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::auth::crypto::ALGORITHMS;
use crate::auth::mark::mark;
use crate::model::validity::RevocationFlag;

/// The maximum number of keys taken from one set.
const MAX_KEYS: usize = 100;
/// The minimum length of a secret for HS256, in bytes: the length of its hash.
const MIN_SECRET: usize = 32;

/// A key that verifies tokens.
#[derive(Clone)]
pub struct VerifyingKey {
    /// The id of the key in tokens (`kid`).
    pub id: Option<String>,
    /// The only algorithm with which the key is used.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
    /// The key as read from a set of keys; `None` for a configured key.
    of_set: Option<Box<Jwk>>,
    /// The mark of the key in tickets.
    pub mark: Box<str>,
    /// Revoked when the key is no longer among those of its issuer.
    pub good: RevocationFlag,
}

/// The reason why a key cannot be used. It never contains any part of the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// An algorithm that is not supported.
    #[error("the algorithm must be HS256, RS256, ES256 or EdDSA")]
    Algorithm,
    /// A secret that is short enough to guess.
    #[error("a secret for HS256 must have at least 32 bytes")]
    Short,
    /// A key that is not PEM, or of another kind.
    #[error("not a public key in PEM for the algorithm")]
    Pem,
    /// A text that is not a JWK set.
    #[error("not a JSON Web Key Set")]
    Set,
}

/// Returns the algorithm with this name.
///
/// # Errors
/// Returns [`InvalidKey::Algorithm`] for an algorithm that is not supported.
pub fn algorithm(name: &str) -> Result<Algorithm, InvalidKey> {
    let known = ALGORITHMS.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, algorithm)| *algorithm)
        .ok_or(InvalidKey::Algorithm)
}

impl VerifyingKey {
    /// Creates a key from a secret that is shared with the issuer.
    ///
    /// # Errors
    /// Returns [`InvalidKey::Short`] for a secret of less than 32 bytes.
    pub fn secret(id: Option<String>, secret: &[u8]) -> Result<Self, InvalidKey> {
        if secret.len() < MIN_SECRET {
            return Err(InvalidKey::Short);
        }
        let key = DecodingKey::from_secret(secret);
        let (algorithm, mark) = (Algorithm::HS256, mark("secret", secret));
        Ok(Self {
            id,
            algorithm,
            key,
            of_set: None,
            mark,
            good: RevocationFlag::default(),
        })
    }

    /// Creates a key from a public key in PEM.
    ///
    /// # Errors
    /// Returns [`InvalidKey`] if the text is not a key for the algorithm.
    pub fn public(
        id: Option<String>,
        algorithm: Algorithm,
        pem: &[u8],
    ) -> Result<Self, InvalidKey> {
        let key = match algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem(pem),
            Algorithm::ES256 => DecodingKey::from_ec_pem(pem),
            Algorithm::EdDSA => DecodingKey::from_ed_pem(pem),
            _ => return Err(InvalidKey::Algorithm),
        };
        let key = key.map_err(|_| InvalidKey::Pem)?;
        let mark = mark("public key", pem);
        Ok(Self {
            id,
            algorithm,
            key,
            of_set: None,
            mark,
            good: RevocationFlag::default(),
        })
    }

    /// Returns the public keys of a JWK set that are for signatures and whose algorithm is
    /// supported. Other contents are ignored, including shared secrets, which do not belong into a
    /// set.
    ///
    /// # Errors
    /// Returns [`InvalidKey::Set`] for a text that is not a JWK set.
    pub fn set(json: &str) -> Result<Vec<Self>, InvalidKey> {
        let set: JwkSet = serde_json::from_str(json).map_err(|_| InvalidKey::Set)?;
        Ok(set.keys.iter().filter_map(of_set).take(MAX_KEYS).collect())
    }

    /// Returns whether both are the same key of a set.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.of_set.is_some() && self.of_set == other.of_set
    }
}

fn of_set(jwk: &Jwk) -> Option<VerifyingKey> {
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            Algorithm::ES256
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            Algorithm::EdDSA
        }
        _ => return None,
    };
    let common = &jwk.common;
    let named = common
        .key_algorithm
        .map(|named| self::algorithm(&named.to_string()));
    let for_this = named.is_none_or(|named| named == Ok(algorithm));
    let signs = common
        .public_key_use
        .as_ref()
        .is_none_or(|used| *used == PublicKeyUse::Signature);
    let key = DecodingKey::from_jwk(jwk)
        .ok()
        .filter(|_| for_this && signs)?;
    let of_set = Some(Box::new(jwk.clone()));
    let mark = mark("jwk", &serde_json::to_vec(jwk).ok()?);
    Some(VerifyingKey {
        id: common.key_id.clone(),
        algorithm,
        key,
        of_set,
        mark,
        good: RevocationFlag::default(),
    })
}
