#!/usr/bin/env bash
# Runs the benchmarks and writes RESULTS.md with its charts, and the figures in the README. With --quick: few rounds, and
# nothing is written. Needs root and what scripts/setup.sh and scripts/k8s-tools.sh install. All traffic stays in network
# namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
for tool in ip nsenter dig dnsperf nsd knotd unbound dnsmasq; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if ((${#missing[@]})); then
    echo "run.sh: missing: ${missing[*]}; scripts/setup.sh installs them" >&2
    exit 1
fi
if ((EUID)); then
    echo "run.sh: needs root: it creates network namespaces and loads BPF programs" >&2
    exit 1
fi
EDNS_K8S_TOOLS=$(scripts/k8s-tools.sh)
export EDNS_K8S_TOOLS
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
measure() {
    scripts/cargo.sh bench --locked --bench "$@"
}
if [[ ${1:-} == --quick ]]; then
    measure datapath -- --quick
    measure servers -- --quick
    measure before -- --quick
    exit
fi
measure datapath | tee "$out/datapath.md"
measure servers -- --out "$out" | tee "$out/servers.md"

coredns=$("$EDNS_K8S_TOOLS/coredns" -version | sed -n '1s/-/ /p')
{
    echo "# Results"
    echo
    echo "Written by \`make bench\`; medians of rounds in which all contenders took turns. The method is in"
    echo "[README.md](README.md)."
    echo
    echo "- date: $(date -u +%F)"
    echo "- CPU: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores"
    echo "- kernel: $(uname -sr)"
    echo "- traffic: $(dnsperf -h 2>&1 | sed -n 's/^Version /dnsperf /p'), 8 sockets, at most 200 queries outstanding"
    echo "- servers: $coredns, NSD $(nsd -v 2>&1 | sed -n 's/^NSD version //p'), Knot DNS $(knotd --version | sed 's/.*version //')," \
        "Unbound $(unbound -V | sed -n '1s/Version //p'), dnsmasq $(dnsmasq --version | sed -n '1s/^Dnsmasq version \([^ ]*\).*/\1/p')"
    cat "$out/servers.md" "$out/datapath.md"
} >benches/RESULTS.md
cp "$out"/*.svg benches/
# Between the marks in the README.
sed -i '1i ![p99 latency, CPU per query and queries per second of eDNS and of DNS servers](benches/servers.svg)\n' "$out/headline.txt"
sed -i -e "/<!-- figures: /r $out/headline.txt" -e '/<!-- figures: /,/<!-- end -->/{/<!-- /!d}' README.md
echo "run.sh: wrote benches/RESULTS.md, its plots, and the figures in README.md" >&2
