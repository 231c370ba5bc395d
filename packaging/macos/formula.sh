#!/usr/bin/env bash
# Writes the Homebrew formula sidecarbon.rb for the tarballs in a directory.
#
#   RELEASE_URL=https://… packaging/macos/formula.sh DIRECTORY
set -euo pipefail
cd "$(dirname "$0")/../.."
directory=$1
: "${RELEASE_URL:?is where the files are published}"
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
sum() {
    local file=$directory/sidecarbon-$version-$1.tar.gz
    [[ -r $file ]] || { echo "there is no $file" >&2 && return 1; }
    sha256sum <"$file" | cut -d' ' -f1
}
arm=$(sum aarch64-apple-darwin)
intel=$(sum x86_64-apple-darwin)
sed -e "s|@VERSION@|$version|g; s|@URL@|$RELEASE_URL|; s|@ARM@|$arm|; s|@INTEL@|$intel|" \
    packaging/macos/sidecarbon.rb >"$directory/sidecarbon.rb"
