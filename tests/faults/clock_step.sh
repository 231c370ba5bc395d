#!/usr/bin/env bash
# Steps of the wall clock change the stamps of the lines that come after them,
# and nothing else.
#
#   tests/faults/clock_step.sh path/to/sidecarbon
#
# Runs the daemon under libfaketime, which reads its offset from a file. Needs
# Debian's libfaketime and python3. Exit: 0 passed, 1 failed, 77 a tool
# that it needs is missing.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 path/to/sidecarbon}")
[[ -x $binary ]] || { echo "there is no binary at $binary; build it with \"cargo build --release\"" >&2; exit 1; }
library=$(dpkg -L libfaketime 2>/dev/null | grep -m 1 '/libfaketimeMT\.so') || true
if [[ -z $library ]] || ! command -v python3 >/dev/null; then
    echo "needs libfaketime and python3"
    exit 77
fi

# shellcheck source=tests/faults/common.sh
source "$(dirname "$0")/common.sh"

# The upstream. Its port refuses connections until it is told "up"; "down" reads
# every connection to its end, "stall" and "read" stop and start the reading.
coproc UPSTREAM {
    exec python3 -u -c '
import socket, sys, threading

def bound():
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
    made.bind(address)
    return made

def read(connection):
    with connection, open(sys.argv[1], "ab", buffering=0) as arrived:
        partial = b""
        while True:
            reading.wait()
            partial += (received := connection.recv(65536))
            if not received:
                break
            whole, newline, partial = partial.rpartition(b"\n")
            arrived.write(whole + newline)
        if partial:
            arrived.write(partial + b"  HALF A LINE\n")

def accept(listener):
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        readers.append((connection, reader := threading.Thread(target=read, args=[connection])))
        reader.start()

address, reading, readers = ("127.0.0.1", 0), threading.Event(), []
reading.set()
reserved = bound()
address = reserved.getsockname()
print(address[1])
for order in sys.stdin:
    match order.strip():
        case "up":
            listener = bound()
            listener.listen()
            threading.Thread(target=accept, args=[listener], daemon=True).start()
        case "down":
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
            for connection, reader in readers:
                try:
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
                reader.join()
            readers.clear()
        case "stall":
            reading.clear()
        case "read":
            reading.set()
    print("done")
' "$dir/arrived"
}
helper=$UPSTREAM_PID
read -r port <&"${UPSTREAM[0]}"
: >"$dir/arrived"

upstream() {
    echo "$1" >&"${UPSTREAM[1]}"
    read -r -t 20 <&"${UPSTREAM[0]}" || fail "the upstream does not $1"
}

# The clock of the daemon: so many seconds from ours, read at each look at it.
offset=0
step() {
    offset=$1
    printf '%+d\n' "$offset" >"$dir/clock.new"
    mv "$dir/clock.new" "$dir/clock"
}

sent=0
# Sends lines without a time of their own, and notes between which seconds of
# the daemon's clock they were received.
send() {
    local name=$1 count=$2 first=$((EPOCHSECONDS + offset))
    seq -f "$name.%06.0f 1" "$count" >"/dev/tcp/127.0.0.1/$tcp"
    sent=$((sent + count))
    until_true is "$received" "$sent" || fail "not all of $name came in"
    echo "$name $count $first $((EPOCHSECONDS + offset))" >>"$dir/sent"
}

delivered() {
    until_true is sidecarbon_lines_delivered_total "$sent" || fail "not all lines were delivered: $*"
}

# Every line once, stamped with the second of its receipt. A time before 1970
# has no stamp but 0.
check() {
    python3 - "$dir/sent" "$dir/arrived" <<'PYTHON' || fail "$1"
import collections, sys

sent, arrived = (open(path).read().splitlines() for path in sys.argv[1:])
expected = {}
for name, count, first, last in map(str.split, sent):
    for number in range(1, int(count) + 1):
        expected[f"clock-test.{name}.{number:06}"] = max(0, int(first)), max(0, int(last))
names = collections.Counter()
wrong = []
for line in arrived:
    name, value, stamp = (line.split(" ") + ["", ""])[:3]
    names[name] += 1
    if len(line.split(" ")) != 3 or name not in expected or value != "1":
        wrong.append(f"nobody sent {line!r}")
    elif not expected[name][0] <= int(stamp) <= expected[name][1]:
        wrong.append(f"{line!r} was received between {expected[name]}")
wrong += [f"{name} arrived {count} times" for name, count in names.items() if count > 1]
wrong += [f"{name} did not arrive" for name in expected if name not in names]
print(*wrong[:10], sep="\n", end="\n" if wrong else "")
sys.exit(bool(wrong))
PYTHON
    echo "PASS  $1"
}

