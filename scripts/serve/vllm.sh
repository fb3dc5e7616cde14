#!/bin/sh
# Serves an exported composition with vLLM, under the name that `flexmesh start --upstream` asks for.
# Usage: scripts/serve/vllm.sh EXPORT [options of vllm serve, such as --tensor-parallel-size 4]
# EXPORT is the folder that `flexmesh compose --export EXPORT` wrote. VLLM_API_KEY sets a key for the server.
set -eu
if [ $# -lt 1 ] || [ ! -f "$1/composition.json" ]; then
  echo "usage: $0 EXPORT [options of vllm serve]; EXPORT is a folder that flexmesh compose --export wrote" >&2
  exit 2
fi
export=$1
shift
if ! command -v vllm > /dev/null; then
  echo "vllm is not installed; run pip install vllm on a machine with a GPU" >&2
  exit 1
fi
name=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["composition"])' "$export/composition.json")
# The node sends token ids and every sampling setting, so the defaults of the model must not apply.
exec vllm serve "$export" --served-model-name "$name" --generation-config vllm --host 127.0.0.1 --port 8000 "$@"
