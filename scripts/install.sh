#!/bin/sh
# Installs missing programs with the package manager of the platform. Usage: install.sh NAME...
# Known names:
# - redis: a Redis or Valkey server
# - for the tests: chromium, curl, openssl, procps (ps and kill), python3, node, npm, php, pip and
#   venv (of python3), javac, go, slowhttptest
# - the servers of docs/deploying.md: nginx, haproxy, apache, lighttpd
# - promtool, of Prometheus
# - for the benchmarks: redis-benchmark, webdis, wrk, nchan (an nginx module)
# - cc for building, c++ for fuzzing
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else echo "install.sh: root is required, but sudo is not available: $*" >&2; exit 1
    fi
}

is_there() {
    case $1 in
    redis) command -v redis-server >/dev/null || command -v valkey-server >/dev/null ;;
    chromium)
        [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
            command -v google-chrome >/dev/null || [ -d "/Applications/Google Chrome.app" ] ;;
    node | php | python3 | slowhttptest | promtool) command -v "$1" >/dev/null ;;
    curl) command -v curl >/dev/null ;;
    procps) command -v ps >/dev/null && { [ -x /bin/kill ] || [ -x /usr/bin/kill ]; } ;;
    openssl | redis-benchmark | webdis | wrk | nginx | haproxy | npm) command -v "$1" >/dev/null ;;
    javac | go | cc | c++) command -v "$1" >/dev/null ;;
    apache) command -v apache2 >/dev/null || command -v httpd >/dev/null ;;
    lighttpd) [ -e /usr/lib/lighttpd/mod_openssl.so ] ;;
    nchan) [ -e "$(nginx -V 2>&1 | sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p')/ngx_nchan_module.so" ] ;;
    pip) python3 -m pip --version >/dev/null 2>&1 ;;
    venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
    *) echo "install.sh: unknown program: $1" >&2; exit 2 ;;
    esac
}

install() {
    echo "installing $1" >&2
    if command -v apt-get >/dev/null; then
        case $1 in redis) package=redis-server ;; cc) package="gcc libc6-dev" ;; redis-benchmark) package=redis-tools ;; nginx) package=nginx-light ;; nchan) package=libnginx-mod-nchan ;; apache) package=apache2 ;; lighttpd) package="lighttpd lighttpd-mod-openssl" ;; node) package=nodejs ;; php) package=php-cli ;; pip) package=python3-pip ;; venv) package=python3-venv ;; promtool) package=prometheus ;; javac) package=default-jdk-headless ;; go) package=golang-go ;; c++) package=g++ ;; *) package=$1 ;; esac
        as_root apt-get update -qq
        # Not quoted, because some names expand to two packages.
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $package >&2
    elif command -v brew >/dev/null; then
        case $1 in
        chromium) brew install --cask google-chrome ;;
        npm) brew install node ;;
        promtool) brew install prometheus ;;
        pip | venv) brew install python ;;
        javac) brew install openjdk ;;
        cc | c++) xcode-select --install ;;
        *) brew install "$1" ;;
        esac
    elif command -v dnf >/dev/null; then
        case $1 in redis) package=valkey ;; cc) package=gcc ;; c++) package=gcc-c++ ;; procps) package=procps-ng ;; node) package=nodejs ;; npm) package=nodejs-npm ;; php) package=php-cli ;; pip) package=python3-pip ;; venv) package=python3 ;; javac) package=java-latest-openjdk-devel ;; promtool) package=golang-github-prometheus ;; go) package=golang ;; *) package=$1 ;; esac
        as_root dnf install -y -q "$package"
    elif command -v pacman >/dev/null; then
        case $1 in redis) package=valkey ;; procps) package=procps-ng ;; node) package=nodejs ;; pip) package=python-pip ;; python3 | venv) package=python ;; javac) package=jdk-openjdk ;; promtool) package=prometheus ;; cc | c++) package=gcc ;; *) package=$1 ;; esac
        as_root pacman -S --noconfirm --needed "$package"
    else
        echo "install.sh: no supported package manager found; please install $1 manually" >&2
        exit 1
    fi
    is_there "$1" || { echo "install.sh: $1 was not found after installation" >&2; exit 1; }
}

for name in "$@"; do
    is_there "$name" || install "$name"
done
