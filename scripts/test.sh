#!/usr/bin/env bash
# Runs all tests. Integration tests measure time and start many servers, so that one may fail because
# others load the machine: up to five that fail run again, by themselves, and pass or fail there.
# Those that pass are named, to be looked at. Unit and doc tests have no second try.
set -euo pipefail

log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo test --locked --lib --bins
if ! cargo test --locked --test it 2>&1 | tee "$log"; then
    # The names after the last "failures:" line; none if the tests did not compile or were killed.
    failed=$(awk '/^failures:$/ { names = "" } /^    [a-z_0-9:]+$/ { names = names " " $1 } END { print names }' "$log")
    count=$(wc -w <<< "$failed")
    [ "$count" -ge 1 ] && [ "$count" -le 5 ] || exit 1
    printf '\nRunning again, one at a time:%s\n' "$failed"
    # shellcheck disable=SC2086 # a list of names
    RUST_TEST_THREADS=1 cargo test --locked --test it -- --exact $failed
    printf '\nFailed beside others and passed alone:%s\n\n' "$failed"
fi
cargo test --locked --doc
