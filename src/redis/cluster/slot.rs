//! Slots of keys, and the keys of commands.

use deadpool_redis::redis::{Arg, Cmd};

/// Number of slots of a cluster.
pub const SLOTS: usize = 16_384;

/// The table of CRC-16/XMODEM, which Redis Cluster prescribes, for one byte.
const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let (mut byte, mut first) = (0, 0_u16);
    while byte < 256 {
        let mut crc = first << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
        first += 1;
    }
    table
};

/// Returns the slot of a key, from 0 to 16383. Only the hash tag counts, if the key has one.
pub fn slot_of(key: &[u8]) -> usize {
    let mut crc: u16 = 0;
    for byte in tag_of(key) {
        let [high, low] = crc.to_be_bytes();
        crc = u16::from_be_bytes([low, 0]) ^ CRC16[usize::from(high ^ byte)];
    }
    usize::from(crc) % SLOTS
}

/// Returns the part of a key between its first `{` and the next `}`, or the key if that is empty.
fn tag_of(key: &[u8]) -> &[u8] {
    let position = |bytes: &[u8], wanted| bytes.iter().position(|byte| *byte == wanted);
    let tagged = position(key, b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = position(rest, b'}')?;
        Some(&rest[..close])
    });
    match tagged {
        Some(tag) if !tag.is_empty() => tag,
        _ => key,
    }
}

/// Returns the first key of a command of the gateway, or `None` if it has none. All keys of a
/// command share a slot.
pub fn key_of(command: &Cmd) -> Option<&[u8]> {
    let mut args = command.args_iter().map(|arg| match arg {
        Arg::Simple(bytes) => bytes,
        _ => b"",
    });
    match args.next()? {
        b"EVAL" | b"EVALSHA" => {
            let has_keys = args.nth(1)? != b"0";
            args.next().filter(|_| has_keys)
        }
        b"XREAD" | b"XREADGROUP" => {
            args.find(|arg| *arg == b"STREAMS")?;
            args.next()
        }
        b"XINFO" | b"XGROUP" => args.nth(1),
        b"ACL" | b"ASKING" | b"CLIENT" | b"CLUSTER" | b"COMMAND" | b"CONFIG" | b"INFO"
        | b"PING" | b"SCAN" | b"TIME" | b"WAIT" | b"WAITAOF" => None,
        _ => args.next(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(words: &str) -> Cmd {
        let mut command = Cmd::new();
        for word in words.split(' ') {
            command.arg(word);
        }
        command
    }

    #[test]
    fn slots_are_those_of_redis() {
        // From CLUSTER KEYSLOT.
        for (key, slot) in [
            ("123456789", 12739),
            ("orders", 105),
            ("{orders}.dead", 105),
            ("foo{}{bar}", 8363),
            ("{user1000}.following", 3443),
            ("", 0),
        ] {
            assert_eq!(slot_of(key.as_bytes()), slot, "{key}");
        }
    }

    #[test]
    fn keys_are_found_in_every_kind_of_command() {
        for (words, key) in [
            ("XADD k * a 1", Some("k")),
            ("EVALSHA hash 2 k other argument", Some("k")),
            ("EVAL text 0 argument", None),
            ("XREAD COUNT 8 BLOCK 5000 STREAMS k 0-0", Some("k")),
            ("XREADGROUP GROUP g c STREAMS k >", Some("k")),
            ("XINFO STREAM k FULL", Some("k")),
            ("XGROUP CREATECONSUMER k g c", Some("k")),
            ("SCAN 0 MATCH *", None),
            ("WAIT 1 100", None),
            ("TIME", None),
        ] {
            let command = command(words);
            assert_eq!(key_of(&command), key.map(str::as_bytes), "{words}");
        }
    }
}
