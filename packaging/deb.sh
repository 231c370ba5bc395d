#!/usr/bin/env bash
# Builds the Debian package.
#
#   packaging/deb.sh [DIRECTORY]      default: target/debian
#
# Needs a Rust toolchain and dpkg-dev; cargo-deb is installed where it is missing.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${CARGO_TARGET_DIR:-target}
out=${1:-$target/debian}
package=$target/release/package

if ! command -v dpkg-shlibdeps >/dev/null; then
    echo "needs dpkg-shlibdeps, of Debian's dpkg-dev"
    exit 77
fi
if ! cargo deb --version >/dev/null 2>&1; then
    cargo install --quiet --locked cargo-deb || {
        echo "needs cargo-deb, which cannot be installed"
        exit 77
    }
fi
cargo build --release --locked
binary=$target/release/sidecarbon

rm -rf "$package"
mkdir -p "$package/man" "$out"
"$binary" man --directory "$package/man"
for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$package/sidecarbon.$shell"
done

# The same bytes from the same sources.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH
version=$("$binary" --version | cut -d' ' -f2)
maintainer=$(sed -n 's/^maintainer = "\(.*\)"$/\1/p' Cargo.toml)
cat >"$package/changelog" <<CHANGELOG
sidecarbon ($version-1) unstable; urgency=medium

  * Version $version. What is new is in changelog.gz, beside this file.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
cp CHANGELOG.md "$package/upstream-changelog"
gzip -9n "$package"/man/*.1 "$package/changelog" "$package/upstream-changelog"

cargo deb --no-build --no-strip --output "$out/"
