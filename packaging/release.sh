#!/usr/bin/env bash
# Builds the files of a release. The same commit, toolchain and build machine image
# give the same bytes, in any directory.
#
#   packaging/release.sh [--target TRIPLE] [--only LIST] [DIRECTORY]
#
#   TRIPLE     default: the host's; another one must run on this machine too, because
#              the man pages are printed by the binary
#   LIST       tarball,deb,rpm,image,sbom: default all that exist for the target
#   DIRECTORY  default: target/packages; its content is replaced
#
# Needs a Rust toolchain, git, GNU tar, objdump, python3, dpkg-deb, rpmbuild and, for
# the image, Debian's ca-certificates. Installs cargo-auditable where it is missing.
# The result's SHA256SUMS lists every file. Exit: 0 built, 77 a tool is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022
export LC_ALL=C TZ=UTC

# The oldest C library that the binary may need: that of Red Hat Enterprise Linux 9.
# Ubuntu 22.04 has 2.35, Debian 12 has 2.36.
oldest_glibc=2.34

skip() {
    echo "skipped: $*"
    exit 77
}
usage() {
    sed -n 's/^# \{0,1\}//; 2,/^$/p' "$0" >&2
    exit 64
}

target=$(rustc -vV | sed -n 's/^host: //p')
only=
while (($#)); do
    case $1 in
        --target) target=${2?} && shift 2 ;;
        --only) only=${2?} && shift 2 ;;
        -*) usage ;;
        *) break ;;
    esac
done
(($# <= 1)) || usage
case $target in
    *-linux-gnu) possible=tarball,deb,rpm,image,sbom ;;
    *) possible=tarball,sbom ;;
esac
only=${only:-$possible}
for kind in ${only//,/ }; do
    [[ ,$possible, == *,$kind,* ]] || {
        echo "$kind cannot be built for $target, only $possible" >&2
        exit 64
    }
done
wants() { [[ ,$only, == *,$1,* ]]; }

tar=tar
if command -v gtar >/dev/null; then tar=gtar; fi
need() { command -v "$1" >/dev/null || skip "needs $1${2:+, of the package $2}"; }
need git
need python3
"$tar" --version | grep GNU >/dev/null || skip "needs GNU tar"
case $target in *-linux-gnu) need objdump binutils ;; esac
! wants deb || need dpkg-deb dpkg
! wants rpm || need rpmbuild rpm
authorities=/usr/share/ca-certificates/mozilla
! wants image || [[ -d $authorities ]] || skip "needs $authorities, of the package ca-certificates"
if ! cargo auditable --version >/dev/null 2>&1; then
    cargo install --quiet --locked cargo-auditable --version 0.7.7 ||
        skip "needs cargo-auditable, which cannot be installed"
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
# Outside a checkout, as in an unpacked archive, the time of this file.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -r Cargo.toml +%s)}
export SOURCE_DATE_EPOCH
build=${CARGO_TARGET_DIR:-target}/packages-build
mkdir -p "$build"
build=$(cd "$build" && pwd)
out=${1:-${CARGO_TARGET_DIR:-target}/packages}
rm -rf "$out" "$build/tree"
mkdir -p "$out" "$build/tree"
out=$(cd "$out" && pwd)
tree=$build/tree

# compile DIRECTORY [FLAG...]: sets $binary.
compile() {
    local directory=$build/$1 cargo_home flags
    shift
    cargo_home=${CARGO_HOME:-$HOME/.cargo}
    # Panic messages name source files: by a path that is the same everywhere.
    flags=("--remap-path-prefix=$PWD=/sidecarbon" "--remap-path-prefix=$cargo_home=/cargo" "$@")
    # As words, because a path may contain blanks.
    CARGO_ENCODED_RUSTFLAGS=$(printf '%s\037' "${flags[@]}" | sed $'s/\037$//') \
        cargo auditable build --release --locked --target "$target" --target-dir "$directory"
    binary=$directory/$target/release/sidecarbon
    for path in "$PWD" "$cargo_home"; do
        if grep -aqF "$path/" "$binary"; then
            echo "$binary contains the path $path" >&2
            exit 1
        fi
    done
}

compile dynamic
needed_glibc=
if [[ $target == *-linux-gnu ]]; then
    needed_glibc=$(objdump -T "$binary" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1)
    needed_glibc=${needed_glibc#GLIBC_}
    echo "the binary needs glibc $needed_glibc; the limit is $oldest_glibc"
    if [[ $(printf '%s\n' "$needed_glibc" "$oldest_glibc" | sort -V | tail -1) != "$oldest_glibc" ]]; then
        echo "build it on an older distribution" >&2
        exit 1
    fi
fi

# --- The tarball ------------------------------------------------------------------

name=sidecarbon-$version-$target
dist=$build/$name
rm -rf "$dist"
mkdir -p "$dist/completions" "$dist/man"
install -m 755 "$binary" "$dist/sidecarbon"
for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$dist/completions/sidecarbon.$shell"
done
"$binary" man --directory "$dist/man"
cp README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$dist/"
cp -R config "$dist/"
pages() { (cd docs && find . -name '*.md' -o -path './images/*') | sed 's|^\./||'; }
pages | grep '\.md$' | while read -r page; do
    mkdir -p "$(dirname "$dist/docs/$page")"
    cp "docs/$page" "$dist/docs/$page"
done
case $target in
    *-linux-*) cp -R systemd "$dist/" ;;
    *-darwin) cp packaging/macos/sidecarbon.plist "$dist/" ;;
