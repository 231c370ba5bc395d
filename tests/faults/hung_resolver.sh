#!/usr/bin/env bash
# A resolver that never answers delays neither lines nor shutdown.
#
#   tests/faults/hung_resolver.sh path/to/sidecarbon
#
# Runs in network and mount name spaces of its own, where the only name server
# is a socket that nobody reads. Needs root, unshare, ip, mount and python3.
# Exit: 0 passed, 1 failed, 77 a tool that it needs is missing.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 path/to/sidecarbon}")
[[ -x $binary ]] || { echo "there is no binary at $binary; build it with \"cargo build --release\"" >&2; exit 1; }
if [[ ${IN_NAMESPACE:-} != yes ]]; then
    missing=
    for tool in unshare ip mount python3; do
        command -v "$tool" >/dev/null || missing=$tool
    done
    if [[ -n $missing ]] || ! unshare --net --mount true 2>/dev/null; then
        echo "needs root, unshare, ip, mount and python3"
        exit 77
    fi
    IN_NAMESPACE=yes exec unshare --net --mount "$0" "$binary"
fi

# shellcheck source=tests/faults/common.sh
source "$(dirname "$0")/common.sh"
admin=12023

ip link set lo up
printf 'nameserver 127.0.0.1\noptions timeout:30 attempts:5\n' >"$dir/resolv.conf"
mount --bind "$dir/resolv.conf" /etc/resolv.conf
python3 -c '
import socket, time
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.1", 53))
time.sleep(120)' &
helper=$!

SIDECARBON_SINK_URL=tcp://carbon.example.com:2003 SIDECARBON_API_KEY=resolver-test \
    SIDECARBON_LISTEN_UDP="" SIDECARBON_LISTEN_TCP=127.0.0.1:12003 \
    SIDECARBON_ADMIN_LISTEN=127.0.0.1:$admin SIDECARBON_SHUTDOWN_GRACE=1s \
    "$binary" --config /dev/null 2>"$dir/log" &
daemon=$!

until_true grep -q ' started ' "$dir/log" || fail "does not start"
echo "a.b 1" >/dev/tcp/127.0.0.1/12003
until_true is 'sidecarbon_lines_received_total{listener="tcp:127.0.0.1:12003"}' 1 || fail "no line came in"
echo "PASS  a line comes in while the resolver hangs"

until_true is 'sidecarbon_sink_errors_total{kind="dns"}' 1 || fail "the resolver is waited for"
echo "c.d 2" >/dev/tcp/127.0.0.1/12003
until_true is sidecarbon_queue_lines 2 || fail "lines do not wait"
echo "PASS  the resolver is given up, and lines wait"

kill -TERM "$daemon"
before=$SECONDS
wait "$daemon" || fail "exit code $?"
daemon=
((SECONDS - before < 10)) || fail "the exit took $((SECONDS - before)) s, the resolver hangs for longer"
grep -q 'ledger received=2 .* queued=2 ' "$dir/log" || fail "no ledger"
echo "PASS  the exit does not wait for the resolver, and the ledger says what was left"
