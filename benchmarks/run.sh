#!/usr/bin/env bash
# The speeds of updates and translations beside their peers, and the memory of compressed models: one table. Beside it pages of
# their own: where the time goes (profiles), long inputs, and compressed models on a TPU.
#
#     bash benchmarks/run.sh OUT [train_step translation translate packed_speed packed_logits memory_at_use table
#                                 profiles compiler_options attention long_input packed_on_tpu start]
#
# Needs the extras `interop` and `tpu` and a machine on which nothing else runs: on 2 CPU cores an hour for the first line and one for
# the second, 4 GB of memory (compiler_options: 20 GB). Engines take turns on the same cores, seven rounds.
# translation: trains translate_small for ten minutes on the embedded message catalogues; with RUN=W@last5 and SENTENCES=FILE your
# run translates the lines of your file, and with BEFORE="CHECKOUT RUN" an earlier checkout of this package takes turns with a
# run that it can read. Paths in variables are absolute.
# table: writes OUT/speed.md from what the others have written; a part that was interrupted is called again.
# compiler_options: with JAX=PYTHON, the interpreter of an environment with another jax, that takes turns too.
# long_input: 200,000 lines, those of LONG=FILE or the sentences a thousand times, whose lengths never change.
# memory_at_use, attention and profiles take one core, as the committed numbers do. In a tree without git, COMMIT names the commit.
#
# REHEARSAL=1 takes a small update, two rounds, a training of five seconds and 2,000 lines: that it runs through, and no speeds.
# The parts about packed weights have models of 110 million weights then too.
set -euo pipefail
out=$(realpath "${1:?a folder for the results}")
shift
cd "$(dirname "$0")/.."
mkdir -p "$out"
export PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
export GLIBC_TUNABLES=glibc.malloc.hugetlb=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184
rounds=7 steps=4 sizes=(4x256x8 12x768x4) seconds=600 run=${RUN:-$out/translation} lines=${SENTENCES:-$out/lines.en} copies=1000
if [ "${REHEARSAL:-0}" = 1 ]; then rounds=2 steps=1 sizes=(1x64x2) seconds=5 copies=10; fi

if [ -n "${RUN:-}" ] && [ -z "${SENTENCES:-}" ]; then
    echo "RUN is given without SENTENCES: name a file with the sentences that it translates" >&2
    exit 2
fi

translation() {
    [ -n "${RUN:-}" ] && return
    python -m tlc_jax.train --config translate_small --workdir "$run" --data.cache-dir "$out/cache" \
        --budget.training-seconds "$seconds" --schedule.noam-steps 200
    python - "$lines" <<'PYTHON'
import pathlib, sys
from tlc_jax.data.pairs.catalogues import catalogue_files, read_catalogues
messages = dict(read_catalogues(catalogue_files("en", "fr"), "fr"))
sentences = [text for text in messages if 5 <= len(text.split()) <= 25]
chosen = sentences[:: len(sentences) // 200][:200]
pathlib.Path(sys.argv[1]).write_text("\n".join(chosen) + "\n", encoding="utf-8")
PYTHON
}

long_input() {
    long=${LONG:-$out/long.txt}
    [ -n "${LONG:-}" ] || for _ in $(seq "$copies"); do cat "$lines"; done >"$long"
    env -u GLIBC_TUNABLES -u MALLOC_MMAP_MAX_ -u MALLOC_TRIM_THRESHOLD_ python benchmarks/long_input.py "$run" "$long" --output "$out/long_input"
}

one_core() { # where the system can pin a process
    if command -v taskset >/dev/null; then
        taskset -c "$(python -c 'import os; print(min(os.sched_getaffinity(0)))')" "$@"
    else
        "$@"
    fi
}

profiles() { # on one core an operation is done when it says so
    one_core python benchmarks/operations.py --output "$out/update_operations" update --size "${sizes[-1]}"
    one_core python benchmarks/operations.py --output "$out/beam_operations" beam --checkpoint "$run" --lines "$lines"
}

[ $# -gt 0 ] || set -- train_step translation translate packed_speed packed_logits memory_at_use table \
    profiles compiler_options attention long_input packed_on_tpu start
for part in "$@"; do
    case $part in
    train_step)
        python benchmarks/train_step.py --output "$out/train_step.json" --sizes "${sizes[@]}" --rounds "$rounds" \
            --steps "$steps"
        ;;
    translation) translation ;;
    translate)
        rm -rf "$out/engines" # of another run, or half written
        python benchmarks/translate.py --checkpoint "$run" --lines "$lines" --work "$out/engines" \
            --output "$out/translate.json" --rounds "$rounds" ${BEFORE:+--before $BEFORE}
        ;;
    packed_speed) python benchmarks/packed_speed.py --output "$out/packed_speed.json" --rounds "$rounds" ;;
    packed_logits) python benchmarks/packed_logits.py --output "$out/packed_logits.json" ;;
    memory_at_use) one_core python benchmarks/memory_at_use.py --output "$out/memory_at_use" ;;
    table) python benchmarks/speed_table.py "$out" ;;
    profiles) profiles ;;
    compiler_options)
        python benchmarks/compiler_options.py --output "$out/compiler_options" --size "${sizes[-1]}" --rounds "$rounds" \
            --steps 2 ${JAX:+--jax "$JAX"}
        ;;
    attention) one_core python benchmarks/attention.py --output "$out/attention.json" ;;
    long_input) long_input ;;
    packed_on_tpu) python benchmarks/packed_on_tpu.py --output "$out/packed_on_tpu" ;;
    start)
        python benchmarks/start.py --output "$out/start.json" --times "$rounds" -- --config pretrain_small --data.name docs
        ;;
    *) echo "there is no part $part: see the first lines of this file" >&2 && exit 2 ;;
    esac
done
