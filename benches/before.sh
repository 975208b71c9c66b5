#!/usr/bin/env bash
# Compares the daemon of this tree with that of another commit, and that one with itself: before.sh COMMIT [--quick]. Prints a
# table in Markdown. Needs root and what scripts/setup.sh installs.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=${1:?a commit}
before=$(scripts/edns-at.sh "$commit")
shift
echo "Before: $(git -c safe.directory='*' log -1 --format='%h (%s)' "$commit"). CPU:$(sed -n 's/^model name[^:]*://p' /proc/cpuinfo |
    head -1), $(nproc) cores. Kernel: $(uname -sr)."
echo
scripts/cargo.sh bench --locked --bench before -- --before="$before" "$@"
