#!/usr/bin/env bash
# Compares the daemon of this tree with that of another commit, and that one with itself: before.sh COMMIT [--quick]. Prints a
# table in Markdown. Needs root and what scripts/setup.sh installs. The other daemon is built once, in the user's cache.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git -c safe.directory='*' rev-parse --verify --quiet "${1:?a commit}^{commit}") || {
    echo "before.sh: no commit $1 here" >&2
    exit 1
}
shift
cache=${XDG_CACHE_HOME:-$HOME/.cache}/edns/before
before=$cache/edns-$commit
mkdir -p "$cache"
if [[ ! -x $before ]]; then
    exec 9>"$cache/lock"
    flock 9
    # The same folder for every commit, so that dependencies are built once. tar sets new times (-m), because cargo rebuilds
    # by time.
    rm -rf "$cache/src"
    mkdir "$cache/src"
    git -c safe.directory='*' archive "$commit" | tar -xm -C "$cache/src"
    CARGO_TARGET_DIR=$cache/target "$cache/src/scripts/cargo.sh" build --release --locked --bin edns 9>&- >&2
    cp "$cache/target/release/edns" "$before.new"
    mv "$before.new" "$before"
    rm -rf "$cache/src"
    exec 9>&-
fi
echo "Before: $(git -c safe.directory='*' log -1 --format='%h (%s)' "$commit"). CPU:$(sed -n 's/^model name[^:]*://p' /proc/cpuinfo |
    head -1), $(nproc) cores. Kernel: $(uname -sr)."
echo
scripts/cargo.sh bench --locked --bench before -- --before="$before" "$@"
