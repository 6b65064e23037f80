//! README.md, docs and the other Markdown files: generated tables, links, and what the pages must name.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use crate::support::redis::Server;
use crate::support::{TestApp, eventually};

/// All Markdown files that people read.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let folders = [".", "docs", "docs/adr", "fuzz", "openapi"];
    for folder in folders {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(normal(&path));
            }
        }
    }
    pages.sort();
    assert!(pages.len() > 20, "{pages:?}");
    pages
}

fn read(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => assert!(out.pop(), "{} leaves the repository", path.display()),
            part => out.push(part),
        }
    }
    out
}

/// The lines of a page outside of code blocks, without code spans.
fn prose(text: &str) -> Vec<String> {
    let (mut lines, mut in_code) = (Vec::new(), false);
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            lines.push(line.split('`').step_by(2).collect());
        }
    }
    lines
}

/// The anchors of the headings of a page, as GitHub and mdBook form them.
fn anchors(text: &str) -> BTreeSet<String> {
    let (mut anchors, mut in_code) = (BTreeSet::new(), false);
    for line in text.lines() {
        in_code ^= line.starts_with("```");
        let Some(title) = line.trim_start_matches('#').strip_prefix(' ') else {
            continue;
        };
        if in_code || !line.starts_with('#') {
            continue;
        }
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        let slug: String = title.to_lowercase().chars().filter(kept).collect();
        anchors.insert(slug.replace(' ', "-"));
    }
    anchors
}

/// Targets of the links of a page.
fn links(text: &str) -> Vec<String> {
    let joined = prose(text).join("\n");
    let targets = joined.split("](").skip(1);
    targets
        .map(|rest| rest.split_once(')').unwrap().0.to_owned())
        .collect()
}

#[test]
fn every_relative_link_and_anchor_resolves() {
    let mut checked = 0;
    for page in pages() {
        let text = read(&page);
        for target in links(&text) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, anchor) = match target.split_once('#') {
                Some((path, anchor)) => (path, Some(anchor)),
                None => (&*target, None),
            };
            let file = match path {
                "" => page.clone(),
                path => normal(&page.parent().unwrap().join(path)),
            };
            let at = format!("{} links to {target}", page.display());
            assert!(file.exists(), "{at}: no such file");
            if let Some(anchor) = anchor {
                assert!(
                    anchors(&read(&file)).contains(anchor),
                    "{at}: no such heading"
                );
            }
            assert!(
                !page.starts_with("docs") || file.starts_with("docs"),
                "{at}, which is not part of the book"
            );
            assert!(
                page == Path::new("docs/SUMMARY.md")
                    || !page.starts_with("docs")
                    || !file.ends_with("README.md"),
                "{at}, which has another name in the book"
            );
            checked += 1;
        }
    }
    assert!(checked > 60, "only {checked} links");
}

#[test]
fn the_book_has_every_page_of_docs() {
    let listed: BTreeSet<PathBuf> = links(&read("docs/SUMMARY.md"))
        .iter()
        .map(|page| Path::new("docs").join(page))
        .collect();
    let there: BTreeSet<PathBuf> = pages()
        .into_iter()
        .filter(|page| page.starts_with("docs") && !page.ends_with("SUMMARY.md"))
        .collect();
    assert_eq!(listed, there);
}

#[test]
fn the_readme_is_short_and_has_two_commands_to_set_up() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 220, "{}", readme.lines().count());
    let make: Vec<&str> = readme
        .lines()
        .filter(|line| line.starts_with("make "))
        .collect();
    assert_eq!(make, ["make run", "make test"]);
}

#[test]
fn no_page_needs_a_new_curl() {
    for page in pages() {
        let text = read(&page);
        for newer in ["--json", "--url-query", "--retry-all-errors"] {
            assert!(
                !text.contains(newer),
                "{} uses curl {newer}",
                page.display()
            );
        }
    }
}

#[test]
fn every_bound_is_in_the_limits() {
    let limits = read("docs/limits.md");
    for bound in streamgate::metrics::BOUNDS {
        assert!(
            limits.contains(&format!("`refused{{{bound}}}`")),
            "docs/limits.md does not have {bound}"
        );
    }
}

#[test]
fn every_setting_that_a_page_names_exists() {
    let known = |name: &str| {
        let other = ["config", "grant", "admin", "prefix", "help", "version"];
        other.contains(&name)
            || streamgate::config::SPECS
                .iter()
                .any(|spec| spec.name == name)
    };
    for page in pages() {
        let text = read(&page);
        let named = text
            .split("`--")
            .skip(1)
            .filter(|_| !page.starts_with("fuzz"));
        for rest in named {
            let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-');
            let name = &rest[..end.unwrap_or(rest.len())];
            let of_benchmarks = page.ends_with("benchmarks.md");
            assert!(
                known(name) || of_benchmarks,
                "{} names --{name}",
                page.display()
            );
        }
    }
}

