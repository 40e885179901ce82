#!/bin/sh
# The service in a virtual environment of its own: install.sh WHEELS TARGET EXTRAS CONSTRAINTS
# EXTRAS is "transformers,train" or "vllm,train". PIP_OPTIONS goes to pip; its index comes from PIP_INDEX_URL.
set -eu
wheels=$1 target=$2 extras=$3 constraints=$4
: "${PYTHON:=python3}"
wheel=$(ls "$wheels"/vlm_gate-*.whl)
"$PYTHON" -m venv "$target"
# shellcheck disable=SC2086  # words on purpose
"$target/bin/pip" install --no-cache-dir --no-compile --disable-pip-version-check --constraint "$constraints" \
    ${PIP_OPTIONS:-} "$wheel[$extras]" ${EXTRA_PACKAGES:-}
# Compiled by content, not by time, for the same bytes again; some packages carry other Pythons' files.
"$target/bin/python" -m compileall -qq --invalidation-mode unchecked-hash "$target" || true
