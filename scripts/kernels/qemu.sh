#!/bin/sh
# Boots a kernel with an initramfs in QEMU, by emulation, which behaves the same on every machine, with and without KVM. The
# console is on standard output. The exit status is QEMU's when the guest powers off or reboots, and 124 if it does neither
# within TIMEOUT seconds. A guest that panics also exits with 0, so it has to print that it succeeded. MEMORY is the memory of
# the guest, NICS its number of network cards, which are on a hub of their own.
set -eu

kernel=${1:?the kernel: what kernel.sh printed}
initramfs=${2:?an initramfs}
shift 2
cards=
i=0
while [ "$i" -lt "${NICS:-0}" ]; do
    cards="$cards -netdev hubport,id=n$i,hubid=0 -device virtio-net-pci,netdev=n$i,romfile="
    i=$((i + 1))
done
# shellcheck disable=SC2086 # a list
exec timeout --foreground "${TIMEOUT:-600}" qemu-system-x86_64 -nodefaults -no-user-config -machine q35 \
    -accel tcg,thread=multi -cpu max -smp 2 -m "${MEMORY:-1G}" -display none -serial stdio -no-reboot $cards \
    -kernel "$kernel/vmlinuz" -initrd "$initramfs" -append "console=ttyS0 quiet panic=-1 no_timer_check $*" </dev/null
