#!/bin/sh
# Boots a kernel with an initramfs in QEMU, by emulation: the same everywhere, also where there is no KVM or one that hangs.
# The console is on standard output. Ends with QEMU's exit status when the guest powers off or would boot again; 124 where it does
# neither in time (TIMEOUT, seconds); a guest that panics is 0 too, so it has to say that all went well. MEMORY: of the guest.
# NICS: so many network cards, on a hub of their own.
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
