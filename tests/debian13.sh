#!/bin/sh
# Makes a root folder of Debian 13 with RabbitMQ 4.0, for ROLLCALL_RABBITMQ_ROOT. Needs root; keeps a finished folder.
# Packages come from DEBIAN_MIRROR, or from where this machine has its own.
set -eu

suite=trixie
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
marker=.rollcall-debian13

tell() { printf 'debian13: %s\n' "$*" >&2; }
fail() { tell "$*"; exit 1; }

# Prints the mirror from which this machine has its own Debian, if it has one.
mirror() {
    . /etc/os-release
    [ "${ID:-}" != debian ] || apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
        sed -n "s#^${VERSION_CODENAME:-} main \(https\?://.*\)#\1#p" | head -n 1
}

install_debootstrap() {
    tell "installing debootstrap"
    export DEBIAN_FRONTEND=noninteractive
    install="apt-get -qy --no-install-recommends install debootstrap debian-archive-keyring"
    $install >&2 || { apt-get -q update >&2 && $install >&2; }
}

[ $# -eq 1 ] || fail "usage: tests/debian13.sh DIR"
[ "$(id -u)" -eq 0 ] || fail "needs root"
mkdir -p "$(dirname "$1")"
parent=$(cd "$(dirname "$1")" && pwd -P)
dir=$parent/$(basename "$1")

# debootstrap mounts /proc and may be killed; the mounts of a namespace end with it. Where that is not permitted,
# mounting is not either.
if [ -z "${ROLLCALL_UNSHARED:-}" ] && unshare --mount true 2>/dev/null; then
    ROLLCALL_UNSHARED=1 exec unshare --mount "$0" "$dir"
fi

exec 9<"$parent"
flock 9
if [ ! -e "$dir/$marker" ]; then
    [ ! -e "$dir" ] || rmdir "$dir" 2>/dev/null || fail "$dir is there, and not made by this script"
    command -v debootstrap >/dev/null && [ -e "$keyring" ] || install_debootstrap
    from=${DEBIAN_MIRROR:-$(mirror)}
    [ -n "$from" ] || fail "this is no Debian with a mirror; name one in DEBIAN_MIRROR"
    tell "installing Debian $suite with rabbitmq-server from $from in $dir"
    partial=$dir.partial
    rm -rf --one-file-system "$partial"
    # debootstrap itself sees to it that no service starts; the policy holds for what is installed later.
    debootstrap --variant=minbase --include=rabbitmq-server --keyring="$keyring" "$suite" "$partial" "$from" >&2
    printf '#!/bin/sh\nexit 101\n' >"$partial/usr/sbin/policy-rc.d"
    chmod 755 "$partial/usr/sbin/policy-rc.d"
    rm -rf "$partial"/var/cache/apt/archives/*.deb
    touch "$partial/$marker"
    mv "$partial" "$dir"
fi
tell "RabbitMQ $(chroot "$dir" dpkg-query -Wf '${Version}' rabbitmq-server) is in $dir"
printf "export ROLLCALL_RABBITMQ_ROOT='%s'\n" "$dir"
