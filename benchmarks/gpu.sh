#!/usr/bin/env bash
# Everything that one GPU should tell of the training step, in parts that can be called one by one.
#
#     bash benchmarks/gpu.sh OUT [12x768 12x768_none 24x1024]
#
# Sizes in bfloat16 with dropout: tokens a second, and the share of PEAK_TFLOPS (989 for an H100) that the
# model's own operations reach, beside the peer under torch.compile with fused attention. 12x768_none computes
# nothing again in the backward pass. Aims on an H100: 0.79 and 0.28 million tokens a second (45 and 55 % of
# peak), 1.3 times the peer.
#
# Needs the extras `cuda` and `interop`. REHEARSAL=1, for a CPU, takes a hundredth of the rows, two rounds and
# one step a turn.
set -euo pipefail
out=$(realpath "${1:?a folder for the results}")
shift
cd "$(dirname "$0")/.."
mkdir -p "$out"
export PYTHONPATH=$PWD
export XLA_PYTHON_CLIENT_PREALLOCATE=false # engines share the memory
engines=(tlc_jax huggingface_compiled huggingface_gathered_compiled)
rows=(256 128) effort=(--rounds 7 --steps 10)
if [ "${REHEARSAL:-0}" = 1 ]; then
    rows=(2 1) effort=(--rounds 2 --steps 1)
fi

step() { # name of the part, size, what else
    python benchmarks/train_step.py --output "$out/train_step_$1.json" --sizes "$2" --dtype bfloat16 \
        --engines "${engines[@]}" --peak-tflops "${PEAK_TFLOPS:-989}" "${effort[@]}" "${@:3}"
}

[ $# -gt 0 ] || set -- 12x768 12x768_none 24x1024
for part in "$@"; do
    case $part in
    12x768) step "$part" "12x768x${rows[0]}" ;;
    12x768_none) step "$part" "12x768x${rows[0]}" --remat none ;;
    24x1024) engines=("${engines[@]:0:2}") && step "$part" "24x1024x${rows[1]}" ;;
    *) echo "there is no part $part: give 12x768, 12x768_none or 24x1024" >&2 && exit 2 ;;
    esac
done
