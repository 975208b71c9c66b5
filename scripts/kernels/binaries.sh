#!/bin/sh
# Copies programs of this machine and their libraries into a root file system, at the same paths.
set -eu

root=${1:?a root file system}
shift
for program in "$@"; do
    path=$(command -v "$program") || {
        echo "binaries.sh: no $program here: \`scripts/setup.sh kernels\` installs it on Debian" >&2
        exit 1
    }
    # With a merged /usr both paths are the same file.
    for file in "$path" $(ldd "$path" 2>/dev/null | grep -oE '/[^ )]+'); do
        [ -e "$root$file" ] || install -D "$(readlink -f "$file")" "$root$file"
    done
done