esac
# Git sets the modes of files by the umask of whoever clones.
find "$dist" -type f ! -name sidecarbon -exec chmod 644 {} +
find "$dist" -type d -exec chmod 755 {} +

if wants tarball; then
    "$tar" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner \
        --mtime="@$SOURCE_DATE_EPOCH" -C "$build" -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
    sed -e "s|^version=.*|version=$version|" -e "s|^url=.*|url=\${SIDECARBON_URL:-${RELEASE_URL:-}}|" \
        install.sh >"$out/install.sh"
    chmod 755 "$out/install.sh"
fi

# --- deb and rpm, from one tree ---------------------------------------------------

file() { # mode, source, path in the package
    install -D -m "$1" "$2" "$tree/$3"
}
make_tree() {
    local doc=usr/share/doc/sidecarbon page
    file 755 "$binary" usr/bin/sidecarbon
    file 644 config/sidecarbon.toml etc/sidecarbon/sidecarbon.toml
    file 644 systemd/sidecarbon.service lib/systemd/system/sidecarbon.service
    file 644 systemd/sidecarbon.socket lib/systemd/system/sidecarbon.socket
    file 644 systemd/sidecarbon.sysusers usr/lib/sysusers.d/sidecarbon.conf
    for page in "$dist"/man/*.1; do
        file 644 "$page" "usr/share/man/man1/${page##*/}"
    done
    gzip -9n "$tree"/usr/share/man/man1/*.1
    file 644 "$dist/completions/sidecarbon.bash" usr/share/bash-completion/completions/sidecarbon
    file 644 "$dist/completions/sidecarbon.zsh" usr/share/zsh/vendor-completions/_sidecarbon
    file 644 "$dist/completions/sidecarbon.fish" usr/share/fish/vendor_completions.d/sidecarbon.fish
    for page in config/examples/*.toml; do
        file 644 "$page" "$doc/examples/${page##*/}"
    done
    file 644 config/sidecarbon.schema.json "$doc/sidecarbon.schema.json"
    pages | while read -r page; do
        file 644 "docs/$page" "$doc/$page"
    done
}
date_tree() {
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

make_deb() {
    local doc=$tree/usr/share/doc/sidecarbon maintainer architecture size
    case $target in
        x86_64-*) architecture=amd64 ;;
        aarch64-*) architecture=arm64 ;;
        *) echo "Debian's name for $target is not known here" >&2 && exit 1 ;;
    esac
    maintainer=$(sed -n 's/^Maintainer: //p' packaging/debian/control)
    install -m 644 packaging/debian/copyright "$doc/copyright"
    gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
    gzip -9n >"$doc/changelog.Debian.gz" <<CHANGELOG
sidecarbon ($version-1) unstable; urgency=medium

  * Version $version. See changelog.gz in this directory.

 -- $maintainer  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
CHANGELOG
    size=$(find "$tree" -type f -printf '%s\n' | awk '{ sum += int(($1 + 1023) / 1024) } END { print sum }')
    mkdir "$tree/DEBIAN"
    sed -e "s/@VERSION@/$version-1/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/; s/@GLIBC@/$needed_glibc/" \
        packaging/debian/control >"$tree/DEBIAN/control"
    echo /etc/sidecarbon/sidecarbon.toml >"$tree/DEBIAN/conffiles"
    (cd "$tree" && find usr lib -type f | sort | xargs md5sum) >"$tree/DEBIAN/md5sums"
    install -m 755 packaging/debian/{postinst,postrm,prerm} "$tree/DEBIAN/"
    date_tree
    dpkg-deb --root-owner-group --threads-max=1 -Zxz --build "$tree" "$out/" >/dev/null
    rm -r "$tree/DEBIAN" "$doc"/{copyright,changelog.gz,changelog.Debian.gz}
}

make_rpm() {
    local top=$build/rpm
    rm -rf "$top"
    date_tree
    rpmbuild -bb --quiet --target "${target%%-*}" \
        --define "_topdir $top" --define "_rpmdir $out" --define "_rpmfilename %{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}.rpm" \
        --define "release_version $version" --define "tree $tree" --define "sources $PWD" \
        --define "_buildhost localhost" --define "use_source_date_epoch_as_buildtime 1" \
        --define "clamp_mtime_to_source_date_epoch 1" --define "source_date_epoch_from_changelog 0" \
        packaging/rpm/sidecarbon.spec
}

if wants deb || wants rpm; then make_tree; fi
if wants deb; then make_deb; fi
if wants rpm; then make_rpm; fi

# --- Image and list of components -------------------------------------------------

if wants image; then
    # Static, as the Dockerfile builds it: nothing else has to be in the image.
    compile static -C target-feature=+crt-static
    python3 packaging/image.py --binary "$binary" --authorities "$authorities" \
        --target "$target" --version "$version" --revision "$(git rev-parse HEAD 2>/dev/null || echo unknown)" \
        --output "$out/$name.oci.tar"
fi
if wants sbom; then
    cargo metadata --format-version 1 --locked --filter-platform "$target" |
        python3 packaging/sbom.py "$target" >"$out/$name.cdx.json"
fi

(
    cd "$out"
    if command -v sha256sum >/dev/null; then sha256sum -- *; else shasum -a 256 -- *; fi >"$build/SHA256SUMS"
    mv "$build/SHA256SUMS" .
)
ls -l "$out"
