#!/bin/sh
# The Dockerfile's cpu target without a container engine: each stage's lines in a clean Debian root,
# up to an answer given by the last stage with a read-only root, as 10001. Needs root, debootstrap and
# about 10 minutes; PIP_* variables of the caller reach pip, the folder WHEELS is mounted for it, and MIRROR is debootstrap's, where set.
#   deploy/image/prove.sh [FOLDER]
set -eu
cd "$(dirname "$0")/../.."
work=${1:-$(mktemp -d)}
: "${WHEELS:=/nonexistent}"
base=$work/python build=$work/build run=$work/cpu

stage() { printf '\n== %s (%s s)\n' "$1" "$(($(date +%s) - started))"; }
inside() { root=$1; shift; chroot "$root" /usr/bin/env -i PATH=/usr/bin:/bin:/usr/sbin:/sbin HOME=/tmp \
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_FIND_LINKS=/wheels-of-caller \
    "$@"; }
started=$(date +%s)

stage "FROM debian AS python"
[ -d "$base" ] || debootstrap --variant=minbase --include=python3,ca-certificates bookworm "$base" ${MIRROR:-} >/dev/null
cp -a /etc/ssl/certs/. "$base/etc/ssl/certs/"

stage "FROM python AS build"
rm -rf "$build"; cp -a "$base" "$build"
cp /etc/resolv.conf "$build/etc/resolv.conf"
[ -e /etc/hosts ] && cp /etc/hosts "$build/etc/hosts"
inside "$build" apt-get install --yes --no-install-recommends -qq python3-venv python3-pip >/dev/null
mkdir -p "$build/source" "$build/wheels-of-caller"
if [ -d "$WHEELS" ]; then cp "$WHEELS"/*.whl "$build/wheels-of-caller/"; fi
git ls-files -z pyproject.toml README.md LICENSE constraints.txt probes service testbed deploy/image |
    tar -c --null -T - | tar -x -C "$build/source"
inside "$build" sh -c "cd /source && deploy/image/build.sh /wheels constraints.txt"

stage "FROM build AS build-cpu"
inside "$build" sh -c "cd /source && deploy/image/install.sh /wheels /opt/vlm-gate transformers,train constraints.txt"
inside "$build" sh -c "cd /source && deploy/image/sbom.sh /opt/vlm-gate constraints.txt /opt/vlm-gate/sbom.cdx.json"

stage "FROM runtime AS cpu"
rm -rf "$run"; cp -a "$base" "$run"
inside "$run" useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin gate
inside "$run" install -d -o gate -g gate /state /cache
mkdir -p "$run/opt/image"
cp deploy/image/healthcheck.py deploy/image/check.py "$run/opt/image/"
cp -a "$build/opt/vlm-gate" "$run/opt/vlm-gate"
inside "$run" PATH=/opt/vlm-gate/bin:/usr/bin:/bin python /opt/image/check.py /opt/vlm-gate/sbom.cdx.json

stage "ENTRYPOINT vlm-gate, CMD serve: read-only root, as 10001"
port=${PORT:-18080}
cat >"$work/serve.sh" <<EOF
set -eu
mount --bind "$run" "$run"
mount -o remount,ro,bind "$run"
for folder in tmp state cache; do mount -t tmpfs -o mode=1777 tmpfs "$run/\$folder"; done
mount -t proc proc "$run/proc"
mount --bind /dev "$run/dev"
go() { chroot --userspec=10001:10001 "$run" /usr/bin/env -i PATH=/opt/vlm-gate/bin:/usr/bin:/bin HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 HF_HOME=/cache/hub XDG_CACHE_HOME=/cache VLM_GATE_PORT=$port \
    VLM_GATE_STATE_FOLDER=/state "\$@"; }
go vlm-gate serve 2>"$work/log" &
server=\$!
trap 'kill \$server; wait \$server || true' EXIT
until grep -q '"event": "ready"' "$work/log"; do kill -0 \$server; sleep 0.5; done
go python /opt/image/healthcheck.py
if go touch /opt/written 2>/dev/null; then echo "the root can be written" >&2; exit 1; fi
go python -c "from PIL import Image; Image.new('RGB', (96, 96), 'gray').save('/tmp/plate.png')"
go vlm-gate ask /tmp/plate.png "Is there a dent on the housing?" --url http://127.0.0.1:$port
EOF
unshare --mount --pid --fork --kill-child sh "$work/serve.sh"  # whatever it started ends with it
stage "proven; the roots lie in $work"
du -sh "$run" | cut -f1
