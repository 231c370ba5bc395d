#!/usr/bin/env bash
# Looks at the status page of a daemon in a real browser (Debian's chromium),
# against an upstream of its own; what is looked for is in look.mjs beside this
# script.
#
#   tests/page/run.sh path/to/sidecarbon                checks; some two minutes
#   tests/page/run.sh path/to/sidecarbon --screenshot   takes the pictures of the
#                                                       documentation; ten minutes
#
# What it needs and is not there, it installs where it can: chromium and node by
# apt-get as root, playwright-core and axe-core by npm, at the versions of
# package-lock.json, into node_modules beside it. No other browser is fetched.
#
# Exit: 0 every check passed · 1 one failed · 77 a tool that it needs is missing.
#
#   CHROMIUM   the browser to use (chromium)
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

cannot() {
    echo "run.sh: $*" >&2
    exit 77
}

[[ $# -eq 1 || ($# -eq 2 && $2 == --screenshot) ]] || {
    echo "usage: tests/page/run.sh path/to/sidecarbon [--screenshot]" >&2
    exit 2
}
[[ -x $1 ]] || {
    echo "run.sh: there is no binary at $1; build it with \"cargo build --release\"" >&2
    exit 1
}
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")

browser=${CHROMIUM:-chromium}
missing=()
command -v "$browser" >/dev/null || missing+=(chromium)
command -v node >/dev/null || missing+=(nodejs)
command -v npm >/dev/null || missing+=(npm)
if ((${#missing[@]})); then
    if ! command -v apt-get >/dev/null || [[ $(id -u) != 0 ]]; then
        cannot "${missing[*]} is missing, and only root can install it, by apt-get"
    fi
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y "${missing[@]}" >/dev/null; } ||
        cannot "${missing[*]} could not be installed"
fi
CHROMIUM=$(command -v "$browser") || cannot "there is no $browser"
export CHROMIUM
[[ $(node --version) =~ ^v(1[89]|[2-9][0-9])\. ]] || cannot "node is too old: $(node --version)"

cd "$here"
if ! cmp -s package-lock.json node_modules/.installed; then
    PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --ignore-scripts --no-audit --no-fund --silent ||
        cannot "npm could not install playwright-core and axe-core"
    cp package-lock.json node_modules/.installed
fi

if [[ ${2-} == --screenshot ]]; then
    exec node screenshot.mjs "$binary" "$here/../../docs/images"
fi
exec node look.mjs "$binary"
