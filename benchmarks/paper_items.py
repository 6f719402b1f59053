"""Every item of the studies of the paper, compiled by the real compiler for a TPU v3-8 where none is.

    python benchmarks/paper_items.py --output docs/results/paper_items [--only study_sharing ...]

The items of all documents with a scale `paper` that train something: each size and variant, each finetuning
and the rounds of pruning with recovery after it, each student with its teacher. Items whose updates are one
program are compiled once. Nothing is run. Written are OUTPUT.json, program by program (what it has is not
repeated), and OUTPUT.md. Needs the extra `tpu`; no TPU.

Cost: 1 to 4 minutes a program on 2 CPU cores.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import tempfile
import textwrap
from pathlib import Path
from typing import Any

from about import about

from tlc_jax.config import Config
from tlc_jax.config.distillations import parse_distillation
from tlc_jax.config.study_options import StudyConfig
from tlc_jax.core.compiled import look_for_no_tpu
from tlc_jax.core.config_document import config_names, load_config, scaled_names
from tlc_jax.storage.run_directory import RunDir, write_json

TOPOLOGY = "v3:2x2"
CLASSES = {"glue/sst2": 2, "glue/mnli": 3}
TEACHERS = dict[str, Config]()
"""Of students, by what names them."""
PRUNED = " pruned"
_FREE = {"seed": 0, "data_share": 1.0, "log_every": 1}  # what an update does not depend on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=[])
    args = parser.parse_args()
    path = args.output.with_suffix(".json")
    made: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {**about(), "programs": {}}
    wanted = programs()
    made["programs"] = {key: program for key, program in made["programs"].items() if key in wanted}
    for key, (config, names) in wanted.items():
        program = made["programs"].get(key)
        if program is None and (not args.only or any(name.startswith(tuple(args.only)) for name in names)):
            program = made["programs"][key] = compiled(config, key.endswith(PRUNED))
        if program is not None:
            program["items"] = names
            path.write_text(json.dumps(made, indent=1) + "\n")
    left = [names for key, (_, names) in wanted.items() if key not in made["programs"]]
    args.output.with_suffix(".md").write_text(document(made, left))


def programs() -> dict[str, tuple[Config, list[str]]]:
    """By a digest of what an update depends on: a config, and the names of the items that have it."""
    by_key: dict[str, tuple[Config, list[str]]] = {}
    for name, config in items():
        key = _key(config) + (PRUNED if name.endswith(PRUNED) else "")
        _, names = by_key.setdefault(key, (config, []))
        names.append(name)
    return by_key


def items() -> list[tuple[str, Config]]:
    """The trainings of the studies of the paper, each by its study and what it is."""
    named = []
    for document in config_names():
        for scaled in scaled_names(document):
            if not scaled.endswith(":paper"):
                continue
            study = load_config(scaled, StudyConfig)
            for size in study.sizes:
                for variant in study.variants:
                    trained = study.train_of(size, variant)
                    named.append((f"{document} {size} {variant}".strip(), trained))
                    for combination, seeds in study.finetunings().items():
                        finetuned = dataclasses.replace(next(iter(seeds.values())), model=trained.model)
                        named.append((f"{document} {size} {combination}", finetuned))
                        if study.recovery is not None:
                            named.append((f"{document} {size} {combination}{PRUNED}", finetuned))
            for text in study.distillations:
                each = parse_distillation(text)
                student, teacher = study.student_of(each), study.train_of(each.teacher)
                distil = dataclasses.replace(student.distil, teacher=each.teacher)
                TEACHERS[each.teacher] = teacher
                named.append((f"{document} {text}", dataclasses.replace(student, distil=distil)))
    return named


def _key(config: Config) -> str:
    """Rates of learning and of dropout are numbers in a program, and seeds are no part of it."""
    fields = dataclasses.asdict(dataclasses.replace(config, **_FREE))
    for part in ("optimizer", "schedule", "budget", "evaluation", "checkpoint", "tensorboard"):
        del fields[part]
    del fields["data"]["seed"]
    fields["task"].pop("dropout", None)
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:12]


def compiled(config: Config, pruned: bool) -> dict[str, Any]:
    """What the compiler says of an update of this config, of recovery if it was `pruned`."""
    from tlc_jax.runs.ahead_of_time import compile_for, topology_devices

    classes = CLASSES.get(getattr(config.data, "name", ""))
    with tempfile.TemporaryDirectory() as folder:
        if config.distil.teacher is not None:  # a run without weights: only their shapes count
            write_json(RunDir(Path(folder)).config, dataclasses.asdict(TEACHERS[config.distil.teacher]))
            distil = dataclasses.replace(config.distil, teacher=folder)
            config = dataclasses.replace(config, distil=distil)
        result = compile_for(config, topology_devices(TOPOLOGY), print, classes, pruned=pruned)
    del result["parameters"]
    print(json.dumps({name: result.get(name) for name in ("fits", "peak_gib", "compile_seconds")}))
    return {**result, "batch": config.batch_size}


def document(made: dict[str, Any], left: list[list[str]]) -> str:
    """The table for people, with the names of the items of programs that were not compiled."""
    programs, items = made["programs"].values(), sum(len(each["items"]) for each in made["programs"].values())
    fit = sum(each["fits"] for each in programs)
    text = (
        f"Commit {made['commit']}, {made['date']}, on {made['machine']}: libtpu compiled updates of the "
        f"studies of the paper for `{TOPOLOGY}` (a v3-8: 4 chips, 8 devices of 16 GiB); nothing "
        f"was run. {items} items are {len(programs)} programs, of which {fit} fit as their documents have "
        "them. Rates, seeds, levels of pruning and shares of the data do not change a program. The "
        "micro-batch counts rows (translation: tokens) over all devices; peak memory is that of one device. "
        "The mesh is data x fsdp x tensor: a state that is split by fsdp takes less of each device."
    )
    if left:
        text += f" Not compiled yet are {len(left)} programs, such as that of {left[0][0]}."
    rows = []
    for each in programs:
        names = each["items"]
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        peak = f"{each['peak_gib']:.2f}" if "peak_gib" in each else each["compiler"]
        cells = [", ".join(names[:3]) + more, f"{each['batch']:,}", f"{each['micro_batch']:,}", peak]
        mesh = " x ".join(map(str, each["mesh"].values()))
        cells += ["yes" if each["fits"] else "no", mesh, f"{each['flops_per_device'] / 1e12:,.2f}"]
        rows.append(f"| {' | '.join(cells)} |")
    head = ["items", "batch", "micro-batch", "peak GiB", "fits", "mesh", "TFLOPs a device and update"]
    lines = [
        "# Updates of the paper's studies, compiled for a TPU v3-8",
        "",
        f"    {made['command']}",
        "",
        textwrap.fill(text, 120),
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *rows,
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    look_for_no_tpu()
    os.environ.setdefault("LIBTPU_INIT_ARGS", "--fibers_default_thread_stack_size=1048576")
    main()
