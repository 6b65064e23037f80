//! Properties of all parsers of untrusted input. Each function takes bytes for one parser and
//! panics if a property does not hold. The long runs (`make fuzz`) and the short ones
//! (`tests/it/untrusted.rs`) call the same functions.

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

/// A function that panics if a property does not hold.
pub type Body = fn(&[u8]);

/// All targets by name.
pub const ALL: [(&str, Body); 22] = [
    ("append_body", requests::append_body),
    ("bare_entries", entries::bare),
    ("cloudevent_binary", cloudevents::binary),
    ("cloudevent_json", cloudevents::json),
    ("credentials", credentials::credentials),
    ("cursors", words::cursors),
    ("fast_path", wire::fast_path),
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
