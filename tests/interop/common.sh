# What scripts of this directory share: a daemon, its end, its metrics. To be
# sourced; $binary is the daemon.
# shellcheck shell=bash
# shellcheck disable=SC2154

dir=$(mktemp -d)
running=()
cleanup() {
    for process in "${running[@]}"; do
        kill "$process" 2>/dev/null || true
        wait "$process" 2>/dev/null || true
    done
    rm -rf "$dir"
}
trap cleanup EXIT

cannot() {
    echo "$*" >&2
    exit 77
}

fail() {
    echo "FAIL  $*"
    tail -n 40 "$dir"/*.log "$dir/lines"
    exit 1
}

# Waits, for 30 seconds at most, until a command succeeds.
until_true() {
    local deadline=$((SECONDS + 30))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

get() { # port path
    exec 4<>"/dev/tcp/127.0.0.1/$1" || return 1
    printf 'GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n' "$2" >&4
    sed '1,/^\r*$/d' <&4
    exec 4>&-
} 2>/dev/null

# Starts $daemon with this configuration, on standard input. What would go upstream is
# in $dir/lines, its metrics are at the port $admin.
start() {
    : >"$dir/sidecarbon.log"
    {
        printf 'sink.url = "stdout:"\nsink.api_key = ""\nadmin.listen = "127.0.0.1:0"\n'
        cat
    } >"$dir/sidecarbon.toml"
    chmod 600 "$dir/sidecarbon.toml"
    "$binary" --config "$dir/sidecarbon.toml" >"$dir/lines" 2>"$dir/sidecarbon.log" &
    daemon=$!
    running+=("$daemon")
    until_true grep -q ' started ' "$dir/sidecarbon.log" || fail "the daemon does not start"
    admin=$(port_of admin)
}

# The port of a listener, as the daemon logs it.
port_of() {
    sed -n "s/^.* listening listener=$1:.* address=.*:\([0-9]*\)$/\1/p" "$dir/sidecarbon.log" | tail -n1
}
