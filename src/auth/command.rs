//! `streamgate keys`: makes, lists and revokes the keys of an auth file. Every change is checked as a
//! gateway would, and replaces the file in one step.

use std::fmt::{Display, Write as _};
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use toml_edit::{DocumentMut, Item, Table};

use crate::auth::api_key::{KeyHash, MIN_LENGTH, new_key};
use crate::auth::file::Book;
use crate::auth::grants::Grants;

/// The grant of a key made with `--admin`: every right on every stream.
const EVERYTHING: &str = "* *";

/// A key to make.
#[derive(Debug)]
pub struct NewKey {
    /// The name of its principal.
    pub name: String,
    /// Its grants, at least one unless `admin`.
    pub grants: Vec<String>,
    /// Grants every right on every stream.
    pub admin: bool,
    /// The prefix of the namespace it works in.
    pub prefix: Option<String>,
}

/// Makes a key. Into the file, which is made if there is none, goes its record; what is answered is
/// to be printed, and holds the key, which is nowhere else.
///
/// # Errors
/// What is wrong with the name, the grants or the file; then nothing was written.
pub fn make(new: &NewKey, file: Option<&Path>) -> Result<String, String> {
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
    let key = new_key().ok_or("the system gives no random bytes")?;
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
        return Ok(format!(
            "{key}\n\nThis is the key; it is shown this once. For the auth file:\n\n{record}"
        ));
    };
    append(file, &record)?;
    Ok(format!(
        "{key}\n\nThis is the key; it is shown this once. {} knows its hash.\n",
        file.display()
    ))
}

/// Lists the keys of a file, a line each: name, number of keys, grants, prefix and expiry, separated by
/// tabs, below a line that names the columns.
///
/// # Errors
/// Why the file cannot be read.
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

/// Removes the record of a name, and with it all its keys. Running gateways follow within a second.
///
/// # Errors
/// That there is no such key, or why the file cannot be read or written; then nothing was changed.
pub fn revoke(name: &str, file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| in_file(file, &error))?;
    let mut document: DocumentMut = text.parse().map_err(|error| in_file(file, &error))?;
    let missing = || format!("{}: no key is called {name:?}", file.display());
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

/// Reads the text as a gateway would.
fn check(file: &Path, text: &str) -> Result<(), String> {
    let beside = file.parent().unwrap_or(Path::new("."));
    Book::read(text, beside, &Book::default())
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

/// Replaces the file in one step, unless a gateway would not take the new text.
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
    // Secrets are not in it, but who may do what is nobody else's business.
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut written = options.open(new)?;
    if let Ok(old) = old.metadata() {
        keep_access(&written, &old)?;
    }
    written.write_all(text.as_bytes())?;
    written.sync_all()?;
    std::fs::rename(new, old)
}

/// Who could read the old file can read the new one, such as a gateway that runs as a user of its own
/// while root makes the keys.
fn keep_access(new: &File, old: &Metadata) -> io::Result<()> {
    let made = new.metadata()?;
    if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
        fchown(new, Some(old.uid()), Some(old.gid()))?;
    }
    new.set_permissions(old.permissions())
}

/// The hash of the key on the standard input.
///
/// # Errors
/// When there is none, or it is one that somebody could guess.
pub fn hash() -> Result<String, String> {
    let mut key = String::new();
    io::stdin()
        .read_to_string(&mut key)
        .map_err(|error| error.to_string())?;
    let key = key.trim();
    if key.len() < MIN_LENGTH {
        return Err(format!(
            "a key that somebody thought up is guessed from its hash: use {MIN_LENGTH} random characters or more"
        ));
    }
    Ok(format!("{}\n", KeyHash::of(key)))
}
