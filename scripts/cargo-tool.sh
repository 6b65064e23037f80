#!/bin/sh
# Installs a tool of cargo in this very version into target/tools, unless it is there. What is on PATH
# already is not used: another version may say something else. Usage: cargo-tool.sh NAME VERSION
set -eu

tools=$(cd "$(dirname "$0")/.." && pwd)/target/tools
mark=$tools/$1-$2
if [ ! -e "$mark" ] || [ ! -x "$tools/bin/$1" ]; then
    # Unoptimised: it is built once and runs for a second.
    CARGO_TARGET_DIR="$tools/build" cargo install --locked --quiet --debug --force --root "$tools" --version "$2" "$1"
    rm -rf "$tools/build"
    touch "$mark"
fi
