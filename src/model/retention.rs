//! The retention of a stream: how much is kept, and whether groups can hold back trimming.

use std::time::Duration;

/// The minimum age limit of entries.
pub const MIN_AGE: Duration = Duration::from_secs(1);
/// The maximum age limit of entries.
pub const MAX_AGE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// The maximum length limit, in entries. Redis counts in signed numbers.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// The precision of trimming.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Trims whole nodes only. This is much cheaper, but keeps somewhat more entries.
    #[default]
    Approximate,
    /// Trims exactly to the limits.
    Exact,
    /// Trims exactly, but only entries that every group has read and acknowledged, from the oldest
    /// entry on and without holes.
    Acked,
}

impl Mode {
    /// Returns the name of the mode.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Approximate => "approximate",
            Self::Exact => "exact",
            Self::Acked => "acked",
        }
    }

    fn of(word: &str) -> Option<Self> {
        [Self::Approximate, Self::Exact, Self::Acked]
            .into_iter()
            .find(|mode| mode.word() == word)
    }
}

/// The limits of a stream. Entries that exceed either limit are trimmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The maximum number of entries. The newest ones are kept.
    pub max_length: Option<u64>,
    /// The maximum age of entries, by the clock of Redis.
    pub max_age: Option<Duration>,
    /// The precision of trimming.
    pub mode: Mode,
    /// With [`Mode::Acked`]: the maximum number of entries, regardless of the groups.
    pub hard_max_length: Option<u64>,
}

/// The rule that a retention breaks. The text can be shown to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRetention {
    /// A retention without limits.
    #[error("set `maxlen`, `max_age` or both; `\"retention\":null` keeps everything")]
    Nothing,
    /// A length of 0, or one that Redis cannot count.
    #[error("`maxlen` must be between 1 and 9223372036854775807")]
    Length,
    /// An age that is too short or too long.
    #[error("`max_age` must be between 1s and 3650d")]
    Age,
    /// A hard limit without [`Mode::Acked`], where it has nothing to override.
    #[error("`hard_maxlen` requires `\"mode\":\"acked\"`")]
    HardWithoutAcked,
    /// A hard limit that would leave no entries to `maxlen`, or that Redis cannot count.
    #[error("`hard_maxlen` must be greater than `maxlen` and at most 9223372036854775807")]
    HardLength,
}

impl InvalidRetention {
    /// Returns a JSON pointer to the member that breaks the rule.
    #[must_use]
    pub const fn pointer(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Length => "/maxlen",
            Self::Age => "/max_age",
            Self::HardWithoutAcked | Self::HardLength => "/hard_maxlen",
        }
    }
}

impl Retention {
    /// Checks the limits.
    ///
    /// # Errors
    /// Returns the rule that the retention breaks.
    pub fn check(&self) -> Result<(), InvalidRetention> {
        if self.max_length.is_none() && self.max_age.is_none() {
            return Err(InvalidRetention::Nothing);
        }
        if self
            .max_length
            .is_some_and(|length| !(1..=MAX_LENGTH).contains(&length))
        {
            return Err(InvalidRetention::Length);
        }
        if self
            .max_age
            .is_some_and(|age| !(MIN_AGE..=MAX_AGE).contains(&age))
        {
            return Err(InvalidRetention::Age);
        }
        match self.hard_max_length {
            Some(_) if self.mode != Mode::Acked => Err(InvalidRetention::HardWithoutAcked),
            Some(hard) if hard <= self.max_length.unwrap_or(0) || hard > MAX_LENGTH => {
                Err(InvalidRetention::HardLength)
            }
            _ => Ok(()),
        }
    }

    /// Encodes the retention for storage: mode, length, age in milliseconds, hard length; `-` for
    /// none.
    #[must_use]
    pub fn encode(&self) -> String {
        let shown = |number: Option<u128>| number.map_or("-".to_owned(), |some| some.to_string());
        let (length, hard) = (
            self.max_length.map(u128::from),
            self.hard_max_length.map(u128::from),
        );
        let age = self.max_age.map(|age| age.as_millis());
        format!(
            "{} {} {} {}",
            self.mode.word(),
            shown(length),
            shown(age),
            shown(hard)
        )
    }

    /// Decodes the text that [`Retention::encode`] wrote.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split(' ');
        let mode = Mode::of(parts.next()?)?;
        let mut number = || match parts.next()? {
            "-" => Some(None),
            number => number.parse::<u64>().ok().map(Some),
        };
        let (max_length, age, hard_max_length) = (number()?, number()?, number()?);
        Some(Self {
            max_length,
            max_age: age.map(Duration::from_millis),
            mode,
            hard_max_length,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LENGTH: Retention = Retention {
        max_length: Some(10),
        max_age: None,
        mode: Mode::Approximate,
        hard_max_length: None,
    };

    #[test]
    fn what_contradicts_itself_or_is_absurd_is_refused() {
        let hour = Some(Duration::from_secs(3600));
        let (acked, exact) = (Mode::Acked, Mode::Exact);
        for (retention, at) in [
            (Retention::default(), Some("")),
            (LENGTH, None),
            (
                Retention {
                    max_age: hour,
                    ..Retention::default()
                },
                None,
            ),
            (
                Retention {
                    max_length: Some(0),
                    ..LENGTH
                },
                Some("/maxlen"),
            ),
            (
                Retention {
                    max_length: Some(u64::MAX),
                    ..LENGTH
                },
                Some("/maxlen"),
            ),
            (
                Retention {
                    max_age: Some(Duration::ZERO),
                    ..LENGTH
                },
                Some("/max_age"),
            ),
            (
                Retention {
                    max_age: Some(MAX_AGE * 2),
                    ..LENGTH
                },
                Some("/max_age"),
            ),
            (
                Retention {
                    hard_max_length: Some(20),
                    mode: exact,
                    ..LENGTH
                },
                Some("/hard_maxlen"),
            ),
            (
                Retention {
                    hard_max_length: Some(10),
                    mode: acked,
                    ..LENGTH
                },
                Some("/hard_maxlen"),
            ),
            (
                Retention {
                    hard_max_length: Some(11),
                    mode: acked,
                    ..LENGTH
                },
                None,
            ),
        ] {
            let pointer = retention.check().err().map(InvalidRetention::pointer);
            assert_eq!(pointer, at, "{retention:?}");
        }
    }

    proptest! {
        #[test]
        fn a_retention_survives_being_kept(
            max_length: Option<u64>, age: Option<u32>, mode in 0..3, hard_max_length: Option<u64>
        ) {
            let mode = [Mode::Approximate, Mode::Exact, Mode::Acked][usize::try_from(mode).unwrap()];
            let max_age = age.map(|ms| Duration::from_millis(ms.into()));
            let retention = Retention { max_length, max_age, mode, hard_max_length };
            prop_assert_eq!(Retention::decode(&retention.encode()), Some(retention));
        }
    }
}
