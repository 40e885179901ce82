#!/bin/sh
# The wheel of the sources here, the same bytes each time: build.sh WHEELS CONSTRAINTS
# The constraints hold for what builds it, too.
set -eu
wheels=$1
PIP_CONSTRAINT=$(realpath "$2")
: "${PYTHON:=python3}"
: "${SOURCE_DATE_EPOCH:=1767225600}"
export PIP_CONSTRAINT SOURCE_DATE_EPOCH
"$PYTHON" -m pip wheel --disable-pip-version-check --no-deps --wheel-dir "$wheels" .
