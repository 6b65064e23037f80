//! The README's commands, run as they stand.

use std::process::{Command, Stdio};

use crate::support::gateway::Gateway;

/// Blocks marked as `sh`: commands against a running gateway.
fn blocks(readme: &str) -> Vec<String> {
    let (mut blocks, mut open): (Vec<String>, Option<String>) = (Vec::new(), None);
    for line in readme.lines() {
        match (&mut open, line) {
            (None, "```sh") => open = Some(String::new()),
            (Some(_), "```") => blocks.extend(open.take()),
            (Some(block), line) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, _) => {}
        }
    }
    blocks
}

/// Fails on any status but success, and ends what would go on for ever.
const CURL: &str = r#"set -eu
curl() { command curl --silent --show-error --fail-with-body --max-time 3 "$@" || [ $? = 28 ]; }
"#;

#[tokio::test]
async fn every_command_of_the_readme_works_as_it_stands() {
    let readme = std::fs::read_to_string("README.md").unwrap();
    let blocks = blocks(&readme);
    assert!(blocks.len() >= 4, "{blocks:?}");
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::dev(dir.path());
    for block in blocks {
        let script = format!(
            "{CURL}{}",
            block.replace("127.0.0.1:8080", &gateway.address.to_string())
        );
        let output = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{block}\n{out}\n{err}");
        assert!(!out.contains("urn:streamgate:problem"), "{block}\n{out}");
    }
}
