//! `streamgate keys`: making keys, and what is kept of them.

use std::fmt::Write as _;
use std::fs::{File, Metadata};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::path::Path;

use super::api_key::{KeyHash, MIN_LENGTH, new_key};
use super::file::Book;
use super::grants::Grants;

/// A key that is to be made.
#[derive(Debug)]
pub struct NewKey {
    /// What it is called.
    pub name: String,
    /// What it is granted; everything unless something is given.
    pub grants: Vec<String>,
    /// The prefix of the namespace it works in.
    pub prefix: Option<String>,
}

/// Makes a key. Into the file, which is made if there is none, goes its record; what is answered is
/// to be printed, and holds the key, which is nowhere else.
///
/// # Errors
/// What is wrong with the name, the grants or the file; then nothing was written.
pub fn make(new: &NewKey, file: Option<&Path>) -> Result<String, String> {
    let grants = match new.grants.is_empty() {
        true => vec!["* *".to_owned()],
        false => new.grants.clone(),
    };
    Grants::parse(&grants).map_err(|error| error.to_string())?;
    let key = new_key().ok_or("the system gives no random bytes")?;
    let text = |text: &str| toml::Value::from(text).to_string();
    let mut record = format!("[[key]]\nname = {}\n", text(&new.name));
    let grants = toml::Value::from(grants);
    // Writing into a `String` cannot fail.
    let _ = write!(record, "hash = {}\ngrants = {grants}\n", text(&KeyHash::of(&key).to_string()));
    if let Some(prefix) = &new.prefix {
        let _ = writeln!(record, "prefix = {}", text(prefix));
    }
    let Some(file) = file else {
        Book::read(&record, Path::new("."), &Book::default()).map_err(|wrong| wrong.join("; "))?;
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

/// Adds a record to the file, all or nothing.
fn append(file: &Path, record: &str) -> Result<(), String> {
    let of = |error: io::Error| format!("{}: {error}", file.display());
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(of(error)),
    };
    let gap = if before.is_empty() || before.ends_with("\n\n") { "" } else { "\n" };
    let text = format!("{before}{gap}{record}");
    let beside = file.parent().unwrap_or(Path::new("."));
    Book::read(&text, beside, &Book::default()).map_err(|wrong| wrong.join("; "))?;
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let written = write_in_place_of(file, &new, &text);
    if written.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    written.map_err(of)
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
    io::stdin().read_to_string(&mut key).map_err(|error| error.to_string())?;
    let key = key.trim();
    if key.len() < MIN_LENGTH {
        return Err(format!(
            "a key that somebody thought up is guessed from its hash: use {MIN_LENGTH} random characters or more"
        ));
    }
    Ok(format!("{}\n", KeyHash::of(key)))
}
