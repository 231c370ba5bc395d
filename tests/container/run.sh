#!/usr/bin/env bash
# The image, for real: built from the Dockerfile, then run as it is meant to be,
# by podman and runc: read-only, as its numeric user, without capabilities or new
# privileges, with the runtime's seccomp filter and a memory limit.
#
#   tests/container/run.sh [directory to keep layers in]
#
# Needs root, Debian's packages and crates.io; no image is pulled. The first run
# compiles all crates; later ones what has changed. Exit: 0 passed, 1 failed, 77
# a tool or a right that it needs is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

cache=$(realpath -m "${1:-${CARGO_TARGET_DIR:-target}/container}")
# shellcheck source=tests/container/images.sh
source tests/container/images.sh
if [[ $(id -u) != 0 ]] || ! install_tools; then
    echo "needs root, and debootstrap, buildah, podman, runc, ip, python3 and openssl"
    exit 77
fi
net=sidecarbon-$$
if ! ip netns add "$net" 2>/dev/null; then
    echo "no network name space can be made here"
    exit 77
fi
ip -n "$net" link set lo up
mkdir -p "$cache"

dir=$(mktemp -d)
passed=0 failed=0 helpers=() containers=()
cleanup() {
    for container in "${containers[@]}"; do
        podman rm -f -t 0 "$container" >/dev/null 2>&1 || true
    done
    for helper in "${helpers[@]}"; do kill "$helper" 2>/dev/null || true; done
    ip netns delete "$net"
    rm -rf "$dir"
}
trap cleanup EXIT

pass() { printf 'PASS  %s\n' "$*" && passed=$((passed + 1)); }
fail() { printf 'FAIL  %s\n' "$*" && failed=$((failed + 1)); }
check() { # what, command...
    local what=$1
    shift
    if "$@"; then pass "$what"; else fail "$what"; fi
}
inside() { ip netns exec "$net" "$@"; }
double() { inside python3 tests/container/doubles.py "$@"; }
background() { double "$@" >>"$dir/doubles.log" 2>&1 & helpers+=($!); }
until_true() { # seconds, command...
    local deadline=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < deadline)) || return 1
        sleep 0.05
    done
}
page() { double get "http://127.0.0.1:2023$1" 2>/dev/null; }
metric() { page /metrics | sed -n "s/^sidecarbon_$1 //p"; }
is() { [[ $(metric "$1") == "$2" ]]; }
has() { grep -qsF -- "$1" "$2"; }
lacks() { ! grep -qsE -- "$1" "$2"; }
logs() { podman logs "$1" 2>/dev/null; }
# Reads to the end: whoever writes into a pipe that is closed has failed.
logged() { logs "$1" | grep -F -- "$2" >/dev/null; }

# start NAME OPTIONS... -- ENVIRONMENT...: the container, as locked up as can be.
start() {
    local name=$1-$$ options=() environment=()
    shift
    while [[ $1 != -- ]]; do options+=("$1") && shift; done
    shift
    for variable in "$@"; do environment+=(--env "$variable"); done
    containers+=("$name")
    podman run --detach --name "$name" --network "ns:/run/netns/$net" --no-healthcheck \
        --dns 127.0.0.1 --read-only --read-only-tmpfs=false --cap-drop=ALL \
        --security-opt=no-new-privileges --ulimit nofile=4096:4096 --ulimit nproc=100:100 \
        --log-driver k8s-file "${options[@]}" "${environment[@]}" \
        localhost/sidecarbon:test >/dev/null
    container=$name
    until_true 10 page /readyz >/dev/null || fail "$name is not ready"
}
# end [SIGNAL]: the end of the last container; $code and $took say how.
end() {
    local before
    before=$(date +%s%N)
    podman kill --signal "${1:-TERM}" "$container" >/dev/null
    code=$(podman wait "$container")
    took=$((($(date +%s%N) - before) / 1000000))
    logs "$container" >"$dir/$container.log"
}
forget() { podman rm -f -t 0 "$container" >/dev/null; }
exits_with_0() { [[ $code == 0 ]]; }
field() { sed -n "s/.*\"message\":\"ledger\".*\"$1\":\([0-9]*\).*/\1/p" "$dir/$container.log"; }

