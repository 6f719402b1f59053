"""What a person should know of a run: before its first step, and at its end."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax

from tlc_jax.config import Config
from tlc_jax.config.marks import BEST
from tlc_jax.config.saved import flat
from tlc_jax.core import tree
from tlc_jax.core.errors import UserError
from tlc_jax.core.invocation import command
from tlc_jax.core.printable import first_of
from tlc_jax.core.progress import duration
from tlc_jax.data.tokenizer import given_tokenizer
from tlc_jax.parallel import hosts
from tlc_jax.storage.run_directory import RunDir
from tlc_jax.tasks.base import Task
from tlc_jax.tasks.kinds import kind_of
from tlc_jax.training.state import abstract_params
from tlc_jax.training.view import budget_text

_BASELINES = {
    "two_sided_bigram": "two-sided bigram",
    "target_bigram": "target bigram",
    "majority": "majority class",
    "linear": "bag of words",
}
"""What the models that know only counts are called, by the beginning of their keys in metrics.jsonl."""


@dataclass(frozen=True)
class Document:
    """A config document: its name on the command line, and its config, before options change it."""

    name: str
    config: Config

    def facts(self, config: Config) -> dict[str, str]:
        """Its name, and the options in which `config` differs from it."""
        original = flat(self.config)
        changed = [
            f"{name} {value} (was {original.get(name)})"
            for name, value in flat(config).items()
            if value != original.get(name)
        ]
        return {"config": self.name, **({"changed": first_of(changed)} if changed else {})}


def facts(
    config: Config, rundir: RunDir, task: Task | None, more: Mapping[str, str], *, pretrained: bool = False
) -> dict[str, str]:
    """Facts by name, for the first screen, of which `more` come first. `task` is None before the data are
    prepared; `pretrained` says whether the run begins with the model and the tokenizer of another."""
    return {
        **more,
        "model": f"{_size(config, task)}, on {_devices()}",
        **(_data_facts(config, rundir, pretrained) if task is None else _task_facts(task)),
        **_teacher_facts(config),
        "budget": budget_text(config, None if task is None else task.epochs),
        **({"note": "; ".join(notes)} if (notes := _notes(config, task)) else {}),
        "writes to": f"{rundir.root} (every option: config.json there, or --dry-run)",
        "to resume": f"{command('train')} --workdir {shlex.quote(str(rundir.root))}",
    }


def _devices() -> str:
    devices, processes = jax.devices(), hosts.count()
    kind, backend = devices[0].device_kind, jax.default_backend()
    shown = kind if kind == backend else f"{kind} ({backend})"
    return f"{len(devices)} x {shown}" + (f" of {processes} processes" if processes > 1 else "")


def _size(config: Config, task: Task | None) -> str:
    """Depth, width and number of parameters."""
    model, kind = config.model, kind_of(config)
    try:
        names = kind.label_names(config, None) if task is None else task.label_names
        count = f"{tree.count(abstract_params(kind.objective(config, len(names)))):,} parameters"
    except UserError:  # the number of classes follows from the data, which do not exist
        count = "parameters known with the data"
    layers = f"{model.num_layers} layer{'s' if model.num_layers > 1 else ''}"
    return f"{layers} of width {model.hidden_size}, {count}"


def _teacher_facts(config: Config) -> dict[str, str]:
    distil = config.distil
    if distil.teacher is None:
        return {}
    hidden = f", hidden states with weight {distil.hidden_weight:g}" if distil.hidden_weight else ""
    return {
        "teacher": f"{distil.teacher}, with weight {distil.weight:g} in the loss, at temperature "
        f"{distil.temperature:g}{hidden}"
    }


def _data_facts(config: Config, rundir: RunDir, pretrained: bool) -> dict[str, str]:
    """Whether the data exist that a run would begin with."""
    if rundir.data.exists():
        return {"data": f"prepared in {rundir.data}"}
    try:
        tokenizer, kind = config.data.tokenizer, kind_of(config)
        if tokenizer is not None:
            size, layout, new = config.model.vocab_size, kind.tokenizer_layout, not pretrained
            lossless = new and kind.trains_tokenizer
            given_tokenizer(tokenizer, size, layout, lossless=lossless, exact=new)
        return {"data": f"there: {kind.source(config).description}"}
    except UserError as error:
        return {"data": f"NOT THERE: {error}"}


def _task_facts(task: Task) -> dict[str, str]:
    """The data, and what models that know only counts reach with them."""
    name = task.evaluation_sets()[0]
    known = "; ".join(f"{name} {metric}: {values}" for metric, values in _baselines(task).items())
    return {**task.facts(), **({"to beat": known} if known else {})}


def _notes(config: Config, task: Task | None) -> list[str]:
    """What a person may not expect of the data and of the schedule."""
    notes = list(task.notes()) if task else []
    follows, limits = config.schedule.follows, dict(_limits(config))
    others = [name for name in limits if name != follows]
    if others and config.schedule.cooldown != 0 and config.schedule.noam_steps is None:
        notes.append(
            f"the learning rate falls to 0 over {limits[follows]}; if {limits[others[0]]} come first, the "
            f"run ends before that, at a higher rate (--schedule.follows {others[0]} lets it fall over them)"
        )
    return notes


def _limits(config: Config) -> Iterator[tuple[str, str]]:
    """The limits of the budget, by the measures that a schedule may follow."""
    for name, limit in vars(config.budget).items():
        if limit is not None:
            words = {"steps": "updates", "tokens": "tokens"}
            yield name, f"{limit:,} {words[name]}" if name in words else f"{duration(limit)} of training"


def _baselines(task: Task) -> dict[str, str]:
    """What baselines reach on the set that decisions are made on, as `majority class 0.5, bag of words 0.8`,
    by metric, the primary one first."""
    name, primary = task.evaluation_sets()[0], task.primary_metric.name
    values: dict[str, list[str]] = {}
    for key, value in task.baselines().items():
        split, _, model_and_metric = key.partition("/")
        for model, words in _BASELINES.items():
            if split == name and model_and_metric.startswith(f"{model}_"):
                metric = model_and_metric.removeprefix(f"{model}_")
                values.setdefault(metric, []).append(f"{words} {value:.4g}")
    return {metric: ", ".join(values[metric]) for metric in sorted(values, key=lambda x: (x != primary, x))}


def result(task: Task, evaluation: Mapping[str, Any]) -> str:
    """A line of metrics on the set that decisions are made on, the primary metric first, each with its
    baselines."""
    name, known, primary = task.evaluation_sets()[0], _baselines(task), task.primary_metric.name
    start = f"eval/{name}/"
    metrics = {key.removeprefix(start): x for key, x in evaluation.items() if key.startswith(start)}
    texts = [
        f"{metric} {metrics[metric]:.4g}" + (f" ({known[metric]})" if metric in known else "")
        for metric in sorted(metrics.keys() - {"loss"}, key=lambda metric: (metric != primary, metric))
    ]
    return f"{name}: {', '.join(texts)}"


def next_commands(config: Config, run: str) -> list[str]:
    """What may be done next with a finished run, or with the best evaluation that it keeps, to be pasted."""
    reference = f"{run}@{BEST}" if config.checkpoint.best else run
    return [
        f"{command(name)} {shlex.join(reference if x == '{run}' else x.format(run=run) for x in options)}"
        for name, *options in kind_of(config).next_commands
    ]
