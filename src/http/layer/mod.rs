//! Layers around every handler: identity, admission, limits, the request log and problem bodies.

pub(in crate::http) mod admission;
pub(in crate::http) mod base_path;
pub(in crate::http) mod compress;
pub(in crate::http) mod cors;
pub(in crate::http) mod host;
pub(in crate::http) mod identify;
pub(in crate::http) mod malformed;
pub(in crate::http) mod no_route;
pub(in crate::http) mod rejection;
pub(in crate::http) mod request;
pub(in crate::http) mod request_layer;
pub(in crate::http) mod request_log;
pub(in crate::http) mod request_record;
pub(in crate::http) mod response_budget;
pub(in crate::http) mod unread_body;
