#!/bin/sh
# Finds or builds etcd, kube-apiserver, kubectl and CoreDNS, and prints the folder that holds them. They are built once, in
# some ten minutes, into the user's cache. KUBEBUILDER_ASSETS names a folder that has the first three already.
set -eu

coredns=v1.15.0
dir=${XDG_CACHE_HOME:-$HOME/.cache}/edns/k8s
mkdir -p "$dir"

for tool in etcd kube-apiserver kubectl; do
    if [ -n "${KUBEBUILDER_ASSETS:-}" ] && [ -x "$KUBEBUILDER_ASSETS/$tool" ]; then
        ln -sf "$KUBEBUILDER_ASSETS/$tool" "$dir/$tool"
    fi
done
if ! command -v go >/dev/null; then
    PATH=$PATH:/usr/local/go/bin
fi
command -v go >/dev/null || [ -x "$dir/coredns" ] || {
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
build kubectl k8s.io/kubernetes/cmd/kubectl
if [ ! -x "$dir/coredns" ]; then
    echo "k8s-tools: building coredns" >&2
    GOBIN=$dir go install -trimpath -ldflags '-s -w' "github.com/coredns/coredns@$coredns"
fi
echo "$dir"
