# The base images that the Dockerfile names, made here: Debian by debootstrap,
# Rust from this machine. Kept in $cache, so that the second run is short. To be
# sourced; $cache is a directory of our own.
# shellcheck shell=bash

# The name that the Dockerfile asks for, in full.
base_image=$(sed -n 's/^FROM \(.*\) AS build$/\1/p' Dockerfile)

# buildah and podman with a storage of their own.
storage=(--root "$cache/storage" --runroot "$cache/run" --storage-driver "${STORAGE_DRIVER:-overlay}")
buildah() { command buildah "${storage[@]}" "$@"; }
podman() { command podman "${storage[@]}" --runtime runc --cgroup-manager=cgroupfs "$@"; }

install_tools() {
    local missing=() tool package
    for package in debootstrap buildah podman runc conmon python3 openssl binutils/objcopy iproute2/ip; do
        tool=${package#*/}
        # By path: functions above have the same names.
        type -P "$tool" >/dev/null || missing+=("${package%/*}")
    done
    ((${#missing[@]})) || return 0
    [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 1
    apt-get update -qq && apt-get install -qq -y --no-install-recommends "${missing[@]}" >/dev/null
}

# rust:VERSION-slim-bookworm as it is published: Debian with a C compiler and
# root certificates, the toolchain, and where cargo keeps its things.
make_base_image() {
    buildah inspect --type image "$base_image" >/dev/null 2>&1 && return 0
    local debian=$cache/debian toolchain container
    if [[ ! -e $debian.done ]]; then
        rm -rf "$debian"
        debootstrap --variant=minbase --include=gcc,libc6-dev,ca-certificates \
            bookworm "$debian" http://deb.debian.org/debian >"$cache/debootstrap.log" 2>&1
        rm -rf "$debian"/var/cache/apt "$debian"/var/lib/apt/lists
        touch "$debian.done"
    fi
    toolchain=$(rustc --print sysroot)
    container=$(buildah from scratch)
    buildah add -q "$container" "$debian" / >/dev/null
    for part in bin lib libexec; do
        buildah add -q "$container" "$toolchain/$part" "/usr/local/rust/$part" >/dev/null
    done
    # The authorities that this machine trusts for registries, apart from those
    # that end up in the image.
    buildah add -q "$container" /etc/ssl/certs/ca-certificates.crt /usr/local/registries.pem >/dev/null
    buildah config --env CARGO_HTTP_CAINFO=/usr/local/registries.pem --env PATH=/usr/local/cargo/bin:/usr/local/rust/bin:/usr/local/bin:/usr/bin:/bin \
        --env CARGO_HOME=/usr/local/cargo "$container"
    buildah commit -q --rm "$container" "$base_image" >/dev/null
}

# Builds the image from a directory, with the layers that are there; what is
# said goes to standard output.
build_image() {
    buildah bud --isolation chroot --pull-never --format docker --layers \
        --tag sidecarbon:test "$1" 2>&1
}
