#!/bin/sh
# Finds or downloads a Debian kernel of a series (5.10, 6.1, 6.12, or sid for the newest). Prints the folder that contains its
# `vmlinuz` and `lib/modules`. Needs no root and doesn't change the system's apt. 5.10-nobtf is built by build-nobtf.sh.
set -eu

series=${1:?a series: 5.10, 5.10-nobtf, 6.1, 6.12 or sid}
mirror=http://deb.debian.org
case $series in
5.10) source="$mirror/debian-security bullseye-security main" ;;
6.1) source="$mirror/debian bookworm main" ;;
6.12) source="$mirror/debian trixie main" ;;
sid) source="$mirror/debian sid main" ;;
5.10-nobtf) exec "$(dirname "$0")/build-nobtf.sh" ;;
*)
    echo "kernel.sh: $series is none of 5.10, 5.10-nobtf, 6.1, 6.12 and sid" >&2
    exit 1
    ;;
esac

dir=${XDG_CACHE_HOME:-$HOME/.cache}/edns/kernels/$series
if [ ! -e "$dir/vmlinuz" ]; then
    echo "kernel.sh: downloading Linux $series" >&2
    new=$dir.new.$$
    trap 'rm -rf "$new"' EXIT
    mkdir -p "$new/debs"
    apt=$("$(dirname "$0")/apt.sh" "$new/apt" "$source")
    export APT_CONFIG="$apt"
    # The image, and the packages that newer images are split into, without dependencies for an initramfs or a boot loader.
    packages=$(apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts --no-breaks --no-replaces \
        --no-enhances linux-image-cloud-amd64 | grep -E '^linux-(image|base|binary|modules)-[0-9]')
    # shellcheck disable=SC2086 # a list
    (cd "$new/debs" && apt-get -q download $packages >&2)
    for deb in "$new"/debs/*.deb; do
        dpkg-deb -x "$deb" "$new/root"
    done
    mkdir -p "$new/kernel/lib"
    # In /boot, or among the modules, which newer packages have below /usr.
    mv "$(find "$new/root" -type f -name 'vmlinuz*')" "$new/kernel/vmlinuz"
    mv "$(find "$new/root" -type d -path '*/lib/modules')" "$new/kernel/lib"
    depmod -b "$new/kernel" "$(basename "$new"/kernel/lib/modules/*)"
    rm -rf "$dir"
    mv "$new/kernel" "$dir"
fi
echo "$dir"
