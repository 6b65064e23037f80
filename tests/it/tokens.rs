//! Tokens of issuers: each algorithm, invalid tokens, and fetching keys.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use streamgate::net::tls::TlsFiles;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::support::auth::{AuthFile, Signer, claims, from_now, issuer, record};
use crate::support::certs::Authority;
use crate::support::{TestApp, eventually, unique};

const GRANTS: [&str; 1] = ["* *"];

async fn status(app: &TestApp, token: &str) -> u16 {
    app.bearing(token).get("/v1/streams").await.status
}

/// Starts a gateway with one issuer that has these keys.
async fn with_keys(signers: &[(&str, &Signer)]) -> (AuthFile, TestApp) {
    let keys: Vec<Value> = signers.iter().map(|(id, signer)| signer.jwk(id)).collect();
    let file = AuthFile::new("");
    file.beside("keys.json", json!({"keys": keys}).to_string().as_bytes());
    file.write(&(issuer("jwks_file = \"keys.json\"", &GRANTS) + &record("root", &["* *"])));
    let app = file.app().await;
    (file, app)
}

#[tokio::test]
async fn tokens_of_each_algorithm_are_believed() {
    let secret = Signer::Secret(b"thirty-two bytes are the shortest".to_vec());
    let (rsa, ec, ed) = (Signer::rsa(), Signer::ec(), Signer::ed());
    let file = AuthFile::new("");
    let public = [("rsa", &rsa), ("ec", &ec), ("ed", &ed)];
    let keys: Vec<Value> = public.iter().map(|(id, signer)| signer.jwk(id)).collect();
    file.beside("keys.json", json!({"keys": keys}).to_string().as_bytes());
    file.beside("secret", b"thirty-two bytes are the shortest\n");
    let own = "jwks_file = \"keys.json\"\n[[issuer.key]]\nid = \"hs\"\nalgorithm = \"HS256\"\nsecret_file = \"secret\"";
    file.write(&issuer(own, &GRANTS));
    let app = file.app().await;
    for (id, signer) in [("hs", &secret), ("rsa", &rsa), ("ec", &ec), ("ed", &ed)] {
        let token = signer.token(id, &claims(&GRANTS));
        for _ in 0..2 {
            assert_eq!(status(&app, &token).await, 200, "{id}");
        }
        // The signature of another signer over the same message.
        let (message, _) = token.rsplit_once('.').unwrap();
        let other = Signer::ec().sign(message.as_bytes());
        let forged = format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(other));
        assert_eq!(status(&app, &forged).await, 401, "{id}");
    }
}

