#!/usr/bin/env bash
# Proves /metrics to a real Prometheus (Debian's): it scrapes a daemon that
# forwards lines and answers a query for them, and promtool finds nothing to say.
#
#   tests/interop/prometheus.sh path/to/sidecarbon
#
# Exit: 0 every check passed · 1 one failed · 77 a tool that it needs is missing.
set -euo pipefail

binary=${1:?"usage: tests/interop/prometheus.sh path/to/sidecarbon"}
[[ -x $binary ]] || { echo "there is no binary at $binary; build it with \"cargo build --release\"" >&2; exit 1; }

if ! command -v prometheus >/dev/null || ! command -v promtool >/dev/null; then
    if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
        echo "prometheus is not installed, and only root can install it, by apt-get" >&2
        exit 77
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends prometheus >/dev/null; } ||
        { echo "prometheus could not be installed" >&2; exit 77; }
fi

# shellcheck source=tests/interop/common.sh
source "$(dirname "$0")/common.sh"

# The lines go to standard output: what counts here is that they are delivered.
start <<TOML
listen.udp = ["127.0.0.1:0"]
listen.tcp = ["127.0.0.1:0"]
TOML
tcp=$(port_of tcp)

for number in $(seq 1000); do
    echo "interop.prometheus.$((number % 10)) $number"
done >"/dev/tcp/127.0.0.1/$tcp"
echo "interop.prometheus oops" >"/dev/tcp/127.0.0.1/$tcp"

get "$admin" /metrics | tr -d '\r' >"$dir/metrics"
said=$(promtool check metrics <"$dir/metrics" 2>&1) || fail "promtool check metrics: $said"
[[ -z $said ]] || fail "promtool check metrics says: $said"
echo "ok    promtool check metrics says nothing about $(grep -c '^# TYPE' "$dir/metrics") metrics"

cat >"$dir/prometheus.yml" <<YAML
scrape_configs:
  - job_name: sidecarbon
    scrape_interval: 1s
    static_configs:
      - targets: ["127.0.0.1:$admin"]
YAML
promtool check config "$dir/prometheus.yml" >/dev/null || fail "the test's own configuration is wrong"

# It cannot choose a port by itself: one that is free now is likely to stay so.
start_prometheus() {
    web=$((20000 + RANDOM % 12000))
    ! (: <"/dev/tcp/127.0.0.1/$web") 2>/dev/null || return 1
    prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/tsdb" \
        --web.listen-address="127.0.0.1:$web" >"$dir/prometheus.log" 2>&1 &
    prometheus=$!
    until_true answers_or_ended
    if kill -0 "$prometheus" 2>/dev/null; then
        running+=("$prometheus")
    else
        return 1
    fi
}
answers_or_ended() {
    ! kill -0 "$prometheus" 2>/dev/null || get "$web" /-/ready | grep -q Ready
}
start_prometheus || start_prometheus || start_prometheus || fail "Prometheus does not start"

query() {
    get "$web" "/api/v1/query?query=$1"
}
# As it answers: {"status":"success",…"value":[1700000000.123,"1000"]}
is() {
    [[ $(query "$1") == *"\"status\":\"success\""*"\"value\":["*",\"$2\"]"* ]]
}
for expected in \
    "up 1" \
    "sidecarbon_lines_delivered_total 1000" \
    "sum(sidecarbon_lines_received_total) 1001" \
    "sum(sidecarbon_lines_rejected_total) 1" \
    "sidecarbon_ledger_imbalance 0"; do
    read -r name value <<<"$expected"
    until_true is "$name" "$value" || fail "$name is not $value but: $(query "$name")"
    echo "ok    Prometheus knows that $name is $value"
done
