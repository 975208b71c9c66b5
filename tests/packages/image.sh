#!/bin/sh
# Builds the Dockerfile and queries a daemon that runs from the image's root file system, with the privileges that
# docs/install.md gives it, in network namespaces of its own. Needs no registry: the base image of the builder is this
# machine's /usr and Rust. Needs root. What can be reused is in the user's cache.
set -eu
cd "$(dirname "$0")/../.."

cache=${XDG_CACHE_HOME:-$HOME/.cache}/edns/image
mkdir -p "$cache/tmp"
work=$(mktemp -d "$cache/work.XXXXXX")
host=edns-image-$$-host pod=edns-image-$$-pod
cleanup() {
    [ -z "${daemon:-}" ] || kill "$daemon" 2>/dev/null || true
    ip netns del "$host" 2>/dev/null || true
    ip netns del "$pod" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT
fail() {
    echo "image.sh: $*" >&2
    cat "$work/log" >&2 2>/dev/null || true
    exit 1
}
# Cache mounts are in TMPDIR.
buildah() {
    TMPDIR=$cache/tmp command buildah --root "$work/store" --runroot "$work/run" --storage-driver vfs "$@"
}

# /usr is merged, so the other folders are links into it.
mkdir -p "$work/base/usr/local" "$work/base/tmp"
for link in /bin /sbin /lib*; do
    cp -d "$link" "$work/base"
done
rust=$(scripts/cargo.sh --version >/dev/null && rustc --print sysroot)
set -- --volume "$rust:/usr/local/rust:ro" --volume /etc/alternatives:/etc/alternatives:ro --volume /etc/ssl:/etc/ssl:ro \
    --volume /var/lib/dpkg:/var/lib/dpkg:ro
for folder in /usr/*; do
    [ "$folder" = /usr/local ] || [ -L "$folder" ] || set -- "$@" --volume "$folder:$folder:ro"
done
cat >"$work/base.Dockerfile" <<'DOCKERFILE'
FROM scratch
COPY base /
ENV CARGO_HOME=/usr/local/cargo PATH=/usr/local/rust/bin:/usr/sbin:/usr/bin:/sbin:/bin
DOCKERFILE
buildah bud --quiet --tag builder --file "$work/base.Dockerfile" "$work" >/dev/null
buildah bud --isolation chroot --build-arg BUILDER=localhost/builder --tag edns "$@" .
container=$(buildah from localhost/edns)
root=$(buildah mount "$container")
echo "image.sh: $(du -sm "$root" | cut -f 1) MiB: $(find "$root" -type f | wc -l) files"
[ "$(buildah inspect --format '{{.OCIv1.Config.Entrypoint}}' "$container")" = '[/usr/sbin/edns]' ] || fail "entry point"

ip netns add "$host"
ip netns add "$pod"
ip -n "$host" link add veth0 type veth peer name eth0 netns "$pod"
ip -n "$host" addr add 10.77.0.1/24 dev veth0
ip -n "$pod" addr add 10.77.0.2/24 dev eth0
ip -n "$host" link set veth0 up
ip -n "$pod" link set eth0 up
printf 'Ifname: veth0\nNetworkDirection: Ingress\n' >"$root/etc/edns/config.yaml"

# As `docker run --read-only --tmpfs /run --network host --cap-drop ALL --cap-add …` does.
cat >"$work/start" <<'START'
mount --bind "$1" "$1"
mount -t tmpfs tmpfs "$1/run"
mount --rbind /sys "$1/sys"
mount -t proc proc "$1/proc"
mount -o remount,bind,ro "$1"
exec setpriv --no-new-privs --inh-caps -all --bounding-set -all,+sys_chroot,+bpf,+net_admin,+perfmon \
    chroot "$1" /usr/sbin/edns
START
mkdir -p "$root/run" "$root/sys" "$root/proc"
nsenter --net="/run/netns/$host" unshare -m sh -e "$work/start" "$root" 2>"$work/log" &
daemon=$!
for _ in $(seq 100); do
    grep -q ' ready$' "$work/log" && break
    kill -0 "$daemon" 2>/dev/null || fail "the daemon ended"
    sleep 0.1
done
answer=$(nsenter --net="/run/netns/$pod" dig +short +tries=1 +timeout=2 @10.77.0.1 apis.example.org) || true
[ "$answer" = 172.16.171.52 ] || fail "the answer is: $answer"
# As `docker exec` does.
nsenter --target "$daemon" --mount --root /usr/sbin/edns stats >/dev/null || fail "stats: exit status $?"
kill "$daemon"
wait "$daemon" || fail "exit status $?"
daemon=
echo "image.sh: the image answers"
