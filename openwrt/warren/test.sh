#!/bin/sh
# What the feed's CI runs on each package, on a machine of its kind: test.sh PACKAGE VERSION
set -eu

case $1 in
warren | warren-minimal) ;;
*) exit 0 ;;
esac

warren --version | grep -F "${2%-r*}"

# The package's own settings are ones that it takes.
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
printf 'room lobby\nstate-dir %s\nlog-format plain\nno-stdin\nno-mdns\n' "$dir" >"$dir/warren.conf"
warren run --config "$dir/warren.conf" --check

# It makes an identity, and keeps it.
first=$(warren id --state-dir "$dir/state")
[ -n "$first" ] && [ "$(warren id --state-dir "$dir/state")" = "$first" ]
