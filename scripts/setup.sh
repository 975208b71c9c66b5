#!/bin/sh
# Installs what building and testing need on Debian 12 or later. `scripts/setup.sh build` omits what only tests need;
# `scripts/setup.sh kernels` adds what tests on other kernels need, `scripts/setup.sh packages` what tests of packages need.
set -eu

build="clang-19 libelf-dev zlib1g-dev pkg-config make gcc libc6-dev dpkg-dev"
tests="clang-format-19 bpftool bind9-dnsutils knot-dnsutils dnsperf nsd dnsmasq-base knot unbound iproute2 tcpdump ethtool nftables
    musl-tools openssl procps rsync util-linux python3 curl prometheus"
kernels="qemu-system-x86 busybox-static cpio kmod zstd xz-utils debian-archive-keyring dwarves flex bison bc"
packaging="mmdebstrap buildah qemu-system-x86 cpio kmod zstd xz-utils debian-archive-keyring"
# Cargo.toml has the minimum version of Rust; Debian 12's is older.
rust=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")

packages=$build
[ "${1:-all}" = build ] || packages="$packages $tests"
[ "${1:-all}" != kernels ] || packages="$packages $kernels"
[ "${1:-all}" != packages ] || packages="$packages $packaging"

missing=
for package in $packages; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
if [ -n "$missing" ]; then
    if ! command -v apt-get >/dev/null; then
        echo "setup: this is not Debian; install the equivalents of:$missing" >&2
        exit 1
    fi
    if [ "$(id -u)" != 0 ]; then
        echo "setup: run as root (sudo scripts/setup.sh) to install:$missing" >&2
        exit 1
    fi
    echo "setup: installing$missing"
    export DEBIAN_FRONTEND=noninteractive
    # Installed servers are not started: tests start their own.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -q
    # shellcheck disable=SC2086 # a list
    apt-get install -q -y --no-install-recommends $missing
fi

have=$("$(dirname "$0")/cargo.sh" --version 2>/dev/null | sed -n 's/^cargo \([0-9.]*\).*/\1/p')
if [ -z "$have" ] || [ "$(printf '%s\n%s\n' "$rust" "$have" | sort -V | head -n 1)" != "$rust" ]; then
    echo "setup: Rust $rust or newer is needed (here: ${have:-none}): https://rustup.rs installs it" >&2
    exit 1
fi
