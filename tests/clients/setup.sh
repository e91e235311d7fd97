#!/bin/sh
# Installs the clients of the matrix: what each file in drivers/ says it runs in and with ("Runs in .venv-clients with: openai==3.51.0").
# PyPI's go into virtual environments at the root, npm's into tests/clients/node_modules, and programs are installed if this is root.
# Does something only for an environment whose list has changed. Exit status 1 if something cannot be had.

set -u
cd "$(dirname "$0")/../.." || exit 1
PYTHON=${PYTHON:-python3}
DRIVERS=tests/clients/drivers
failed=0

complain() { echo "error: $*" >&2; failed=1; }

# The requirements of an environment, from all drivers.
needs() { sed -n -E "s#^(//|\#) Runs in $1 with: ##p" $DRIVERS/*.py $DRIVERS/*.mjs | tr ' ' '\n' | sort -u | tr '\n' ' '; }

# A stamp remembers what was installed.
is_current() { [ "$(cat "$1/.txsse-clients" 2>/dev/null)" = "$2" ]; }

virtual_environment() {
    wanted=$(needs "$1")
    is_current "$1" "$wanted" && return
    echo "$1: installing $wanted.."
    "$PYTHON" -m venv --clear "$1" || { complain "$1: '$PYTHON' cannot make virtual environments: apt-get install python3-venv"; return; }
    # shellcheck disable=SC2086
    "$1/bin/python" -m pip install --disable-pip-version-check -qq $wanted || { complain "$1: pip failed"; return; }
    printf '%s' "$wanted" >"$1/.txsse-clients"
}

node_modules() {
    wanted=$(needs node)
    is_current tests/clients/node_modules "$wanted" && return
    command -v npm >/dev/null || { complain "npm is missing: apt-get install nodejs npm (Node 20 or later)"; return; }
    echo "node_modules: installing $wanted.."
    # shellcheck disable=SC2086
    npm install --prefix tests/clients --no-save --no-package-lock --loglevel=error $wanted || { complain "npm failed"; return; }
    printf '%s' "$wanted" >tests/clients/node_modules/.txsse-clients
}

programs() {
    missing=
    for program in $(needs .venv); do
        command -v "$program" >/dev/null || missing="$missing $program"
    done
    [ -n "$missing" ] || return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing$missing .."
        # shellcheck disable=SC2086
        (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing) >/dev/null && return
    fi
    # Its tests are skipped then, with a line about it, where CI is not set.
    if [ -n "${CI:-}" ]; then complain "not installed:$missing"; else echo "left out, for it is not installed:$missing"; fi
}

virtual_environment .venv-clients
virtual_environment .venv-clients-2x
node_modules
programs
exit $failed
