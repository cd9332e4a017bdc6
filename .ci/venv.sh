#!/usr/bin/env bash
# Make or repair .venv with the locked set: `bash .ci/venv.sh EXTRAS STAMP` (the Makefile calls it when STAMP is out of date).
# Installs nothing outside .venv. PYTHON=/path/to/python chooses the interpreter.
set -euo pipefail
extras=$1
stamp=$2
log=.venv/install.log
home=.venv/.checkout
# Present while pip works: an install that was killed leaves packages that look whole and are not, so it is begun afresh.
unfinished=.venv/.unfinished
# pip turns an interrupt into an ordinary failure; this keeps $unfinished in place then.
trap 'exit 130' INT TERM
fits='import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 14))'

fail() {
    printf 'audiossl: error: %s\n' "$*" >&2
    exit 1
}

find_python() {
    local candidate without_venv=
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python3.12 python3.13 python3.14; do
        "$candidate" -c "$fits" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
        without_venv=$candidate
    done
    [ -z "$without_venv" ] ||
        fail "$without_venv has no venv module: install it (Debian and Ubuntu: apt-get install python3-venv) and try again."
    fail "no Python 3.11 to 3.14 found${PYTHON:+ (PYTHON=$PYTHON is none)}: install python3.11, or name one with 'make PYTHON=/path/to/python3.11'."
}

# A .venv without $home was made by hand: taken over. In a checkout that was moved it points to the old place.
whole() {
    [ ! -e "$unfinished" ] && { [ ! -e "$home" ] || [ "$(cat "$home")" = "$(pwd -P)" ]; } &&
        .venv/bin/python -c "$fits" >/dev/null 2>&1 && .venv/bin/python -m pip --version >/dev/null 2>&1
}

install() {
    local status=0
    .venv/bin/python -m pip install --disable-pip-version-check --no-input -c constraints.txt "$@" >>"$log" 2>&1 || status=$?
    [ "$status" -ne 0 ] || return 0
    [ "$status" -gt 128 ] || rm -f "$unfinished" # pip stopped by itself: what it had installed is whole
    printf '\n--- the end of %s ---\n' "$log" >&2
    tail -n 25 "$log" >&2
    fail "the installation failed (see above; everything is in $log): once mended, the same command goes on from here."
}

if whole; then
    echo "Bringing .venv up to date with setup.cfg and constraints.txt, extras '$extras' (what pip says: $log)"
else
    python=$(find_python)
    [ ! -e .venv ] || echo "The environment .venv is incomplete or was made in another folder: making it anew."
    rm -rf .venv
    mkdir .venv
    touch "$unfinished"
    "$python" -m venv .venv || fail "'$python -m venv .venv' failed: see above."
    echo "Installing torch, timm and the rest of the locked set, with the extras '$extras', into .venv: once, some minutes,"
    echo "  about 6 GB of disk on Linux, where torch brings its GPU libraries (what pip says: $log)"
fi
pwd -P >"$home"
start=$SECONDS
touch "$unfinished"
: >"$log"
# The build backend comes from the locked set too, so nothing else is fetched to build the package.
install 'setuptools>=77.0.3'
install --no-build-isolation --editable ".[$extras]"
.venv/bin/python -m pip check --disable-pip-version-check >>"$log" 2>&1 ||
    fail "the installed packages do not fit together: $(tail -n 1 "$log")"
rm -f "$unfinished"
touch "$stamp"
echo "Installed in $((SECONDS - start)) s."
