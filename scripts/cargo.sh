#!/bin/sh
# Runs cargo, also under sudo: with the user's toolchain, and without leaving files of root in the user's clone.
set -u
cd "$(dirname "$0")/.." || exit 1

user=${SUDO_USER:-}
if [ "$(id -u)" = 0 ] && [ -n "$user" ] && [ "$user" != root ]; then
    home=$(getent passwd "$user" | cut -d: -f6)
    if [ -d "$home/.cargo" ]; then
        export CARGO_HOME="${CARGO_HOME:-$home/.cargo}" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
        PATH=$CARGO_HOME/bin:$PATH
        trap 'chown -R "$user:" "${CARGO_TARGET_DIR:-target}" "$CARGO_HOME/registry" edns 2>/dev/null' EXIT
    fi
fi
command -v cargo >/dev/null || PATH=$HOME/.cargo/bin:$PATH
cargo "$@"
