//! Response bodies shared by the resources: JSON, views of entries, gaps, and their schemas.

pub(in crate::http) mod accept;
pub(in crate::http) mod asset;
pub(in crate::http) mod gap;
pub(in crate::http) mod json;
pub(in crate::http) mod schema;
pub(in crate::http) mod view;
