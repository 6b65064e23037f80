//! Short versions of the `make fuzz` runs: seeds and stored findings as they are, and thousands of
//! inputs generated from seeds or from nothing.

use std::panic::catch_unwind;
use std::path::PathBuf;

#[path = "../../fuzz/bodies/mod.rs"]
mod bodies;

/// Number of generated inputs for each target.
const MADE: u64 = 30_000;

/// Words that reach more code than random bytes.
const WORDS: [&[u8]; 47] = [
    b"{\"fields\":{",
    b"GET / HTTP/1.1\r\n",
    b"content-length: 3\r\n",
    b"transfer-encoding: chunked\r\n",
    b"\r\n\r\n",
    b"\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.0",
    b"{\"pairs\":[[",
    b"{\"entries\":[",
    b"\"id\":",
    b"\"key\":",
    b"\"base64\":",
    b"]]}",
    b"}}",
    b"\":\"",
    b"\",\"",
    b"\"specversion\":\"1.0\"",
    b"\"data\":",
    b"\"data_base64\":",
    b"null",
    b"true",
    b"\\ud800",
    b"\\u2028",
    b"~",
    b"/",
    b"%",
    b"%ff",
    b"+",
    b"&",
    b"=",
    b"limit=",
    b"ids=",
    b"_",
    b"*",
    b"\\",
    b"[",
    b"?",
    b"-",
    b":",
    b"m1.",
    b"\r",
    b"\n",
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\xff",
    b"\0",
];

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from("fuzz/seeds").join(target);
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// Returns an input that is close to a seed or close to empty.
fn made(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut input = random
        .choice(seeds)
        .filter(|_| random.u8(..) > 32)
        .cloned()
        .unwrap_or_default();
    for _ in 0..random.usize(1..8) {
        let at = random.usize(..=input.len());
        match random.u8(..5) {
            0 => drop(input.splice(at..at, WORDS[random.usize(..WORDS.len())].iter().copied())),
            1 => input.insert(at, random.u8(..)),
            2 if at < input.len() => input[at] = random.u8(..),
            3 => drop(input.drain(at..(at + random.usize(..8)).min(input.len()))),
            _ => {
                let part = input[at..(at + random.usize(..16)).min(input.len())].to_vec();
                let to = random.usize(..=input.len());
                input.splice(to..to, part);
            }
        }
    }
    input
}

#[test]
fn whatever_strangers_send_is_read_as_what_it_is_or_refused() {
    for (target, body) in bodies::ALL {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        let run = |input: &[u8]| {
            let text = String::from_utf8_lossy(input);
            assert!(
                catch_unwind(|| body(input)).is_ok(),
                "{target}: {text:?}, {input:?}"
            );
        };
        for seed in &seeds {
            run(seed);
        }
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..MADE {
            run(&made(&seeds, &mut random));
        }
    }
}

#[test]
fn every_target_has_a_long_run() {
    let manifest = std::fs::read_to_string("fuzz/Cargo.toml").unwrap();
    let run = std::fs::read_to_string("fuzz/run.sh").unwrap();
    for (target, _) in bodies::ALL {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{target} is not built"
        );
        let file = std::fs::read_to_string(format!("fuzz/fuzz_targets/{target}.rs")).unwrap();
        assert!(file.contains("bodies::"), "{target} has a body of its own");
    }
    assert!(
        run.contains("fuzz_targets"),
        "the long runs go over all targets"
    );
}
