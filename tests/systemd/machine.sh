# What the tests in a booted Debian 12 share: the system, its start and end, an upstream
# in it, and the commands of a page. To be sourced, from the root of the repository.
#
# The system is made once by debootstrap and kept in $SIDECARBON_TEST_CACHE (default
# ~/.cache/sidecarbon); each test boots a copy of it. It has no compiler.
# shellcheck shell=bash

cannot() {
    echo "skipped: $*"
    exit 77
}
# need_tools PACKAGE...: installs what is missing, where apt-get can; the command is named
# like the package.
need_tools() {
    local missing=() package
    [[ $(id -u) == 0 ]] || cannot "needs root"
    command -v systemd-nspawn >/dev/null || missing+=(systemd-container)
    command -v nsenter >/dev/null || missing+=(util-linux)
    command -v pgrep >/dev/null || missing+=(procps)
    for package in debootstrap python3 "$@"; do
        command -v "$package" >/dev/null || missing+=("$package")
    done
    if ((${#missing[@]})); then
        command -v apt-get >/dev/null || cannot "needs ${missing[*]}"
        apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "${missing[@]}" >/dev/null ||
            cannot "cannot install ${missing[*]}"
    fi
    # What systemd-nspawn does first. Where that is forbidden, no system can boot.
    unshare --mount --uts --ipc --pid --net --fork true 2>/dev/null || cannot "needs the right to make name spaces"
}

# within SECONDS COMMAND...: waits until a command succeeds.
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

# A fresh system in $root, with the directory /root/test.
make_root() {
    local cache base
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
}

booted() {
    leader=$(pgrep -P "$nspawn" | head -n 1)
    [[ -n $leader ]] && [[ $(inside systemctl is-system-running) =~ running|degraded ]]
}
inside() {
    nsenter --target "$leader" --all -- /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive "$@"
}
boot() {
    local hierarchy group
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
    if ! within 300 booted; then
        tail -n 20 "$work/console"
        echo "the system does not boot"
        exit 1
    fi
}

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
finish() {
    # A shutdown of its own accord, as far as it is in time.
    [[ -z $leader ]] || kill -RTMIN+4 "$leader" 2>/dev/null || true
    within 20 stopped || true
    echo "$passed passed, $failed failed"
    ((failed == 0)) || exit 1
    exit 0
}

# The upstream, in the system: plain TCP at port 4000, what arrives is in $arrived.
# The tests that source this file use the key.
# shellcheck disable=SC2034
key=6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60
arrived=$root/root/test/arrived
upstream_up() {
    inside systemd-run --quiet --collect --unit upstream \
        python3 /root/test/upstream.py 4000 /root/test/arrived
    within 10 inside bash -c ': </dev/tcp/127.0.0.1/4000'
}
count() { grep -c -- "$1" "$arrived" 2>/dev/null || true; }
has_arrived() { [[ $(count "$1") == "$2" ]]; }

# The commands of a page, as printed.
commands_of() {
    awk '/^```sh$/ { inside = 1; next } /^```$/ { if (inside) print "#--"; inside = 0 } inside' "docs/$1"
}
# So much of a page as comes before a line, or from it on.
until_line() { awk -v line="$1" 'index($0, line) { exit } { print }'; }
from_line() { awk -v line="$1" 'index($0, line) { on = 1 } on { print }'; }
type_in() { inside bash -euxc "cd /root; $(cat)"; }
