#!/usr/bin/env bash
# packaging/release.sh, run in two directories, builds the same bytes: binary, tarball,
# deb, rpm, image and SBOM. From the last commit: uncommitted changes are not built.
#
#   tests/packaging/reproducible.sh [LIST]      default: all that release.sh builds
#
# Compiles everything twice. Exit: 0 passed, 1 failed, 77 a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=()
[[ -z ${1:-} ]] || options=(--only "$1")
passed=0 failed=0
unset CARGO_TARGET_DIR
for directory in a another/directory/with-a-longer-name; do
    git clone --quiet . "$work/$directory"
    # A user with another mask checks out other modes.
    (umask 077 && "$work/$directory/packaging/release.sh" "${options[@]}" "$work/$directory/out")
done
one=$work/a/out
other=$work/another/directory/with-a-longer-name/out
while read -r _ file; do
    if cmp "$one/$file" "$other/$file"; then
        passed=$((passed + 1))
        echo "PASS  $file is the same"
    else
        failed=$((failed + 1))
        echo "FAIL  $file differs"
    fi
done <"$one/SHA256SUMS"
cmp "$one/SHA256SUMS" "$other/SHA256SUMS" || failed=$((failed + 1))
echo "$passed passed, $failed failed"
((failed == 0))
