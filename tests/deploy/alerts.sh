#!/usr/bin/env bash
# Each alert of deploy/prometheus fires for real: a Prometheus that scrapes every
# second, and daemons in the trouble that each alert is about. The rules are those
# that are shipped, with their minutes made seconds.
#
#   tests/deploy/alerts.sh path/to/sidecarbon
#
# Exit: 0 passed, 1 failed, 77 a tool that it needs is missing.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 path/to/sidecarbon}")
[[ -x $binary ]] || { echo "there is no binary at $binary; build it with \"cargo build --release\"" >&2; exit 1; }
cd "$(dirname "$0")/../.."
# shellcheck source=tests/deploy/common.sh
source tests/deploy/common.sh
install_packages prometheus/prometheus prometheus/promtool python3/python3 openssl/openssl || {
    echo "needs prometheus, promtool, python3 and openssl, or root to install them"
    exit 77
}
# A look at a counter takes two scrapes.
PATIENCE=60

sed -E 's/\[[0-9]+m\]/[15s]/; s/for: [0-9]+m/for: 3s/' deploy/prometheus/sidecarbon.rules.yml >"$dir/rules.yml"
promtool check rules "$dir/rules.yml" >/dev/null
targets=()
# watch INSTANCE: Prometheus looks at the daemon that was just started.
watch() { targets+=("  - targets: ['127.0.0.1:$(port_of admin)']"$'\n'"    labels: {instance: $1}"); }

read -r prometheus refuser picky tls < <(free_ports 4)

start healthy SIDECARBON_SINK_URL=stdout: >/dev/null
watch healthy

# Nobody is there; a queue that lasts.
start dead SIDECARBON_SINK_URL=tcp://127.0.0.1:1 SIDECARBON_API_KEY=test
dead_udp=$(port_of udp)
watch dead

# A key that is refused, by an HTTP server that refuses all.
python3 - "$refuser" <<'PYTHON' &
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_error(401)
    def log_message(self, *arguments):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PYTHON
helpers+=($!)
start refused SIDECARBON_SINK_URL="http://127.0.0.1:$refuser/" SIDECARBON_API_KEY=test \
    SIDECARBON_RETRY_FIRST=500ms SIDECARBON_RETRY_MAX=1s
refused_tcp=$(port_of tcp)
watch refused

# Nobody is there, and the queue is small.
start full SIDECARBON_SINK_URL=tcp://127.0.0.1:1 SIDECARBON_API_KEY=test SIDECARBON_QUEUE_BYTES=64KiB
full_tcp=$(port_of tcp)
watch full

# Stands still while datagrams come.
start deaf SIDECARBON_SINK_URL=stdout: >/dev/null
deaf=$pid deaf_udp=$(port_of udp)
watch deaf

# Will be killed.
start gone SIDECARBON_SINK_URL=stdout: >/dev/null
gone=$pid
watch gone

# One line that the upstream rejects, among others that it accepts.
python3 - "$picky" <<'PYTHON' &
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(400 if b"bad" in body else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *arguments):
        pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
PYTHON
helpers+=($!)
start picky SIDECARBON_SINK_URL="http://127.0.0.1:$picky/" SIDECARBON_API_KEY=test
picky_tcp=$(port_of tcp)
watch picky

# Its file becomes one that is refused.
echo 'log.level = "info"' >"$dir/reloaded.toml"
log=$dir/reloaded.log
SIDECARBON_SINK_URL=stdout: SIDECARBON_LISTEN_UDP=127.0.0.1:0 SIDECARBON_LISTEN_TCP=127.0.0.1:0 \
    SIDECARBON_ADMIN_LISTEN=127.0.0.1:0 "$binary" --config "$dir/reloaded.toml" >/dev/null 2>"$log" &
reloaded=$!
helpers+=("$reloaded")
until_true grep -q ' started ' "$log"
watch reloaded

# Certificates that expire in five days: the upstream's, and the daemon's own.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 5 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost -addext basicConstraints=CA:FALSE \
    -keyout "$dir/tls.key" -out "$dir/tls.pem" 2>/dev/null
