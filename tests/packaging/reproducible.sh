#!/usr/bin/env bash
# packaging/release.sh builds the same bytes in another directory.
#
#   tests/packaging/reproducible.sh DIRECTORY [LIST]
#
# DIRECTORY holds what packaging/release.sh has built here from the last commit. Clones that
# commit into a directory with another path, builds LIST there (default: all) and compares.
# Compiles everything once. Exit: 0 passed, 1 failed, 77 a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clone=$work/a/directory/with/a/longer/name
there=$work/packages
git clone --quiet . "$clone"
options=()
[[ -z ${2:-} ]] || options=(--only "$2")
# A user with another mask checks out other modes.
(umask 077 && unset CARGO_TARGET_DIR && "$clone/packaging/release.sh" "${options[@]}" "$there")

passed=0 failed=0
while read -r _ file; do
    if cmp "$here/$file" "$there/$file"; then
        passed=$((passed + 1))
        echo "PASS  $file is the same"
    else
        failed=$((failed + 1))
        echo "FAIL  $file differs"
    fi
done <"$there/SHA256SUMS"
if [[ -z ${2:-} ]]; then
    cmp "$here/SHA256SUMS" "$there/SHA256SUMS" || failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
((passed > 0 && failed == 0))
