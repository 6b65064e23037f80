#!/bin/sh
# Installs what is missing of: redis (a Redis or Valkey server), chromium (for the browser tests).
# By the platform's own package manager; does nothing for what is there. Usage: install.sh NAME...
set -eu

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"
    elif command -v sudo >/dev/null; then sudo "$@"
    else echo "install.sh: this needs root, and there is no sudo: $*" >&2; exit 1
    fi
}

is_there() {
    case $1 in
    redis) command -v redis-server >/dev/null || command -v valkey-server >/dev/null ;;
    chromium)
        [ -n "${CHROMIUM:-}" ] || command -v chromium >/dev/null || command -v chromium-browser >/dev/null ||
            command -v google-chrome >/dev/null || [ -d "/Applications/Google Chrome.app" ] ;;
    *) echo "install.sh: unknown: $1" >&2; exit 2 ;;
    esac
}

install() {
    echo "installing $1" >&2
    if command -v apt-get >/dev/null; then
        [ "$1" = redis ] && package=redis-server || package=chromium
        as_root apt-get update -qq
        as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$package" >&2
    elif command -v brew >/dev/null; then
        if [ "$1" = redis ]; then brew install redis; else brew install --cask google-chrome; fi
    elif command -v dnf >/dev/null; then
        [ "$1" = redis ] && package=valkey || package=chromium
        as_root dnf install -y -q "$package"
    elif command -v pacman >/dev/null; then
        [ "$1" = redis ] && package=valkey || package=chromium
        as_root pacman -S --noconfirm --needed "$package"
    else
        echo "install.sh: no package manager I know: please install $1 yourself" >&2
        exit 1
    fi
    is_there "$1" || { echo "install.sh: $1 is still not there" >&2; exit 1; }
}

for name in "$@"; do
    is_there "$name" || install "$name"
done
