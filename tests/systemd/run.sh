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

cannot() {
    echo "$*"
    exit 77
}
[[ $(id -u) == 0 ]] || cannot "needs root"
missing=()
command -v debootstrap >/dev/null || missing+=(debootstrap)
command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
command -v lintian >/dev/null || missing+=(lintian)
command -v dpkg-shlibdeps >/dev/null || missing+=(dpkg-dev)
command -v nsenter >/dev/null || missing+=(util-linux)
command -v pgrep >/dev/null || missing+=(procps)
command -v python3 >/dev/null || missing+=(python3)
if ((${#missing[@]})); then
    command -v apt-get >/dev/null || cannot "needs ${missing[*]}"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "${missing[@]}" >/dev/null ||
        cannot "cannot install ${missing[*]}"
fi
# What systemd-nspawn does first. Where that is forbidden, no system can boot.
unshare --mount --uts --ipc --pid --net --fork true 2>/dev/null || cannot "needs the right to make name spaces"

# Waits for so many seconds at most until a command succeeds.
within() {
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

work=$(mktemp -d)
root=$work/root
nspawn=
leader=
cgroups=()
stopped() { ! kill -0 "$nspawn" 2>/dev/null; }
clean_up() {
    local group hierarchy
    # The end of its first process is the end of all in there.
    if [[ -n $nspawn ]] && kill -0 "$nspawn" 2>/dev/null; then
        [[ -z $leader ]] || kill -KILL "$leader" 2>/dev/null || true
        within 10 stopped || kill -KILL "$nspawn" 2>/dev/null || true
    fi
    # The deepest first, as soon as the last process is gone.
    for hierarchy in "${cgroups[@]}"; do
        while read -r group; do within 5 rmdir "$group" || true; done \
            < <(find "$hierarchy" -depth -type d 2>/dev/null)
    done
    rm -rf --one-file-system "$work"
}
trap clean_up EXIT

deb=${1:-}
if [[ -z $deb ]]; then
    packaging/deb.sh "$work/deb" || exit
    deb=$(echo "$work"/deb/sidecarbon_*.deb)
fi
deb=$(realpath "$deb")

cache=${SIDECARBON_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sidecarbon}
base=$cache/debian-12
if [[ ! -e $base/.complete ]]; then
    rm -rf "$base"
    mkdir -p "$cache"
    debootstrap --variant=minbase \
        --include=systemd,systemd-sysv,dbus,init-system-helpers,python3,ca-certificates \
        bookworm "$base" http://deb.debian.org/debian >"$work/debootstrap.log" 2>&1 ||
        cannot "debootstrap: $(tail -n 1 "$work/debootstrap.log")"
    touch "$base/.complete"
fi
cp -a --reflink=auto "$base" "$root"
mkdir -p "$root/root/test"
cp "$deb" tests/systemd/*.py "$root/root/test/"
cp "$deb" "$root/root/"

# Control groups of its own, so that what is inside stays apart from what runs here.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
    group=${hierarchy%/}/sidecarbon-test-$$
    if [[ -e ${hierarchy%/}/cgroup.procs ]] && mkdir "$group" 2>/dev/null; then
        cgroups+=("$group")
    fi
done
(
    for group in "${cgroups[@]}"; do echo "$BASHPID" >"$group/cgroup.procs" || true; done 2>/dev/null
    exec systemd-nspawn --quiet --boot --directory="$root" --machine="sidecarbon-test-$$" \
        --register=no --keep-unit --private-network --console=pipe </dev/null
) >"$work/console" 2>&1 &
nspawn=$!

booted() {
    leader=$(pgrep -P "$nspawn" | head -n 1)
    [[ -n $leader ]] && [[ $(inside systemctl is-system-running) =~ running|degraded ]]
}
inside() {
    nsenter --target "$leader" --all -- /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        TERM=dumb DEBIAN_FRONTEND=noninteractive "$@"
}
if ! within 300 booted; then
    tail -n 20 "$work/console"
    echo "the system does not boot"
    exit 1
fi

passed=0
failed=0
# Runs a function; each of its commands has to succeed. Not as a condition, within
# which the shell would go on after a failure.
check() {
    local what=$1 began=$SECONDS status
    shift
    set +e
    (
        set -e
        "$@"
    ) >"$work/said" 2>&1
    status=$?
    set -e
    if ((status == 0)); then
        passed=$((passed + 1))
        printf 'ok      %s (%s s)\n' "$what" $((SECONDS - began))
        sed -n 's/^figure: /        /p' "$work/said"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n' "$what"
        sed 's/^/        /' "$work/said" | tail -n 15
        inside journalctl --unit sidecarbon --lines 15 --no-pager --output cat | sed 's/^/        | /' || true
    fi
}

# --- What the checks are made of -------------------------------------------

clients() { inside python3 /root/test/clients.py "$@"; }
key=6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60
new_key=6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a61
arrived=$root/root/test/arrived
upstream_up() {
    inside systemd-run --quiet --collect --unit upstream \
        python3 /root/test/upstream.py 4000 /root/test/arrived
    within 10 inside bash -c ': </dev/tcp/127.0.0.1/4000'
}
upstream_down() { inside systemctl stop upstream; }
count() { grep -c -- "$1" "$arrived" 2>/dev/null || true; }
has_arrived() { [[ $(count "$1") == "$2" ]]; }
property() { inside systemctl show --property "$1" --value "${2:-sidecarbon}"; }
is_active() { [[ $(inside systemctl is-active "$1") == "${2:-active}" ]]; }
send_signal() { inside bash -c "kill -$1 $(property MainPID)"; }
status_says() { inside systemctl status --no-pager sidecarbon | grep "Status:" | grep -- "$1" >/dev/null; }
number() { inside bash -c "sidecarbon status --json | python3 -c 'import json, sys; print(json.load(sys.stdin)$1)'"; }
journal() { inside journalctl --unit sidecarbon --no-pager --output cat "$@"; }
write_key() { printf '%s\n' "$1" >"$root/etc/sidecarbon/api-key"; }
# The commands of a page, as printed.
commands_of() {
    awk '/^```sh$/ { inside = 1; next } /^```$/ { if (inside) print "#--"; inside = 0 } inside' "docs/$1"
}
# So much of a page as comes before a line, or from it on.
until_line() { awk -v line="$1" 'index($0, line) { exit } { print }'; }
from_line() { awk -v line="$1" 'index($0, line) { on = 1 } on { print }'; }
type_in() { inside bash -euxc "cd /root; $(cat)"; }

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

finish() {
    # A shutdown of its own accord, as far as it is in time.
    kill -RTMIN+4 "$leader" 2>/dev/null || true
    within 20 stopped || true
    echo "$passed passed, $failed failed"
    ((failed == 0)) || exit 1
    exit 0
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