python3 - "$tls" "$dir/tls.pem" "$dir/tls.key" <<'PYTHON' &
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
with context.wrap_socket(socket.create_server(("127.0.0.1", int(sys.argv[1]))), server_side=True) as listener:
    connection, _ = listener.accept()
    while connection.recv(65536):
        pass
PYTHON
helpers+=($!)
start expiring SIDECARBON_SINK_URL="tls://localhost:$tls" SIDECARBON_API_KEY=test \
    SIDECARBON_SINK_TLS_CA_FILE="$dir/tls.pem" SIDECARBON_SINK_TLS_CLIENT_CERT_FILE="$dir/tls.pem" \
    SIDECARBON_SINK_TLS_CLIENT_KEY_FILE="$dir/tls.key"
expiring_tcp=$(port_of tcp)
watch expiring

cat >"$dir/prometheus.yml" <<YAML
global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [rules.yml]
scrape_configs:
- job_name: sidecarbon
  static_configs:
$(printf '%s\n' "${targets[@]}")
YAML
promtool check config "$dir/prometheus.yml" >/dev/null
prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/tsdb" \
    --web.listen-address="127.0.0.1:$prometheus" >"$dir/prometheus.log" 2>&1 &
helpers+=($!)
ask() { page "http://127.0.0.1:$prometheus/api/v1/$1"; }
up() { [[ $(ask 'query?query=sum(up)' | grep -o '"[0-9]*"\]') == "\"${#targets[@]}\"]" ]]; }
check "Prometheus loads the rules and sees ${#targets[@]} daemons" until_true up

alerts() { # which fire, as INSTANCE ALERT
    ask alerts | python3 -c '
import json, sys
for alert in json.load(sys.stdin)["data"]["alerts"]:
    if alert["state"] == "firing":
        print(alert["labels"]["instance"], alert["labels"]["alertname"])' | sort -u
}
fires() { alerts | grep -x "$1" >/dev/null; }

check "no alert fires at rest" test -z "$(alerts | grep -v "^expiring ")"

load() { seq -f "some.name$1.%g 1.5" 20000; }
echo "one.line 1" >"/dev/udp/127.0.0.1/$dead_udp"
echo "one.line 1" >"/dev/tcp/127.0.0.1/$refused_tcp"
echo "one.line 1" >"/dev/tcp/127.0.0.1/$expiring_tcp"
printf 'good.line 1\nbad.line 1\nanother.line 1\n' >"/dev/tcp/127.0.0.1/$picky_tcp"
kill -KILL "$gone"
(for round in $(seq 40); do load "$round" && sleep 0.5; done >"/dev/tcp/127.0.0.1/$full_tcp") 2>/dev/null &
helpers+=($!)
kill -STOP "$deaf"
python3 -c '
import socket, sys
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(60000):
    sender.sendto(b"deaf.ears 1 1700000000\n" * 40, ("127.0.0.1", int(sys.argv[1])))' "$deaf_udp"
kill -CONT "$deaf"
echo 'log.level = "loud"' >"$dir/reloaded.toml"
kill -HUP "$reloaded"

while read -r instance alert; do
    check "$instance: $alert" until_true fires "$instance $alert"
done <<'EXPECTED'
gone SidecarbonTargetDown
picky SidecarbonLinesRefused
full SidecarbonLinesDropped
full SidecarbonQueueHorizon
deaf SidecarbonKernelDrops
dead SidecarbonUpstreamDown
refused SidecarbonKeyRefused
reloaded SidecarbonReloadFailed
expiring SidecarbonCertificateExpires
expiring SidecarbonClientCertificateExpires
EXPECTED
check "nothing fires where all is well" bash -c "! grep -q '^healthy ' <<<'$(alerts)'"
check "one rejected line is not critical" bash -c "! grep -qE '^picky SidecarbonLinesDropped' <<<'$(alerts)'"
check "an outage with room in the queue is no loss" bash -c "! grep -qE '^dead Sidecarbon(LinesDropped|QueueHorizon|KeyRefused)' <<<'$(alerts)'"

finish
