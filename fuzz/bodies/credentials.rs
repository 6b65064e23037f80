//! Credentials: only the exact texts that were issued are accepted.

use std::sync::OnceLock;

use streamgate::auth::ticket::{Ticket, TicketCreator};
use streamgate::auth::{Auth, Credential, DeliveryError};

const KEY: &str = "sgk_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
/// A token that is valid until 2100, signed with the secret below.
const TOKEN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJpIiwiYXVkIjoiYSIsInN1YiI6InMiLCJleHAiOjQxMDI0NDQ4MDAsInN0cmVhbWdhdGUiOlsiKiAqIl19.-sAStcvkFSsjO3Gl8lIO1imwVFG20DSKJmwXNE5kLFY";
/// The schemes of webhook sources, each with a source of the same name.
const SCHEMES: [&str; 5] = [
    "standard-webhooks",
    "github",
    "stripe",
    "slack",
    "hmac-sha256",
];
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Returns the authentication that accepts these credentials and no others, and a valid ticket.
fn believer() -> &'static (Auth, String) {
    static BELIEVER: OnceLock<(Auth, String)> = OnceLock::new();
    BELIEVER.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("streamgate-fuzz-{}", std::process::id()));
        let Ok(()) = std::fs::create_dir_all(&dir) else {
            panic!("cannot create a directory")
        };
        let mut file = format!(
            "[[key]]\nname = \"k\"\nhash = \"{}\"\ngrants = [\"* *\"]\n[[issuer]]\nname = \"i\"\n\
             iss = \"i\"\naudience = \"a\"\nceiling = [\"* *\"]\n[[issuer.key]]\n\
             algorithm = \"HS256\"\nsecret_file = \"secret\"\n",
            streamgate::auth::KeyHash::of(KEY)
        );
        for scheme in SCHEMES {
            let header = match scheme {
                "hmac-sha256" => "header = \"x-signature\"\n",
                _ => "",
            };
            let record = [
                "[[source]]\nname = \"",
                scheme,
                "\"\nstream = \"s\"\nscheme = \"",
                scheme,
                "\"\nsecret_file = \"secret\"\n",
                header,
            ];
            file += &record.concat();
        }
        let written = std::fs::write(dir.join("secret"), SECRET)
            .and_then(|()| std::fs::write(dir.join("auth.toml"), file));
        let Ok(auth) = Auth::from_file(&dir.join("auth.toml"), 25) else {
            panic!("{written:?}")
        };
        auth.share_secret(SECRET.as_bytes());
        let maker = TicketCreator::Key("k".to_owned(), "m".to_owned());
        let ticket = Ticket {
            maker,
            streams: vec!["s".to_owned()],
            until: 4_102_444_800,
        };
        let Some(ticket) = auth.ticket(&ticket) else {
            panic!("cannot sign a ticket")
        };
        let _ = std::fs::remove_dir_all(dir);
        (auth, ticket)
    })
}

/// Checks a request to a webhook source of each scheme, whose headers and body are the input. Without
/// the secret, nobody makes a signature.
fn deliveries(auth: &Auth, text: &str) {
    let (headers, body) = text.split_once('\n').unwrap_or((text, ""));
    let mut parts = headers.split('|');
    let (id, time, signature) = (parts.next(), parts.next(), parts.next());
    let header = |name: &str| match name {
        "webhook-id" | "x-github-delivery" => id,
        _ if name.contains("timestamp") => time,
        _ => signature,
    };
    for scheme in SCHEMES {
        let Some(source) = auth.source(scheme) else {
            panic!("no source of {scheme}")
        };
        let verified = source.verify(&header, body.as_bytes(), 1_700_000_000);
        assert_eq!(verified, Err(DeliveryError::Signature), "{scheme}");
    }
}

/// Checks a text as every kind of credential.
pub fn credentials(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (auth, ticket) = believer();
    deliveries(auth, text);
    let taken = |shown| auth.identify(shown).is_ok();
    assert_eq!(taken(Credential::Key(text)), text == KEY);
    assert_eq!(
        taken(Credential::Bearer(text)),
        text == KEY || text == TOKEN
    );
    assert_eq!(taken(Credential::Ticket(text)), text == ticket);
}
