# What the scripts of this directory share: a daemon, its metrics, an end.
# To be sourced; $admin is the port of the daemon's metrics.
# shellcheck shell=bash

dir=$(mktemp -d)
: >"$dir/log"
admin=
daemon=
helper=
cleanup() {
    [[ -z $daemon ]] || kill -KILL "$daemon" 2>/dev/null || true
    [[ -z $helper ]] || kill "$helper" 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT

fail() {
    echo "FAIL  $*"
    cat "$dir/log"
    exit 1
}

# Waits, for 20 seconds at most, until a command succeeds.
until_true() {
    local deadline=$((SECONDS + 20))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}

metric() {
    exec 4<>"/dev/tcp/127.0.0.1/$admin"
    printf 'GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' >&4
    grep -F "$1 " <&4 | grep -v '^#' | tr -d '\r' | sed 's/.* //'
    exec 4>&-
}

is() {
    [[ $(metric "$1") == "$2" ]]
}
