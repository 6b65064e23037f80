//! Suggestions for misspelt names.

/// Maximum length of a name that gets a suggestion, in bytes. The cost of a comparison grows with
/// both lengths, and a very long name is near none.
const MAX_NAME: usize = 64;

/// Returns the name in `known` nearest to `name`, or `None` if none is near.
#[must_use]
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > MAX_NAME {
        return None;
    }
    let scored = known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known));
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 > 0.7).then_some(best.1)
}
