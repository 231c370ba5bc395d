#!/usr/bin/env bash
# Proves listen.statsd to real clients: PyPI's statsd and npm's hot-shots send what
# they have, over UDP and TCP, and the points that come out are looked at.
#
#   tests/interop/statsd.sh path/to/sidecarbon
#
# Exit: 0 every check passed · 1 one failed · 77 a tool that it needs is missing.
set -euo pipefail

binary=${1:?"usage: tests/interop/statsd.sh path/to/sidecarbon"}
[[ -x $binary ]] || { echo "there is no binary at $binary; build it with \"cargo build --release\"" >&2; exit 1; }

# shellcheck source=tests/interop/common.sh
source "$(dirname "$0")/common.sh"

# Each client at the version that was tried.
python=0 node=0
if command -v python3 >/dev/null && python3 -m venv "$dir/venv" 2>/dev/null; then
    "$dir/venv/bin/python" -m pip --disable-pip-version-check --quiet install statsd==4.0.1 && python=1
fi
if command -v node >/dev/null && command -v npm >/dev/null; then
    npm install --prefix "$dir" --silent --no-audit --no-fund --no-optional hot-shots@17.1.1 >/dev/null && node=1
fi
((python + node > 0)) || cannot "neither python3 with venv and PyPI, nor node with npm's registry, is here"

# The interval is longer than the test: what leaves does so at the stop.
begin() {
    start <<TOML
listen.udp = []
listen.tcp = []
listen.statsd = ["127.0.0.1:0"]
statsd.interval = "1h"
TOML
    port=$(port_of statsd)
}

received() {
    get "$admin" /metrics | sed -n 's/^sidecarbon_lines_received_total{[^}]*} //p' | tr -d '\r'
}
has_received() { [[ $(received) == "$1" ]]; }

# Stops, and looks for each point: what is behind `stats.`, without the second.
stop() { # client samples point…
    local client=$1 samples=$2 point
    shift 2
    until_true has_received "$samples" || fail "$client: $(received) of $samples samples have come"
    kill "$daemon"
    wait "$daemon" || fail "$client: the daemon ended badly"
    running=()
    grep -q " rejected=0 .* aggregated=$samples .* dropped=0 " "$dir/sidecarbon.log" ||
        fail "$client: $(grep ' ledger ' "$dir/sidecarbon.log")"
    for point in "$@"; do
        grep -qE "^stats\.$point [0-9]{10}$" "$dir/lines" || fail "$client: there is no $point"
        echo "ok    $client: $point"
    done
}

if ((python)); then
    for transport in StatsClient TCPStatsClient; do
        begin
        "$dir/venv/bin/python" - "$transport" "$port" >"$dir/client.log" 2>&1 <<'PYTHON' || fail "the client fails"
import sys
import statsd

client = getattr(statsd, sys.argv[1])("127.0.0.1", int(sys.argv[2]), prefix="py")
client.incr("requests")
client.incr("requests", 4)
client.decr("requests", 2)
client.timing("latency", 320)
client.timing("latency", 100.5)
client.gauge("below", -5)
client.gauge("depth", 7)
client.gauge("depth", -3, delta=True)
client.set("users", "ann")
client.set("users", "bob")
client.set("users", "ann")
with client.pipeline() as pipeline:
    pipeline.incr("piped", 2)
    pipeline.timing("piped", 10)
    pipeline.gauge("piped", 1)
with client.timer("timed"):
    pass
PYTHON
        # A gauge below nought is two samples.
        stop "statsd (PyPI), $transport" 16 \
            "counters\.py\.requests\.count 3" "timers\.py\.latency\.sum 420\.5" \
            "timers\.py\.latency\.upper_90 320" "gauges\.py\.below -5" "gauges\.py\.depth 4" \
            "sets\.py\.users\.count 2" "counters\.py\.piped\.count 2" "timers\.py\.piped\.mean 10" \
            "gauges\.py\.piped 1" "timers\.py\.timed\.count 1"
    done
else
    echo "skipped: PyPI's statsd; there is no python3 with venv, or no PyPI"
fi

if ((node)); then
    for protocol in udp tcp; do
        begin
        (cd "$dir" && node - "$protocol" "$port") >"$dir/client.log" 2>&1 <<'NODE' || fail "the client fails"
const StatsD = require('hot-shots');
const [protocol, port] = process.argv.slice(2);
const client = new StatsD({
  host: '127.0.0.1', port: Number(port), protocol, prefix: 'js.', globalTags: { env: 'prod' },
  maxBufferSize: 512, includeDatadogTelemetry: false, errorHandler: (error) => { throw error; },
});
client.increment('requests');
client.increment('requests', 4, { dc: 'fra' });
client.decrement('requests', 2, ['dc:fra']);
client.timing('latency', 320);
client.histogram('size', 1.5);
client.distribution('spread', 2);
client.gauge('depth', 7);
client.gauge('depth', -3);
client.set('users', 'ann');
client.unique('users', 'bob');
client.close(() => {});
NODE
        stop "hot-shots (npm), $protocol" 10 \
            "counters\.js\.requests\.count;env=prod 1" "counters\.js\.requests\.count;dc=fra;env=prod 2" \
            "timers\.js\.latency\.mean;env=prod 320" "timers\.js\.size\.upper;env=prod 1\.5" \
            "timers\.js\.spread\.sum;env=prod 2" "gauges\.js\.depth;env=prod 4" \
            "sets\.js\.users\.count;env=prod 2"
    done
else
    echo "skipped: npm's hot-shots; there is no node, or no registry"
fi
