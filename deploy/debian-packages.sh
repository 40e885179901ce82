#!/bin/sh
# Install what deploy/debian-packages.txt lists and this machine lacks; says so where it cannot.
# No daemon of them is started: the tests start their own, on free ports.
set -eu
list="$(dirname "$0")/debian-packages.txt"
wanted=$(grep -v '^#' "$list" | tr '\n' ' ')
if ! command -v dpkg-query >/dev/null; then
    echo "not Debian: the tests need the programs of these packages on the PATH: $wanted" >&2
    exit 0
fi
missing=
for package in $wanted; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || true
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
install="apt-get install --yes --no-install-recommends$missing"
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the tests need packages that are missing:$missing" >&2
    echo "install them: sudo $install" >&2
    exit 1
fi
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
export DEBIAN_FRONTEND=noninteractive
lock="-o DPkg::Lock::Timeout=300"
# shellcheck disable=SC2086  # words on purpose
apt-get $lock update -q || echo "the package lists could not be updated; using those here" >&2
# shellcheck disable=SC2086
$install $lock -q
