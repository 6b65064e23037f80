#!/bin/sh
# Checks a gateway against its OpenAPI document for SECONDS, with all operations and checks of the
# schemathesis version pinned in tests/schemathesis. The script starts the gateway with a private
# Redis. Subscriptions are excluded, because they do not end. SEED (default 1) determines the
# generated requests. Usage: schemathesis.sh GATEWAY DIR SECONDS
set -eu

here=$(cd "$(dirname "$0")/../tests/schemathesis" && pwd)
gateway=$1
seconds=$3
mkdir -p "$2"
dir=$(cd "$2" && pwd)

pins=$(cksum <"$here/requirements.txt")
if [ "$(cat "$dir/pins" 2>/dev/null)" != "$pins" ] || ! "$dir/python/bin/python" --version >/dev/null 2>&1; then
    echo "installing schemathesis" >&2
    rm -rf "$dir/pins" "$dir/python"
    python3 -m venv "$dir/python"
    "$dir/python/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps --only-binary=:all: \
        --require-hashes --requirement "$here/requirements.txt" >&2
    echo "$pins" >"$dir/pins"
fi

work=$(mktemp -d)
gateway_pid=
trap '[ -z "$gateway_pid" ] || { kill "$gateway_pid"; wait "$gateway_pid" || true; }; rm -rf "$work"' EXIT
key=$("$gateway" keys new schemathesis --admin --auth-file "$work/auth.toml" | head -n1)
"$gateway" serve --listen 127.0.0.1:0 --data-dir "$work/data" --auth-file "$work/auth.toml" >"$work/log" 2>&1 &
gateway_pid=$!
url=
for _ in $(seq 100); do
    url=$(sed -n 's|.*\(http://127\.0\.0\.1:[0-9]*\).*|\1|p' "$work/log" | head -n1)
    [ -z "$url" ] || ! curl -sf "$url/readyz" >/dev/null || break
    sleep 0.1
done
[ -n "$url" ] || { cat "$work/log" >&2; exit 1; }

cd "$work"
PYTHONPATH=$here SCHEMATHESIS_HOOKS=hooks "$dir/python/bin/schemathesis" run "$url/openapi.json" --url "$url" \
    --checks all --exclude-checks positive_data_acceptance,negative_data_rejection,not_a_server_error \
    --header "Authorization: Bearer $key" \
    --max-time "$seconds" --seed "${SEED:-1}" --continue-on-failure --suppress-health-check all \
    --exclude-path-regex '/events$' --request-timeout 10 --warnings off
