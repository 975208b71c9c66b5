#!/usr/bin/env bash
# Measures and writes benches/RESULTS.md. With --quick: few rounds, under three minutes, and nothing written. Needs root, dnsperf, ip,
# and for the comparison nsd, knot and dnsmasq; all of its traffic stays in network namespaces of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
missing=()
for tool in ip nsenter dnsperf nsd knotd dnsmasq; do
    command -v "$tool" >/dev/null || missing+=("$tool")
done
if ((${#missing[@]})); then
    echo "run.sh: not here: ${missing[*]}; on Debian: apt-get install iproute2 util-linux dnsperf nsd knot dnsmasq-base" >&2
    exit 1
fi
if ((EUID)); then
    echo "run.sh: needs root: it makes network namespaces and loads BPF programs" >&2
    exit 1
fi
command=(scripts/cargo.sh bench --locked --bench datapath -- "$@")
if [[ ${1:-} == --quick ]]; then
    exec "${command[@]}"
fi
out=benches/RESULTS.md
tables=$(mktemp)
trap 'rm -f "$tables"' EXIT
"${command[@]}" | tee "$tables"
{
    echo "# Results"
    echo
    echo "Written by \`make bench\`; medians of rounds in which all contenders took turns. What is measured and"
    echo "against what: \`benches/datapath/main.rs\`, \`benches/baseline.bpf.c\`."
    echo
    echo "- date: $(date -u +%F)"
    echo "- CPU: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores"
    echo "- kernel: $(uname -sr)"
    echo "- command: \`${command[*]}\`"
    echo "- traffic: $(dnsperf -h 2>&1 | sed -n 's/^Version /dnsperf /p'), 8 sockets, 200 queries outstanding, names at random"
    echo "- servers: NSD $(nsd -v 2>&1 | sed -n 's/^NSD version //p'), $(knotd --version | sed 's/.*(\(.*\)), version/\1/'), $(dnsmasq --version | sed -n '1s/^\(Dnsmasq\) version \([^ ]*\).*/\1 \2/p')"
    cat "$tables"
} >"$out"
echo "run.sh: wrote $out" >&2
