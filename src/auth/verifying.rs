//! Keys that tokens are checked with. Each is pinned to one algorithm, whatever a token says.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};

use crate::auth::crypto::ALGORITHMS;
use crate::auth::mark::mark;
use crate::model::validity::Revocable;

/// Keys taken from one set.
const MAX_KEYS: usize = 100;
/// The shortest secret for HS256, in bytes: as long as its hash.
const MIN_SECRET: usize = 32;

/// One key.
#[derive(Clone)]
pub struct VerifyingKey {
    /// What tokens call it.
    pub id: Option<String>,
    /// The only algorithm it is good for.
    pub algorithm: Algorithm,
    /// The key.
    pub key: DecodingKey,
    /// What it was in a set of keys.
    of_set: Option<Box<Jwk>>,
    /// What tickets call it.
    pub mark: Box<str>,
    /// Revoked when the key is no longer among those of its issuer.
    pub good: Revocable,
}

/// Why a key cannot be had. Never holds any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Not among ours.
    #[error("the algorithm is HS256, RS256, ES256 or EdDSA")]
    Algorithm,
    /// Guessable.
    #[error("a secret for HS256 has at least 32 bytes")]
    Short,
    /// Not PEM, or another kind of key.
    #[error("this is no public key in PEM for the algorithm")]
    Pem,
    /// Not a JWK set.
    #[error("this is no JSON Web Key Set")]
    Set,
}

/// The algorithm of this name.
///
/// # Errors
/// [`InvalidKey::Algorithm`].
pub fn algorithm(name: &str) -> Result<Algorithm, InvalidKey> {
    let known = ALGORITHMS.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, algorithm)| *algorithm)
        .ok_or(InvalidKey::Algorithm)
}

impl VerifyingKey {
    /// A secret that is shared with the issuer.
    ///
    /// # Errors
    /// [`InvalidKey::Short`].
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
            good: Revocable::default(),
        })
    }

    /// A public key in PEM.
    ///
    /// # Errors
    /// [`InvalidKey`].
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
            good: Revocable::default(),
        })
    }

    /// The public keys of a JWK set that are for signatures and that we know how to use. What else
    /// is in it is passed over; a shared secret has no place in one.
    ///
    /// # Errors
    /// [`InvalidKey::Set`].
    pub fn set(json: &str) -> Result<Vec<Self>, InvalidKey> {
        let set: JwkSet = serde_json::from_str(json).map_err(|_| InvalidKey::Set)?;
        Ok(set.keys.iter().filter_map(of_set).take(MAX_KEYS).collect())
    }

    /// Whether both are the same key of a set.
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
        good: Revocable::default(),
    })
}
