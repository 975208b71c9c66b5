#!/bin/sh
# Copies modules of a kernel and their dependencies into a root file system, at the paths where `modprobe` finds them,
# decompressed because busybox can't read xz. Modules that the kernel has built in or lacks are skipped.
set -eu

kernel=${1:?the kernel: what kernel.sh printed}
root=${2:?a root file system}
shift 2
# A kernel that was built without modules.
[ -d "$kernel/lib/modules" ] || exit 0
version=$(basename "$kernel"/lib/modules/*)
to=lib/modules/$version
mkdir -p "$root/$to"
cp "$kernel/$to"/modules.order "$kernel/$to"/modules.builtin* "$root/$to"
for module in "$@"; do
    modprobe -d "$kernel" -S "$version" --show-depends "$module" 2>/dev/null | sed -n 's/^insmod \([^ ]*\).*/\1/p'
done | sort -u | while read -r file; do
    path=$to/${file##*"/$to/"}
    mkdir -p "$root/$(dirname "$path")"
    case $file in
    *.xz) xz -dc "$file" >"$root/${path%.xz}" ;;
    *.zst) zstd -qdc "$file" >"$root/${path%.zst}" ;;
    *) cp "$file" "$root/$path" ;;
    esac
done
depmod -b "$root" "$version"
