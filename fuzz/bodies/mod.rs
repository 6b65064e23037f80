//! What holds of everything that reads what strangers send: one function for each reader, which is
//! given bytes and panics when something does not hold. The long runs (`make fuzz`) and the short
//! ones (`tests/it/untrusted.rs`) call the same.

pub mod bytes;
pub mod cloudevents;
pub mod credentials;
pub mod entries;
pub mod frames;
pub mod pairs;
pub mod requests;
pub mod tree;
pub mod wire;
pub mod words;

/// Panics when something does not hold.
pub type Body = fn(&[u8]);

/// Every target by its name.
pub const ALL: [(&str, Body); 21] = [
    ("append_body", requests::append_body),
    ("bare_entries", entries::bare),
    ("cloudevent_binary", cloudevents::binary),
    ("cloudevent_json", cloudevents::json),
    ("credentials", credentials::credentials),
    ("cursors", words::cursors),
    ("form", pairs::form),
    ("form_check", pairs::form_check),
    ("frames", frames::frames),
    ("globs", words::globs),
    ("headers", requests::headers),
    ("ids", words::ids),
    ("inflated", requests::inflated),
    ("json_entries", entries::json),
    ("lines", entries::lines),
    ("messages", wire::messages),
    ("multipart", requests::multipart),
    ("names", words::names),
    ("policies", words::policies),
    ("query", pairs::query),
    ("times", words::times),
];
