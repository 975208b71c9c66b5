#!/bin/sh
# Sets up a separate apt in a new folder, for another Debian source than the system's. Prints its configuration file, which is
# APT_CONFIG for apt-get and apt-cache.
set -eu

dir=${1:?a folder}
source=${2:?a source: URI, suite and components}
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e "$keys" ] || {
    echo "apt.sh: no $keys here: install debian-archive-keyring" >&2
    exit 1
}
mkdir -p "$dir/lists/partial" "$dir/archives/partial"
: >"$dir/status"
echo "deb [signed-by=$keys] $source" >"$dir/sources.list"
cat >"$dir/apt.conf" <<CONF
Dir "$dir";
Dir::State "$dir";
Dir::State::Lists "$dir/lists";
Dir::State::status "$dir/status";
Dir::Cache "$dir";
Dir::Etc::SourceList "$dir/sources.list";
Dir::Etc::SourceParts "/dev/null";
Dir::Etc::Parts "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Architecture "amd64";
APT::Architectures "amd64";
APT::Sandbox::User "root";
// Of a mirror that lags behind, too.
Acquire::Check-Valid-Until "false";
Acquire::Languages "none";
CONF
APT_CONFIG="$dir/apt.conf" apt-get -q update >&2
echo "$dir/apt.conf"