step 0
upstream up
# Nothing here may take longer than a few seconds; what a wrong clock would
# make longer, or shorter, is minutes and days.
env LD_PRELOAD="$library" FAKETIME_TIMESTAMP_FILE="$dir/clock" FAKETIME_NO_CACHE=1 \
    DONT_FAKE_MONOTONIC=1 FAKETIME_DONT_FAKE_MONOTONIC=1 \
    SIDECARBON_SINK_URL="tcp://127.0.0.1:$port" SIDECARBON_API_KEY=clock-test \
    SIDECARBON_LISTEN_UDP="" SIDECARBON_LISTEN_TCP=127.0.0.1:0 \
    SIDECARBON_ADMIN_LISTEN=127.0.0.1:0 SIDECARBON_RETRY_MAX=1s \
    SIDECARBON_SHUTDOWN_GRACE=10s \
    "$binary" --config /dev/null 2>"$dir/log" &
daemon=$!
until_true grep -q ' started ' "$dir/log" || fail "does not start"
port_of() {
    sed -n "s/.* listening listener=$1:.* address=127\.0\.0\.1:\([0-9]*\).*/\1/p" "$dir/log"
}
tcp=$(port_of tcp)
admin=$(port_of admin)
received='sidecarbon_lines_received_total{listener="tcp:127.0.0.1:0"}'

day=86400
before_1970=$((-EPOCHSECONDS - 1000 * day))
after_2038=$((2208988800 - EPOCHSECONDS))

send at_first 1000
delivered "before any step"
for clock in $day -$day $before_1970 $after_2038 0; do
    step "$clock"
    send "flow.$clock" 1000
    delivered "after a step to $clock"
done
is sidecarbon_sink_connects_total 1 || fail "a step broke the connection"
check "lines flow through every step, on one connection"

upstream stall
send "stalled" 300000
(($(metric sidecarbon_in_flight_lines) > 0)) || fail "nothing is in flight"
step $day
send "stalled.day" 1000
step $before_1970
send "stalled.before_1970" 1000
step 0
upstream read
delivered "after a stall"
is sidecarbon_sink_connects_total 1 || fail "a step was taken for a time-out"
check "lines in flight see no time-out in a step"

upstream down
for clock in 0 $day $before_1970 $after_2038 -$day; do
    step "$clock"
    send "waiting.$clock" 1000
done
until_true is sidecarbon_queue_lines 5000 || fail "the lines do not wait"
step $day
upstream up
before=$SECONDS
delivered "that had waited"
# At most a second until the next attempt, and as much again for a slow machine.
((SECONDS - before <= 5)) || fail "it took $((SECONDS - before)) s to connect again"
check "lines that wait keep their stamps, and leave within seconds"

for clock in -$day $before_1970 $after_2038; do
    upstream down
    send "backoff.$clock" 1000
    errors='sidecarbon_sink_errors_total{kind="connect"}'
    attempts=$(metric "$errors")
    step "$clock"
    more() { (($(metric "$errors") >= attempts + 2)); }
    until_true more || fail "no more attempts after a step to $clock"
    upstream up
    before=$SECONDS
    delivered "after a step to $clock in an outage"
    ((SECONDS - before <= 5)) || fail "it took $((SECONDS - before)) s to connect again"
done
check "a step in an outage delays no attempt"

upstream down
step $day
send "last" 1000
kill -TERM "$daemon"
until_true grep -q ' stopping ' "$dir/log" || fail "does not stop"
step -$day
upstream up
before=$SECONDS
wait "$daemon" || fail "exit code $?"
daemon=
((SECONDS - before <= 8)) || fail "the drain took $((SECONDS - before)) s"
grep -q "ledger received=$sent .* delivered=$sent dropped=0 queued=0 in_flight=0" "$dir/log" || fail "the ledger"
check "a step in the drain does not end it, and the ledger is exact"
