#!/bin/sh
# The wheel of this repository, the same bytes each time: build.sh WHEELS
set -eu
wheels=$1
: "${PYTHON:=python3}"
: "${SOURCE_DATE_EPOCH:=1767225600}"
export SOURCE_DATE_EPOCH
"$PYTHON" -m pip wheel --no-deps --wheel-dir "$wheels" .
