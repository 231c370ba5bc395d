#!/bin/sh
# Installs sidecarbon from a release, after it has compared the SHA-256 checksum.
#
#   install.sh [--from DIRECTORY] [--prefix DIRECTORY] [--service]
#
#   --from      the directory that holds the files of the release; without it they are
#               downloaded from $SIDECARBON_URL (default: where this script was published)
#   --prefix    where to install; default: /usr/local for root, else ~/.local
#   --service   also installs the systemd units, the user and the configuration file, and
#               starts nothing; needs root
set -eu

# Filled in by packaging/release.sh.
version=
url=${SIDECARBON_URL:-}

die() {
    echo "install.sh: $*" >&2
    exit 1
}

from=
prefix=
service=false
while [ $# -gt 0 ]; do
    case $1 in
        --from) from=${2:?--from needs a directory} && shift 2 ;;
        --prefix) prefix=${2:?--prefix needs a directory} && shift 2 ;;
        --service) service=true && shift ;;
        --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" && exit ;;
        *) die "$1 is not an option; see install.sh --help" ;;
    esac
done
[ -n "$version" ] || die "this copy has no version; use the install.sh of a release"
root=false
if [ "$(id -u)" = 0 ]; then root=true; fi
if [ -z "$prefix" ]; then
    if $root; then prefix=/usr/local; else prefix=$HOME/.local; fi
fi
if $service; then
    $root || die "--service needs root"
    command -v systemd-sysusers >/dev/null || die "--service needs systemd"
fi

case $(uname -s)/$(uname -m) in
    Linux/x86_64) target=x86_64-unknown-linux-gnu ;;
    Linux/aarch64) target=aarch64-unknown-linux-gnu ;;
    Darwin/arm64) target=aarch64-apple-darwin ;;
    Darwin/x86_64) target=x86_64-apple-darwin ;;
    *) die "there is no release for $(uname -s) on $(uname -m)" ;;
esac
# Alpine and others: the C library is not glibc.
if [ "$target" = x86_64-unknown-linux-gnu ] && ldd --version 2>&1 | grep -i musl >/dev/null; then
    target=x86_64-unknown-linux-musl
fi
name=sidecarbon-$version-$target

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -z "$from" ]; then
    case $url in
        https://*) ;;
        "") die "this copy has no address to download from: use --from, or set SIDECARBON_URL" ;;
        *) die "SIDECARBON_URL must begin with https://" ;;
    esac
    from=$work
    for file in SHA256SUMS "$name.tar.gz"; do
        if command -v curl >/dev/null; then
            curl --fail --silent --show-error --location --proto '=https' --output "$from/$file" "$url/$file"
        elif command -v wget >/dev/null; then
            wget -q -O "$from/$file" "$url/$file"
        else
            die "needs curl or wget, or --from"
        fi || die "$url/$file cannot be downloaded"
    done
fi
[ -r "$from/SHA256SUMS" ] || die "$from has no SHA256SUMS"
[ -r "$from/$name.tar.gz" ] || die "$from has no $name.tar.gz"

expected=$(awk -v name="$name.tar.gz" '$2 == name { print $1 }' "$from/SHA256SUMS")
if command -v sha256sum >/dev/null; then
    actual=$(sha256sum <"$from/$name.tar.gz")
else
    actual=$(shasum -a 256 <"$from/$name.tar.gz")
fi
actual=${actual%% *}
[ -n "$expected" ] || die "SHA256SUMS does not list $name.tar.gz"
[ "$expected" = "$actual" ] || die "the checksum of $name.tar.gz is wrong: $actual instead of $expected"

tar -xzf "$from/$name.tar.gz" -C "$work"
cd "$work/$name"
./sidecarbon --version >/dev/null || die "this system cannot run $target; nothing was installed"
put() { # mode, source, destination
    mkdir -p "${3%/*}"
    # Under another name first: a running binary cannot be written to.
    cp "$2" "$3.new"
    chmod "$1" "$3.new"
    mv -f "$3.new" "$3"
}
put 755 sidecarbon "$prefix/bin/sidecarbon"
for page in man/*.1; do
    put 644 "$page" "$prefix/share/man/man1/${page##*/}"
done
put 644 completions/sidecarbon.bash "$prefix/share/bash-completion/completions/sidecarbon"
put 644 completions/sidecarbon.zsh "$prefix/share/zsh/site-functions/_sidecarbon"
put 644 completions/sidecarbon.fish "$prefix/share/fish/vendor_completions.d/sidecarbon.fish"
for file in README.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT docs/*.md docs/*/*.md config/examples/*.toml; do
    name=${file#docs/}
    put 644 "$file" "$prefix/share/doc/sidecarbon/${name#config/}"
done

if $service; then
    put 644 systemd/sidecarbon.sysusers /etc/sysusers.d/sidecarbon.conf
    systemd-sysusers sidecarbon.conf
    for unit in sidecarbon.service sidecarbon.socket; do
        sed "s|/usr/bin/sidecarbon|$prefix/bin/sidecarbon|; s|/usr/share/|$prefix/share/|" "systemd/$unit" >"$unit"
        put 644 "$unit" "/etc/systemd/system/$unit"
    done
    if [ -e /etc/sidecarbon/sidecarbon.toml ]; then
        put 644 config/sidecarbon.toml /etc/sidecarbon/sidecarbon.toml.new-version
        echo "kept: /etc/sidecarbon/sidecarbon.toml; the new one is beside it, as sidecarbon.toml.new-version"
    else
        put 644 config/sidecarbon.toml /etc/sidecarbon/sidecarbon.toml
    fi
    if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi
fi
echo "installed: $prefix/bin/sidecarbon, version $version, $target"
