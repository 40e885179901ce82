#!/bin/sh
# The bill of materials of an environment, CycloneDX 1.6 as JSON: sbom.sh TARGET CONSTRAINTS OUT
# The tool that writes it stays in an environment that is thrown away.
set -eu
target=$1 constraints=$2 out=$3
: "${PYTHON:=python3}"
tool=$(mktemp -d)
trap 'rm -rf "$tool"' EXIT
"$PYTHON" -m venv "$tool/venv"
"$tool/venv/bin/pip" install --quiet --no-cache-dir --disable-pip-version-check \
    --constraint "$constraints" cyclonedx-bom
"$tool/venv/bin/cyclonedx-py" environment --output-reproducible --spec-version 1.6 \
    --output-file "$out" "$target/bin/python"
