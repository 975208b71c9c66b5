#!/usr/bin/env bash
# Measures the cost of a large cluster and writes scale.md. Needs root and what scripts/setup.sh and scripts/k8s-tools.sh
# install.
set -euo pipefail
cd "$(dirname "$0")/.."
EDNS_K8S_TOOLS=$(scripts/k8s-tools.sh)
export EDNS_K8S_TOOLS
out=$(mktemp)
trap 'rm -f "$out"' EXIT
{
    cat <<'EOF'
# A large cluster

Written by `make bench-scale`. Services with an address and a port, each with a slice of one endpoint; the daemon in a release
build, medians of three starts. "Fake" is an API server of the benchmark that sends the same pages. "Resident" is the memory of the
process including mapped maps; "peak" is its maximum while lists were read. Changed slices get another address each time; their
latency is from a watch event to the maps, by the bounds of the daemon's histogram.

EOF
    echo "- date: $(date -u +%F)"
    echo "- CPU: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores, shared with the API server"
    echo "- kernel: $(uname -sr)"
    echo
    scripts/cargo.sh bench --locked --bench scale
} >"$out"
cat "$out" >benches/scale.md
echo "scale.sh: wrote benches/scale.md" >&2
