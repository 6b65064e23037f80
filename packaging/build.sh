#!/bin/sh
# Builds the files of a release for this machine: an archive, its bill of materials and, on Debian and
# Ubuntu, a package. Usage: build.sh TARGET VERSION DIR
set -eu
cd "$(dirname "$0")/.."

target=$1 version=$2 dist=$3
name=streamgate-$version-$target
mkdir -p "$dist"
rustup target add "$target"
cargo build --locked --release --target "$target"
binary=target/$target/release/streamgate
reported=$("$binary" --version)
[ "$reported" = "streamgate $version" ] || { echo "build.sh: the binary is $reported" >&2; exit 1; }

folder=$dist/$name
mkdir "$folder"
cp "$binary" README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$folder"
tar -C "$dist" -czf "$dist/$name.tar.gz" "$name"
rm -r "$folder"

scripts/cargo-tool.sh cargo-cyclonedx 0.5.9
PATH="$PWD/target/tools/bin:$PATH" cargo cyclonedx --format json --target "$target" --override-filename sbom
mv sbom.json "$dist/$name.cdx.json"

if command -v dpkg >/dev/null; then
    scripts/cargo-tool.sh cargo-deb 3.8.0
    PATH="$PWD/target/tools/bin:$PATH" cargo deb --no-build --target "$target" --output "$dist"
fi
