//! Patterns of durations within bounds.

use std::fmt::Write as _;
use std::time::Duration;

/// Units of durations, in milliseconds.
const UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];

/// Returns the pattern of a duration from `min` to `max`, or of 0 if `zero` is true.
pub fn between(min: Duration, max: Duration, zero: bool) -> String {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (min, max) = (millis(min).max(1), millis(max));
    let zero = zero.then(|| "0(?:ms|[smhd])?".to_owned());
    let of_unit = |(unit, millis): (&str, u64)| {
        let (first, last) = (min.div_ceil(millis), max / millis);
        (first <= last).then(|| format!("(?:{}){unit}", numbers(first, last)))
    };
    let all: Vec<String> = zero
        .into_iter()
        .chain(UNITS.into_iter().filter_map(of_unit))
        .collect();
    format!("^0*(?:{})$", all.join("|"))
}

/// Returns an expression for the decimal numbers from `first` to `last`, without leading zeros.
fn numbers(first: u64, last: u64) -> String {
    // The ranges end at numbers like 99 and 199, so that each range varies only in its last digits.
    let powers = || (1..20).map(|digits| 10_u64.pow(digits));
    let nines = powers().map(|power| first / power * power + (power - 1));
    let below = powers().filter_map(|power| ((last + 1) / power * power).checked_sub(1));
    let mut ends: Vec<u64> = nines.take_while(|end| *end < last).collect();
    ends.extend(below.take_while(|end| *end > first));
    ends.push(last);
    ends.sort_unstable();
    ends.dedup();
    let mut start = first;
    let mut all = Vec::new();
    // All numbers with one to three digits, say, are one expression.
    let lengths = |number: u64| number.to_string().len() - 1;
    let whole = ends
        .iter()
        .rposition(|end| powers().any(|power| *end == power - 1));
    if let Some(whole) = whole.filter(|_| powers().any(|power| first == power / 10)) {
        let (shortest, most) = (lengths(first), lengths(ends[whole]));
        all.push(match (shortest, most) {
            (0, 0) => "[1-9]".to_owned(),
            _ => format!("[1-9][0-9]{{{shortest},{most}}}"),
        });
        start = ends[whole] + 1;
        ends.drain(..=whole);
    }
    let range = |end| {
        let text = same_length(&start.to_string(), &u64::to_string(&end));
        start = end + 1;
        text
    };
    all.extend(ends.into_iter().map(range));
    all.join("|")
}

/// Returns an expression for the numbers between two texts of the same length.
fn same_length(first: &str, last: &str) -> String {
    let mut text = String::new();
    let mut any = 0;
    for (low, high) in first.chars().zip(last.chars()) {
        // Writing into a `String` cannot fail.
        match (low, high) {
            ('0', '9') => any += 1,
            _ if low == high => text.push(low),
            _ => _ = write!(text, "[{low}-{high}]"),
        }
    }
    match any {
        0 => text,
        1 => text + "[0-9]",
        _ => format!("{text}[0-9]{{{any}}}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;
    use crate::model::duration;

    #[test]
    fn a_pattern_names_the_bounds_of_each_unit() {
        let day = Duration::from_secs(86_400);
        assert_eq!(
            between(Duration::from_millis(100), day, true),
            "^0*(?:0(?:ms|[smhd])?|(?:[1-9][0-9]{2,6}|[1-7][0-9]{7}|8[0-5][0-9]{6}|86[0-3][0-9]{5}\
             |86400000)ms|(?:[1-9][0-9]{0,3}|[1-7][0-9]{4}|8[0-5][0-9]{3}|86[0-3][0-9]{2}|86400)s\
             |(?:[1-9][0-9]{0,2}|1[0-3][0-9]{2}|14[0-3][0-9]|1440)m|(?:[1-9]|1[0-9]|2[0-4])h|(?:1)d)$"
        );
    }

    proptest! {
        #[test]
        fn a_pattern_matches_exactly_the_durations_within_the_bounds(
            min in 0_u64..200_000, span in 0_u64..400_000_000, number in 0_u64..400_000_000,
            unit in 0_usize..5, zero: bool
        ) {
            let bounds = (Duration::from_millis(min), Duration::from_millis(min + span));
            let pattern = Regex::new(&between(bounds.0, bounds.1, zero)).unwrap();
            let (unit, millis) = UNITS[unit];
            let numbers = [number / millis, min / millis, min.div_ceil(millis), (min + span) / millis,
                (min + span) / millis + 1, 0, 9, 10, 99, 100, 101];
            for number in numbers {
                let text = format!("{number}{unit}");
                let parsed = duration::parse(&text).unwrap();
                let within = match parsed.is_zero() {
                    true => zero,
                    false => (bounds.0..=bounds.1).contains(&parsed),
                };
                prop_assert_eq!(pattern.is_match(&text), within, "{} {}", text, pattern);
            }
        }
    }
}
