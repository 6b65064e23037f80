#!/bin/sh
# Creates what tls.yml needs in the folder etc beside it: a certificate for localhost, signed by itself, and
# an auth file with one key, which it prints. Needs openssl, and the image for `streamgate keys`.
set -eu
cd "$(dirname "$0")"

mkdir -p etc
[ -e etc/tls.key ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 365 \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout etc/tls.key -out etc/tls.crt 2>/dev/null
# The user of the image must be able to read the files, and `keys new` to write them.
[ "$(id -u)" = 0 ] && chown -R 10001:10001 etc
docker run --rm --user "$(stat -c %u:%g etc)" -v "$PWD/etc:/etc/streamgate" streamgate \
    keys new admin --admin --auth-file /etc/streamgate/auth.toml
