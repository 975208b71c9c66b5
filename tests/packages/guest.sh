#!/bin/sh
# Runs in the guest as root: checks the service of the package from its start at boot to its removal.
set -u
trap 'systemctl poweroff -ff' EXIT

checks=0
# check WHAT COMMAND...: tries for some minutes, because under emulation the verifier alone takes many seconds.
check() {
    what=$1 began=$(date +%s)
    shift
    until "$@" >/tmp/out 2>&1; do
        [ $(($(date +%s) - began)) -lt 180 ] || fail "$what" "$@"
        sleep 0.2
    done
    checks=$((checks + 1))
    echo "ok: $what ($(($(date +%s) - began)) s)"
}
fail() {
    echo "FAIL: $*"
    cat /tmp/out
    systemctl status --no-pager --full edns
    journalctl --no-pager --unit edns | tail -n 40
    exit 1
}
shows() { [ "$(systemctl show --property "$1" --value edns)" = "$2" ]; }
answers() { [ "$(dig +short +tries=1 +timeout=1 @10.77.0.1 "$1")" = "$2" ]; }
passes() { dig +tries=1 +timeout=1 @10.77.0.1 "$1" | grep -q 'no servers could be reached'; }
logged() { journalctl --unit edns | grep -q "$1"; }
not() { ! "$@"; }
running() { systemctl show --property MainPID --value edns; }
# Another process than before runs.
replaced() { [ "$(running)" != "$pid" ] && systemctl -q is-active edns; }
# Longer than TimeoutStartSec below.
waits() { [ $(($(date +%s) - started)) -gt 65 ] && shows ActiveState activating; }
is_capable_of() { [ "$(sed -n "s/^CapPrm:\t//p" "/proc/$(running)/status")" = "$1" ]; }

echo 'guest.sh: starting'
# The service has waited for a default route since boot.
ip netns add world
ip link add eth0 type veth peer name eth1 netns world
ip link set eth0 up
ip addr add 10.77.0.2/24 dev eth0
ip -n world link set eth1 up
ip -n world addr add 10.77.0.1/24 dev eth1
ip route add default via 10.77.0.1
check 'the package starts it at boot, and it becomes ready' systemctl -q is-active edns
check 'it answers' answers apis.example.org 172.16.171.52
check 'it is nobody in particular' sh -c '[ "$(ps -C edns -o uid=)" -ge 61184 ]'
check 'it has CAP_NET_ADMIN, CAP_PERFMON and CAP_BPF' is_capable_of 000000c000001000
check 'commands reach it' edns stats
check 'it is sandboxed as docs/install.md says' systemd-analyze security --no-pager --threshold=18 edns
tail -n 1 /tmp/out

sed -i 's/172.16.171.52/172.16.171.53/' /etc/edns/domain.yaml
check 'an edit is live' answers apis.example.org 172.16.171.53
systemctl reload edns
check 'reload is SIGHUP' logged 'reloaded after SIGHUP'

pid=$(running)
kill -STOP "$pid"
check 'one that hangs answers no more' passes apis.example.org
check 'the watchdog puts another in its place' replaced
check 'that answers' answers apis.example.org 172.16.171.53
pid=$(running)
kill -KILL "$pid"
check 'one that was killed is started again' replaced
check 'and answers' answers apis.example.org 172.16.171.53

pid=$(running)
dpkg -i /edns.deb
check 'an upgrade starts the new version' replaced
check 'that answers, with the edited records' answers apis.example.org 172.16.171.53

systemctl stop edns
check 'stop is no failure' shows Result success
check 'everything passes' passes apis.example.org
check 'no filter is left' sh -c '[ -z "$(tc filter show dev eth0 egress)" ]'
check 'no socket is left' not test -e /run/edns

# A cluster whose API server is away for longer than a start may take, and a kubeconfig that belongs to root.
mkdir -p /etc/systemd/system/edns.service.d
cat >/etc/systemd/system/edns.service.d/test.conf <<'CONF'
[Service]
TimeoutStartSec=60s
LoadCredential=kubeconfig:/root/kubeconfig
CONF
cat >/root/kubeconfig <<'CONF'
apiVersion: v1
kind: Config
current-context: edns
clusters: [{name: edns, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: edns, user: {token: secret}}]
contexts: [{name: edns, context: {cluster: edns, user: edns}}]
CONF
chmod 600 /root/kubeconfig
cp /etc/edns/config.yaml /root/config.yaml
sed -i 's/^EnableK8S:.*/EnableK8S: true\nKubeConfig: \/run\/credentials\/edns.service\/kubeconfig/' /etc/edns/config.yaml
systemctl daemon-reload
started=$(date +%s)
systemctl start --no-block edns
check 'it waits for the API server' logged 'waiting for the initial sync'
pid=$(running)
check 'for longer than a start may take' waits
check 'in the same process' shows MainPID "$pid"
check 'and answers for static names' answers apis.example.org 172.16.171.53
cp /root/config.yaml /etc/edns/config.yaml
systemctl stop edns
rm -r /etc/systemd/system/edns.service.d

check 'the man page tells of all commands' sh -c 'zcat /usr/share/man/man8/edns.8.gz | grep -c -E "^\\.SH.*(LOOKUP|PAUSE)" | grep -qx 2'
check 'completions are there' bash -c 'source /usr/share/bash-completion/completions/edns && complete -p edns'
check 'the package goes' dpkg --purge edns
check 'with all that it brought' sh -c '! find /etc /usr /lib /run /var -path "*/edns*" -not -path "/var/log/*" | grep .'
echo "PASS: $checks checks"
