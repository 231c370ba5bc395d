#!/usr/bin/env bash
# The OCI archive: loaded and run by Podman, to a delivered line.
#
#   tests/packaging/image.sh DIRECTORY
#
# DIRECTORY holds what packaging/release.sh has built. Needs root; installs podman and runc
# where apt-get can. Exit: 0 passed, 1 failed, 77 a tool or a right is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
archive=$(realpath -m "$(echo "$1"/*.oci.tar)")
if [[ ! -e $archive ]]; then
    echo "skipped: $1 has no image"
    exit 77
fi

work=$(mktemp -d)
cache=$work
# shellcheck source=tests/container/images.sh
source tests/container/images.sh
if [[ $(id -u) != 0 ]] || ! install_tools; then
    echo "skipped: needs root, podman and runc"
    exit 77
fi
net=sidecarbon-packaging-$$
if ! ip netns add "$net" 2>/dev/null; then
    echo "skipped: no network name space can be made here"
    exit 77
fi
upstream=
cleanup() {
    podman rm --all --force --time 0 >/dev/null 2>&1 || true
    [[ -z $upstream ]] || kill "$upstream" 2>/dev/null || true
    ip netns delete "$net"
    podman rmi --all --force >/dev/null 2>&1 || true
    umount "$work/storage/overlay" 2>/dev/null || true
    rm -rf --one-file-system "$work"
}
trap cleanup EXIT
ip -n "$net" link set lo up

passed=0 failed=0
check() { # what, command...
    local what=$1
    shift
    if "$@" >"$work/said" 2>&1; then
        passed=$((passed + 1))
        echo "PASS  $what"
    else
        failed=$((failed + 1))
        echo "FAIL  $what"
        cat "$work/said"
    fi
}
within() { # seconds, command...
    local deadline=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        ((SECONDS < deadline)) || return 1
        sleep 0.1
    done
}

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
key=6f1c2a9e-0d4b-4c57-9a3e-5b8e7d2f1a60
echo "$key" >"$work/api-key"
chmod 755 "$work"
chmod 644 "$work/api-key"
check "podman load" podman load --input "$archive"
image=$(podman images --format '{{.Repository}}:{{.Tag}}' | grep "/sidecarbon:$version$" | head -1)
ip netns exec "$net" python3 tests/systemd/upstream.py 4000 "$work/arrived" &
upstream=$!
within 10 ip netns exec "$net" bash -c ': </dev/tcp/127.0.0.1/4000'
# As docs/install.md has it, but for the upstream and the network.
check "it runs read-only, without capabilities" podman run -d --name sidecarbon --read-only --cap-drop=ALL \
    --security-opt=no-new-privileges --network "ns:/run/netns/$net" --no-healthcheck \
    --ulimit nofile=4096:4096 --ulimit nproc=100:100 \
    -e SIDECARBON_SINK_URL=tcp://127.0.0.1:4000 \
    -e SIDECARBON_API_KEY_FILE=/run/secrets/api-key \
    -v "$work/api-key:/run/secrets/api-key:ro" \
    "$image"
check "it is healthy" within 10 podman exec sidecarbon /sidecarbon health
check "it accepts a line" podman exec sidecarbon /sidecarbon send test.sidecarbon 1
check "the line arrives" within 10 grep "^$key.test.sidecarbon 1 " "$work/arrived"
check "status shows it" podman exec sidecarbon /sidecarbon status
check "it stops" podman stop --time 10 sidecarbon
check "with exit code 0" test "$(podman inspect --format '{{.State.ExitCode}}' sidecarbon)" = 0
echo "$passed passed, $failed failed"
((failed == 0))
