#!/usr/bin/env bash
# The pinned uv. It reads its own configuration; where that names no index, the one pip is configured for holds for uv
# too, so that a machine which is set up for pip alone needs nothing more.
set -euo pipefail
tools="${VENV:-.venv}/tools/bin"
index="${PIP_INDEX_URL:-$("$tools/python" -m pip config get global.index-url 2>/dev/null || true)}"
if [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ] && [ -n "$index" ]; then export UV_DEFAULT_INDEX="$index"; fi
# Where Python may not keep what it compiles (containers say so), it is compiled once here: an import of Airflow or torch
# costs seconds of CPU otherwise, in every process.
if [ -n "${PYTHONDONTWRITEBYTECODE:-}" ]; then export UV_COMPILE_BYTECODE=1; fi
export UV_NO_PROGRESS=1
unset VIRTUAL_ENV CONDA_PREFIX
exec "$tools/uv" "$@"
