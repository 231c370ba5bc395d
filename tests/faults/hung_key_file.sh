#!/usr/bin/env bash
# A file system that hangs under the key's file, as a network's does, holds up
# neither lines nor the end.
#
#   tests/faults/hung_key_file.sh path/to/sidecarbon
#
# The file system is one of FUSE, whose process is stopped. Needs root, and
# Debian's python3-fusepy. Exit: 0 passed, 1 failed, 77 a tool that it needs is missing.
set -euo pipefail

binary=$(realpath "${1:?usage: $0 path/to/sidecarbon}")
[[ -x $binary ]] || { echo "there is no binary at $binary; build it with \"cargo build --release\"" >&2; exit 1; }
# shellcheck source=tests/faults/common.sh
source "$(dirname "$0")/common.sh"
if ! /usr/bin/python3 -c 'import fusepy' 2>/dev/null && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends python3-fusepy fuse3 >/dev/null; } || true
fi
if [[ ! -c /dev/fuse ]] || ! /usr/bin/python3 -c 'import fusepy' 2>/dev/null ||
    ! command -v fusermount3 >/dev/null || ! command -v umount >/dev/null; then
    echo "needs root, /dev/fuse, fuse3, umount and python3-fusepy"
    exit 77
fi

mkdir "$dir/secret"
/usr/bin/python3 - "$dir/secret" <<'PYTHON' &
import errno, stat, sys
import fusepy as fuse
KEY = b"11111111-2222-4333-8444-555555555555\n"
class Secret(fuse.Operations):
    def getattr(self, path, handle=None):
        if path == "/":
            return {"st_mode": stat.S_IFDIR | 0o755, "st_nlink": 2}
        if path == "/api-key":
            return {"st_mode": stat.S_IFREG | 0o400, "st_nlink": 1, "st_size": len(KEY)}
        raise fuse.FuseOSError(errno.ENOENT)
    def read(self, path, size, offset, handle):
        return KEY[offset:offset + size]
# Nothing is kept by the kernel: every look comes here.
fuse.FUSE(Secret(), sys.argv[1], foreground=True, direct_io=True, attr_timeout=0, entry_timeout=0)
PYTHON
secret=$!
/usr/bin/python3 -c '
import socket, sys
listener = socket.create_server(("127.0.0.1", 0))
with open(sys.argv[1] + "/port", "w") as port:
    print(listener.getsockname()[1], file=port)
connection, _ = listener.accept()
with open(sys.argv[1] + "/arrived", "wb", buffering=0) as out:
    while chunk := connection.recv(65536):
        out.write(chunk)' "$dir" &
helper=$!
end() {
    kill -KILL "$secret" 2>/dev/null || true
    wait "$secret" 2>/dev/null || true
    umount --lazy "$dir/secret" 2>/dev/null || true
    cleanup
}
trap end EXIT
until_true test -r "$dir/secret/api-key" || fail "the file system is not there"
until_true test -s "$dir/port" || fail "no upstream"

SIDECARBON_SINK_URL="tcp://127.0.0.1:$(cat "$dir/port")" SIDECARBON_API_KEY_FILE="$dir/secret/api-key" \
    SIDECARBON_LISTEN_UDP="" SIDECARBON_LISTEN_TCP=127.0.0.1:0 SIDECARBON_ADMIN_LISTEN="" \
    "$binary" --config /dev/null 2>"$dir/log" &
daemon=$!
until_true grep -q ' started ' "$dir/log" || fail "does not start"
port=$(sed -n 's/.* listening listener=tcp:.* address=127.0.0.1:\([0-9]*\).*/\1/p' "$dir/log")
kill -STOP "$secret"

arrived() { [[ $(grep -c "^11111111-2222-4333-8444-555555555555\.$1 " "$dir/arrived" 2>/dev/null) == "$2" ]]; }
said=0
is_stuck() {
    said=$((said + 1))
    echo "before.line $said 1700000000" >"/dev/tcp/127.0.0.1/$port"
    grep -qs fuse "/proc/$daemon"/task/*/stack
}
deadline=$((SECONDS + 60))
until is_stuck; do
    ((SECONDS < deadline)) || fail "nobody looks at the key's file"
    sleep 0.5
done
echo "PASS  somebody waits for the key's file, after $said lines"

until_true arrived before.line "$said" || fail "lines wait for it"
seq -f 'after.line %g 1700000000' 1000 >"/dev/tcp/127.0.0.1/$port"
until_true arrived after.line 1000 || fail "lines wait for it"
echo "PASS  lines do not"

kill -TERM "$daemon"
before=$SECONDS
wait "$daemon" || fail "exit code $?"
daemon=
((SECONDS - before < 5)) || fail "the exit took $((SECONDS - before)) s"
grep -q "ledger received=$((said + 1000)) .* delivered=$((said + 1000)) .* queued=0 " "$dir/log" || fail "no ledger"
echo "PASS  nor does the end"
