//! Project rules that a compiler does not check.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Maximum number of lines. A longer file probably covers two subjects.
const MAX_LINES: usize = 400;

/// Returns the Rust files below `dir`.
pub(crate) fn sources(dir: &str) -> Vec<PathBuf> {
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

/// The modules of the crate, from the lowest to the highest layer. Each may import the ones before
/// it.
const LAYERS: [&str; 21] = [
    "model",
    "rate_limit",
    "shares",
    "telemetry",
    "metrics",
    "trace",
    "log_sampler",
    "background",
    "auth",
    "redis",
    "live",
    "jobs",
    "service",
    "http",
    "net",
    "config",
    "health",
    "app",
    "run",
    "cli",
    "main",
];

/// Crates that only some modules may use, and those modules.
const CONFINED: [(&str, &[&str]); 5] = [
    ("axum", &["http", "net", "app"]),
    ("hyper", &["http", "net", "auth", "trace"]),
    // `config` and `run` parse the address of a Redis server.
    ("deadpool_redis", &["redis", "config", "run"]),
    ("utoipa", &["http"]),
    (
        "tokio",
        &[
            "redis",
            "live",
            "jobs",
            "http",
            "net",
            "auth",
            "app",
            "run",
            "background",
            "shares",
            "health",
            "trace",
            "main",
        ],
    ),
];

/// Returns the code of a file without comments and unit tests.
fn code(path: &Path) -> String {
    let text = read(path);
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Returns the first path segment under `src`, without its extension.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap();
    let first = inside.components().next().unwrap().as_os_str();
    first.to_str().unwrap().trim_end_matches(".rs").to_owned()
}

#[test]
fn modules_import_only_lower_layers() {
    let rank = |name: &str| {
        let rank = LAYERS.iter().position(|layer| *layer == name);
        rank.unwrap_or_else(|| panic!("LAYERS does not list {name}"))
    };
    for path in sources("src") {
        let (module, code) = (module(&path), code(&path));
        if module == "lib" {
            continue;
        }
        for (at, prefix) in code
            .match_indices("crate::")
            .chain(code.match_indices("streamgate::"))
        {
            let name: String = code[at + prefix.len()..]
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            // Names of macros in the crate root are not layers.
            let imported = LAYERS.contains(&name.as_str());
            assert!(
                !imported || name == module || rank(&name) < rank(&module),
                "{} imports {name}, which is not below {module}",
                path.display()
            );
        }
        for (name, users) in CONFINED {
            let uses = code.lines().any(|line| {
                line.trim_start().starts_with(&format!("use {name}::"))
                    || line.contains(&format!(" {name}::"))
            });
            assert!(
                !uses || users.contains(&module.as_str()),
                "{} uses {name}",
                path.display()
            );
        }
    }
}

/// A fixed pause is too short on a busy machine and too long on an idle one.
#[test]
fn tests_await_conditions_or_say_why_time_must_pass() {
    // The scripts of model tests draw their pauses from a seed.
    let exempt = |path: &Path| {
        ["support", "model", "work_model.rs", "tidy.rs"]
            .iter()
            .any(|name| path.starts_with(Path::new("tests/it").join(name)))
    };
    for path in sources("tests/it").iter().filter(|path| !exempt(path)) {
        assert!(
            !read(path).contains("sleep("),
            "{} sleeps: await a condition with `eventually`, or time with `elapse`",
            path.display()
        );
    }
}

#[test]
fn the_environment_is_read_in_few_places() {
    let known = [
        "src/main.rs",
        "src/config/layers.rs",
        "src/redis/conn/private.rs",
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

/// Returns the path of a module, for example `live::hub`.
fn module_path(path: &Path) -> String {
    let inside = path.strip_prefix("src").unwrap().with_extension("");
    let parts: Vec<_> = inside.iter().map(|part| part.to_str().unwrap()).collect();
    parts.join("::").trim_end_matches("::mod").to_owned()
}

/// Returns the files that each file imports. Leaves out its parents, which declare it, and the
/// modules directly under `src`, whose order another test checks.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let files: BTreeMap<_, _> = sources("src")
        .into_iter()
        .map(|path| (module_path(&path), code(&path)))
        .collect();
    let imports = |(name, code): (&String, &String)| {
        let imported = code.match_indices("crate::").filter_map(|(at, prefix)| {
            if code[..at].ends_with("(in ") {
                return None;
            }
            let is_path =
                |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_:".contains(*c);
            let path: String = code[at + prefix.len()..]
                .chars()
                .take_while(is_path)
                .collect();
            let mut path = path.trim_end_matches(':');
            while !files.contains_key(path) {
                path = path.rsplit_once("::")?.0;
            }
            let is_parent = name == path || name.starts_with(&format!("{path}::"));
            (path.contains("::") && !is_parent).then(|| path.to_owned())
        });
        (name.clone(), imported.collect())
    };
    files.iter().map(imports).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let mut imports = imports();
    assert!(imports["live::hub"].contains("live::reader"));
    // Removes files that import nothing that is left, until only circles are left.
    loop {
        let all = imports.clone();
        imports.retain(|_, imported| imported.iter().any(|other| all.contains_key(other)));
        if imports.len() == all.len() {
            break;
        }
    }
    let left: Vec<_> = imports.keys().cloned().collect();
    for imported in imports.values_mut() {
        imported.retain(|other| left.contains(other));
    }
    assert!(
        imports.is_empty(),
        "files in circles, or that lead to one: {imports:#?}"
    );
}

#[test]
fn only_the_layers_below_http_know_redis_keys() {
    for folder in ["src/http", "src/service", "src/net", "src/auth"] {
        for path in sources(folder) {
            let found = code(&path).contains(".redis_key()");
            assert!(!found, "{} shows or sends a Redis key", path.display());
        }
    }
}

#[test]
fn no_two_types_share_a_name() {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let files = sources("src").into_iter();
    for path in files.filter(|path| !path.ends_with("tests.rs")) {
        for line in code(&path).lines() {
            // Types inside of functions and implementations are indented.
            let words: Vec<_> = line.split_whitespace().collect();
            let kind = words
                .iter()
                .position(|word| ["struct", "enum", "trait", "type"].contains(word));
            let Some(kind) = kind.filter(|kind| *kind < 4 && !line.starts_with(' ')) else {
                continue;
            };
            let name: String = words[kind + 1]
                .chars()
                .take_while(|c| c.is_alphanumeric())
                .collect();
            if let Some(other) = found.insert(name.clone(), path.clone()) {
                panic!("{name} is in {} and in {}", other.display(), path.display());
            }
        }
    }
    assert!(found.contains_key("StreamName"));
}
