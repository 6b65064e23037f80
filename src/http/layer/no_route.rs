//! The problem for a path that no route has, with a hint at the path that was probably meant.

use crate::http::error::{ApiError, ErrorCode};

/// Paths that other services have for what is here under another name.
const ELSEWHERE: [(&[&str], &str); 4] = [
    (
        &[
            "/healthz", "/health", "/live", "/livez/", "/status", "/ping",
        ],
        "/livez",
    ),
    (&["/ready", "/readiness", "/readyz/"], "/readyz"),
    (
        &[
            "/openapi",
            "/openapi.yaml",
            "/swagger.json",
            "/v1/openapi.json",
        ],
        "/openapi.json",
    ),
    (&["/swagger", "/swagger-ui", "/api", "/v1/docs"], "/docs"),
];

/// 404 `route-not-found` for this path.
pub fn problem(path: &str) -> ApiError {
    let found = ELSEWHERE.iter().find(|(names, _)| names.contains(&path));
    let detail = if let Some((_, instead)) = found {
        format!("no route has this path; {instead} is what is here for it")
    } else if let Some(bare) = path.strip_suffix('/').filter(|bare| !bare.is_empty()) {
        format!("no route has this path; paths have no slash at the end: {bare}")
    } else if path.starts_with("/v1/") {
        "no route has this path; /openapi.json lists all of them, and `/` in a name is `%2F`"
            .to_owned()
    } else {
        "no route has this path; the API is under /v1, and /openapi.json lists all routes"
            .to_owned()
    };
    ApiError::new(ErrorCode::RouteNotFound, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_are_nearly_right_are_answered_with_the_right_one() {
        for (path, hint) in [
            ("/healthz", "/livez"),
            ("/ready", "/readyz"),
            ("/v1/streams/", ": /v1/streams"),
            ("/v1/streams/a/entry", "/openapi.json"),
            ("/streams", "under /v1"),
        ] {
            let detail = problem(path).detail;
            assert!(detail.contains(hint), "{path}: {detail}");
        }
    }
}
