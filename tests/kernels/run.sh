#!/bin/sh
# Runs the test binary for cargo: boots each kernel in QEMU with it and the daemon, and prints how many checks passed. KERNELS
# selects some of the kernels. The newest kernel (sid) may fail without failing the run.
set -eu

test=$1
shift
here=$(cd "$(dirname "$0")" && pwd)
scripts=$here/../../scripts/kernels
edns=$(dirname "$(dirname "$test")")/edns
programs="dash ip tc ethtool nsenter setpriv unshare mount"
modules="veth bridge 8021q sch_ingress cls_bpf netkit ip_vs ip_vs_rr virtio_pci virtio_net"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pack KERNEL ARGUMENT...: makes the initramfs of a kernel's guest, with arguments for the test binary.
pack() {
    root=$work/root
    rm -rf "$root"
    mkdir -p "$root/bin" "$root/proc" "$root/sys" "$root/dev" "$root/tmp" "$root/run" "$root/var" "$root/btf"
    ln -s /run "$root/var/run"
    # shellcheck disable=SC2086 # lists
    "$scripts/binaries.sh" "$root" $programs "$edns" "$test"
    # Line numbers are most of the size.
    strip "$root$edns" "$root$test"
    # shellcheck disable=SC2086
    "$scripts/modules.sh" "$1" "$root" $modules
    cp "$(command -v busybox)" "$root/bin/busybox"
    # busybox' shell would run its own applets instead of the programs that the tests need.
    ln -sf "$(command -v dash)" "$root/bin/sh"
    if [ -e "$1/vmlinux.btf" ]; then
        install -m 644 "$1/vmlinux.btf" "$root/btf/right"
        install -m 644 /sys/kernel/btf/vmlinux "$root/btf/wrong"
    fi
    gcc -shared -fPIC -O1 -Wall -o "$root/notcx.so" "$here/../daemon/notcx.c" -ldl
    cp "$here/init.sh" "$root/init"
    shift
    # Tests that wait a minute run on the host only.
    echo "$test --test-threads 1 --skip each_minute $*" >"$root/args"
    "$scripts/initramfs.sh" "$root" "$work/initramfs"
}

failed=
for series in ${KERNELS:-5.10 5.10-nobtf 6.1 6.12 sid}; do
    began=$(date +%s)
    log=$work/$series.log
    passed=
    case $series in
    # Built without IPVS and drivers of network cards. Every other kernel runs all tests.
    5.10-nobtf) skip="--skip ipvs:: --skip nics::" ;;
    *) skip= ;;
    esac
    # shellcheck disable=SC2086 # words
    if kernel=$("$scripts/kernel.sh" "$series") && pack "$kernel" $skip "$@" && NICS=3 "$scripts/qemu.sh" "$kernel" "$work/initramfs" >"$log" 2>&1; then
        passed=$(tr -d '\r' <"$log" | sed -n 's/^PASS \([0-9]*\) \(.*\)/\2: \1 checks passed/p')
    fi
    took=$(($(date +%s) - began))
    if [ -n "$passed" ]; then
        echo "Linux $passed${skip:+ with $skip} ($took s)"
        continue
    fi
    [ ! -e "$log" ] || sed "s/^/$series: /" "$log"
    echo "Linux $series: FAILED ($took s)"
    [ "$series" = sid ] || failed="$failed $series"
done
[ -z "$failed" ] || {
    echo "failed:$failed" >&2
    exit 1
}