echo "--- the image"
make_base_image
build_image . >"$dir/build.log" || { tail -50 "$dir/build.log"; exit 1; }
pass "it builds from the Dockerfile"
root=$(buildah mount "$(buildah from --pull-never localhost/sidecarbon:test)")
size=$(du -sb "$root" | cut -f1)
check "it is under 10 MB: $size bytes" test "$size" -lt 10000000
layers=$(podman image inspect --format '{{len .RootFS.Layers}}' localhost/sidecarbon:test)
check "it has one layer" test "$layers" = 1
(cd "$root" && find . -type f -printf '/%P\n' | sort) >"$dir/files"
sed -n '/^<!-- files -->/,/^<!-- end -->/s/^| `\(\/[^`]*\)`.*/\1/p' docs/install-container.md | sort >"$dir/documented"
check "it holds what docs/install-container.md says, and nothing else" diff "$dir/files" "$dir/documented"
check "the binary needs no loader and no library" bash -c "! readelf -ld '$root/sidecarbon' | grep -qE 'INTERP|NEEDED'"
roots=$(grep -c 'BEGIN CERTIFICATE' "$root/etc/ssl/certs/ca-certificates.crt")
check "it holds $roots root certificates" test "$roots" -gt 100
podman image inspect localhost/sidecarbon:test >"$dir/image.json"
check "it is configured as it should be" python3 - "$dir/image.json" <<'PYTHON'
import json, sys
image = json.load(open(sys.argv[1]))[0]
config, health = image["Config"], image["HealthCheck" if "HealthCheck" in image else "Healthcheck"]
assert config["User"] == "65532:65532", config
assert config["Entrypoint"] == ["/sidecarbon"], config
assert health["Test"] == ["CMD", "/sidecarbon", "health"], health
labels = config["Labels"]
for label in ("title", "description", "licenses", "version", "revision"):
    assert labels[f"org.opencontainers.image.{label}"], label
version = next(line for line in open("Cargo.toml") if line.startswith("version = ")).split('"')[1]
assert labels["org.opencontainers.image.version"] == version, "ARG VERSION is not that of Cargo.toml"
assert "SIDECARBON_SHUTDOWN_QUIET=2s" in config["Env"], config
PYTHON
check "the binary names every crate of the lock file that it is made of" \
    python3 tests/container/audit.py "$root/sidecarbon" Cargo.lock
buildah rm --all >/dev/null

# With a mistake in it, so that it ends soon; cargo compiles what it depends on first.
mkdir "$dir/changed"
cp -r Dockerfile .dockerignore Cargo.toml Cargo.lock LICENSE-APACHE LICENSE-MIT config src "$dir/changed/"
echo 'compile_error!("the source has changed");' >>"$dir/changed/src/lib.rs"
build_image "$dir/changed" >"$dir/changed.log" && fail "a mistake builds"
check "a change in src/ is compiled" has "the source has changed" "$dir/changed.log"
check "a change in src/ compiles no other crate" lacks 'Compiling [^s]|Compiling s[^i]|Downloaded' "$dir/changed.log"
buildah rm --all >/dev/null

