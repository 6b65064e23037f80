//! The retention of a stream: how much of it is kept, and who may hold back what is to go.

use std::time::Duration;

/// The shortest age entries may be kept to.
pub const MIN_AGE: Duration = Duration::from_secs(1);
/// The longest.
pub const MAX_AGE: Duration = Duration::from_secs(3650 * 24 * 3600);
/// The most entries a length may name: Redis counts in signed numbers.
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// How exactly a stream is kept to its retention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whole nodes go, which is much cheaper; somewhat more is kept.
    #[default]
    Approximate,
    /// To the letter.
    Exact,
    /// To the letter, but only what every group has read and acknowledged, from the oldest entry on
    /// and without holes.
    Acked,
}

impl Mode {
    /// The word it is known by.
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

/// What is kept of a stream: what breaks either bound goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// The newest so many entries.
    pub max_length: Option<u64>,
    /// Entries younger than this, by the clock of Redis.
    pub max_age: Option<Duration>,
    /// How exactly.
    pub mode: Mode,
    /// With [`Mode::Acked`]: what lies beyond so many entries goes whatever groups have done.
    pub hard_max_length: Option<u64>,
}

/// Which rule a retention breaks. The text is fit for the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRetention {
    /// It bounds nothing.
    #[error("say `maxlen`, `max_age` or both; `\"retention\":null` keeps everything")]
    Nothing,
    /// None at all, or more than can be counted.
    #[error("`maxlen` is 1 to 9223372036854775807")]
    Length,
    /// Too short or too long.
    #[error("`max_age` is 1s to 3650d")]
    Age,
    /// There is nothing it could override.
    #[error("`hard_maxlen` goes with `\"mode\":\"acked\"`")]
    HardWithoutAcked,
    /// It would leave nothing to `maxlen`.
    #[error("`hard_maxlen` is above `maxlen`, and at most 9223372036854775807")]
    HardLength,
}

impl InvalidRetention {
    /// Where in the retention it stands, as a pointer.
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
    /// # Errors
    /// [`InvalidRetention`] says which rule it breaks.
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

    /// As it is kept: mode, length, age in milliseconds, hard length; `-` for none.
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

    /// Reads what [`Retention::encode`] wrote.
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
