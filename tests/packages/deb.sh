#!/bin/sh
# Installs the .deb into a Debian and boots that in QEMU with Debian's kernel and systemd; guest.sh checks the service there.
# Needs root. What can be reused is in the user's cache.
set -eu
cd "$(dirname "$0")/../.."

deb=${1:?the package}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/edns/guest
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
mkdir -p "$cache"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# dig's libraries are large and the guest's memory is small, so documentation and translations are not installed.
base=$cache/$suite.tar
if [ ! -e "$base" ]; then
    mmdebstrap --quiet --variant=minbase --include=systemd-sysv,iproute2,bind9-dnsutils,kmod,procps,libelf1,libgcc-s1 \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        "$suite" "$cache/new.$$.tar"
    mv "$cache/new.$$.tar" "$base"
fi
root=$work/root
mkdir "$root"
tar -xf "$base" -C "$root"

cp "$deb" "$root/edns.deb"
chroot "$root" dpkg -i /edns.deb
# The package as a newer version, for the upgrade in the guest.
dpkg-deb -R "$deb" "$work/newer"
sed -i 's/^Version: .*/&.1/' "$work/newer/DEBIAN/control"
dpkg-deb --root-owner-group -Znone -b "$work/newer" "$root/edns.deb"

kernel=$(scripts/kernels/kernel.sh 6.1)
scripts/kernels/modules.sh "$kernel" "$root" veth sch_ingress cls_bpf
install -m 755 tests/packages/guest.sh "$root/guest.sh"
install -m 644 tests/packages/guest.service "$root/etc/systemd/system"
ln -s ../guest.service "$root/etc/systemd/system/multi-user.target.wants/guest.service"
# Without udev systemd doesn't learn that the console exists.
ln -s /dev/null "$root/etc/systemd/system/serial-getty@ttyS0.service"
ln -s sbin/init "$root/init"
scripts/kernels/initramfs.sh "$root" "$work/initramfs"
MEMORY=2G TIMEOUT=900 scripts/kernels/qemu.sh "$kernel" "$work/initramfs" | tee "$work/console"
# A guest that dies early prints no result.
grep -q '^PASS: [0-9]* checks' "$work/console"
