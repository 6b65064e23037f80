//! Items of `Accept` and similar headers, with whether the client accepts or refuses each.

use axum::http::{HeaderMap, HeaderName};

/// Returns the items of a header in lower case, without parameters. An item with a weight of 0 is
/// refused (`false`); the gateway ignores other weights.
#[must_use]
pub fn items(headers: &HeaderMap, name: &HeaderName) -> Vec<(String, bool)> {
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let items = values.flat_map(|value| value.split(',')).map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let item = parts.next().unwrap_or_default().to_ascii_lowercase();
        (item, !parts.any(is_zero_weight))
    });
    items.filter(|(item, _)| !item.is_empty()).collect()
}

/// Reports whether a parameter is `q=0`, which may have up to three decimal places.
fn is_zero_weight(parameter: &str) -> bool {
    let Some(("q" | "Q", weight)) = parameter.split_once('=') else {
        return false;
    };
    weight
        .strip_prefix('0')
        .is_some_and(|rest| rest.chars().all(|c| matches!(c, '.' | '0')))
}
