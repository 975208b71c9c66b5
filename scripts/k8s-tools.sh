#!/bin/sh
# Finds or builds etcd, kube-apiserver, kube-controller-manager, kubectl, CoreDNS and kwok, and prints the folder that
# contains them. They are built once, in about fifteen minutes, in the user's cache. KUBEBUILDER_ASSETS may name a folder that
# has some of them.
set -eu

coredns=v1.15.0
kwok=v0.8.0
dir=${XDG_CACHE_HOME:-$HOME/.cache}/edns/k8s
mkdir -p "$dir"

for tool in etcd kube-apiserver kube-controller-manager kubectl; do
    if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$tool" ]; then
        ln -sf "$KUBEBUILDER_ASSETS/$tool" "$dir/$tool"
    fi
done
command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || [ -e "$dir/kwok.yaml" ] || {
    echo "k8s-tools: Go 1.26 or newer is needed to build them: https://go.dev/dl" >&2
    exit 1
}

cd "$(dirname "$0")/../tests/k8s/tools"
version=$(sed -n 's/^.*k8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' go.mod | head -n 1)
minor=$(echo "$version" | cut -d. -f2)
v=k8s.io/component-base/version
build() {
    [ -x "$dir/$1" ] && return
    echo "k8s-tools: building $1" >&2
    go build -trimpath -ldflags "-s -w -X $v.gitVersion=$version -X $v.gitMajor=1 -X $v.gitMinor=$minor" -o "$dir/$1" "$2"
}
build etcd go.etcd.io/etcd/server/v3
build kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver
build kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager
build kubectl k8s.io/kubernetes/cmd/kubectl
install() {
    [ -x "$dir/$1" ] && return
    echo "k8s-tools: building $1" >&2
    GOBIN=$dir go install -trimpath -ldflags '-s -w' "$2"
}
install coredns "github.com/coredns/coredns@$coredns"
install kwok "sigs.k8s.io/kwok/cmd/kwok@$kwok"
# kwok's stages of nodes and pods: they are ready at once.
if [ ! -e "$dir/kwok.yaml" ]; then
    stages=$(go env GOMODCACHE)/sigs.k8s.io/kwok@$kwok/kustomize/stage
    for stage in "$stages"/node/fast/node-*.yaml "$stages"/node/heartbeat/node-*.yaml "$stages"/pod/fast/pod-*.yaml; do
        cat "$stage"
        printf '\n---\n'
    done >"$dir/kwok.yaml.new"
    mv "$dir/kwok.yaml.new" "$dir/kwok.yaml"
fi
echo "$dir"
