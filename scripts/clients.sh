#!/bin/sh
# Installs the client libraries that the tests use into DIR/node_modules and DIR/python. npm and pip
# install the versions pinned in tests/clients from their configured registries. Installed libraries are kept unless the pins have changed. Usage: clients.sh DIR
set -eu

here=$(cd "$(dirname "$0")/../tests/clients" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)

pins=$(cat "$here/package-lock.json" "$here/requirements.txt" | cksum)
if [ "$(cat "$dir/pins" 2>/dev/null)" = "$pins" ] && "$dir/python/bin/python" --version >/dev/null 2>&1; then
    exit 0
fi
echo "installing client libraries" >&2
rm -rf "$dir/pins" "$dir/node_modules" "$dir/python"
cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$dir"
(cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2)
python3 -m venv "$dir/python"
"$dir/python/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps --only-binary=:all: \
    --require-hashes --requirement "$here/requirements.txt" >&2
# The pins are written last, so that they exist only for a complete installation.
echo "$pins" >"$dir/pins"
