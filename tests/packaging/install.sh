#!/usr/bin/env bash
# The packages in a booted Debian 12 that has no compiler: with the commands of
# docs/install.md, from deb, rpm and tarball to a delivered line in under a minute.
#
#   tests/packaging/install.sh [DIRECTORY [deb|rpm|tarball]]
#
# DIRECTORY holds what packaging/release.sh has built; without it, it is built.
# Exit: 0 passed, 1 failed, 77 a tool or a right is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/systemd/machine.sh
source tests/systemd/machine.sh

if (($# < 2)); then
    directory=${1:-}
    skipped=0
    if [[ -z $directory ]]; then
        directory=$work/packages
        packaging/release.sh --only tarball,deb,rpm "$directory"
    fi
    for kind in deb rpm tarball; do
        status=0
        tests/packaging/install.sh "$directory" "$kind" || status=$?
        case $status in
            0) ;;
            77) skipped=77 ;;
            *) exit "$status" ;;
        esac
    done
    exit "$skipped"
fi
packages=$1
kind=$2
need_tools
[[ $kind != rpm ]] || need_tools rpm
echo "--- $kind"

# The commands below a heading of the page.
section() {
    awk -v heading="$1" '/^##/ { on = ($0 ~ "^##+ " heading "$") } on' docs/install.md >"$work/section.md"
    awk '/^```sh$/ { inside = 1; next } /^```$/ { inside = 0 } inside' "$work/section.md" | grep .
}
in_files() { inside bash -euxc "cd /root/files; $(cat)"; }

has_no_toolchain() {
    local tool
    for tool in cc gcc rustc cargo make; do
        ! inside bash -c "command -v $tool" || return 1
    done
}
has_the_right_checksums() { section "Get the files" | in_files; }
installs() {
    began=$(date +%s%N)
    case $kind in
        deb) section "Debian and Ubuntu" | in_files ;;
        # The system has no rpm: this machine's installs into it.
        rpm) rpm --root "$root" --install --nodeps "$root"/root/files/sidecarbon-*.rpm ;;
        tarball) section Tarball | in_files ;;
    esac
    [[ $(inside systemctl is-active sidecarbon) == inactive ]]
    [[ $(inside stat -c '%U:%G %a' /etc/sidecarbon/sidecarbon.toml) == "root:root 644" ]]
    echo "$began" >"$work/began"
}
delivers() {
    local took
    upstream_up
    inside sed -i 's|^url = .*|url = "tcp://127.0.0.1:4000"|' /etc/sidecarbon/sidecarbon.toml
    inside systemctl daemon-reload
    section "Set the key and start" | sed "s/YOUR-API-KEY/$key/" | in_files
    within 10 has_arrived "^$key.test.sidecarbon 1 " 1
    took=$((($(date +%s%N) - $(cat "$work/began")) / 1000000))
    echo "figure: $took ms from the package to the delivered line"
    ((took < 60000))
    inside sidecarbon status | grep -E 'delivered +1$'
}
is_verified() {
    local said
    said=$(inside systemd-analyze verify sidecarbon.service sidecarbon.socket 2>&1)
    echo "$said"
    [[ -z $said ]]
    inside systemd-analyze security --no-pager --threshold=15 sidecarbon
}
has_pages_and_completions() {
    # shellcheck disable=SC2016 # for the shell inside
    inside bash -euc 'for prefix in /usr /usr/local; do
        [[ -e $prefix/bin/sidecarbon ]] || continue
        ls $prefix/share/man/man1/sidecarbon.1* $prefix/share/man/man1/sidecarbon-probe.1*
        ls $prefix/share/bash-completion/completions/sidecarbon $prefix/share/fish/vendor_completions.d/sidecarbon.fish
        ls $prefix/share/zsh/*/_sidecarbon
    done'
}
is_a_good_rpm() {
    local package
    package=$(echo "$packages"/sidecarbon-*.rpm)
    rpm --query --package --requires "$package" | tee /dev/stderr | grep 'libc.so.6(GLIBC_' >/dev/null
    ! rpm --query --package --requires "$package" | grep -E 'GLIBC_2\.(3[5-9]|[4-9][0-9])' || return 1
    [[ $(rpm --query --package --configfiles "$package") == /etc/sidecarbon/sidecarbon.toml ]]
    rpm --query --package --licensefiles "$package" | grep LICENSE-MIT
    rpm --checksig --nosignature "$package"
    # What it has installed is as it was packed. The test has edited the configuration.
    ! rpm --root "$root" --verify --nodeps sidecarbon | grep -v ' c ' || return 1
}
refuses_a_wrong_checksum() {
    inside bash -euc 'cp -r /root/files /root/bad && cd /root/bad && echo >>"$(echo sidecarbon-*.tar.gz)"
        ! sh install.sh --from . --prefix /root/nothing 2>said
        grep "the checksum of sidecarbon-.* is wrong" said
        [[ ! -e /root/nothing ]]
        sed -i d SHA256SUMS
        ! sh install.sh --from . --prefix /root/nothing 2>said
        grep "SHA256SUMS does not list" said'
}
installs_without_root() {
    inside useradd --create-home user
    inside cp -r /root/files /home/user/
    section Laptop | inside su user -c 'cd ~/files && sh -eux'
    inside su user -c '/home/user/.local/bin/sidecarbon --version'
}
keeps_the_configuration_on_an_upgrade() {
    section Tarball | in_files >"$work/upgrade"
    cat "$work/upgrade"
    grep '^kept: /etc/sidecarbon/sidecarbon.toml' "$work/upgrade"
    inside grep 4000 /etc/sidecarbon/sidecarbon.toml
    inside systemctl restart sidecarbon
}
leaves() {
    case $kind in
        deb) inside apt-get purge -qq -y sidecarbon ;;
        # Scriptlets run in the directory, where no service manager is to be seen.
        rpm)
            inside systemctl disable --quiet --now sidecarbon.service sidecarbon.socket
            rpm --root "$root" --erase --nodeps sidecarbon
            inside systemctl daemon-reload
            inside bash -c 'rm -rf /etc/sidecarbon /var/lib/rpm; userdel sidecarbon'
            ;;
        tarball) section Remove | in_files ;;
    esac
    find "$root" -xdev -name '*sidecarbon*' ! -path "$root/root/*" ! -path "$root/home/*" ! -path "$root/var/log/*" \
        ! -path "$root/var/lib/rpm/*" ! -path "$root/proc/*" ! -path "$root/sys/*" | { ! grep . || return 1; }
    ! inside getent passwd sidecarbon || return 1
}

make_root
cp tests/systemd/upstream.py "$root/root/test/"
mkdir "$root/root/files"
cp "$packages"/* "$root/root/files/"
# For "apt install" as a user of its own.
chmod 755 "$root/root" "$root/root/files"
boot
check "the system has no toolchain" has_no_toolchain
check "the checksums are right" has_the_right_checksums
check "installs, starts nothing" installs
((failed == 0)) || finish
check "a line is delivered within a minute, by the commands of the page" delivers
check "man pages and completions are there" has_pages_and_completions
check "the units are valid and hardened" is_verified
case $kind in
    rpm) check "requires glibc 2.34 at most, files are as packed" is_a_good_rpm ;;
    tarball)
        check "a wrong or missing checksum installs nothing" refuses_a_wrong_checksum
        check "installs for a user without root" installs_without_root
        check "an upgrade keeps the configuration" keeps_the_configuration_on_an_upgrade
        ;;
esac
check "removal leaves nothing" leaves
finish
