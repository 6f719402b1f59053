"""The card of a model that a run or an artifact holds (artifacts/model_card.py)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import tlc_jax
from tlc_jax.artifacts.model_card import ModelCard
from tlc_jax.artifacts.model_record import ModelRecord
from tlc_jax.core.printable import first_of
from tlc_jax.core.tree import count
from tlc_jax.models.families import family_of
from tlc_jax.runs.load import TrainedModel
from tlc_jax.tasks.kinds import kind_of

MADE_BY = f"tlc_jax {tlc_jax.__version__}"
TASKS = {
    "fill-mask": "masked language model",
    "text-classification": "text classification",
    "translation": "translation",
}
"""In words, by Hugging Face's names."""


def card_of(
    model: TrainedModel,
    record: ModelRecord,
    use: str,
    *,
    library: str | None,
    manifest: Mapping[str, Any] | None = None,
    weights_bytes: int | None = None,
) -> ModelCard:
    """The card of a model with its record; `manifest` is that of the artifact that it is or was, which is
    beside the card unless `weights_bytes` is the size of another file."""
    kind, shape = kind_of(model.config), model.config.model
    family, task = family_of(shape).name, TASKS.get(kind.hub_task or "", kind.name)
    languages = kind.languages(model.config)
    size = f"{shape.num_layers}x{shape.hidden_size}"
    facts = {
        "task": task + (f", {' to '.join(languages)}" if languages else ""),
        "family": family,
        "layers": f"{shape.num_layers} of width {shape.hidden_size}, {shape.heads} attention heads",
        "parameters": f"{count(model.params):,}",
        "vocabulary": f"{shape.vocab_size:,}",
        "longest input": f"{model.config.data.sequence_length:,} tokens",
        **({"labels": first_of(model.label_names, 20)} if model.label_names else {}),
    }
    return ModelCard(
        name=f"{family}-{size}-{kind.name}",
        title=f"{task[:1].upper()}{task[1:]}, {family} of {size}, {count(model.params):,} parameters",
        library=library,
        made_by=MADE_BY,
        facts=facts,
        use=use,
        hub_task=kind.hub_task,
        languages=languages,
        record=record,
        manifest=manifest,
        weights_bytes=weights_bytes,
    )


def use_of_artifact(model: TrainedModel) -> str:
    """How an artifact is used with this program."""
    kind = kind_of(model.config)
    pairs = model.texts_per_example == 2
    example = '[("one text", "another text")]' if pairs else '["one text", "another text"]'
    code = ["import tlc_jax", "", 'model = tlc_jax.load(".")', kind.python_use.replace("TEXTS", example)]
    return with_this_program(["inspect .", *kind.uses], code)


def with_this_program(commands: Sequence[str], code: Sequence[str]) -> str:
    """Commands and code that use the folder in which they are started."""
    lines = [f"python -m tlc_jax.{command}" for command in commands]
    files = [name for name in ("DATA", "LINES", "TEXTS") if any(name in line for line in (*lines, *code))]
    yours = f" ({' and '.join(files)}: yours)" if files else ""
    start = f"With tlc_jax, in this folder{yours}:"
    return "\n".join([start, "", "```sh", *lines, "```", "", "```python", *code, "```"])


def card_of_folder(manifest: Mapping[str, Any]) -> ModelCard:
    """The card of an artifact that was made of a folder of files: nothing is known of its model."""
    weights = manifest["size"]["weights"]
    return ModelCard(
        name=f"compressed-{weights}",
        title=f"{weights:,} compressed weights",
        library="tlc-jax",
        made_by=MADE_BY,
        facts={"tensors": f"{len(manifest['tensors']):,}", "weights": f"{weights:,}"},
        use=_use_of_folder(),
        manifest=manifest,
    )


def _use_of_folder() -> str:
    code = [
        "from pathlib import Path",
        "",
        "from tlc_jax.artifacts.artifact import read_artifact",
        "from tlc_jax.core.leaf import to_dense",
        "",
        'for name, array in to_dense(read_artifact(Path(".")).tensors).items():',
        "    print(name, array.dtype, array.shape)",
    ]
    commands = ["inspect .", "export . --format huggingface --out ../exported"]
    return with_this_program(commands, code)
