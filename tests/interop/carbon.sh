#!/usr/bin/env bash
# Proves sidecarbon against a real Graphite: real client packages send to it, a
# real carbon-cache stores what it forwards, and the points are read back from
# the whisper files. This script finds the binary and prepares the Python
# packages; carbon.py beside it does the rest.
#
#   tests/interop/carbon.sh [path/to/sidecarbon]
#
# Exit: 0 every check passed · 1 a check failed · 77 a tool that it needs is missing.
#
#   SIDECARBON_INTEROP_DIR   where the virtual environment is kept (target/interop)
#   PYTHON                   the Python to use (python3, 3.10 or newer)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
dir=${SIDECARBON_INTEROP_DIR:-$root/target/interop}
python=${PYTHON:-python3}

# Everything that is installed, at the version that was tried: the newest carbon
# is from 2022, and what it stands on moves.
builder=(setuptools==80.9.0)
packages=(
    carbon==1.1.10 whisper==1.1.10
    graphiteudp==0.0.6 graphyte==1.7.1 prometheus_client==0.26.0
    # what those need
    attrs==26.1.0 Automat==25.4.16 cachetools==6.2.1 constantly==23.10.4
    contextlib2==21.6.0 hyperlink==21.0.0 idna==3.20 incremental==24.11.0
    packaging==26.3 six==1.17.0 socketcache==0.1.0 Twisted==26.10.0 txAMQP==0.8.2
    typing_extensions==4.16.0 urllib3==2.8.0 zope.interface==8.0.1
)

cannot() {
    printf 'carbon.sh: %s\n' "$@" >&2
    exit 77
}
fail() {
    printf 'carbon.sh: %s\n' "$@" >&2
    exit 1
}

# The binary that was asked for, or the one that was built last.
find_binary() {
    local binary=${1:-} candidate
    if [[ -z $binary ]]; then
        for candidate in "$target"/{release,debug}/sidecarbon; do
            if [[ -x $candidate && (-z $binary || $candidate -nt $binary) ]]; then
                binary=$candidate
            fi
        done
        [[ -n $binary ]] || fail "there is no sidecarbon in $target yet" \
            "build it with \"cargo build --release\", or name it: tests/interop/carbon.sh path/to/sidecarbon"
    fi
    [[ -f $binary && -x $binary ]] || fail "there is no binary at $binary"
    printf '%s/%s\n' "$(cd "$(dirname "$binary")" && pwd)" "$(basename "$binary")"
}

# The virtual environment, made anew when its Python or a version above changes.
prepare() {
    local venv=$1 recipe
    recipe=$(
        "$python" -c 'import sys; print(sys.version, sys.base_prefix)'
        printf '%s\n' "${builder[@]}" "${packages[@]}"
    )
    if [[ -f $venv/recipe && $(<"$venv/recipe") == "$recipe" ]]; then
        return
    fi
    echo "carbon.sh: installing carbon and the clients into $venv"
    rm -rf "$venv"
    "$python" -m venv "$venv" || cannot "\"$python -m venv\" failed; on Debian: apt-get install python3-venv"

    local pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet install)
    "${pip[@]}" "${builder[@]}" || cannot "pip failed; is PyPI reachable?"

    # Python 3.12 took away two things that carbon still names: a method that its
    # setup.py calls, and a module that it imports and uses for one option only.
    "$venv/bin/python" - <<'PYTHON'
import pathlib, sys, sysconfig
if sys.version_info >= (3, 12):
    shim = 'import sys, types, configparser; ' \
        'configparser.RawConfigParser.readfp = configparser.RawConfigParser.read_file; ' \
        'sys.modules.setdefault("imp", types.ModuleType("imp"))\n'
    pathlib.Path(sysconfig.get_path("purelib"), "carbon-on-3.12.pth").write_text(shim)
PYTHON

    # Without GRAPHITE_NO_PREFIX carbon installs itself into /opt/graphite, where
    # nothing finds it; with build isolation, the pinned setuptools would not count.
    GRAPHITE_NO_PREFIX=True "${pip[@]}" --no-build-isolation --use-pep517 "${packages[@]}" ||
        cannot "pip failed; is PyPI reachable?"
    printf '%s\n' "$recipe" >"$venv/recipe"
}

[[ $# -le 1 ]] || fail "usage: tests/interop/carbon.sh [path/to/sidecarbon]"
binary=$(find_binary "$@")
{ command -v "$python" >/dev/null && "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; } ||
    cannot "this needs Python 3.10 or newer as \"$python\""
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
# One preparation at a time; the lock is let go before the checks begin.
if command -v flock >/dev/null; then
    exec 9>"$dir/lock"
    flock 9
fi
prepare "$dir/carbon"
exec 9>&-

echo "carbon.sh: $binary"
# -I: the script's own folder stays off the module path, where carbon.py would hide carbon.
exec "$dir/carbon/bin/python" -I "$here/carbon.py" "$binary"
