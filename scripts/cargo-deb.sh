#!/bin/sh
# cargo-deb, which is built once, in a minute or two, into the user's cache where it is not installed.
set -eu
cd "$(dirname "$0")/.."

version=3.8.0
dir=${XDG_CACHE_HOME:-$HOME/.cache}/edns/cargo-deb
PATH=$PATH:$dir/bin
command -v cargo-deb >/dev/null || {
    echo "cargo-deb.sh: building cargo-deb $version" >&2
    # With the system's xz instead of one of its own.
    CARGO_TARGET_DIR=$dir/target scripts/cargo.sh install --quiet --locked --no-default-features --root "$dir" \
        "cargo-deb@$version"
    rm -rf "$dir/target"
}
export PATH
scripts/cargo.sh deb "$@"
