//! The problem for an unknown path, with a hint at the path that was probably meant.

use crate::http::error::{ApiError, ErrorCode};

/// Paths common in other services, with the path of the same endpoint here.
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

/// Returns 404 `route-not-found` for a path.
pub fn problem(path: &str) -> ApiError {
    let found = ELSEWHERE.iter().find(|(names, _)| names.contains(&path));
    let detail = if let Some((_, instead)) = found {
        format!("no route has this path; use {instead}")
    } else if let Some(bare) = path.strip_suffix('/').filter(|bare| !bare.is_empty()) {
        format!("no route has this path; paths do not end with a slash: {bare}")
    } else if path.starts_with("/v1/") {
        "no route has this path; /openapi.json lists all routes; write a `/` in a name as `%2F`"
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
