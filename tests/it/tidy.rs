//! The house rules that a compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

/// Longer than this, a file probably holds two subjects.
const MAX_LINES: usize = 400;

fn sources(dir: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(dir)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false if path.extension().is_some_and(|extension| extension == "rs") => {
                    found.push(path);
                }
                false => {}
            }
        }
    }
    assert!(!found.is_empty());
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn every_file_says_what_it_is_for_and_is_short() {
    let rooms = ["src", "tests", "fuzz/bodies", "fuzz/fuzz_targets"];
    for path in rooms.into_iter().flat_map(sources) {
        let text = read(&path);
        assert!(
            text.starts_with("//! "),
            "{} does not say what it is for",
            path.display()
        );
        let lines = text.lines().count();
        assert!(
            lines <= MAX_LINES || path.starts_with("tests"),
            "{} has {lines} lines",
            path.display()
        );
        let name = path.file_stem().unwrap().to_str().unwrap();
        assert!(
            !["utils", "helpers", "common", "types", "manager"].contains(&name),
            "{}",
            path.display()
        );
    }
}

#[test]
fn rooms_know_only_the_rooms_below_them() {
    let forbidden: [(&str, &[&str]); 6] = [
        (
            "src/model",
            &[
                "axum",
                "redis",
                "tokio",
                "crate::store",
                "crate::live",
                "crate::api",
                "crate::config",
            ],
        ),
        (
            "src/auth",
            &[
                "axum",
                "redis",
                "crate::store",
                "crate::live",
                "crate::api",
                "crate::config",
            ],
        ),
        (
            "src/store",
            &[
                "axum",
                "crate::auth",
                "crate::live",
                "crate::api",
                "crate::config",
                "hyper",
            ],
        ),
        (
            "src/live",
            &[
                "axum",
                "crate::auth",
                "redis::",
                "deadpool",
                "crate::api",
                "crate::config",
                "hyper",
            ],
        ),
        (
            "src/api",
            &[
                "redis::",
                "deadpool",
                "crate::config",
                "crate::app",
                "crate::net",
            ],
        ),
        (
            "src/net",
            &["redis::", "deadpool", "crate::store", "crate::app"],
        ),
    ];
    for (room, words) in forbidden {
        for path in sources(room) {
            let text = read(&path);
            let imports = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in imports.filter(|line| line.contains("use ") || line.contains("::")) {
                for word in words {
                    assert!(
                        !line.contains(word),
                        "{} knows {word}: {line}",
                        path.display()
                    );
                }
            }
        }
    }
}

#[test]
fn the_environment_is_read_in_few_places() {
    let known = [
        "src/main.rs",
        "src/config/layers.rs",
        "src/store/private.rs",
    ];
    for path in sources("src") {
        let reads = read(&path).contains("std::env::");
        assert!(
            !reads || known.iter().any(|known| path.ends_with(known)),
            "{} reads the environment",
            path.display()
        );
    }
}
