#!/usr/bin/env bash
# Train with several processes: one per GPU, or on CPUs where there is no GPU.
#   tools/dist_train.sh CONFIG PROCESSES [options of train.py]
# Several machines: NNODES, NODE_RANK, MASTER_ADDR, PORT. Another interpreter: PYTHON.
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES [options of train.py]" >&2
    exit 2
fi
CONFIG=$1
PROCESSES=$2
HERE=$(cd "$(dirname "$0")" && pwd)

PYTHONPATH="$HERE/..${PYTHONPATH:+:$PYTHONPATH}" \
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" \
    --node_rank="${NODE_RANK:-0}" \
    --master_addr="${MASTER_ADDR:-127.0.0.1}" \
    --master_port="${PORT:-29500}" \
    --nproc_per_node="$PROCESSES" \
    "$HERE/train.py" "$CONFIG" --launcher pytorch "${@:3}"
