#!/bin/sh
# Installs a cargo tool with a fixed version into target/tools, unless this version is installed.
# A tool on PATH is not used, because the results of another version may differ.
# Usage: cargo-tool.sh NAME VERSION
set -eu

tools=$(cd "$(dirname "$0")/.." && pwd)/target/tools
mark=$tools/$1-$2
if [ ! -e "$mark" ] || [ ! -x "$tools/bin/$1" ]; then
    # Not optimized: the tool is built once and runs for a second.
    CARGO_TARGET_DIR="$tools/build" cargo install --locked --quiet --debug --force --root "$tools" --version "$2" "$1"
    rm -rf "$tools/build"
    touch "$mark"
fi
