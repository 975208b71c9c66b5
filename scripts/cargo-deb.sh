#!/bin/sh
# Runs cargo-deb. If it is not installed, it is built once, in a minute or two, in the user's cache.
set -eu
cd "$(dirname "$0")/.."

version=3.8.0
dir=${XDG_CACHE_HOME:-$HOME/.cache}/edns/cargo-deb
PATH=$PATH:$dir/bin
command -v cargo-deb >/dev/null || {
    echo "cargo-deb.sh: building cargo-deb $version" >&2
    # With the system's xz library, not a bundled one.
    CARGO_TARGET_DIR=$dir/target scripts/cargo.sh install --quiet --locked --no-default-features --root "$dir" \
        "cargo-deb@$version"
    rm -rf "$dir/target"
}
export PATH
scripts/cargo.sh deb "$@"
