//! The description of a setting, and the macro that derives it from the field of a struct.
//!
//! `#[derive(Deserialize)]` is not used: it stops at the first problem, and does not know where a
//! value comes from.

use crate::config::kinds::{Field, Kind as _};

/// A setting.
#[derive(Clone, Copy, Debug)]
pub struct Spec {
    /// The name as a flag. In the environment it is `STREAMGATE_` and the name in upper case; in the
    /// file `_` replaces `-`.
    pub name: &'static str,
    /// A placeholder for the value; empty for a switch.
    pub value: &'static str,
    /// The default value; empty for none.
    pub default: &'static str,
    /// Whether the setting can be given several times.
    pub many: bool,
    /// The smallest and the largest accepted value; both empty if values have no order.
    pub range: (&'static str, &'static str),
    /// The help text: a noun phrase with its unit.
    pub help: &'static str,
    /// Masks the secrets in a value.
    pub(super) mask: fn(&str) -> String,
}

impl Spec {
    /// Describes a setting whose field has type `F`. A field that cannot be absent must have a
    /// default; otherwise this does not compile.
    pub(super) const fn of<F: Field>(
        name: &'static str,
        default: &'static str,
        help: &'static str,
    ) -> Self {
        assert!(F::CAN_BE_ABSENT == default.is_empty());
        Self {
            name,
            value: F::Kind::PLACEHOLDER,
            default,
            many: F::MANY,
            range: F::Kind::RANGE,
            help: help.trim_ascii(),
            mask: F::Kind::mask,
        }
    }

    /// Replaces the range of accepted values.
    pub(super) const fn within(mut self, least: &'static str, most: &'static str) -> Self {
        self.range = (least, most);
        self
    }
}

/// Replaces `_` in the name of a field by `-`.
pub(super) const fn dashed<const N: usize>(field: &str) -> [u8; N] {
    let mut name = [0; N];
    let mut at = 0;
    while at < N {
        let byte = field.as_bytes()[at];
        name[at] = if byte == b'_' { b'-' } else { byte };
        at += 1;
    }
    name
}

/// Declares all settings, as `name: Type = "default", from "least" to "most";` with a doc comment.
///
/// Generates the struct `Values` with the value of each setting, the struct [`Specs`] with the
/// description of each under the same name, and `Values::read`.
///
/// [`Specs`]: crate::config::Specs
macro_rules! settings {
    ($(
        $(#[doc = $help:literal])+
        $name:ident: $type:ty $(= $default:literal)? $(, from $least:literal to $most:literal)?;
    )+) => {
        /// The value of each setting.
        #[derive(Clone, Debug)]
        pub(super) struct Values {
            $($(#[doc = $help])+ pub(super) $name: $type,)+
        }

        /// The description of each setting.
        #[derive(Clone, Copy, Debug)]
        pub struct Specs {
            $($(#[doc = $help])+ pub $name: Spec,)+
        }

        /// The description of each setting.
        pub static SPECS: Specs = Specs {
            $($name: {
                const NAME: &[u8] = &dashed::<{ stringify!($name).len() }>(stringify!($name));
                let Ok(name) = std::str::from_utf8(NAME) else {
                    panic!("the name of a setting is ASCII");
                };
                Spec::of::<$type>(name, concat!($($default)?), concat!($($help),+))
                    $(.within($least, $most))?
            },)+
        };

        impl Specs {
            /// Iterates over all settings.
            pub fn iter(&'static self) -> impl Iterator<Item = &'static Spec> {
                [$(&self.$name),+].into_iter()
            }
        }

        impl Values {
            /// Reads all settings.
            pub(super) fn read(read: &mut crate::config::reader::SettingsReader<'_>) -> Self {
                Self { $($name: read.field(&SPECS.$name),)+ }
            }
        }
    };
}
pub(super) use settings;