echo "--- run read-only, as nobody, with TLS"
certificates() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "/CN=Test CA" \
        -keyout "$dir/ca.key" -out "$dir/ca.pem"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=carbon.example.net" \
        -keyout "$dir/server.key" -out "$dir/server.csr"
    openssl x509 -req -in "$dir/server.csr" -CA "$dir/ca.pem" -CAkey "$dir/ca.key" -CAcreateserial -days 2 \
        -extfile <(echo "subjectAltName=DNS:carbon.example.net,DNS:hosts.example.net") -out "$dir/server.pem"
}
certificates 2>/dev/null
# A bundle as a user would make it: the image's, and one more.
podman create --name "roots-$$" localhost/sidecarbon:test >/dev/null
containers+=("roots-$$")
podman cp "roots-$$:/etc/ssl/certs/ca-certificates.crt" "$dir/bundle.pem"
cat "$dir/ca.pem" >>"$dir/bundle.pem"
chmod 644 "$dir"/*.pem
chmod 755 "$dir"

key=11111111-2222-4333-8444-555555555555
new_key=66666666-7777-4888-9999-aaaaaaaaaaaa
# As Kubernetes mounts a secret: ..data -> ..NUMBER, swapped as a whole.
put_key() {
    local version=..$RANDOM$RANDOM
    mkdir -p "$dir/secret/$version"
    printf %s "$1" >"$dir/secret/$version/api-key"
    ln -s "$version" "$dir/secret/..data_tmp"
    mv -T "$dir/secret/..data_tmp" "$dir/secret/..data"
    ln -sf ..data/api-key "$dir/secret/api-key"
    chmod -R a+rX "$dir/secret"
}
put_key "$key"
secret=(--volume "$dir/secret:/etc/sidecarbon/secret:ro")
key_file=SIDECARBON_API_KEY_FILE=/etc/sidecarbon/secret/api-key

background names carbon.example.net
background lines 20030 "$dir/arrived" "$dir/server.pem" "$dir/server.key"
tls=SIDECARBON_SINK_URL=tls://carbon.example.net:20030

start stranger "${secret[@]}" -- "$tls" "$key_file"
echo "a.b 1" >"$dir/line" && inside bash -c "cat '$dir/line' >/dev/tcp/127.0.0.1/2003"
check "with the roots inside alone, a stranger's certificate is refused" \
    until_true 10 logged "$container" "signed by an authority that is not trusted here"
end && forget

# Looks at it from before its birth.
double first http://127.0.0.1:2023/healthz >"$dir/first" & first=$!
start tls "${secret[@]}" --volume "$dir/bundle.pem:/etc/ssl/certs/ca-certificates.crt:ro" -- "$tls" "$key_file"
wait "$first"
birth=$(podman inspect --format '{{.State.StartedAt.UnixNano}}' "$container")
healthy=$((($(cat "$dir/first") - birth) / 1000000))
check "it is healthy within a second: $healthy ms" test "$healthy" -lt 1000
check "podman exec sidecarbon health agrees" podman exec "$container" /sidecarbon health
pid=$(podman inspect --format '{{.State.Pid}}' "$container")
status() { grep "^$1:" "/proc/$pid/status" | cut -f2; }
check "its user and group are 65532" test "$(status Uid)$(status Gid)" = 6553265532
check "it has no capabilities, nor can it have" test "$(status CapPrm)$(status CapEff)$(status CapBnd)$(status CapAmb)" = "$(printf '0%.0s' {1..64})"
check "it can gain no privileges" test "$(status NoNewPrivs)" = 1
check "a seccomp filter is in force" test "$(status Seccomp)" = 2
resident=$(awk '/^VmRSS/ {print $2}' "/proc/$pid/status")
check "it takes less than 8 MiB at rest: $resident KiB" test "$resident" -lt 8192
check "it is process 1" test "$(awk '/^NSpid/ {print $NF}' "/proc/$pid/status")" = 1
check "its root is read-only" grep -qE ' / / ro|^[0-9]+ [0-9]+ [0-9:]+ [^ ]+ / ro' "/proc/$pid/mountinfo"
inside bash -c "seq -f 'tls.line %g 1700000000' 1000 >/dev/tcp/127.0.0.1/2003"
expect_lines() { [[ $(grep -c "^$2" "$1" 2>/dev/null) == "$3" ]]; }
# As docs/install-container.md has them.
tool() { podman exec "$container" /sidecarbon "$@"; }
said_by() { grep -qF -- "$1" <<<"$("${@:2}" 2>&1 || true)"; }
check "status shows the lines" said_by "tls://carbon.example.net:20030 up" tool status
check "send sends one" tool send test.line 1
check "explain explains" said_by "value: not a number" bash -c "echo 'a.b c' | podman ${storage[*]} --runtime runc exec -i $container /sidecarbon explain"
check "probe goes the way" said_by "carbon.example.net" tool probe
check "a thousand lines arrive over TLS, by the roots of the file in the image" \
    until_true 10 expect_lines "$dir/arrived" "$key.tls.line " 1000
end
check "SIGTERM: it drains and exits with 0 after $took ms" exits_with_0
check "its ledger says so" test "$(field received) $(field delivered) $(field queued)" = "1001 1001 0"
check "its logs are JSON on standard output" python3 -c "
import json, sys
lines = open(sys.argv[1]).read().splitlines()
assert lines and all(json.loads(line)['message'] for line in lines)" "$dir/$container.log"
check "that others may read the key is told at INFO, once" \
    test "$(grep -c 'every user of this container can read the key' "$dir/$container.log") $(grep -c '"WARN".*can read the key' "$dir/$container.log")" = "1 0"
forget

start cafile "${secret[@]}" --volume "$dir/ca.pem:/ca.pem:ro" --add-host hosts.example.net:127.0.0.1 -- \
    SIDECARBON_SINK_URL=tls://hosts.example.net:20030 "$key_file" SIDECARBON_SINK_TLS_CA_FILE=/ca.pem
inside bash -c "echo 'hosts.line 1 1700000000' >/dev/tcp/127.0.0.1/2003"
check "a CA of one's own, and a name from /etc/hosts" until_true 10 has "$key.hosts.line 1 1700000000" "$dir/arrived"

wrong=(--rm --network none --no-healthcheck --ulimit nofile=4096:4096 --ulimit nproc=100:100
    --env SIDECARBON_SINK_URL=carbon.hostedgraphite.com:20030 localhost/sidecarbon:test check)
said=$(podman run "${wrong[@]}" 2>&1) && code=0 || code=$?
check "a wrong variable: exit code 78" test "$code" = 78
check "and the words that docs/install-container.md shows" grep -qxF -- "$said" docs/install-container.md

echo "--- the end"
(end && echo "$code $took" >"$dir/quiet") & ender=$!
until_true 5 logged "$container" '"message":"stopping"' || fail "SIGTERM is not heard"
said=$(double say 2003 2 0.1)
wait "$ender"
read -r code took <"$dir/quiet"
check "the application's lines of the next 2 s arrive: $said lines" expect_lines "$dir/arrived" "$key.last.words " "$said"
check "then it exits with 0" exits_with_0
forget

start silent "${secret[@]}" --volume "$dir/ca.pem:/ca.pem:ro" -- "$tls" "$key_file" SIDECARBON_SINK_TLS_CA_FILE=/ca.pem
end
check "without a word it is gone within shutdown.quiet and a second: $took ms" test "$took" -ge 2000 -a "$took" -lt 3000
forget

echo "--- another key"
background http 8080 "$dir/posted" "$dir/key"
printf %s "$key" >"$dir/key"
until_true 10 inside bash -c ': >/dev/tcp/127.0.0.1/8080' 2>/dev/null
start http "${secret[@]}" -- SIDECARBON_SINK_URL=http://127.0.0.1:8080/ "$key_file" SIDECARBON_RETRY_FIRST=5m SIDECARBON_RETRY_MAX=5m
inside bash -c "echo 'key.one 1 1700000000' >/dev/tcp/127.0.0.1/2003"
until_true 10 has key.one "$dir/posted" || fail "the first key is not used"
put_key "$new_key"
printf %s "$new_key" >"$dir/key"
inside bash -c "echo 'key.two 1 1700000000' >/dev/tcp/127.0.0.1/2003"
check "after a 401, the key of the swapped link is used at once" until_true 5 has key.two "$dir/posted"
end KILL || true
forget

start rotated "${secret[@]}" --volume "$dir/ca.pem:/ca.pem:ro" -- "$tls" "$key_file" SIDECARBON_SINK_TLS_CA_FILE=/ca.pem
put_key "$key"
before=$SECONDS
rotated() {
    inside bash -c "echo 'rotated.line 1 1700000000' >/dev/tcp/127.0.0.1/2003"
    has "$key.rotated.line" "$dir/arrived"
}
check "over TLS, where nobody refuses it, within a minute" until_true 60 rotated
echo "      after $((SECONDS - before)) s"
end KILL || true
forget

echo "--- 32 MiB, a dead upstream, 200,000 lines a second"
seconds=${LOAD_SECONDS:-60}
start load "${secret[@]}" --memory 32m --memory-swap 32m -- SIDECARBON_SINK_URL=tcp://127.0.0.1:1 "$key_file" SIDECARBON_QUEUE_BYTES=16MiB
pid=$(podman inspect --format '{{.State.Pid}}' "$container")
cgroup=/sys/fs/cgroup$(sed -n 's/^[0-9]*:memory:/\/memory/p; s/^0:://p' "/proc/$pid/cgroup" | head -1)
read -r sent took < <(double load 2003 200000 "$seconds")
check "$sent lines in $took s were sent" test "${took%.*}" -le $((seconds + seconds / 10 + 1))
received() { page /metrics | awk '/^sidecarbon_lines_received_total/ {sum += $NF} END {print sum}'; }
has_received() { [[ $(received) == "$1" ]]; }
until_true 10 has_received "$sent" || true
first_of() { for file in "$@"; do [[ -r $file ]] && cat "$file" && return; done; }
peak=$(first_of "$cgroup/memory.max_usage_in_bytes" "$cgroup/memory.peak")
limit=$(first_of "$cgroup/memory.limit_in_bytes" "$cgroup/memory.max")
refused=$(first_of "$cgroup/memory.failcnt" || echo "(unknown)")
resident=$(awk '/^VmHWM/ {print $2 * 1024}' "/proc/$pid/status")
check "the control group's limit of $limit bytes is in force" test "$limit" = 33554432
echo "      at most $peak bytes were charged, $resident resident; the limit was met $refused times"
end
check "it was never killed, and exits with 0" exits_with_0
accounts=$(($(field rejected) + $(field filtered) + $(field aggregated) + $(field delivered) + $(field dropped) + $(field queued) + $(field in_flight)))
check "all $sent lines were received" test "$(field received)" = "$sent"
check "each is in one account: $(field dropped) dropped, $(field queued) left" test "$accounts" = "$sent"
forget

printf '%s passed, %s failed\n' "$passed" "$failed"
((failed == 0))
