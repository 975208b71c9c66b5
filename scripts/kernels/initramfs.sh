#!/bin/sh
# Packs a root file system with an /init into an initramfs.
set -eu

root=${1:?a root file system}
out=${2:?the file to write}
(cd "$root" && find . -xdev | cpio -o -H newc -R 0:0 --quiet | zstd -q -1 -T0) >"$out"