fn settings() -> String {
    let mut table = String::from("| setting | default | range | meaning |\n|---|---|---|---|\n");
    let code = |text: &str| match text {
        "" => String::new(),
        text => format!("`{text}`"),
    };
    for spec in streamgate::config::SPECS.iter() {
        let value = match spec.value {
            "" => String::new(),
            value => format!(" `{value}`"),
        };
        let range = match spec.range {
            ("", _) => String::new(),
            (least, most) => format!("`{least}` to `{most}`"),
        };
        let default = code(spec.default);
        let help = spec.help.replace('|', "\\|");
        writeln!(
            table,
            "| `--{}`{value} | {default} | {range} | {help} |",
            spec.name
        )
        .unwrap();
    }
    table
}

fn errors() -> String {
    let mut table = String::from("| status | `code` | meaning | retryable |\n|---|---|---|---|\n");
    let mut codes = streamgate::http::ErrorCode::ALL.to_vec();
    codes.sort_by_key(|code| code.status());
    for code in codes {
        let retryable = if code.retryable() { "yes" } else { "" };
        let (status, title) = (code.status().as_u16(), code.title());
        writeln!(
            table,
            "| {status} | `{}` | {title} | {retryable} |",
            code.as_str()
        )
        .unwrap();
    }
    table
}

async fn metrics() -> String {
    let server = Server::start().await;
    let app = TestApp::on(&server.url(), |settings| {
        settings.jobs.metrics_groups = vec!["*/*".parse().unwrap()];
        settings.jobs.measure_every = Duration::from_millis(50);
    })
    .await;
    server.command(&["XADD", "orders", "*", "n", "1"]).await;
    app.put_json(
        "/v1/streams/orders/groups/g",
        r#"{"policy":{"order_by":"n"}}"#,
    )
    .await;
    eventually("the group is measured", async || {
        let text = app.get("/metrics").await.body;
        text.contains("streamgate_group_keys_waiting{")
    })
    .await;
    let text = app.get("/metrics").await.body;
    let mut labels: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, rest)) = line.split_once('{') else {
            continue;
        };
        let of_metric = labels.entry(name.to_owned()).or_default();
        for pair in rest.rsplit_once("\"}").unwrap().0.split("\",") {
            let (label, value) = pair.split_once("=\"").unwrap();
            let values = of_metric.entry(label.to_owned()).or_default();
            values.insert(format!("`{value}`"));
        }
    }
    let mut table = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    let mut help = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            (_, help) = rest.split_once(' ').unwrap();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            let name = match kind {
                "counter" => format!("{name}_total"),
                "info" => format!("{name}_info"),
                _ => name.to_owned(),
            };
            let of_series = match kind {
                "histogram" => format!("{name}_count"),
                _ => name.clone(),
            };
            let with_values = |(label, values): (&String, &BTreeSet<String>)| {
                let listed: Vec<_> = values.iter().map(String::as_str).collect();
                match label.as_str() {
                    "method" | "route" | "status" | "stream" | "group" | "version" => {
                        format!("`{label}`")
                    }
                    _ => format!("`{label}`: {}", listed.join(", ")),
                }
            };
            let of_metric = labels
                .get(&of_series)
                .into_iter()
                .flatten()
                .map(with_values);
            let shown: Vec<String> = of_metric.collect();
            let help = help.trim_end_matches('.');
            writeln!(
                table,
                "| `{name}` | {kind} | {} | {help} |",
                shown.join(", ")
            )
            .unwrap();
        }
    }
    table
}

/// Compares the table of a page with what the code says; writes it with `WRITE_TABLES`.
fn is_up_to_date(name: &str, table: &str) {
    let page = format!("docs/{name}.md");
    let text = read(&page);
    let begin = format!("<!-- table: {name} -->\n");
    let (before, rest) = text.split_once(&begin).unwrap();
    let (_, after) = rest.split_once("<!-- end -->").unwrap();
    let fresh = format!("{before}{begin}\n{table}\n<!-- end -->{after}");
    if std::env::var("WRITE_TABLES").is_ok() {
        std::fs::write(&page, fresh).unwrap();
    } else {
        assert!(text == fresh, "{page} is out of date: run make docs-tables");
    }
}

#[tokio::test]
async fn the_tables_of_settings_errors_and_metrics_are_what_the_code_says() {
    is_up_to_date("settings", &settings());
    is_up_to_date("errors", &errors());
    is_up_to_date("metrics", &metrics().await);
}
