#!/bin/sh
# Builds a small Linux 5.10 without BTF from Debian's source, in some minutes. Prints the folder that contains its `vmlinuz`
# and its BTF in a separate file, `vmlinux.btf`. All kernels of Debian have BTF.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
dir=${XDG_CACHE_HOME:-$HOME/.cache}/edns/kernels/5.10-nobtf
if [ -e "$dir/vmlinuz" ]; then
    echo "$dir"
    exit
fi
for tool in gcc make flex bison bc pahole; do
    command -v "$tool" >/dev/null || {
        echo "build-nobtf.sh: no $tool here: \`scripts/setup.sh kernels\` installs it on Debian" >&2
        exit 1
    }
done

echo "build-nobtf.sh: building Linux 5.10 without BTF, once" >&2
new=$dir.new.$$
trap 'rm -rf "$new"' EXIT
mkdir -p "$new/out"
APT_CONFIG=$("$here/apt.sh" "$new/apt" "http://deb.debian.org/debian-security bullseye-security main")
export APT_CONFIG
(cd "$new" && apt-get -q download linux-source-5.10 >&2)
dpkg-deb --fsys-tarfile "$new"/linux-source-5.10_*.deb |
    tar -xOf - ./usr/src/linux-source-5.10.tar.xz | tar -xJf - -C "$new"
cd "$new/linux-source-5.10"
{
    make -s tinyconfig
    scripts/kconfig/merge_config.sh -m .config "$here/nobtf.config"
    make -s olddefconfig
} >/dev/null
grep -v '^#' "$here/nobtf.config" | while read -r option; do
    grep -qx "$option" .config || {
        echo "build-nobtf.sh: $option is not in the final configuration" >&2
        exit 1
    }
done
nice make -s -j"$(nproc)" bzImage >&2
cp arch/x86/boot/bzImage "$new/out/vmlinuz"
pahole --btf_encode_detached "$new/out/vmlinux.btf" vmlinux
rm -rf "$dir"
mv "$new/out" "$dir"
echo "$dir"
