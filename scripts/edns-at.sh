#!/usr/bin/env bash
# Builds the daemon of a commit, once, in the user's cache, and prints its path: edns-at.sh COMMIT.
set -euo pipefail
cd "$(dirname "$0")/.."
commit=$(git -c safe.directory='*' rev-parse --verify --quiet "${1:?a commit}^{commit}") || {
    echo "edns-at.sh: no commit $1 here" >&2
    exit 1
}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/edns/before
edns=$cache/edns-$commit
mkdir -p "$cache"
if [[ ! -x $edns ]]; then
    exec 9>"$cache/lock"
    flock 9
    # One folder for all commits, so that their dependencies are built once. Cargo compares times, so the files get new ones.
    rm -rf "$cache/src"
    mkdir "$cache/src"
    git -c safe.directory='*' archive "$commit" | tar -xm -C "$cache/src"
    CARGO_TARGET_DIR=$cache/target "$cache/src/scripts/cargo.sh" build --release --locked --bin edns 9>&- >&2
    cp "$cache/target/release/edns" "$edns.new"
    mv "$edns.new" "$edns"
    rm -rf "$cache/src"
    exec 9>&-
fi
echo "$edns"
