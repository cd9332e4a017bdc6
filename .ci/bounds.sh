#!/usr/bin/env bash
# Tests with the lowest or the newest versions that setup.cfg allows, in an environment of their own beside .venv:
#
#     bash .ci/bounds.sh lowest|newest [pytest's arguments]
#
# .venv-lowest and .venv-newest take about 6 GB each, are made anew when setup.cfg has changed, and may be deleted at any
# time. PYTHON=/path/to/python chooses the interpreter; installed.txt in the environment says what was installed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
which=${1:-}
case $which in lowest | newest) shift ;; *) echo "usage: bash .ci/bounds.sh lowest|newest [pytest's arguments]" >&2; exit 2 ;; esac
venv=.venv-$which
python=$venv/bin/python

if ! cmp -s setup.cfg "$venv/made-for.cfg"; then
    rm -rf "$venv"
    "${PYTHON:-python3}" -m venv "$venv"
    pip() { "$python" -m pip --disable-pip-version-check --no-input "$@" >>"$venv/install.log" 2>&1; }
    trap 'echo "--- the end of $venv/install.log ---" >&2; tail -n 25 "$venv/install.log" >&2' ERR
    echo "Installing the $which versions into $venv (what pip says: $venv/install.log)"
    pip install packaging
    : >"$venv/pins.txt"
    [ "$which" = newest ] || "$python" .ci/lowest.py speech dev >"$venv/pins.txt"
    pip install -c "$venv/pins.txt" 'setuptools>=77.0.3'
    pip install -c "$venv/pins.txt" --no-build-isolation --editable ".[speech,dev]"
    pip check
    trap - ERR
    "$python" -m pip freeze --exclude-editable >"$venv/installed.txt"
    cp setup.cfg "$venv/made-for.cfg"
fi
exec "$python" -m pytest "$@"
