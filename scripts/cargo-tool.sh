#!/bin/sh
# Installs one version of a cargo tool into target/tools, unless that version is there. A tool on PATH is
# not used, because another version may behave differently.
# Usage: cargo-tool.sh NAME VERSION [OPTIONS OF cargo install...]
set -eu

name=$1 version=$2
shift 2
tools=$(cd "$(dirname "$0")/.." && pwd)/target/tools
mark=$tools/$name-$version
if [ ! -e "$mark" ] || [ ! -x "$tools/bin/$name" ]; then
    # Unoptimised: the tool is built once and runs for a second.
    CARGO_TARGET_DIR="$tools/build" cargo install --locked --quiet --debug --force --root "$tools" --version "$version" "$@" "$name"
    rm -rf "$tools/build"
    touch "$mark"
fi
