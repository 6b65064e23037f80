//! The command `streamgate keys`, which creates, lists and revokes the keys of an auth file. Every
//! change is validated as a gateway would validate it, and replaces the file atomically.

use std::fmt::{Display, Write as _};
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use toml_edit::{DocumentMut, Item, Table};

use crate::auth::api_key::{KeyHash, MIN_LENGTH, new_key};
use crate::auth::book::Book;
use crate::auth::grants::Grants;
use crate::shares::DEFAULT_PERCENT;

/// The grant of a key made with `--admin`: every right on every stream.
const EVERYTHING: &str = "* *";

/// A key to create.
#[derive(Debug)]
pub struct NewKey {
    /// The name of the principal.
    pub name: String,
    /// The grants; at least one unless `admin` is set.
    pub grants: Vec<String>,
    /// Whether the key has every right on every stream.
    pub admin: bool,
    /// The namespace prefix of the key.
    pub prefix: Option<String>,
}

/// A new key, ready to print.
pub struct Created {
    /// Text for standard output: the key, which is stored nowhere else. Without an auth file, its
    /// record follows.
    pub output: String,
    /// Text for standard error.
    pub note: String,
}

/// Creates a key and adds its record to the file, which is created if it does not exist.
///
/// # Errors
/// Returns the problem with the name, the grants or the file. Nothing was written then.
pub fn make(new: &NewKey, file: Option<&Path>) -> Result<Created, String> {
    let grants = match (new.admin, new.grants.is_empty()) {
        (true, true) => vec![EVERYTHING.to_owned()],
        (false, false) => new.grants.clone(),
        (true, false) => return Err("--admin and --grant exclude each other".to_owned()),
        (false, true) => {
            return Err(
                "a key needs at least one --grant, like --grant 'publish orders:*', or \
                        --admin for every right on every stream"
                    .to_owned(),
            );
        }
    };
    Grants::parse(&grants).map_err(|error| error.to_string())?;
    let key = new_key().ok_or("the system provides no random bytes")?;
    let text = |text: &str| toml::Value::from(text).to_string();
    let mut record = format!("[[key]]\nname = {}\n", text(&new.name));
    let grants = toml::Value::from(grants);
    // Writing into a `String` cannot fail.
    let _ = write!(
        record,
        "hash = {}\ngrants = {grants}\n",
        text(&KeyHash::of(&key).to_string())
    );
    if let Some(prefix) = &new.prefix {
        let _ = writeln!(record, "prefix = {}", text(prefix));
    }
    let Some(file) = file else {
        check(Path::new("auth.toml"), &record)?;
        return Ok(Created {
            output: format!("{key}\n\n{record}"),
            note:
                "The first line is the key; it is shown only once. The rest is for the auth file.\n"
                    .to_owned(),
        });
    };
    append(file, &record)?;
    Ok(Created {
        output: format!("{key}\n"),
        note: format!(
            "This is the key; it is shown only once. {} contains its hash.\n",
            file.display()
        ),
    })
}

/// Lists the keys of a file, one per line, below a line with the column names. The columns are
/// name, number of keys, grants, prefix and expiry, separated by tabs.
///
/// # Errors
/// Returns the reason why the file cannot be read.
pub fn list(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| in_file(file, &error))?;
    check(file, &text)?;
    let mut lines = "NAME\tKEYS\tGRANTS\tPREFIX\tEXPIRES\n".to_owned();
    for key in Book::records(&text).map_err(|error| in_file(file, &error))? {
        let (prefix, expires) = (key.prefix.as_deref(), key.expires.as_deref());
        // Writing into a `String` cannot fail.
        let _ = writeln!(
            lines,
            "{}\t{}\t{}\t{}\t{}",
            key.name,
            key.hash.all().len(),
            key.grants.join("; "),
            prefix.unwrap_or("-"),
            expires.unwrap_or("-")
        );
    }
    Ok(lines)
}

/// Removes the record of a name, with all its keys. Running gateways pick up the change within a
/// second.
///
/// # Errors
/// Returns an error if there is no such key, or if the file cannot be read or written. Nothing was
/// changed then.
pub fn revoke(name: &str, file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| in_file(file, &error))?;
    let mut document: DocumentMut = text.parse().map_err(|error| in_file(file, &error))?;
    let missing = || format!("{}: there is no key named {name:?}", file.display());
    let keys = document
        .get_mut("key")
        .and_then(Item::as_array_of_tables_mut);
    let keys = keys.ok_or_else(missing)?;
    let is_it = |key: &Table| key.get("name").and_then(Item::as_str) == Some(name);
    let index = keys.iter().position(is_it).ok_or_else(missing)?;
    keys.remove(index);
    replace(file, &document.to_string())?;
    Ok(format!(
        "revoked {name}: gateways that use {} refuse its keys from now on\n",
        file.display()
    ))
}

fn in_file(file: &Path, error: &dyn Display) -> String {
    format!("{}: {error}", file.display())
}

/// Validates the text as a gateway would.
fn check(file: &Path, text: &str) -> Result<(), String> {
    let beside = file.parent().unwrap_or(Path::new("."));
    Book::read(text, beside, DEFAULT_PERCENT, &Book::default())
        .map(drop)
        .map_err(|wrong| wrong.join("; "))
}

/// Adds a record to the file, all or nothing.
fn append(file: &Path, record: &str) -> Result<(), String> {
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(in_file(file, &error)),
    };
    let gap = if before.is_empty() || before.ends_with("\n\n") {
        ""
    } else {
        "\n"
    };
    replace(file, &format!("{before}{gap}{record}"))
}

/// Replaces the file atomically, unless a gateway would reject the new text.
fn replace(file: &Path, text: &str) -> Result<(), String> {
    check(file, text)?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let written = write_in_place_of(file, &new, text);
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written.map_err(|error| in_file(file, &error))
}

fn write_in_place_of(old: &Path, new: &Path, text: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    // The file has no secrets, but the grants of others are private.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut written = options.open(new)?;
    if let Ok(old) = old.metadata() {
        keep_access(&written, &old)?;
    }
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    std::fs::rename(new, old)
}

/// Preserves owner and permissions, so that everyone who could read the old file can read the new
/// one. An example is a gateway that runs as its own user while root creates the keys.
fn keep_access(new: &File, old: &Metadata) -> io::Result<()> {
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    new.set_permissions(old.permissions())
}

/// Returns the hash of the key on standard input.
///
/// # Errors
/// Returns an error if there is no key, or if the key is short enough to guess.
pub fn hash() -> Result<String, String> {
    let mut key = String::new();
    io::stdin()
        .read_to_string(&mut key)
        .map_err(|error| error.to_string())?;
    let key = key.trim();
    if key.len() < MIN_LENGTH {
        return Err(format!(
            "the key is too short and could be guessed from its hash: use at least {MIN_LENGTH} random characters"
        ));
    }
    Ok(format!("{}\n", KeyHash::of(key)))
}