#[tokio::test]
async fn a_public_key_in_pem_is_enough() {
    let signer = Signer::ed();
    let Signer::Ed(pair) = &signer else {
        unreachable!()
    };
    // The bytes before an Ed25519 key in a SubjectPublicKeyInfo.
    let mut der = vec![
        0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
    ];
    der.extend(ring::signature::KeyPair::public_key(pair).as_ref());
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(der)
    );
    let file = AuthFile::new("");
    file.beside("key.pem", pem.as_bytes());
    let own = "[[issuer.key]]\nalgorithm = \"EdDSA\"\npublic_key_file = \"key.pem\"";
    file.write(&issuer(own, &GRANTS));
    let app = file.app().await;
    assert_eq!(
        status(&app, &signer.token("whatever", &claims(&GRANTS))).await,
        200
    );
    // The same text as an HMAC secret: a key is valid only for its own algorithm.
    let confused = Signer::Secret(pem.into_bytes()).token("whatever", &claims(&GRANTS));
    assert_eq!(status(&app, &confused).await, 401);
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_told_and_refused() {
    let signer = Signer::ec();
    let (_file, app) = with_keys(&[("k", &signer)]).await;
    let with = |name: &str, value: Value| {
        let mut claims = claims(&GRANTS);
        claims[name] = value;
        signer.token("k", &claims)
    };
    let without = |name: &str| {
        let mut claims = claims(&GRANTS);
        claims.as_object_mut().unwrap().remove(name);
        signer.token("k", &claims)
    };
    let good = claims(&GRANTS);
    let none = |signature: &str| {
        let text = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        format!(
            "{}.{}.{signature}",
            text(json!({"alg": "none"})),
            text(good.clone())
        )
    };
    assert_eq!(status(&app, &signer.token("k", &good)).await, 200);
    for (token, why) in [
        (with("exp", json!(from_now(-5))), "has expired"),
        (with("nbf", json!(from_now(60))), "not valid yet"),
        (with("aud", json!("another")), "another audience"),
        (with("aud", json!(["a", "b"])), "another audience"),
        (with("iss", json!("https://evil.test")), "another issuer"),
        (without("exp"), "lacks one of"),
        (without("aud"), "lacks one of"),
        (with("exp", json!("soon")), ""),
        (with("exp", json!(-1)), ""),
        (with("exp", json!(1e300)), ""),
        (with("nbf", json!("soon")), ""),
        (with("streamgate", json!(["fly *"])), "grants is invalid"),
        (
            with("streamgate", json!({"publish": "*"})),
            "grants is invalid",
        ),
        (none(""), ""),
        (none("AAAA"), ""),
        (
            signer.token_with(&json!({"alg": "NONE", "kid": "k"}), &good),
            "",
        ),
        (
            signer.token_with(&json!({"alg": "HS256", "kid": "k"}), &good),
            "",
        ),
        (
            signer.token_with(&json!({"alg": "RS256", "kid": "k"}), &good),
            "",
        ),
        (signer.token("../../../etc/passwd", &good), "unknown key"),
        (signer.token("k' OR 1=1", &good), "unknown key"),
        (Signer::ec().token("k", &good), "signature is wrong"),
        (
            signer
                .token("k", &good)
                .rsplit_once('.')
                .unwrap()
                .0
                .to_owned()
                + ".",
            "",
        ),
        (signer.token("k", &good).replace('.', ".."), ""),
        ("a.b.c".to_owned(), ""),
        ("..".to_owned(), ""),
        ("x".repeat(20_000), ""),
    ] {
        let answer = app.bearing(&token).get("/v1/streams").await;
        let detail = answer.is_problem(401, "unauthenticated")["detail"].to_string();
        assert!(detail.contains(why), "{token}: {detail}");
        let payload = token.split('.').nth(1).filter(|part| part.len() > 8);
        assert!(
            payload.is_none_or(|part| !answer.body.contains(part)),
            "{}",
            answer.body
        );
    }
}

#[tokio::test]
async fn the_secret_of_hmac_is_no_public_key() {
    // A well-known attack: a token signed by HMAC with the text of the RSA public key.
    let rsa = Signer::rsa();
    let (_file, app) = with_keys(&[("k", &rsa)]).await;
    let jwk = rsa.jwk("k");
    let modulus = BASE64_URL_SAFE_NO_PAD
        .decode(jwk["n"].as_str().unwrap())
        .unwrap();
    for secret in [
        modulus,
        jwk.to_string().into_bytes(),
        jwk["n"].as_str().unwrap().as_bytes().to_vec(),
    ] {
        let token = Signer::Secret(secret).token("k", &claims(&GRANTS));
        assert_eq!(status(&app, &token).await, 401);
    }
    assert_eq!(status(&app, &rsa.token("k", &claims(&GRANTS))).await, 200);
}

#[tokio::test]
async fn a_shared_secret_has_no_place_in_a_set_of_public_keys() {
    let secret = Signer::Secret(vec![9; 64]);
    let (_file, app) = with_keys(&[("k", &secret), ("e", &Signer::ec())]).await;
    assert_eq!(
        status(&app, &secret.token("k", &claims(&GRANTS))).await,
        401
    );
}

