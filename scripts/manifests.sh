#!/bin/sh
# Checks what deploy/ and .github/ declare, with tools from PyPI in a virtual environment.
# Usage: manifests.sh DIR, where the environment is kept
set -eu

[ -x "$1/bin/zizmor" ] || {
    python3 -m venv "$1"
    "$1/bin/pip" install --quiet --disable-pip-version-check \
        helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 pyyaml==6.0.4 zizmor==1.32.0
}
"$1/bin/python" scripts/manifests.py
"$1/bin/zizmor" --offline --no-progress --quiet .github/workflows
