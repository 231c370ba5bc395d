# What the scripts of this directory share: daemons, pages, a count of what
# passed. To be sourced; $binary is the daemon.
# shellcheck shell=bash
# shellcheck disable=SC2154

dir=$(mktemp -d)
chmod 755 "$dir"
passed=0 failed=0 helpers=() log=
cleanup() {
    # Also those that stand still.
    for helper in "${helpers[@]}"; do kill -KILL "$helper" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT

# PACKAGE/COMMAND...: installs what is missing, where it may.
install_packages() {
    local missing=() entry command
    for entry in "$@"; do
        command=${entry#*/}
        [[ -n $command ]] && command -v "$command" >/dev/null || missing+=("${entry%/*}")
    done
    [[ ${missing[*]} == python3-venv ]] && python3 -c 'import venv, ensurepip' 2>/dev/null && return 0
    ((${#missing[@]})) || return 0
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 1
    apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

check() { # what, command...
    local what=$1
    shift
    if "$@"; then
        printf 'PASS  %s\n' "$what"
        passed=$((passed + 1))
    else
        printf 'FAIL  %s\n' "$what"
        failed=$((failed + 1))
    fi
}

# Says something only where it fails.
quietly() {
    local said
    if ! said=$("$@" 2>&1); then
        printf '%s\n' "$said"
        return 1
    fi
}

fails() { ! "$@" >/dev/null; }

finish() {
    printf '%s passed, %s failed\n' "$passed" "$failed"
    ((failed == 0))
}

# Waits, for half a minute at most, until a command succeeds.
until_true() {
    local deadline=$((SECONDS + ${PATIENCE:-30}))
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

page() { python3 -c 'import sys, urllib.request
print(urllib.request.urlopen(sys.argv[1], timeout=5).read().decode())' "$1" 2>/dev/null; }

free_ports() { python3 -c 'import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]))]
print(*(s.getsockname()[1] for s in sockets))' "$1"; }

# start NAME VARIABLE=VALUE...: a daemon on ports of the kernel's choice. $pid is
# its, $log what it says.
start() {
    log=$dir/$1.log
    : >"$log"
    shift
    env "$@" SIDECARBON_LISTEN_UDP=127.0.0.1:0 SIDECARBON_LISTEN_TCP=127.0.0.1:0 \
        SIDECARBON_ADMIN_LISTEN=127.0.0.1:0 "$binary" --config /dev/null 2>"$log" &
    pid=$!
    helpers+=("$pid")
    until_true grep -q ' started ' "$log"
}
port_of() { sed -n "s/.* listening listener=\"\\?$1:[^ ]* address=127\\.0\\.0\\.1:\\([0-9]*\\).*/\\1/p" "$log"; }

each_alert_is_tested() {
    diff <(sed -n 's/^ *- alert: //p' deploy/prometheus/sidecarbon.rules.yml | sort) \
        <(sed -n '/^      - eval_time/,/exp_alerts:$/s/^ *alertname: //p' deploy/prometheus/sidecarbon.test.yml | sort -u)
}

# As rules, since promtool reads no dashboards; what Grafana fills in is filled in.
dashboard_is_readable() {
    python3 - deploy/grafana/sidecarbon.json >"$dir/dashboard.rules.yml" <<'PYTHON'
import json, sys
panels = json.load(open(sys.argv[1]))["panels"]
rules = []
for panel in panels:
    for target in panel["targets"]:
        expr = target["expr"].replace("$__rate_interval", "1m").replace("$__range", "6h").replace("$instance", ".*")
        rules.append({"record": f"panel_{panel['id']}_{target['refId']}", "expr": expr})
json.dump({"groups": [{"name": "dashboard", "rules": rules}]}, sys.stdout)
PYTHON
    quietly promtool check rules "$dir/dashboard.rules.yml"
}
