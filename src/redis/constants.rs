//! Names that Rust and the Lua scripts share.

/// Defines each constant for Rust and, as a local variable, for the scripts.
macro_rules! shared_constants {
    ($($(#[$doc:meta])* $name:ident = $value:literal;)+) => {
        $($(#[$doc])* pub(in crate::redis) const $name: &str = $value;)+

        /// The constants as Lua code, which comes before each script.
        macro_rules! lua_constants {
            () => {
                concat!($("local ", stringify!($name), " = '", $value, "'\n"),+)
            };
        }
        pub(in crate::redis) use lua_constants;
    };
}

shared_constants! {
    /// Prefix of the names of marker consumers.
    MARKER_PREFIX = "streamgate:life:";
    /// The consumer that holds entries returned to the group. No client can use this name.
    NOBODY = "streamgate:nobody";
    /// The consumer that holds entries that were read ahead and wait for their key.
    PARKED = "streamgate:parked";
    /// Prefix of the fields that the gateway adds to dead letters.
    LETTER_FIELD = "streamgate-";
    /// The single field of a dead letter whose fields are packed into one value.
    PACKED_FIELD = "streamgate-fields";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_uses_the_same_name() {
        assert_eq!(PACKED_FIELD, crate::model::packed::PACKED);
    }
}