#[tokio::test]
async fn no_token_gets_more_than_its_issuer_may_give() {
    let (allowed, other) = (unique("allowed"), unique("other"));
    let signer = Signer::ec();
    let file = AuthFile::new("");
    file.beside(
        "keys.json",
        json!({"keys": [signer.jwk("k")]}).to_string().as_bytes(),
    );
    file.write(&issuer(
        "jwks_file = \"keys.json\"",
        &[&format!("publish {allowed}")],
    ));
    let app = file.app().await;
    let token = signer.token("k", &claims(&["* *"]));
    assert_eq!(app.bearing(&token).publish(&allowed, "1").await.status, 201);
    app.bearing(&token)
        .publish(&other, "1")
        .await
        .is_problem(403, "forbidden");
    app.bearing(&token)
        .get(&format!("/v1/streams/{allowed}"))
        .await
        .is_problem(403, "forbidden");
    let narrow = signer.token("k", &claims(&["subscribe *"]));
    app.bearing(&narrow)
        .publish(&allowed, "1")
        .await
        .is_problem(403, "forbidden");
    let mut nothing = claims(&[]);
    nothing.as_object_mut().unwrap().remove("streamgate");
    let nothing = signer.token("k", &nothing);
    app.bearing(&nothing)
        .publish(&allowed, "1")
        .await
        .is_problem(403, "forbidden");
}

#[tokio::test]
async fn what_follows_by_a_token_ends_with_it() {
    let stream = unique("exp");
    let signer = Signer::ec();
    let (file, app) = with_keys(&[("k", &signer)]).await;
    let mut short = claims(&GRANTS);
    short["exp"] = json!(from_now(2));
    let path = format!("/v1/streams/{stream}/events");
    let mut of_short = app.bearing(&signer.token("k", &short)).follow(&path).await;
    let long = signer.token("k", &claims(&GRANTS));
    let mut of_long = app.bearing(&long).follow(&path).await;
    of_short.expect("$open").await;
    of_long.expect("$open").await;
    assert_eq!(
        of_short.expect("$end").await.json(),
        json!({"reason": "expired"})
    );
    // Removing the key from the set invalidates every token signed with it.
    file.beside(
        "keys.json",
        json!({"keys": [Signer::ec().jwk("k2")]})
            .to_string()
            .as_bytes(),
    );
    assert_eq!(
        of_long.expect("$end").await.json(),
        json!({"reason": "expired"})
    );
    assert_eq!(status(&app, &long).await, 401);
}

/// A server of a key set, which can be changed and made to fail.
struct Keys {
    url: String,
    set: Arc<Mutex<Option<String>>>,
    asked: Arc<Mutex<usize>>,
    task: tokio::task::JoinHandle<()>,
}

impl Keys {
    async fn serve(set: &[Value]) -> Self {
        Self::serve_over(None, set).await
    }

