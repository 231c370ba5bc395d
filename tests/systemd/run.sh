#!/usr/bin/env bash
# The package in a Debian 12 that is really booted: installed, started, reloaded,
# restarted, upgraded, killed, purged, as docs/install-host.md says.
#
#   tests/systemd/run.sh [--full] [sidecarbon.deb]
#
# Builds the package where none is given. Needs root; installs debootstrap,
# systemd-container and lintian where apt-get can. The system is made once and kept
# in $SIDECARBON_TEST_CACHE (default ~/.cache/sidecarbon). With --full, the watchdog
# is watched for ten minutes instead of one. Exit: 0 passed, 1 failed, 77 a tool
# or a right that it needs is missing; a system that does not boot is a failure.
# No reader of a pipe leaves early here (grep -q): its writer would fail.
set -euo pipefail
cd "$(dirname "$0")/../.."

soak=60
if [[ ${1:-} == --full ]]; then
    soak=600
    shift
fi

# shellcheck source=tests/systemd/machine.sh
source tests/systemd/machine.sh
need_tools lintian

deb=${1:-}
if [[ -z $deb ]]; then
    packaging/release.sh --only deb "$work/deb" || exit
    deb=$(echo "$work"/deb/sidecarbon_*.deb)
fi
deb=$(realpath "$deb")

