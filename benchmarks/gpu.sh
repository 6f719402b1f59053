#!/usr/bin/env bash
# Everything that one GPU should tell, in parts that can be called one by one.
#
#     bash benchmarks/gpu.sh OUT [doctor resumed step_times 12x768 12x768_none 24x1024]
#
# doctor: what `doctor` says of the machine. resumed: a run that is killed half-way and resumed, beside one that
# is not, under deterministic operations: their metrics must be equal bit for bit. step_times: seconds of an
# update of encoders of four sizes in bfloat16 (paper 2.2). The others need the extra `interop`: sizes in bfloat16
# with dropout, tokens a second, and the share of PEAK_TFLOPS (989 for an H100) that the model's own operations
# reach, beside the peer under torch.compile with fused attention. 12x768_none computes nothing again in the
# backward pass. Aims on an H100: 0.79 and 0.28 million tokens a second (45 and 55 % of peak), 1.3 times the peer.
#
# Needs the extra `cuda`. REHEARSAL=1, for a CPU, takes a hundredth of the rows, two rounds and one step a turn,
# and small sizes.
set -euo pipefail
out=$(realpath "${1:?a folder for the results}")
shift
cd "$(dirname "$0")/.."
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export XLA_PYTHON_CLIENT_PREALLOCATE=false # engines share the memory
engines=(tlc_jax huggingface_compiled huggingface_gathered_compiled)
rows=(256 128) effort=(--rounds 7 --steps 10) sizes=(4x256 6x512 12x768 24x1024) batch=512
if [ "${REHEARSAL:-0}" = 1 ]; then
    rows=(2 1) effort=(--rounds 2 --steps 1) sizes=(1x64 2x64) batch=8
fi

step() { # name of the part, size, what else
    python benchmarks/train_step.py --output "$out/train_step_$1.json" --sizes "$2" --dtype bfloat16 \
        --engines "${engines[@]}" --peak-tflops "${PEAK_TFLOPS:-989}" "${effort[@]}" "${@:3}"
}

step_times() {
    for size in "${sizes[@]}"; do
        python -m tlc_jax.bench step-time --config pretrain --data.name docs --data.cache-dir "$out/cache" \
            --model.vocab-size 8192 --model.num-layers "${size%x*}" --model.hidden-size "${size#*x}" \
            --batch-size "$batch" --micro-batch "$batch" --output "$out/step_time_$size.json"
    done
}

resumed() {
    local train=(python -m tlc_jax.train --config quickstart --data.cache-dir "$out/cache" --budget.steps 200
        --budget.training-seconds None --schedule.follows steps --checkpoint.every-steps 50)
    export XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_deterministic_ops=true"
    "${train[@]}" --workdir "$out/unbroken"
    "${train[@]}" --workdir "$out/broken" &
    until compgen -G "$out/broken/checkpoints/*100*" > /dev/null; do sleep 0.05; done
    kill -9 $!
    wait $! || true
    "${train[@]}" --workdir "$out/broken"
    python - "$out" <<'PYTHON'
import json, pathlib, sys
out = pathlib.Path(sys.argv[1])
clocks = ("seconds", "per_second", "time", "memory", "bytes")
def values(run):
    lines = map(json.loads, (out / run / "metrics.jsonl").read_text("utf-8").splitlines())
    return [{k: v for k, v in line.items() if not any(c in k for c in clocks)} for line in lines]
one, other = values("unbroken"), values("broken")
differing = sorted({k for a, b in zip(one, other) for k in a.keys() | b.keys() if a.get(k) != b.get(k)})
result = {"lines": [len(one), len(other)], "equal": one == other, "differing": differing}
(out / "resumed.json").write_text(json.dumps(result) + "\n")
print("resumed:", result)
PYTHON
}

[ $# -gt 0 ] || set -- doctor resumed step_times 12x768 12x768_none 24x1024
for part in "$@"; do
    case $part in
    doctor) python -m tlc_jax.doctor | tee "$out/doctor.txt" ;;
    resumed) (resumed) ;;
    step_times) step_times ;;
    12x768) step "$part" "12x768x${rows[0]}" ;;
    12x768_none) step "$part" "12x768x${rows[0]}" --remat none ;;
    24x1024) engines=("${engines[@]:0:2}") && step "$part" "24x1024x${rows[1]}" ;;
    *) echo "there is no part $part: see the first lines of this file" >&2 && exit 2 ;;
    esac
done