    async fn serve_over(tls: Option<&TlsFiles>, set: &[Value]) -> Self {
        let tls = tls.map(|files| {
            streamgate::net::tls::install_provider();
            let chain = CertificateDer::pem_file_iter(&files.cert).unwrap();
            let chain = chain.collect::<Result<_, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
            let config = ServerConfig::builder().with_no_client_auth();
            TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).unwrap()))
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{}/keys", listener.local_addr().unwrap());
        let set = Arc::new(Mutex::new(Some(json!({"keys": set}).to_string())));
        let asked = Arc::new(Mutex::new(0));
        let (served, count) = (set.clone(), asked.clone());
        let task = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                *count.lock().unwrap() += 1;
                let answer = match &*served.lock().unwrap() {
                    Some(body) => {
                        format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                            body.len()
                        )
                    }
                    None => "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n".to_owned(),
                };
                match &tls {
                    None => speak(stream, &answer).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            speak(stream, &answer).await;
                        }
                    }
                }
            }
        });
        Self {
            url,
            set,
            asked,
            task,
        }
    }

    fn become_(&self, set: Option<&[Value]>) {
        *self.set.lock().unwrap() = set.map(|set| json!({"keys": set}).to_string());
    }

    fn asked(&self) -> usize {
        *self.asked.lock().unwrap()
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers one request and closes the connection.
async fn speak(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut head = [0; 2048];
    let _ = stream.read(&mut head).await;
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn keys_are_fetched_from_whom_a_known_authority_vouches_for() {
    let (signer, dir) = (Signer::ed(), tempfile::tempdir().unwrap());
    let (known, unknown) = (Authority::new(), Authority::new());
    let keys = Keys::serve_over(Some(&known.issue(dir.path())), &[signer.jwk("1")]).await;
    for (authority, expected) in [(&known, 200), (&unknown, 503)] {
        let file = AuthFile::new("");
        file.beside("ca.pem", authority.pem.as_bytes());
        let more = format!("jwks_url = \"{}\"\njwks_ca = \"ca.pem\"", keys.url);
        file.write(&issuer(&more, &GRANTS));
        let app = file.app().await;
        let token = signer.token("1", &claims(&GRANTS));
        assert_eq!(status(&app, &token).await, expected);
    }
}

#[tokio::test]
async fn keys_are_fetched_when_a_token_names_one_that_is_new_and_outlive_an_outage() {
    let (first, second) = (Signer::ec(), Signer::ed());
    let keys = Keys::serve(&[first.jwk("1")]).await;
    let file = AuthFile::new(&issuer(&format!("jwks_url = \"{}\"", keys.url), &GRANTS));
    let app = file.app().await;
    let of_first = first.token("1", &claims(&GRANTS));
    assert_eq!(status(&app, &of_first).await, 200);
    // When the server fails, known keys stay valid, and tokens with unknown keys are rejected.
    keys.become_(None);
    assert_eq!(
        status(&app, &first.token("1", &claims(&["publish a"]))).await,
        200
    );
    let of_second = second.token("2", &claims(&GRANTS));
    let before = keys.asked();
    for _ in 0..20 {
        assert_eq!(status(&app, &of_second).await, 401);
    }
    assert!(
        keys.asked() - before <= 2,
        "unknown keys do not make us ask again and again"
    );
    keys.become_(Some(&[first.jwk("1"), second.jwk("2")]));
    eventually("the new key is known", async || {
        status(&app, &of_second).await == 200
    })
    .await;
    assert_eq!(status(&app, &of_first).await, 200);
}

#[tokio::test]
async fn while_no_key_was_ever_fetched_it_cannot_be_told() {
    let signer = Signer::ec();
    let keys = Keys::serve(&[]).await;
    keys.become_(None);
    let file = AuthFile::new(&issuer(&format!("jwks_url = \"{}\"", keys.url), &GRANTS));
    let app = file.app().await;
    let token = signer.token("1", &claims(&GRANTS));
    let answer = app.bearing(&token).get("/v1/streams").await;
    assert_eq!(
        answer.is_problem(503, "auth-unavailable")["retryable"],
        true
    );
    let mut events = app.bearing(&token).follow("/v1/streams/a/events").await;
    assert_eq!(
        events.expect("$end").await.json(),
        json!({"reason": "auth-unavailable"})
    );
}

#[test]
fn what_is_wrong_with_an_issuer_is_told_at_the_start() {
    let wrong = |more: &str| {
        let file = AuthFile::new(&issuer(more, &GRANTS));
        file.beside("short", b"short");
        file.beside("secret", &[b'x'; 40]);
        let wrong = streamgate::auth::Auth::from_file(&file.path(), 25)
            .unwrap_err()
            .join("; ");
        assert!(!wrong.contains("xxxx"), "{wrong}");
        wrong
    };
    let key = |algorithm: &str, more: &str| {
        format!("[[issuer.key]]\nalgorithm = \"{algorithm}\"\n{more}")
    };
    for (more, why) in [
        (String::new(), "no keys"),
        (
            "jwks_url = \"http://issuer.test/keys\"".to_owned(),
            "over https",
        ),
        (
            "jwks_url = \"ftp://issuer.test/keys\"".to_owned(),
            "over https",
        ),
        (
            "jwks_file = \"a\"\njwks_url = \"https://a\"".to_owned(),
            "exclude",
        ),
        (key("HS256", "secret_file = \"short\""), "at least 32 bytes"),
        (key("HS256", "secret_file = \"missing\""), "missing"),
        (key("HS512", "secret_file = \"secret\""), "must be HS256"),
        (key("none", "secret_file = \"secret\""), "must be HS256"),
        (
            key("RS256", "public_key_file = \"secret\""),
            "not a public key",
        ),
        (
            key("RS256", "secret_file = \"secret\""),
            "other algorithms a `public_key_file`",
        ),
        (
            key("HS256", "public_key_file = \"secret\""),
            "HS256 requires a `secret_file`",
        ),
    ] {
        let told = wrong(&more);
        assert!(told.contains(why), "{more}: {told}");
    }
}
