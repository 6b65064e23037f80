//! Authenticated callers: auth files, API keys, and tokens signed as issuers sign them.

use std::path::PathBuf;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use reqwest::Method;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair,
};
use ring::{hmac, signature};
use serde_json::{Value, json};
use streamgate::auth::{Auth, KeyHash};
use streamgate::shares::DEFAULT_PERCENT;
use tempfile::TempDir;

use super::{Answer, TestApp};

/// Returns the API key of this name, as a caller sends it.
pub fn key(name: &str) -> String {
    format!("sgk_{name}_{}", "0".repeat(32))
}

/// Returns the auth file record of the key of this name.
pub fn record(name: &str, grants: &[&str]) -> String {
    let hash = KeyHash::of(&key(name));
    format!("[[key]]\nname = {name:?}\nhash = \"{hash}\"\ngrants = {grants:?}\n")
}

/// An auth file in a directory that can hold further files.
pub struct AuthFile {
    pub dir: TempDir,
}

impl AuthFile {
    pub fn new(text: &str) -> Self {
        let file = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        file.write(text);
        file
    }

    pub fn path(&self) -> PathBuf {
        self.dir.path().join("auth.toml")
    }

    pub fn write(&self, text: &str) {
        self.beside("auth.toml", text.as_bytes());
    }

    /// Replaces a file in one step, as editors and mounts do.
    pub fn beside(&self, name: &str, content: &[u8]) {
        let new = self.dir.path().join(format!("{name}.new"));
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, self.dir.path().join(name)).unwrap();
    }

    pub fn auth(&self) -> Auth {
        Auth::from_file(&self.path(), DEFAULT_PERCENT).unwrap_or_else(|wrong| panic!("{wrong:#?}"))
    }

    /// Starts a gateway that uses this auth file.
    pub async fn app(&self) -> TestApp {
        let auth = self.auth();
        let app = TestApp::start_with(|settings| settings.auth = auth.clone()).await;
        super::eventually("tickets can be made", async || auth.signs_tickets()).await;
        app
    }
}

/// A caller with a credential.
pub struct Caller<'a> {
    app: &'a TestApp,
    header: (&'static str, String),
}

impl TestApp {
    /// Returns a caller with the API key of this name.
    pub fn as_key(&self, name: &str) -> Caller<'_> {
        self.bearing(&key(name))
    }

    /// Returns a caller that sends this credential as a bearer token.
    pub fn bearing(&self, credential: &str) -> Caller<'_> {
        Caller {
            app: self,
            header: ("authorization", format!("Bearer {credential}")),
        }
    }

    /// Returns a caller that sends this credential in a header of this name.
    pub fn showing(&self, header: &'static str, credential: &str) -> Caller<'_> {
        Caller {
            app: self,
            header: (header, credential.to_owned()),
        }
    }
}

impl Caller<'_> {
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let (name, value) = &self.header;
        self.app
            .client
            .request(method, self.app.url(path))
            .header(*name, value)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.app.send(self.request(Method::GET, path)).await
    }

    /// Sends a request with a JSON body, or without a body if the method has none.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        if matches!(method, Method::GET | Method::DELETE) {
            return self.app.send(self.request(method, path)).await;
        }
        let request = self
            .request(method, path)
            .header("content-type", "application/json");
        self.app.send(request.body(body.to_string())).await
    }

    pub async fn publish(&self, stream: &str, value: &str) -> Answer {
        let path = format!("/v1/streams/{}/entries", super::encode(stream));
        self.call("POST", &path, json!({"fields": {"n": value}}))
            .await
    }

    pub async fn follow(&self, path: &str) -> super::sse::Sse {
        let request = self
            .request(Method::GET, path)
            .header("accept", "text/event-stream");
        let response = tokio::time::timeout(super::PATIENCE, request.send())
            .await
            .unwrap()
            .unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        super::sse::Sse::of(status, headers, response.bytes_stream())
    }

    /// Requests a ticket for these streams.
    pub async fn ticket(&self, streams: &[&str], ttl: &str) -> String {
        let answer = self
            .call(
                "POST",
                "/v1/tickets",
                json!({"streams": streams, "ttl": ttl}),
            )
            .await;
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()["ticket"].as_str().unwrap().to_owned()
    }
}

/// Returns the Unix time, in seconds, that is this many seconds from now.
pub fn from_now(seconds: i64) -> i64 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    i64::try_from(now.as_secs()).unwrap() + seconds
}

/// Returns the claims of a valid token.
pub fn claims(grants: &[&str]) -> Value {
    json!({"iss": "https://issuer.test", "aud": "streamgate", "sub": "alice",
        "exp": from_now(600), "streamgate": grants})
}

/// The signing key of an issuer.
pub enum Signer {
    Secret(Vec<u8>),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

impl Signer {
    pub fn ec() -> Self {
        let random = SystemRandom::new();
        let curve = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(curve, &random).unwrap();
        Self::Ec(EcdsaKeyPair::from_pkcs8(curve, document.as_ref(), &random).unwrap())
    }

    pub fn ed() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    /// Generates an RSA key with `openssl`, because ring cannot.
    pub fn rsa() -> Self {
        let made = std::process::Command::new("openssl")
            .args([
                "genpkey",
                "-algorithm",
                "RSA",
                "-pkeyopt",
                "rsa_keygen_bits:2048",
                "-outform",
                "DER",
            ])
            .output()
            .expect("openssl, which `make test` installs");
        let pkcs8 = RsaKeyPair::from_pkcs8(&made.stdout);
        Self::Rsa(
            pkcs8
                .or_else(|_| RsaKeyPair::from_der(&made.stdout))
                .unwrap(),
        )
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
            Self::Rsa(_) => "RS256",
        }
    }

    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message)
                .as_ref()
                .to_vec(),
            Self::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
            Self::Rsa(key) => {
                let mut signed = vec![0; key.public().modulus_len()];
                key.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signed)
                    .unwrap();
                signed
            }
        }
    }

    /// Returns the key with which signatures are verified, as a JWK with this id.
    pub fn jwk(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Secret(secret) => json!({"kty": "oct", "kid": id, "k": text(secret)}),
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": id, "x": text(&point[1..33]), "y": text(&point[33..])})
            }
            Self::Ed(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": id, "x": text(key.public_key().as_ref())})
            }
            Self::Rsa(key) => {
                let public: ring::rsa::PublicKeyComponents<Vec<u8>> = key.public().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256",
                    "n": text(&public.n), "e": text(&public.e)})
            }
        }
    }

    /// Returns a token with this header and these claims, valid or not.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let text = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", text(header), text(claims));
        let signed = BASE64_URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signed}")
    }

    pub fn token(&self, id: &str, claims: &Value) -> String {
        self.token_with(
            &json!({"typ": "JWT", "alg": self.algorithm(), "kid": id}),
            claims,
        )
    }
}

/// Returns the auth file record of the issuer of [`claims`]. `more` are settings of its keys.
pub fn issuer(more: &str, ceiling: &[&str]) -> String {
    format!(
        "[[issuer]]\nname = \"corp\"\niss = \"https://issuer.test\"\naudience = \"streamgate\"\n\
         ceiling = {ceiling:?}\nleeway = \"0s\"\n{more}\n"
    )
}
