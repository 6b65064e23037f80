#!/bin/sh
# Runs each fuzz target for SECONDS, one after the other. Without names, all targets run.
# Interesting inputs are stored in fuzz/corpus, failing inputs in fuzz/artifacts.
# Usage: run.sh SECONDS [TARGET...]
set -eu

cd "$(dirname "$0")"
seconds=$1
shift
if [ $# = 0 ]; then
    for target in fuzz_targets/*.rs; do set -- "$@" "$(basename "$target" .rs)"; done
fi
failed=
for target in "$@"; do
    mkdir -p "corpus/$target"
    # Without a sanitizer, no nightly compiler is needed. The code under test is safe Rust.
    cargo fuzz run --fuzz-dir . --sanitizer none -O --debug-assertions "$target" "corpus/$target" "seeds/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 ||
        failed="$failed $target"
done
[ -z "$failed" ] || { echo "fuzz: failed:$failed" >&2; exit 1; }