make_root
cp "$deb" tests/systemd/*.py "$root/root/test/"
cp "$deb" "$root/root/"
boot

# --- What the checks are made of -------------------------------------------

clients() { inside python3 /root/test/clients.py "$@"; }
new_key=6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a61
upstream_down() { inside systemctl stop upstream; }
property() { inside systemctl show --property "$1" --value "${2:-sidecarbon}"; }
is_active() { [[ $(inside systemctl is-active "$1") == "${2:-active}" ]]; }
send_signal() { inside bash -c "kill -$1 $(property MainPID)"; }
status_says() { inside systemctl status --no-pager sidecarbon | grep "Status:" | grep -- "$1" >/dev/null; }
number() { inside bash -c "sidecarbon status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)$1)'"; }
journal() { inside journalctl --unit sidecarbon --no-pager --output cat "$@"; }
write_key() { printf '%s\n' "$1" >"$root/etc/sidecarbon/api-key"; }

# --- A host, as the install page says ---------------------------------------

installs() {
    commands_of install-host.md | until_line 'install -m 0640' | type_in >"$work/apt"
    cat "$work/apt"
    grep -q 'it needs an API key' "$work/apt"
    is_active sidecarbon inactive
    is_active sidecarbon.socket inactive
    [[ $(inside systemctl is-enabled sidecarbon) == disabled ]]
    [[ $(inside stat -c '%U:%G %a' /etc/sidecarbon/sidecarbon.toml) == "root:root 644" ]]
    inside test -s /usr/share/man/man1/sidecarbon.1.gz
    inside test -s /usr/share/bash-completion/completions/sidecarbon
}
has_no_errors() {
    # Root is not what lintian likes to be.
    lintian --fail-on error --allow-root "$deb" || lintian --fail-on error "$deb"
}
verifies() {
    local said
    said=$(inside systemd-analyze verify sidecarbon.service sidecarbon.socket 2>&1)
    echo "$said"
    [[ -z $said ]]
}
is_hardened() {
    inside systemd-analyze security --no-pager sidecarbon | tail -n 1 | sed 's/.*Overall/figure: overall/'
    inside systemd-analyze security --no-pager --threshold=15 sidecarbon
}
refuses_once() {
    local before restarts
    before=$(inside date '+%F %T.%N')
    ! inside systemctl start sidecarbon || return 1
    is_active sidecarbon failed
    within 5 is_active sidecarbon.socket inactive
    # Clients that knock do not start it.
    ! clients answers 1 || return 1
    restarts=$(property NRestarts)
    [[ $restarts == 0 ]]
    journal --since "$before" | tee /dev/stderr | grep -c 'write the API key into that file' | grep -qx 1
    inside systemctl reset-failed sidecarbon
}
refuses_an_empty_key() {
    : >"$root/etc/sidecarbon/api-key"
    refuses_once
    rm "$root/etc/sidecarbon/api-key"
}
starts() {
    sed -i "s|^url = .*|url = \"tcp://127.0.0.1:4000\"|" "$root/etc/sidecarbon/sidecarbon.toml"
    upstream_up
    commands_of install-host.md | until_line 'systemctl reload' | from_line 'install -m 0640' |
        sed "s/YOUR-API-KEY/$key/" | type_in
    within 10 has_arrived "^$key.test.sidecarbon 1 " 1
    is_active sidecarbon.socket
    [[ $(inside stat -c '%U:%G %a' /etc/sidecarbon/api-key) == "root:sidecarbon 640" ]]
}
reloads_by_the_page() {
    # The other port of the page would be one that nobody here asks for.
    commands_of install-host.md | until_line 'apt purge' | from_line 'systemctl reload' | sed 's/:2103$/:2003/' | type_in
    is_active sidecarbon
    clients lines page 5
    within 10 has_arrived "^$key.page" 5
}
takes_lines() {
    clients lines tcp 1000
    inside bash -c 'echo "udp.line 1 1700000000" >/dev/udp/127.0.0.1/2003'
    inside bash -c 'echo "udp6.line 1 1700000000" >/dev/udp/::1/2003'
    within 10 has_arrived "^$key.tcp" 1000
    within 10 has_arrived "^$key.udp" 2
    within 20 status_says 'queue empty; upstream tcp://127.0.0.1:4000 up'
}
has_a_large_buffer() {
    ! journal | grep 'small receive buffer' || return 1
    journal | grep 'listening.*udp.*from="the service manager"'
}

# --- Restarts -----------------------------------------------------------------

survives() {
    local sent patient refused began
    upstream_down
    clients lines kept 100000
    within 20 status_says '100,000 lines queued, .*; upstream tcp://127.0.0.1:4000 down for '
    touch "$root/root/test/go"
    clients datagrams datagram 1000 /root/test/go >"$work/datagrams" &
    local datagrams=$!
    clients patient patient /root/test/go >"$work/patient" &
    local patients=$!
    for _ in 1 2 3; do
        began=$SECONDS
        inside systemctl restart sidecarbon
        ((SECONDS - began <= 5))
        sleep 1
    done
    inside apt-get install -qq -y --reinstall "/root/$(basename "$deb")"
    is_active sidecarbon
    sleep 1
    rm "$root/root/test/go"
    wait $datagrams
    wait $patients
    read -r sent <"$work/datagrams"
    read -r patient refused <"$work/patient"
    echo "figure: $sent datagrams, $patient clients, $refused of them refused"
    ((sent > 4000 && patient > 20 && refused == 0))
    upstream_up
    within 60 has_arrived "^$key.kept" 100000
    within 20 has_arrived "^$key.datagram" "$sent"
    grep "^$key.kept" "$arrived" >"$work/kept"
    sort -c "$work/kept"
    [[ $(uniq "$work/kept" | wc -l) == 100000 ]]
    grep "^$key.datagram" "$arrived" | sort | uniq -d | { ! grep . || return 1; }
    echo "figure: $(count "^$key.patient") of $patient lines of clients"
    has_arrived "^$key.patient" "$patient"
    within 20 drained
    echo "figure: ledger $(number '["ledger"]')"
    [[ $(number '["ledger"]["imbalance"]') == 0 ]]
    (($(number '["ledger"]["delivered"]') >= 100000 + sent))
    [[ $(number '["listeners"][0]["kernel_drops"]') == 0 ]]
}
drained() {
    [[ $(number '["ledger"]["queued"]') == 0 && $(number '["ledger"]["in_flight"]') == 0 ]]
}
forgets_at_a_stop() {
    upstream_down
    clients lines stopped 100
    within 20 status_says '100 lines queued'
    inside systemctl stop sidecarbon
    # And what is stopped stays so, whoever knocks.
    is_active sidecarbon.socket inactive
    ! clients answers 1 || return 1
    inside systemctl start sidecarbon
    upstream_up
    [[ $(number '["ledger"]["received"]') == 0 ]]
    clients lines after_stop 10
    within 20 has_arrived "^$key.after_stop" 10
    has_arrived "^$key.stopped" 0
}

# --- The watchdog, and deaths ----------------------------------------------------

outlives_an_outage() {
    mkdir -p "$root/etc/systemd/system/sidecarbon.service.d"
    printf '[Service]\nWatchdogSec=10\n' >"$root/etc/systemd/system/sidecarbon.service.d/watchdog.conf"
    inside systemctl daemon-reload
    inside systemctl restart sidecarbon
    [[ $(property WatchdogUSec) == 10s ]]
    upstream_down
    clients lines soak 1000
    local before
    before=$(property MainPID)
    sleep "$soak"
    [[ $(property MainPID) == "$before" && $(property NRestarts) == 0 ]]
    upstream_up
    within 60 has_arrived "^$key.soak" 1000
}
is_restarted_after_sigstop() {
    local before
    before=$(property MainPID)
    send_signal STOP
    restarted() { [[ $(property MainPID) != "$before" ]] && is_active sidecarbon; }
    within 30 restarted
    journal | grep 'Watchdog timeout'
    clients lines after_watchdog 10
    within 20 has_arrived "^$key.after_watchdog" 10
}
is_restarted_after_a_kill() {
    local began took before
    before=$(property MainPID)
    began=$(date +%s%N)
    send_signal KILL
    restarted() { [[ $(property MainPID) != "$before" ]] && is_active sidecarbon; }
    clients answers 3
    took=$((($(date +%s%N) - began) / 1000000))
    echo "figure: $took ms"
    within 5 restarted
    clients lines after_kill 10
    within 5 has_arrived "^$key.after_kill" 10
    is_active sidecarbon.socket
    ((took < 1000))
}
reports_what_a_kill_has_lost() {
    upstream_down
    clients lines killed 1000
    within 20 status_says '1,000 lines queued'
    local before
    before=$(property MainPID)
    send_signal KILL
    restarted() { [[ $(property MainPID) != "$before" ]] && is_active sidecarbon; }
    within 10 restarted
    journal | grep 'the former process was killed.* queued=1000 '
    upstream_up
}
is_restarted_without_its_sockets() {
    inside systemctl stop sidecarbon
    inside systemctl mask --runtime --quiet sidecarbon.socket
    inside systemctl start sidecarbon
    is_active sidecarbon.socket inactive
    local began took
    began=$(date +%s%N)
    send_signal KILL
    clients answers 3
    took=$((($(date +%s%N) - began) / 1000000))
    echo "figure: $took ms"
    inside systemctl unmask --runtime --quiet sidecarbon.socket
    inside systemctl stop sidecarbon
    inside systemctl start sidecarbon
    is_active sidecarbon.socket
    ((took < 1000))
}

# --- Reloads ------------------------------------------------------------------------

takes_a_new_key() {
    upstream_down
    clients lines rotated 100
    within 20 status_says '100 lines queued'
    write_key "$new_key"
    inside systemctl reload sidecarbon
    upstream_up
    within 60 has_arrived "^$new_key.rotated" 100
    has_arrived "^$key.rotated" 0
    write_key "$key"
    inside systemctl reload sidecarbon
}
refuses_a_broken_file() {
    cp "$root/etc/sidecarbon/sidecarbon.toml" "$work/good.toml"
    echo 'broken' >>"$root/etc/sidecarbon/sidecarbon.toml"
    ! inside systemctl reload sidecarbon || return 1
    cp "$work/good.toml" "$root/etc/sidecarbon/sidecarbon.toml"
    is_active sidecarbon
    clients lines still 10
    within 20 has_arrived "^$key.still" 10
}
runs_on_a_credential() {
    local conf=$root/etc/systemd/system/sidecarbon.service.d/key.conf
    mkdir -p "${conf%/*}"
    inside install -m 0600 /dev/null /root/test/key
    echo "$new_key" >"$root/root/test/key"
    printf '[Service]\nLoadCredential=api-key:/root/test/key\n' >"$conf"
    inside systemctl daemon-reload
    inside systemctl restart sidecarbon
    clients lines credential 10
    within 20 has_arrived "^$new_key.credential" 10
    rm "$conf"
    inside systemctl daemon-reload
    inside systemctl restart sidecarbon
}

# --- The other pages -----------------------------------------------------------------

# What they come from, as far as the commands see it.
pretend() {
    printf '[Service]\nExecStart=/bin/sleep infinity\n[Install]\nWantedBy=multi-user.target\n' \
        >"$root/etc/systemd/system/$1.service"
    inside systemctl daemon-reload
    inside systemctl enable --quiet --now "$1"
}
migrates() {
    local page=$1 from=$2
    inside systemctl disable --quiet --now sidecarbon
    rm "$root/etc/sidecarbon/api-key"
    pretend "$from"
    commands_of "$page" | until_line 'disable --now sidecarbon' | sed "s/YOUR-API-KEY/$key/" | type_in
    is_active "$from" inactive
    clients lines "from_$from" 10
    within 20 has_arrived "^$key.from_$from" 10
    commands_of "$page" | from_line 'disable --now sidecarbon' | type_in
    is_active "$from"
    is_active sidecarbon inactive
    inside systemctl disable --quiet --now "$from"
    rm "$root/etc/systemd/system/$from.service"
}
migrates_from_hg_agent() {
    mkdir -p "$root/etc/opt/hg-agent"
    echo "api_key: '$key'" >"$root/etc/opt/hg-agent/hg-agent.conf"
    migrates from-hg-agent.md hg-agent
    rm -r "$root/etc/opt/hg-agent"
}
migrates_from_carbon_c_relay() { migrates from-carbon-c-relay.md carbon-c-relay; }

purges() {
    rm -r "$root/etc/systemd/system/sidecarbon.service.d" "$root/etc/systemd/system/sidecarbon.socket.d"
    inside systemctl enable --now sidecarbon
    commands_of install-host.md | from_line 'apt purge' | type_in
    ! clients answers 1 || return 1
    ! inside getent passwd sidecarbon || return 1
    inside systemctl daemon-reload
    find "$root" -xdev -name '*sidecarbon*' ! -path "$root/root/*" ! -path "$root/var/log/*" \
        ! -path "$root/proc/*" ! -path "$root/sys/*" | { ! grep . || return 1; }
}

check "installs, starts nothing, says what to do" installs
check "lintian finds no error" has_no_errors
((failed == 0)) || finish
check "systemd-analyze verify is silent" verifies
check "exposure of at most 1.5" is_hardened
check "without a key: fails once and says what to do" refuses_once
check "with an empty key: the same" refuses_an_empty_key
check "starts, by the commands of the page" starts
((failed == 0)) || finish
check "lines over UDP and TCP arrive; status in words" takes_lines
check "the receive buffer is large, the sockets are systemd's" has_a_large_buffer
check "reload and other ports, by the commands of the page" reloads_by_the_page
check "100,000 lines survive 3 restarts and a reinstall; no datagram is lost" survives
check "a stop keeps nothing, and is a stop" forgets_at_a_stop
check "a new key applies to waiting lines" takes_a_new_key
check "a broken file fails the reload, old settings stay" refuses_a_broken_file
check "the key as a credential" runs_on_a_credential
check "an upstream that is dead for $soak s is no reason for the watchdog" outlives_an_outage
check "SIGSTOP: restarted by the watchdog" is_restarted_after_sigstop
check "SIGKILL: listens again within a second" is_restarted_after_a_kill
check "SIGKILL with lines queued: the next start reports them" reports_what_a_kill_has_lost
check "SIGKILL without the socket unit: the same" is_restarted_without_its_sockets
check "from hg-agent, by the commands of the page" migrates_from_hg_agent
check "from carbon-c-relay, by the commands of the page" migrates_from_carbon_c_relay
check "purge leaves nothing" purges
finish
