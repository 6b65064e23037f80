#!/bin/sh
# Lints openapi/openapi.json, generates clients from it with the generators pinned in
# tests/generated, compiles the clients, and runs a program with each against a gateway. The script
# starts the gateway with a private Redis. Usage: generated.sh GATEWAY DIR
set -eu

root=$(cd "$(dirname "$0")/.." && pwd)
here=$root/tests/generated
gateway=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
mkdir -p "$2"
dir=$(cd "$2" && pwd)

pins=$(cat "$here/package-lock.json" "$here/requirements.txt" | cksum)
if [ "$(cat "$dir/pins" 2>/dev/null)" != "$pins" ] || ! "$dir/python/bin/python" --version >/dev/null 2>&1; then
    echo "installing client generators" >&2
    rm -rf "$dir/pins" "$dir/node_modules" "$dir/python"
    cp "$here/package.json" "$here/package-lock.json" "$here/.npmrc" "$dir"
    (cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >&2) &
    npm=$!
    python3 -m venv "$dir/python"
    "$dir/python/bin/python" -m pip --quiet --disable-pip-version-check install --no-deps --only-binary=:all: \
        --require-hashes --requirement "$here/requirements.txt" >&2
    wait "$npm"
    echo "$pins" >"$dir/pins"
fi

work=$(mktemp -d)
gateway_pid=
trap '[ -z "$gateway_pid" ] || { kill "$gateway_pid"; wait "$gateway_pid" || true; }; rm -rf "$work"' EXIT
"$gateway" serve --listen 127.0.0.1:0 --data-dir "$work/data" >"$work/log" 2>&1 &
gateway_pid=$!

cd "$dir"
rm -rf out js rust
mkdir out
cp -r "$here/rust" .
cp "$root/openapi/openapi.json" "$here"/*.ts "$here"/*.py "$here"/*.java "$here"/*.go "$here"/*.cjs "$here"/*.json "$here"/*.yaml .
PATH="$dir/node_modules/.bin:$dir/python/bin:$PATH"
jar=$("$dir/python/bin/python" -c 'import openapi_generator_cli, pathlib; print(pathlib.Path(openapi_generator_cli.__file__).parent / "openapi-generator.jar")')
java_quick="java -Xshare:auto -XX:TieredStopAtLevel=1"

# Runs a step and shows its output if it fails.
began=$(date +%s)
failed=0
passed=0
step() {
    name=$1
    shift
    if "$@" >"$work/out" 2>&1; then
        passed=$((passed + 1))
        echo "ok: $name ($(($(date +%s) - began))s)"
    else
        failed=$((failed + 1))
        echo "failed: $name"
        tail -n 40 "$work/out"
    fi
}

# Starts a step that the step "await NAME" ends.
start() {
    name=$1
    shift
    (status=0; "$@" >"$work/$name.out" 2>&1 || status=$?; echo $status >"$work/$name.status") &
}

await() {
    until [ -s "$work/$1.status" ]; do sleep 0.2; done
    cat "$work/$1.out"
    return "$(cat "$work/$1.status")"
}

openapi_generator() {
    $java_quick -jar "$jar" generate --generator-name "$1" --input-spec openapi.json --output "out/$2" \
        --global-property apiTests=false,modelTests=false,apiDocs=false,modelDocs=false,apis,models,supportingFiles \
        --additional-properties "$3"
}

# The libraries of the Java client are in the jar of the generator, except for one annotation.
compile_java() {
    mkdir -p out/annotation/javax/annotation out/classes
    echo 'package javax.annotation; public @interface Generated { String[] value(); String date() default ""; String comments() default ""; }' \
        >out/annotation/javax/annotation/Generated.java
    find out/java/src/main/java out/annotation Main.java -name '*.java' >out/sources
    javac -nowarn -proc:none -d out/classes -cp "$jar" @out/sources
}

# Beside the standard library, a Go client needs a package that checks patterns. One that accepts
# every value takes its place, so that nothing is downloaded from Go modules.
build_go() {
    mkdir -p out/go/src/program out/go/src/gopkg.in/validator.v2
    cp main.go out/go/src/program
    printf 'package validator\n\nfunc Validate(interface{}) error { return nil }\n' >out/go/src/gopkg.in/validator.v2/validator.go
    GO111MODULE=off GOPATH="$dir/out/go" GOCACHE="$dir/go-cache" go build -o out/go/program program
}

# The crates that the client needs are pinned in tests/generated/rust and stay compiled.
build_rust() {
    (cd rust && CARGO_TARGET_DIR="$dir/rust-target" cargo build --locked --quiet)
}

# Lints with Redocly. Warnings count as failures.
lint_redocly() {
    redocly lint openapi.json --format=json >out/redocly.json && grep -q '"warnings": 0' out/redocly.json || { cat out/redocly.json; false; }
}

step "openapi-generator rust: generate" openapi_generator rust rust packageName=gateway
start rust build_rust
step "Redocly" lint_redocly
step "Spectral" spectral lint --quiet --fail-severity hint --ruleset spectral.yaml openapi.json
step "openapi-generator python: generate" openapi_generator python python packageName=streamgate_openapi
step "openapi-generator typescript-fetch: generate" openapi_generator typescript-fetch typescript-fetch supportsES6=true
step "openapi-generator java: generate" openapi_generator java java library=native,openApiNullable=false
step "openapi-generator java: compile" compile_java
step "openapi-generator go: generate" openapi_generator go go/src/gateway packageName=gateway
step "openapi-generator go: compile" build_go
step "openapi-python-client: generate" openapi-python-client generate --path openapi.json --output-path out/python-client
step "hey-api: generate" openapi-ts --input openapi.json --output out/hey-api --client @hey-api/client-fetch
step "openapi-typescript: generate" openapi-typescript openapi.json --output out/openapi-typescript.ts
step "orval: generate" orval --config orval.config.cjs
step "TypeScript: compile" tsc --project tsconfig.json
step "TypeScript: bundle" esbuild hey_api.ts openapi_fetch.ts orval.ts typescript_fetch.ts --bundle --platform=node \
    --format=esm --outdir=js --out-extension:.js=.mjs --log-level=warning
step "openapi-generator rust: compile" await rust

for _ in $(seq 100); do
    GATEWAY=$(sed -n 's|.*\(http://127\.0\.0\.1:[0-9]*\).*|\1|p' "$work/log" | head -n1)
    [ -z "$GATEWAY" ] || ! curl -sf "$GATEWAY/readyz" >/dev/null || break
    sleep 0.1
done
[ -n "$GATEWAY" ] || { cat "$work/log" >&2; exit 1; }
export GATEWAY

step "openapi-generator python: run" env PYTHONPATH=out/python python openapi_generator.py
step "openapi-python-client: run" env PYTHONPATH=out/python-client python openapi_python_client.py
for program in typescript_fetch hey_api openapi_fetch orval; do
    step "$program: run" node "js/$program.mjs"
done
step "openapi-generator java: run" $java_quick -cp "out/classes:$jar" Main
step "openapi-generator go: run" out/go/program
step "openapi-generator rust: run" rust-target/debug/program
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
